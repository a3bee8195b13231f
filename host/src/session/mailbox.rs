//! The mailbox of a connection: encoded packets that it is to send next. Here a PUBLISH gets what
//! is its receiver's alone: packet identifier, subscription identifiers, topic alias, and the part
//! of its expiry interval that is left when it leaves.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU16;

use portreeve_mqtt::{
    AcknowledgementKind, PropertiesBuf, Property, ProtocolVersion, QoS, append_publish,
    expiry_interval_at,
};
use tokio::time::Instant;

use super::{Client, Delivery, Terms, append_acknowledgement};
use crate::leading_slash::with_slash;
use crate::message::MessageRef;

/// A mailbox above this size is given back as soon as it was sent.
const KEEP_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    bytes: Vec<u8>,
    /// What few mailboxes need.
    special: Option<Box<Special>>,
}

#[derive(Debug, Default)]
struct Special {
    /// Topic aliases that the client was told (§3.3.2.3.4).
    aliases: HashMap<Box<str>, u16>,
    /// Messages that expire, in the order of the mailbox.
    timed: Vec<Timed>,
}

/// A message in the mailbox that expires.
#[derive(Debug)]
struct Timed {
    begin: usize,
    bytes: usize,
    expires_at: Instant,
    /// Its number in the session, 0 for QoS 0.
    entry: u64,
}

/// Whether a packet is in the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    Yes,
    /// The mailbox has no room.
    Full,
    /// The client does not take packets of this size.
    TooLarge,
}

/// How a PUBLISH is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) terms: &'a Terms<'a>,
    pub(super) client: &'a Client,
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) dup: bool,
    /// Bytes that the mailbox may have then; one packet always fits into an empty one.
    pub(super) bytes_max: usize,
}

impl Mailbox {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a message that others get, too: encoded once for all that get the same bytes.
    pub(super) fn append(&mut self, delivery: &mut Delivery<'_>, sending: Sending<'_>) -> Appended {
        let Sending { terms, client, packet_id, dup, bytes_max } = sending;
        let is_special = !terms.identifiers.is_empty() || client.topic_alias_maximum > 0;
        if client.version.is_v5() && is_special {
            return self.append_one(&delivery.message, sending);
        }
        let encoded =
            delivery.encodings.get(&delivery.message, client.version, terms.qos, client.has_slash);
        let Some(encoded) = encoded else { return Appended::TooLarge };
        let bytes = encoded.packet_bytes();
        if bytes > client.packet_bytes_max {
            return Appended::TooLarge;
        }
        let begin = self.bytes.len();
        if begin + bytes > bytes_max && begin > 0 {
            return Appended::Full;
        }
        encoded.append(&mut self.bytes, dup, terms.qos, terms.retain, packet_id);
        self.note_expiry(&delivery.message, begin, sending);
        Appended::Yes
    }

    /// Appends a message in bytes of its own.
    pub(super) fn append_one(
        &mut self,
        message: &MessageRef<'_>,
        sending: Sending<'_>,
    ) -> Appended {
        let Sending { terms, client, packet_id, dup, bytes_max } = sending;
        let topic = message.topic.as_str();
        let topic = if client.has_slash { with_slash(topic) } else { Cow::Borrowed(topic) };
        let topic = &*topic;
        // A packet that may be taken out again must not be the one that tells an alias.
        let alias = self.alias(topic, client, message.expires_at.is_none());
        let identifiers = terms.identifiers.iter().copied().map(Property::SubscriptionIdentifier);
        let alias_property = alias.map(|(alias, _)| Property::TopicAlias(alias));
        let all = message.properties.iter().chain(identifiers).chain(alias_property);
        let properties: PropertiesBuf = all.collect();
        let mut packet = message.packet(terms.qos, properties.as_properties());
        packet.dup = dup;
        packet.retain = terms.retain;
        packet.packet_id = packet_id;
        let told = matches!(alias, Some((_, true)));
        let begin = self.bytes.len();
        let text = if told { "" } else { topic };
        let is_written = append_publish(&packet, text, client.version, &mut self.bytes).is_ok();
        let bytes = self.bytes.len() - begin;
        let appended = if !is_written || bytes > client.packet_bytes_max {
            Appended::TooLarge
        } else if begin + bytes > bytes_max && begin > 0 {
            Appended::Full
        } else {
            Appended::Yes
        };
        if appended != Appended::Yes {
            self.bytes.truncate(begin);
            return appended;
        }
        if let Some((alias, false)) = alias {
            self.special.get_or_insert_default().aliases.insert(topic.into(), alias);
        }
        self.note_expiry(message, begin, sending);
        Appended::Yes
    }

