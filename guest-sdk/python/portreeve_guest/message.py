"""What a parser is told, and what it answers.

The fields stand in the order of the contract: the component's runtime fills them by position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import List, Optional, Tuple, Union


class Direction(Enum):
    """Which way a message goes."""

    UP = 0
    """From a device to the platform."""
    DOWN = 1
    """From the platform to a device."""


class QoS(Enum):
    """Quality of service."""

    AT_MOST_ONCE = 0
    AT_LEAST_ONCE = 1
    EXACTLY_ONCE = 2


class PayloadFormat(Enum):
    """MQTT 5 payload format indicator: what the sender says the payload is."""

    UNSPECIFIED = 0
    UTF8 = 1


@dataclass
class Device:
    """A registered device."""

    name: str
    """4 to 64 of `A-Z a-z 0-9 - _ @ . :`."""
    product: str
    """The product that it belongs to."""
    client_id: str
    """Client identifier of its session."""
    attributes: List[Tuple[str, str]]
    """Attributes of its registry entry."""


@dataclass
class Context:
    """Under which circumstances a message came."""

    direction: Direction
    """A property of the binding, whoever publishes."""
    device: Device
    """The publisher."""
    gateway: str
    """Name of the gateway in the configuration."""
    received_at: int
    """Milliseconds since the Unix epoch."""


@dataclass
class Message:
    """An application message. On MQTT 3.1.1 the options are `None` and the lists empty."""

    topic: str
    """A topic name of 1 to 65,535 bytes, without wildcards."""
    payload: bytes
    """The application's bytes; at most the gateway's packet limit (1 MiB by default)."""
    payload_format: Optional[PayloadFormat] = None
    """What the sender says the payload is. The gateway does not check it."""
    qos: QoS = QoS.AT_MOST_ONCE
    """Quality of service."""
    retain: bool = False
    """Keep it for later subscribers."""
    content_type: Optional[str] = None
    """MIME type, by convention."""
    response_topic: Optional[str] = None
    """The topic name where an answer goes."""
    correlation_data: Optional[bytes] = None
    """What an answer carries back."""
    message_expiry_interval: Optional[int] = None
    """Seconds that remain."""
    user_properties: List[Tuple[str, str]] = field(default_factory=list)
    """MQTT 5 user properties, in their order."""

    @property
    def topic_levels(self) -> List[str]:
        """The levels of the topic."""
        return self.topic.split("/")

    def sibling_topic(self, level: str) -> str:
        """The topic with `level` in place of its last level."""
        parent, slash, _ = self.topic.rpartition("/")
        return parent + slash + level

    def with_topic(self, topic: str, payload: Union[bytes, str]) -> Message:
        """The same message to another topic, with another payload; a text becomes UTF-8.

        Payload format and content type described the old payload and are cleared.
        """
        data = payload.encode() if isinstance(payload, str) else payload
        # Spelled out, because dataclasses.replace takes as long as the rest of a small parser.
        return Message(
            topic=topic,
            payload=data,
            payload_format=None,
            qos=self.qos,
            retain=self.retain,
            content_type=None,
            response_topic=self.response_topic,
            correlation_data=self.correlation_data,
            message_expiry_interval=self.message_expiry_interval,
            user_properties=self.user_properties,
        )

    def json(self) -> Message:
        """Marks the payload as JSON (UTF-8, `application/json`), and returns the message."""
        self.payload_format = PayloadFormat.UTF8
        self.content_type = "application/json"
        return self


class Outcome:
    """What becomes of a message: `Pass`, `Replace`, `Drop` or `Reject`."""


@dataclass
class Pass(Outcome):
    """Deliver the message as it came."""


@dataclass
class Replace(Outcome):
    """Deliver these instead, in their order; 64 at most. An empty list is `Drop`.

    Each topic must lie under the binding's `may_publish` filters.
    """

    messages: List[Message]


@dataclass
class Drop(Outcome):
    """Acknowledge and deliver nothing."""


@dataclass
class Reject(Outcome):
    """The payload is not what it should be: 0x99 on MQTT 5, an acknowledgement on MQTT 3.1.1."""

    reason: str
    """The reason string, also for the log. No secrets."""


Answer = Union[Outcome, Message, List[Message]]
"""What a parser may return: an outcome, or the message or messages that replace the other."""
