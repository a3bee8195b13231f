//! SUBSCRIBE and UNSUBSCRIBE: permission, limits, retained messages, SUBACK and UNSUBACK.

use std::sync::Arc;

use portreeve_mqtt::{
    Packet, Properties, QoS, ReasonCode, RetainHandling, Suback, SubackKind, Subscribe,
    SubscribeEntry, Unsubscribe,
};
use tokio::time::Instant;

use crate::client::EstablishedClient;
use crate::message::Encodings;
use crate::session::{Delivered, Delivery, Terms};
use crate::topics::Subscription;

/// Retained messages that one SUBSCRIBE is answered with, however many filters it has.
const RETAINED_MAX: usize = 100_000;

/// Handles a SUBSCRIBE; SUBACK is appended to `replies`, retained messages go to the mailbox.
pub(crate) fn subscribe(
    client: &mut EstablishedClient,
    packet: &Subscribe<'_>,
    now: Instant,
    replies: &mut Vec<u8>,
) {
    let mut retained_left = RETAINED_MAX;
    let identifier = packet.subscription_identifier();
    let codes: Vec<u8> = packet
        .entries
        .iter()
        .map(|entry| match subscribe_one(client, &entry, identifier, &mut retained_left, now) {
            Ok(QoS::AtMostOnce) => ReasonCode::Success.byte(),
            Ok(QoS::AtLeastOnce) => ReasonCode::GrantedQoS1.byte(),
            Ok(QoS::ExactlyOnce) => ReasonCode::GrantedQoS2.byte(),
            Err(reason_code) => reason_code.byte(),
        })
        .collect();
    let suback = Suback {
        kind: SubackKind::Suback,
        packet_id: packet.packet_id,
        properties: Properties::NONE,
        reason_codes: &codes,
    };
    // One byte for each filter of a packet that was read always fits.
    let _fits = Packet::Suback(suback).encode(client.version, replies);
}

fn subscribe_one(
    client: &mut EstablishedClient,
    entry: &SubscribeEntry<'_>,
    identifier: Option<u32>,
    retained_left: &mut usize,
    now: Instant,
) -> Result<QoS, ReasonCode> {
    let shared = entry.filter.shared();
    let filter = shared.map_or(entry.filter, |shared| shared.filter);
    if filter.as_str().split('/').count() > client.gateway.limits.topic_levels_max {
        return Err(ReasonCode::TopicFilterInvalid);
    }
    if !client.permissions.may_subscribe(filter.as_str()) {
        tracing::debug!(device = %client.device.name, filter = %entry.filter, "may not subscribe");
        return Err(ReasonCode::NotAuthorized);
    }
    let session = &client.session;
    let is_new = session
        .subscribed(client.generation, entry.filter.as_str(), entry.options)
        .ok_or(ReasonCode::QuotaExceeded)?;
    let subscription =
        Subscription { session: Arc::clone(session), options: entry.options, identifier };
    let topics = &client.gateway.broker.topics;
    topics.subscribe(entry.filter, subscription);
    if session.has_ended() {
        // It ended meanwhile, and whoever ended it did not see this subscription.
        topics.unsubscribe(entry.filter, session);
        return Err(ReasonCode::UnspecifiedError);
    }
    let sends_retained = match entry.options.retain_handling {
        RetainHandling::Send => true,
        RetainHandling::SendIfNew => is_new,
        RetainHandling::DoNotSend => false,
    };
    // Shared subscriptions get no retained messages (§4.8.2).
    if sends_retained && shared.is_none() {
        let filter = filter.as_str();
        send_retained(client, filter, entry.options.qos, identifier, retained_left, now);
    }
    Ok(entry.options.qos)
}

fn send_retained(
    client: &EstablishedClient,
    filter: &str,
    qos: QoS,
    identifier: Option<u32>,
    retained_left: &mut usize,
    now: Instant,
) {
    let broker = &client.gateway.broker;
    let identifiers: Vec<u32> = identifier.into_iter().collect();
    let mut encodings = Encodings::default();
    let mut wakers = Vec::new();
    let retained = broker.topics.retained(filter, now, *retained_left);
    *retained_left -= retained.len();
    for kept in retained {
        let properties = kept.properties_at(now);
        let Some(message) = kept.borrowed(true, &properties) else { continue };
        encodings.reset();
        let terms = Terms { qos: message.qos.min(qos), retain: true, identifiers: &identifiers };
        let mut delivery = Delivery {
            message,
            encodings: &mut encodings,
            kept: Some(Arc::clone(&kept)),
            wakers: &mut wakers,
        };
        match client.session.deliver(&mut delivery, &terms) {
            Delivered::MailboxFull => broker.metrics.messages_dropped_mailbox.add(1),
            Delivered::QueueFull | Delivered::QueuedForAnother => {
                broker.metrics.messages_dropped_queue.add(1);
            }
            Delivered::TooLarge => broker.metrics.messages_dropped_too_large.add(1),
            Delivered::Sent | Delivered::Queued | Delivered::Offline => {}
        }
    }
    // This connection's own task is the one that runs; it looks into its mailbox next.
    drop(wakers);
}

/// Handles an UNSUBSCRIBE; UNSUBACK is appended to `replies`.
pub(crate) fn unsubscribe(
    client: &mut EstablishedClient,
    packet: &Unsubscribe<'_>,
    replies: &mut Vec<u8>,
) {
    let codes: Vec<u8> = packet
        .filters
        .iter()
        .map(|filter| {
            let existed = client.session.unsubscribed(filter.as_str());
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
    let _fits = Packet::Suback(unsuback).encode(client.version, replies);
}
