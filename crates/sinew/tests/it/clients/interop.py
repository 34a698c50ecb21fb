"""What clients of gRPC in all languages are held to among each other, case by case, as Python's grpcio does it.

interop.py TARGET: says each case that fails, and "N cases, M failed" at the end. The service is interop_server.py.
"""
import grpc, json, queue, sys, threading
from concurrent.futures import ThreadPoolExecutor

TARGET = sys.argv[1]
CODE = grpc.StatusCode
OPTIONS = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1), ('grpc.enable_retries', 0),
           ('grpc.max_metadata_size', 1 << 20), ('grpc.absolute_max_metadata_size', 1 << 20)]
PATIENCE = 30
CASES = []

def case(run):
    CASES.append(run)

class Calls:
    """The service, over a channel of its own."""
    def __init__(self, *options):
        self.channel = grpc.insecure_channel(TARGET, options=[*OPTIONS, ('grpc.use_local_subchannel_pool', 1), *options])

    def _call(self, kind, method, request, options):
        options.setdefault('timeout', PATIENCE)
        path = method if method.startswith('/') else '/interop.Test/' + method
        return getattr(self.channel, kind)(path)(request, **options)

    def unary(self, method, request=b'', **options):
        call = self.channel.unary_unary(method if method.startswith('/') else '/interop.Test/' + method)
        options.setdefault('timeout', PATIENCE)
        return call.with_call(request, **options)

    def client_stream(self, method, requests, **options):
        return self._call('stream_unary', method, requests, options)

    def server_stream(self, method, request, **options):
        return self._call('unary_stream', method, request, options)

    def duplex(self, method, requests, **options):
        return self._call('stream_stream', method, requests, options)

CALLS = Calls()

def message(payload=b'', **wanted):
    return json.dumps(wanted).encode() + b'\n' + payload

