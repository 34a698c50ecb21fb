"""adapter: MQTT in, HTTP out. A message is acknowledged to the broker only after the ingest took it; so a crash anywhere
repeats messages and loses none. What a crash of the broker itself lost shows as a gap in the message numbers and is
fetched from the device, which keeps its last messages."""

import json
import os
import threading
import time

from common import trace
from common.call import Failed, call
from common.log import log
from common.web import App
from mqtt import Disconnected, Subscriber

#: A short wait makes one request of what arrives together.
GATHER_SECONDS = 0.05
RETRY_SECONDS = 0.1
BATCH_MAX = 100
BACKFILL_MAX = 200

app = App()
counts = {"received": 0, "forwarded": 0, "rejected": 0, "fetched": 0, "connected": False}


@app.route("GET", "/counts")
def counts_now(request):
    return counts


class Gaps:
    """Which message of each (device, boot) comes next."""

    def __init__(self):
        self.expected = {}

    def filled(self, message):
        """The message, with those before it that are missing."""
        try:
            device, boot, number = message["device"], message["boot"], int(message["message"])
        except (TypeError, KeyError, ValueError):
            return [message]  # the ingest says what is wrong with it
        expected = self.expected.get((device, boot))
        if expected is None:
            expected = until_done(lambda: call("GET", f"historian:8000/received/{device}/{boot}"))["complete_to"] + 1
        missing = self.fetch(device, boot, expected, number - 1) if number > expected else []
        self.expected = {key: value for key, value in self.expected.items() if key[0] != device}
        self.expected[device, boot] = max(expected, number + 1)
        return [*missing, message]

    def fetch(self, device, boot, first, last):
        found = []
        while first <= last and not app.stopping.is_set():
            to = min(last, first + BACKFILL_MAX - 1)
            try:
                found += call("GET", f"{device}:8000/messages?boot={boot}&from={first}&to={to}")
            except Failed as error:
                log("not fetched", device=device, first=first, last=last, error=str(error))
                break
            first = to + 1
        counts["fetched"] += len(found)
        log("fetched", device=device, count=len(found))
        return found


def until_done(attempt):
    """Everything here may be done twice: it is repeated until it works."""
    failed = False
    while True:
        try:
            return attempt()
        except Failed as error:
            if error.status is not None and 400 <= error.status < 500 and error.status not in (408, 429):
                raise
            if not failed:
                log("waiting", error=str(error))
            failed = True
            if app.stopping.wait(RETRY_SECONDS):
                raise


def forward(messages):
    for start in range(0, len(messages), BATCH_MAX):
        batch = messages[start : start + BATCH_MAX]
        try:
            answer = until_done(lambda: call("POST", "ingest:8000/telemetry", batch))
            counts["forwarded"] += len(batch)
            counts["rejected"] += len(answer["rejected"])
        except Failed as error:
            if app.stopping.is_set():
                raise
            counts["rejected"] += len(batch)
            log("rejected", count=len(batch), error=str(error))


def decode(payload):
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def relay(subscriber, gaps):
    while not app.stopping.is_set():
        arrived = subscriber.messages(0.5)
        if not arrived:
            continue
        end = time.monotonic() + GATHER_SECONDS
        while len(arrived) < BATCH_MAX and (left := end - time.monotonic()) > 0:
            arrived += subscriber.messages(left)
        counts["received"] += len(arrived)
        messages = [decode(payload) for _, payload in arrived]
        first = next((m for m in messages if isinstance(m, dict)), {})
        trace.enter(str(first.get("traceparent", "")))
        forward([sent for message in messages for sent in gaps.filled(message)])
        subscriber.acknowledge([packet_id for packet_id, _ in arrived])
        trace.leave()


def work():
    host, _, port = os.environ.get("BROKER", "broker:8000").rpartition(":")
    gaps = Gaps()
    while not app.stopping.is_set():
        subscriber = None
        try:
            subscriber = Subscriber(host, int(port), "adapter", "telemetry/+")
            counts["connected"] = True
            log("connected", to=host)
            relay(subscriber, gaps)
        except Disconnected as error:
            if counts["connected"]:
                log("disconnected", error=str(error))
        except Failed:
            pass  # asked to stop while waiting; what was not acknowledged comes again
        finally:
            counts["connected"] = False
            if subscriber:
                subscriber.close()
        app.stopping.wait(RETRY_SECONDS)


if __name__ == "__main__":
    threading.Thread(target=work, name="relay", daemon=True).start()
    app.run()
