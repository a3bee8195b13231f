"""Runs a user's function, `handler(event, context)` in handler.py, that decides who connects.

The setting `preset` says for whom it was made: `portreeve` (the default), `lambda` (a custom
authorizer of AWS IoT Core) or `function-compute` (the event is bytes that hold JSON).
"""

import inspect
import json
from typing import Any

from portreeve_guest import Connect, Refusal, RefusalReason, Verdict, log, settings, verifier

import authorizer
import contract
import handler
from context import Context
from failure import Failure


@verifier
def verify(request: Connect) -> Verdict:
    # The function knows names and passwords, and no exchange of proofs.
    if request.authentication_method is not None:
        return Refusal.not_authorized("enhanced authentication is not offered")
    preset = settings.get("preset") or "portreeve"
    if preset not in ("portreeve", "lambda", "function-compute"):
        raise Failure(f"`preset` is {preset!r}; it is one of portreeve, lambda, function-compute")
    try:
        if preset == "lambda":
            event = authorizer.event(request)
            return authorizer.verdict(call(event, request), request)
        try:
            event = contract.event(request)
        except UnicodeDecodeError:
            return Refusal.bad_user_name_or_password("the password is no text")
        if preset == "function-compute":
            event = json.dumps(event).encode()
        return contract.verdict(call(event, request), request)
    except Exception as error:
        # What a device sent may have caused it, and a plugin that fails for three devices is not
        # asked for anybody: the device is refused, unless the settings say otherwise.
        if settings.get("on_error") == "unavailable":
            raise
        log.warn(f"the function failed, nobody is admitted: {type(error).__name__}: {error}")
        text = "the function that verifies devices failed"
        return Refusal(RefusalReason.NOT_AUTHORIZED, text)


def call(event: Any, request: Connect) -> Any:
    """What the function answers."""
    answer = handler.handler(event, Context(request))
    if inspect.iscoroutine(answer):
        answer = finish(answer)
    if isinstance(answer, (str, bytes, bytearray)):
        answer = json.loads(answer)
    if not isinstance(answer, dict):
        raise Failure(f"it returned {type(answer).__name__} and no dict")
    return answer


def finish(coroutine: Any) -> Any:
    """Runs a coroutine that waits for nothing outside: there is no network and no timer."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise Failure("it waits for what nothing settles; there are no timers and no network")
