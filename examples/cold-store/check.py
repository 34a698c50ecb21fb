#!/usr/bin/env python3
"""Compares the alarms of the running example with the labels of its devices, exactly: every fault that is over must have
exactly one alarm of its kind with its sequence numbers, and every alarm must have its fault.

    python3 check.py [http://127.0.0.1:8088] [--seconds 120]

Waits until every device went through every kind of fault, prints a table, and ends with 0 when all agree, with 1 when
something differs, with 3 when the time was over before."""

import argparse
import json
import sys
import time
import urllib.request

KINDS = ("stuck", "drift", "spike", "dropout", "duplicate", "out_of_order", "clock_step")
#: Samples until an alarm must be there: a dropout waits for late messages, a drift for its noise limit.
SETTLING_SAMPLES = 15


def compare(labels, alarms, horizon):
    """`horizon`: (device, boot) -> the last sequence number that the rules have seen. Labels must be newer than alarms,
    and alarms newer than the horizon. Returns what is wrong, and the pairs of labels and alarms that belong together."""
    problems, pairs, left = [], [], list(labels)
    for alarm in sorted(alarms, key=lambda alarm: alarm["first"]):
        name = f"alarm {alarm['device']} {alarm['kind']} {alarm['first']}-{alarm['last']}"
        if alarm["kind"] not in KINDS:
            if alarm["kind"] == "lost":
                problems.append(f"{name}: telemetry was lost")
            continue
        label = next((label for label in left if _belongs(label, alarm)), None)
        if label is None:
            problems.append(f"{name}: no such fault was made")
        else:
            left.remove(label)
            pairs.append((label, alarm))
    for label in left:
        if label["last"] + SETTLING_SAMPLES <= horizon.get((label["device"], label["boot"]), -1):
            problems.append(f"fault {label['id']} {label['kind']} {label['first']}-{label['last']}: no alarm")
    return problems, pairs


def _belongs(label, alarm):
    if any(label[name] != alarm[name] for name in ("device", "boot", "kind")):
        return False
    # Where a slow drift begins is a matter of the threshold; everything else is exact from the first sample.
    exact = alarm["kind"] != "drift"
    begins = alarm["first"] == label["first"] if exact else label["first"] <= alarm["first"] <= label["last"]
    return begins and alarm["last"] in (None, label["last"])


def fetch(base, path):
    with urllib.request.urlopen(base.rstrip("/") + path, timeout=10) as answer:
        return json.load(answer)


def look(base):
    """Labels, alarms and horizon of the present boots. The order matters: labels last."""
    horizon = {(d["device"], d["boot"]): d["sequence"] for d in fetch(base, "/api/overview")["devices"]}
    alarms = fetch(base, "/api/alarms")["alarms"]
    truth = fetch(base, "/api/truth")["devices"]
    labels = [label for device in truth for label in device["labels"]]
    # A device keeps its newest labels only: alarms from before those have nothing to be compared with.
    since = {
        (device["device"], device["boot"]): device["labels"][0]["first"] if device["total"] > len(device["labels"]) else 0
        for device in truth
    }
    known = [a for a in alarms if a["first"] >= since.get((a["device"], a["boot"]), float("inf"))]
    return labels, known, horizon, sorted(since)


def through(labels, horizon, boots):
    """Every device had every kind, and the rules had time for it."""
    done = {
        (label["device"], label["boot"], label["kind"])
        for label in labels
        if label["last"] + SETTLING_SAMPLES <= horizon.get((label["device"], label["boot"]), -1)
    }
    return bool(boots) and all((*boot, kind) in done for boot in boots for kind in KINDS)


def table(labels, pairs, boots):
    print(f"{'':14}" + "".join(f"{kind:>16}" for kind in KINDS))
    for device, _ in boots:
        cells = []
        for kind in KINDS:
            made = sum(label["device"] == device and label["kind"] == kind for label in labels)
            found = sum(label["device"] == device and label["kind"] == kind for label, _ in pairs)
            cells.append(f"{found:>12} / {made}")
        print(f"{device:14}" + "".join(f"{cell:>16}" for cell in cells))
    print("(alarms that belong to a fault / faults made so far)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("base", nargs="?", default="http://127.0.0.1:8088")
    parser.add_argument("--seconds", type=float, default=120, help="how long to wait at the most")
    options = parser.parse_args()
    end, last_error = time.monotonic() + options.seconds, "no answer yet"
    while time.monotonic() < end:
        try:
            labels, alarms, horizon, boots = look(options.base)
        except (OSError, ValueError, KeyError) as error:
            last_error = str(error)
            time.sleep(0.5)
            continue
        problems, pairs = compare(labels, alarms, horizon)
        complete = through(labels, horizon, boots)
        if problems or complete:
            table(labels, pairs, boots)
            for problem in problems:
                print("WRONG:", problem)
            print("not exact" if problems else "exact: every fault has its alarm, every alarm its fault")
            return 1 if problems else 0
        last_error = f"{len(pairs)} faults found so far; not every kind was made yet"
        time.sleep(1)
    print(f"time is over: {last_error}", file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main())
