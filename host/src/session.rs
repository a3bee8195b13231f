//! An MQTT session: what outlives a connection, and the mailbox of the connection that it has
//! now. Everything of one session is behind one lock, which is never held over an await.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Packet, ProtocolVersion, QoS, ReasonCode,
    SubscriptionOptions,
};
use portreeve_store::{Changes, SessionRecord, WillRecord};
use tokio::time::Instant;

use crate::devices::Device;
use crate::message::Message;
use crate::records::{self, Moment, StoredAs, StoredBytes};

mod closing;
mod delivery;
mod incoming;
mod limits;
mod mailbox;
mod outgoing;
mod restore;
mod table;

pub(crate) use delivery::{Delivered, Delivery, Standing, Terms};
use incoming::Incoming;
pub(crate) use limits::{Client, QueuePolicy, SessionLimits};
pub(crate) use outgoing::Pumped;
use outgoing::{Gone, Outgoing, packet_id};
pub(crate) use restore::Restored;
use table::DeadlineKey;
pub(crate) use table::{Attachment, Due, SessionKey, Sessions, Wanted, ends_at};

/// Held packet identifiers that are passed over for one message.
const HELD_IN_A_ROW_MAX: u32 = 64;

/// A will that waits for its delay.
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) message: Arc<Message>,
    pub(crate) retain: bool,
    pub(crate) delay: Duration,
    /// Message expiry interval in seconds, counted from its publication (§3.1.3.2.4).
    pub(crate) expiry_interval: Option<u32>,
}

/// What a connection is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mail {
    /// Send what was handed over; there may be more.
    Send,
    /// Send what was handed over, say this and close.
    Close(ReasonCode),
}

/// A session.
#[expect(clippy::box_collection, reason = "there are many sessions, and few have what is boxed")]
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    limits: Arc<SessionLimits>,
    /// Only of a session that outlives its connection, where there is a store.
    stored: Option<Box<StoredAs>>,
    /// Counts the QoS 1 and 2 messages for it.
    entries: AtomicU64,
    /// Packet identifiers of messages that are long unacknowledged; nearly always none.
    held: Mutex<Option<Box<BTreeSet<NonZeroU16>>>>,
    /// Seconds that the session outlives its connection; `u32::MAX` does not end.
    expiry_seconds: AtomicU32,
    state: Mutex<State>,
}

struct State {
    /// Counts connections: a connection that has another number was taken over.
    generation: u64,
    client: Option<Client>,
    close: Option<ReasonCode>,
    waker: Option<Waker>,
    has_ended: bool,
    outgoing: Outgoing,
    incoming: Incoming,
    subscriptions: BTreeMap<Box<str>, SubscriptionOptions>,
    /// Whether it was subscribed with a slash in front that does not count.
    has_slash: bool,
    will: Option<Box<Will>>,
    /// What is scheduled for it in the table of sessions.
    deadlines: Vec<DeadlineKey>,
    device: Arc<Device>,
}

impl State {
    fn must_close(&self, generation: u64) -> Option<ReasonCode> {
        if self.generation != generation {
            return Some(ReasonCode::SessionTakenOver);
        }
        // An operator's word before that of the session which it ended.
        self.close.or_else(|| self.has_ended.then_some(ReasonCode::SessionTakenOver))
    }

    /// Whether the connection has no session any more: another one has it, or it ended.
    const fn is_gone(&self, generation: u64) -> bool {
        self.generation != generation || self.has_ended
    }

    fn set_waker(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }
}

impl Session {
    fn new(
        key: SessionKey,
        limits: Arc<SessionLimits>,
        stored: Option<Box<StoredAs>>,
        device: Arc<Device>,
    ) -> Self {
        let state = State {
            generation: 0,
            client: None,
            close: None,
            waker: None,
            has_ended: false,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            subscriptions: BTreeMap::new(),
            has_slash: false,
            will: None,
            deadlines: Vec::new(),
            device,
        };
        let (entries, expiry_seconds) = (AtomicU64::new(1), AtomicU32::new(0));
        let (held, state) = (Mutex::default(), Mutex::new(state));
        Self { key, limits, stored, entries, held, expiry_seconds, state }
    }

