//! The fixed header of §2.1: packet type, flags, remaining length.

use crate::{DecodeError, Fault, Limits, wire};

/// Largest remaining length that four bytes of a variable byte integer hold (§2.1.4).
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// The control packet types of §2.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    const fn from_first_byte(byte: u8) -> Option<Self> {
        Some(match byte >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// Type and flags as they stand in the first byte of every packet but PUBLISH.
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }
}

/// A fixed header whose flags are as §2.1.3 demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// Type of the packet.
    pub packet_type: PacketType,
    /// Flags: the low four bits of the first byte. Free for PUBLISH only.
    pub flags: u8,
    /// Bytes of this header.
    pub header_bytes: usize,
    /// Bytes that follow it.
    pub remaining_length: usize,
    /// Whether the remaining length is in its shortest form: demanded by MQTT 5.0
    /// [MQTT-1.5.5-1], not by 3.1.1.
    pub minimal: bool,
}

impl FixedHeader {
    /// Reads the header at the front of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`DecodeError`] as soon as the bytes there are cannot begin an acceptable packet: a
    /// reserved type or flag, an over-long length, a packet above the limit.
    #[inline]
    pub fn parse(input: &[u8], limits: &Limits) -> Result<Option<Self>, DecodeError> {
        let Some((&first, rest)) = input.split_first() else { return Ok(None) };
        let packet_type = PacketType::from_first_byte(first)
            .ok_or(DecodeError::malformed("packet type 0 is reserved", "2.1.2"))?;
        if packet_type != PacketType::Publish && first != packet_type.first_byte() {
            return Err(DecodeError::malformed("reserved flags are set otherwise", "MQTT-2.1.3-1"));
        }
        let Some(length) = wire::varint(rest)? else { return Ok(None) };
        let remaining_length = usize::try_from(length.value).unwrap_or(usize::MAX);
        let header_bytes = 1 + length.bytes;
        let limit = usize::try_from(limits.packet_bytes_max).unwrap_or(usize::MAX);
        if header_bytes.saturating_add(remaining_length) > limit {
            return Err(DecodeError {
                fault: Fault::PacketTooLarge,
                what: "packet is larger than the maximum packet size",
                statement: "MQTT-3.1.2-24",
            });
        }
        let flags = first & 0x0f;
        Ok(Some(Self {
            packet_type,
            flags,
            header_bytes,
            remaining_length,
            minimal: length.minimal,
        }))
    }

    /// Bytes of the whole packet.
    #[must_use]
    pub const fn packet_bytes(&self) -> usize {
        self.header_bytes + self.remaining_length
    }
}
