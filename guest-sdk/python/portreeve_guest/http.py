"""Requests over HTTP, to what the manifest grants: `http = ["https://auth.example.com/verify"]`::

    from portreeve_guest import http

    response = http.post("https://auth.example.com/verify", b"{}", {"content-type": "application/json"})
    is_known = response.status == 200

A call waits for the whole response; any status is a response. A request ends with the call's
deadline, whatever its timeout. The build puts HTTP into the component where a module of `src` imports
this one, and the gateway refuses such a component unless its manifest grants something. Under an
ordinary Python `portreeve_guest.testing.service` answers.
"""

from __future__ import annotations

import json as _json
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Iterable, List, Mapping, Optional, Tuple, Union

from portreeve_guest.error import Error

Headers = Union[Mapping[str, str], Iterable[Tuple[str, str]]]
"""Names and values; as pairs where a name comes more than once."""


class Code(Enum):
    """Why there is no response."""

    DENIED = "denied"
    """The manifest does not grant the request."""
    INVALID = "invalid"
    """The request cannot be sent as it is."""
    TIMED_OUT = "timed-out"
    """No response in time."""
    UNREACHABLE = "unreachable"
    """No connection, or a certificate that is not to be trusted."""
    BROKEN = "broken"
    """The response broke off, or is larger than the manifest allows."""


_TEXTS = {
    Code.DENIED: "the manifest does not grant this request",
    Code.INVALID: "the request cannot be sent",
    Code.TIMED_OUT: "no response in time",
    Code.UNREACHABLE: "the server cannot be reached",
    Code.BROKEN: "the response cannot be read",
}


class HttpError(Error):
    """There is no response; `code` says why, and the gateway's log says more."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{_TEXTS[code]}: {detail}" if detail else _TEXTS[code])
        self.code = code


@dataclass
class Request:
    """A request, as a service of a test sees it."""

    method: str
    url: str
    """Scheme, host, port, path and query."""
    headers: List[Tuple[str, str]]
    body: bytes
    """Empty for none."""
    timeout: Optional[float]
    """Seconds."""


@dataclass
class Response:
    """What a server answered. Tests make their own."""

    status: int
    """Such as 200."""
    body: bytes = b""
    """The gateway bounds it (`http_client.response`)."""
    headers: List[Tuple[str, str]] = field(default_factory=list)
    """Names, in lower case, and values."""

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status < 300

    def header(self, name: str) -> Optional[str]:
        """The value of the first header of this name, in whatever case."""
        wanted = name.lower()
        return next((value for other, value in self.headers if other.lower() == wanted), None)

    @property
    def text(self) -> str:
        """The body as text; a `ValueError` when it is not UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body read as JSON; a `ValueError` when it is none."""
        return _json.loads(self.body)


def request(
    method: str,
    url: str,
    body: Union[bytes, str] = b"",
    headers: Headers = (),
    timeout: Optional[float] = None,
) -> Response:
    """Makes a request. A text becomes UTF-8.

    `timeout` is in seconds, for the connection, for the first byte of the response, and between its
    parts; it is the manifest's `http_client.timeout` where it is left out. Raises `HttpError` when
    there is no response.
    """
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    data = body.encode() if isinstance(body, str) else bytes(body)
    if timeout is not None and not timeout > 0:
        raise ValueError(f"the timeout is {timeout}; it is to be above 0 seconds")
    return _host.send(Request(method, url, pairs, data, timeout))


def get(url: str, headers: Headers = (), timeout: Optional[float] = None) -> Response:
    """GET; as `request`."""
    return request("GET", url, b"", headers, timeout)


def post(
    url: str,
    body: Union[bytes, str],
    headers: Headers = (),
    timeout: Optional[float] = None,
) -> Response:
    """POST with a body; as `request`."""
    return request("POST", url, body, headers, timeout)


# Last, because it takes the types of this module.
if sys.platform == "wasi":
    from portreeve_guest.component import http as _host
else:
    from portreeve_guest.native import http as _host
