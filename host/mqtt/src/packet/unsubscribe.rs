//! UNSUBSCRIBE (§3.10).

use core::num::NonZeroU16;

use super::subscribe::read_filter;
use super::{
    List, Properties, ProtocolVersion, Reader, properties_bytes, put_properties, read_properties,
    wire,
};
use crate::{DecodeError, EncodeError, Limits, PacketType, TopicFilter};

/// A request to end subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The UNSUBACK answers with it.
    pub packet_id: NonZeroU16,
    /// User properties.
    pub properties: Properties<'a>,
    /// At least one [MQTT-3.10.3-2].
    pub filters: UnsubscribeFilters<'a>,
}

/// The checked payload of an UNSUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a> {
    bytes: &'a [u8],
}

impl<'a> UnsubscribeFilters<'a> {
    /// The filters in their order.
    pub fn iter(&self) -> impl Iterator<Item = TopicFilter<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        core::iter::from_fn(move || read_filter(&mut reader).ok())
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, List::Unsubscribe, limits)?;
        let bytes = reader.rest();
        let mut filters = 0_u16;
        while !reader.is_empty() {
            if filters == limits.filters_max {
                return Err(DecodeError::quota("more topic filters than the limit"));
            }
            filters += 1;
            read_filter(reader)?;
        }
        if filters == 0 {
            return Err(DecodeError::protocol("UNSUBSCRIBE without topic filter", "MQTT-3.10.3-2"));
        }
        Ok(Self { packet_id, properties, filters: UnsubscribeFilters { bytes } })
    }

    pub(super) fn put(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let bytes = self.filters.bytes;
        let remaining = 2 + properties_bytes(&self.properties, version) + bytes.len();
        wire::put_header(out, PacketType::Unsubscribe.first_byte(), remaining)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        put_properties(out, &self.properties, version);
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// The payload of an UNSUBSCRIBE in the making.
#[derive(Debug, Clone, Default)]
pub struct UnsubscribeFiltersBuf {
    bytes: Vec<u8>,
}

impl UnsubscribeFiltersBuf {
    /// No filter yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends a filter.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`], which a checked filter does not cause.
    pub fn push(&mut self, filter: TopicFilter<'_>) -> Result<(), EncodeError> {
        wire::put_binary(&mut self.bytes, filter.as_str().as_bytes())
    }

    /// The filters as a packet carries them.
    #[must_use]
    pub const fn as_filters(&self) -> UnsubscribeFilters<'_> {
        UnsubscribeFilters { bytes: self.bytes.as_slice() }
    }
}