    /// Gives the session a connection. The one before finds out when it looks for mail.
    fn attach(&self, wanted: &Wanted, now: Instant) -> Attached {
        let mut state = self.state.lock();
        state.generation += 1;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        let client = wanted.client;
        let receive_maximum = client.receive_maximum.min(self.limits.in_flight_max);
        let client = Client { receive_maximum, has_slash: state.has_slash, ..client };
        state.client = Some(client);
        state.close = None;
        self.expiry_seconds.store(wanted.expiry_seconds, Ordering::Relaxed);
        state.device = Arc::clone(&wanted.device);
        // The session goes on, so its delayed will is not published [MQTT-3.1.3-9].
        state.will = None;
        state.incoming.attached();
        let mut gone = Gone::of(self.stored.as_deref());
        let pumped = state.outgoing.resume(&client, &self.limits, now, &mut gone);
        let mut changes = gone.into_changes();
        if let Some(stored) = &self.stored {
            let moment = Moment::at(now);
            let record = self.record(&state, stored, None, wanted.will.as_deref(), moment);
            changes.put_session(stored.id, &record);
        }
        let deadlines = std::mem::take(&mut state.deadlines);
        Attached { generation: state.generation, deadlines, changes, pumped }
    }

    /// What the store keeps of it beside its entries.
    fn record(
        &self,
        state: &State,
        stored: &StoredAs,
        detached_at_ms: Option<u64>,
        will: Option<&Will>,
        moment: Moment,
    ) -> SessionRecord {
        SessionRecord {
            product: self.key.product.to_string(),
            client_id: self.key.client_id.to_string(),
            device_name: state.device.name.to_string(),
            gateway: stored.gateway.to_string(),
            expiry_seconds: self.expiry_seconds(),
            detached_at_ms,
            last_sent: state.outgoing.last_sent(),
            will: will.map(|will| WillRecord {
                delay_seconds: u32::try_from(will.delay.as_secs()).unwrap_or(u32::MAX),
                expiry_interval: will.expiry_interval,
                retain: will.retain,
                message: records::message_bytes(&will.message, moment),
            }),
        }
    }

    /// The connection is over. Returns `None` when the session has another one already.
    pub(crate) fn detach(
        &self,
        generation: u64,
        will: Option<Box<Will>>,
        parting: Parting,
        now: Instant,
    ) -> Option<Detached> {
        let mut state = self.state.lock();
        if state.generation != generation || state.client.is_none() {
            return None;
        }
        state.client = None;
        state.waker = None;
        state.outgoing.disconnect();
        let expiry_seconds = self.expiry_seconds();
        let outlives = !state.has_ended && expiry_seconds > 0;
        let waits = |will: &Will| parting == Parting::ForRestart || !will.delay.is_zero();
        state.will = will.filter(|will| outlives && waits(will));
        if let Some(stored) = self.stored.as_ref().filter(|_| outlives) {
            let moment = Moment::at(now);
            let (at, will) = (Some(moment.unix_ms), state.will.as_deref());
            let record = self.record(&state, stored, at, will, moment);
            let mut changes = Changes::default();
            changes.session_is(stored.id, &record);
            // Noted under the session's lock, so that a connection that follows comes later.
            stored.store.note(changes);
        }
        Some(Detached { expiry_seconds, has_ended: state.has_ended })
    }

    /// Changes the session expiry interval (DISCONNECT, §3.14.2.2.2).
    pub(crate) fn set_expiry(&self, generation: u64, seconds: u32) {
        let state = self.state.lock();
        if state.generation == generation {
            self.expiry_seconds.store(seconds, Ordering::Relaxed);
        }
    }

    /// Seconds that the session outlives its connection.
    pub(crate) fn expiry_seconds(&self) -> u32 {
        self.expiry_seconds.load(Ordering::Relaxed)
    }

