"""Strict conformance of an HTTP/2 server, section by section of RFC 9113 and RFC 7541, with framing of its own.

http2_rules.py ADDRESS PORT: says each case that fails, and "N cases, M failed" at the end. What counts as a connection error is
GOAWAY with one of the expected codes (or only the closing, where the frame that tells it cannot be trusted to arrive); a stream
error is RST_STREAM, or a connection error of the same code.
"""
import re, socket, struct, sys, threading
from concurrent.futures import ThreadPoolExecutor

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT = range(10)
NO, PROTOCOL, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM = range(12)
END_STREAM, ACK, END_HEADERS, PADDED, PRIO = 1, 1, 4, 8, 32
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
HOST = 'conformance:8000'
PATIENCE = 30

def frame(kind, flags=0, stream=0, payload=b'', length=None):
    size = len(payload) if length is None else length
    return struct.pack('>I', size)[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload

def integer(value, bits, first=0):
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])

def text(value):
    value = value.encode('latin-1') if isinstance(value, str) else value
    return integer(len(value), 7) + value

def field(name, value, first=0x00):
    return bytes([first]) + text(name) + text(value)

def block(fields):
    return b''.join(field(*each) for each in fields)

def request(method='GET', path='/', more=(), scheme='http', authority=HOST):
    return [(':method', method), (':scheme', scheme), (':path', path), (':authority', authority), *more]

GET = block(request())
POST = block(request('POST'))

class Closed(Exception):
    pass

class Client:
    def __init__(self, settings=(), shake=True):
        self.socket = socket.create_connection(ADDRESS, PATIENCE)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.seen, self.settings = b'', [], {}
        if shake:
            self.send(PREFACE + frame(SETTINGS, payload=b''.join(struct.pack('>HI', *each) for each in settings)))
            acknowledged = said = False
            while not (acknowledged and said):
                kind, flags, _, payload = self.next()
                if kind == SETTINGS and flags & ACK:
                    acknowledged = True
                elif kind == SETTINGS:
                    said = True
                    for at in range(0, len(payload), 6):
                        name, value = struct.unpack_from('>HI', payload, at)
                        self.settings[name] = value
                    self.send(frame(SETTINGS, ACK))

    def send(self, *pieces):
        try:
            self.socket.sendall(b''.join(pieces))
        except OSError:
            pass

    def next(self):
        while True:
            if len(self.buffer) >= 9:
                size = int.from_bytes(self.buffer[:3], 'big')
                if len(self.buffer) >= 9 + size:
                    kind, flags = self.buffer[3], self.buffer[4]
                    stream = struct.unpack('>I', self.buffer[5:9])[0] & 0x7fffffff
                    payload = self.buffer[9:9 + size]
                    self.buffer = self.buffer[9 + size:]
                    self.seen.append((kind, flags, stream, payload))
                    return self.seen[-1]
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f'nothing more came; seen {shown(self.seen)}')
            except OSError:
                raise Closed
            if not more:
                raise Closed
            self.buffer += more

    def until(self, kind, stream=None, flag=0):
        while True:
            got = self.next()
            if got[0] == kind and (stream is None or got[2] == stream) and got[1] & flag == flag:
                return got

    def answered(self, stream=1):
        """The whole answer: its frames."""
        frames = []
        while True:
            kind, flags, at, payload = self.next()
            if at == stream:
                assert kind != RST, f'reset with {struct.unpack(">I", payload)[0]}'
                if kind in (HEADERS, DATA, CONT):
                    frames.append((kind, flags, payload))
                    if flags & END_STREAM:
                        return frames

    def alive(self):
        self.send(frame(PING, payload=b'are you?'))
        while True:
            kind, flags, _, payload = self.next()
            if kind == PING and flags & ACK and payload == b'are you?':
                return

    def connection_error(self, *codes):
        try:
            while True:
                kind, _, _, payload = self.next()
                if kind == GOAWAY:
                    code = struct.unpack('>I', payload[4:8])[0]
                    if code != NO:
                        break
        except Closed:
            raise AssertionError(f'closed without GOAWAY; seen {shown(self.seen)}')
        assert code in codes, f'GOAWAY {code} where {codes} is due'
        try:
            while True:
                self.next()
        except Closed:
            return

    def stream_error(self, stream, *codes):
        try:
            while True:
                kind, _, at, payload = self.next()
                if kind == RST and at == stream:
                    code = struct.unpack('>I', payload)[0]
                    break
                if kind == GOAWAY:
                    code = struct.unpack('>I', payload[4:8])[0]
                    break
                assert not (at == stream and kind in (HEADERS, DATA)), f'answered; seen {shown(self.seen)}'
        except Closed:
            raise AssertionError(f'closed without a word; seen {shown(self.seen)}')
        assert code in codes, f'code {code} where {codes} is due'

    def malformed(self, stream=1):
        """RFC 9113 8.1.1: a stream error PROTOCOL_ERROR; a 400 may be sent before."""
        while True:
            try:
                kind, flags, at, payload = self.next()
            except Closed:
                raise AssertionError(f'closed without a word; seen {shown(self.seen)}')
            if kind == RST and at == stream:
                assert struct.unpack('>I', payload)[0] == PROTOCOL, shown(self.seen)
                return
            if kind == GOAWAY:
                assert struct.unpack('>I', payload[4:8])[0] == PROTOCOL, shown(self.seen)
                return
            if kind == HEADERS and at == stream:
                assert not is_ok(payload), f'served; seen {shown(self.seen)}'
            if kind in (HEADERS, DATA) and at == stream and flags & END_STREAM:
                return

