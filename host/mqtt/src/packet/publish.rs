//! PUBLISH (§3.3), and its encoding once for many subscribers.

use core::num::NonZeroU16;

use super::{
    List, Properties, ProtocolVersion, QoS, Reader, properties_bytes, put_properties,
    read_properties, wire,
};
use crate::property::expiry_interval_in;
use crate::{DecodeError, EncodeError, FixedHeader, Limits, PacketType, Property, TopicName};

/// An application message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before, perhaps.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Keep it for later subscribers; on the way out: it was kept.
    pub retain: bool,
    /// Absent where a topic alias stands for it (MQTT 5.0).
    pub topic: Option<TopicName<'a>>,
    /// Present for QoS 1 and 2 [MQTT-2.2.1-2, MQTT-2.2.1-3].
    pub packet_id: Option<NonZeroU16>,
    /// Properties.
    pub properties: Properties<'a>,
    /// The application's bytes.
    pub payload: &'a [u8],
}

const DUP: u8 = 1 << 3;
const QOS_SHIFT: u8 = 1;
const RETAIN: u8 = 1;

const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    PacketType::Publish.first_byte()
        | if dup { DUP } else { 0 }
        | (qos as u8) << QOS_SHIFT
        | if retain { RETAIN } else { 0 }
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn read(
        reader: &mut Reader<'a>,
        flags: u8,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let dup = flags & DUP != 0;
        let qos = QoS::from_bits(flags >> QOS_SHIFT & 3)
            .ok_or(DecodeError::malformed("QoS is 3", "MQTT-3.3.1-4"))?;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP is set with QoS 0", "MQTT-3.3.1-2"));
        }
        let topic = read_topic(reader)?;
        let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
        let properties = read_properties(reader, version, List::Publish, limits)?;
        let packet = Self {
            dup,
            qos,
            retain: flags & RETAIN != 0,
            topic,
            packet_id,
            properties,
            payload: reader.take(reader.rest().len())?,
        };
        if topic.is_none() && packet.topic_alias().is_none() {
            return Err(DecodeError::protocol(
                "topic name is empty and there is no alias",
                "MQTT-4.7.3-1",
            ));
        }
        Ok(packet)
    }

    /// The topic alias.
    #[must_use]
    pub fn topic_alias(&self) -> Option<NonZeroU16> {
        self.properties.find(|property| match property {
            Property::TopicAlias(alias) => NonZeroU16::new(alias),
            _ => None,
        })
    }

    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if self.qos != QoS::AtMostOnce && self.packet_id.is_none() {
            return Err(EncodeError::NotInVersion { what: "QoS 1 or 2 without packet identifier" });
        }
        if self.topic.is_none() && (!version.is_v5() || self.topic_alias().is_none()) {
            return Err(EncodeError::NotInVersion { what: "a PUBLISH without topic name" });
        }
        let topic = self.topic.map_or("", |topic| topic.as_str());
        append_publish(self, topic, version, out).map(|_| ())
    }
}

#[inline]
fn read_topic<'a>(reader: &mut Reader<'a>) -> Result<Option<TopicName<'a>>, DecodeError> {
    let bytes = reader.binary()?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = core::str::from_utf8(bytes).map_err(|_| {
        DecodeError::malformed("topic name is not well-formed UTF-8", "MQTT-3.3.2-1")
    })?;
    TopicName::parse(text)
        .map(Some)
        .map_err(|error| DecodeError::malformed(error.what(), error.statement()))
}

