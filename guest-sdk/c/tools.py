"""What the build tools of C and Zig have in common: Zig from PyPI, and the step from a core module
to a component. Everything is installed in the folder of this file. guest-sdk/c and guest-sdk/zig
hold the same file."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent
VENV = SDK / ".venv"
# The contract for which the types of the SDK are laid out; see contract_digest.
CONTRACT = "59a20efd93d82f31c5b657b014ef529231d0c46d0892809960d3926a0a1e7fe5"


class BuildError(Exception):
    """What went wrong, where, and what to do."""


def wit() -> Path:
    """The folder of the contract: beside the SDK in a project, above it in the repository."""
    for folder in (SDK.parent / "wit", SDK.parent.parent / "wit"):
        if (folder / "worlds.wit").is_file():
            if contract_digest(folder) != CONTRACT:
                raise BuildError(
                    f"{folder} is not the contract that {SDK} was made for: take both from one release"
                )
            return folder
    raise BuildError(f"the contract is neither in {SDK.parent}/wit nor in {SDK.parent.parent}/wit")


def contract_digest(folder: Path) -> str:
    """A digest of the contract without comments and spaces: what decides how types are laid out."""
    text = "".join(path.read_text("utf-8") for path in sorted(folder.glob("*.wit")))
    return hashlib.sha256("".join(re.sub("//.*", "", text).split()).encode()).hexdigest()


def zig(*arguments: object) -> None:
    """Runs Zig; its messages go to standard error."""
    caches = {name: str(VENV / "cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    command = [python_of(VENV), "-m", "ziglang", *map(str, arguments)]
    if subprocess.run(command, env=os.environ | caches).returncode != 0:
        raise BuildError("the compiler's messages stand above")


def install_zig() -> None:
    """Installs what requirements.txt names into .venv, once."""
    wanted, stamp = (SDK / "requirements.txt").read_text(), VENV / "installed.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"installing {wanted.strip()} into {VENV} (some 100 MB to download, once)", file=sys.stderr)
    if run(sys.executable, "-m", "venv", "--clear", VENV).returncode != 0:
        raise BuildError(
            "python3 cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
        )
    pip = [python_of(VENV), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
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


def digest_of(files: list[Path], *also: str) -> str:
    """Changes when one of the files, its name, or one of the texts does."""
    digest = hashlib.sha256("\0".join(also).encode())
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path} {len(content)} ".encode() + content)
    return digest.hexdigest()


def python_of(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: object):
    """Runs a command, its standard output with the errors: the build prints one line of its own."""
    try:
        return subprocess.run([str(part) for part in command], stdout=sys.stderr)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
