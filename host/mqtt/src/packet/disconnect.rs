//! DISCONNECT (§3.14).

use super::{List, Properties, ProtocolVersion, Reader, wire};
use crate::{DecodeError, EncodeError, Limits, PacketType, Property, ReasonCode};

/// The last packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// [`ReasonCode::Success`] is a normal disconnection, the only one on MQTT 3.1.1.
    pub reason_code: ReasonCode,
    /// Session expiry interval, reason string, server reference, user properties.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let mut packet = Self { reason_code: ReasonCode::Success, properties: Properties::NONE };
        // Below two bytes of content there is no property length (§3.14.2.2.1).
        if version.is_v5() && !reader.is_empty() {
            packet.reason_code = ReasonCode::read(reader.u8()?, PacketType::Disconnect)?;
            if !reader.is_empty() {
                packet.properties = Properties::read(reader, List::Disconnect, limits)?;
            }
        }
        Ok(packet)
    }

    /// A changed session expiry interval in seconds (§3.14.2.2.2).
    #[must_use]
    pub fn session_expiry_interval(&self) -> Option<u32> {
        self.properties.find(|property| match property {
            Property::SessionExpiryInterval(seconds) => Some(seconds),
            _ => None,
        })
    }

    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let with_properties = version.is_v5() && !self.properties.is_empty();
        let with_reason = version.is_v5() && self.reason_code != ReasonCode::Success;
        let remaining = match (with_properties, with_reason) {
            (true, _) => 1 + self.properties.wire_bytes(),
            (false, true) => 1,
            (false, false) => 0,
        };
        wire::put_header(out, PacketType::Disconnect.first_byte(), remaining)?;
        if remaining > 0 {
            out.push(self.reason_code.byte());
        }
        if with_properties {
            self.properties.put(out);
        }
        Ok(())
    }
}