def is_ok(payload):
    """`:status 200` is index 8."""
    return payload[:1] == b'\x88'

def shown(frames):
    names = 'DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH PING GOAWAY WINDOW_UPDATE CONTINUATION'.split()
    return [(names[k] if k < 10 else k, f, s, p[:12].hex()) for k, f, s, p in frames[-6:]]

CASES = []

def case(section):
    def keep(run):
        CASES.append((section, run))
        return run
    return keep

def rejects(section, sent, *codes, settings=(), name=None):
    def run():
        client = Client(settings)
        client.send(*(sent(client) if callable(sent) else sent))
        client.connection_error(*codes)
    run.__name__ = name or section
    CASES.append((section, run))

def resets(section, stream, sent, *codes, settings=(), name=None):
    def run():
        client = Client(settings)
        client.send(*(sent(client) if callable(sent) else sent))
        client.stream_error(stream, *codes)
    run.__name__ = name or section
    CASES.append((section, run))

def malformed(section, name, fields, body=(), trailers=None):
    def run():
        client = Client()
        last = not body and trailers is None
        client.send(frame(HEADERS, END_HEADERS | (END_STREAM if last else 0), 1, block(fields)))
        for at, piece in enumerate(body):
            end = trailers is None and at == len(body) - 1
            client.send(frame(DATA, END_STREAM if end else 0, 1, piece))
        if trailers is not None:
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(trailers)))
        client.malformed()
    run.__name__ = name
    CASES.append((section, run))

def serves(section, name, sent, stream=1, settings=()):
    def run():
        client = Client(settings)
        client.send(*(sent(client) if callable(sent) else sent))
        frames = client.answered(stream)
        assert frames[0][0] == HEADERS and is_ok(frames[0][2]), shown(client.seen)
    run.__name__ = name
    CASES.append((section, run))

def open_(stream=1, fields=None, flags=END_HEADERS):
    return frame(HEADERS, flags, stream, POST if fields is None else fields)

def whole(stream=1, fields=None):
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, GET if fields is None else fields)

# ---- 3.4 and the basics -------------------------------------------------------------------------------------------
@case('3.4')
def settings_come_first():
    client = Client(shake=False)
    client.send(PREFACE + frame(SETTINGS))
    kind, flags, stream, _ = client.next()
    assert kind == SETTINGS and not flags & ACK and stream == 0, shown(client.seen)

@case('3.4')
def an_invalid_preface_ends_the_connection():
    client = Client(shake=False)
    client.send(b'PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n' + frame(SETTINGS))
    try:
        while True:
            client.socket.recv(100) or (_ for _ in ()).throw(Closed)
    except (Closed, ConnectionError):
        pass

@case('3.4')
def a_preface_without_settings():
    client = Client(shake=False)
    client.send(PREFACE + frame(PING, payload=b'12345678'))
    client.connection_error(PROTOCOL)

@case('3.4')
def a_request_behind_the_preface_at_once():
    client = Client(shake=False)
    client.send(PREFACE + frame(SETTINGS) + whole())
    assert is_ok(client.answered()[0][2])

@case('3.4')
def a_client_that_says_no_more():
    client = Client(shake=False)
    client.send(PREFACE + frame(SETTINGS) + whole())
    client.socket.shutdown(socket.SHUT_WR)
    assert is_ok(client.answered()[0][2])

serves('8.1', 'GET', [whole()])
serves('8.1', 'POST with a body', [open_(), frame(DATA, END_STREAM, 1, b'test')])
serves('8.1', 'POST with trailers', [open_(1, block(request('POST', more=[('trailer', 'x-sum')]))), frame(DATA, 0, 1, b'test'),
                                     frame(HEADERS, END_STREAM | END_HEADERS, 1, field('x-sum', '4'))])
