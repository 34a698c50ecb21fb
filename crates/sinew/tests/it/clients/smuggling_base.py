"""What the cases of smuggling.py are made of."""
import json, os, re, socket, sys, time

import http2_rules as h2

WORLD, TAG, ADDRESS, SPLIT = sys.argv[1], sys.argv[2], (sys.argv[3], int(sys.argv[4])), len(sys.argv) > 5
h2.ADDRESS = ADDRESS
PATIENCE = 20
MARK = b'TTTTTTTT'
SMUGGLED = b'GET /TTTTTTTT/smuggled HTTP/1.1\r\nHost: one\r\n\r\n'
CHUNKED = b'Transfer-Encoding: chunked\r\n'
CASES = []

class Cut(Exception):
    pass

# ---- a client of HTTP/1.1 ----------------------------------------------------------------------------------------------
class Client:
    def __init__(self):
        self.socket = socket.create_connection(ADDRESS, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input, self.ended = b'', False

    def send(self, data):
        pieces = [data[at:at + 1] for at in range(len(data))] if SPLIT and len(data) < 2000 else [data]
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except OSError:
            pass  # refused before all was written

    def more(self):
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise AssertionError(f'nothing more came: {self.input[:300]!r}')
        except ConnectionError:
            data = b''
        if not data:
            self.ended = True
            raise Cut
        self.input += data

    def line(self):
        while b'\r\n' not in self.input:
            self.more()
        line, self.input = self.input.split(b'\r\n', 1)
        return line

    def take(self, count):
        while len(self.input) < count:
            self.more()
        taken, self.input = self.input[:count], self.input[count:]
        return taken

    def answer(self, is_head=False):
        """(status, fields, body) of the next final answer; strict."""
        while True:
            start = self.line()
            status = re.fullmatch(rb'HTTP/1\.1 (\d{3}) [\t\x20-\x7e\x80-\xff]*', start)
            assert status, f'no status line: {start!r}'
            status, fields = int(status[1]), []
            while line := self.line():
                name, colon, value = line.partition(b':')
                assert colon and re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), f'no field: {line!r}'
                fields.append((name.lower(), value.strip(b' \t')))
            if status >= 200 or status == 101:
                break
        lengths = [value for name, value in fields if name == b'content-length']
        codings = [value for name, value in fields if name == b'transfer-encoding']
        assert len(lengths) + len(codings) <= 1, f'framed twice: {fields}'
        if is_head or status in (101, 204, 304):
            return status, fields, b''
        if codings:
            body = b''
            while size := int(self.line(), 16):
                body += self.take(size)
                assert self.line() == b'', 'a chunk that is longer than it says'
            while self.line():
                pass
            return status, fields, body
        if lengths:
            return status, fields, self.take(int(lengths[0]))
        try:
            while True:
                self.more()
        except Cut:
            body, self.input = self.input, b''
            return status, fields, body

    def closed(self):
        """Nothing more comes but the end."""
        try:
            while not self.input:
                self.more()
        except Cut:
            return
        raise AssertionError(f'more than was due: {self.input[:200]!r}')

def text_of(request, path):
    method, target, body = request
    return method + b' ' + path + target + b' %d' % len(body)

def other_client(path):
    """A request of somebody else, over HTTP/1.1 in every world."""
    client = Client()
    client.socket.sendall(b'GET ' + path + b'other HTTP/1.1\r\nHost: one\r\nConnection: close\r\n\r\n')
    try:
        status, _, body = client.answer()
    except Cut:
        raise AssertionError(f'another client was cut: {client.input!r}')
    assert (status, body) == (200, b'GET ' + path + b'other 0'), f'another client got {status} {body!r}'

class Case:
    """`refused`: statuses one of which is the only answer, then the end; `served`: (method, target, body) of what is answered."""
    def __init__(self, name, sent, refused=(), served=(), lives=None, maybe=(), check=None, half=False):
        self.name, self.refused, self.served, self.lives = name, refused, list(served), lives
        self.sent = [sent] if isinstance(sent, bytes) else sent
        self.maybe, self.check, self.half = set(maybe), check, half
        CASES.append(self)

    def run(self, path):
        client = Client()
        for at, piece in enumerate(self.sent):
            if at:
                other_client(path)  # meanwhile
            client.send(piece.replace(MARK, path[1:-1]))
        if self.half:
            client.socket.shutdown(socket.SHUT_WR)
        for request in self.served:
            try:
                status, fields, body = client.answer(request[0] == b'HEAD')
            except Cut:
                raise AssertionError(f'cut before the answer to {request}: {client.input!r}')
            due = b'' if request[0] == b'HEAD' else text_of(request, path)
            assert (status, body) == (200, due), f'{status} {body!r} where {due!r} is due'
        if self.refused:
            try:
                status, fields, _ = client.answer()
            except Cut:
                raise AssertionError(f'closed without an answer: {client.input!r}')
            assert status in self.refused, f'{status} where {self.refused} is due'
            assert (b'connection', b'close') in fields, f'{status} without `connection: close`'
            client.closed()
        elif self.lives:
            client.send(b'GET ' + path + b'after HTTP/1.1\r\nHost: one\r\n\r\n')
            try:
                status, _, body = client.answer()
            except Cut:
                raise AssertionError('the connection did not live on')
            assert (status, body) == (200, b'GET ' + path + b'after 0'), f'after: {status} {body!r}'
        elif self.lives is False:
            client.closed()
        elif self.half:
            try:
                while True:
                    client.more()
            except Cut:
                assert b'smuggled' not in client.input, client.input
        client.socket.close()

    def judge(self, path, got):
        """`got`: what the application has of this case."""
        due = list(self.served) + [(b'GET', b'after', b'')] * bool(self.lives)
        due = sorted((method.decode(), (path + target).decode(), body.replace(MARK, path[1:-1]).decode('latin-1')) for method, target,
            body in due)
        mine = [each for each in got if not each['target'].endswith('/other')]
        whole = sorted((each['method'], each['target'], each['body']) for each in mine if each['whole'])
        maybe = {(path + target).decode() for target in self.maybe}
        whole = [each for each in whole if each[1] not in maybe]
        assert whole == due, f'the application got {whole} where {due} is due'
        assert not any('/smuggled' in each['target'] for each in mine), f'smuggled: {mine}'
        for each in mine:
            assert 'smuggled' not in str(each['fields']), f'smuggled in fields: {each}'
            if self.check:
                self.check(each, dict(each['fields']))

def request(fields=b'', body=b'', method=b'POST', target=b'x', version=b'HTTP/1.1', host=b'Host: one\r\n'):
    return method + b' /TTTTTTTT/' + target + b' ' + version + b'\r\n' + host + fields + b'\r\n' + body

def refused(name, sent, *statuses, **more):
    Case(name, sent, refused=statuses or (400,), **more)

def served(name, sent, *requests, lives=True, **more):
    Case(name, sent, served=requests or [(b'POST', b'x', b'')], lives=lives, **more)

def length_of(body):
    return b'Content-Length: %d\r\n' % len(body)

X = lambda body=b'', method=b'POST', target=b'x': (method, target, body)
SECOND = request(method=b'GET', target=b'second')
GOT_SECOND = X(b'', b'GET', b'second')
LATER = b'0\r\n\r\n' + SMUGGLED
