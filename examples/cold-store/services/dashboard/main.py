"""dashboard, the twin of `main.mjs` in Python: one API for the office, composed from historian, rules, notification and,
for the comparison of alarms with the truth, the devices. Stateless."""

import os
import sys
from urllib.parse import quote

sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common.call import Failed, call  # noqa: E402
from common.log import log  # noqa: E402
from common.web import App, Problem  # noqa: E402

DEVICES = os.environ.get("DEVICES", "freezer-1,freezer-2,conveyor").split(",")
ALARMS_MAX = 10_000

app = App()


def fetch(method, url):
    try:
        return call(method, url)
    except Failed as error:
        raise Problem(404 if error.status == 404 else 502, str(error)) from None


@app.route("GET", "/api/overview")
def overview(request):
    points = request.number("points", 1, 1, 300)
    missing = []

    def part(name, otherwise, url):
        try:
            return call("GET", url)
        except Failed as error:
            missing.append(name)
            log("missing", part=name, error=str(error))
            return otherwise

    latest = part("historian", {}, f"historian:8000/latest?points={points}")
    judged = part("rules", [], "rules:8000/devices")
    counts = part("alarms", [], "historian:8000/alarms/counts")
    notices = part("notification", [], "notification:8000/notices?limit=30")
    devices = []
    for device in judged:
        samples = latest.get(device["device"], [])
        newest = samples[-1] if samples else {}
        seen = {name: newest[name] for name in ("celsius", "power", "door", "load", "at_unix_ms") if name in newest}
        series = [[s["sequence"], s["celsius"]] for s in samples if s["boot"] == device["boot"]]
        devices.append(device | seen | {"series": series})
    return {"devices": devices, "counts": counts, "notices": notices, "missing": missing}


@app.route("GET", "/api/truth")
def truth(request):
    return {"devices": [fetch("GET", f"{device}:8000/labels") for device in DEVICES]}


@app.route("GET", "/api/alarms")
def alarms(request):
    limit = request.number("limit", ALARMS_MAX, 1, ALARMS_MAX)
    return {"alarms": fetch("GET", f"historian:8000/alarms?limit={limit}")}


@app.route("POST", "/api/notices/{id}/take")
def take(request, id):
    return fetch("POST", f"notification:8000/notices/{quote(id, safe='')}/take")


if __name__ == "__main__":
    app.run()
