#!/usr/bin/env python3
"""Builds and tests a plugin in C or C++, in the current folder.

    python3 build.py build NAME    src/*.c and src/*.cpp become build/NAME.wasm
    python3 build.py test NAME     each of tests/*.c and tests/*.cpp, with src, is a test program

Needs Python 3.10 with pip, and `portreeve` for the last step.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import tools

SOURCES = ("*.c", "*.cpp", "*.cc", "*.cxx")
WARNINGS = ["-Wall", "-Wextra"]
DIALECT = {".c": ["-std=gnu11"]}
# WebAssembly has no C++ exceptions here; an error is an answer.
DIALECT_CPP = ["-std=gnu++20", "-fno-exceptions", "-fno-rtti"]
WASM = ["-target", "wasm32-wasi", "-O2", "-ffunction-sections", "-fdata-sections"]
# The stack lies below the data, so that an overflow traps. 128 KiB are enough for a call.
LINK = ["-mexec-model=reactor", "-s", "-Wl,--gc-sections", "-Wl,-z,stack-size=131072"]
# Undefined behaviour ends a test with a message.
NATIVE = ["-g", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"]


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in ("build", "test"):
        sys.exit(__doc__)
    project, name = Path.cwd(), sys.argv[2]
    try:
        write_compile_flags(project)
        if sys.argv[1] == "build":
            build(project, name)
        else:
            test(project)
    except tools.BuildError as error:
        sys.exit(f"build.py: {error}")


def build(project: Path, name: str) -> None:
    sources = found(project / "src")
    if not sources:
        raise tools.BuildError(f"{project / 'src'} holds no {' or '.join(SOURCES)}")
    output, work = project / "build" / f"{name}.wasm", work_folder(project)
    digest, stamp = digest_of_inputs(project), work / "inputs.txt"
    copy_manifest(project, output, name)
    if output.is_file() and stamp.is_file() and stamp.read_text() == digest:
        print(f"{output} is up to date")
        return
    tools.install_zig()
    core = work / "core.wasm"
    sdk = sdk_sources("portreeve.c", "http.c", "host.c", "host_http.c")
    link([*sources, *sdk], core, project, WASM, LINK)
    tools.componentize(core, output)
    stamp.write_text(digest)
    print(f"{output}: {output.stat().st_size} bytes")


def test(project: Path) -> None:
    tools.install_zig()
    tests, sources = found(project / "tests"), found(project / "src")
    if not tests:
        raise tools.BuildError(f"{project / 'tests'} holds no {' or '.join(SOURCES)}")
    sdk = sdk_sources("portreeve.c", "http.c", "host_testing.c")
    for path in tests:
        program = work_folder(project) / path.stem
        link([path, *sources, *sdk], program, project, NATIVE, [])
        if subprocess.run([program]).returncode != 0:
            raise tools.BuildError(f"{path} fails")
        print(f"{path.name}: ok")


def link(sources: list[Path], output: Path, project: Path, flags: list[str], linking: list[str]) -> None:
    """Compiles each file in its own language, then links; the compiler keeps what did not change."""
    objects = output.with_suffix(".objects")
    objects.mkdir(exist_ok=True)
    compiled = []
    for number, source in enumerate(sources):
        compiler = "cc" if source.suffix == ".c" else "c++"
        compiled.append(objects / f"{number}-{source.stem}.o")
        dialect = DIALECT.get(source.suffix, DIALECT_CPP)
        include = ["-I", tools.SDK / "include", "-I", project / "include"]
        tools.zig(compiler, *dialect, *WARNINGS, *flags, *include, "-c", source, "-o", compiled[-1])
    linker = "cc" if all(source.suffix == ".c" for source in sources) else "c++"
    tools.zig(linker, *flags, *linking, *compiled, "-o", output)


def sdk_sources(*names: str) -> list[Path]:
    """What a plugin does not use of them is left out when they are linked, imports too."""
    return [tools.SDK / "src" / name for name in names]


def found(folder: Path) -> list[Path]:
    return sorted(path for pattern in SOURCES for path in folder.glob(pattern))


def work_folder(project: Path) -> Path:
    """Objects and test programs; the gateway must not take a core module there for a plugin."""
    folder = project / "build" / ".work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest_of_inputs(project: Path) -> str:
    folders = [project / "src", project / "include", tools.SDK / "src", tools.SDK / "include"]
    inputs = [path for folder in (*folders, tools.wit()) for path in files(folder)]
    names = ("build.py", "tools.py", "requirements.txt")
    return tools.digest_of(inputs + [tools.SDK / name for name in names])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def copy_manifest(project: Path, output: Path, name: str) -> None:
    """The gateway reads settings and bindings from the manifest beside the component."""
    manifest = project / f"{name}.toml"
    if manifest.is_file():
        shutil.copyfile(manifest, output.with_suffix(".toml"))


def write_compile_flags(project: Path) -> None:
    """Tells an editor with clangd where the header is."""
    flags = f"-I{tools.SDK / 'include'}\n-Iinclude\n"
    path = project / "compile_flags.txt"
    if not path.is_file() or path.read_text() != flags:
        path.write_text(flags)


main()
