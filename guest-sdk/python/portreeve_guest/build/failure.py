"""Runs the tools of a build, and says in few words what went wrong."""

from __future__ import annotations

import subprocess
from typing import Dict, List

_LINES_MAX = 20
# What componentize-py puts around the traceback of an author's module.
_RUST_BEFORE = "AssertionError: "
_RUST_AFTER = ("\nCaused by:", "\nStack backtrace:")


class Failure(Exception):
    """What is wrong, and where, and what to do."""


def run(command: List[str], meaning: str) -> None:
    """Runs a command; where it fails, `meaning` is said before its last lines."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()[-_LINES_MAX:]
        raise Failure("\n  ".join([meaning, *lines]))


def compile(command: List[str], environment: Dict[str, str]) -> None:
    """Runs componentize-py, which imports the author's module."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    if done.returncode == 0:
        return
    text = done.stdout
    if "called trapping stub: " in text:
        stub = text.rpartition("called trapping stub: ")[2].split()[0]
        raise Failure(
            f"the module calls {stub} while it is imported, which happens now, without a gateway; "
            "do it in the function that the gateway calls"
        )
    text = text.partition(_RUST_BEFORE)[2] or text
    for end in _RUST_AFTER:
        text = text.partition(end)[0]
    # Where the component's runtime sees the folders that the build gave it, in their order.
    text = text.replace('"/1/', '"src/').replace('"/2/', '"sdk/')
    lines = text.strip().splitlines()[-_LINES_MAX:]
    raise Failure("\n  ".join(["the module cannot be imported in a component:", *lines]))