serves('8.1', 'POST with an empty body', [open_(), frame(DATA, END_STREAM, 1)])
serves('8.1', 'several DATA frames', [open_(), frame(DATA, 0, 1, b'a'), frame(DATA, 0, 1, b'b'), frame(DATA, END_STREAM, 1, b'c')])

@case('8.1')
def head_has_no_body():
    client = Client()
    client.send(whole(1, block(request('HEAD'))))
    frames = client.answered()
    assert is_ok(frames[0][2]) and not any(kind == DATA and data for kind, _, data in frames)

# ---- 4 frames ------------------------------------------------------------------------------------------------------
@case('4.1')
def unknown_frames_are_ignored():
    client = Client()
    client.send(frame(0x16, 0, 0, bytes(8)), frame(0x77, 0xff, 5, bytes(100)))
    client.alive()

@case('4.1')
def undefined_flags_are_ignored():
    client = Client()
    client.send(frame(PING, 0x16, 0, b'12345678'))
    assert client.until(PING, flag=ACK)[3] == b'12345678'

@case('4.1')
def the_reserved_bit_is_ignored():
    client = Client()
    client.send(frame(PING, 0, 0x80000000, b'12345678'))
    assert client.until(PING, flag=ACK)[3] == b'12345678'

serves('4.2', 'DATA of 2^14 bytes', [open_(), frame(DATA, END_STREAM, 1, bytes(1 << 14))])
def over(client, kind, flags=0, before=()):
    return [*before, frame(kind, flags, 1, bytes(client.settings.get(5, 1 << 14) + 1))]
rejects('4.2', lambda c: over(c, DATA, END_STREAM, [open_()]), SIZE, name='DATA over the largest frame')
rejects('4.2', lambda c: over(c, HEADERS, END_STREAM | END_HEADERS), SIZE, name='HEADERS over the largest frame')
rejects('4.2', lambda c: over(c, 0x20), SIZE, name='an unknown frame over the largest')
rejects('4.3', [frame(HEADERS, END_STREAM | END_HEADERS, 1, b'\x40\x01\x80\x00\x00')], COMPRESSION, name='invalid field block')
rejects('4.3', [open_(1, GET, END_STREAM), frame(PRIORITY, 0, 1, struct.pack('>IB', 3, 9))], PROTOCOL, name='PRIORITY within a field block')
rejects('4.3', [open_(1, GET, END_STREAM), whole(3)], PROTOCOL, name='HEADERS of another stream within a field block')
rejects('4.3', [frame(HEADERS, END_STREAM | END_HEADERS, 1, GET + b'\x0f')], COMPRESSION, name='a truncated field block')

# ---- 5.1 states ----------------------------------------------------------------------------------------------------
rejects('5.1 idle', [frame(DATA, END_STREAM, 1, b'test')], PROTOCOL, name='DATA')
rejects('5.1 idle', [frame(RST, 0, 1, struct.pack('>I', CANCEL))], PROTOCOL, name='RST_STREAM')
rejects('5.1 idle', [frame(WINDOW, 0, 1, struct.pack('>I', 100))], PROTOCOL, name='WINDOW_UPDATE')
rejects('5.1 idle', [frame(CONT, END_HEADERS, 1, GET)], PROTOCOL, name='CONTINUATION')
@case('5.1 idle')
def priority_on_an_idle_stream():
    client = Client()
    client.send(frame(PRIORITY, 0, 1, struct.pack('>IB', 0, 255)), frame(PRIORITY, 0, 7, struct.pack('>IB', 3, 15)))
    client.alive()
    client.send(whole(5))
    assert is_ok(client.answered(5)[0][2])

# The stream is held half-closed by a body that the client's window does not let through.
SHUT = [(4, 0)]
LARGE = block(request(path='/large'))
@case('5.1 half-closed (remote)')
def data_on_a_half_closed_stream():
    client = Client(SHUT)
    client.send(whole(1, LARGE)); client.until(HEADERS, 1)
    client.send(frame(DATA, END_STREAM, 1, b'test'))
    client.stream_error(1, CLOSED)
@case('5.1 half-closed (remote)')
def headers_on_a_half_closed_stream():
    client = Client(SHUT)
    client.send(whole(1, LARGE)); client.until(HEADERS, 1)
    client.send(whole(1, LARGE))
    client.stream_error(1, CLOSED)
@case('5.1 half-closed (remote)')
def continuation_on_a_half_closed_stream():
    client = Client(SHUT)
    client.send(whole(1, LARGE)); client.until(HEADERS, 1)
    client.send(frame(CONT, END_HEADERS, 1, GET))
    client.connection_error(CLOSED, PROTOCOL)
