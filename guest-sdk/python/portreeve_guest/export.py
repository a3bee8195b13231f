"""Marks the functions that the gateway calls."""

from __future__ import annotations

from typing import Callable, Optional, TypeVar

from portreeve_guest.connect import Connect, Verdict
from portreeve_guest.message import Answer, Context, Message

Verify = Callable[[Connect], Verdict]
Parse = Callable[[Context, Message], Answer]
_Verify = TypeVar("_Verify", bound=Verify)
_Parse = TypeVar("_Parse", bound=Parse)

verify: Optional[Verify] = None
parse: Optional[Parse] = None


def verifier(function: _Verify) -> _Verify:
    """Makes a function the component's verifier, which decides who a connecting device is.

    It is called for each CONNECT, and again for each answer to a challenge. An exception means that
    no decision was possible: the device is not let in, and told to try later.
    """
    global verify
    verify = function
    return function


def parser(function: _Parse) -> _Parse:
    """Makes a function the component's parser, which translates messages on their way.

    It is called for each PUBLISH to a topic that the parser is bound to. An exception means that the
    translation failed: the binding's `on_error` decides about the message.
    """
    global parse
    parse = function
    return function
