"""W3C Trace Context: the `traceparent` of the request a thread works on, and what is sent on with its calls."""

import os
import re
import threading

_FORM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_here = threading.local()


def enter(traceparent=None, request_id=None):
    """Goes on with the caller's trace; anything unfit starts a new one."""
    if not (traceparent and _FORM.fullmatch(traceparent)):
        traceparent = f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"
    _here.parent = traceparent
    _here.request_id = request_id or os.urandom(8).hex()


def leave():
    _here.parent = None


def current():
    return getattr(_here, "parent", None)


def headers():
    """For an outgoing call: the same trace and request id, a new span."""
    if current() is None:
        enter()
    version, trace_id, _, flags = current().split("-")
    return {
        "traceparent": f"{version}-{trace_id}-{os.urandom(8).hex()}-{flags}",
        "x-request-id": _here.request_id,
    }
