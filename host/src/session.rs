//! An MQTT session: what outlives a connection, and the mailbox of the connection that it has
//! now. Everything of one session is behind one lock, which is never held over an await.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Packet, ProtocolVersion, QoS, ReasonCode,
    SubscriptionOptions,
};
use tokio::time::Instant;

use crate::devices::Device;
use crate::message::{Encodings, Message, MessageRef};

mod incoming;
mod outgoing;
mod table;

use incoming::Incoming;
use outgoing::Outgoing;
use table::DeadlineKey;
pub(crate) use table::{Attachment, Due, SessionKey, Sessions, Wanted, ends_at};

/// Bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    /// Bytes that wait to be sent to a connection.
    pub(crate) mailbox_bytes_max: usize,
    /// QoS 1 and 2 messages that wait for room in the mailbox, or for a connection.
    pub(crate) queued_messages_max: usize,
    /// Bytes of those messages.
    pub(crate) queued_bytes_max: usize,
    /// QoS 1 and 2 messages that are sent and not yet acknowledged, in each direction.
    pub(crate) in_flight_max: u16,
    /// Which message gives way when the queue is full.
    pub(crate) queue_policy: QueuePolicy,
    /// Subscriptions of one session.
    pub(crate) subscriptions_max: usize,
}

/// Which message gives way when a session's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueuePolicy {
    /// The one that waits longest.
    DropOldest,
    /// The one that comes.
    DropNewest,
}

/// What a session needs to know of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) version: ProtocolVersion,
    /// Messages that it takes at a time.
    pub(crate) receive_maximum: u16,
    /// Bytes of one packet that it takes.
    pub(crate) packet_bytes_max: usize,
}

/// A will that waits for its delay.
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) message: Arc<Message>,
    pub(crate) retain: bool,
    pub(crate) delay: Duration,
    /// Message expiry interval in seconds, counted from its publication (§3.1.3.2.4).
    pub(crate) expiry_interval: Option<u32>,
}

/// What became of a message for one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// It is in the mailbox.
    Sent,
    /// It is in the queue.
    Queued,
    /// It is in the queue, and an older one was dropped for it.
    QueuedForAnother,
    /// QoS 0 and the mailbox is full.
    MailboxFull,
    /// The queue is full.
    QueueFull,
    /// It is larger than the client takes.
    TooLarge,
    /// The session has no connection and does not keep the message.
    Offline,
}

/// One message to many receivers: what is made once for all of them.
pub(crate) struct Delivery<'a> {
    pub(crate) message: MessageRef<'a>,
    pub(crate) encodings: &'a mut Encodings,
    /// Made when the first receiver has to keep the message.
    pub(crate) kept: Option<Arc<Message>>,
    /// Owners of mailboxes that were empty; woken after the whole batch.
    pub(crate) wakers: &'a mut Vec<Waker>,
}

impl Delivery<'_> {
    fn kept(&mut self) -> Arc<Message> {
        Arc::clone(self.kept.get_or_insert_with(|| Arc::new(self.message.to_message())))
    }
}

/// How one receiver gets a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: &'a [u32],
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
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    limits: Arc<SessionLimits>,
    state: Mutex<State>,
}

struct State {
    /// Counts connections: a connection that has another number was taken over.
    generation: u64,
    client: Option<Client>,
    close: Option<ReasonCode>,
    waker: Option<Waker>,
    /// Seconds that the session outlives its connection; `u32::MAX` does not end.
    expiry_seconds: u32,
    has_ended: bool,
    outgoing: Outgoing,
    incoming: Incoming,
    subscriptions: BTreeMap<Box<str>, SubscriptionOptions>,
    will: Option<Box<Will>>,
    /// What is scheduled for it in the table of sessions.
    deadlines: Vec<DeadlineKey>,
    device: Arc<Device>,
}

impl State {
    fn must_close(&self, generation: u64) -> Option<ReasonCode> {
        if self.generation != generation || self.has_ended {
            return Some(ReasonCode::SessionTakenOver);
        }
        self.close
    }

