//! Messages towards the client: the mailbox, what is in flight, and what waits (§4.3, §4.4).

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use portreeve_mqtt::{
    AcknowledgementKind, PropertiesBuf, Property, QoS, ReasonCode, append_publish,
};
use tokio::time::Instant;

use super::{
    Client, Delivered, Delivery, QueuePolicy, SessionLimits, Terms, append_acknowledgement,
};
use crate::message::Message;

/// A mailbox above this size is given back as soon as it was sent.
const MAILBOX_KEEP_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Encoded packets that the connection is to send.
    mailbox: Vec<u8>,
    /// Sent and not acknowledged, in the order in which they were sent.
    in_flight: VecDeque<InFlight>,
    /// In flight when the last connection was lost, and not sent again yet.
    again: VecDeque<InFlight>,
    /// What waits, in order.
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    last_packet_id: u16,
}

#[derive(Debug)]
struct InFlight {
    packet_id: NonZeroU16,
    qos: QoS,
    /// PUBREC came; the message is the client's, PUBREL is to be answered.
    is_released: bool,
    /// For sending again; not kept for a session that ends with its connection.
    again: Option<Queued>,
}

#[derive(Debug, Clone)]
struct Queued {
    message: Arc<Message>,
    qos: QoS,
    retain: bool,
    identifiers: Box<[u32]>,
}

impl Outgoing {
    pub(super) const fn mailbox_is_empty(&self) -> bool {
        self.mailbox.is_empty()
    }

    pub(super) fn has_room(&self, qos: QoS, client: &Client, limits: &SessionLimits) -> bool {
        self.mailbox.len() < limits.mailbox_bytes_max
            && (qos == QoS::AtMostOnce || (!self.has_waiting() && self.has_quota(client)))
    }

    fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.again.is_empty()
    }

    fn has_quota(&self, client: &Client) -> bool {
        self.in_flight.len() < usize::from(client.receive_maximum)
    }

    /// Sends a message now, or has it wait.
    pub(super) fn send(
        &mut self,
        delivery: &mut Delivery<'_>,
        terms: &Terms<'_>,
        client: &Client,
        keeps: bool,
        limits: &SessionLimits,
    ) -> Delivered {
        let is_at_most_once = terms.qos == QoS::AtMostOnce;
        if !is_at_most_once && (self.has_waiting() || !self.has_quota(client)) {
            return self.enqueue(delivery.kept(), terms, limits);
        }
        let packet_id = if is_at_most_once { None } else { self.next_packet_id() };
        if !is_at_most_once && packet_id.is_none() {
            return self.enqueue(delivery.kept(), terms, limits);
        }
        match self.append(delivery, terms, client, packet_id, limits) {
            Appended::Yes => {}
            Appended::TooLarge => return Delivered::TooLarge,
            Appended::Full if is_at_most_once => return Delivered::MailboxFull,
            Appended::Full => return self.enqueue(delivery.kept(), terms, limits),
        }
        if let Some(packet_id) = packet_id {
            self.last_packet_id = packet_id.get();
            let again = keeps.then(|| Queued::new(delivery.kept(), terms));
            let in_flight = InFlight { packet_id, qos: terms.qos, is_released: false, again };
            self.in_flight.push_back(in_flight);
        }
        Delivered::Sent
    }

    fn append(
        &mut self,
        delivery: &mut Delivery<'_>,
        terms: &Terms<'_>,
        client: &Client,
        packet_id: Option<NonZeroU16>,
        limits: &SessionLimits,
    ) -> Appended {
        let room = limits.mailbox_bytes_max.saturating_sub(self.mailbox.len());
        if client.version.is_v5() && !terms.identifiers.is_empty() {
            let properties =
                with_identifiers(delivery.message.properties.iter(), terms.identifiers);
            let mut packet = delivery.message.packet(terms.qos, properties.as_properties());
            packet.retain = terms.retain;
            packet.packet_id = packet_id;
            let topic = delivery.message.topic.as_str();
            return self.append_bounded(client, room, |mailbox| {
                append_publish(&packet, topic, client.version, mailbox).is_ok()
            });
        }
        let encoded = delivery.encodings.get(&delivery.message, client.version, terms.qos);
        let Some(encoded) = encoded else { return Appended::TooLarge };
        if encoded.packet_bytes() > client.packet_bytes_max {
            return Appended::TooLarge;
        }
        if encoded.packet_bytes() > room && !self.mailbox.is_empty() {
            return Appended::Full;
        }
        encoded.append(&mut self.mailbox, false, terms.qos, terms.retain, packet_id);
        Appended::Yes
    }

    /// Writes a packet and takes it back when it is too large for the client or the mailbox. One
    /// packet always fits into an empty mailbox.
    fn append_bounded(
        &mut self,
        client: &Client,
        room: usize,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> Appended {
        let before = self.mailbox.len();
        let is_written = write(&mut self.mailbox);
        let bytes = self.mailbox.len() - before;
        let appended = if !is_written || bytes > client.packet_bytes_max {
            Appended::TooLarge
        } else if bytes > room && before > 0 {
            Appended::Full
        } else {
            return Appended::Yes;
        };
        self.mailbox.truncate(before);
        appended
    }

    /// Has a message wait, within the bounds.
    pub(super) fn enqueue(
        &mut self,
        message: Arc<Message>,
        terms: &Terms<'_>,
        limits: &SessionLimits,
    ) -> Delivered {
        let cost = message.cost_bytes();
        let mut delivered = Delivered::Queued;
        while self.queue.len() >= limits.queued_messages_max
            || self.queued_bytes + cost > limits.queued_bytes_max
        {
            if limits.queue_policy == QueuePolicy::DropNewest || self.take_queued().is_none() {
                return Delivered::QueueFull;
            }
            delivered = Delivered::QueuedForAnother;
        }
        self.queued_bytes += cost;
        self.queue.push_back(Queued::new(message, terms));
        delivered
    }

    fn take_queued(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queued_bytes -= queued.message.cost_bytes();
        Some(queued)
    }

    /// Sends what waits, as far as the client's quota and the mailbox allow.
    pub(super) fn pump(&mut self, client: &Client, limits: &SessionLimits, now: Instant) {
        self.send_again(client, limits, now);
        if !self.again.is_empty() {
            return;
        }
        while !self.queue.is_empty()
            && self.has_quota(client)
            && self.mailbox.len() < limits.mailbox_bytes_max
        {
            let Some(packet_id) = self.next_packet_id() else { return };
            let Some(queued) = self.take_queued() else { return };
            if queued.message.is_expired(now) {
                continue;
            }
            if !self.append_queued(&queued, client, packet_id, false, now) {
                continue;
            }
            self.last_packet_id = packet_id.get();
            let qos = queued.qos;
            let in_flight = InFlight { packet_id, qos, is_released: false, again: Some(queued) };
            self.in_flight.push_back(in_flight);
        }
    }

    /// Whether the packet could be sent to this client at all.
    fn append_queued(
        &mut self,
        queued: &Queued,
        client: &Client,
        packet_id: NonZeroU16,
        dup: bool,
        now: Instant,
    ) -> bool {
        let properties = queued.message.properties_at(now);
        let Some(message) = queued.message.borrowed(queued.retain, &properties) else {
            return false;
        };
        let all = with_identifiers(properties.as_properties().iter(), &queued.identifiers);
        let mut packet = message.packet(queued.qos, all.as_properties());
        packet.dup = dup;
        packet.retain = queued.retain;
        packet.packet_id = Some(packet_id);
        let topic = message.topic.as_str();
        let appended = self.append_bounded(client, usize::MAX, |mailbox| {
            append_publish(&packet, topic, client.version, mailbox).is_ok()
        });
        matches!(appended, Appended::Yes)
    }

    /// The next packet identifier. Identifiers go round, so the next one can only be in use by
    /// the message that is in flight longest; then there is none.
    fn next_packet_id(&self) -> Option<NonZeroU16> {
        let next = NonZeroU16::new(self.last_packet_id.wrapping_add(1)).unwrap_or(NonZeroU16::MIN);
        let oldest = self.in_flight.front().or_else(|| self.again.front());
        let is_used = oldest.is_some_and(|oldest| oldest.packet_id == next);
        (!is_used).then_some(next)
    }

    fn position(&self, packet_id: NonZeroU16) -> Option<usize> {
        // Acknowledgements come in the order of the messages [MQTT-4.6.0-2], so this is the first
        // one nearly always.
        self.in_flight.iter().position(|in_flight| in_flight.packet_id == packet_id)
    }

    pub(super) fn puback(&mut self, packet_id: NonZeroU16) {
        let Some(at) = self.position(packet_id) else { return };
        if self.in_flight.get(at).is_some_and(|in_flight| in_flight.qos == QoS::AtLeastOnce) {
            drop(self.in_flight.remove(at));
        }
    }

    /// Returns whether the identifier is in use.
    pub(super) fn pubrec(&mut self, packet_id: NonZeroU16, reason_code: ReasonCode) -> bool {
        let Some(at) = self.position(packet_id) else { return false };
        let Some(in_flight) = self.in_flight.get_mut(at) else { return false };
        if in_flight.qos != QoS::ExactlyOnce {
            return false;
        }
        if reason_code.is_error() {
            drop(self.in_flight.remove(at));
        } else {
            in_flight.is_released = true;
            in_flight.again = None;
        }
        true
    }

    pub(super) fn pubcomp(&mut self, packet_id: NonZeroU16) {
        let Some(at) = self.position(packet_id) else { return };
        if self.in_flight.get(at).is_some_and(|in_flight| in_flight.is_released) {
            drop(self.in_flight.remove(at));
        }
    }

    /// A new connection: what is in flight is sent again with the same identifiers and DUP
    /// [MQTT-4.4.0-1], then what waits.
    pub(super) fn resume(&mut self, client: &Client, limits: &SessionLimits, now: Instant) {
        self.mailbox.clear();
        let mut again = std::mem::take(&mut self.in_flight);
        again.append(&mut self.again);
        self.again = again;
        self.pump(client, limits, now);
    }

    /// Sends again, within the client's quota and the mailbox's bound.
    fn send_again(&mut self, client: &Client, limits: &SessionLimits, now: Instant) {
        while !self.again.is_empty()
            && self.has_quota(client)
            && self.mailbox.len() < limits.mailbox_bytes_max
        {
            let Some(mut message) = self.again.pop_front() else { return };
            let is_sent = match message.again.take() {
                Some(queued) => {
                    let is_sent = self.append_queued(&queued, client, message.packet_id, true, now);
                    message.again = Some(queued);
                    is_sent
                }
                None if message.is_released => {
                    let kind = AcknowledgementKind::Pubrel;
                    let mailbox = &mut self.mailbox;
                    append_acknowledgement(mailbox, client.version, kind, message.packet_id, true);
                    true
                }
                None => false,
            };
            if is_sent {
                self.in_flight.push_back(message);
            }
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.mailbox = Vec::new();
    }

    pub(super) fn swap_mailbox(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() > MAILBOX_KEEP_BYTES {
            *buffer = Vec::new();
        }
        std::mem::swap(&mut self.mailbox, buffer);
    }

    pub(super) fn shrink(&mut self) {
        self.mailbox.shrink_to_fit();
        self.in_flight.shrink_to_fit();
        self.queue.shrink_to_fit();
    }
}

enum Appended {
    Yes,
    /// The mailbox has no room.
    Full,
    /// The client does not take packets of this size.
    TooLarge,
}

impl Queued {
    fn new(message: Arc<Message>, terms: &Terms<'_>) -> Self {
        let &Terms { qos, retain, identifiers } = terms;
        Self { message, qos, retain, identifiers: identifiers.into() }
    }
}

fn with_identifiers<'a>(
    properties: impl Iterator<Item = Property<'a>>,
    identifiers: &[u32],
) -> PropertiesBuf {
    properties.chain(identifiers.iter().copied().map(Property::SubscriptionIdentifier)).collect()
}
