"""The settings of the plugin's manifest. They are text; anything else arrives as JSON.

They can be read while a call runs, and not while the module is imported.
"""

from __future__ import annotations

import sys
from typing import Callable, Dict, Optional, TypeVar

from portreeve_guest.error import Error

if sys.platform == "wasi":
    from portreeve_guest.component.host import settings as _host
else:
    from portreeve_guest.native import settings as _host

_Value = TypeVar("_Value")


def get(key: str) -> Optional[str]:
    """The value of one setting, `None` where the manifest does not have it."""
    return _host.get(key)


def require(key: str) -> str:
    """The value of a setting that the plugin cannot do without.

    Raises `Error`, which names the setting, when the manifest does not have it.
    """
    value = get(key)
    if value is None:
        raise Error(f"the manifest's [settings] has no `{key}`")
    return value


def parse_or(key: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
    """A setting as a value, such as `parse_or("seconds", int, 60)`.

    It is `default` when the manifest does not have it. Raises `Error`, which names the setting, when
    `parse` raises a `ValueError`.
    """
    value = get(key)
    if value is None:
        return default
    try:
        return parse(value)
    except ValueError as error:
        raise Error(f"the setting `{key}` is {value!r}") from error


def all() -> Dict[str, str]:
    """Every setting, in the order of the keys."""
    return dict(_host.all())
