"""Calls an author's function, and turns what it raises into the contract's error."""

from __future__ import annotations

from typing import Any, Callable

from componentize_py_types import Err

from portreeve_guest.component import host
from portreeve_guest.error import Error


def call(function: Callable[..., Any], checked: Callable[[Any], Any], *arguments: Any) -> Any:
    """The checked answer. Raises `Err`, which the runtime hands to the gateway."""
    host.running = True
    try:
        return checked(function(*arguments))
    except Exception as error:
        raise Err(_text(error)) from None


def _text(error: Exception) -> str:
    if isinstance(error, Error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}{_place(error)}"
        if isinstance(error, ImportError):
            text += "; import it at the top of the module: a running plugin has no files"
    return text.encode(errors="replace").decode()


def _place(error: Exception) -> str:
    """The line of the author's code, which is neither this package nor Python's own library."""
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if "/portreeve_guest/" not in name and not name.startswith("/python/"):
            place = f" ({name.rpartition('/')[2]}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return place
