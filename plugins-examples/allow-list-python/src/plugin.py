"""Admits the users of its settings: `user.NAME` holds a user's password, and `device.NAME` the
device name that it gets, which is its own name otherwise."""

import hmac

from portreeve_guest import Connect, Refusal, Verdict, settings, verifier


@verifier
def verify(request: Connect) -> Verdict:
    name, given = request.user_name, request.password
    refusal = Refusal.bad_user_name_or_password("unknown user or wrong password")
    if name is None or given is None:
        return refusal
    password = settings.get(f"user.{name}")
    # Compares in a time that does not tell how much is right.
    if not password or not hmac.compare_digest(password.encode(), given):
        return refusal
    device_name = settings.get(f"device.{name}")
    return Verdict.admit(name if device_name is None else device_name)
