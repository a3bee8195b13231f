//! Messages towards the client: the mailbox, what is in flight, and what waits (§4.3, §4.4).

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use portreeve_mqtt::{QoS, ReasonCode};
use portreeve_store::Changes;
use tokio::time::Instant;

use super::mailbox::{Appended, Mailbox, Sending};
use super::{Client, Delivered, Delivery, QueuePolicy, SessionLimits, Terms};
use crate::message::Message;
use crate::records::StoredAs;

/// How far the numbers of entries may lie apart before identifiers are compared one by one; less
/// than half of the identifiers that there are.
const NEAR: u64 = 30_000;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// What the connection is to send next.
    mailbox: Mailbox,
    /// Sent and not acknowledged, in the order in which they were sent.
    in_flight: VecDeque<InFlight>,
    /// In flight when the last connection was lost, and not sent again yet; nearly always nothing.
    again: Again,
    /// What waits, in order.
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Those of them that take nothing of the client's quota.
    old: u16,
    /// The last entry that was sent.
    last_sent: u64,
}

/// A message of the session by its number, which gives its packet identifier too: the same one
/// after a restart of the gateway, without a record of it.
pub(super) fn packet_id(entry: u64) -> NonZeroU16 {
    const IDENTIFIERS: u64 = 65_535;
    let id = u16::try_from(entry % IDENTIFIERS).unwrap_or_default();
    NonZeroU16::new(id).unwrap_or(NonZeroU16::MAX)
}

/// Collects what the store need not keep any more of a session that is stored.
pub(super) struct Gone<'a> {
    stored: Option<&'a StoredAs>,
    changes: Changes,
}

impl<'a> Gone<'a> {
    pub(super) fn of(stored: Option<&'a StoredAs>) -> Self {
        Self { stored, changes: Changes::default() }
    }

    /// An entry is over. Its message lives until the store was told, since its own end has the
    /// store forget its bytes.
    pub(super) fn push(&mut self, entry: u64, message: Option<Arc<Message>>) {
        if let Some(stored) = self.stored {
            self.changes.dequeue(stored.id, entry);
            if let Some(message) = message.filter(|message| message.stored().is_some()) {
                self.changes.hold(message);
            }
        }
    }

    /// The message of an entry is the client's now.
    fn released(&mut self, entry: u64, message: Option<Arc<Message>>) {
        if let Some(stored) = self.stored {
            self.changes.entry_released(stored.id, entry);
            if let Some(message) = message.filter(|message| message.stored().is_some()) {
                self.changes.hold(message);
            }
        }
    }

    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }

    /// Tells the store.
    pub(super) fn note(self) {
        if let Some(stored) = self.stored {
            stored.store.note(self.changes);
        }
    }
}

/// A queue that takes no room while it is empty.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "there are many sessions, and few of them need it")]
struct Again(Option<Box<VecDeque<InFlight>>>);

impl Again {
    const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &InFlight> {
        self.0.iter().flat_map(|messages| messages.iter())
    }

    fn push_back(&mut self, message: InFlight) {
        self.0.get_or_insert_default().push_back(message);
    }

    fn pop_front(&mut self) -> Option<InFlight> {
        let message = self.0.as_mut()?.pop_front();
        self.0.take_if(|messages| messages.is_empty());
        message
    }

    fn take(&mut self) -> VecDeque<InFlight> {
        self.0.take().map(|messages| *messages).unwrap_or_default()
    }
}

#[derive(Debug)]
struct InFlight {
    entry: u64,
    qos: QoS,
    /// PUBREC came; the message is the client's, PUBREL is to be answered.
    is_released: bool,
    /// It was released on an earlier connection, so it takes nothing of this one's quota (§4.9).
    is_old: bool,
    /// For sending again; not kept for a session that ends with its connection.
    again: Option<Queued>,
}

/// A message of the session that waits, or may have to be sent again.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) entry: u64,
    pub(super) message: Arc<Message>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Box<[u32]>,
    /// The shared subscription that it came by.
    pub(super) share: Option<Arc<str>>,
}

/// What a session that ends leaves behind.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Messages of shared subscriptions that another member should get.
    pub(super) shared: Vec<(Arc<str>, Arc<Message>)>,
}

impl Outgoing {
    pub(super) const fn mailbox_is_empty(&self) -> bool {
        self.mailbox.is_empty()
    }

    /// Whether a message can be added without another one being dropped for it, with as much room
    /// left for others.
    pub(super) fn has_spare_room(&self, qos: QoS, limits: &SessionLimits) -> bool {
        match qos {
            QoS::AtMostOnce => self.mailbox.len() <= limits.mailbox_bytes_max / 2,
            _ => {
                self.queue.len() <= limits.queued_messages_max / 2
                    && self.queued_bytes <= limits.queued_bytes_max / 2
            }
        }
    }

