"""Write Portreeve plugins in Python.

A verifier and a parser are one function each, marked with `verifier` and `parser`::

    from portreeve_guest import Connect, Refusal, Verdict, settings, verifier

    @verifier
    def verify(request: Connect) -> Verdict:
        if request.user_name is None:
            return Refusal.bad_user_name_or_password("no user name")
        if request.password != settings.require("password").encode():
            return Refusal.bad_user_name_or_password("wrong password")
        return Verdict.admit(request.user_name)

`portreeve_guest.build` makes a component of the module that holds them. Under an ordinary Python
the same module is ordinary Python: its unit tests run with `unittest`, and
`portreeve_guest.testing` stands in for the gateway.
"""

from portreeve_guest import log, settings, state
from portreeve_guest.connect import (
    Action,
    Admission,
    Certificate,
    Challenge,
    Connect,
    Connection,
    Permission,
    Protocol,
    Refusal,
    RefusalReason,
    Revocation,
    Tls,
    Verdict,
)
from portreeve_guest.error import Error
from portreeve_guest.export import parser, verifier
from portreeve_guest.message import (
    Answer,
    Context,
    Device,
    Direction,
    Drop,
    Message,
    Outcome,
    Pass,
    PayloadFormat,
    QoS,
    Reject,
    Replace,
)

__all__ = [
    "Action",
    "Admission",
    "Answer",
    "Certificate",
    "Challenge",
    "Connect",
    "Connection",
    "Context",
    "Device",
    "Direction",
    "Drop",
    "Error",
    "Message",
    "Outcome",
    "Pass",
    "PayloadFormat",
    "Permission",
    "Protocol",
    "QoS",
    "Refusal",
    "RefusalReason",
    "Reject",
    "Replace",
    "Revocation",
    "Tls",
    "Verdict",
    "log",
    "parser",
    "settings",
    "state",
    "verifier",
]
