"""A small key-value space of the plugin's own, shared by its instances. It ends with the gateway.

Keys are at most 256 bytes, values at most 64 KiB, and all entries together at most the manifest's
`limits.state` (1 MiB by default). Each call is atomic. It can be used while a call runs, and not
while the module is imported.
"""

from __future__ import annotations

import sys
from typing import Optional

if sys.platform == "wasi":
    from portreeve_guest.component.host import state as _host
else:
    from portreeve_guest.native import state as _host


def get(key: str) -> Optional[bytes]:
    """The entry of a key, `None` where there is none or its time is over."""
    return _host.get(key)


def set(key: str, value: bytes, ttl: Optional[int] = None) -> None:
    """Stores an entry, for `ttl` seconds or until it is removed.

    Raises `Error` when key or value are too long or the space is full; it is then as it was.
    """
    _host.set(key, value, ttl)


def remove(key: str) -> None:
    """Removes an entry; nothing happens where there is none."""
    _host.remove(key)


def increment(key: str, by: int = 1, ttl: Optional[int] = None) -> int:
    """Adds to a counter (64 bits, signed) and returns its new value; an absent one is 0.

    The sum saturates. `ttl` in seconds counts from the entry's creation. Raises `Error` when the
    entry is no counter or the space is full.
    """
    return _host.increment(key, by, ttl)
