"""The detector against the generator's own labels, on telemetry that `device --offline` prints: every fault is found
exactly once, nothing else is, and restarts and a bad transport change nothing. `test.py` builds the program first."""

import json
import os
import random
import subprocess
import sys
import unittest
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "services"), str(ROOT / "services/rules"), str(ROOT / "services/ingest")]

from check import compare  # noqa: E402
from detector import Detector  # noqa: E402
from normalise import normalise  # noqa: E402

CONFIG = json.loads((ROOT / "config/process.json").read_text())
CYCLE = 300


PROGRAM = ROOT / "target/release/device"


def telemetry(kind, seed, samples):
    environment = os.environ | {"DEVICE": "d", "KIND": kind, "SEED": str(seed)}
    command = [PROGRAM, "--offline", str(samples)]
    lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    return [normalise(json.loads(line)) for line in lines[:-1]], json.loads(lines[-1])["labels"]


def run(kind, samples, restart_every=None):
    detector, alarms = Detector("d", kind, 1, CONFIG), {}
    for count, sample in enumerate(samples, 1):
        detector.accept(sample)
        alarms |= {alarm["id"]: alarm for alarm in detector.take_alarms()}
        if restart_every and count % restart_every == 0:
            detector = Detector("d", kind, 1, CONFIG, json.loads(json.dumps(detector.s)))
    return list(alarms.values())


class Exact(unittest.TestCase):
    def check(self, kind, seed, samples, labels, **options):
        alarms = run(kind, samples, **options)
        horizon = {("d", 1): max(sample["sequence"] for sample in samples)}
        problems, pairs = compare(labels, alarms, horizon)
        self.assertEqual(problems, [], f"{kind}, seed {seed}")
        return Counter(label["kind"] for label, _ in pairs)

    def test_every_fault_is_found_and_nothing_else(self):
        for kind in ("freezer", "conveyor"):
            for seed in range(20):
                samples, labels = telemetry(kind, seed, 20 * CYCLE)
                found = self.check(kind, seed, samples, labels)
                self.assertEqual(len(found), 7)
                self.assertTrue(all(count >= 19 for count in found.values()), found)

    def test_restarts_change_nothing(self):
        samples, labels = telemetry("freezer", 5, 6 * CYCLE)
        self.check("freezer", 5, samples, labels, restart_every=1)
        self.assertEqual(run("freezer", samples), run("freezer", samples, restart_every=7))

    def test_a_transport_that_repeats_and_reorders_changes_nothing(self):
        samples, labels = telemetry("conveyor", 9, 6 * CYCLE)
        shaken = random.Random(1)
        bad = sorted(samples + shaken.choices(samples, k=400), key=lambda s: s["message"] + shaken.uniform(0, 20))
        self.assertEqual(run("conveyor", samples), run("conveyor", bad))
        self.check("conveyor", 9, bad, labels)

    def test_what_the_transport_lost_is_no_fault_of_the_sensor(self):
        samples, _ = telemetry("freezer", 2, 20)
        more, _ = telemetry("freezer", 2, 120)
        alarms = run("freezer", samples[:5] + more[8:])
        self.assertIn(("lost", 6, 8), [(a["kind"], a["first"], a["last"]) for a in alarms])


if __name__ == "__main__":
    unittest.main()
