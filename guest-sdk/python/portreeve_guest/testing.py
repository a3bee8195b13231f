"""Stands in for the gateway in native unit tests of plugins::

    from portreeve_guest import testing

    testing.settings({"password": "demo"})
    request = testing.connect("client-1", user_name="device-1", password=b"demo")
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from portreeve_guest import native
from portreeve_guest import http as _http
from portreeve_guest.connect import Connect, Connection, Protocol, Tls
from portreeve_guest.message import Answer, Context, Device, Direction, Message, Replace


def settings(values: Mapping[str, str]) -> None:
    """Replaces the settings."""
    native.settings.entries = dict(values)


def clear_state() -> None:
    """Removes every entry of the state."""
    native.state.entries = {}


def service(answer: Optional[Callable[[_http.Request], _http.Response]]) -> None:
    """From now on this answers the requests that the plugin makes::

        testing.service(lambda request: http.Response(200, b"{}"))

    Without it, or with `None`, each is denied. It may raise an `http.HttpError`.
    """
    native.http.service = staticmethod(answer) if answer else None


def log_lines() -> List[str]:
    """The log's lines since the last time, without their level."""
    lines, native.log.lines = native.log.lines, []
    return lines


def connect(
    client_id: str,
    user_name: Optional[str] = None,
    password: Optional[bytes] = None,
    tls: Optional[Tls] = None,
    **fields: Any,
) -> Connect:
    """A CONNECT of this client identifier over an MQTT 5 connection; `fields` replace others."""
    connection = Connection(1, "test", "192.0.2.1:50000", Protocol.MQTT5, tls)
    values: Dict[str, Any] = {
        "connection": connection,
        "client_id": client_id,
        "user_name": user_name,
        "password": password,
        "clean_start": True,
        "keep_alive": 60,
        "authentication_method": None,
        "authentication_data": None,
        "user_properties": [],
    }
    return Connect(**{**values, **fields})


def message(topic: str, payload: bytes, **fields: Any) -> Message:
    """A message with QoS 0; `fields` replace others."""
    return Message(topic, payload, **fields)


def context(direction: Direction) -> Context:
    """A context with the device `device-1`."""
    return Context(direction, Device("device-1", "test", "client-1", []), "test", 0)


def replaced(answer: Answer) -> List[Tuple[str, bytes]]:
    """Topic and payload of the messages that replace another.

    Raises an `AssertionError`, which says what the answer is, when it is something else.
    """
    if isinstance(answer, Replace):
        answer = answer.messages
    if isinstance(answer, Message):
        answer = [answer]
    if not isinstance(answer, list):
        raise AssertionError(f"not replaced: {answer!r}")
    return [(message.topic, message.payload) for message in answer]
