"""Asks a component what a file of cases says, with the gateway's binary of PORTREEVE."""

import json
import os
import subprocess
import sys
from pathlib import Path


def ask(component: Path, cases: Path) -> None:
    failed = [case["name"] for case in json.loads(cases.read_text("utf-8")) if not holds(component, case)]
    if failed:
        sys.exit(f"{component}: not so: " + "; ".join(failed))
    print(f"{cases}: ok")


def holds(component: Path, case: dict) -> bool:
    call = [os.environ["PORTREEVE"], "plugin", "call", "--ask", case["ask"], component]
    result = subprocess.run([*call, json.dumps(case["input"])], capture_output=True, text=True)
    if "error" in case:
        return result.returncode != 0 and case["error"] in result.stderr
    return result.returncode == 0 and agrees(case["expect"], json.loads(result.stdout))


def agrees(expected: object, answer: object) -> bool:
    """Objects may have more fields than expected; lists have the same length."""
    if isinstance(expected, dict) and isinstance(answer, dict):
        return all(key in answer and agrees(expected[key], answer[key]) for key in expected)
    if isinstance(expected, list) and isinstance(answer, list):
        return len(expected) == len(answer) and all(map(agrees, expected, answer))
    return expected == answer
