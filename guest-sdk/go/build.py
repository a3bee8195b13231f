#!/usr/bin/env python3
"""Builds and tests a plugin in Go, in the current folder.

    python3 build.py build NAME    the package in src becomes build/NAME.wasm
    python3 build.py test NAME     runs the tests of the project's packages, natively

Needs Python 3.10 with pip, and `portreeve` for the last step.
"""

import hashlib
import shutil
import sys
from pathlib import Path

import tools

WASM = {"GOOS": "wasip1", "GOARCH": "wasm"}
# The SDK asks the runtime for memory outside of the Go heap by `runtime.sbrk`, which the linker
# lets pass with -checklinkname=0. Names of functions stay for messages, debug information goes.
BUILD = ["-buildmode=c-shared", "-trimpath", "-ldflags=-s -w -checklinkname=0"]


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in ("build", "test"):
        sys.exit(__doc__)
    project, name = Path.cwd(), sys.argv[2]
    try:
        if not list((project / "src").glob("*.go")):
            raise tools.BuildError(f"{project / 'src'} holds no *.go")
        if sys.argv[1] == "build":
            build(project, name)
        else:
            tools.go("test", "./...", folder=project)
    except tools.BuildError as error:
        sys.exit(f"build.py: {error}")


def build(project: Path, name: str) -> None:
    output, work = project / "build" / f"{name}.wasm", project / "build" / ".work"
    # The gateway must not take the core module for a plugin.
    work.mkdir(parents=True, exist_ok=True)
    core, stamp = work / "core.wasm", work / "core.txt"
    tools.check_contract()
    copy_manifest(project, output, name)
    # Go knows by itself what changed.
    tools.go("build", *BUILD, "-o", core, "./src", folder=project, **WASM)
    digest = hashlib.sha256(core.read_bytes()).hexdigest()
    if output.is_file() and stamp.is_file() and stamp.read_text() == digest:
        print(f"{output} is up to date")
        return
    tools.componentize(core, output)
    stamp.write_text(digest)
    print(f"{output}: {output.stat().st_size} bytes")


def copy_manifest(project: Path, output: Path, name: str) -> None:
    """The gateway reads settings and bindings from the manifest beside the component."""
    manifest = project / f"{name}.toml"
    if manifest.is_file():
        shutil.copyfile(manifest, output.with_suffix(".toml"))


main()
