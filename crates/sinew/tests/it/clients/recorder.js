// The application behind the cases of smuggling.py: takes HTTP/1.1 apart by a strict reading of its own (or HTTP/2 by Node's), and
// keeps what it got, to be told at `/TAG/dump`. What its proxy sends is the proxy's own, so anything that is out of order here is a fault.
// A target that holds `answer.NAME` gets the raw bytes of that name below; `early` is answered before its body came.
const records = [];
let connections = 0;
const WORD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

const POISON = 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned';
const ok = (fields, body = '') => `HTTP/1.1 200 OK\r\n${fields}\r\n${body}`;
const chunked = body => ok('Transfer-Encoding: chunked\r\n', body);
const lengths = (...values) => ok(values.map(value => `Content-Length: ${value}\r\n`).join(''), 'ok' + POISON);
const coded = (...values) => ok(values.map(value => `Transfer-Encoding: ${value}\r\n`).join(''), '2\r\nok\r\n0\r\n\r\n');
const ANSWERS = {
  // Heads whose framing can be misread.
  'two-lengths': lengths(2, 5), 'same-lengths': lengths(2, 2), 'length-list': lengths('2, 2'), 'length-plus': lengths('+2'),
  'length-hex': lengths('0x2'), 'length-negative': lengths('-2'), 'length-empty': lengths(''), 'length-under': lengths('1_0'),
  'length-huge': lengths('9223372036854775808'), 'length-space': lengths('1 2'), 'length-point': lengths('2.0'),
  'length-and-coding': ok('Content-Length: 2\r\nTransfer-Encoding: chunked\r\n', '2\r\nok\r\n0\r\n\r\n'),
  'coding-and-length': ok('Transfer-Encoding: chunked\r\nContent-Length: 2\r\n', '2\r\nok\r\n0\r\n\r\n'),
  'coding-x': coded('xchunked'), 'coding-gzip': coded('gzip, chunked'), 'coding-identity': coded('identity'),
  'coding-twice': coded('chunked', 'chunked'), 'coding-list': coded('chunked, chunked'), 'coding-other': coded('chunked', 'identity'),
  'coding-old': coded('chunked').replace('1.1', '1.0'), 'coding-tab': coded('\x0bchunked'), 'coding-quoted': coded('"chunked"'),
  // Heads that are none.
  'bare-lf': 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok', 'bare-cr': ok('X: a\rb\r\nContent-Length: 2\r\n', 'ok'),
  'nul': ok('X: a\0b\r\nContent-Length: 2\r\n', 'ok'), 'fold': ok('X: a\r\n b\r\nContent-Length: 2\r\n', 'ok'),
  'space-colon': ok('Content-Length : 2\r\n', 'ok'), 'no-colon': ok('Content-Length 2\r\n', 'ok'), 'no-name': ok(': 2\r\n', 'ok'),
  'status-two': 'HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok', 'status-four': 'HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok',
  'status-low': 'HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok', 'status-spaces': 'HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok',
  'version-two': 'HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok', 'version-lower': 'http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
  'not-http': 'ICY 200 OK\r\nContent-Length: 2\r\n\r\nok', 'reason-nul': 'HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok',
  'empty-line': '\r\n' + ok('Content-Length: 2\r\n', 'ok'), 'body-alone': 'poisoned, without a head\r\n\r\n',
  'interim-flood': 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(1000) + ok('Content-Length: 2\r\n', 'ok'),
  'switch': 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n' + POISON,
  'switch-h2c': 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n' + POISON,
  'switch-bare': 'HTTP/1.1 101 Switching Protocols\r\n\r\n' + POISON,
  // More than an answer: the rest is nobody's.
  'extra': ok('Content-Length: 2\r\n', 'ok' + POISON), 'extra-chunked': chunked('2\r\nok\r\n0\r\n\r\n' + POISON),
  'extra-line': ok('Content-Length: 2\r\n', 'ok\r\n'), 'no-content': 'HTTP/1.1 204 No Content\r\n\r\n' + POISON,
  'no-content-length': 'HTTP/1.1 204 No Content\r\nContent-Length: 52\r\n\r\n' + POISON,
  'not-modified': 'HTTP/1.1 304 Not Modified\r\nContent-Length: 52\r\n\r\n' + POISON, 'headed': ok('Content-Length: 52\r\n', POISON),
  'headed-chunked': chunked('34\r\n' + POISON + '\r\n0\r\n\r\n'), 'nothing': ok('Content-Length: 0\r\n', POISON),
  // Bodies that break.
  'chunk-hex': chunked('0x2\r\nok\r\n0\r\n\r\n'), 'chunk-space': chunked(' 2\r\nok\r\n0\r\n\r\n'), 'chunk-plus': chunked('+2\r\nok\r\n0\r\n\r\n'),
  'chunk-lf': chunked('2\nok\n0\n\n'), 'chunk-overflow': chunked('10000000000000002\r\nok\r\n0\r\n\r\n'), 'chunk-none': chunked('\r\nok\r\n0\r\n\r\n'),
  'chunk-long': chunked('2\r\nok!\r\n0\r\n\r\n'), 'chunk-skip': chunked('2\r\nokXX0\r\n\r\n'), 'chunk-ext-lf': chunked('2;a\nok\r\n0\r\n\r\n'),
  'chunk-ext-cr': chunked('2;a\rb\r\nok\r\n0\r\n\r\n'), 'chunk-trailer': chunked('2\r\nok\r\n0\r\nx y: z\r\n\r\n'),
  // What is in order.
  'zeros': ok('Content-Length: 0002\r\n', 'ok'), 'interim': 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(3) + ok('Content-Length: 2\r\n', 'ok'),
  'no-reason': 'HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok', 'obs-text': ok('X: \xe9\r\nContent-Length: 2\r\n', 'ok'),
  'trailers': chunked('2\r\nok\r\n0\r\nContent-Length: 52\r\nTransfer-Encoding: chunked\r\nX-Sum: 1\r\n\r\n'),
  'hop-by-hop': ok('Connection: x-mine, content-length\r\nX-Mine: 1\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n', 'ok'),
  'extension': chunked('2;a=b;c="d"\r\nok\r\n000\r\n\r\n'),
};

