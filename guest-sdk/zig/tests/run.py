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
    tools.wit()
    other = TESTS.parent.parent / "c" / "tools.py"
    if other.is_file() and other.read_bytes() != (TESTS.parent / "tools.py").read_bytes():
        sys.exit(f"{other} and guest-sdk/zig/tools.py differ")
    tools.install_zig()
    library = TESTS.parent / "src" / "portreeve.zig"
    tools.zig("test", "--dep", "portreeve", f"-Mroot={TESTS / 'sdk_test.zig'}", f"-Mportreeve={library}")
    probe, asks = component("probe"), component("asks")
    if os.environ.get("PORTREEVE"):
        cases.ask(probe, TESTS / "probe" / "cases.json")
        asking = TESTS.parent.parent / "tests" / "asking.py"
        subprocess.run([sys.executable, asking, asks, probe], check=True)


def component(name: str) -> Path:
    build = [sys.executable, TESTS.parent / "build.py", "build", name]
    subprocess.run(build, cwd=TESTS / name, check=True)
    return TESTS / name / "build" / f"{name}.wasm"


main()
