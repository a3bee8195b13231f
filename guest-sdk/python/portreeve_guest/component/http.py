"""`wasi:http/outgoing-handler`, used one request at a time."""

from __future__ import annotations

import re
from typing import Any, Callable, List, Optional, Tuple

from componentize_py_types import Err, Ok

try:
    from wit_world.imports import http_types as types
except ImportError as error:
    raise ImportError(
        "the component is built without HTTP, as no module of src imports portreeve_guest.http by "
        "its name: write `from portreeve_guest import http` in one of them"
    ) from error
from wit_world.imports import outgoing_handler, streams
from wit_world.imports.error import Error as StreamFailure

from portreeve_guest.component import check, host
from portreeve_guest.http import Code, HttpError, Request, Response

# As many bytes as one write may take, and as are read at a time.
_WRITE_BYTES = 4096
_READ_BYTES = 65536
_NANOSECONDS = 1_000_000_000
_NANOSECONDS_MAX = 2**63

_METHODS = {
    "GET": types.Method_Get,
    "HEAD": types.Method_Head,
    "POST": types.Method_Post,
    "PUT": types.Method_Put,
    "DELETE": types.Method_Delete,
    "CONNECT": types.Method_Connect,
    "OPTIONS": types.Method_Options,
    "TRACE": types.Method_Trace,
    "PATCH": types.Method_Patch,
}
_CODES = {
    types.ErrorCode_HttpRequestDenied: Code.DENIED,
    types.ErrorCode_DestinationIpProhibited: Code.DENIED,
    types.ErrorCode_ConnectionLimitReached: Code.DENIED,
    types.ErrorCode_HttpRequestUriInvalid: Code.INVALID,
    types.ErrorCode_HttpRequestMethodInvalid: Code.INVALID,
    types.ErrorCode_HttpRequestBodySize: Code.INVALID,
    types.ErrorCode_HttpResponseTimeout: Code.TIMED_OUT,
    types.ErrorCode_ConnectionTimeout: Code.TIMED_OUT,
    types.ErrorCode_ConnectionReadTimeout: Code.TIMED_OUT,
    types.ErrorCode_HttpResponseIncomplete: Code.BROKEN,
    types.ErrorCode_HttpResponseBodySize: Code.BROKEN,
}


def send(request: Request) -> Response:
    """Sends a request and waits for the whole response."""
    host.require_running("http")
    outgoing = _outgoing(request)
    body = outgoing.body()
    try:
        future = outgoing_handler.handle(outgoing, _options(request.timeout))
    except Err as error:
        raise _sorted(error.value) from None
    with future:
        _write(body, request.body)
        with future.subscribe() as pollable:
            pollable.block()
        outcome = future.get()
    # A result of a result: whether it was taken already, and what came.
    if not isinstance(outcome, Ok):
        raise HttpError(Code.BROKEN, "no response")
    if isinstance(outcome.value, Err):
        raise _sorted(outcome.value.value)
    return _read(outcome.value.value)


def _outgoing(request: Request) -> types.OutgoingRequest:
    scheme, authority, path = _parts(request.url)
    fields = types.Fields()
    for name, value in _with_length(request):
        check.text("a header's name", name)
        check.text(f"the header {name}", value)
        _accepted(f"header {name}", fields.append, name, value.encode())
    outgoing = types.OutgoingRequest(fields)
    _accepted("its scheme is none", outgoing.set_scheme, scheme)
    _accepted("its host is none", outgoing.set_authority, authority)
    _accepted("its path is none", outgoing.set_path_with_query, path)
    _accepted("its method is none", outgoing.set_method, _method(request.method))
    return outgoing


def _parts(url: str) -> Tuple[Any, str, str]:
    check.text("the URL", url)
    parts = re.fullmatch(r"([^:/?#]+)://([^/?#]*)([^#]*)(#.*)?", url, re.DOTALL)
    if parts is None:
        raise HttpError(Code.INVALID, "its URL has no scheme")
    scheme, authority, path, _ = parts.groups()
    known = {"https": types.Scheme_Https, "http": types.Scheme_Http}
    made = known[scheme]() if scheme in known else types.Scheme_Other(scheme)
    return made, authority, path if path.startswith("/") else f"/{path}"


def _with_length(request: Request) -> List[Tuple[str, str]]:
    has_length = any(name.lower() == "content-length" for name, _ in request.headers)
    if has_length or not request.body:
        return request.headers
    return [*request.headers, ("content-length", str(len(request.body)))]


def _method(name: str) -> Any:
    check.text("the method", name)
    return _METHODS[name]() if name in _METHODS else types.Method_Other(name)


def _options(timeout: Optional[float]) -> Optional[types.RequestOptions]:
    if timeout is None:
        return None
    options = types.RequestOptions()
    nanoseconds = int(min(timeout * _NANOSECONDS, _NANOSECONDS_MAX))
    options.set_connect_timeout(nanoseconds)
    options.set_first_byte_timeout(nanoseconds)
    options.set_between_bytes_timeout(nanoseconds)
    return options


def _write(content: types.OutgoingBody, body: bytes) -> None:
    is_written = True
    with content.write() as stream:
        try:
            for at in range(0, len(body), _WRITE_BYTES):
                stream.blocking_write_and_flush(body[at : at + _WRITE_BYTES])
        except Err as error:
            # Where the request is refused nobody reads the body; the response then says why.
            _release(error)
            is_written = False
    if not is_written:
        content.__exit__(None, None, None)
        return
    try:
        types.OutgoingBody.finish(content, None)
    except Err as error:
        raise _sorted(error.value) from None


def _read(response: types.IncomingResponse) -> Response:
    # What came from another resource ends before it.
    with response:
        with response.headers() as fields:
            headers = [(name, value.decode(errors="replace")) for name, value in fields.entries()]
        with response.consume() as content, content.stream() as stream:
            return Response(response.status(), _drained(stream), headers)


def _drained(stream: streams.InputStream) -> bytes:
    body = bytearray()
    while True:
        try:
            body += stream.blocking_read(_READ_BYTES)
        except Err as error:
            if isinstance(error.value, streams.StreamError_Closed):
                return bytes(body)
            with error.value.value as failure:
                raise _broken_off(failure) from None


def _broken_off(failure: StreamFailure) -> HttpError:
    code, text = types.http_error_code(failure), failure.to_debug_string()
    if code is not None:
        error = _sorted(code)
        return error if error.code is Code.TIMED_OUT else HttpError(Code.BROKEN, _shown(code))
    # Some hosts have a text only for what goes wrong within a body.
    return HttpError(Code.TIMED_OUT) if "timeout" in text else HttpError(Code.BROKEN, text)


def _release(error: Err) -> None:
    if isinstance(error.value, streams.StreamError_LastOperationFailed):
        error.value.value.__exit__(None, None, None)


def _accepted(what: str, call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except Err as error:
        raise HttpError(Code.INVALID, what) from error


def _sorted(code: Any) -> HttpError:
    kind = _CODES.get(type(code), Code.UNREACHABLE)
    if kind in (Code.DENIED, Code.TIMED_OUT):
        return HttpError(kind)
    return HttpError(kind, _shown(code))


def _shown(code: Any) -> str:
    name = type(code).__name__.removeprefix("ErrorCode_")
    value = getattr(code, "value", None)
    return name if value is None else f"{name} {value}"
