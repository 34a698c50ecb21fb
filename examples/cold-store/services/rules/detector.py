"""Finds the faults of one device in its telemetry. No I/O, no clock, no knowledge of what the device knows about itself:
the same samples give the same alarms, so a detector that starts again from its kept state goes on exactly.

A sample passes three stages:
1. `accept`: by message number. What the transport repeated is dropped, what it reordered is put right, what it lost is
   an alarm of its own (`lost`), never mistaken for a fault of the sensor.
2. `_arrive`: by sequence number, in the order in which the device sent. Duplicates, late samples and missing ones.
3. `_value`: in the order of measurement. The clock, and the reading against a model of the machine.
"""

HELD_MESSAGES_MAX = 64
SEEN_SAMPLES_MAX = 64


class Detector:
    def __init__(self, device, kind, boot, config, state=None):
        self.device = device
        self.kind = kind
        self.boot = boot
        self.model = config["kinds"][kind]["model"]
        self.alarm_above = config["kinds"][kind]["alarm_above_celsius"]
        self.limits = config["detect"]
        self.period_ms = config["period_ms"]
        self.alarms = []  # new and changed ones, until `take_alarms`
        self.s = state or {
            "next_message": 1,
            "held": {},
            "next_sequence": 0,
            "waiting": {},
            "waited_messages": 0,
            "seen": [],
            "duplicated": [],
            "open": {},
            "previous": None,
            "estimate": None,
            "residual": 0.0,
            "repeats": 0,
            "beyond": 0,
            "clock_offset_ms": None,
        }

    def take_alarms(self):
        taken, self.alarms = self.alarms, []
        return taken

    # Stage 1: messages

    def accept(self, sample):
        held = self.s["held"]
        if sample["message"] < self.s["next_message"]:
            return
        held[str(sample["message"])] = sample
        if len(held) > HELD_MESSAGES_MAX:
            # Nobody brought what is missing: go on without it.
            first, last = self.s["next_message"], min(map(int, held)) - 1
            self._raise("lost", first, last, f"messages {first} to {last} never arrived")
            self.s["next_message"] = last + 1
        while (ready := held.pop(str(self.s["next_message"]), None)) is not None:
            self.s["next_message"] += 1
            self._arrive(ready)

    # Stage 2: sequence

    def _arrive(self, sample):
        s, sequence = self.s, sample["sequence"]
        waiting = s["waiting"]
        if waiting:
            s["waited_messages"] += 1
        if sequence in s["seen"] or str(sequence) in waiting:
            if sequence not in s["duplicated"]:
                s["duplicated"] = (s["duplicated"] + [sequence])[-SEEN_SAMPLES_MAX:]
                self._raise("duplicate", sequence, sequence, f"sample {sequence} came again")
            return
        if sequence < s["next_sequence"]:
            self._raise("out_of_order", sequence, sequence, "a sample that had been given up came after all")
            return
        waiting[str(sequence)] = sample
        if sequence == s["next_sequence"]:
            if len(waiting) > 1:
                newest = max(map(int, waiting))
                self._raise("out_of_order", sequence, sequence, f"sample {sequence} came after sample {newest}")
            self._forward()
        elif s["waited_messages"] > self.limits["late_messages_max"]:
            first, last = s["next_sequence"], min(map(int, waiting)) - 1
            self._raise("dropout", first, last, f"{last - first + 1} samples are missing")
            s["next_sequence"] = last + 1
            # The machine was not seen meanwhile: start from what it says now.
            s["previous"] = s["estimate"] = None
            self._forward()

    def _forward(self):
        s = self.s
        while (ready := s["waiting"].pop(str(s["next_sequence"]), None)) is not None:
            s["seen"] = (s["seen"] + [s["next_sequence"]])[-SEEN_SAMPLES_MAX:]
            s["next_sequence"] += 1
            self._value(ready)
        s["waited_messages"] = 0

    # Stage 3: clock and value

    def _value(self, sample):
        self._clock(sample)
        s, reading = self.s, sample["celsius"]
        previous = s["previous"]
        if s["estimate"] is None or previous is None:
            s["estimate"], s["residual"], s["repeats"], s["beyond"] = reading, 0.0, 0, 0
        else:
            s["estimate"] += (self._target(previous) - s["estimate"]) / self.model["lag"]
            residual = reading - s["estimate"]
            self._stuck(sample, reading == previous["celsius"])
            self._spike(sample, residual)
            self._drift(sample, residual)
            # Only what can be noise corrects the estimate: a faulty sensor does not pull it along.
            if abs(residual) < self.limits["noise_celsius"]:
                s["estimate"] += self.limits["observer_gain"] * residual
            s["residual"] = residual
        self._temperature(sample)
        s["previous"] = {name: sample[name] for name in ("celsius", "power", "door", "load")}

    def _target(self, inputs):
        """Where the temperature goes when the inputs stay."""
        m = self.model
        return m["base"] + m["power"] * inputs["power"] + m["door"] * inputs["door"] + m["load"] * inputs["load"]

    def _clock(self, sample):
        offset = sample["at_unix_ms"] - sample["sequence"] * self.period_ms
        usual = self.s["clock_offset_ms"]
        if usual is None:
            self.s["clock_offset_ms"] = offset
        elif abs(offset - usual) > self.limits["clock_ms"]:
            if "clock_step" not in self.s["open"]:
                self._open("clock_step", sample["sequence"], f"the clock jumped by {round((offset - usual) / 60000)} min")
        else:
            self._close("clock_step", sample["sequence"] - 1)

    def _stuck(self, sample, same):
        s, sequence = self.s, sample["sequence"]
        if not same:
            s["repeats"] = 0
            self._close("stuck", sequence - 1)
            return
        s["repeats"] += 1
        if s["repeats"] == self.limits["stuck_repeats"]:
            self._open("stuck", sequence - s["repeats"] + 1, f"the reading stays at {sample['celsius']:.3f} °C")

    def _spike(self, sample, residual):
        limit = self.limits["spike_celsius"]
        if "spike" in self.s["open"]:
            if abs(residual) < limit:
                self._close("spike", sample["sequence"] - 1)
        elif abs(residual) > limit and abs(residual - self.s["residual"]) > limit and self.s["repeats"] == 0:
            self._open("spike", sample["sequence"], f"a jump of {residual - self.s['residual']:+.1f} °C")

    def _drift(self, sample, residual):
        s = self.s
        if "drift" in s["open"]:
            if abs(residual) < self.limits["noise_celsius"]:
                self._close("drift", sample["sequence"] - 1)
            return
        beyond = abs(residual) > self.limits["drift_celsius"] and s["repeats"] == 0 and "spike" not in s["open"]
        s["beyond"] = s["beyond"] + 1 if beyond else 0
        if s["beyond"] == self.limits["drift_samples"]:
            first = sample["sequence"] - s["beyond"] + 1
            self._open("drift", first, f"the reading leaves the model ({residual:+.2f} °C)")

    def _temperature(self, sample):
        """A process alarm, no fault: the machine really is too warm, as far as the model knows."""
        if self.s["estimate"] > self.alarm_above:
            if "too_warm" not in self.s["open"]:
                self._open("too_warm", sample["sequence"], f"above {self.alarm_above} °C")
        elif self.s["estimate"] < self.alarm_above - 0.5:
            self._close("too_warm", sample["sequence"] - 1)

    # Alarms

    def _raise(self, kind, first, last, detail):
        """An alarm that is over when it is noticed."""
        self.alarms.append(self._alarm(kind, first, last, detail))

    def _open(self, kind, first, detail):
        self.s["open"][kind] = {"first": first, "detail": detail}
        self.alarms.append(self._alarm(kind, first, None, detail))

    def _close(self, kind, last):
        if (opened := self.s["open"].pop(kind, None)) is not None:
            self.alarms.append(self._alarm(kind, opened["first"], last, opened["detail"]))

    def _alarm(self, kind, first, last, detail):
        return {
            "id": f"{self.device}.{self.boot}.{kind}.{first}",
            "device": self.device,
            "boot": self.boot,
            "kind": kind,
            "first": first,
            "last": last,
            "detail": detail,
        }


def control(config, kind, estimate, power):
    """Two-point control of the power by what the model believes, so that a faulty sensor does not steer the machine."""
    c = config["kinds"][kind]["control"]
    if estimate is None:
        return power
    if estimate > c["raise_above_celsius"]:
        return c["raised"]
    if estimate < c["lower_below_celsius"] or power is None:
        return c["normal"]
    return power
