// What interop.py asks, as Node.js does it: by grpc-js, and by HTTP/2 alone for what no client says by itself.
// interop.js TARGET: says each case that fails, and "N cases, M failed" at the end.
const assert = require('assert');
const grpc = require('@grpc/grpc-js');
const http2 = require('http2');
const target = process.argv[2];
const channel = new grpc.Client(target, grpc.credentials.createInsecure(), {
  'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1, 'grpc.enable_retries': 0, 'grpc.max_metadata_size': 1 << 20 });
const same = bytes => bytes;
const path = name => name.startsWith('/') ? name : '/interop.Test/' + name;
const message = (wanted, payload = Buffer.alloc(0)) => Buffer.concat([Buffer.from(JSON.stringify(wanted) + '\n'), payload]);
const metadata = (...pairs) => {
  const all = new grpc.Metadata();
  pairs.forEach(([name, value]) => all.add(name, value));
  return all;
};
const soon = () => ({ deadline: Date.now() + 30000 });

// {code, details, messages, initial, trailing} of a call of any kind.
const call = (name, requests, given = metadata(), options = soon(), each = () => {}) => new Promise(done => {
  const stream = channel.makeBidiStreamRequest(path(name), same, same, given, options);
  const got = { messages: [] };
  stream.on('metadata', initial => got.initial = initial).on('error', () => {});
  stream.on('data', data => { got.messages.push(data); each(stream, got.messages.length); });
  stream.on('status', ({ code, details, metadata: trailing }) => done({ ...got, code, details, trailing }));
  requests.forEach(request => stream.write(request));
  if (each.length === 0) stream.end();
});
// {status, headers, trailers, data} of a request as it is given.
const raw = (name, fields, body = Buffer.alloc(5)) => new Promise((done, fail) => {
  const session = http2.connect(`http://${target}`);
  session.on('error', fail);
  const stream = session.request({ ':method': 'POST', ':path': path(name), 'content-type': 'application/grpc', te: 'trailers', ...fields });
  const got = { data: Buffer.alloc(0), headers: {}, trailers: {} };
  stream.on('response', headers => got.headers = headers).on('trailers', trailers => got.trailers = trailers);
  stream.on('data', data => got.data = Buffer.concat([got.data, data])).on('error', () => {});
  stream.on('close', () => { session.close(); done({ ...got, reset: stream.rstCode, code: Number(got.trailers['grpc-status'] ?? got.headers['grpc-status']) }); });
  stream.end(body);
});
const framed = (payload, flag = 0) => {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
};

const cases = {
  async empty_unary() { assert.equal((await call('Empty', [Buffer.alloc(0)])).messages[0].length, 0); },
  async large_unary() {
    const { code, messages } = await call('Unary', [message({ size: 314159 }, Buffer.alloc(271828))]);
    assert.deepEqual([code, messages.map(each => each.length)], [0, [314159]]);
  },
  async client_streaming() {
    const requests = [27182, 8, 1828, 45904].map(size => message({}, Buffer.alloc(size)));
    assert.equal((await call('ClientStream', requests)).messages.join(), '74922');
  },
  async server_streaming() {
    const { messages } = await call('ServerStream', [message({ sizes: [31415, 9, 2653, 58979] })]);
    assert.deepEqual(messages.map(each => each.length), [31415, 9, 2653, 58979]);
  },
  async ping_pong() {
    const sizes = [[27182, 31415], [8, 9], [1828, 2653], [45904, 58979]];
    const request = ([asked, size]) => message({ size }, Buffer.alloc(asked));
    const { code, messages } = await call('Duplex', [request(sizes[0])], metadata(), soon(), (stream, count) =>
      count < sizes.length ? stream.write(request(sizes[count])) : stream.end());
    assert.deepEqual([code, messages.map(each => each.length)], [0, sizes.map(each => each[1])]);
  },
  async empty_stream() {
    const { code, messages } = await call('Duplex', []);
    assert.deepEqual([code, messages], [0, []]);
  },
  async status_code_and_message() {
    for (const [name, code] of Object.entries(grpc.status).filter(([name, code]) => typeof code === 'number' && code)) {
      for (const before of [[], [message({ size: 1 })]]) {
        const got = await call('Duplex', [...before, message({ code: name, message: 'test status message' })]);
        assert.deepEqual([got.code, got.details, got.messages.length], [code, 'test status message', before.length]);
      }
    }
  },
  async special_status_message() {
    const text = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
    const { code, details } = await call('Unary', [message({ code: 'UNKNOWN', message: text })]);
    assert.deepEqual([code, details], [2, text]);
  },
  async unimplemented_method() { assert.equal((await call('Nothing', [])).code, grpc.status.UNIMPLEMENTED); },
  async unimplemented_service() { assert.equal((await call('/nothing.Nothing/Nothing', [])).code, grpc.status.UNIMPLEMENTED); },
  async custom_metadata() {
    const every = Buffer.from([...Array(256).keys()]);
    const given = metadata(['x-initial-text', 'test_initial_metadata_value'], ['x-trailing-bin', Buffer.from('ababab', 'hex')],
      ['x-initial-bin', every], ['x-trailing-text', 'a, b'], ['x-trailing-text', 'c']);
    const { code, initial, trailing } = await call('Duplex', [message({ size: 314159 }, Buffer.alloc(271828))], given);
    assert.deepEqual([code, initial.get('x-initial-text'), initial.get('x-initial-bin')], [0, ['test_initial_metadata_value'], [every]]);
    assert.deepEqual([trailing.get('x-trailing-bin'), trailing.get('x-trailing-text')], [[Buffer.from('ababab', 'hex')], ['a, b, c']]);
  },
  async metadata_over_the_limit() {
    const { code, details } = await call('Unary', [message({})], metadata(['x-large', 'y'.repeat(70000)]));
    assert.deepEqual([code, details], [grpc.status.RESOURCE_EXHAUSTED, 'head too large']);
  },
  async large_trailers() {
    const { code, trailing } = await call('Trailers', [message({ count: 60, bytes: 500 })]);
    assert.deepEqual([code, Object.keys(trailing.getMap()).filter(name => name.startsWith('x-trailing')).length], [0, 60]);
  },
  async errors_before_the_stream_is_read() {
    const { code, details } = await call('Early', Array(100).fill(message({}, Buffer.alloc(100000))));
    assert.deepEqual([code, details], [grpc.status.RESOURCE_EXHAUSTED, 'enough of it']);
  },
  async cancel_after_first_response() {
    const { code, messages } = await call('Duplex', [message({ size: 31415 })], metadata(), soon(), (stream, _) => stream.cancel());
    assert.deepEqual([code, messages.length], [grpc.status.CANCELLED, 1]);
  },
  async timeout_on_sleeping_server() {
    const { code } = await call('Sleep', [message({})], metadata(), { deadline: Date.now() + 300 });
    assert.equal(code, grpc.status.DEADLINE_EXCEEDED);
  },
  async concurrent_large_unary() {
    const all = await Promise.all(Array(50).fill().map(() => call('Unary', [message({ size: 314159 }, Buffer.alloc(271828))])));
    assert(all.every(({ code, messages }) => code === 0 && messages[0].length === 314159));
  },
};
for (const [name, algorithm] of [['deflate', 1], ['gzip', 2]]) {
  cases[`compressed ${name}`] = async () => {
    const compressing = new grpc.Client(target, grpc.credentials.createInsecure(), { 'grpc.default_compression_algorithm': algorithm });
    const payload = Buffer.alloc(300000, 'well compressed ');
    const compression = name[0].toUpperCase() + name.slice(1);
    const answer = await new Promise((done, fail) => compressing.makeUnaryRequest(path('Unary'), same, same,
      message({ echo: true, compression }, payload), (error, got) => error ? fail(error) : done(got)));
    assert(answer.equals(payload));
  };
}
// Each unit of time: [value, seconds].
for (const [value, seconds] of [['2H', 7200], ['3M', 180], ['50S', 50], ['99999S', 99999], ['20000m', 20], ['30000000u', 30], ['99999999u', 100],
  ['00000030S', 30], ['1000H', 3600000]]) {
  cases[`grpc-timeout ${value}`] = async () => {
    const { code, data } = await raw('Remaining', { 'grpc-timeout': value });
    const left = JSON.parse(data.subarray(5).toString());
    assert(code === 0 && left > seconds - 15 && left <= seconds * 1.01 + 1, `${code} ${left}`);
  };
}
for (const value of ['1n', '99999999n', '1u', '100000u', '200m', '0S', '0n']) {
  cases[`grpc-timeout ${value}, which is soon over`] = async () => {
    // The service itself resets what it gives up.
    const { code, reset } = await raw('Sleep', { 'grpc-timeout': value });
    assert(code === grpc.status.DEADLINE_EXCEEDED || reset === http2.constants.NGHTTP2_CANCEL, `${code} ${reset}`);
  };
}
for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc+json', 'application/grpc;x=y']) {
  cases[`content-type ${type}`] = async () => {
    const { code } = await raw('Unary', { 'content-type': type }, framed(message({ size: 1 })));
    assert.equal(code, 0);
  };
}
Object.assign(cases, {
  async 'a message that is compressed and says so'() {
    const payload = Buffer.alloc(30000, 'x');
    const body = framed(require('zlib').gzipSync(message({ echo: true }, payload)), 1);
    const { code, data } = await raw('Unary', { 'grpc-encoding': 'gzip', 'grpc-accept-encoding': 'identity' }, body);
    assert.deepEqual([code, data[0], data.subarray(5).equals(payload)], [0, 0, true]);
  },
  async 'a message that is compressed and does not say how'() {
    const { code } = await raw('Unary', {}, framed(message({ size: 1 }), 1));
    assert.equal(code, grpc.status.INTERNAL);
  },
  async 'too many fields are told as gRPC'() {
    const { code, headers } = await raw('Unary', Object.fromEntries([...Array(150).keys()].map(n => [`x-${n}`, 'y'])));
    assert.deepEqual([headers[':status'], headers['content-type'], code], [200, 'application/grpc', grpc.status.RESOURCE_EXHAUSTED]);
  },
});

(async () => {
  let failed = 0;
  for (const [name, run] of Object.entries(cases)) {
    await run().catch(error => { failed += 1; console.log(`${name}: ${error.stack}`); });
  }
  console.log(`${Object.keys(cases).length} cases, ${failed} failed`);
  process.exit(failed ? 1 : 0);
})();
