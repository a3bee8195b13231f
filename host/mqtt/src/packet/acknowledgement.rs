//! PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7): one shape, four types.

use core::num::NonZeroU16;

use super::{List, Properties, ProtocolVersion, Reader, wire};
use crate::{DecodeError, EncodeError, Limits, PacketType, ReasonCode};

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum AcknowledgementKind {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

impl AcknowledgementKind {
    /// The packet's type.
    #[must_use]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::Puback => PacketType::Puback,
            Self::Pubrec => PacketType::Pubrec,
            Self::Pubrel => PacketType::Pubrel,
            Self::Pubcomp => PacketType::Pubcomp,
        }
    }
}

/// An acknowledgement of a PUBLISH, or a step of the QoS 2 exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// Which of the four packets.
    pub kind: AcknowledgementKind,
    /// The PUBLISH that it answers.
    pub packet_id: NonZeroU16,
    /// [`ReasonCode::Success`] on MQTT 3.1.1.
    pub reason_code: ReasonCode,
    /// Reason string and user properties.
    pub properties: Properties<'a>,
}

impl<'a> Acknowledgement<'a> {
    /// A success without properties.
    #[must_use]
    pub const fn success(kind: AcknowledgementKind, packet_id: NonZeroU16) -> Self {
        Self { kind, packet_id, reason_code: ReasonCode::Success, properties: Properties::NONE }
    }

    #[inline]
    pub(super) fn read(
        kind: AcknowledgementKind,
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut packet = Self::success(kind, packet_id);
        if version.is_v5() && !reader.is_empty() {
            packet.reason_code = ReasonCode::read(reader.u8()?, kind.packet_type())?;
            if !reader.is_empty() {
                packet.properties = Properties::read(reader, List::Acknowledgement, limits)?;
            }
        }
        Ok(packet)
    }

    /// Appends the packet in its shortest form (§3.4.2.1): a success without properties is two
    /// bytes of content.
    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let with_properties = version.is_v5() && !self.properties.is_empty();
        let with_reason = version.is_v5() && self.reason_code != ReasonCode::Success;
        let remaining = match (with_properties, with_reason) {
            (true, _) => 3 + self.properties.wire_bytes(),
            (false, true) => 3,
            (false, false) => 2,
        };
        wire::put_header(out, self.kind.packet_type().first_byte(), remaining)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        if with_properties || with_reason {
            out.push(self.reason_code.byte());
        }
        if with_properties {
            self.properties.put(out);
        }
        Ok(())
    }
}
