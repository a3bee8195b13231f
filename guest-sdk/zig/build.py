#!/usr/bin/env python3
"""Builds and tests a plugin in Zig, in the current folder.

    python3 build.py build NAME    src/plugin.zig becomes build/NAME.wasm
    python3 build.py test NAME     runs the tests of src/plugin.zig, natively

Needs Python 3.10 with pip, and `portreeve` for the last step.
"""

import shutil
import sys
from pathlib import Path

import tools

# What goes wrong in safe mode ends the call with a line in the log; it costs a few kilobytes. The
# stack lies below the data, so that an overflow traps. 128 KiB are enough for a call.
WASM = ["-target", "wasm32-wasi", "-fno-entry", "-rdynamic", "-O", "ReleaseSafe", "-fstrip"]
WASM += ["--stack", "131072"]
LIBRARY = tools.SDK / "src" / "portreeve.zig"
# `zig build` and the language server of an editor read this file.
BUILD_ZIG = """// Written by build.py, for the language server of an editor and for `zig build test`.
const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const portreeve = b.createModule(.{
        .root_source_file = .{ .cwd_relative = "LIBRARY" },
        .target = target,
    });
    const plugin = b.createModule(.{ .root_source_file = b.path("src/plugin.zig"), .target = target });
    plugin.addImport("portreeve", portreeve);
    const run = b.addRunArtifact(b.addTest(.{ .root_module = plugin }));
    b.step("test", "Run the tests of src/plugin.zig").dependOn(&run.step);
}
"""


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in ("build", "test"):
        sys.exit(__doc__)
    project, name = Path.cwd(), sys.argv[2]
    try:
        source = project / "src" / "plugin.zig"
        if not source.is_file():
            raise tools.BuildError(f"{source} is missing: it declares `verify` or `parse`")
        write_build_zig(project)
        if sys.argv[1] == "build":
            build(project, source, name)
        else:
            test(source)
    except tools.BuildError as error:
        sys.exit(f"build.py: {error}")


def build(project: Path, source: Path, name: str) -> None:
    output, work = project / "build" / f"{name}.wasm", project / "build" / ".work"
    # The gateway must not take the core module for a plugin.
    work.mkdir(parents=True, exist_ok=True)
    digest, stamp = digest_of_inputs(project), work / "inputs.txt"
    copy_manifest(project, output, name)
    if output.is_file() and stamp.is_file() and stamp.read_text() == digest:
        print(f"{output} is up to date")
        return
    tools.install_zig()
    core = work / "core.wasm"
    root = tools.SDK / "src" / "component.zig"
    tools.zig(
        "build-exe", *WASM, f"-femit-bin={core}",
        "--dep", "plugin", "--dep", "portreeve", f"-Mroot={root}",
        "--dep", "portreeve", f"-Mplugin={source}", f"-Mportreeve={LIBRARY}",
    )
    tools.componentize(core, output)
    stamp.write_text(digest)
    print(f"{output}: {output.stat().st_size} bytes")


def test(source: Path) -> None:
    tools.install_zig()
    tools.zig("test", "--dep", "portreeve", f"-Mroot={source}", f"-Mportreeve={LIBRARY}")


def digest_of_inputs(project: Path) -> str:
    folders = (project / "src", tools.SDK / "src", tools.wit())
    inputs = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    names = ("build.py", "tools.py", "requirements.txt")
    return tools.digest_of(inputs + [tools.SDK / name for name in names])


def copy_manifest(project: Path, output: Path, name: str) -> None:
    """The gateway reads settings and bindings from the manifest beside the component."""
    manifest = project / f"{name}.toml"
    if manifest.is_file():
        shutil.copyfile(manifest, output.with_suffix(".toml"))


def write_build_zig(project: Path) -> None:
    text = BUILD_ZIG.replace("LIBRARY", LIBRARY.as_posix())
    path = project / "build.zig"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


main()
