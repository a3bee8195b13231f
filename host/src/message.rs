//! An application message on its way through the gateway: borrowed while it passes, owned where
//! it is kept.

use std::num::NonZeroU16;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portreeve_mqtt::{
    EncodedPublish, Properties, PropertiesBuf, Property, ProtocolVersion, Publish, QoS, TopicName,
};
use portreeve_store::{BodyId, Store};
use tokio::time::Instant;

use crate::leading_slash::with_slash;

/// A message that is being published. Borrows the packet, or the parser's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageRef<'a> {
    pub(crate) topic: TopicName<'a>,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// What is forwarded unaltered and in order; topic alias and subscription identifiers are
    /// not among them.
    pub(crate) properties: Properties<'a>,
    /// When a message expiry interval is over.
    pub(crate) expires_at: Option<Instant>,
}

impl<'a> MessageRef<'a> {
    /// The message as a packet to send, without packet identifier.
    pub(crate) const fn packet(&self, qos: QoS, properties: Properties<'a>) -> Publish<'a> {
        Publish {
            dup: false,
            qos,
            retain: false,
            topic: Some(self.topic),
            packet_id: None,
            properties,
            payload: self.payload,
        }
    }

    /// A copy that can be kept; it does not pin the read buffer.
    pub(crate) fn to_message(self) -> Message {
        let without_expiry =
            |property: &Property<'_>| !matches!(property, Property::MessageExpiryInterval(_));
        let properties = self.properties.iter().filter(without_expiry).collect();
        Message {
            topic: self.topic.as_str().into(),
            payload: self.payload.into(),
            qos: self.qos,
            properties,
            expires_at: self.expires_at,
            stored: OnceLock::new(),
        }
    }
}

/// A kept message: retained, queued, in flight, or a will.
#[derive(Debug)]
pub(crate) struct Message {
    topic: Box<str>,
    payload: Box<[u8]>,
    pub(crate) qos: QoS,
    /// Without message expiry interval, which is computed when the message is sent.
    properties: PropertiesBuf,
    expires_at: Option<Instant>,
    /// Where the store has it, when several entries share it there.
    stored: OnceLock<StoredBody>,
}

/// A message that the store keeps once for several entries. When the last of them is gone from
/// memory, it is removed there too.
#[derive(Debug)]
pub(crate) struct StoredBody {
    pub(crate) id: BodyId,
    pub(crate) store: Arc<Store>,
}

impl Drop for StoredBody {
    fn drop(&mut self) {
        self.store.forget_body(self.id);
    }
}

/// What a kept message costs beside its bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

impl Message {
    pub(crate) fn new(
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        properties: PropertiesBuf,
        expires_at: Option<Instant>,
    ) -> Self {
        Self {
            topic: topic.as_str().into(),
            payload: payload.into(),
            qos,
            properties,
            expires_at,
            stored: OnceLock::new(),
        }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Without message expiry interval.
    pub(crate) const fn properties(&self) -> &PropertiesBuf {
        &self.properties
    }

    pub(crate) const fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Where the store has it, when several entries share it there.
    pub(crate) fn stored(&self) -> Option<BodyId> {
        self.stored.get().map(|stored| stored.id)
    }

    /// Notes where the store has it.
    pub(crate) fn set_stored(&self, stored: StoredBody) {
        // A message is stored for several entries at one place only.
        let _is_first = self.stored.set(stored);
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Bytes to count against a bound.
    pub(crate) fn cost_bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.bytes() + MESSAGE_OVERHEAD_BYTES
    }

    /// The same message, to expire at another time.
    pub(crate) fn expiring(&self, expires_at: Option<Instant>) -> Self {
        Self {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            qos: self.qos,
            properties: self.properties.clone(),
            expires_at,
            stored: OnceLock::new(),
        }
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// The properties as they are sent at `now`: with the interval that remains [MQTT-3.3.2-6].
    pub(crate) fn properties_at(&self, now: Instant) -> PropertiesBuf {
        let Some(expires_at) = self.expires_at else { return self.properties.clone() };
        let remaining = expires_at.saturating_duration_since(now);
        let seconds = u32::try_from(remaining.as_secs().max(1)).unwrap_or(u32::MAX);
        let expiry = Property::MessageExpiryInterval(seconds);
        std::iter::once(expiry).chain(self.properties.as_properties()).collect()
    }

    /// Borrows the message to publish it; `None` for a topic that is no topic name, which a kept
    /// message does not have. `properties` are those of [`Self::properties_at`].
    pub(crate) fn borrowed<'a>(
        &'a self,
        retain: bool,
        properties: &'a PropertiesBuf,
    ) -> Option<MessageRef<'a>> {
        Some(MessageRef {
            topic: TopicName::parse(&self.topic).ok()?,
            payload: &self.payload,
            qos: self.qos,
            retain,
            properties: properties.as_properties(),
            expires_at: self.expires_at,
        })
    }
}

/// When a message expiry interval among `properties` is over.
pub(crate) fn expiry(properties: Properties<'_>, now: Instant) -> Option<Instant> {
    properties.find(|property| match property {
        Property::MessageExpiryInterval(seconds) => {
            Some(now + Duration::from_secs(u64::from(seconds)))
        }
        _ => None,
    })
}

/// The encodings of one message, made when the first subscriber needs them and kept for the
/// others. The buffers are used again for the next message.
#[derive(Debug, Default)]
pub(crate) struct Encodings {
    slots: Slots,
    /// Those for clients that are told topics with a slash in front; nearly always none.
    with_slash: Option<Box<Slots>>,
}

type Slots = [Slot; 4];

#[derive(Debug, Default)]
struct Slot {
    encoded: EncodedPublish,
    is_current: bool,
}

impl Encodings {
    /// Forgets the message, keeps the buffers.
    pub(crate) fn reset(&mut self) {
        let with_slash = self.with_slash.iter_mut().flat_map(|slots| slots.iter_mut());
        for slot in self.slots.iter_mut().chain(with_slash) {
            slot.is_current = false;
        }
    }

    /// The encoding for subscribers of this version and QoS, that are told topics with a slash in
    /// front where `has_slash` says so; `None` when it cannot be encoded.
    pub(crate) fn get(
        &mut self,
        message: &MessageRef<'_>,
        version: ProtocolVersion,
        qos: QoS,
        has_slash: bool,
    ) -> Option<&EncodedPublish> {
        let has_packet_id = qos != QoS::AtMostOnce;
        let slots = match has_slash {
            false => &mut self.slots,
            true => self.with_slash.get_or_insert_default(),
        };
        let slot = match (version.is_v5(), has_packet_id) {
            (false, false) => &mut slots[0],
            (false, true) => &mut slots[1],
            (true, false) => &mut slots[2],
            (true, true) => &mut slots[3],
        };
        if !slot.is_current {
            let mut packet = message.packet(qos, message.properties);
            let told = has_slash.then(|| with_slash(message.topic.as_str()));
            if let Some(topic) = &told {
                packet.topic = Some(TopicName::parse(topic).ok()?);
            }
            packet.packet_id = has_packet_id.then_some(NonZeroU16::MIN);
            slot.encoded.encode(&packet, version).ok()?;
            slot.is_current = true;
        }
        Some(&slot.encoded)
    }
}
