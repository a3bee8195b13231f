//! What can be wrong with bytes that a peer sent, and with values that we were asked to encode.

use core::fmt;

use crate::ReasonCode;

/// Whose rule a packet broke; decides the reason code of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes cannot be read as the standard describes (§4.13).
    MalformedPacket,
    /// The bytes can be read, but say what the protocol does not allow (§4.13).
    ProtocolError,
    /// CONNECT names a protocol or level that is not ours [MQTT-3.1.2-1, MQTT-3.1.2-2].
    UnsupportedProtocolVersion,
    /// The whole packet is larger than [`crate::Limits::packet_bytes_max`].
    PacketTooLarge,
    /// A topic alias of 0 [MQTT-3.3.2-8].
    TopicAliasInvalid,
    /// More user properties or topic filters than [`crate::Limits`] allows.
    QuotaExceeded,
}

/// A packet that must not be accepted: what is wrong, and by which statement of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// The kind of fault.
    pub fault: Fault,
    /// The fact, as a phrase: `"topic name holds a wildcard"`.
    pub what: &'static str,
    /// Statement or section of the standard, such as `MQTT-3.3.2-2` or `3.1.2.11.2`.
    pub statement: &'static str,
}

impl DecodeError {
    pub(crate) const fn malformed(what: &'static str, statement: &'static str) -> Self {
        Self { fault: Fault::MalformedPacket, what, statement }
    }

    pub(crate) const fn protocol(what: &'static str, statement: &'static str) -> Self {
        Self { fault: Fault::ProtocolError, what, statement }
    }

    pub(crate) const fn quota(what: &'static str) -> Self {
        Self { fault: Fault::QuotaExceeded, what, statement: "4.13" }
    }

    /// The reason code for CONNACK or DISCONNECT on MQTT 5.0. MQTT 3.1.1 only closes, except
    /// that an unsupported level is answered with CONNACK return code 1.
    #[must_use]
    pub const fn reason_code(&self) -> ReasonCode {
        match self.fault {
            Fault::MalformedPacket => ReasonCode::MalformedPacket,
            Fault::ProtocolError => ReasonCode::ProtocolError,
            Fault::UnsupportedProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            Fault::PacketTooLarge => ReasonCode::PacketTooLarge,
            Fault::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            Fault::QuotaExceeded => ReasonCode::QuotaExceeded,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.statement)
    }
}

impl core::error::Error for DecodeError {}

/// A value that no packet can carry. Nothing is written when it is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes (§1.5.4, §1.5.6).
    FieldTooLong {
        /// Length of the field in bytes.
        bytes: usize,
    },
    /// The packet's remaining length would exceed 268,435,455 (§2.1.4).
    PacketTooLong {
        /// Remaining length in bytes.
        bytes: usize,
    },
    /// The value has no encoding in this version of the protocol.
    NotInVersion {
        /// What cannot be said, as a phrase.
        what: &'static str,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldTooLong { bytes } => {
                write!(f, "a field of {bytes} bytes is longer than the 65535 that MQTT can carry")
            }
            Self::PacketTooLong { bytes } => {
                write!(
                    f,
                    "a packet of {bytes} bytes is longer than the 268435455 that MQTT can carry"
                )
            }
            Self::NotInVersion { what } => {
                write!(f, "{what} cannot be said in this version of MQTT")
            }
        }
    }
}

impl core::error::Error for EncodeError {}
