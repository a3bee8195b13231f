//! Control packets (chapter 3): one file for each shape, one enum for all.

use crate::property::{List, Properties};
use crate::wire::{self, Reader};
use crate::{DecodeError, EncodeError, FixedHeader, Limits, PacketType};

pub(crate) mod acknowledgement;
pub(crate) mod auth;
pub(crate) mod connack;
pub(crate) mod connect;
pub(crate) mod disconnect;
pub(crate) mod publish;
pub(crate) mod suback;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

use acknowledgement::{Acknowledgement, AcknowledgementKind};
use auth::Auth;
use connack::Connack;
use connect::Connect;
use disconnect::Disconnect;
use publish::Publish;
use suback::{Suback, SubackKind};
use subscribe::Subscribe;
use unsubscribe::Unsubscribe;

/// The version that a CONNECT asks for (§3.1.2.1, §3.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolVersion {
    /// `MQIsdp` level 3; read as 3.1.1, from which its packets do not differ.
    V31,
    /// `MQTT` level 4.
    V311,
    /// `MQTT` level 5.
    V5,
}

impl ProtocolVersion {
    /// Whether packets carry properties and reason codes.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

/// Quality of service (§4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level for its two bits; `None` for 3 [MQTT-3.3.1-4].
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A control packet. Borrows the bytes that it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the packet of its name")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Acknowledgement(Acknowledgement<'a>),
    Subscribe(Subscribe<'a>),
    /// SUBACK or UNSUBACK.
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Decodes the packet at the front of `input`. Returns it with the bytes that it took, or `None`
/// when `input` ends within it.
///
/// # Errors
/// [`DecodeError`] for the first rule that the packet breaks. A CONNECT of another version than
/// `version` is an error too.
#[inline]
pub fn decode<'a>(
    input: &'a [u8],
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
    let Some(header) = FixedHeader::parse(input, limits)? else { return Ok(None) };
    if version.is_v5() && !header.minimal {
        return Err(NOT_MINIMAL);
    }
    let Some(body) = input.get(header.header_bytes..header.packet_bytes()) else { return Ok(None) };
    let mut reader = Reader::new(body);
    let packet = Packet::read(&mut reader, &header, version, limits)?;
    reader.end()?;
    Ok(Some((packet, header.packet_bytes())))
}

/// Decodes the first packet of a connection, which must be CONNECT [MQTT-3.1.0-1] and tells the
/// version of all that follow.
///
/// # Errors
/// [`DecodeError`] for the first rule that the packet breaks; another packet is a protocol error.
pub fn decode_first<'a>(
    input: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Connect<'a>, usize)>, DecodeError> {
    let Some(header) = FixedHeader::parse(input, limits)? else { return Ok(None) };
    if header.packet_type != PacketType::Connect {
        return Err(DecodeError::protocol("the first packet is not CONNECT", "MQTT-3.1.0-1"));
    }
    let Some(body) = input.get(header.header_bytes..header.packet_bytes()) else { return Ok(None) };
    let mut reader = Reader::new(body);
    let connect = Connect::read(&mut reader, limits)?;
    if connect.protocol_version.is_v5() && !header.minimal {
        return Err(NOT_MINIMAL);
    }
    reader.end()?;
    Ok(Some((connect, header.packet_bytes())))
}

const NOT_MINIMAL: DecodeError =
    DecodeError::malformed("remaining length is not in its shortest form", "MQTT-1.5.5-1");

impl<'a> Packet<'a> {
    #[inline]
    fn read(
        reader: &mut Reader<'a>,
        header: &FixedHeader,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        Ok(match header.packet_type {
            PacketType::Publish => {
                Self::Publish(Publish::read(reader, header.flags, version, limits)?)
            }
            PacketType::Puback => {
                Self::acknowledgement(AcknowledgementKind::Puback, reader, version, limits)?
            }
            PacketType::Pubrec => {
                Self::acknowledgement(AcknowledgementKind::Pubrec, reader, version, limits)?
            }
            PacketType::Pubrel => {
                Self::acknowledgement(AcknowledgementKind::Pubrel, reader, version, limits)?
            }
            PacketType::Pubcomp => {
                Self::acknowledgement(AcknowledgementKind::Pubcomp, reader, version, limits)?
            }
            PacketType::Connect => {
                let connect = Connect::read(reader, limits)?;
                if connect.protocol_version != version {
                    return Err(DecodeError::protocol(
                        "CONNECT of another version",
                        "MQTT-3.1.2-2",
                    ));
                }
                Self::Connect(connect)
            }
            PacketType::Connack => Self::Connack(Connack::read(reader, version, limits)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::read(reader, version, limits)?),
            PacketType::Suback => {
                Self::Suback(Suback::read(SubackKind::Suback, reader, version, limits)?)
            }
            PacketType::Unsubscribe => {
                Self::Unsubscribe(Unsubscribe::read(reader, version, limits)?)
            }
            PacketType::Unsuback => {
                Self::Suback(Suback::read(SubackKind::Unsuback, reader, version, limits)?)
            }
            PacketType::Pingreq => Self::Pingreq,
            PacketType::Pingresp => Self::Pingresp,
            PacketType::Disconnect => Self::Disconnect(Disconnect::read(reader, version, limits)?),
            PacketType::Auth => Self::Auth(Auth::read(reader, version, limits)?),
        })
    }

    fn acknowledgement(
        kind: AcknowledgementKind,
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        Acknowledgement::read(kind, reader, version, limits).map(Self::Acknowledgement)
    }

    /// The packet's type.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Acknowledgement(packet) => packet.kind.packet_type(),
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(packet) => packet.kind.packet_type(),
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet's bytes. A CONNECT is encoded in its own version.
    ///
    /// # Errors
    /// [`EncodeError`] for a value that no packet can carry; `out` is then as it was.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        wire::all_or_nothing(out, |out| match self {
            Self::Connect(packet) => packet.put(out),
            Self::Connack(packet) => packet.put(version, out),
            Self::Publish(packet) => packet.put(version, out),
            Self::Acknowledgement(packet) => packet.put(version, out),
            Self::Subscribe(packet) => packet.put(version, out),
            Self::Suback(packet) => packet.put(version, out),
            Self::Unsubscribe(packet) => packet.put(version, out),
            Self::Pingreq | Self::Pingresp => {
                wire::put_header(out, self.packet_type().first_byte(), 0)
            }
            Self::Disconnect(packet) => packet.put(version, out),
            Self::Auth(packet) => packet.put(version, out),
        })
    }
}

/// The properties of a packet of 3.1.1 (none) or of 5.0.
#[inline]
fn read_properties<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
    list: List,
    limits: &Limits,
) -> Result<Properties<'a>, DecodeError> {
    if version.is_v5() { Properties::read(reader, list, limits) } else { Ok(Properties::NONE) }
}

/// Bytes of a property list in this version, its length included.
#[inline]
const fn properties_bytes(properties: &Properties<'_>, version: ProtocolVersion) -> usize {
    if version.is_v5() { properties.wire_bytes() } else { 0 }
}

#[inline]
fn put_properties(out: &mut Vec<u8>, properties: &Properties<'_>, version: ProtocolVersion) {
    if version.is_v5() {
        properties.put(out);
    }
}
