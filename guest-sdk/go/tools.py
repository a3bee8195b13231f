"""Go, and the step from a core module to a component. A Go on the PATH is taken where it is new
enough; otherwise it is installed from PyPI into the folder of this file."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent
VENV = SDK / ".venv"
# `new` of a value needs 1.26, the SDK was tried with 1.27.
GO_MIN = (1, 27)
# The contract for which the types of internal/abi are laid out; see contract_digest.
CONTRACT = "59a20efd93d82f31c5b657b014ef529231d0c46d0892809960d3926a0a1e7fe5"


class BuildError(Exception):
    """What went wrong, where, and what to do."""


def check_contract() -> None:
    """The contract lies beside the SDK in a project, above it in the repository."""
    for folder in (SDK.parent / "wit", SDK.parent.parent / "wit"):
        if (folder / "worlds.wit").is_file():
            if contract_digest(folder) != CONTRACT:
                raise BuildError(
                    f"{folder} is not the contract that {SDK} was made for: take both from one release"
                )
            return
    raise BuildError(f"the contract is neither in {SDK.parent}/wit nor in {SDK.parent.parent}/wit")


def contract_digest(folder: Path) -> str:
    """A digest of the contract without comments and spaces: what decides how types are laid out."""
    text = "".join(path.read_text("utf-8") for path in sorted(folder.glob("*.wit")))
    return hashlib.sha256("".join(re.sub("//.*", "", text).split()).encode()).hexdigest()


def go(*arguments: object, folder: Path, **environment: str) -> None:
    """Runs Go; its messages go to standard error."""
    command, own = installed_go()
    # A go.work above the project and a go.mod that asks for another Go must not change the build.
    environment |= own | {"GOTOOLCHAIN": "local", "GOWORK": "off"}
    command += [str(argument) for argument in arguments]
    if subprocess.run(command, cwd=folder, env=os.environ | environment).returncode != 0:
        raise BuildError("Go's messages stand above")


def installed_go() -> tuple[list[str], dict[str, str]]:
    """The command, and the environment that keeps its caches in this folder."""
    on_path = shutil.which("go")
    if on_path and version_of(on_path) >= GO_MIN:
        return [on_path], {}
    install_go()
    # The command of the virtual environment knows where it was made; a project may be moved.
    place = "Lib/site-packages/go/bin/go.exe" if os.name == "nt" else "lib/*/site-packages/go/bin/go"
    binary = next(VENV.glob(place), None)
    if binary is None:
        raise BuildError(f"{VENV} has no Go: remove the folder and build again")
    own = {"GOCACHE": str(VENV / "cache"), "GOPATH": str(VENV / "gopath"), "GOENV": "off"}
    return [str(binary)], own


def version_of(command: str) -> tuple[int, ...]:
    # It must tell its own version, and not fetch the one that a go.mod asks for.
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    try:
        said = subprocess.run([command, "version"], capture_output=True, text=True, env=environment)
    except OSError:
        return ()
    found = re.match(r"go version go(\d+)\.(\d+)", said.stdout)
    return tuple(map(int, found.groups())) if found else ()


def install_go() -> None:
    """Installs what requirements.txt names into .venv, once."""
    wanted, stamp = (SDK / "requirements.txt").read_text(), VENV / "installed.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"installing {wanted.strip()} into {VENV} (some 75 MB to download, once)", file=sys.stderr)
    if run(sys.executable, "-m", "venv", "--clear", VENV).returncode != 0:
        raise BuildError(
            "python3 cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
        )
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if run(*pip, "-r", SDK / "requirements.txt").returncode != 0:
        raise BuildError(f"pip cannot install {wanted.strip()}: its messages stand above")
    stamp.write_text(wanted)


def componentize(core: Path, output: Path) -> None:
    """Makes a component of a core module, with the gateway's binary."""
    partial = output.with_suffix(".partial")
    portreeve = os.environ.get("PORTREEVE") or shutil.which("portreeve")
    if not portreeve:
        raise BuildError(
            "no `portreeve` on the PATH; PORTREEVE names the gateway's binary, which makes the component"
        )
    if run(portreeve, "plugin", "componentize", core, "--out", partial).returncode != 0:
        raise BuildError(f"{core} does not become a component: the messages stand above")
    partial.replace(output)


def run(*command: object):
    """Runs a command, its standard output with the errors: the build prints one line of its own."""
    try:
        return subprocess.run([str(part) for part in command], stdout=sys.stderr)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
