"""The gateway's side of log, settings and state."""

from __future__ import annotations

from typing import List, Optional, Tuple

from componentize_py_types import Err
from wit_world.imports import log as wit_log
from wit_world.imports import settings as wit_settings
from wit_world.imports import state as wit_state

from portreeve_guest.component import check
from portreeve_guest.error import Error

# False while the module is imported, which happens when the component is built.
running = False


def require_running(what: str) -> None:
    if not running:
        raise Error(
            f"{what} cannot be used while the module is imported, which happens when the component "
            "is built: do it in the function that the gateway calls"
        )


class log:
    @staticmethod
    def log(level: object, message: str, fields: List[Tuple[str, str]]) -> None:
        require_running("the log")
        check.text("the log line", message)
        check.properties("a field of the log line", fields)
        wit_log.log(level, message, fields)

    @staticmethod
    def enabled(level: object) -> bool:
        require_running("the log")
        return wit_log.enabled(level)


class settings:
    @staticmethod
    def get(key: str) -> Optional[str]:
        require_running("settings")
        check.text("the key", key)
        return wit_settings.get(key)

    @staticmethod
    def all() -> List[Tuple[str, str]]:
        require_running("settings")
        return wit_settings.all()


class state:
    @staticmethod
    def get(key: str) -> Optional[bytes]:
        require_running("state")
        check.text("the key", key)
        return wit_state.get(key)

    @staticmethod
    def set(key: str, value: bytes, ttl: Optional[int]) -> None:
        require_running("state")
        check.text("the key", key)
        check.optional(check.u32, "ttl", ttl)
        try:
            wit_state.set(key, check.data("the value", value), ttl)
        except Err as error:
            raise _state_error(error.value) from None

    @staticmethod
    def remove(key: str) -> None:
        require_running("state")
        check.text("the key", key)
        wit_state.remove(key)

    @staticmethod
    def increment(key: str, by: int, ttl: Optional[int]) -> int:
        require_running("state")
        check.text("the key", key)
        check.integer("by", by, -(2**63), 2**63 - 1)
        check.optional(check.u32, "ttl", ttl)
        try:
            return wit_state.increment(key, by, ttl)
        except Err as error:
            raise _state_error(error.value) from None


def _state_error(error: object) -> Error:
    if isinstance(error, wit_state.Error_KeyTooLong):
        return Error(f"state: the key is longer than {error.value} bytes")
    if isinstance(error, wit_state.Error_ValueTooLong):
        return Error(f"state: the value is longer than {error.value} bytes")
    if isinstance(error, wit_state.Error_Full):
        return Error(f"state: the entries would exceed {error.value} bytes")
    return Error("state: the entry is no counter")
