"""The contract's `on-publish`: a component's main module takes `OnPublish` from here."""

from __future__ import annotations

from typing import Any, List

from wit_world.exports import on_publish as wit
from wit_world.imports import types as wit_types

from portreeve_guest import export, message
from portreeve_guest.component import check
from portreeve_guest.component.call import call

# See on_connect.py: the runtime makes and reads our types in place of the generated ones.
for _name in ("Device", "Message", "PayloadFormat"):
    setattr(wit_types, _name, getattr(message, _name))
wit_types.Qos = message.QoS
for _name in ("Context", "Direction"):
    setattr(wit, _name, getattr(message, _name))

_PASS = wit.Outcome_Pass()
_DROP = wit.Outcome_Drop()


class OnPublish:
    def parse(self, context: message.Context, publication: message.Message) -> Any:
        assert export.parse is not None
        return call(export.parse, _checked, context, publication)


def _checked(answer: Any) -> Any:
    if isinstance(answer, message.Message):
        return _replaced([answer])
    if isinstance(answer, list):
        return _replaced(answer)
    if isinstance(answer, message.Replace):
        check.kind("Replace.messages", answer.messages, list)
        return _replaced(answer.messages)
    if isinstance(answer, message.Pass):
        return _PASS
    if isinstance(answer, message.Drop):
        return _DROP
    if isinstance(answer, message.Reject):
        check.text("Reject.reason", answer.reason)
        return wit.Outcome_Reject(answer.reason)
    raise TypeError(f"the parser returned {type(answer).__name__}, which is no Outcome or Message")


def _replaced(messages: List[message.Message]) -> Any:
    for item in messages:
        check.kind("an item of the list", item, message.Message)
        check.text("Message.topic", item.topic)
        item.payload = check.data("Message.payload", item.payload)
        if item.payload_format is not None:
            check.kind("Message.payload_format", item.payload_format, message.PayloadFormat)
        check.kind("Message.qos", item.qos, message.QoS)
        check.kind("Message.retain", item.retain, bool)
        check.optional(check.text, "Message.content_type", item.content_type)
        check.optional(check.text, "Message.response_topic", item.response_topic)
        item.correlation_data = check.optional(
            check.data, "Message.correlation_data", item.correlation_data
        )
        check.optional(check.u32, "Message.message_expiry_interval", item.message_expiry_interval)
        check.properties("Message.user_properties", item.user_properties)
    return wit.Outcome_Replace(messages)
