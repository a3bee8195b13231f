//! SUBSCRIBE (§3.8).

use core::num::NonZeroU16;

use super::{
    List, Properties, ProtocolVersion, QoS, Reader, properties_bytes, put_properties,
    read_properties, wire,
};
use crate::{DecodeError, EncodeError, Limits, PacketType, Property, TopicFilter};

/// A request for subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The SUBACK answers with it.
    pub packet_id: NonZeroU16,
    /// Subscription identifier and user properties.
    pub properties: Properties<'a>,
    /// Filters with their options; at least one [MQTT-3.8.3-2].
    pub entries: SubscribeEntries<'a>,
}

/// Options of a subscription (§3.8.3.1). On MQTT 3.1.1 only the QoS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Highest QoS to deliver with.
    pub qos: QoS,
    /// Do not send the client its own messages.
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// Whether retained messages are sent when the subscription is made.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The options of a subscription on MQTT 3.1.1.
    #[must_use]
    pub const fn with_qos(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// Reads the options of one filter.
    ///
    /// # Errors
    /// [`DecodeError`] for reserved bits and values.
    pub fn from_byte(byte: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let reserved = if version.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
        if byte & reserved != 0 {
            return Err(DecodeError::malformed(
                "reserved subscription options are set",
                "MQTT-3.8.3-5",
            ));
        }
        let qos = QoS::from_bits(byte & 3)
            .ok_or(DecodeError::protocol("subscription asks for QoS 3", "MQTT-3.8.3-4"))?;
        let retain_handling = match byte >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("retain handling is 3", "3.8.3.1")),
        };
        Ok(Self {
            qos,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling,
        })
    }

    /// The options as SUBSCRIBE carries them.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// When retained messages are sent (§3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// When the subscription is made.
    Send = 0,
    /// When it is made and did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeEntry<'a> {
    /// What is asked for.
    pub filter: TopicFilter<'a>,
    /// How.
    pub options: SubscriptionOptions,
}

/// The checked payload of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeEntries<'a> {
    bytes: &'a [u8],
}

impl<'a> SubscribeEntries<'a> {
    /// The entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = SubscribeEntry<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        // Checked when it was read or built, so the first error is the end of the bytes; the
        // options of 3.1.1 are a subset of those of 5.0.
        core::iter::from_fn(move || read_entry(&mut reader, ProtocolVersion::V5).ok())
    }
}

fn read_entry<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
) -> Result<SubscribeEntry<'a>, DecodeError> {
    let filter = read_filter(reader)?;
    let options = SubscriptionOptions::from_byte(reader.u8()?, version)?;
    if options.no_local && filter.shared().is_some() {
        return Err(DecodeError::protocol("shared subscription with no-local", "MQTT-3.8.3-4"));
    }
    Ok(SubscribeEntry { filter, options })
}

pub(super) fn read_filter<'a>(reader: &mut Reader<'a>) -> Result<TopicFilter<'a>, DecodeError> {
    TopicFilter::parse(reader.string()?)
        .map_err(|error| DecodeError::malformed(error.what(), error.statement()))
}

impl<'a> Subscribe<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, List::Subscribe, limits)?;
        let bytes = reader.rest();
        let mut filters = 0_u16;
        while !reader.is_empty() {
            if filters == limits.filters_max {
                return Err(DecodeError::quota("more topic filters than the limit"));
            }
            filters += 1;
            read_entry(reader, version)?;
        }
        if filters == 0 {
            return Err(DecodeError::protocol("SUBSCRIBE without topic filter", "MQTT-3.8.3-2"));
        }
        Ok(Self { packet_id, properties, entries: SubscribeEntries { bytes } })
    }

    /// The identifier to send with matching messages.
    #[must_use]
    pub fn subscription_identifier(&self) -> Option<u32> {
        self.properties.find(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let bytes = self.entries.bytes;
        let remaining = 2 + properties_bytes(&self.properties, version) + bytes.len();
        wire::put_header(out, PacketType::Subscribe.first_byte(), remaining)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        put_properties(out, &self.properties, version);
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// The payload of a SUBSCRIBE in the making.
#[derive(Debug, Clone, Default)]
pub struct SubscribeEntriesBuf {
    bytes: Vec<u8>,
}

impl SubscribeEntriesBuf {
    /// No entry yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`], which a checked filter does not cause.
    pub fn push(&mut self, entry: SubscribeEntry<'_>) -> Result<(), EncodeError> {
        wire::put_binary(&mut self.bytes, entry.filter.as_str().as_bytes())?;
        self.bytes.push(entry.options.byte());
        Ok(())
    }

    /// The entries as a packet carries them.
    #[must_use]
    pub const fn as_entries(&self) -> SubscribeEntries<'_> {
        SubscribeEntries { bytes: self.bytes.as_slice() }
    }
}
