//! AUTH (§3.15): a step of enhanced authentication. MQTT 5.0 only.

use super::{List, Properties, ProtocolVersion, Reader, wire};
use crate::{DecodeError, EncodeError, Limits, PacketType, Property, ReasonCode};

/// A step of an authentication exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue authentication or re-authenticate.
    pub reason_code: ReasonCode,
    /// Authentication method and data, reason string, user properties.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        if !version.is_v5() {
            return Err(DecodeError::malformed("packet type 15 is reserved", "2.2.1"));
        }
        if reader.is_empty() {
            // Reason code and property length may be left out together (§3.15.2.1).
            return Ok(Self { reason_code: ReasonCode::Success, properties: Properties::NONE });
        }
        let reason_code = ReasonCode::read(reader.u8()?, PacketType::Auth)?;
        let properties = Properties::read(reader, List::Auth, limits)?;
        let packet = Self { reason_code, properties };
        if reason_code != ReasonCode::Success && packet.method().is_none() {
            return Err(DecodeError::protocol("AUTH without authentication method", "3.15.2.2.2"));
        }
        Ok(packet)
    }

    /// The authentication method.
    #[must_use]
    pub fn method(&self) -> Option<&'a str> {
        self.properties.find(|property| match property {
            Property::AuthenticationMethod(method) => Some(method),
            _ => None,
        })
    }

    /// The authentication data.
    #[must_use]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.properties.find(|property| match property {
            Property::AuthenticationData(data) => Some(data),
            _ => None,
        })
    }

    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if !version.is_v5() {
            return Err(EncodeError::NotInVersion { what: "AUTH" });
        }
        if self.reason_code == ReasonCode::Success && self.properties.is_empty() {
            return wire::put_header(out, PacketType::Auth.first_byte(), 0);
        }
        wire::put_header(out, PacketType::Auth.first_byte(), 1 + self.properties.wire_bytes())?;
        out.push(self.reason_code.byte());
        self.properties.put(out);
        Ok(())
    }
}