def failed(call):
    """(code, details) of a call that must fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError('no error')

def is_(got, due):
    assert got == due, f'{str(got)[:300]} where {str(due)[:300]} is due'

class Requests:
    """An iterator that is fed."""
    def __init__(self):
        self.queue = queue.Queue()

    def __iter__(self):
        return self

    def __next__(self):
        request = self.queue.get()
        if request is None:
            raise StopIteration
        return request

    def say(self, request):
        self.queue.put(request)

    def end(self):
        self.queue.put(None)

# ---- messages --------------------------------------------------------------------------------------------------------------
@case
def empty_unary():
    is_(CALLS.unary('Empty')[0], b'')

@case
def large_unary():
    is_(CALLS.unary('Unary', message(bytes(271828), size=314159))[0], bytes(314159))

@case
def very_large_unary():
    payload = bytes(range(256)) * (8 * 4096)
    assert CALLS.unary('Unary', message(payload, echo=True))[0] == payload

@case
def client_streaming():
    is_(CALLS.client_stream('ClientStream', (message(bytes(size)) for size in (27182, 8, 1828, 45904))), b'74922')

@case
def server_streaming():
    is_([len(each) for each in CALLS.server_stream('ServerStream', message(sizes=[31415, 9, 2653, 58979]))], [31415, 9, 2653, 58979])

@case
def ping_pong():
    requests = Requests()
    call = CALLS.duplex('Duplex', requests)
    for asked, answered in [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)]:
        requests.say(message(bytes(asked), size=answered))
        is_(len(next(call)), answered)
    requests.end()
    is_(list(call), [])
    is_(call.code(), CODE.OK)

@case
def empty_stream():
    is_(list(CALLS.duplex('Duplex', iter(()))), [])
    is_(CALLS.client_stream('ClientStream', iter(())), b'0')
    is_(list(CALLS.server_stream('ServerStream', message(sizes=[]))), [])

@case
def many_small_messages():
    is_(list(CALLS.duplex('Duplex', (message(str(n).encode(), echo=True) for n in range(3000)))), [str(n).encode() for n in range(3000)])

@case
def large_messages_both_ways_at_once():
    is_([len(each) for each in CALLS.duplex('Duplex', (message(bytes(1 << 20), size=1 << 20) for _ in range(8)))], [1 << 20] * 8)

@case
def concurrent_large_unary():
    with ThreadPoolExecutor(64) as threads:
        got = threads.map(lambda _: len(CALLS.unary('Unary', message(bytes(271828), size=314159))[0]), range(64))
        is_(list(got), [314159] * 64)

# ---- encodings -------------------------------------------------------------------------------------------------------------
def compressed(asked, answered):
    def run():
        more = {'compression': answered} if answered else {}
        payload = b'well compressed ' * 20000
        is_(CALLS.unary('Unary', message(payload, echo=True, **more), compression=asked)[0], payload)
        requests = [message(payload, echo=True, **more), message(b'small', echo=True)]
        is_(list(CALLS.duplex('Duplex', iter(requests), compression=asked)), [payload, b'small'])
        is_(CALLS.client_stream('ClientStream', iter(requests), compression=asked), str(len(payload) + 5).encode())
    run.__name__ = f'compressed {asked} {answered}'
    CASES.append(run)
for asked in (grpc.Compression.NoCompression, grpc.Compression.Deflate, grpc.Compression.Gzip):
    for answered in (None, 'Deflate', 'Gzip', 'NoCompression'):
        compressed(asked, answered)

# ---- status ----------------------------------------------------------------------------------------------------------------
for code in CODE:
    def run(code=code):
        if code == CODE.OK:
            return is_(CALLS.unary('Unary', message(size=1))[1].code(), code)
        wanted = message(code=code.name, message='test status message')
        is_(failed(lambda: CALLS.unary('Unary', wanted)), (code, 'test status message'))
        is_(failed(lambda: list(CALLS.duplex('Duplex', iter([wanted])))), (code, 'test status message'))
        # Behind a message, so that it comes in trailers.
        call = CALLS.duplex('Duplex', iter([message(b'first', echo=True), wanted]))
        is_(next(call), b'first')
        is_(failed(lambda: next(call)), (code, 'test status message'))
    run.__name__ = f'status_code_and_message {code.name}'
    case(run)

for text in ('\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n', '', ' ', '  a b  ', '%', '%41%zz%', 'a' * 4000, '"quoted", and: more; \\', '\x7f\x01'):
    def run(text=text):
        # White space at its ends is not carried by HTTP/2, where gRPC does not encode it.
        is_(failed(lambda: CALLS.unary('Unary', message(code='UNKNOWN', message=text))), (CODE.UNKNOWN, text.strip(' ')))
    run.__name__ = f'special_status_message {text[:40]!r}'
    case(run)

@case
def unimplemented_method():
    is_(failed(lambda: CALLS.unary('Nothing'))[0], CODE.UNIMPLEMENTED)

@case
def unimplemented_service():
    is_(failed(lambda: CALLS.unary('/nothing.Nothing/Nothing'))[0], CODE.UNIMPLEMENTED)

@case
def errors_before_the_stream_is_read():
    endless = iter(lambda: message(bytes(100000)), None)
    is_(failed(lambda: list(CALLS.duplex('Early', endless))), (CODE.RESOURCE_EXHAUSTED, 'enough of it'))
    endless = iter(lambda: message(bytes(100000)), None)
    is_(failed(lambda: CALLS.client_stream('EarlyUnary', endless)), (CODE.RESOURCE_EXHAUSTED, 'enough of it'))

@case
def errors_within_a_stream_that_goes_on():
    requests = Requests()
    for _ in range(40):
        requests.say(message(bytes(100000), size=1))
    requests.say(message(code='ABORTED', message='stop'))
    for _ in range(40):
        requests.say(message(bytes(100000), size=1))
    call, got = CALLS.duplex('Duplex', requests), []
    is_(failed(lambda: got.extend(call)), (CODE.ABORTED, 'stop'))
    requests.end()

# ---- metadata --------------------------------------------------------------------------------------------------------------
def custom_metadata(name, *pairs):
    def run():
        given = [(f'x-initial-{n}', v) for n, v in pairs] + [(f'x-trailing-{n}', v) for n, v in pairs]
        for kind in 'unary', 'duplex':
            if kind == 'unary':
                _, call = CALLS.unary('Unary', message(bytes(271828), size=314159), metadata=given)
            else:
                call = CALLS.duplex('Duplex', iter([message(bytes(271828), size=314159)]), metadata=given)
                is_(len(list(call)), 1)
            for where, got in ('initial', call.initial_metadata()), ('trailing', call.trailing_metadata()):
                due = [(f'x-{where}-{n}', v) for n, v in pairs]
                is_([(each.key, each.value) for each in got if each.key.startswith(f'x-{where}')], due)
        # With an error that is told without a message.
        call = CALLS.duplex('Duplex', iter([message(code='ABORTED')]), metadata=given)
        is_(failed(lambda: list(call))[0], CODE.ABORTED)
        is_([(each.key, each.value) for each in call.trailing_metadata() if each.key.startswith('x-t')], [(f'x-trailing-{n}', v) for n, v in pairs])
    run.__name__ = f'custom_metadata {name}'
    CASES.append(run)
custom_metadata('text', ('text', 'test_initial_metadata_value'))
custom_metadata('binary', ('some-bin', b'\xab\xab\xab'))
custom_metadata('every byte', ('all-bin', bytes(range(256))))
custom_metadata('binary of each length', *[(f'{n}-bin', b'\xff' * n) for n in range(1, 6)])
custom_metadata('values of a kind', ('twice', 'a'), ('twice', 'b'), ('twice', 'a'))
custom_metadata('signs', ('signs', '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~ and  spaces'), ('under_score.dot', 'x'))
custom_metadata('many', *[(f'{n}', str(n)) for n in range(30)])
custom_metadata('large', ('large', 'y' * 12000))
custom_metadata('none', )

@case
def metadata_over_the_limit():
    for size in 70000, 150000, 16 << 20:
        CALLS = Calls()
        code, details = failed(lambda: CALLS.unary('Unary', message(), metadata=[('x-large', 'y' * size)]))
        # More than a list may have; more than is looked at ends the connection.
        is_((code, details), (CODE.RESOURCE_EXHAUSTED, 'head too large') if size < 80000 else (code, details))
        assert code in (CODE.RESOURCE_EXHAUSTED, CODE.UNAVAILABLE), (size, code, details)
        print(f'{size} bytes of metadata: {code.name}: {details[:200]}')
        # Where the connection ends, a next call of the same client may still begin on it.
        is_(Calls().unary('Empty')[0], b'')

@case
def more_fields_than_may_be():
    code, details = failed(lambda: CALLS.unary('Unary', message(), metadata=[(f'x-{n}', 'y') for n in range(200)]))
    is_((code, details), (CODE.RESOURCE_EXHAUSTED, 'head too large'))
    is_(CALLS.unary('Empty')[0], b'')

@case
def large_trailers():
    for count, size in (1, 30000), (60, 500), (10, 3000):
        got, call = CALLS.unary('Trailers', message(count=count, bytes=size))
        is_((got, call.code()), (b'behind me', CODE.OK))
        is_(sum(len(each.value) for each in call.trailing_metadata() if each.key.startswith('x-trailing')), count * size)

@case
def trailers_over_the_limit():
    # Others of the same connection go on.
    requests = Requests()
    other = CALLS.duplex('Duplex', requests)
    requests.say(message(size=1))
    is_(next(other), bytes(1))
    code, details = failed(lambda: CALLS.unary('Trailers', message(count=2, bytes=50000)))
    print(f'100000 bytes of trailers: {code.name}: {details[:200]}')
    assert code in (CODE.RESOURCE_EXHAUSTED, CODE.INTERNAL), (code, details)
    requests.say(message(size=2))
    is_(next(other), bytes(2))
    requests.end()
    is_(list(other), [])
    is_(CALLS.unary('Empty')[0], b'')

# ---- ends ------------------------------------------------------------------------------------------------------------------
@case
def cancel_after_begin():
    requests = Requests()
    call = CALLS.channel.stream_unary('/interop.Test/ClientStream').future(requests)
    call.cancel()
    assert call.cancelled() and call.code() == CODE.CANCELLED
    requests.end()

@case
def cancel_after_first_response():
    requests = Requests()
    call = CALLS.duplex('Duplex', requests)
    requests.say(message(bytes(27182), size=31415))
    is_(len(next(call)), 31415)
    call.cancel()
    is_(failed(lambda: next(call))[0], CODE.CANCELLED)
    requests.end()

@case
def cancel_of_one_that_sleeps():
    requests = Requests()
    call = CALLS.duplex('Sleep', requests)
    is_([each.value for each in call.initial_metadata() if each.key == 'x-asleep'], ['yes'])
    call.cancel()
    is_(failed(lambda: next(call))[0], CODE.CANCELLED)
    requests.end()

@case
def timeout_on_sleeping_server():
    for seconds in 0.001, 0.3:
        requests = Requests()
        requests.say(message(bytes(27182)))
        code, details = failed(lambda: list(CALLS.duplex('Sleep', requests, timeout=seconds)))
        assert code == CODE.DEADLINE_EXCEEDED, (seconds, code, details)
        requests.end()

@case
def deadlines_are_known_to_the_service():
    for seconds in 5, 60, 3600, 100000, 5000000:
        left = json.loads(CALLS.unary('Remaining', timeout=seconds)[0])
        assert seconds - 20 < left < seconds * 1.01 + 1, (seconds, left)  # told in few digits

# ---- connections -----------------------------------------------------------------------------------------------------------
@case
def keep_alive_pings_are_answered():
    calls = Calls(('grpc.keepalive_time_ms', 200), ('grpc.keepalive_timeout_ms', 5000), ('grpc.http2.max_pings_without_data', 0),
                  ('grpc.keepalive_permit_without_calls', 1), ('grpc.http2.min_time_between_pings_ms', 200))
    # Ten pings and more within a stream that is quiet, and then while nothing is under way.
    is_([int(each) for each in calls.server_stream('Ticks', message(count=3, seconds=1))], [0, 1, 2])
    connectivity = []
    calls.channel.subscribe(connectivity.append)
    is_([int(each) for each in CALLS.server_stream('Ticks', message(count=2, seconds=1))], [0, 1])
    assert set(connectivity) <= {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE}, connectivity
    is_(calls.unary('Empty')[0], b'')

@case
def rpc_soak():
    for _ in range(50):
        is_(len(CALLS.unary('Unary', message(bytes(271828), size=314159))[0]), 314159)

@case
def channel_soak():
    for _ in range(30):
        calls = Calls()
        is_(len(calls.unary('Unary', message(bytes(27182), size=31415), wait_for_ready=True)[0]), 31415)
        calls.channel.close()

@case
def soak_while_connections_of_the_service_end():
    """They end each second; long streams live on."""
    with ThreadPoolExecutor(16) as threads:
        streams = [threads.submit(lambda: list(CALLS.server_stream('Ticks', message(count=6, seconds=0.5)))) for _ in range(4)]
        calls = 0
        while not all(stream.done() for stream in streams):
            is_(list(threads.map(lambda _: CALLS.unary('Unary', message(b'x', echo=True))[0], range(8))), [b'x'] * 8)
            calls += 8
        for stream in streams:
            is_([int(each) for each in stream.result()], [0, 1, 2, 3, 4, 5])
    print(f'{calls} calls beside 4 streams')

def main():
    def judge(run):
        try:
            run()
        except Exception as error:
            return f'{run.__name__}: {error!r}'
    with ThreadPoolExecutor(int(sys.argv[2]) if len(sys.argv) > 2 else 4) as threads:
        failures = [said for said in threads.map(judge, CASES) if said]
    print(*failures, f'{len(CASES)} cases, {len(failures)} failed', sep='\n', flush=True)
    sys.exit(bool(failures))

main()