@case('5.1 half-closed (remote)')
def window_updates_priority_and_resets():
    client = Client(SHUT)
    client.send(whole(1, LARGE)); client.until(HEADERS, 1)
    client.send(frame(WINDOW, 0, 1, struct.pack('>I', 100)), frame(PRIORITY, 0, 1, struct.pack('>IB', 0, 255)))
    assert len(client.until(DATA, 1)[3]) <= 100
    client.send(frame(RST, 0, 1, struct.pack('>I', CANCEL)))
    client.alive()

def closed_by_reset(name, sent, *codes):
    def run():
        client = Client(SHUT)
        client.send(open_(1, LARGE), frame(RST, 0, 1, struct.pack('>I', CANCEL)))
        client.alive()
        client.send(sent)
        client.stream_error(1, *codes)
    run.__name__ = name
    CASES.append(('5.1 closed by RST_STREAM', run))
closed_by_reset('DATA', frame(DATA, END_STREAM, 1, b'test'), CLOSED)
closed_by_reset('HEADERS', whole(), CLOSED)
closed_by_reset('CONTINUATION', frame(CONT, END_HEADERS, 1, GET), CLOSED, PROTOCOL)

def closed_by_end(name, sent, *codes):
    def run():
        client = Client()
        client.send(whole())
        client.answered()
        client.send(sent)
        client.connection_error(*codes)
    run.__name__ = name
    CASES.append(('5.1 closed by END_STREAM', run))
closed_by_end('DATA', frame(DATA, END_STREAM, 1, b'test'), CLOSED)
closed_by_end('HEADERS', whole(), CLOSED)
closed_by_end('CONTINUATION', frame(CONT, END_HEADERS, 1, GET), CLOSED, PROTOCOL)
@case('5.1 closed by END_STREAM')
def window_updates_resets_and_priority_are_let_pass():
    client = Client()
    client.send(whole()); client.answered()
    client.send(frame(WINDOW, 0, 1, struct.pack('>I', 5)), frame(RST, 0, 1, struct.pack('>I', CANCEL)),
                frame(PRIORITY, 0, 1, struct.pack('>IB', 0, 255)))
    client.alive()

rejects('5.1.1', [whole(2)], PROTOCOL, name='an even stream')
@case('5.1.1')
def a_smaller_stream():
    client = Client()
    client.send(whole(5)); client.answered(5)
    client.send(whole(3))
    client.connection_error(PROTOCOL, CLOSED)
rejects('5.1.1', [frame(HEADERS, END_STREAM | END_HEADERS, 0x80000000, GET)], PROTOCOL, name='stream 0 with the reserved bit')

@case('5.1.2')
def more_streams_than_announced():
    client = Client(SHUT)
    most = client.settings.get(3)
    assert most, 'the number of streams is bounded'
    client.send(*[whole(1 + 2 * n, LARGE) for n in range(most)], whole(1 + 2 * most, LARGE))
    client.stream_error(1 + 2 * most, PROTOCOL, REFUSED)

for name, sent in [('HEADERS', frame(HEADERS, END_STREAM | END_HEADERS | PRIO, 1, struct.pack('>IB', 1, 255) + GET)),
                   ('PRIORITY', frame(PRIORITY, 0, 1, struct.pack('>IB', 1, 255)))]:
    resets('5.3.1 (RFC 7540)', 1, [sent], PROTOCOL, name=f'a stream that depends on itself: {name}')

@case('5.4.1')
def goaway_names_the_last_stream():
    client = Client()
    client.send(whole()); client.answered()
    client.send(frame(PING, 0, 0, b'123456'))
    payload = client.until(GOAWAY)[3]
    last, code = struct.unpack('>II', payload[:8])
    assert (last, code) == (1, SIZE), (last, code)
    try:
        while True: client.next()
    except Closed:
        pass

@case('5.5')
def unknown_settings_and_frames():
    client = Client([(0xabcd, 7)])
    client.send(frame(0xee, 0, 0, b'test'))
    client.alive()
rejects('5.5', [open_(1, GET[:5], END_STREAM), frame(0xee, 0, 1, b'test'), frame(CONT, END_HEADERS, 1, GET[5:])], PROTOCOL, name='an unknown frame within a field block')

