//! CONNECT (§3.1).

use super::{
    List, Properties, ProtocolVersion, QoS, Reader, properties_bytes, put_properties,
    read_properties, wire,
};
use crate::{DecodeError, EncodeError, Fault, Limits, PacketType, Property, TopicName};

/// A client's request to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// From protocol name and level.
    pub protocol_version: ProtocolVersion,
    /// Clean Session on MQTT 3.1.1.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Properties of the CONNECT itself.
    pub properties: Properties<'a>,
    /// Empty where the server is to assign one [MQTT-3.1.3-6].
    pub client_id: &'a str,
    /// What to publish when the connection ends without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password: binary data.
    pub password: Option<&'a [u8]>,
}

/// The will message (§3.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// QoS to publish with.
    pub qos: QoS,
    /// Whether it is published as retained.
    pub retain: bool,
    /// Will properties (§3.1.3.2).
    pub properties: Properties<'a>,
    /// Where to publish.
    pub topic: TopicName<'a>,
    /// What to publish.
    pub payload: &'a [u8],
}

const USER_NAME: u8 = 1 << 7;
const PASSWORD: u8 = 1 << 6;
const WILL_RETAIN: u8 = 1 << 5;
const WILL_QOS_SHIFT: u8 = 3;
const WILL: u8 = 1 << 2;
const CLEAN_START: u8 = 1 << 1;

fn read_protocol_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    const UNSUPPORTED: DecodeError = DecodeError {
        fault: Fault::UnsupportedProtocolVersion,
        what: "protocol name or level is not MQTT 3.1, 3.1.1 or 5.0",
        statement: "MQTT-3.1.2-2",
    };
    let name = reader.binary()?;
    match (name, reader.u8()?) {
        (b"MQTT", 4) => Ok(ProtocolVersion::V311),
        (b"MQTT", 5) => Ok(ProtocolVersion::V5),
        (b"MQIsdp", 3) => Ok(ProtocolVersion::V31),
        _ => Err(UNSUPPORTED),
    }
}

/// The flags of §3.1.2.3 whose meaning does not depend on the payload.
fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    if flags & 1 != 0 {
        return Err(DecodeError::malformed("reserved connect flag is set", "MQTT-3.1.2-3"));
    }
    if flags & WILL == 0 && flags & (WILL_RETAIN | 3 << WILL_QOS_SHIFT) != 0 {
        return Err(DecodeError::malformed(
            "will QoS or will retain without a will",
            "MQTT-3.1.2-11",
        ));
    }
    if !version.is_v5() && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::malformed("password without user name", "MQTT-3.1.2-22"));
    }
    Ok(())
}