    /// The alias of a topic, and whether the client knows it. The first topics get one, as many as
    /// the client allows.
    fn alias(&self, topic: &str, client: &Client, may_tell: bool) -> Option<(u16, bool)> {
        if client.topic_alias_maximum == 0 || !client.version.is_v5() {
            return None;
        }
        let aliases = self.special.as_ref().map(|special| &special.aliases);
        if let Some(alias) = aliases.and_then(|aliases| aliases.get(topic)) {
            return Some((*alias, true));
        }
        let next = aliases.map_or(0, HashMap::len) + 1;
        let next = u16::try_from(next).ok().filter(|next| *next <= client.topic_alias_maximum);
        next.filter(|_| may_tell).map(|next| (next, false))
    }

    fn note_expiry(&mut self, message: &MessageRef<'_>, begin: usize, sending: Sending<'_>) {
        // What was sent before does not expire any more [MQTT-4.3.3-7].
        if let Some(expires_at) = message.expires_at.filter(|_| !sending.dup) {
            let entry = sending.terms.entry;
            let bytes = self.bytes.len() - begin;
            let timed = Timed { begin, bytes, expires_at, entry };
            self.special.get_or_insert_default().timed.push(timed);
        }
    }

    pub(super) fn append_pubrel(&mut self, version: ProtocolVersion, packet_id: NonZeroU16) {
        let kind = AcknowledgementKind::Pubrel;
        append_acknowledgement(&mut self.bytes, version, kind, packet_id, true);
    }

    /// Hands the packets over: `buffer`, which is empty, and they change places. Messages that
    /// expired meanwhile are taken out, and counted; `expired` is told their entries
    /// [MQTT-3.3.2-5]. What is left of an interval is written into the others [MQTT-3.3.2-6].
    pub(super) fn swap(
        &mut self,
        buffer: &mut Vec<u8>,
        version: ProtocolVersion,
        now: Instant,
        mut expired: impl FnMut(u64),
    ) -> u64 {
        let mut count = 0;
        if let Some(special) = &mut self.special {
            for Timed { begin, bytes, expires_at, entry } in special.timed.drain(..).rev() {
                if expires_at <= now {
                    self.bytes.drain(begin..begin + bytes);
                    count += 1;
                    expired(entry);
                } else if version.is_v5() {
                    let packet = self.bytes.get_mut(begin..begin + bytes).unwrap_or_default();
                    set_interval(packet, expires_at, now);
                }
            }
            self.special.take_if(|special| special.aliases.is_empty());
        }
        if buffer.capacity() > KEEP_BYTES {
            *buffer = Vec::new();
        }
        std::mem::swap(&mut self.bytes, buffer);
        count
    }

    /// Forgets everything: the connection that it was for is gone.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

/// Writes what is left of the message expiry interval into a packet, where that is less.
fn set_interval(packet: &mut [u8], expires_at: Instant, now: Instant) {
    let Some(at) = expiry_interval_at(packet) else { return };
    let left = expires_at.saturating_duration_since(now);
    // A second that has begun counts: an interval of 0 would say that it is over.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    if let Some(interval) = packet.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *interval = u32::from_be_bytes(*interval).min(seconds).to_be_bytes();
    }
}

/// Terms and packet identifier go together.
impl Terms<'_> {
    pub(super) fn is_at_most_once(&self) -> bool {
        self.qos == QoS::AtMostOnce
    }
}
