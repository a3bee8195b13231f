#!/usr/bin/env python3
"""Tests the SDK: natively, and the component tests/probe, which has both roles, if PORTREEVE names
the gateway's binary."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent))
import cases  # noqa: E402
import tools  # noqa: E402


def main() -> None:
    tools.check_contract()
    tools.go("vet", "./...", folder=TESTS.parent)
    tools.go("test", "./tests", folder=TESTS.parent)
    if os.environ.get("PORTREEVE"):
        build = [sys.executable, TESTS.parent / "build.py", "build", "probe"]
        subprocess.run(build, cwd=TESTS / "probe", check=True)
        cases.ask(TESTS / "probe" / "build" / "probe.wasm", TESTS / "probe" / "cases.json")


main()