    fn set_waker(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }
}

impl Session {
    fn new(key: SessionKey, limits: Arc<SessionLimits>, device: Arc<Device>) -> Self {
        let state = State {
            generation: 0,
            client: None,
            close: None,
            waker: None,
            expiry_seconds: 0,
            has_ended: false,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            subscriptions: BTreeMap::new(),
            will: None,
            deadlines: Vec::new(),
            device,
        };
        Self { key, limits, state: Mutex::new(state) }
    }

    /// Gives the session a connection. The one before finds out when it looks for mail. Returns
    /// the connection's number.
    fn attach(
        &self,
        client: Client,
        expiry_seconds: u32,
        device: Arc<Device>,
        now: Instant,
    ) -> (u64, Vec<DeadlineKey>) {
        let mut state = self.state.lock();
        state.generation += 1;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        let receive_maximum = client.receive_maximum.min(self.limits.in_flight_max);
        let client = Client { receive_maximum, ..client };
        state.client = Some(client);
        state.close = None;
        state.expiry_seconds = expiry_seconds;
        state.device = device;
        // The session goes on, so its delayed will is not published [MQTT-3.1.3-9].
        state.will = None;
        state.outgoing.resume(&client, &self.limits, now);
        (state.generation, std::mem::take(&mut state.deadlines))
    }

    /// The connection is over. Returns `None` when the session has another one already.
    pub(crate) fn detach(&self, generation: u64, will: Option<Box<Will>>) -> Option<Detached> {
        let mut state = self.state.lock();
        if state.generation != generation || state.client.is_none() {
            return None;
        }
        state.client = None;
        state.waker = None;
        state.outgoing.disconnect();
        let outlives = !state.has_ended && state.expiry_seconds > 0;
        state.will = will.filter(|will| outlives && !will.delay.is_zero());
        Some(Detached { expiry_seconds: state.expiry_seconds, has_ended: state.has_ended })
    }

    /// Changes the session expiry interval (DISCONNECT, §3.14.2.2.2).
    pub(crate) fn set_expiry(&self, generation: u64, seconds: u32) {
        let mut state = self.state.lock();
        if state.generation == generation {
            state.expiry_seconds = seconds;
        }
    }

    /// Seconds that the session outlives its connection.
    pub(crate) fn expiry_seconds(&self) -> u32 {
        self.state.lock().expiry_seconds
    }

