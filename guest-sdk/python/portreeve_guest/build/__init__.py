"""Makes a component of a project: `python3 make.py` in its folder, where make.py calls `main`.

A project holds its module in `src`, and the manifest NAME.toml beside it. The compiler,
componentize-py, is installed into the project's own `.venv` the first time, together with what a
`requirements.txt` names. Nothing is written outside the project's folder.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, NoReturn, Optional, Set

from portreeve_guest.build import failure, no_sockets

COMPILER = "componentize-py==0.25.1"
SDK = Path(__file__).resolve().parents[2]
MAIN_MODULE = "portreeve_main"
_HTTP_MODULE = "portreeve_guest.http"
_WASI_HTTP = "wasi:http/{}@0.2.2"
_NOT_COPIED = shutil.ignore_patterns("__pycache__")


def main(make: str, arguments: Optional[List[str]] = None) -> None:
    """Builds, or with `test` runs the unit tests of, the project that holds the file `make`."""
    if sys.version_info < (3, 10):
        _fail(f"this is Python {sys.version.split()[0]}; take 3.10 or later")
    parser = argparse.ArgumentParser(description="Builds a Portreeve plugin, or tests it.")
    parser.add_argument("task", nargs="?", choices=["build", "test"], default="build")
    parser.add_argument("-o", "--output", help="the component (default: build/FOLDER.wasm)")
    parser.add_argument("-m", "--module", default="plugin", help="the module in src (%(default)s)")
    options = parser.parse_args(arguments)
    project = Path(make).resolve().parent
    if options.task == "test":
        sys.exit(_test(project))
    output = project / (options.output or f"build/{project.name}.wasm")
    try:
        _build(project, output, options.module)
    except failure.Failure as error:
        _fail(str(error))


def _build(project: Path, output: Path, module: str) -> None:
    source = project / "src" / f"{module}.py"
    kinds = _kinds(source)
    asks = _asks(source.parent)
    wit = _wit()
    stamp = output.with_name(f".{output.stem}.stamp")
    inputs = _digest(project, wit, module)
    if output.exists() and stamp.exists() and stamp.read_text() == inputs:
        print(f"{_shown(output)} is up to date")
    else:
        venv = _venv(project)
        print(f"building {_shown(output)} from {_shown(source)}")
        component = _component(project, venv, wit, module, kinds, asks)
        output.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place, so that a gateway that watches the folder sees whole files only.
        whole = output.with_name(f".{output.name}")
        whole.write_bytes(component)
        os.replace(whole, output)
        stamp.write_text(inputs)
        print(f"{_shown(output)}: {len(component) / 1e6:.1f} MB")
    manifest = project / f"{output.stem}.toml"
    if manifest.exists():
        shutil.copyfile(manifest, output.with_suffix(".toml"))


def _kinds(source: Path) -> Set[str]:
    """Which of `verifier` and `parser` mark a function of the module."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"), str(source))
    except FileNotFoundError:
        raise failure.Failure(f"{_shown(source)} does not exist; the plugin's code goes there")
    except SyntaxError as error:
        raise failure.Failure(f"{_shown(source)}, line {error.lineno}: {error.msg}")
    marks = {
        getattr(decorator, "attr", getattr(decorator, "id", None))
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    }
    kinds = {"verifier", "parser"} & marks
    if not kinds:
        raise failure.Failure(
            f"{_shown(source)} has no function marked with @verifier or @parser; "
            "put one of them before the function that the gateway is to call"
        )
    return kinds


def _asks(folder: Path) -> bool:
    """Whether a module of the folder imports `portreeve_guest.http`.

    All that a world names is imported by the component, used or not, and the gateway refuses a
    component that imports HTTP unless its manifest grants some.
    """
    for source in folder.rglob("*.py"):
        try:
            tree = ast.parse(source.read_text(encoding="utf-8"), str(source))
        except SyntaxError:
            # Not every file need be imported; where it is, the compiler complains.
            continue
        if any(_imports_http(node) for node in ast.walk(tree)):
            return True
    return False


