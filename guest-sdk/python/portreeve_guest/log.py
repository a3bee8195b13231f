"""Lines in the gateway's log, under the plugin's name. In native tests they go to standard error.

The gateway cuts lines at 8 KiB and drops what is beyond 100 lines a second, unless the manifest
says otherwise. What a plugin prints becomes log lines under the same limits.
"""

from __future__ import annotations

import sys
from enum import Enum

if sys.platform == "wasi":
    from portreeve_guest.component.host import log as _host
else:
    from portreeve_guest.native import log as _host


class Level(Enum):
    """How much a line matters."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


def log(level: Level, message: str, **fields: object) -> None:
    """Writes a line with fields, whose values become text. Never blocks."""
    _host.log(level, message, [(name, str(value)) for name, value in fields.items()])


def enabled(level: Level) -> bool:
    """Whether a line of this level would be written. Ask before building an expensive message."""
    return _host.enabled(level)


def debug(message: str, **fields: object) -> None:
    """Writes a line for whoever debugs the plugin."""
    log(Level.DEBUG, message, **fields)


def info(message: str, **fields: object) -> None:
    """Writes a line that an operator may want to read."""
    log(Level.INFO, message, **fields)


def warn(message: str, **fields: object) -> None:
    """Writes a line that an operator should read."""
    log(Level.WARN, message, **fields)


def error(message: str, **fields: object) -> None:
    """Writes a line that an operator must act upon."""
    log(Level.ERROR, message, **fields)