    /// Asks the session's connection to say `reason_code` and close.
    pub(crate) fn close(&self, reason_code: ReasonCode) {
        let mut state = self.state.lock();
        if state.client.is_some() {
            state.close.get_or_insert(reason_code);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    /// Marks the session as ended, so that its connection closes. Returns its filters and the
    /// will that waited.
    fn end(&self) -> Ended {
        let mut state = self.state.lock();
        state.has_ended = true;
        // Routes may hold the session for a while; what it kept is not needed.
        state.outgoing = Outgoing::default();
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Ended {
            filters: std::mem::take(&mut state.subscriptions).into_keys().collect(),
            will: state.will.take(),
            deadlines: std::mem::take(&mut state.deadlines),
        }
    }

    /// Takes the delayed will, if the session still has connection number `generation` behind it.
    pub(crate) fn take_due_will(&self, generation: u64) -> Option<Box<Will>> {
        let mut state = self.state.lock();
        if state.generation == generation && state.client.is_none() {
            state.will.take()
        } else {
            None
        }
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
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.has_ended {
            return Delivered::Offline;
        }
        let was_empty = state.outgoing.mailbox_is_empty();
        let delivered = match &state.client {
            Some(client) => {
                let keeps = state.expiry_seconds > 0;
                state.outgoing.send(delivery, terms, client, keeps, &self.limits)
            }
            None if terms.qos != QoS::AtMostOnce && state.expiry_seconds > 0 => {
                state.outgoing.enqueue(delivery.kept(), terms, &self.limits)
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

    /// Whether a shared subscription's message would be sent at once.
    pub(crate) fn has_room(&self, qos: QoS) -> bool {
        let state = self.state.lock();
        state.client.is_some_and(|client| state.outgoing.has_room(qos, &client, &self.limits))
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

    /// Why connection number `generation` is to close, if it is.
    pub(crate) fn must_close(&self, generation: u64) -> Option<ReasonCode> {
        self.state.lock().must_close(generation)
    }

    /// Like [`Self::poll_mail`] for a connection that still has something to send: ready only
    /// when it is to close.
    pub(crate) fn poll_close(&self, generation: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.must_close(generation).is_some() {
            return Poll::Ready(());
        }
        state.set_waker(cx);
        Poll::Pending
    }

    /// Hands the mailbox over: `buffer`, which is empty, and the mailbox change places.
    pub(crate) fn take_mail(&self, generation: u64, buffer: &mut Vec<u8>, now: Instant) -> Mail {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.generation != generation || state.has_ended {
            return Mail::Close(ReasonCode::SessionTakenOver);
        }
        state.outgoing.swap_mailbox(buffer);
        if let Some(client) = &state.client {
            state.outgoing.pump(client, &self.limits, now);
        }
        state.close.map_or(Mail::Send, Mail::Close)
    }

    /// Gives memory back while the connection is idle.
    pub(crate) fn shrink(&self) {
        self.state.lock().outgoing.shrink();
    }

    /// The peer acknowledges what was sent to it. Appends the answer to `replies`.
    pub(crate) fn acknowledged(
        &self,
        generation: u64,
        packet: &Acknowledgement<'_>,
        version: ProtocolVersion,
        replies: &mut Vec<u8>,
        now: Instant,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.must_close(generation) == Some(ReasonCode::SessionTakenOver) {
            // It acknowledges to a connection that is no longer the session's.
            return;
        }
        let id = packet.packet_id;
        let answer = match packet.kind {
            AcknowledgementKind::Puback => {
                state.outgoing.puback(id);
                None
            }
            AcknowledgementKind::Pubrec => {
                let is_known = state.outgoing.pubrec(id, packet.reason_code);
                (!packet.reason_code.is_error()).then_some((AcknowledgementKind::Pubrel, is_known))
            }
            AcknowledgementKind::Pubcomp => {
                state.outgoing.pubcomp(id);
                None
            }
            AcknowledgementKind::Pubrel => {
                Some((AcknowledgementKind::Pubcomp, state.incoming.released(id)))
            }
        };
        if let Some((kind, is_known)) = answer {
            append_acknowledgement(replies, version, kind, id, is_known);
        }
        if let Some(client) = &state.client {
            state.outgoing.pump(client, &self.limits, now);
        }
    }

    /// A QoS 2 PUBLISH came in. Whether its message is new, a repetition, or one too many.
    pub(crate) fn received(&self, packet_id: NonZeroU16) -> Received {
        self.state.lock().incoming.received(packet_id, usize::from(self.limits.in_flight_max))
    }

    /// A QoS 2 PUBLISH was refused, so its packet identifier is free again [MQTT-4.3.3-9].
    pub(crate) fn refused(&self, packet_id: NonZeroU16) {
        self.state.lock().incoming.released(packet_id);
    }

    /// Notes a subscription that connection number `generation` asks for. `None` when there is
    /// no room for another one or the session has another connection, otherwise whether it is
    /// new.
    pub(crate) fn subscribed(
        &self,
        generation: u64,
        filter: &str,
        options: SubscriptionOptions,
    ) -> Option<bool> {
        let mut state = self.state.lock();
        if state.must_close(generation) == Some(ReasonCode::SessionTakenOver) {
            return None;
        }
        let is_new = !state.subscriptions.contains_key(filter);
        if is_new && state.subscriptions.len() >= self.limits.subscriptions_max {
            return None;
        }
        state.subscriptions.insert(filter.into(), options);
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

    /// Forgets a subscription. Returns whether there was one.
    pub(crate) fn unsubscribed(&self, filter: &str) -> bool {
        self.state.lock().subscriptions.remove(filter).is_some()
    }
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
