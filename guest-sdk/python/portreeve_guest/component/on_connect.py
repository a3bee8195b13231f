"""The contract's `on-connect`: a component's main module takes `OnConnect` from here."""

from __future__ import annotations

from typing import Any

from wit_world.exports import on_connect as wit
from wit_world.imports import types as wit_types

from portreeve_guest import connect, export
from portreeve_guest.component import check
from portreeve_guest.component.call import call

# The runtime looks for its types in the generated modules after this one is imported. With ours in
# their place it makes and reads them itself, and nothing is copied.
for _name in ("Certificate", "Connection", "Protocol", "Revocation", "Tls"):
    setattr(wit_types, _name, getattr(connect, _name))
for _name in ("Action", "Admission", "Connect", "Permission", "Refusal", "RefusalReason"):
    setattr(wit, _name, getattr(connect, _name))


class OnConnect:
    def verify(self, request: connect.Connect) -> Any:
        assert export.verify is not None
        return call(export.verify, _checked, request)


def _checked(verdict: Any) -> Any:
    if isinstance(verdict, connect.Admission):
        _check_admission(verdict)
        return wit.Verdict_Admit(verdict)
    if isinstance(verdict, connect.Refusal):
        check.kind("Refusal.reason", verdict.reason, connect.RefusalReason)
        check.text("Refusal.message", verdict.message)
        check.optional(check.text, "Refusal.server_reference", verdict.server_reference)
        return wit.Verdict_Refuse(verdict)
    if isinstance(verdict, connect.Challenge):
        return wit.Verdict_Challenge(check.data("Challenge.data", verdict.data))
    raise TypeError(f"the verifier returned {type(verdict).__name__}, which is no Verdict")


def _check_admission(admission: connect.Admission) -> None:
    check.text("Admission.device_name", admission.device_name)
    check.optional(check.text, "Admission.product", admission.product)
    check.properties("Admission.attributes", admission.attributes)
    if admission.permissions is not None:
        check.kind("Admission.permissions", admission.permissions, list)
        for permission in admission.permissions:
            check.kind("a permission", permission, connect.Permission)
            check.kind("Permission.action", permission.action, connect.Action)
            check.text("Permission.topic_filter", permission.topic_filter)
    check.optional(check.u32, "Admission.expires_in", admission.expires_in)
    check.optional(check.u32, "Admission.cache_for", admission.cache_for)
    admission.authentication_data = check.optional(
        check.data, "Admission.authentication_data", admission.authentication_data
    )
