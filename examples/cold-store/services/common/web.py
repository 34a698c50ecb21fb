"""An HTTP/1.1 server for small JSON services: routes by method and path, a thread per connection, everything bounded."""

import json
import os
import re
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from urllib.parse import parse_qsl, unquote, urlsplit

from . import trace
from .log import log

BODY_BYTES_MAX = 1024 * 1024
CONNECTIONS_MAX = 256
#: An idle connection is closed after this; longer than a proxy in front keeps one, so that the proxy closes first.
IDLE_SECONDS_MAX = 75
STOP_SECONDS_MAX = 2


class Problem(Exception):
    """Ends a request with this status."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class Request:
    def __init__(self, handler, path, query, body):
        self.handler = handler
        self.path = path
        self.query = query
        self.headers = handler.headers
        self.body = body

    def json(self):
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Problem(400, "the body is not JSON") from None

    def number(self, name, otherwise, least, most):
        """A whole number of the query, pulled into its bounds."""
        try:
            return max(least, min(most, int(self.query.get(name, otherwise))))
        except ValueError:
            raise Problem(400, f"{name} is not a whole number") from None


class Answer:
    """What a route returns when it is not simply something to be sent as JSON with status 200."""

    def __init__(self, body=b"", status=200, content_type="application/json", headers=None):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.content_type = content_type
        self.headers = headers or {}


class Stream:
    """A route returns this to send pieces as they come: `pieces` is an iterable of bytes."""

    def __init__(self, pieces, content_type):
        self.pieces = pieces
        self.content_type = content_type


class App:
    def __init__(self):
        self.routes = []
        self.stopping = threading.Event()
        self.route("GET", "/health")(lambda _: Answer(b"ok\n", content_type="text/plain"))

    def route(self, method, path):
        """`/alarms/{id}`: one argument per part in braces."""
        pattern = re.compile(re.sub(r"\{\w+\}", "([^/]+)", path))

        def add(function):
            self.routes.append((method, pattern, function))
            return function

        return add

    def answer(self, method, request):
        known = False
        for route_method, pattern, function in self.routes:
            if match := pattern.fullmatch(request.path):
                known = True
                if method == route_method or (method == "HEAD" and route_method == "GET"):
                    result = function(request, *map(unquote, match.groups()))
                    return result if isinstance(result, (Answer, Stream)) else Answer(result)
        raise Problem(405 if known else 404, "no such method here" if known else "no such path")

    def run(self):
        """Serves on `LISTEN` (`0.0.0.0:8000`, `[::]:8000`, or both with a comma) until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        addresses = os.environ.get("LISTEN", "0.0.0.0:8000").split(",")
        servers = [_Server(self, address.strip(), only_v6=len(addresses) > 1) for address in addresses]
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        log("listening", listen=addresses)
        self.stopping.wait()
        for server in servers:
            server.shutdown()
            server.server_close()
        for server in servers:
            server.finish()
        log("stopped")


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, app, address, only_v6):
        self.app = app
        self.slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self.busy = 0
        self.idle = threading.Condition()
        host, _, port = address.rpartition(":")
        self.address_family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        self.only_v6 = only_v6
        super().__init__((host.strip("[]"), int(port)), _Handler)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self.only_v6))
        super().server_bind()

    def process_request(self, request, client_address):
        if not self.slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request, client_address):
        pass  # a connection that broke; what a route got wrong was logged where it happened

    def finish(self):
        """Waits a little for the requests that are under way."""
        with self.idle:
            self.idle.wait_for(lambda: self.busy == 0, STOP_SECONDS_MAX)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS_MAX

    def handle_method(self):
        server = self.server
        with server.idle:
            server.busy += 1
        trace.enter(self.headers.get("traceparent"), self.headers.get("x-request-id"))
        try:
            self.respond()
        finally:
            trace.leave()
            with server.idle:
                server.busy -= 1
                server.idle.notify_all()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_method

    def respond(self):
        try:
            body = self.read_body()
            parts = urlsplit(self.path)
            request = Request(self, parts.path, dict(parse_qsl(parts.query, max_num_fields=32)), body)
            answer = self.server.app.answer(self.command, request)
        except Problem as problem:
            answer = Answer({"error": str(problem)}, problem.status)
        except (ValueError, OverflowError) as error:
            answer = Answer({"error": str(error)}, 400)
        except Exception as error:  # a mistake of ours must not end the service
            log("failed", path=self.path, error=f"{type(error).__name__}: {error}")
            answer = Answer({"error": "internal error"}, 500)
        if isinstance(answer, Stream):
            self.send_pieces(answer)
        else:
            self.send_whole(answer)

    def read_body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self.read_chunks()
        length = self.headers.get("content-length", "0")
        if not length.isdigit():
            self.close_connection = True
            raise Problem(400, "content-length is not a number")
        if int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            raise Problem(413, f"a body has at most {BODY_BYTES_MAX} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise Problem(400, "the body ended early")
        return body

    def read_chunks(self):
        self.close_connection = True  # until all of it was understood
        body = bytearray()
        while True:
            try:
                size = int(self.rfile.readline(64).split(b";")[0], 16)
            except ValueError:
                raise Problem(400, "a chunk has no size") from None
            if size < 0 or len(body) + size > BODY_BYTES_MAX:
                raise Problem(413, f"a body has at most {BODY_BYTES_MAX} bytes")
            if size == 0:
                break
            body += self.rfile.read(size)
            if self.rfile.readline(8) != b"\r\n":
                raise Problem(400, "a chunk is not as long as it says")
        for _ in range(32):
            if self.rfile.readline(8192) in (b"\r\n", b""):
                self.close_connection = self.headers.get("connection", "").lower() == "close"
                return bytes(body)
        raise Problem(400, "too many trailers")

    def head(self, status, content_type, fields):
        if self.server.app.stopping.is_set():
            self.close_connection = True
        if self.close_connection:
            fields = fields | {"connection": "close"}
        phrase = self.responses.get(status, ("",))[0]
        lines = [f"HTTP/1.1 {status} {phrase}", f"content-type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def send_whole(self, answer):
        head = self.head(answer.status, answer.content_type, answer.headers | {"content-length": len(answer.body)})
        # One write: head and body in one segment.
        self.wfile.write(head if self.command == "HEAD" else head + answer.body)

    def send_pieces(self, stream):
        self.close_connection = True
        fields = {"transfer-encoding": "chunked", "cache-control": "no-store"}
        self.wfile.write(self.head(200, stream.content_type, fields))
        try:
            for piece in stream.pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the reader went away
        finally:
            if hasattr(stream.pieces, "close"):
                stream.pieces.close()

    def send_error(self, code, message=None, explain=None):
        """What the base class refuses by itself: heads that are none."""
        self.close_connection = True
        self.command = self.command or "GET"
        self.send_whole(Answer({"error": message or self.responses.get(code, ("error",))[0]}, code))

    def log_message(self, *_):
        pass