# ---- 6 frames ------------------------------------------------------------------------------------------------------
rejects('6.1', [frame(DATA, END_STREAM, 0, b'test')], PROTOCOL, name='DATA on stream 0')
rejects('6.1', [open_(), frame(DATA, END_STREAM | PADDED, 1, b'\x06test')], PROTOCOL, name='padding as long as the payload')
rejects('6.1', [open_(), frame(DATA, END_STREAM | PADDED, 1, b'')], SIZE, PROTOCOL, name='padding without its length')
serves('6.1', 'padded DATA', [open_(), frame(DATA, END_STREAM | PADDED, 1, b'\x06test' + bytes(6))])
serves('6.1', 'DATA of padding alone', [open_(), frame(DATA, END_STREAM | PADDED, 1, b'\x06' + bytes(6))])
rejects('6.2', [frame(HEADERS, END_STREAM | END_HEADERS, 0, GET)], PROTOCOL, name='HEADERS on stream 0')
rejects('6.2', [frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, bytes([len(GET) + 1]) + GET)], PROTOCOL, name='padding longer than the payload')
rejects('6.2', [frame(HEADERS, END_STREAM | END_HEADERS | PRIO, 1, b'\0\0')], SIZE, PROTOCOL, name='priority that is cut')
serves('6.2', 'padded HEADERS', [frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b'\x05' + GET + bytes(5))])
serves('6.2', 'HEADERS with priority', [frame(HEADERS, END_STREAM | END_HEADERS | PRIO, 1, struct.pack('>IB', 0x80000000, 255) + GET)])
serves('6.2', 'padded HEADERS with priority', [frame(HEADERS, END_STREAM | END_HEADERS | PRIO | PADDED, 1, b'\x05' + struct.pack('>IB', 0, 1) + GET + bytes(5))])
rejects('6.3', [frame(PRIORITY, 0, 0, struct.pack('>IB', 3, 9))], PROTOCOL, name='PRIORITY on stream 0')
resets('6.3', 1, [open_(), frame(PRIORITY, 0, 1, b'\x80\0\0\x01')], SIZE, name='PRIORITY of four bytes')
rejects('6.4', [open_(), frame(RST, 0, 0, struct.pack('>I', CANCEL))], PROTOCOL, name='RST_STREAM on stream 0')
rejects('6.4', [open_(), frame(RST, 0, 1, b'\0\0\0')], SIZE, name='RST_STREAM of three bytes')
rejects('6.4', [open_(), frame(RST, 0, 1, b'\0\0\0\0\0')], SIZE, name='RST_STREAM of five bytes')
rejects('6.5', [frame(SETTINGS, ACK, 0, bytes(6))], SIZE, name='ACK with payload')
rejects('6.5', [frame(SETTINGS, 0, 1, struct.pack('>HI', 3, 100))], PROTOCOL, name='SETTINGS on a stream')
rejects('6.5', [frame(SETTINGS, 0, 0, b'\0\x03\0')], SIZE, name='SETTINGS of three bytes')
rejects('6.5.2', [frame(SETTINGS, 0, 0, struct.pack('>HI', 2, 2))], PROTOCOL, name='ENABLE_PUSH 2')
rejects('6.5.2', [frame(SETTINGS, 0, 0, struct.pack('>HI', 4, 1 << 31))], FLOW, name='INITIAL_WINDOW_SIZE 2^31')
rejects('6.5.2', [frame(SETTINGS, 0, 0, struct.pack('>HI', 5, (1 << 14) - 1))], PROTOCOL, name='MAX_FRAME_SIZE too small')
rejects('6.5.2', [frame(SETTINGS, 0, 0, struct.pack('>HI', 5, 1 << 24))], PROTOCOL, name='MAX_FRAME_SIZE too large')
rejects('RFC 8441 3', [frame(SETTINGS, 0, 0, struct.pack('>HI', 8, 2))], PROTOCOL, name='ENABLE_CONNECT_PROTOCOL 2')
@case('6.5.3')
def settings_are_acknowledged_each():
    client = Client()
    client.send(frame(SETTINGS, 0, 0, struct.pack('>HI', 1, 0)), frame(SETTINGS))
    client.until(SETTINGS, flag=ACK); client.until(SETTINGS, flag=ACK)
@case('6.5.3')
def the_last_of_several_values_counts():
    client = Client()
    client.send(frame(SETTINGS, 0, 0, struct.pack('>HIHI', 4, 100, 4, 1)), whole(1, LARGE))
    assert len(client.until(DATA, 1)[3]) == 1
rejects('6.6', [open_(), frame(PUSH, END_HEADERS, 1, struct.pack('>I', 2) + GET)], PROTOCOL, name='PUSH_PROMISE from a client')
@case('6.7')
def a_ping_is_answered():
    Client().alive()
@case('6.7')
def a_ping_ack_is_not_answered():
    client = Client()
    client.send(frame(PING, ACK, 0, b'invalid!'))
    client.alive()
    assert not any(k == PING and p == b'invalid!' for k, _, _, p in client.seen)