impl<'a> Connect<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, limits: &Limits) -> Result<Self, DecodeError> {
        let protocol_version = read_protocol_version(reader)?;
        let flags = reader.u8()?;
        check_flags(flags, protocol_version)?;
        let keep_alive = reader.u16()?;
        let properties = read_properties(reader, protocol_version, List::Connect, limits)?;
        let client_id = reader.string()?;
        let will = if flags & WILL == 0 {
            None
        } else {
            Some(Will::read(reader, flags, protocol_version, limits)?)
        };
        let user_name = if flags & USER_NAME == 0 { None } else { Some(reader.string()?) };
        let password = if flags & PASSWORD == 0 { None } else { Some(reader.binary()?) };
        let clean_start = flags & CLEAN_START != 0;
        let packet = Self {
            protocol_version,
            clean_start,
            keep_alive,
            properties,
            client_id,
            will,
            user_name,
            password,
        };
        if packet.authentication_method().is_none() && packet.authentication_data().is_some() {
            return Err(DecodeError::protocol("authentication data without method", "3.1.2.11.10"));
        }
        Ok(packet)
    }

    /// Seconds that the session outlives the connection; `u32::MAX` does not expire. Absent on
    /// MQTT 3.1.1, where Clean Session decides.
    #[must_use]
    pub fn session_expiry_interval(&self) -> Option<u32> {
        self.properties.find(|property| match property {
            Property::SessionExpiryInterval(seconds) => Some(seconds),
            _ => None,
        })
    }

    /// QoS 1 and 2 messages that the client takes at a time: 65,535 unless it says otherwise.
    #[must_use]
    pub fn receive_maximum(&self) -> u16 {
        let given = self.properties.find(|property| match property {
            Property::ReceiveMaximum(messages) => Some(messages),
            _ => None,
        });
        given.unwrap_or(u16::MAX)
    }

    /// Topic aliases that the client takes (§3.1.2.11.5).
    #[must_use]
    pub fn topic_alias_maximum(&self) -> u16 {
        let given = self.properties.find(|property| match property {
            Property::TopicAliasMaximum(aliases) => Some(aliases),
            _ => None,
        });
        given.unwrap_or(0)
    }

    /// Largest packet that the client takes, in bytes.
    #[must_use]
    pub fn maximum_packet_size(&self) -> Option<u32> {
        self.properties.find(|property| match property {
            Property::MaximumPacketSize(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// Whether reason strings and user properties may be sent with every packet (§3.1.2.11.7).
    #[must_use]
    pub fn request_problem_information(&self) -> bool {
        !self.properties.iter().any(|property| property == Property::RequestProblemInformation(0))
    }

    /// Method of enhanced authentication.
    #[must_use]
    pub fn authentication_method(&self) -> Option<&'a str> {
        self.properties.find(|property| match property {
            Property::AuthenticationMethod(method) => Some(method),
            _ => None,
        })
    }

    /// Data of enhanced authentication.
    #[must_use]
    pub fn authentication_data(&self) -> Option<&'a [u8]> {
        self.properties.find(|property| match property {
            Property::AuthenticationData(data) => Some(data),
            _ => None,
        })
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.user_name.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let version = self.protocol_version;
        let (name, level): (&[u8], u8) = match version {
            ProtocolVersion::V31 => (b"MQIsdp", 3),
            ProtocolVersion::V311 => (b"MQTT", 4),
            ProtocolVersion::V5 => (b"MQTT", 5),
        };
        if !version.is_v5() && self.password.is_some() && self.user_name.is_none() {
            return Err(EncodeError::NotInVersion { what: "a password without user name" });
        }
        let will_bytes = self.will.as_ref().map_or(0, |will| will.wire_bytes(version));
        let remaining = 2
            + name.len()
            + 4
            + properties_bytes(&self.properties, version)
            + 2
            + self.client_id.len()
            + will_bytes
            + self.user_name.map_or(0, |user_name| 2 + user_name.len())
            + self.password.map_or(0, |password| 2 + password.len());
        wire::put_header(out, PacketType::Connect.first_byte(), remaining)?;
        wire::put_binary(out, name)?;
        out.push(level);
        out.push(self.flags());
        out.extend_from_slice(&self.keep_alive.to_be_bytes());
        put_properties(out, &self.properties, version);
        wire::put_binary(out, self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            will.put(version, out)?;
        }
        if let Some(user_name) = self.user_name {
            wire::put_binary(out, user_name.as_bytes())?;
        }
        self.password.map_or(Ok(()), |password| wire::put_binary(out, password))
    }
}

impl<'a> Will<'a> {
    fn read(
        reader: &mut Reader<'a>,
        flags: u8,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let qos = QoS::from_bits(flags >> WILL_QOS_SHIFT & 3)
            .ok_or(DecodeError::malformed("will QoS is 3", "MQTT-3.1.2-12"))?;
        let properties = read_properties(reader, version, List::Will, limits)?;
        let topic = TopicName::parse(reader.string()?)
            .map_err(|error| DecodeError::malformed(error.what(), error.statement()))?;
        let payload = reader.binary()?;
        Ok(Self { qos, retain: flags & WILL_RETAIN != 0, properties, topic, payload })
    }

    /// Seconds to wait after the connection ended (§3.1.3.2.2).
    #[must_use]
    pub fn delay_interval(&self) -> u32 {
        let given = self.properties.find(|property| match property {
            Property::WillDelayInterval(seconds) => Some(seconds),
            _ => None,
        });
        given.unwrap_or(0)
    }

    const fn wire_bytes(&self, version: ProtocolVersion) -> usize {
        properties_bytes(&self.properties, version)
            + 2
            + self.topic.as_str().len()
            + 2
            + self.payload.len()
    }

    fn put(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_properties(out, &self.properties, version);
        wire::put_binary(out, self.topic.as_str().as_bytes())?;
        wire::put_binary(out, self.payload)
    }
}