const named = target => (/answer\.([a-z0-9-]+)/.exec(target) || [])[1];
const ordinary = (method, target, length) => {
  const body = `${method} ${target} ${length}`;
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${method === 'HEAD' ? '' : body}`;
};
// What a target `/TAG/dump` asks for: the records of its run, and all faults; in ASCII alone.
const dump = target => JSON.stringify(records.filter(each => each.fault || each.target.startsWith(target.slice(0, -5))))
  .replace(/[\x7f-\uffff]/g, each => '\\u' + each.charCodeAt(0).toString(16).padStart(4, '0'));
const keep = record => {
  if (record.target.endsWith('/dump')) return record;
  records.push(/^\/[a-z]{2}\d{6}\//.test(record.target) ? record : { fault: `nobody asked for ${record.target}`, ...record });
  return record;
};

function reader(socket) {
  const connection = ++connections;
  let input = '', message = null;
  const fault = why => { throw new Error(`${why}: ${JSON.stringify(input.slice(0, 200))}`); };
  const line = () => {
    const end = input.indexOf('\n');
    if (end < 0) return null;
    if (input[end - 1] !== '\r') fault('a line without CR LF');
    const text = input.slice(0, end - 1);
    input = input.slice(end + 1);
    if (/[\r\0]/.test(text)) fault('a control byte in a line');
    return text;
  };
  const field = (text, into) => {
    const [, name, value] = /^([^:]*):[ \t]*(.*?)[ \t]*$/.exec(text) || fault(`no field: ${text}`);
    if (!WORD.test(name)) fault(`no name: ${text}`);
    into.push([name.toLowerCase(), value]);
  };
  const values = name => message.fields.filter(each => each[0] === name).map(each => each[1]);
  const respond = () => {
    if (message.is_answered) return;
    message.is_answered = true;
    const { method, target, body } = message;
    const raw = ANSWERS[named(target)];
    socket.write(target.endsWith('/dump') ? ok(`Content-Length: ${dump(target).length}\r\n`, dump(target))
      : raw || ordinary(method, target, body.length), 'latin1');
    if (/answer\.chunk-|answer\.body-alone/.test(target)) socket.end();
  };
  const head_came = () => {
    const [method, target, version] = message.start.split(' ');
    // Asked whether HTTP/2 is spoken here.
    if (message.start === 'PRI * HTTP/2.0') {
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      return 'over';
    }
    if (message.start.split(' ').length !== 3 || !WORD.test(method) || !/^[\x21-\x7e]+$/.test(target) || version !== 'HTTP/1.1')
      fault(`no request line: ${message.start}`);
    if (values('host').length !== 1) fault('not one host');
    const length = values('content-length'), coding = values('transfer-encoding');
    if (length.length + coding.length > 1) fault('framed twice');
    if (length.some(value => !/^\d{1,19}$/.test(value)) || coding.some(value => value !== 'chunked')) fault('framed out of order');
    Object.assign(message, { method, target, left: Number(length[0] || 0), is_chunked: coding.length > 0 });
    const { fields, trailers } = message;
    message.record = keep({ connection, method, target, fields, body: '', trailers, whole: false, ended: false });
    if (values('expect').length && !/refuse|silent/.test(target)) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
    if (/early|refuse/.test(target)) respond();
    if (target.includes('tunnel') && values('upgrade').length) {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ' + values('upgrade')[0] + '\r\n\r\n');
      return 'tunnel';
    }
    return message.is_chunked ? 'size' : 'data';
  };
  const step = () => {
    let text;
    switch (message ? message.state : 'begin') {
      case 'begin':
        if (!input || (text = line()) === null) return false;
        message = { start: text, fields: [], trailers: [], body: '', state: 'fields' };
        return true;
      case 'fields':
        if ((text = line()) === null) return false;
        if (text) field(text, message.fields); else message.state = head_came();
        return true;
      case 'size':
        if ((text = line()) === null) return false;
        if (!/^[0-9a-f]{1,8}$/.test(text)) fault(`no size of a chunk: ${text}`);
        message.left = parseInt(text, 16);
        message.state = message.left ? 'data' : 'trailers';
        return true;
      case 'data': {
        const piece = input.slice(0, message.left);
        input = input.slice(piece.length);
        message.left -= piece.length;
        message.body += piece;
        message.record.body = message.body;
        if (message.left) return false;
        message.state = message.is_chunked ? 'data_end' : 'whole';
        return true;
      }
      case 'data_end':
        if ((text = line()) === null) return false;
        if (text) fault('a chunk that is longer than it says');
        message.state = 'size';
        return true;
      case 'trailers':
        if ((text = line()) === null) return false;
        if (text) field(text, message.trailers); else message.state = 'whole';
        return true;
      case 'over':
        input = '';
        return false;
      case 'tunnel':
        message.record.tunnel = (message.record.tunnel || '') + input;
        socket.write(input);
        input = '';
        return false;
      case 'whole':
        message.record.whole = message.record.ended = true;
        respond();
        message = null;
        return true;
    }
  };
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.on('close', () => { if (message && message.record) message.record.ended = true; });
  socket.on('data', data => {
    input += data.toString('latin1');
    try { while (step()); } catch (error) {
      records.push({ fault: String(error.message), target: message && message.target });
      socket.destroy();
    }
  });
}

function stream(stream, headers) {
  const method = headers[':method'], target = headers[':path'];
  const fields = Object.entries(headers);
  const record = keep({ method, target, fields, body: '', trailers: [], whole: false, ended: false });
  const respond = () => {
    const text = target.endsWith('/dump') ? dump(target) : `${method} ${target} ${record.body.length}`;
    stream.respond({ ':status': 200, 'content-length': Buffer.byteLength(text) });
    stream.end(method === 'HEAD' ? '' : text);
  };
  stream.on('error', () => {});
  stream.on('trailers', trailers => record.trailers.push(...Object.entries(trailers)));
  stream.on('data', data => record.body += data.toString('latin1'));
  stream.on('aborted', () => record.ended = true);
  stream.on('close', () => record.ended = true);
  stream.on('end', () => {
    if (stream.aborted) return;
    record.whole = record.ended = true;
    if (!stream.headersSent && !stream.destroyed) respond();
  });
  if (/early|refuse/.test(target)) respond();
}

if (process.argv[2] === '2') {
  const server = require('http2').createServer({ maxSessionMemory: 1000 });
  server.on('stream', stream).listen(8000, '0.0.0.0');
} else {
  require('net').createServer(reader).listen(8000, '0.0.0.0');
}
process.on('SIGTERM', () => process.exit(0));
