//! SUBSCRIBE and UNSUBSCRIBE: permission, limits, retained messages, SUBACK and UNSUBACK.

use std::sync::Arc;

use portreeve_mqtt::{
    Packet, Properties, QoS, ReasonCode, RetainHandling, Suback, SubackKind, Subscribe,
    SubscriptionOptions, TopicFilter, Unsubscribe,
};
use portreeve_store::Changes;
use tokio::time::Instant;

use crate::client::{EstablishedClient, RetainedMessage};
use crate::message::Encodings;
use crate::reason::Close;
use crate::records::{Moment, StoredBytes};
use crate::session::{Delivered, Delivery, Terms};
use crate::topics::Subscription;
use crate::uncommitted::{Promise, append_suback};

/// Retained messages that may wait to be sent to one client.
const RETAINED_MAX: usize = 1_000_000;

/// Handles a SUBSCRIBE; SUBACK is appended to `replies`, retained messages go to the mailbox.
pub(crate) fn subscribe(
    client: &mut EstablishedClient,
    packet: &Subscribe<'_>,
    now: Instant,
    replies: &mut Vec<u8>,
) -> Result<(), Close> {
    let identifier = packet.subscription_identifier();
    let mut changes = Changes::default();
    let mut filters: Vec<(Box<str>, bool)> = Vec::new();
    let mut codes = Vec::new();
    for entry in packet.entries.iter() {
        let mut room = String::new();
        let filter = client.gateway.leading_slash.known_filter(entry.filter, &mut room);
        let has_slash = filter != entry.filter;
        let asked = Asked { filter, options: entry.options, identifier, has_slash };
        let subscribed = subscribe_one(client, asked, now, &mut changes);
        filters.push((filter.as_str().into(), matches!(subscribed, Ok(true))));
        codes.push(match subscribed {
            Ok(_) => granted(entry.options.qos),
            Err(reason_code) => reason_code.byte(),
        });
    }
    let packet_id = packet.packet_id;
    client.uncommitted.append(changes);
    let version = client.version;
    let mut suback = Vec::new();
    append_suback(version, packet_id, &codes, &mut suback);
    if !client.takes(suback.len()) {
        return Err(too_large());
    }
    let answers = client.answers(replies);
    let begin = answers.len();
    answers.append(&mut suback);
    if !client.uncommitted.is_empty() {
        // Retained messages are sent when the subscription is stored.
        client.uncommitted.promise(Promise::Subscriptions { packet_id, filters }, begin);
        return Ok(());
    }
    send_retained(client, now);
    Ok(())
}

/// An answer that may not be sent ends the connection [MQTT-3.1.2-24].
fn too_large() -> Close {
    let message = "the client's maximum packet size is too small for the answer";
    Close::new(ReasonCode::PacketTooLarge, message)
}

const fn granted(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success.byte(),
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1.byte(),
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2.byte(),
    }
}

/// A subscription that is asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    /// As the gateway knows it.
    filter: TopicFilter<'a>,
    options: SubscriptionOptions,
    identifier: Option<u32>,
    /// It was written with a slash in front that does not count.
    has_slash: bool,
}

/// Whether the subscription is new.
fn subscribe_one(
    client: &mut EstablishedClient,
    asked: Asked<'_>,
    now: Instant,
    changes: &mut Changes,
) -> Result<bool, ReasonCode> {
    let Asked { filter: whole, options, identifier, has_slash } = asked;
    let shared = whole.shared();
    let filter = shared.map_or(whole, |shared| shared.filter);
    let limits = &client.gateway.limits;
    let metrics = &client.gateway.broker.metrics;
    if whole.as_str().len() > limits.topic_bytes_max
        || filter.as_str().split('/').count() > limits.topic_levels_max
    {
        metrics.topics_refused.add(1);
        return Err(ReasonCode::TopicFilterInvalid);
    }
    if !client.permissions.may_subscribe(filter.as_str()) {
        metrics.subscriptions_denied.add(1);
        client.span().in_scope(|| tracing::debug!(filter = %whole, "may not subscribe"));
        return Err(ReasonCode::NotAuthorized);
    }
    let (session, generation) = (&client.session, client.generation);
    let is_new = session
        .subscribed(generation, whole.as_str(), options, identifier, has_slash, changes)
        .ok_or_else(|| {
            metrics.subscriptions_refused.add(1);
            ReasonCode::QuotaExceeded
        })?;
    let subscription = Subscription { session: Arc::clone(session), options, identifier };
    let topics = &client.gateway.broker.topics;
    topics.subscribe(whole, subscription);
    if session.has_ended() {
        // It ended meanwhile, and whoever ended it did not see this subscription.
        topics.unsubscribe(whole, session);
        return Err(ReasonCode::UnspecifiedError);
    }
    let sends_retained = match options.retain_handling {
        RetainHandling::Send => true,
        RetainHandling::SendIfNew => is_new,
        RetainHandling::DoNotSend => false,
    };
    // Shared subscriptions get no retained messages (§4.8.2).
    if sends_retained && shared.is_none() {
        let room = RETAINED_MAX.saturating_sub(client.retained.len());
        let messages = topics.retained(filter.as_str(), now, room);
        client.retained.add(messages, options.qos, identifier);
    }
    Ok(is_new)
}

