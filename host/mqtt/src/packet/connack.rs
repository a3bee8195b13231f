//! CONNACK (§3.2).

use super::{
    List, Properties, ProtocolVersion, Reader, properties_bytes, put_properties, read_properties,
    wire,
};
use crate::reason_code::{connect_return_code, from_connect_return_code};
use crate::{DecodeError, EncodeError, Limits, PacketType, ReasonCode};

/// The answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Whether the server holds session state for the client identifier [MQTT-3.2.2-2].
    pub session_present: bool,
    /// On MQTT 3.1.1 the return code, as the reason code that says the same.
    pub reason_code: ReasonCode,
    /// What the server tells about itself.
    pub properties: Properties<'a>,
}

impl<'a> Connack<'a> {
    /// A refusal; it never claims a session [MQTT-3.2.2-6].
    #[must_use]
    pub const fn refusal(reason_code: ReasonCode, properties: Properties<'a>) -> Self {
        Self { session_present: false, reason_code, properties }
    }

    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let session_present = match reader.u8()? {
            0 => false,
            1 => true,
            _ => {
                return Err(DecodeError::malformed(
                    "reserved acknowledge flags are set",
                    "MQTT-3.2.2-1",
                ));
            }
        };
        let code = reader.u8()?;
        let reason_code = if version.is_v5() {
            ReasonCode::read(code, PacketType::Connack)?
        } else {
            from_connect_return_code(code)
                .ok_or(DecodeError::protocol("return code is reserved", "3.2.2.3"))?
        };
        if session_present && reason_code != ReasonCode::Success {
            return Err(DecodeError::protocol("a refusal claims a session", "MQTT-3.2.2-6"));
        }
        let properties = read_properties(reader, version, List::Connack, limits)?;
        Ok(Self { session_present, reason_code, properties })
    }

    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let remaining = 2 + properties_bytes(&self.properties, version);
        wire::put_header(out, PacketType::Connack.first_byte(), remaining)?;
        out.push(u8::from(self.session_present));
        out.push(match version {
            ProtocolVersion::V5 => self.reason_code.byte(),
            ProtocolVersion::V31 | ProtocolVersion::V311 => connect_return_code(self.reason_code),
        });
        put_properties(out, &self.properties, version);
        Ok(())
    }
}
