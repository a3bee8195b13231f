#!/usr/bin/env python3
"""Tests the SDK: natively in C and C++, the layout of its types against the contract's, and the
component tests/probe, which has both roles, if PORTREEVE names the gateway's binary."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
SDK, WORK = TESTS.parent, TESTS / "probe" / "build" / ".work"
sys.path.insert(0, str(SDK))
import cases  # noqa: E402
import tools  # noqa: E402

STRICT = ["-Wall", "-Wextra", "-Werror", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
INCLUDE = ["-I", SDK / "include", "-I", SDK / "src"]
C, CPP = "-std=gnu11", "-std=gnu++20"


def main() -> None:
    tools.wit()
    tools.install_zig()
    WORK.mkdir(parents=True, exist_ok=True)
    layout = ["cc", C, "-target", "wasm32-wasi", *INCLUDE, "-c", TESTS / "layout.c"]
    tools.zig(*layout, "-o", WORK / "layout.o")
    # The memory of a call is counted: see sdk_test.c.
    counted = ["-Dmalloc=counted_malloc", "-Dfree=counted_free"]
    tools.zig("cc", C, *STRICT, *INCLUDE, *counted, "-c", SDK / "src/portreeve.c", "-o", WORK / "counted.o")
    tools.zig("cc", C, *STRICT, *INCLUDE, "-c", SDK / "src/portreeve.c", "-o", WORK / "portreeve.o")
    tools.zig("cc", C, *STRICT, *INCLUDE, "-c", SDK / "src/host_testing.c", "-o", WORK / "host.o")
    tools.zig("cc", C, *STRICT, *INCLUDE, "-c", SDK / "src/http.c", "-o", WORK / "http.o")
    program("cc", C, TESTS / "sdk_test.c", WORK / "counted.o")
    program("c++", CPP, TESTS / "cpp_test.cpp", WORK / "portreeve.o")
    probe, asks = component("probe"), component("asks")
    if os.environ.get("PORTREEVE"):
        cases.ask(probe, TESTS / "probe" / "cases.json")
        subprocess.run([sys.executable, SDK.parent / "tests" / "asking.py", asks, probe], check=True)


def component(name: str) -> Path:
    build = [sys.executable, SDK / "build.py", "build", name]
    subprocess.run(build, cwd=TESTS / name, check=True)
    return TESTS / name / "build" / f"{name}.wasm"


def program(compiler: str, dialect: str, source: Path, sdk: Path) -> None:
    output = WORK / source.stem
    tools.zig(compiler, dialect, *STRICT, *INCLUDE, source, sdk, WORK / "host.o", WORK / "http.o", "-o", output)
    subprocess.run([output], check=True, stderr=subprocess.PIPE)
    print(f"{source.name}: ok")


main()