/// Appends `publish` with `topic` in place of its own; returns where the packet identifier
/// stands, counted from the packet's first byte.
///
/// # Errors
/// [`EncodeError`] for a topic or packet that is too long; `out` is then to be cut back.
#[inline]
pub fn append_publish(
    publish: &Publish<'_>,
    topic: &str,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<Option<usize>, EncodeError> {
    let begin = out.len();
    let packet_id = if publish.qos == QoS::AtMostOnce { None } else { publish.packet_id };
    let topic_length = wire::field_length(topic.as_bytes())?;
    let remaining = 2
        + topic.len()
        + if packet_id.is_some() { 2 } else { 0 }
        + properties_bytes(&publish.properties, version)
        + publish.payload.len();
    wire::put_header(out, first_byte(publish.dup, publish.qos, publish.retain), remaining)?;
    out.extend_from_slice(&topic_length.to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    let packet_id_at = packet_id.map(|packet_id| {
        let at = out.len() - begin;
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        at
    });
    put_properties(out, &publish.properties, version);
    out.extend_from_slice(publish.payload);
    Ok(packet_id_at)
}

/// Where the message expiry interval (four bytes) of an encoded MQTT 5 PUBLISH stands, counted from
/// the packet's first byte; `None` when it has none.
#[must_use]
pub fn expiry_interval_at(packet: &[u8]) -> Option<usize> {
    let header = FixedHeader::parse(packet, &Limits::STANDARD).ok()??;
    let mut reader = Reader::new(packet.get(header.header_bytes..)?);
    reader.binary().ok()?;
    if header.flags & 0b0110 != 0 {
        reader.packet_id().ok()?;
    }
    let length = usize::try_from(reader.varint().ok()?).ok()?;
    let begin = packet.len() - reader.rest().len();
    expiry_interval_in(reader.take(length).ok()?).map(|at| begin + at)
}

/// A PUBLISH that was encoded once and is sent to many: each gets a copy with its own flags and
/// packet identifier in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedPublish {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
}

impl EncodedPublish {
    /// Encodes `publish`. With QoS 1 or 2 there is room for a packet identifier, which differs
    /// for each receiver; whether QoS is 1 or 2 may differ too.
    ///
    /// # Errors
    /// [`EncodeError`] for a topic or packet that is too long.
    pub fn new(publish: &Publish<'_>, version: ProtocolVersion) -> Result<Self, EncodeError> {
        let mut encoded = Self::default();
        encoded.encode(publish, version)?;
        Ok(encoded)
    }

    /// Encodes another packet into the same buffer.
    ///
    /// # Errors
    /// As [`Self::new`]; it then holds no packet.
    pub fn encode(
        &mut self,
        publish: &Publish<'_>,
        version: ProtocolVersion,
    ) -> Result<(), EncodeError> {
        self.bytes.clear();
        self.packet_id_at = None;
        let topic = publish.topic.map_or("", |topic| topic.as_str());
        let mut with_room = *publish;
        if publish.qos != QoS::AtMostOnce && publish.packet_id.is_none() {
            with_room.packet_id = Some(NonZeroU16::MIN);
        }
        let encoded = append_publish(&with_room, topic, version, &mut self.bytes);
        match encoded {
            Ok(packet_id_at) => self.packet_id_at = packet_id_at,
            Err(_) => self.bytes.clear(),
        }
        encoded.map(|_| ())
    }

    /// Bytes of the packet.
    #[must_use]
    pub const fn packet_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet for a receiver. `qos` and `packet_id` count only where the packet was
    /// encoded with QoS 1 or 2.
    #[inline]
    pub fn append(
        &self,
        out: &mut Vec<u8>,
        dup: bool,
        qos: QoS,
        retain: bool,
        packet_id: Option<NonZeroU16>,
    ) {
        let begin = out.len();
        out.extend_from_slice(&self.bytes);
        let (qos, dup) = match self.packet_id_at {
            None => (QoS::AtMostOnce, false),
            Some(at) => {
                let id = packet_id.map_or([0, 1], |packet_id| packet_id.get().to_be_bytes());
                if let Some(room) = out.get_mut(begin + at..begin + at + 2) {
                    room.copy_from_slice(&id);
                }
                (qos, dup)
            }
        };
        if let Some(first) = out.get_mut(begin) {
            *first = first_byte(dup, qos, retain);
        }
    }
}