    pub(super) fn has_room(&self, qos: QoS, client: &Client, limits: &SessionLimits) -> bool {
        self.mailbox.len() < limits.mailbox_bytes_max
            && (qos == QoS::AtMostOnce || (!self.has_waiting() && self.has_quota(client)))
    }

    fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.again.is_empty()
    }

    fn has_quota(&self, client: &Client) -> bool {
        self.in_flight.len() - usize::from(self.old) < usize::from(client.receive_maximum)
    }

    /// Sends a message now, or has it wait. What is not QoS 0 has its number in `terms`.
    pub(super) fn send(
        &mut self,
        delivery: &mut Delivery<'_>,
        terms: &Terms<'_>,
        client: &Client,
        keeps: bool,
        limits: &SessionLimits,
        gone: &mut Gone<'_>,
    ) -> Delivered {
        let bytes_max = limits.mailbox_bytes_max;
        if terms.is_at_most_once() {
            let sending = Sending { terms, client, packet_id: None, dup: false, bytes_max };
            return match self.mailbox.append(delivery, sending) {
                Appended::Yes => Delivered::Sent,
                Appended::TooLarge => Delivered::TooLarge,
                Appended::Full => Delivered::MailboxFull,
            };
        }
        let entry = terms.entry;
        if self.has_waiting() || !self.has_quota(client) || self.is_used(entry) {
            return self.enqueue(delivery.kept(), terms, limits, gone);
        }
        let packet_id = Some(packet_id(entry));
        let sending = Sending { terms, client, packet_id, dup: false, bytes_max };
        match self.mailbox.append(delivery, sending) {
            Appended::Yes => {}
            Appended::TooLarge => return Delivered::TooLarge,
            Appended::Full => return self.enqueue(delivery.kept(), terms, limits, gone),
        }
        self.last_sent = self.last_sent.max(entry);
        let keeps = keeps || terms.share.is_some();
        let again = keeps.then(|| Queued::new(delivery.kept(), terms));
        self.in_flight.push_back(InFlight::new(entry, terms.qos, again));
        Delivered::Sent
    }

    /// Has a message wait, within the bounds.
    pub(super) fn enqueue(
        &mut self,
        message: Arc<Message>,
        terms: &Terms<'_>,
        limits: &SessionLimits,
        gone: &mut Gone<'_>,
    ) -> Delivered {
        let cost = message.cost_bytes();
        if cost > limits.queued_bytes_max {
            // No other message makes room for it.
            return Delivered::QueueFull;
        }
        let mut delivered = Delivered::Queued;
        while self.queue.len() >= limits.queued_messages_max
            || self.queued_bytes + cost > limits.queued_bytes_max
        {
            if limits.queue_policy == QueuePolicy::DropNewest {
                return Delivered::QueueFull;
            }
            let Some(oldest) = self.take_queued() else { return Delivered::QueueFull };
            gone.push(oldest.entry, Some(oldest.message));
            delivered = Delivered::QueuedForAnother;
        }
        self.queued_bytes += cost;
        self.queue.push_back(Queued::new(message, terms));
        delivered
    }

    /// Messages that wait for room or for a connection.
    pub(super) fn queued_count(&self) -> usize {
        self.queue.len()
    }

    fn take_queued(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queued_bytes -= queued.message.cost_bytes();
        Some(queued)
    }

    /// Sends what waits, as far as the client's quota and the mailbox allow. Returns how many
    /// messages had expired, and how many are too large for the client.
    pub(super) fn pump(
        &mut self,
        client: &Client,
        limits: &SessionLimits,
        now: Instant,
        gone: &mut Gone<'_>,
    ) -> Pumped {
        let mut pumped = Pumped::default();
        self.send_again(client, limits, now, gone, &mut pumped);
        if !self.again.is_empty() {
            return pumped;
        }
        while let Some(next) = self.queue.front()
            && self.has_quota(client)
            && self.mailbox.len() < limits.mailbox_bytes_max
            && !self.is_used(next.entry)
        {
            let Some(queued) = self.take_queued() else { break };
            let entry = queued.entry;
            if queued.message.is_expired(now) {
                pumped.expired += 1;
                gone.push(entry, Some(queued.message));
                continue;
            }
            if !self.append_queued(&queued, client, false, now) {
                pumped.too_large += 1;
                gone.push(entry, Some(queued.message));
                continue;
            }
            self.last_sent = self.last_sent.max(entry);
            let qos = queued.qos;
            self.in_flight.push_back(InFlight::new(entry, qos, Some(queued)));
        }
        pumped
    }

    /// Whether the packet could be sent to this client at all.
    fn append_queued(&mut self, queued: &Queued, client: &Client, dup: bool, now: Instant) -> bool {
        let properties = queued.message.properties_at(now);
        let Some(message) = queued.message.borrowed(queued.retain, &properties) else {
            return false;
        };
        let terms = &queued.terms();
        let packet_id = Some(packet_id(queued.entry));
        let sending = Sending { terms, client, packet_id, dup, bytes_max: usize::MAX };
        self.mailbox.append_one(&message, sending) == Appended::Yes
    }

    /// Whether the packet identifier of `entry` is in use. Identifiers go round, and entries are
    /// sent in about the order of their numbers, so nearly always the first one tells.
    fn is_used(&self, entry: u64) -> bool {
        let fronts = self.in_flight.front().into_iter().chain(self.again.iter().next());
        let Some(oldest) = fronts.map(|first| first.entry).min() else { return false };
        if entry.wrapping_sub(oldest) < NEAR {
            return false;
        }
        let id = packet_id(entry);
        self.in_flight.iter().chain(self.again.iter()).any(|other| packet_id(other.entry) == id)
    }

    fn position(&self, id: NonZeroU16) -> Option<usize> {
        // Acknowledgements come in the order of the messages [MQTT-4.6.0-2], so this is the first
        // one nearly always.
        self.in_flight.iter().position(|in_flight| packet_id(in_flight.entry) == id)
    }

    /// Takes the message of an identifier out of flight when `is_over` says so.
    fn remove(&mut self, id: NonZeroU16, gone: &mut Gone<'_>, is_over: impl Fn(&InFlight) -> bool) {
        let Some(at) = self.position(id) else { return };
        if self.in_flight.get(at).is_some_and(is_over)
            && let Some(removed) = self.in_flight.remove(at)
        {
            self.old -= u16::from(removed.is_old);
            gone.push(removed.entry, removed.again.map(|queued| queued.message));
        }
    }

    pub(super) fn puback(&mut self, id: NonZeroU16, gone: &mut Gone<'_>) {
        self.remove(id, gone, |in_flight| in_flight.qos == QoS::AtLeastOnce);
    }

    /// Returns whether the identifier is in use; then the message is the client's now.
    pub(super) fn pubrec(
        &mut self,
        id: NonZeroU16,
        reason_code: ReasonCode,
        gone: &mut Gone<'_>,
    ) -> bool {
        if reason_code.is_error() {
            // The client refuses it, so it is over [MQTT-4.3.3-4]; after PUBREC it is not.
            self.remove(id, gone, |in_flight| {
                in_flight.qos == QoS::ExactlyOnce && !in_flight.is_released
            });
            return false;
        }
        let Some(at) = self.position(id) else { return false };
        let Some(in_flight) = self.in_flight.get_mut(at) else { return false };
        if in_flight.qos != QoS::ExactlyOnce {
            return false;
        }
        if !in_flight.is_released {
            in_flight.is_released = true;
            gone.released(in_flight.entry, in_flight.again.take().map(|queued| queued.message));
        }
        true
    }

    pub(super) fn pubcomp(&mut self, id: NonZeroU16, gone: &mut Gone<'_>) {
        self.remove(id, gone, |in_flight| in_flight.is_released);
    }

    /// A new connection: what is in flight is sent again with the same identifiers and DUP
    /// [MQTT-4.4.0-1], then what waits.
    pub(super) fn resume(
        &mut self,
        client: &Client,
        limits: &SessionLimits,
        now: Instant,
        gone: &mut Gone<'_>,
    ) -> Pumped {
        self.mailbox.clear();
        let mut again = std::mem::take(&mut self.in_flight);
        again.append(&mut self.again.take());
        self.old = 0;
        let mut pumped = Pumped::default();
        for mut message in again {
            if message.is_released {
                // A PUBREL does not wait for the client's quota [MQTT-3.3.4-10].
                message.is_old = true;
                self.old += 1;
                self.mailbox.append_pubrel(client.version, packet_id(message.entry));
                self.in_flight.push_back(message);
            } else {
                self.again.push_back(message);
                self.send_again(client, limits, now, gone, &mut pumped);
            }
        }
        let more = self.pump(client, limits, now, gone);
        pumped.expired += more.expired;
        pumped.too_large += more.too_large;
        pumped
    }

    /// Sends again, within the client's quota and the mailbox's bound.
    fn send_again(
        &mut self,
        client: &Client,
        limits: &SessionLimits,
        now: Instant,
        gone: &mut Gone<'_>,
        pumped: &mut Pumped,
    ) {
        while !self.again.is_empty()
            && self.has_quota(client)
            && self.mailbox.len() < limits.mailbox_bytes_max
        {
            let Some(message) = self.again.pop_front() else { return };
            let is_sent = match &message.again {
                Some(queued) => self.append_queued(queued, client, true, now),
                None => false,
            };
            if is_sent {
                self.in_flight.push_back(message);
            } else {
                pumped.too_large += 1;
                gone.push(message.entry, message.again.map(|queued| queued.message));
            }
        }
    }

    /// Puts back what the store had: what may have been sent, and what was not.
    pub(super) fn restore(&mut self, queued: Queued, was_sent: bool) {
        let entry = queued.entry;
        if was_sent {
            self.last_sent = self.last_sent.max(entry);
            let (qos, again) = (queued.qos, Some(queued));
            self.in_flight.push_back(InFlight::new(entry, qos, again));
        } else {
            self.queued_bytes += queued.message.cost_bytes();
            self.queue.push_back(queued);
        }
    }

    /// Puts back a message whose PUBREC had come.
    pub(super) fn restore_released(&mut self, entry: u64) {
        self.last_sent = self.last_sent.max(entry);
        let in_flight = InFlight::new(entry, QoS::ExactlyOnce, None);
        self.in_flight.push_back(InFlight { is_released: true, ..in_flight });
    }

    /// Identifiers of messages that were sent long before `entry` and are not acknowledged.
    pub(super) fn held(&self, entry: u64) -> BTreeSet<NonZeroU16> {
        let all = self.in_flight.iter().chain(self.again.iter());
        let is_old = |message: &&InFlight| entry.saturating_sub(message.entry) >= NEAR;
        all.filter(is_old).map(|message| packet_id(message.entry)).collect()
    }

    /// The last entry that was sent.
    pub(super) const fn last_sent(&self) -> u64 {
        self.last_sent
    }

    /// Ends everything.
    pub(super) fn end(&mut self, gone: &mut Gone<'_>) -> Left {
        let mut left = Left::default();
        let Self { in_flight, mut again, queue, .. } = std::mem::take(self);
        for InFlight { entry, qos, again, .. } in in_flight.into_iter().chain(again.take()) {
            gone.push(entry, again.as_ref().map(|queued| Arc::clone(&queued.message)));
            // A QoS 2 message that was sent goes to nobody else [MQTT-4.8.2-5].
            if let Some(Queued { share: Some(share), message, .. }) = again
                && qos == QoS::AtLeastOnce
            {
                left.shared.push((share, message));
            }
        }
        for queued in queue {
            gone.push(queued.entry, Some(Arc::clone(&queued.message)));
            if let Some(share) = queued.share {
                left.shared.push((share, queued.message));
            }
        }
        left
    }

    pub(super) fn disconnect(&mut self) {
        self.mailbox.clear();
    }

    /// Hands the mailbox over. Returns how many messages expired in it.
    pub(super) fn swap_mailbox(
        &mut self,
        buffer: &mut Vec<u8>,
        client: &Client,
        now: Instant,
        gone: &mut Gone<'_>,
    ) -> u64 {
        let in_flight = &mut self.in_flight;
        self.mailbox.swap(buffer, client.version, now, |entry| {
            // It never left, so its identifier is free.
            let at = in_flight.iter().rposition(|other| entry != 0 && other.entry == entry);
            if let Some(removed) = at.and_then(|at| in_flight.remove(at)) {
                gone.push(entry, removed.again.map(|queued| queued.message));
            }
        })
    }

    pub(super) fn shrink(&mut self) {
        self.mailbox.shrink();
        self.in_flight.shrink_to_fit();
        self.queue.shrink_to_fit();
    }
}

/// Messages that were not sent after all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pumped {
    /// Their message expiry interval was over [MQTT-3.3.2-5].
    pub(crate) expired: u64,
    /// The client does not take packets of their size [MQTT-3.1.2-25].
    pub(crate) too_large: u64,
}

impl InFlight {
    const fn new(entry: u64, qos: QoS, again: Option<Queued>) -> Self {
        Self { entry, qos, is_released: false, is_old: false, again }
    }
}

impl Queued {
    fn new(message: Arc<Message>, terms: &Terms<'_>) -> Self {
        let &Terms { qos, retain, identifiers, entry, share } = terms;
        let share = share.map(Arc::clone);
        Self { entry, message, qos, retain, identifiers: identifiers.into(), share }
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            qos: self.qos,
            retain: self.retain,
            identifiers: &self.identifiers,
            entry: self.entry,
            share: self.share.as_ref(),
        }
    }
}