rejects('6.7', [frame(PING, 0, 1, bytes(8))], PROTOCOL, name='PING on a stream')
rejects('6.7', [frame(PING, 0, 0, bytes(6))], SIZE, name='PING of six bytes')
rejects('6.8', [frame(GOAWAY, 0, 1, bytes(8))], PROTOCOL, name='GOAWAY on a stream')
rejects('6.8', [frame(GOAWAY, 0, 0, bytes(7))], SIZE, name='GOAWAY of seven bytes')
@case('6.8')
def requests_before_a_goaway_are_answered():
    client = Client()
    client.send(whole() + frame(GOAWAY, 0, 0, struct.pack('>II', 0, NO)))
    assert is_ok(client.answered()[0][2])
rejects('6.9', [frame(WINDOW, 0, 0, bytes(4))], PROTOCOL, name='increment 0 on the connection')
resets('6.9', 1, [open_(), frame(WINDOW, 0, 1, bytes(4))], PROTOCOL, name='increment 0 on a stream')
rejects('6.9', [frame(WINDOW, 0, 0, bytes(3))], SIZE, name='WINDOW_UPDATE of three bytes')
rejects('6.9', [open_(), frame(WINDOW, 0, 1, bytes(5))], SIZE, name='WINDOW_UPDATE of five bytes')
rejects('6.9.1', [frame(WINDOW, 0, 0, struct.pack('>I', 0x7fffffff))] * 2, FLOW, name='a connection window over 2^31-1')
resets('6.9.1', 1, [open_(1, LARGE)] + [frame(WINDOW, 0, 1, struct.pack('>I', 0x7fffffff))] * 2, FLOW, name='a stream window over 2^31-1')
@case('6.9.1')
def one_byte_of_window_is_one_byte_of_data():
    client = Client([(4, 1)])
    client.send(whole(1, LARGE))
    assert len(client.until(DATA, 1)[3]) == 1
    client.send(frame(WINDOW, 0, 1, struct.pack('>I', 2)))
    assert len(client.until(DATA, 1)[3]) in (1, 2)
@case('6.9.1')
def the_connection_window_holds_all_streams():
    client = Client([(4, 0x7fffffff)])
    client.send(whole(1, LARGE), whole(3, LARGE))
    count = 0
    while count < 65535:
        kind, _, _, payload = client.next()
        count += len(payload) if kind == DATA else 0
    assert count == 65535, count
    client.alive()
    assert sum(len(p) for k, _, _, p in client.seen if k == DATA) == 65535
@case('6.9.2')
def a_window_that_is_opened_by_settings():
    client = Client(SHUT)
    client.send(whole(1, LARGE)); client.until(HEADERS, 1)
    client.send(frame(SETTINGS, 0, 0, struct.pack('>HI', 4, 1)))
    assert len(client.until(DATA, 1)[3]) == 1
@case('6.9.2')
def a_window_below_zero():
    client = Client([(4, 3)])
    client.send(whole(1, LARGE))
    assert len(client.until(DATA, 1)[3]) == 3
    client.send(frame(SETTINGS, 0, 0, struct.pack('>HI', 4, 2)), frame(WINDOW, 0, 1, struct.pack('>I', 2)))
    assert len(client.until(DATA, 1)[3]) == 1
rejects('6.9.2', lambda c: [whole(1, LARGE), frame(WINDOW, 0, 1, struct.pack('>I', 1000)), frame(SETTINGS, 0, 0, struct.pack('>HI', 4, 0x7fffffff))], FLOW, settings=SHUT, name='settings that push a window over 2^31-1')
serves('6.10', 'several CONTINUATION', [open_(1, GET[:5], END_STREAM), frame(CONT, 0, 1, GET[5:9]), frame(CONT, END_HEADERS, 1, GET[9:])])
serves('6.10', 'empty HEADERS and CONTINUATION', [open_(1, b'', END_STREAM), frame(CONT, 0, 1, b''), frame(CONT, END_HEADERS, 1, GET)])
rejects('6.10', [open_(1, GET[:5], END_STREAM), frame(CONT, 0, 1, GET[5:9]), frame(DATA, END_STREAM, 1, b'test')], PROTOCOL, name='CONTINUATION, then DATA')
rejects('6.10', [open_(1, GET[:5], END_STREAM), frame(CONT, END_HEADERS, 0, GET[5:])], PROTOCOL, name='CONTINUATION on stream 0')
rejects('6.10', [open_(), frame(CONT, END_HEADERS, 1, GET)], PROTOCOL, name='CONTINUATION behind END_HEADERS')
rejects('6.10', [open_(1, POST[:5], 0), frame(CONT, END_HEADERS, 1, POST[5:]), frame(CONT, END_HEADERS, 1, b'')], PROTOCOL, name='CONTINUATION behind CONTINUATION with END_HEADERS')
rejects('6.10', [open_(), frame(DATA, 0, 1, b'test'), frame(CONT, END_HEADERS, 1, GET)], PROTOCOL, name='CONTINUATION behind DATA')
rejects('6.10', [open_(1, GET[:5], END_STREAM), frame(CONT, END_HEADERS, 3, GET[5:])], PROTOCOL, name='CONTINUATION of another stream')
@case('7')
def unknown_error_codes():
    client = Client(SHUT)
    client.send(whole(1, LARGE), frame(RST, 0, 1, struct.pack('>I', 0xff)))
    client.alive()
    client.send(frame(GOAWAY, 0, 0, struct.pack('>II', 0, 0xff)))
    try:
        client.alive()
    except Closed:
        pass

