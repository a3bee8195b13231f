//! What is to be changed together: either all of it survives, or nothing.

use std::any::Any;
use std::num::NonZeroU64;
use std::sync::Arc;

use fjall::Slice;

use crate::key::{self, Space};
use crate::record::{
    Body, DeviceRecord, EntryRecord, RetainedRecord, SessionRecord, StoredDevice,
    SubscriptionRecord, encode,
};

/// The number of a session, given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub NonZeroU64);

/// The number of a message that several entries share, given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub u64);

/// One key that gets a value, or loses it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) space: Space,
    pub(crate) key: Slice,
    pub(crate) value: Option<Slice>,
}

impl Item {
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len()) + ITEM_OVERHEAD_BYTES
    }
}

/// What an item costs beside its bytes.
const ITEM_OVERHEAD_BYTES: usize = 64;

/// Changes that belong together.
///
/// What is *new* is given up when it cannot be stored: its peer is told. What is *over* (an
/// acknowledgement came, a session ended) is true whatever the disk does, and is tried again.
#[derive(Debug, Default)]
pub struct Changes {
    pub(crate) new: Vec<Item>,
    pub(crate) over: Vec<Item>,
    pub(crate) held: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Changes {
    /// Nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.over.is_empty()
    }

    /// Adds `other` behind these.
    pub fn append(&mut self, mut other: Self) {
        self.new.append(&mut other.new);
        self.over.append(&mut other.over);
        self.held.append(&mut other.held);
    }

    /// Keeps something until these changes are handed over: what its end has the store forget is
    /// then forgotten after them.
    pub fn hold(&mut self, value: Arc<dyn Any + Send + Sync>) {
        self.held.push(value);
    }

    /// Bytes that they take in memory until they are stored.
    pub(crate) fn bytes(&self) -> usize {
        self.new.iter().chain(&self.over).map(Item::bytes).sum()
    }

    fn put(&mut self, space: Space, key: Slice, value: Vec<u8>) {
        self.new.push(Item { space, key, value: Some(value.into()) });
    }

    fn end(&mut self, space: Space, key: Slice) {
        self.over.push(Item { space, key, value: None });
    }

    /// A session begins, or goes on with another connection.
    pub fn put_session(&mut self, id: SessionId, record: &SessionRecord) {
        self.put(Space::Sessions, key::number(id.0.get()), encode(record));
    }

    /// What is true of a session now, whatever the disk does: its connection is lost.
    pub fn session_is(&mut self, id: SessionId, record: &SessionRecord) {
        let key = key::number(id.0.get());
        self.over.push(Item { space: Space::Sessions, key, value: Some(encode(record).into()) });
    }

    /// A session ended. What it had is removed with the functions for it.
    pub fn session_ended(&mut self, id: SessionId) {
        self.end(Space::Sessions, key::number(id.0.get()));
    }

    /// A subscription of a session, new or changed.
    pub fn put_subscription(&mut self, id: SessionId, record: &SubscriptionRecord) {
        let key = subscription_key(id, &record.filter);
        self.put(Space::Subscriptions, key, encode(record));
    }

    /// A subscription that was ended.
    pub fn unsubscribed(&mut self, id: SessionId, filter: &str) {
        self.end(Space::Subscriptions, subscription_key(id, filter));
    }

    /// A message for a session.
    pub fn enqueue(&mut self, id: SessionId, entry: u64, record: &EntryRecord<'_>) {
        self.put(Space::Entries, key::two_numbers(id.0.get(), entry), encode(record));
    }

    /// PUBREC came: what remains is to answer with PUBREL.
    pub fn entry_released(&mut self, id: SessionId, entry: u64) {
        let key = key::two_numbers(id.0.get(), entry);
        let value = Some(encode(&EntryRecord::Released).into());
        self.over.push(Item { space: Space::Entries, key, value });
    }

    /// A message that its session does not need any more.
    pub fn dequeue(&mut self, id: SessionId, entry: u64) {
        self.end(Space::Entries, key::two_numbers(id.0.get(), entry));
    }

    /// The packet identifier of a QoS 2 message that came in.
    pub fn received(&mut self, id: SessionId, packet_id: u16) {
        self.put(Space::Received, key::two_numbers(id.0.get(), packet_id.into()), Vec::new());
    }

    /// PUBREL came, or the message was refused: the packet identifier is free.
    pub fn receipt_over(&mut self, id: SessionId, packet_id: u16) {
        self.end(Space::Received, key::two_numbers(id.0.get(), packet_id.into()));
    }

    /// A message that several entries share. It is removed with [`crate::Store::forget_body`].
    pub fn put_body(&mut self, id: BodyId, message: Vec<u8>) {
        self.put(Space::Bodies, key::number(id.0), message);
    }

    /// The retained message of a topic.
    pub fn retain(&mut self, topic: &str, body: Body<'_>) {
        self.put(Space::Retained, key::with_text(&[], topic), encode(&RetainedRecord { body }));
    }

    /// A topic has no retained message any more.
    pub fn unretain(&mut self, topic: &str) {
        let key = key::with_text(&[], topic);
        self.new.push(Item { space: Space::Retained, key, value: None });
    }

    /// A retained message expired, or could not be kept.
    pub fn retained_over(&mut self, topic: &str) {
        self.end(Space::Retained, key::with_text(&[], topic));
    }

    /// A device, new or changed.
    pub fn put_device(&mut self, record: &DeviceRecord) {
        let key = device_key(&record.product, &record.name);
        self.put(Space::Devices, key, encode(&StoredDevice::V1(record)));
    }

    /// A device is no more.
    pub fn remove_device(&mut self, product: &str, name: &str) {
        for space in [Space::Devices, Space::Seen] {
            self.new.push(Item { space, key: device_key(product, name), value: None });
        }
    }

    /// When a device connected last, in seconds since 1970.
    pub fn device_seen(&mut self, product: &str, name: &str, at: u64) {
        let value = Some(at.to_be_bytes().as_slice().into());
        self.over.push(Item { space: Space::Seen, key: device_key(product, name), value });
    }
}

fn device_key(product: &str, name: &str) -> Slice {
    key::with_text(&[product.as_bytes(), &[0]].concat(), name)
}

fn subscription_key(id: SessionId, filter: &str) -> Slice {
    key::with_text(&id.0.get().to_be_bytes(), filter)
}

/// The highest numbers that the store ever had. What is over with a higher one was never stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastNumbers {
    pub(crate) session: u64,
    pub(crate) body: u64,
}

impl LastNumbers {
    /// Notes what is stored.
    pub(crate) fn note(&mut self, item: &Item) {
        let Some(number) = key::first_number(&item.key).filter(|_| item.value.is_some()) else {
            return;
        };
        match item.space {
            Space::Sessions => self.session = self.session.max(number),
            Space::Bodies => self.body = self.body.max(number),
            _ => {}
        }
    }

    /// Whether the store may have what an item is about.
    pub(crate) fn may_have(&self, item: &Item) -> bool {
        let number = key::first_number(&item.key).unwrap_or_default();
        match item.space {
            Space::Sessions | Space::Subscriptions | Space::Entries | Space::Received => {
                number <= self.session
            }
            Space::Bodies => number <= self.body,
            Space::Meta | Space::Retained | Space::OldDevices | Space::Devices | Space::Seen => {
                true
            }
        }
    }
}
