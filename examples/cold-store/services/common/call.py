"""Calls to other services: HTTP/1.1 with JSON, short timeouts, connections kept per thread."""

import http.client
import json
import threading

from . import trace

TIMEOUT_SECONDS = 3
ANSWER_BYTES_MAX = 8 * 1024 * 1024
_kept = threading.local()


class Failed(Exception):
    """No usable answer. `status` is `None` when there was none at all."""

    def __init__(self, reason, status=None):
        super().__init__(reason)
        self.status = status


def call(method, url, body=None, headers=None):
    """`call("GET", "historian:8000/latest")`: the answer's JSON; anything but 2xx raises `Failed`."""
    host, _, path = url.partition("/")
    data = None if body is None else json.dumps(body).encode()
    fields = trace.headers() | {"content-type": "application/json"} | (headers or {})
    status, answer = _exchange(method, host, "/" + path, data, fields)
    if not 200 <= status < 300:
        raise Failed(f"{method} {url}: {status} {answer[:200].decode(errors='replace')}", status)
    try:
        return json.loads(answer) if answer else None
    except (ValueError, RecursionError):
        raise Failed(f"{method} {url}: the answer is not JSON", status) from None


def _exchange(method, host, path, data, fields):
    connections = _kept.__dict__.setdefault("connections", {})
    for fresh in (False, True):
        connection = None if fresh else connections.pop(host, None)
        used = connection is not None
        if not used:
            connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, data, fields)
            response = connection.getresponse()
            answer = response.read(ANSWER_BYTES_MAX + 1)
            if len(answer) > ANSWER_BYTES_MAX:
                raise http.client.HTTPException("the answer is too long")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            # A kept connection may have been closed by the other side meanwhile: once more on a new one. This is safe
            # for every call of this application: whoever receives one knows by its numbers what it has already.
            if used and not isinstance(error, TimeoutError):
                continue
            raise Failed(f"{method} {host}{path}: {type(error).__name__}: {error}") from None
        if response.will_close:
            connection.close()
        else:
            connections[host] = connection
        return response.status, answer
    raise Failed(f"{method} {host}{path}: no connection")
