"""The gateway's place under an ordinary Python: settings, state and log in memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple

from portreeve_guest.error import Error

if TYPE_CHECKING:
    from portreeve_guest.http import Request, Response

_KEY_BYTES_MAX = 256
_VALUE_BYTES_MAX = 64 * 1024
_STATE_BYTES_MAX = 1024 * 1024
_COUNTER_MIN, _COUNTER_MAX = -(2**63), 2**63 - 1


class log:
    """Lines on standard error, kept for tests."""

    lines: List[str] = []

    @classmethod
    def log(cls, level: object, message: str, fields: List[Tuple[str, str]]) -> None:
        line = message + "".join(f" {name}={value}" for name, value in fields)
        cls.lines.append(line)
        print(f"{getattr(level, 'name', level)}: {line}", file=sys.stderr)

    @staticmethod
    def enabled(level: object) -> bool:
        return True


class http:
    """What a test gave."""

    service: Optional[Callable[[Request], Response]] = None

    @classmethod
    def send(cls, request: Request) -> Response:
        from portreeve_guest.http import Code, HttpError

        if cls.service is None:
            # As in a gateway whose manifest grants nothing.
            raise HttpError(Code.DENIED)
        return cls.service(request)


class settings:
    """What a test gave."""

    entries: Dict[str, str] = {}

    @classmethod
    def get(cls, key: str) -> Optional[str]:
        return cls.entries.get(key)

    @classmethod
    def all(cls) -> List[Tuple[str, str]]:
        return sorted(cls.entries.items())


class state:
    """Without expiry: a unit test does not wait."""

    entries: Dict[str, bytes] = {}

    @classmethod
    def get(cls, key: str) -> Optional[bytes]:
        return cls.entries.get(key)

    @classmethod
    def set(cls, key: str, value: bytes, ttl: Optional[int]) -> None:
        if len(key.encode()) > _KEY_BYTES_MAX:
            raise Error(f"state: the key is longer than {_KEY_BYTES_MAX} bytes")
        if len(value) > _VALUE_BYTES_MAX:
            raise Error(f"state: the value is longer than {_VALUE_BYTES_MAX} bytes")
        entries = {**cls.entries, key: bytes(value)}
        if sum(len(name.encode()) + len(entry) for name, entry in entries.items()) > _STATE_BYTES_MAX:
            raise Error(f"state: the entries would exceed {_STATE_BYTES_MAX} bytes")
        cls.entries = entries

    @classmethod
    def remove(cls, key: str) -> None:
        cls.entries.pop(key, None)

    @classmethod
    def increment(cls, key: str, by: int, ttl: Optional[int]) -> int:
        entry = cls.entries.get(key, bytes(8))
        if len(entry) != 8:
            raise Error("state: the entry is no counter")
        total = int.from_bytes(entry, "little", signed=True) + by
        total = min(max(total, _COUNTER_MIN), _COUNTER_MAX)
        cls.set(key, total.to_bytes(8, "little", signed=True), ttl)
        return total