/// Sends retained messages that new subscriptions asked for, as far as there is room for them.
/// Called again when there may be more.
pub(crate) fn send_retained(client: &mut EstablishedClient, now: Instant) {
    while let Some(next) = client.retained.next(&client.session) {
        let broker = &client.gateway.broker;
        // Meanwhile another one may have taken its place, which the client got as it was published.
        if next.message.is_expired(now) || !broker.topics.is_retained(&next.message) {
            continue;
        }
        send_one(client, &next, now);
    }
}

/// What of them is left when the connection ends waits in the session's queue, as far as there is
/// room.
pub(crate) fn keep_retained(client: &mut EstablishedClient, now: Instant) {
    if client.session.expiry_seconds() > 0 {
        send_retained(client, now);
    }
}

fn send_one(client: &mut EstablishedClient, next: &RetainedMessage, now: Instant) {
    let RetainedMessage { message: kept, qos, identifier } = next;
    let properties = kept.properties_at(now);
    let Some(message) = kept.borrowed(true, &properties) else { return };
    let identifiers: Vec<u32> = identifier.iter().copied().collect();
    let qos = message.qos.min(*qos);
    let entry = match client.session.stored_as() {
        Some(_) if qos != QoS::AtMostOnce => client.session.next_entry(),
        _ => 0,
    };
    let terms = Terms { qos, retain: true, identifiers: &identifiers, entry, share: None };
    if let Some(stored) = client.session.stored_as().filter(|_| entry != 0) {
        let (mut changes, moment) = (Changes::default(), Moment::at(now));
        let bytes = StoredBytes::of(kept, 1, &stored.store, &mut changes, moment);
        client.session.enqueue_in_store(&terms, &bytes, &mut changes);
        // Noted before it can be acknowledged.
        stored.store.note(changes);
    }
    let mut encodings = Encodings::default();
    // This connection's own task is the one that runs; it looks into its mailbox next.
    let mut wakers = Vec::new();
    let kept = Some(Arc::clone(kept));
    let mut delivery = Delivery { message, encodings: &mut encodings, kept, wakers: &mut wakers };
    let delivered = client.session.deliver(&mut delivery, &terms);
    let metrics = &client.gateway.broker.metrics;
    match delivered {
        Delivered::MailboxFull => metrics.messages_dropped_mailbox.add(1),
        Delivered::QueueFull | Delivered::QueuedForAnother => metrics.messages_dropped_queue.add(1),
        Delivered::TooLarge => metrics.messages_dropped_too_large.add(1),
        Delivered::Sent => metrics.messages_delivered.add(1),
        Delivered::Queued | Delivered::Offline => {}
    }
}

/// Handles an UNSUBSCRIBE; UNSUBACK is appended to `replies`.
pub(crate) fn unsubscribe(
    client: &mut EstablishedClient,
    packet: &Unsubscribe<'_>,
    replies: &mut Vec<u8>,
) -> Result<(), Close> {
    let mut over = Changes::default();
    let codes: Vec<u8> = packet
        .filters
        .iter()
        .map(|filter| {
            let mut room = String::new();
            let filter = client.gateway.leading_slash.known_filter(filter, &mut room);
            let existed =
                client.session.unsubscribed(Some(client.generation), filter.as_str(), &mut over);
            if existed {
                client.gateway.broker.topics.unsubscribe(filter, &client.session);
            }
            if existed { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted }.byte()
        })
        .collect();
    let unsuback = Suback {
        kind: SubackKind::Unsuback,
        packet_id: packet.packet_id,
        properties: Properties::NONE,
        reason_codes: &codes,
    };
    client.uncommitted.append(over);
    let mut bytes = Vec::new();
    let _fits = Packet::Suback(unsuback).encode(client.version, &mut bytes);
    if !client.takes(bytes.len()) {
        return Err(too_large());
    }
    client.answers(replies).append(&mut bytes);
    Ok(())
}
