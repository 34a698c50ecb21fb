"""rules: follows the historian's samples, finds faults, raises alarms, steers the machines.

State, alarms and the place read to are committed in one transaction of the historian; after a restart the rules go on
exactly where they were. Commands and notifications may be sent twice: both receivers know what they have."""

import json
import os
import threading

from common import trace
from common.call import Failed, call
from common.log import log
from common.web import App
from detector import Detector, control

PERIOD_SECONDS = 0.2
#: Commands are repeated, so that an actuator that was restarted knows them soon.
REPEAT_SECONDS = 2
BATCH_MAX = 500
NOTICES_MAX = 500

app = App()
shown = {"devices": []}


class Rules:
    def __init__(self, config, token):
        self.config = config
        self.token = token
        self.place = None
        self.detectors = {}
        self.powers = {}
        self.notices = []

    def load(self):
        kept = call("GET", "historian:8000/progress/rules")
        self.place = kept["place"]
        self.detectors, self.powers = {}, {}
        for device, entry in kept["state"].items():
            kind, boot = entry["kind"], entry["boot"]
            self.detectors[device] = Detector(device, kind, boot, self.config, entry["detector"])
            self.powers[device] = entry["power"]
        # Whoever stopped before may not have told everybody.
        self.notices = list(reversed(call("GET", "historian:8000/alarms?limit=100")))
        log("loaded", place=self.place, devices=sorted(self.detectors))

    def follow(self):
        """Reads on and commits. Returns whether there may be more."""
        samples = call("GET", f"historian:8000/samples?after={self.place}&limit={BATCH_MAX}")
        if not samples:
            return False
        alarms = {}
        for sample in samples:
            detector = self.detector(sample)
            if detector is not None:
                detector.accept(sample)
                for alarm in detector.take_alarms():
                    alarms[alarm["id"]] = alarm
        for device, detector in self.detectors.items():
            self.powers[device] = control(self.config, detector.kind, detector.s["estimate"], self.powers.get(device))
        place = samples[-1]["place"]
        commit = {"from": self.place, "place": place, "state": self.state(), "alarms": list(alarms.values())}
        call("PUT", "historian:8000/progress/rules", commit)
        self.place = place
        for alarm in alarms.values():
            if alarm["last"] is None or alarm["first"] == alarm["last"]:
                log("alarm", id=alarm["id"], detail=alarm["detail"])
        self.notices = (self.notices + list(alarms.values()))[-NOTICES_MAX:]
        self.show()
        return len(samples) == BATCH_MAX

    def detector(self, sample):
        """A device that started again is a new story; what is late of the old one is not waited for."""
        device, boot, kind = sample["device"], sample["boot"], sample["kind"]
        known = self.detectors.get(device)
        if known is None or boot > known.boot:
            if kind not in self.config["kinds"]:
                return None
            log("new boot", device=device, boot=boot)
            self.detectors[device] = Detector(device, kind, boot, self.config)
        elif boot < known.boot:
            return None
        return self.detectors[device]

    def state(self):
        return {
            device: {"kind": d.kind, "boot": d.boot, "detector": d.s, "power": self.powers[device]}
            for device, d in self.detectors.items()
        }

    def show(self):
        shown["devices"] = [
            {
                "device": device,
                "kind": d.kind,
                "boot": d.boot,
                "sequence": d.s["next_sequence"] - 1,
                "celsius_estimated": d.s["estimate"],
                "power_wanted": self.powers[device],
                "open": sorted(d.s["open"]),
            }
            for device, d in sorted(self.detectors.items())
        ]

    def notify(self):
        if self.notices:
            batch = self.notices[:100]
            call("POST", "notification:8000/alarms", batch)
            self.notices = self.notices[len(batch) :]

    def command(self):
        for device, power in self.powers.items():
            if power is not None:
                reason = f"estimated {self.detectors[device].s['estimate'] or 0:.1f} °C"
                body = {"power": power, "reason": reason}
                call("PUT", f"actuator:8000/devices/{device}", body, {"authorization": f"Bearer {self.token}"})


def work(rules):
    """Reads on in a steady beat; a service that is away delays its own part only."""
    commanded, beats = {}, 0
    troubled = {}

    def attempt(name, function):
        try:
            result = function()
        except Failed as error:
            if name not in troubled:
                log("waiting", for_=name, error=str(error))
            troubled[name] = error
            return error
        if troubled.pop(name, None):
            log("going on", with_=name)
        return result

    while not app.stopping.is_set():
        trace.enter()
        more = False
        if rules.place is None:
            attempt("historian", rules.load)
        if rules.place is not None:
            more = attempt("historian", rules.follow)
            if isinstance(more, Failed):
                if more.status == 409:
                    rules.place = None  # committed by another, or by this one without hearing of it: read it again
                more = False
            attempt("notification", rules.notify)
            beats += 1
            if commanded != rules.powers or beats * PERIOD_SECONDS >= REPEAT_SECONDS:
                if not isinstance(attempt("actuator", rules.command), Failed):
                    commanded, beats = dict(rules.powers), 0
        trace.leave()
        if not more:
            app.stopping.wait(PERIOD_SECONDS)


@app.route("GET", "/devices")
def devices(request):
    return shown["devices"]


if __name__ == "__main__":
    with open(os.environ.get("CONFIG", "/process.json")) as file:
        config = json.load(file)
    with open(os.environ.get("TOKEN_FILE", "/run/secrets/actuator-token")) as file:
        token = file.read().strip()
    threading.Thread(target=work, args=(Rules(config, token),), name="rules", daemon=True).start()
    app.run()
