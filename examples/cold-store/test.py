#!/usr/bin/env python3
"""The example's own tests, without Sinew: `python3 test.py`. They need cargo and Python, Node.js only where it is there."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
#: The broker is a page of configuration around a large crate: not worth a minute of checking.
LINTED = [argument for package in ("actuator", "common", "device") for argument in ("-p", package)]


def steps():
    yield "format", ["cargo", "fmt", "--all", "--check"]
    yield "build", ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", "target"]
    yield "Rust tests", ["cargo", "test", "--quiet", "--release", "--locked", "--target-dir", "target", "-p", "common", "-p", "device"]
    yield "lint", ["cargo", "clippy", "--quiet", "--release", "--locked", "--target-dir", "target", *LINTED, "--all-targets", "--", "-D", "warnings"]
    if shutil.which("node"):
        yield "Node.js syntax", ["node", "--check", "services/dashboard/main.mjs"]
        yield "page syntax", ["node", "--check", "services/operator/page/app.mjs"]
    yield "Python tests", [sys.executable, "-m", "unittest", "discover", "--start-directory", "tests", "--top-level-directory", "."]


def main():
    for name, command in steps():
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            sys.exit(f"{name} failed: {' '.join(command)}")
    print("the example's tests pass")


if __name__ == "__main__":
    main()
