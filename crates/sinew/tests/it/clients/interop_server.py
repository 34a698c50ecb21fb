"""The service of the interoperability cases: a message is a line of JSON that says what is wanted, and a payload behind it. Its
connections end by themselves, with a GOAWAY, as soon as they have lived for a second."""
import grpc, json, signal, threading
from concurrent import futures

def unpack(message):
    line, _, payload = message.partition(b'\n')
    return json.loads(line or b'{}'), payload

def answer(context, message):
    """Metadata back to where it came from, then what is wanted: a status, or so many bytes."""
    wanted, payload = unpack(message)
    if 'compression' in wanted:
        context.set_compression(grpc.Compression[wanted['compression']])
    if 'code' in wanted:
        context.abort(grpc.StatusCode[wanted['code']], wanted.get('message', ''))
    return payload if wanted.get('echo') else bytes(wanted.get('size', 0))

def metadata(context):
    given = list(context.invocation_metadata())
    context.send_initial_metadata([each for each in given if each.key.startswith('x-initial')])
    context.set_trailing_metadata([each for each in given if each.key.startswith('x-trailing')])

def unary(request, context):
    metadata(context)
    return answer(context, request)

def client_stream(requests, context):
    return str(sum(len(unpack(request)[1]) for request in requests)).encode()

def server_stream(request, context):
    for size in unpack(request)[0]['sizes']:
        yield bytes(size)

def duplex(requests, context):
    metadata(context)
    for request in requests:
        yield answer(context, request)

def early(requests, context):
    """Nothing is read."""
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, 'enough of it')

def sleep(requests, context):
    over = threading.Event()
    context.add_callback(over.set)
    context.send_initial_metadata([('x-asleep', 'yes')])
    over.wait()
    print('given up', flush=True)
    yield b''

def remaining(request, context):
    return json.dumps(context.time_remaining()).encode()

def trailers(request, context):
    """So many fields of so many bytes."""
    wanted, _ = unpack(request)
    context.set_trailing_metadata([(f'x-trailing-{n}', 'y' * wanted['bytes']) for n in range(wanted['count'])])
    return b'behind me'

def ticks(request, context):
    wanted, _ = unpack(request)
    for number in range(wanted['count']):
        threading.Event().wait(wanted['seconds'])
        yield str(number).encode()

KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler, (True, False): grpc.stream_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler, (True, True): grpc.stream_stream_rpc_method_handler,
}
METHODS = {
    'Empty': (False, False, lambda request, context: b''), 'Unary': (False, False, unary), 'ClientStream': (True, False, client_stream),
    'ServerStream': (False, True, server_stream), 'Duplex': (True, True, duplex), 'Early': (True, True, early),
    'EarlyUnary': (True, False, early), 'Sleep': (True, True, sleep), 'Remaining': (False, False, remaining),
    'Trailers': (False, False, trailers), 'Ticks': (False, True, ticks),
}
handlers = {name: KINDS[asked, answered](run) for name, (asked, answered, run) in METHODS.items()}
server = grpc.server(futures.ThreadPoolExecutor(128), options=[
    ('grpc.max_receive_message_length', -1), ('grpc.max_metadata_size', 1 << 20), ('grpc.absolute_max_metadata_size', 1 << 20),
    ('grpc.max_connection_age_ms', 1000), ('grpc.max_connection_age_grace_ms', 60000)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler('interop.Test', handlers)])
server.add_insecure_port('0.0.0.0:8000')
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
server.start()
ended.wait()
server.stop(10).wait()
