"""One line of JSON per notable event, on standard output."""

import json
import sys
import threading
import time

from . import trace

_lock = threading.Lock()


def log(event, **fields):
    line = {"at_unix_ms": int(time.time() * 1000), "event": event}
    if (current := trace.current()) is not None:
        line["trace_id"] = current.split("-")[1]
    text = json.dumps(line | fields, default=str) + "\n"
    with _lock:
        sys.stdout.write(text)
        sys.stdout.flush()