    /// Whether its QoS 1 and 2 messages have to be stored.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored.is_some() && self.expiry_seconds() > 0
    }

    /// Where it is stored, if it is.
    pub(crate) fn stored_as(&self) -> Option<&StoredAs> {
        self.stored.as_deref().filter(|_| self.expiry_seconds() > 0)
    }

    /// A number for a QoS 1 or 2 message for it. Its packet identifier follows from it, so numbers
    /// are left out whose identifiers are held by messages that the client does not acknowledge.
    pub(crate) fn next_entry(&self) -> u64 {
        let held = self.held.lock();
        let next = || self.entries.fetch_add(1, Ordering::Relaxed);
        let is_free =
            |entry: &u64| held.as_ref().is_none_or(|held| !held.contains(&packet_id(*entry)));
        // Where so many are held in a row the message waits until its own is free.
        (0..HELD_IN_A_ROW_MAX).map(|_| next()).find(is_free).unwrap_or_else(next)
    }

    /// Notes which identifiers are held, now and then.
    fn note_held(&self, state: &State, entry: u64) {
        const EVERY: u64 = 1024;
        if entry != 0 && entry.is_multiple_of(EVERY) {
            let held = state.outgoing.held(entry);
            *self.held.lock() = (!held.is_empty()).then(|| Box::new(held));
        }
    }

    /// Marks the session as ended, so that its connection closes. Returns what it leaves behind.
    fn end(&self) -> Ended {
        let mut state = self.state.lock();
        state.has_ended = true;
        // Routes may hold the session for a while; what it kept is not needed.
        let mut gone = Gone::of(self.stored.as_deref());
        let left = state.outgoing.end(&mut gone);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        let filters: Vec<Box<str>> = std::mem::take(&mut state.subscriptions).into_keys().collect();
        let mut changes = gone.into_changes();
        if let Some(stored) = &self.stored {
            for packet_id in state.incoming.end() {
                changes.receipt_over(stored.id, packet_id.get());
            }
            filters.iter().for_each(|filter| changes.unsubscribed(stored.id, filter));
            changes.session_ended(stored.id);
        }
        Ended {
            filters,
            shared: left.shared,
            changes,
            will: state.will.take(),
            deadlines: std::mem::take(&mut state.deadlines),
        }
    }

    /// Takes the delayed will, if the session still has connection number `generation` behind it.
    /// What the store has to know of it is added to `changes`.
    pub(crate) fn take_due_will(
        &self,
        generation: u64,
        now: Instant,
        changes: &mut Changes,
    ) -> Option<Box<Will>> {
        let mut state = self.state.lock();
        if state.generation != generation || state.client.is_some() {
            return None;
        }
        let will = state.will.take()?;
        if let Some(stored) = &self.stored {
            let moment = Moment::at(now);
            let record = self.record(&state, stored, Some(moment.unix_ms), None, moment);
            changes.session_is(stored.id, &record);
        }
        Some(will)
    }

    /// Messages that wait for it.
    pub(crate) fn queued_count(&self) -> usize {
        self.state.lock().outgoing.queued_count()
    }

    /// The device whose session this is.
    pub(crate) fn device(&self) -> Arc<Device> {
        Arc::clone(&self.state.lock().device)
    }

    /// Whether it has a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().client.is_some()
    }

    /// Delivers a message under these terms.
    pub(crate) fn deliver(&self, delivery: &mut Delivery<'_>, terms: &Terms<'_>) -> Delivered {
        let mut gone = Gone::of(self.stored.as_deref());
        let delivered = self.deliver_in(delivery, terms, &mut gone);
        if terms.entry != 0
            && !matches!(
                delivered,
                Delivered::Sent | Delivered::Queued | Delivered::QueuedForAnother
            )
        {
            gone.push(terms.entry, delivery.kept.clone());
        }
        gone.note();
        delivered
    }

    fn deliver_in(
        &self,
        delivery: &mut Delivery<'_>,
        terms: &Terms<'_>,
        gone: &mut Gone<'_>,
    ) -> Delivered {
        let entry = match (terms.qos, terms.entry) {
            (QoS::AtMostOnce, _) => 0,
            (_, 0) => self.next_entry(),
            (_, entry) => entry,
        };
        let terms = &Terms { entry, ..*terms };
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.has_ended {
            return Delivered::Offline;
        }
        self.note_held(state, entry);
        let was_empty = state.outgoing.mailbox_is_empty();
        let keeps = self.expiry_seconds() > 0;
        let delivered = match &state.client {
            Some(client) => state.outgoing.send(delivery, terms, client, keeps, &self.limits, gone),
            None if entry != 0 && keeps => {
                state.outgoing.enqueue(delivery.kept(), terms, &self.limits, gone)
            }
            None => Delivered::Offline,
        };
        if was_empty
            && delivered == Delivered::Sent
            && let Some(waker) = state.waker.take()
        {
            delivery.wakers.push(waker);
        }
        delivered
    }

    /// What the store is to have of a message that this session gets under `terms`.
    pub(crate) fn enqueue_in_store(
        &self,
        terms: &Terms<'_>,
        bytes: &StoredBytes,
        changes: &mut Changes,
    ) {
        if let Some(stored) = &self.stored {
            let share = terms.share.map(AsRef::as_ref);
            let record =
                records::entry(terms.qos, terms.retain, terms.identifiers, share, bytes.body());
            changes.enqueue(stored.id, terms.entry, &record);
        }
    }

    /// How well it can take a message of a shared subscription.
    pub(crate) fn standing(&self, qos: QoS) -> Standing {
        let state = self.state.lock();
        match &state.client {
            _ if state.has_ended => Standing::Gone,
            Some(client) if state.outgoing.has_room(qos, client, &self.limits) => Standing::Ready,
            Some(_) => Standing::Busy,
            None if self.expiry_seconds() > 0 && qos != QoS::AtMostOnce => Standing::Away,
            None => Standing::Gone,
        }
    }

    /// Whether retained messages can be added without another one being dropped for them.
    pub(crate) fn has_spare_room(&self, qos: QoS) -> bool {
        self.state.lock().outgoing.has_spare_room(qos, &self.limits)
    }

    /// Ready when there is something for connection number `generation` to do.
    pub(crate) fn poll_mail(&self, generation: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.must_close(generation).is_some() || !state.outgoing.mailbox_is_empty() {
            return Poll::Ready(());
        }
        state.set_waker(cx);
        Poll::Pending
    }

    /// Hands the mailbox over: `buffer`, which is empty, and the mailbox change places. `pumped`
    /// is set to what was not sent after all.
    pub(crate) fn take_mail(
        &self,
        generation: u64,
        buffer: &mut Vec<u8>,
        now: Instant,
        pumped: &mut Pumped,
    ) -> Mail {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.is_gone(generation) {
            let code = state.must_close(generation);
            return Mail::Close(code.unwrap_or(ReasonCode::SessionTakenOver));
        }
        let mut gone = Gone::of(self.stored.as_deref());
        if let Some(client) = &state.client {
            let expired = state.outgoing.swap_mailbox(buffer, client, now, &mut gone);
            *pumped = state.outgoing.pump(client, &self.limits, now, &mut gone);
            pumped.expired += expired;
        }
        gone.note();
        state.close.map_or(Mail::Send, Mail::Close)
    }

    /// Gives memory back while the connection is idle.
    pub(crate) fn shrink(&self) {
        let mut state = self.state.lock();
        state.outgoing.shrink();
        state.incoming.shrink();
    }

    /// The peer acknowledges what was sent to it, or releases what it sent. What the store has to
    /// know is added to `settled`.
    pub(crate) fn acknowledged(
        &self,
        generation: u64,
        packet: &Acknowledgement<'_>,
        now: Instant,
        settled: &mut Settled,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.is_gone(generation) {
            // It acknowledges to a connection that is no longer the session's.
            return;
        }
        let (id, mut gone) = (packet.packet_id, Gone::of(self.stored.as_deref()));
        match packet.kind {
            AcknowledgementKind::Puback => state.outgoing.puback(id, &mut gone),
            AcknowledgementKind::Pubrec => {
                let is_known = state.outgoing.pubrec(id, packet.reason_code, &mut gone);
                if !packet.reason_code.is_error() {
                    settled.answer = Some((AcknowledgementKind::Pubrel, id, is_known));
                    settled.waits = is_known && self.stored.is_some();
                }
            }
            AcknowledgementKind::Pubcomp => state.outgoing.pubcomp(id, &mut gone),
            AcknowledgementKind::Pubrel => {
                let is_known = state.incoming.released(id);
                settled.answer = Some((AcknowledgementKind::Pubcomp, id, is_known));
                if let Some(stored) = self.stored.as_ref().filter(|_| is_known) {
                    settled.changes.receipt_over(stored.id, id.get());
                    settled.waits = true;
                }
            }
        }
        if let Some(client) = &state.client {
            settled.pumped = state.outgoing.pump(client, &self.limits, now, &mut gone);
        }
        settled.changes.append(gone.into_changes());
    }

    /// A QoS 2 PUBLISH came in by connection number `generation`. Whether its message is new, a
    /// repetition, or one too many. A new one is added to `changes`, where the session is stored.
    pub(crate) fn received(
        &self,
        generation: u64,
        packet_id: NonZeroU16,
        changes: &mut Changes,
    ) -> Received {
        let mut state = self.state.lock();
        if state.is_gone(generation) {
            // The session's own connection is to decide about it.
            return Received::TakenOver;
        }
        let is_v5 = state.client.is_some_and(|client| client.version.is_v5());
        let max = if is_v5 { usize::from(self.limits.in_flight_max) } else { usize::MAX };
        let received = state.incoming.received(packet_id, max);
        if let Some(stored) = self.stored_as().filter(|_| received == Received::New) {
            changes.received(stored.id, packet_id.get());
        }
        received
    }

    /// Whether a QoS 2 message with this identifier came and was not released.
    pub(crate) fn has_received(&self, packet_id: NonZeroU16) -> bool {
        self.state.lock().incoming.has(packet_id)
    }

    /// A QoS 2 PUBLISH was refused, so its packet identifier is free again [MQTT-4.3.3-9]. What the
    /// store has to know has to come behind what it was told when the PUBLISH came.
    pub(crate) fn refused(&self, packet_id: NonZeroU16) -> Changes {
        let mut changes = Changes::default();
        if self.state.lock().incoming.released(packet_id)
            && let Some(stored) = &self.stored
        {
            changes.receipt_over(stored.id, packet_id.get());
        }
        changes
    }

    /// Notes a subscription that connection number `generation` asks for. `None` when there is
    /// no room for another one or the session has another connection, otherwise whether it is
    /// new. With `has_slash` the client wrote a slash in front of it that does not count.
    pub(crate) fn subscribed(
        &self,
        generation: u64,
        filter: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
        has_slash: bool,
        changes: &mut Changes,
    ) -> Option<bool> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.is_gone(generation) {
            return None;
        }
        let is_new = !state.subscriptions.contains_key(filter);
        if is_new && state.subscriptions.len() >= self.limits.subscriptions_max {
            return None;
        }
        state.subscriptions.insert(filter.into(), options);
        state.has_slash |= has_slash;
        if let Some(client) = &mut state.client {
            client.has_slash = state.has_slash;
        }
        if let Some(stored) = self.stored_as() {
            let record = records::subscription(filter, options, identifier, has_slash);
            changes.put_subscription(stored.id, &record);
        }
        Some(is_new)
    }

    /// Whether it has ended, so that nothing may be subscribed for it any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().has_ended
    }

    /// The filters that it is subscribed with.
    pub(crate) fn filters(&self) -> Vec<Box<str>> {
        self.state.lock().subscriptions.keys().cloned().collect()
    }

    /// Forgets a subscription, for connection number `generation` where it is one that asks.
    /// Returns whether there was one.
    pub(crate) fn unsubscribed(
        &self,
        generation: Option<u64>,
        filter: &str,
        changes: &mut Changes,
    ) -> bool {
        let mut state = self.state.lock();
        if generation.is_some_and(|generation| generation != state.generation) {
            return false;
        }
        let existed = state.subscriptions.remove(filter).is_some();
        if let Some(stored) = self.stored.as_ref().filter(|_| existed) {
            changes.unsubscribed(stored.id, filter);
        }
        existed
    }
}