# ---- 8 messages ----------------------------------------------------------------------------------------------------
resets('8.1', 1, [open_(), frame(HEADERS, END_HEADERS, 1, field('x-test', 'ok'))], PROTOCOL, name='second HEADERS without END_STREAM')
malformed('8.2', 'upper case', request(more=[('X-TEST', 'ok')]))
for bad in ('x test', 'x:test', '', 'x\x00', 'x\x7f', 'x\xe9', ':', 'x\r'):
    malformed('8.2.1', f'name {bad!r}', request(more=[(bad, 'ok')]))
for bad in ('a\x00b', 'a\rb', 'a\nb', ' a', 'a ', '\ta', 'a\t', 'a\r\nx: y'):
    malformed('8.2.1', f'value {bad!r}', request(more=[('x-test', bad)]))
for name, value in [('connection', 'keep-alive'), ('proxy-connection', 'keep-alive'), ('keep-alive', 'timeout=5'),
                    ('transfer-encoding', 'chunked'), ('upgrade', 'foo'), ('te', 'trailers, deflate'), ('te', 'gzip')]:
    malformed('8.2.2', f'{name}: {value}', request(more=[(name, value)]))
serves('8.2.2', 'te: trailers', [whole(1, block(request(more=[('te', 'trailers')])))])
serves('8.2.3', 'several cookies', [whole(1, block(request(more=[('cookie', 'a=1'), ('cookie', 'b=2')])))])
malformed('8.3', 'unknown pseudo-field', request(more=[(':test', 'ok')]))
malformed('8.3', 'pseudo-field of answers', request(more=[(':status', '200')]))
malformed('8.3', 'pseudo-field in trailers', request('POST'), [b'test'], [(':method', 'GET')])
malformed('8.3', 'pseudo-field behind a field', [(':method', 'GET'), (':scheme', 'http'), ('x-test', 'ok'), (':path', '/'), (':authority', HOST)])
malformed('8.3.1', 'empty :path', request(path=''))
malformed('8.3.1', ':path without slash', request(path='index.html'))
for missing in (':method', ':scheme', ':path'):
    malformed('8.3.1', f'without {missing}', [each for each in request() if each[0] != missing])
for twice in (':method', ':scheme', ':path', ':authority'):
    malformed('8.3.1', f'{twice} twice', [each for each in request() for _ in range(2 if each[0] == twice else 1)])
for bad in ('GE T', 'GET\r\n', '', 'G\x00T'):
    malformed('8.3.1', f':method {bad!r}', request(bad))
for bad in ('/a b', '/a\r\nb', '/a\x00', '/#a', '/\xe9'):
    malformed('8.3.1', f':path {bad!r}', request(path=bad))
for bad in ('a b', 'a\r\n', 'user@conformance', 'a,b', 'a/b', '[::1', 'a:b'):
    malformed('8.3.1', f':authority {bad!r}', request(authority=bad))
malformed('8.3.1', 'Host that differs', request(more=[('host', 'other')]))
serves('8.3.1', 'Host that is the same', [whole(1, block(request(more=[('host', HOST)])))])
serves('8.3.1', 'Host in place of :authority', [whole(1, block([(':method', 'GET'), (':scheme', 'http'), (':path', '/'), ('host', HOST)]))])
malformed('8.1.1', 'DATA shorter than Content-Length', request('POST', more=[('content-length', '5')]), [b'test'])
malformed('8.1.1', 'DATA longer than Content-Length', request('POST', more=[('content-length', '1')]), [b'test'])
malformed('8.1.1', 'several DATA longer than Content-Length', request('POST', more=[('content-length', '1')]), [b'te', b'st'])
malformed('8.1.1', 'no DATA where Content-Length says so', request('POST', more=[('content-length', '1')]))
malformed('8.1.1', 'trailers before Content-Length is reached', request('POST', more=[('content-length', '9')]), [b'test'], [('x-a', 'b')])
for bad in ('+4', '4, 4', '0x4', '4 ', '-1', '', '99999999999999999999'):
    malformed('8.1.1', f'content-length {bad!r}', request('POST', more=[('content-length', bad)]), [b'test'])
