"""Checks what an author's code hands over. The runtime traps on a value of the wrong type, and a
trap costs the instance; an exception from here costs the call only and says what is wrong."""

from __future__ import annotations

from typing import Any, Callable, Optional


def kind(what: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{what} is of type {type(value).__name__}, not {expected.__name__}")


def text(what: str, value: Any) -> None:
    kind(what, value, str)
    # A lone surrogate, which JSON can bring in, has no UTF-8.
    if not value.isascii():
        value.encode()


def data(what: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"{what} is of type {type(value).__name__}, not bytes")


def integer(what: str, value: Any, minimum: int, maximum: int) -> None:
    kind(what, value, int)
    if not minimum <= value <= maximum:
        raise ValueError(f"{what} is {value}, not {minimum} to {maximum}")


def u32(what: str, value: Any) -> None:
    integer(what, value, 0, 2**32 - 1)


def optional(check: Callable[[str, Any], Any], what: str, value: Optional[Any]) -> Any:
    return None if value is None else check(what, value)


def properties(what: str, value: Any) -> None:
    kind(what, value, list)
    for item in value:
        if not isinstance(item, tuple) or len(item) != 2:
            raise TypeError(f"{what} holds {item!r}, not tuples of a name and a value")
        text(what, item[0])
        text(what, item[1])