def _imports_http(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(name.name == _HTTP_MODULE for name in node.names)
    if isinstance(node, ast.ImportFrom) and node.module == "portreeve_guest":
        return any(name.name == "http" for name in node.names)
    return isinstance(node, ast.ImportFrom) and node.module == _HTTP_MODULE


def _wit() -> Path:
    # Inside the repository, and in a project that holds a copy of this package in `sdk`.
    for wit in (SDK.parent.parent / "wit", SDK.parent / "wit"):
        if (wit / "worlds.wit").exists():
            return wit
    raise failure.Failure(
        f"the contract is missing: neither {SDK.parent.parent / 'wit'} nor {SDK.parent / 'wit'} "
        "holds worlds.wit"
    )


def _venv(project: Path) -> Path:
    venv = project / ".venv"
    requirements = project / "requirements.txt"
    wanted = COMPILER + (requirements.read_text() if requirements.exists() else "")
    installed = venv / "portreeve-installed"
    if _script(venv, "componentize-py").exists() and installed.exists():
        if installed.read_text() == wanted:
            return venv
    print(f"installing {COMPILER} into {_shown(venv)}")
    failure.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        f"{_shown(venv)} cannot be made; on Debian and Ubuntu, install the package python3-venv",
    )
    pip = [str(_script(venv, "python")), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    failure.run(
        pip + ["--only-binary=:all:", COMPILER],
        f"{COMPILER} cannot be installed; it needs the package index, and 64-bit Linux, macOS or "
        "Windows",
    )
    if requirements.exists():
        failure.run(pip + ["-r", str(requirements)], "requirements.txt cannot be installed")
    # Lets an editor that knows the .venv find the package.
    for packages in [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]:
        (packages / "portreeve.pth").write_text(f"{SDK}\n")
    installed.write_text(wanted)
    return venv


def _component(
    project: Path, venv: Path, wit: Path, module: str, kinds: Set[str], asks: bool
) -> bytes:
    world = "plugin" if len(kinds) == 2 else next(iter(kinds))
    with tempfile.TemporaryDirectory() as folder:
        main = Path(folder) / f"{MAIN_MODULE}.py"
        main.write_text(_main_module(module, kinds))
        component = Path(folder) / "component.wasm"
        if asks:
            wit = _with_http(wit, Path(folder) / "wit", world)
        command = [str(_script(venv, "componentize-py")), "-q", "-d", str(wit), "-w", world]
        # Otherwise its name depends on what else a world imports.
        command += ["--import-interface-name", "portreeve:plugin/types@0.1.0=types"]
        if asks:
            name = _WASI_HTTP.format("types")
            command += ["--import-interface-name", f"{name}=http_types"]
        command += ["componentize", MAIN_MODULE, "-o", str(component), "-p", folder]
        # Copies, because Python writes its __pycache__ beside what it imports.
        for original, copy in ((project / "src", "src"), (SDK / "portreeve_guest", "sdk/portreeve_guest")):
            shutil.copytree(original, Path(folder) / copy, ignore=_NOT_COPIED)
            command += ["-p", str(Path(folder) / copy.partition("/")[0])]
        failure.compile(command, {**os.environ, "VIRTUAL_ENV": str(venv)})
        try:
            return no_sockets.remove(component.read_bytes())
        except no_sockets.Unknown as error:
            raise failure.Failure(f"{COMPILER} made a component that this SDK does not know: {error}")


def _with_http(wit: Path, folder: Path, world: str) -> Path:
    """A folder with the contract's world, and HTTP in it."""
    contract = folder / "deps" / "contract"
    contract.mkdir(parents=True)
    for file in wit.glob("*.wit"):
        shutil.copy(file, contract)
    for file in (wit / "deps").glob("*.wit"):
        shutil.copy(file, folder / "deps")
    (folder / "world.wit").write_text(
        f"package portreeve:guest-python;\nworld {world} {{\n"
        f"  include portreeve:plugin/{world}@0.1.0;\n"
        f"  import {_WASI_HTTP.format('outgoing-handler')};\n}}\n"
    )
    return folder


def _main_module(module: str, kinds: Set[str]) -> str:
    lines = ["import sys"]
    if "verifier" in kinds:
        lines.append("from portreeve_guest.component.on_connect import OnConnect")
    if "parser" in kinds:
        lines.append("from portreeve_guest.component.on_publish import OnPublish")
    lines.append(f"import {module}")
    # What datetime.strptime imports when it is called, and a running plugin cannot.
    lines += ["if 'datetime' in sys.modules:", "    import _strptime"]
    return "\n".join(lines) + "\n"


def _digest(project: Path, wit: Path, module: str) -> str:
    """A digest of everything that goes into the component."""
    files = [project / "requirements.txt", *wit.rglob("*.wit")]
    for folder in (project / "src", SDK / "portreeve_guest"):
        files += (file for file in folder.rglob("*") if "__pycache__" not in file.parts)
    digest = hashlib.sha256(f"{COMPILER} {module}".encode())
    for file in sorted(files):
        if file.is_file():
            content = file.read_bytes()
            digest.update(f"{file} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _test(project: Path) -> int:
    python = sys.executable
    if (project / "requirements.txt").exists():
        try:
            python = str(_script(_venv(project), "python"))
        except failure.Failure as error:
            _fail(str(error))
    path = os.pathsep.join([str(project / "src"), str(SDK)])
    command = [python, "-B", "-m", "unittest", "discover", "-s", "tests"]
    return subprocess.run(command, cwd=project, env={**os.environ, "PYTHONPATH": path}).returncode


def _script(venv: Path, name: str) -> Path:
    return venv / ("Scripts" if os.name == "nt" else "bin") / (name + ".exe" * (os.name == "nt"))


def _shown(path: Path) -> str:
    return os.path.relpath(path)


def _fail(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(1)