/// What became of an acknowledgement.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// The answer to it, and whether its packet identifier is known.
    pub(crate) answer: Option<(AcknowledgementKind, NonZeroU16, bool)>,
    /// What the store has to know.
    pub(crate) changes: Changes,
    /// The answer must not leave before that is stored: after a restart the peer would get, or
    /// give, a QoS 2 message twice.
    pub(crate) waits: bool,
    pub(crate) pumped: Pumped,
}

/// What a session is given a connection with.
struct Attached {
    /// The connection's number.
    generation: u64,
    deadlines: Vec<DeadlineKey>,
    changes: Changes,
    pumped: Pumped,
}

/// Why a session loses its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The connection is over.
    ForGood,
    /// The gateway ends. The will is published after its next start, if the client stays away.
    ForRestart,
}

/// A session without connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Detached {
    pub(crate) expiry_seconds: u32,
    /// It ended while it was connected: another connection began with a clean start.
    pub(crate) has_ended: bool,
}

/// What a session leaves behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) filters: Vec<Box<str>>,
    /// Messages of shared subscriptions that another member should get (§4.8.2).
    pub(crate) shared: Vec<(Arc<str>, Arc<Message>)>,
    /// What the store has to forget.
    pub(crate) changes: Changes,
    pub(crate) will: Option<Box<Will>>,
    deadlines: Vec<DeadlineKey>,
}

/// What a QoS 2 PUBLISH is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    New,
    /// Its message was delivered before [MQTT-4.3.3-10].
    Again,
    /// The peer exceeds the receive maximum [MQTT-3.3.4-7].
    TooMany,
    /// The session has another connection.
    TakenOver,
}

/// Appends an acknowledgement without properties.
pub(crate) fn append_acknowledgement(
    replies: &mut Vec<u8>,
    version: ProtocolVersion,
    kind: AcknowledgementKind,
    packet_id: NonZeroU16,
    is_known: bool,
) {
    let reason_code =
        if is_known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
    let packet = Acknowledgement { reason_code, ..Acknowledgement::success(kind, packet_id) };
    // Two bytes of identifier and one of reason always fit.
    let _fits = Packet::Acknowledgement(packet).encode(version, replies);
}
