"""ingest: validates and normalises what the adapter brings, and hands it to the historian. Stateless: any number of
replicas. Telemetry is answered only after the historian has it."""

from common.call import Failed, call
from common.log import log
from common.web import App, Problem
from normalise import normalise

MESSAGES_MAX = 500

app = App()


@app.route("POST", "/telemetry")
def telemetry(request):
    messages = request.json()
    if not isinstance(messages, list) or len(messages) > MESSAGES_MAX:
        raise Problem(400, f"telemetry is a list of at most {MESSAGES_MAX} messages")
    samples, rejected = [], []
    for index, message in enumerate(messages):
        try:
            samples.append(normalise(message))
        except ValueError as error:
            rejected.append({"index": index, "reason": str(error)})
    if rejected:
        log("rejected", count=len(rejected), first=rejected[0])
    stored = {"stored": 0, "known": 0}
    if samples:
        try:
            stored = call("POST", "historian:8000/samples", samples)
        except Failed as error:
            raise Problem(503, str(error)) from None
    return stored | {"rejected": rejected}


if __name__ == "__main__":
    app.run()
