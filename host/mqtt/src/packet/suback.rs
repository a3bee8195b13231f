//! SUBACK and UNSUBACK (§3.9, §3.11): one shape, two types.

use core::num::NonZeroU16;

use super::{
    List, Properties, ProtocolVersion, Reader, properties_bytes, put_properties, read_properties,
    wire,
};
use crate::{DecodeError, EncodeError, Limits, PacketType, ReasonCode};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum SubackKind {
    Suback,
    Unsuback,
}

impl SubackKind {
    /// The packet's type.
    #[must_use]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::Suback => PacketType::Suback,
            Self::Unsuback => PacketType::Unsuback,
        }
    }
}

/// One code for each filter, in the order of the request [MQTT-3.8.4-6].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suback<'a> {
    /// SUBACK or UNSUBACK.
    pub kind: SubackKind,
    /// The request that it answers.
    pub packet_id: NonZeroU16,
    /// Reason string and user properties.
    pub properties: Properties<'a>,
    /// Bytes of [`ReasonCode`]s. On MQTT 3.1.1 return codes (0, 1, 2, 0x80), and none for
    /// UNSUBACK.
    pub reason_codes: &'a [u8],
}

impl<'a> Suback<'a> {
    pub(super) fn read(
        kind: SubackKind,
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let list = match kind {
            SubackKind::Suback => List::Suback,
            SubackKind::Unsuback => List::Unsuback,
        };
        let properties = read_properties(reader, version, list, limits)?;
        let reason_codes = reader.take(reader.rest().len())?;
        let carries_codes = version.is_v5() || kind == SubackKind::Suback;
        if carries_codes == reason_codes.is_empty() {
            return Err(DecodeError::protocol("not one code for each topic filter", "3.9.3"));
        }
        for &code in reason_codes {
            if version.is_v5() {
                ReasonCode::read(code, kind.packet_type())?;
            } else if !matches!(code, 0..=2 | 0x80) {
                return Err(DecodeError::protocol("return code is reserved", "MQTT-3.9.3-2"));
            }
        }
        Ok(Self { kind, packet_id, properties, reason_codes })
    }

    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let codes = match (version.is_v5(), self.kind) {
            (false, SubackKind::Unsuback) => &[],
            _ => self.reason_codes,
        };
        let remaining = 2 + properties_bytes(&self.properties, version) + codes.len();
        wire::put_header(out, self.kind.packet_type().first_byte(), remaining)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        put_properties(out, &self.properties, version);
        if version.is_v5() {
            out.extend_from_slice(codes);
        } else {
            // 3.1.1 knows one failure only [MQTT-3.9.3-2].
            out.extend(codes.iter().map(|&code| code.min(0x80)));
        }
        Ok(())
    }
}
