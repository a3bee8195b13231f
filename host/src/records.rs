//! The one place where sessions and messages become records of the store, and where
//! records become messages again.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portreeve_mqtt::{PropertiesBuf, ProtocolVersion, QoS, SubscriptionOptions, TopicName};
use portreeve_store::{
    Body, Changes, EntryRecord, MessageRecord, SessionId, Store, SubscriptionRecord,
};
use tokio::time::Instant;

use crate::message::{Message, StoredBody};

/// One moment on both clocks: the one that never jumps, and the one that a restart survives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    /// Milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

impl Moment {
    pub(crate) fn at(now: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now, unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    fn to_unix_ms(self, at: Instant) -> u64 {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.now) {
            Some(ahead) => self.unix_ms.saturating_add(ms(ahead)),
            None => self.unix_ms.saturating_sub(ms(self.now.duration_since(at))),
        }
    }

    fn to_instant(self, unix_ms: u64) -> Instant {
        // What lies behind is over, however long.
        self.now + Duration::from_millis(unix_ms.saturating_sub(self.unix_ms))
    }
}

/// A session's number, and where it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredAs {
    pub(crate) id: SessionId,
    pub(crate) store: Arc<Store>,
    /// The gateway whose limits the session has.
    pub(crate) gateway: Arc<str>,
}

/// The number of a session; 0 is none.
pub(crate) fn session_id(number: u64) -> SessionId {
    SessionId(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
}

pub(crate) fn message_bytes(message: &Message, moment: Moment) -> Vec<u8> {
    let record = MessageRecord {
        topic: message.topic(),
        payload: message.payload(),
        qos: message.qos as u8,
        properties: message.properties().as_bytes(),
        expires_at_ms: message.expires_at().map(|at| moment.to_unix_ms(at)),
    };
    record.to_bytes()
}

/// The message of a record; `None` when the record is not one that the gateway writes.
pub(crate) fn message(bytes: &[u8], moment: Moment) -> Option<Message> {
    let record = MessageRecord::from_bytes(bytes)?;
    let topic = TopicName::parse(record.topic).ok()?;
    let qos = QoS::from_bits(record.qos)?;
    let properties = PropertiesBuf::of_publish(record.properties.to_vec()).ok()?;
    let expires_at = record.expires_at_ms.map(|at| moment.to_instant(at));
    Some(Message::new(topic, record.payload, qos, properties, expires_at))
}

/// Whether a session that ended, or a will that is due, at this time of the other clock is due.
pub(crate) fn instant(unix_ms: u64, moment: Moment) -> Instant {
    moment.to_instant(unix_ms)
}

/// Where the store is to have a message, for one entry or for several.
pub(crate) enum StoredBytes {
    /// With the one entry that needs it.
    Inline(Vec<u8>),
    /// Once, under its number.
    Shared(u64),
}

impl StoredBytes {
    /// Has `message` stored for as many `entries`.
    pub(crate) fn of(
        message: &Message,
        entries: usize,
        store: &Arc<Store>,
        changes: &mut Changes,
        moment: Moment,
    ) -> Self {
        if let Some(id) = message.stored() {
            return Self::Shared(id.0);
        }
        let bytes = message_bytes(message, moment);
        if entries < 2 {
            return Self::Inline(bytes);
        }
        let id = store.next_body();
        changes.put_body(id, bytes);
        message.set_stored(StoredBody { id, store: Arc::clone(store) });
        Self::Shared(id.0)
    }

    pub(crate) fn body(&self) -> Body<'_> {
        match self {
            Self::Inline(bytes) => Body::Inline(bytes),
            Self::Shared(id) => Body::Shared(*id),
        }
    }
}

/// The entry of a session that gets a message under these terms.
pub(crate) fn entry<'a>(
    qos: QoS,
    retain: bool,
    identifiers: &[u32],
    share: Option<&'a str>,
    body: Body<'a>,
) -> EntryRecord<'a> {
    let identifiers = identifiers.to_vec();
    EntryRecord::Message { qos: qos as u8, retain, identifiers, share, body }
}

/// Beside the options of a subscription, in a bit that MQTT leaves free: it was written with a slash in
/// front that does not count.
const HAS_SLASH: u8 = 0x40;

pub(crate) fn subscription(
    filter: &str,
    options: SubscriptionOptions,
    identifier: Option<u32>,
    has_slash: bool,
) -> SubscriptionRecord {
    let options = options.byte() | if has_slash { HAS_SLASH } else { 0 };
    SubscriptionRecord { filter: filter.to_owned(), options, identifier }
}

/// The options of a stored subscription, and whether it was written with a slash in front that does not
/// count; `None` where there are no such options.
pub(crate) fn subscription_options(
    record: &SubscriptionRecord,
) -> Option<(SubscriptionOptions, bool)> {
    let options = record.options & !HAS_SLASH;
    let options = SubscriptionOptions::from_byte(options, ProtocolVersion::V5).ok()?;
    Some((options, record.options & HAS_SLASH != 0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portreeve_mqtt::{Property, QoS, TopicName};
    use tokio::time::Instant;

    use super::{Moment, message, message_bytes};
    use crate::message::Message;

    #[test]
    fn a_message_comes_back_with_the_time_that_is_left_of_it() {
        let before = Moment { now: Instant::now(), unix_ms: 1_000_000 };
        let properties =
            [Property::ContentType("text"), Property::UserProperty(("a", "b"))].into_iter();
        let topic = TopicName::parse("a/b").unwrap();
        let expires_at = Some(before.now + Duration::from_secs(10));
        let kept =
            Message::new(topic, b"payload", QoS::AtLeastOnce, properties.collect(), expires_at);
        let bytes = message_bytes(&kept, before);
        // Four seconds later, in another process whose clock begins anew.
        let after = Moment { now: before.now + Duration::from_secs(99), unix_ms: 1_004_000 };
        let back = message(&bytes, after).unwrap();
        assert_eq!((back.topic(), back.payload(), back.qos), ("a/b", &b"payload"[..], kept.qos));
        assert_eq!(back.properties().as_bytes(), kept.properties().as_bytes());
        assert_eq!(back.expires_at(), Some(after.now + Duration::from_secs(6)));
        let late = Moment { unix_ms: 2_000_000, ..after };
        assert!(message(&bytes, late).unwrap().is_expired(late.now));
        assert!(message(b"something else", after).is_none());
    }
}