malformed('8.1.1', 'two Content-Length', request('POST', more=[('content-length', '4'), ('content-length', '4')]), [b'test'])
malformed('8.2.2', 'connection field in trailers', request('POST'), [b'test'], [('connection', 'close')])
malformed('8.5', 'CONNECT with :path', [(':method', 'CONNECT'), (':scheme', 'http'), (':path', '/'), (':authority', HOST)])
malformed('8.5', 'CONNECT without :authority', [(':method', 'CONNECT')])
malformed('RFC 8441 4', ':protocol without CONNECT', request(more=[]) [:1] + [(':protocol', 'websocket')] + request()[1:])

# ---- RFC 7541 ------------------------------------------------------------------------------------------------------
H = lambda payload: [frame(HEADERS, END_STREAM | END_HEADERS, 1, payload)]
BASE = b'\x82\x86\x84' + field(':authority', HOST)
serves('HPACK 2.3', 'indexed fields', H(BASE))
serves('HPACK 6.2.1', 'with indexing', H(BASE + field('x-a', 'b', 0x40)))
serves('HPACK 6.2.1', 'with indexing, then indexed', H(BASE + field('x-a', 'b', 0x40) + b'\xbe'))
serves('HPACK 6.2.1', 'indexed name', H(BASE + b'\x7a' + text('agent')))
serves('HPACK 6.2.2', 'without indexing, indexed name', H(BASE + b'\x0f\x2b' + text('agent')))
serves('HPACK 6.2.3', 'never indexed', H(BASE + field('x-a', 'b', 0x10)))
serves('HPACK 5.2', 'Huffman', H(b'\x82\x86\x84\x41' + b'\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff'))
serves('HPACK 6.3', 'a size update at the start', H(b'\x20' + BASE))
serves('HPACK 6.3', 'several size updates', H(b'\x20\x3f\x61' + BASE))
rejects('HPACK 2.3.3', H(BASE + b'\xc6'), COMPRESSION, name='an index behind the table')
rejects('HPACK 2.3.3', H(BASE + b'\x7f\x07' + text('x')), COMPRESSION, name='a name behind the table')
rejects('HPACK 4.2', H(BASE + b'\x20'), COMPRESSION, name='a size update at the end')
rejects('HPACK 4.2', H(BASE[:1] + b'\x20' + BASE[1:]), COMPRESSION, name='a size update in the middle')
rejects('HPACK 5.2', H(BASE + b'\x00\x01a' + b'\x85\xf2\xb2\x4a\x84\xff\x00'[:6] + b'\xff'), COMPRESSION, name='Huffman padding of more than 7 bits')
rejects('HPACK 5.2', H(BASE + b'\x00\x01a' + b'\x84\xf2\xb2\x4a\x80'), COMPRESSION, name='Huffman padding of zeros')
rejects('HPACK 5.2', H(BASE + b'\x00\x01a' + b'\x84\xff\xff\xff\xff'), COMPRESSION, name='Huffman EOS')
rejects('HPACK 6.1', H(BASE + b'\x80'), COMPRESSION, name='index 0')
rejects('HPACK 6.3', H(b'\x3f\xe2\x1f\x3f\xff\xff\x03' + BASE), COMPRESSION, name='a size over the announced')
rejects('HPACK 5.1', H(BASE + b'\xff' + b'\xff' * 12 + b'\x01'), COMPRESSION, name='an integer that overflows')
rejects('HPACK 5.2', H(BASE + b'\x00\x7f\xff\xff\x7f'), COMPRESSION, name='a string longer than the block')
@case('HPACK 4.3')
def the_table_lives_over_requests():
    client = Client()
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, BASE + field('x-a', 'b', 0x40)))
    assert is_ok(client.answered()[0][2])
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, BASE + b'\xbe'))
    assert is_ok(client.answered(3)[0][2])
@case('HPACK 4.3')
def fields_of_refused_requests_are_in_the_table_too():
    client = Client()
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, BASE + field('x-a', 'b', 0x40) + field('BAD', 'x')))
    client.malformed()
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, BASE + b'\xbe'))
    assert is_ok(client.answered(3)[0][2])

def main():
    def judge(numbered):
        section, run = numbered
        try:
            run()
        except (AssertionError, Closed, OSError) as error:
            return f'{section}: {run.__name__}: {error!r}'
    with ThreadPoolExecutor(8) as threads:
        failed = [said for said in threads.map(judge, CASES) if said]
    print(*failed, f'{len(CASES)} cases, {len(failed)} failed', sep='\n')
    sys.exit(bool(failed))

if __name__ == '__main__':
    ADDRESS = (sys.argv[1], int(sys.argv[2]))
    main()
