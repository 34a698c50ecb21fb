"""Cases of clients of HTTP/2."""
from smuggling_base import *
from smuggling_http1 import BAD_ANSWERS, CUT_ANSWERS, EXTRA_ANSWERS, GOOD_ANSWERS, no_trailer, value_of

# ---- a client of HTTP/2 ------------------------------------------------------------------------------------------------------
class Case2(Case):
    """`fields` and the rest are sent on stream 1. `served`: what is answered; else it is malformed, and nothing of it is a request."""
    def __init__(self, name, fields, body=(), trailers=None, served=None, either=None, check=None, pause=False):
        self.pause = pause
        super().__init__(name, b'', served=[served] if served else [], lives=True, check=check, maybe=[either] if either else ())
        self.fields, self.body, self.trailers, self.either = fields, [body] if isinstance(body, bytes) else body, trailers, either

    def run(self, path):
        own = lambda text: text.replace(MARK, path[1:-1])
        block = lambda fields: b''.join(h2.field(own(name), own(value)) for name, value in fields)
        client = h2.Client()
        is_last = not self.body and self.trailers is None
        frames = [h2.frame(h2.HEADERS, h2.END_HEADERS | (h2.END_STREAM if is_last else 0), 1, block(self.fields))]
        for at, piece in enumerate(self.body):
            end = self.trailers is None and at == len(self.body) - 1
            frames.append(h2.frame(h2.DATA, h2.END_STREAM if end else 0, 1, own(piece)))
        if self.trailers is not None:
            frames.append(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, block(self.trailers)))
        if self.pause:
            for piece in frames:
                client.send(piece)
                other_client(path)  # meanwhile
        else:
            client.send(*frames)
        if self.served:
            is_ok, body = answer2(client, 1)
            due = b'' if self.served[0][0] == b'HEAD' else text_of(self.served[0], path)
            assert is_ok and body == due, f'{body!r} where {due!r} is due'
        elif self.either:
            is_ok, is_whole, _ = end2(client, 1)
            assert self.either != b'nothing' or not is_ok, 'served'
        else:
            try:
                client.malformed()
            except h2.Closed:
                raise AssertionError('closed without a word')
        client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 3, h2.block(h2.request(path=path + b'after', authority='one'))))
        is_ok, body = answer2(client, 3)
        assert is_ok and body == b'GET ' + path + b'after 0', f'after: {body!r}'
        client.socket.close()

def answer2(client, stream):
    frames = client.answered(stream)
    return any(kind == h2.HEADERS and h2.is_ok(payload) for kind, _, payload in frames), b''.join(payload for kind, _,
        payload in frames if kind == h2.DATA)

def end2(client, stream):
    """However it ends: (is 200, is whole, body)."""
    frames = []
    while True:
        kind, flags, at, payload = client.next()
        assert kind != h2.GOAWAY, f'GOAWAY {payload!r}'
        if at == stream and kind in (h2.HEADERS, h2.DATA, h2.RST):
            frames.append((kind, payload))
            if kind == h2.RST or flags & h2.END_STREAM:
                is_whole = kind != h2.RST or payload == bytes(4)
                return any(k == h2.HEADERS and h2.is_ok(p) for k, p in frames), is_whole, b''.join(p for k, p in frames if k == h2.DATA)

class Answer2(Case):
    def __init__(self, kind, due):
        super().__init__(f'h2 answer {kind}', b'', maybe=[b'answer.' + kind.encode()], lives=True)
        self.kind, self.due = kind.encode(), due

    def run(self, path):
        client = h2.Client()
        get = lambda stream, target: client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream,
            h2.block(h2.request(path=path + target, authority='one'))))
        get(1, b'answer.' + self.kind)
        is_ok, is_whole, body = end2(client, 1)
        assert b'poisoned' not in body, body
        if self.due == 'good':
            assert is_ok and is_whole and body == b'ok', f'{is_ok} {is_whole} {body!r}'
        elif self.due != 'any':
            assert not (is_ok and is_whole), f'served: {body!r}'
        get(3, b'after')
        is_ok, body = answer2(client, 3)
        assert is_ok and body == b'GET ' + path + b'after 0', f'after: {body!r}'
        client.socket.close()

