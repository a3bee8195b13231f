"""What a verifier is told, and what it answers.

The fields stand in the order of the contract: the component's runtime fills them by position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import List, Optional, Tuple


class Protocol(Enum):
    """The version of MQTT that the peer asked for."""

    MQTT31 = 0
    MQTT311 = 1
    MQTT5 = 2


class Revocation(Enum):
    """Revocation of a certificate as the gateway knows it."""

    GOOD = 0
    REVOKED = 1
    UNKNOWN = 2
    NOT_CHECKED = 3


@dataclass
class Certificate:
    """The peer's certificate, verified by the gateway."""

    subject: str
    """The subject as an RFC 4514 string, such as `CN=device-1,O=Example`."""
    common_name: Optional[str]
    """The subject's most specific common name."""
    dns_names: List[str]
    """DNS names of the subject alternative name, in their order."""
    uris: List[str]
    """URIs of the subject alternative name."""
    email_addresses: List[str]
    """Email addresses of the subject alternative name."""
    issuer: str
    """The issuer as an RFC 4514 string."""
    serial_number: str
    """Lower-case hex, no separators, no leading zero byte."""
    not_before: int
    """Seconds since the Unix epoch."""
    not_after: int
    """Seconds since the Unix epoch."""
    fingerprint: str
    """SHA-256 of the DER encoding: 64 characters of lower-case hex."""
    revocation: Revocation
    """What the gateway knows of its revocation."""
    der: bytes
    """The DER encoding."""
    chain: List[bytes]
    """The verified chain above it, DER, trust anchor last."""


@dataclass
class Tls:
    """The TLS session of a connection."""

    version: str
    """`1.2` or `1.3`."""
    cipher_suite: str
    """The IANA name, such as `TLS_AES_128_GCM_SHA256`."""
    server_name: Optional[str]
    """The server name that the peer asked for (SNI), lower case."""
    certificate: Optional[Certificate]
    """The peer's certificate, on mutual TLS only."""


@dataclass
class Connection:
    """Where and how the peer connected."""

    id: int
    """Unique while the gateway runs; the same in every step of one CONNECT."""
    gateway: str
    """Name of the gateway (a group of listeners) in the configuration."""
    peer_address: str
    """Address and port, such as `192.0.2.7:50123` or `[2001:db8::7]:50123`."""
    protocol: Protocol
    """Version of MQTT."""
    tls: Optional[Tls]
    """`None` on a plain connection."""


@dataclass
class Connect:
    """What a peer said of itself in CONNECT. Nothing of it is proven but the certificate."""

    connection: Connection
    """Where and how the peer connected."""
    client_id: str
    """Empty where the gateway is to assign one."""
    user_name: Optional[str]
    """User name."""
    password: Optional[bytes]
    """Binary data, at most 65,535 bytes."""
    clean_start: bool
    """MQTT 5 clean start, MQTT 3.1.1 clean session."""
    keep_alive: int
    """Seconds, 0 to 65,535; 0 turns it off."""
    authentication_method: Optional[str]
    """Method of MQTT 5 enhanced authentication."""
    authentication_data: Optional[bytes]
    """Data of the CONNECT, or of the latest AUTH."""
    user_properties: List[Tuple[str, str]]
    """MQTT 5 user properties, in their order."""


class Verdict:
    """The answer of a verifier: an `Admission`, a `Refusal` or a `Challenge`."""

    @staticmethod
    def admit(device_name: str) -> Admission:
        """Admits the device of this name, with the gateway's own rules."""
        return Admission(device_name)


class Action(Enum):
    """What a permission permits."""

    PUBLISH = 0
    SUBSCRIBE = 1
    BOTH = 2


@dataclass
class Permission:
    """A topic filter that the device may use."""

    action: Action
    """What for."""
    topic_filter: str
    """`%d`, `%c` and `%u` stand for device name, client identifier and user name."""


@dataclass
class Admission(Verdict):
    """Lets the peer in, as this device."""

    device_name: str
    """4 to 64 of `A-Z a-z 0-9 - _ @ . :`. An unknown device is created under it."""
    product: Optional[str] = None
    """`None` for the gateway's product."""
    attributes: List[Tuple[str, str]] = field(default_factory=list)
    """Kept in the registry and given to parsers. At most 64, of 1 KiB each."""
    permissions: Optional[List[Permission]] = None
    """`None` for the gateway's own rules; an empty list permits nothing."""
    expires_in: Optional[int] = None
    """Seconds until the session ends or is verified again; 1 at least."""
    cache_for: Optional[int] = None
    """Seconds for which the verdict may be reused for the same credentials."""
    authentication_data: Optional[bytes] = None
    """The last word of an enhanced authentication, sent with CONNACK. At most 65,535 bytes."""

    def attribute(self, name: str, value: str) -> Admission:
        """Adds an attribute, and returns the admission."""
        self.attributes.append((name, value))
        return self

    def permit(self, action: Action, topic_filter: str) -> Admission:
        """Adds a permission, and returns the admission.

        With the first one, the gateway's own rules no longer count. `%d`, `%c` and `%u` stand for
        device name, client identifier and user name.
        """
        if self.permissions is None:
            self.permissions = []
        self.permissions.append(Permission(action, topic_filter))
        return self


class RefusalReason(Enum):
    """Why the peer is not let in; in brackets the answers on MQTT 5 and MQTT 3.1.1."""

    BAD_USER_NAME_OR_PASSWORD = 0
    """Unknown user name, wrong password (0x86, 5)."""
    NOT_AUTHORIZED = 1
    """Known, but not allowed here or now (0x87, 5)."""
    BANNED = 2
    """Barred (0x8A, 5)."""
    SERVER_BUSY = 3
    """Try again later (0x89, 3)."""
    QUOTA_EXCEEDED = 4
    """A quota is used up (0x97, 3)."""
    USE_ANOTHER_SERVER = 5
    """Go to `server_reference` (0x9C, 3)."""


@dataclass
class Refusal(Verdict):
    """Turns the peer away."""

    reason: RefusalReason
    """Decides the reason code."""
    message: str
    """For the log and, on MQTT 5, the peer. No secrets."""
    server_reference: Optional[str] = None
    """Space-separated `host:port`, for `USE_ANOTHER_SERVER`."""

    @classmethod
    def bad_user_name_or_password(cls, message: str) -> Refusal:
        """The credentials are wrong."""
        return cls(RefusalReason.BAD_USER_NAME_OR_PASSWORD, message)

    @classmethod
    def not_authorized(cls, message: str) -> Refusal:
        """The peer is known, but not allowed here or now."""
        return cls(RefusalReason.NOT_AUTHORIZED, message)


@dataclass
class Challenge(Verdict):
    """Sends AUTH with this data; the peer's answer comes through the verifier again.

    For MQTT 5 with an authentication method only. The instance may be another one then: keep what is
    needed in `state` under the connection's id, with a `ttl`.
    """

    data: bytes
    """The authentication data."""
