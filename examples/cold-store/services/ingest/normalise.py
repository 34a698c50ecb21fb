"""One language for all machines: checks a device's message and turns it into a sample. Raises `ValueError`."""

import math
import re

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def normalise(message):
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    kind = message.get("kind")
    if kind == "freezer":
        door = message.get("door")
        if door not in ("open", "closed"):
            raise ValueError("door is open or closed")
        celsius, door = _number(message, "celsius", -100, 200), int(door == "open")
    elif kind == "conveyor":
        celsius, door = _number(message, "motor_millicelsius", -100_000, 200_000) / 1000, 0
    else:
        raise ValueError("an unknown kind of device")
    device = message.get("device")
    if not (isinstance(device, str) and _NAME.fullmatch(device)):
        raise ValueError("device is a name")
    return {
        "device": device,
        "kind": kind,
        "boot": _whole(message, "boot"),
        "message": _whole(message, "message"),
        "sequence": _whole(message, "sequence"),
        "at_unix_ms": _whole(message, "at_unix_ms"),
        "celsius": celsius,
        "power": _number(message, "power", 0, 1),
        "door": door,
        "load": _number(message, "load", 0, 1),
    }


def _number(message, name, least, most):
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is a number")
    if not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most}")
    return value


def _whole(message, name):
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError(f"{name} is a whole number")
    return value