def head2(method=b'GET', path=b'/TTTTTTTT/x', *more, scheme=b'http', authority=b'one'):
    return [(b':method', method), (b':scheme', scheme), (b':path', path), (b':authority', authority), *more]

def malformed2(name, fields, body=(), trailers=None):
    Case2(name, fields, body, trailers)

def served2(name, fields, body=(), trailers=None, got=None, **more):
    Case2(name, fields, body, trailers, served=got or X(b''.join([body] if isinstance(body, bytes) else body), fields[0][1]), **more)

if WORLD == 'h2':
    CASES.clear()
    post = lambda *more: head2(b'POST', b'/TTTTTTTT/x', *more)
    for value in (
            b'0', b'5', b'45', b'47', b'+46', b'-46', b'46,46', b'46, 0', b'0x2e', b'', b'46x', b'4_6', b'9223372036854775808',
            b'18446744073709551662', b'99999999999999999999', b'46\r\n', b'4\x006', b' 46', b'46 '):
        malformed2(f'H2.CL: {value!r}', post((b'content-length', value)), SMUGGLED)
    malformed2('H2.CL: twice', post((b'content-length', b'46'), (b'content-length', b'46')), SMUGGLED)
    malformed2('H2.CL: differing', post((b'content-length', b'0'), (b'content-length', b'46')), SMUGGLED)
    malformed2('H2.CL: no DATA', post((b'content-length', b'46')))
    malformed2('H2.CL: DATA in pieces, too much', post((b'content-length', b'40')), [SMUGGLED[:20], SMUGGLED[20:]])
    malformed2('H2.CL: too little, then trailers', post((b'content-length', b'50')), SMUGGLED, [(b'x-sum', b'1')])
    malformed2('H2.CL of GET', head2(b'GET', b'/TTTTTTTT/x', (b'content-length', b'0')), SMUGGLED)
    served2('H2.CL that is right', post((b'content-length', b'46')), SMUGGLED)
    served2('H2.CL with zeros', post((b'content-length', b'0046')), SMUGGLED)
    served2('no length', post(), [SMUGGLED[:4], SMUGGLED[4:]])
    served2('no length in GET', head2(), SMUGGLED)
    served2('HEAD with a body', head2(b'HEAD'), SMUGGLED)
    served2('DATA that ends a body of chunks', post(), LATER)
    for value in (b'chunked', b'identity', b'Chunked', b'chunked, identity', b'', b'xchunked', b'chunked\r\nx: y'):
        malformed2(f'H2.TE: {value!r}', post((b'transfer-encoding', value)), LATER)
        malformed2(f'H2.TE with a length: {value!r}', post((b'content-length', b'51'), (b'transfer-encoding', value)), LATER)
    for name in (
            b'Transfer-Encoding', b'TRANSFER-ENCODING', b'transfer-encoding ', b' transfer-encoding', b'transfer-encoding:',
            b'transfer-encoding\x00', b'transfer-encoding\t', b'transfer encoding', b'Content-Length', b'content-length ', b'X', b'',
            b'x:y', b':x', b'x y', b'x\r\ntransfer-encoding', b'x: y\r\ntransfer-encoding', b'x\ntransfer-encoding', b'x\r', b'x\0',
            b'x\x7f', b'x\xe9', b'x(', b'x/', b'x"', b'x\r\n\r\nGET /TTTTTTTT/smuggled HTTP/1.1\r\nhost', b'transfer_encoding',
            b'content_length'):
        malformed2(f'name {name!r}', post((name, b'chunked')), LATER)
    for name in (b'connection', b'keep-alive', b'proxy-connection', b'upgrade', b'http2-settings'):
        malformed2(f'{name!r}', head2(b'GET', b'/TTTTTTTT/x', (name, b'transfer-encoding')))
    for value in (b'chunked', b'trailers, chunked', b'gzip', b''):
        malformed2(f'te: {value!r}', head2(b'GET', b'/TTTTTTTT/x', (b'te', value)))
    served2('te: trailers', head2(b'GET', b'/TTTTTTTT/x', (b'te', b'trailers')))
    for value in (
            b'a\r\ntransfer-encoding: chunked', b'a\r\n\r\n' + SMUGGLED, b'a\ntransfer-encoding: chunked',
            b'a\rtransfer-encoding: chunked', b'a\n\n' + SMUGGLED, b'a\0b', b'\r', b'\n', b' a', b'a ', b'\ta', b'a\x01', b'a\x7f',
            b'a\r\n b', b'a\x1f', b'a\x0b', b'\r\n'):
        for name in (
                b'x-any', b'user-agent', b'cookie', b'host', b'content-type', b'referer', b'traceparent', b'x-request-id', b'expect'):
            malformed2(f'{name!r}: {value[:24]!r}', post((name, value)), LATER)
    for method in (
            b'', b'GET ', b' GET', b'G T', b'GET /TTTTTTTT/smuggled HTTP/1.1\r\nhost: one\r\n\r\nGET', b'GET\r\n', b'GET\n', b'G\0T',
            b'GET\t', b'G:T', b'G\xe9T', b'GET /TTTTTTTT/smuggled', b'(GET)'):
        malformed2(f':method {method[:24]!r}', head2(method))
    for path in (
            b'', b'TTTTTTTT/x', b'*', b'?x', b'http://one/TTTTTTTT/x', b'@evil/', b':80/', b'\\',
            b'/TTTTTTTT/x HTTP/1.1\r\nhost: one\r\n\r\nGET /TTTTTTTT/smuggled', b'/TTTTTTTT/smuggled HTTP/1.1\r\nx:', b'/TTTTTTTT/x y',
            b'/TTTTTTTT/x\t', b'/TTTTTTTT/x\r', b'/TTTTTTTT/x\n', b'/TTTTTTTT/\0', b'/TTTTTTTT/x#y', b'/TTTTTTTT/\xff',
            b'/TTTTTTTT/\x7f', b' /TTTTTTTT/x', b'/TTTTTTTT/x HTTP/1.1', b'/TTTTTTTT/x HTTP/1.0', b'\r\n\r\n' + SMUGGLED):
        malformed2(f':path {path[:40]!r}', head2(b'GET', path))
    for authority in (
            b'one\r\nx: y', b'one\r\n\r\n' + SMUGGLED, b'one\n', b'one\0', b'one evil', b'one,evil', b'one/x', b'one?x', b'one#x',
            b'evil@one', b'one:80:80', b'one:x', b' one', b'one ', b'one\xe9', b'[one', b'one\\', b'one:123456', b'one\t',
            b'/TTTTTTTT/smuggled'):
        malformed2(f':authority {authority[:24]!r}', head2(authority=authority))
        malformed2(f'host {authority[:24]!r}', head2()[:3] + [(b'host', authority)])
    for scheme in (
            b'', b'http\r\nx: y', b'http ', b'http://one/TTTTTTTT/smuggled?', b'ht\0tp', b'http\n',
            b'GET /TTTTTTTT/smuggled HTTP/1.1\r\n', b'ht/tp', b'1http', b'http:', b'\xe9'):
        malformed2(f':scheme {scheme[:32]!r}', head2(scheme=scheme))
    malformed2(':authority and host differ', head2(b'GET', b'/TTTTTTTT/x', (b'host', b'evil')))
    malformed2(':authority and two hosts', head2(b'GET', b'/TTTTTTTT/x', (b'host', b'one'), (b'host', b'one')))
    malformed2('two hosts', head2()[:3] + [(b'host', b'one'), (b'host', b'evil')])
    served2(':authority and the same host', head2(b'GET', b'/TTTTTTTT/x', (b'host', b'one')))
    served2('host alone', head2()[:3] + [(b'host', b'one')])
    for name, value in [
            (b':method', b'POST'), (b':path', b'/TTTTTTTT/smuggled'), (b':authority', b'one'), (b':scheme', b'https'),
            (b':status', b'200'), (b':protocol', b'websocket'), (b':host', b'one'), (b':', b'x')]:
        malformed2(f'{name!r} more than due', head2() + [(name, value)])
        malformed2(f'{name!r} behind fields', head2(b'GET', b'/TTTTTTTT/x', (b'x', b'y')) + [(name, value)])
    for at, name in enumerate(['method', 'scheme', 'path']):
        malformed2(f'no :{name}', head2()[:at] + head2()[at + 1:])
    for fields in (
            [(b':method', b'GET')], [(b':path', b'/TTTTTTTT/smuggled')], [(b'connection', b'close')],
            [(b'transfer-encoding', b'chunked')], [(b'x\r\n', b'y')], [(b'x', b'y\r\n\r\n' + SMUGGLED)], [(b'X', b'y')],
            [(b'x y', b'z')], [(b'x:', b'z')], [(b'', b'')], [(b'x', b'\0')]):
        malformed2(f'trailers {fields!r:.60}', post(), SMUGGLED, fields)
    for name in (b'content-length', b'host', b'authorization', b'cookie', b'content-type', b'trailer', b'expect'):
        served2(f'trailer {name!r}', post(), SMUGGLED, [(name, b'46'), (b'x-sum', b'1')], check=no_trailer(name.decode()))
    served2('cookies in crumbs', head2(b'GET', b'/TTTTTTTT/x', (b'cookie', b'a=1'), (b'cookie', b'b=2')), check=value_of('cookie',
        'a=1; b=2'))
    served2('Expect', post((b'expect', b'100-continue')), SMUGGLED)
    served2('Expect and a length', post((b'expect', b'100-continue'), (b'content-length', b'46')), SMUGGLED)
    for value in (b'x', b'100-continue, x', b''):
        malformed2(f'Expect: {value!r}', post((b'expect', value)), SMUGGLED)
    malformed2('two Expect', post((b'expect', b'x'), (b'expect', b'100-continue')), SMUGGLED)
    served2('a method in lower case', head2(b'get'))
    served2('a target of odd letters', head2(b'GET', b'/TTTTTTTT/x;/%0d%0aHost:%20evil?a=b&c|"<>\\^`{}'), got=X(b'', b'GET',
        b'x;/%0d%0aHost:%20evil?a=b&c|"<>\\^`{}'))
    served2('a scheme of others', head2(scheme=b'https'))
    served2('pauses in the body', post(), [SMUGGLED, SMUGGLED, b''], pause=True)
    served2('pauses in a body of a length', post((b'content-length', b'92')), [SMUGGLED, SMUGGLED, b''], pause=True)
    served2('a pause before trailers', post(), SMUGGLED, [(b'x-sum', b'1')], pause=True)
    # It may be answered when the length is reached, but what comes behind is nothing.
    Case2('H2.CL: too much after a pause', post((b'content-length', b'0')), [SMUGGLED], either=b'x', pause=True)
    Case2('answered before its body', head2(b'POST', b'/TTTTTTTT/early'), [SMUGGLED, SMUGGLED], either=b'early')
    Case2('CONNECT', [(b':method', b'CONNECT'), (b':authority', b'one:80')], [SMUGGLED], either=b'nothing')
    for kind in BAD_ANSWERS:
        Answer2(kind, 'bad')
    for kind in EXTRA_ANSWERS:
        # When they are seen its head may be on its way.
        Answer2(kind, 'any')
    for kind in CUT_ANSWERS:
        Answer2(kind, 'cut')
    for kind in GOOD_ANSWERS:
        Answer2(kind, 'good')
