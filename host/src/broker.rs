//! What all gateways of the process share, and the delivery of a message: the publisher's task
//! puts it into the receivers' mailboxes itself.
//!
//! A message that has to survive a restart is planned first ([`Broker::plan`]): everybody who gets
//! it is noted, with what the store has to have, and it is delivered when the store has it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use portreeve_mqtt::{QoS, ReasonCode, TopicFilter};
use portreeve_store::{Changes, Store};
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::devices::password::Hasher;
use crate::devices::{Device, DeviceName, Registry};
use crate::lockout::Lockout;
use crate::message::{Encodings, Message, MessageRef};
use crate::metrics::Metrics;
use crate::permissions::Permissions;
use crate::rate::Bucket;
use crate::records::{Moment, StoredBytes};
use crate::session::{
    Delivered, Delivery, Due, Ended, Parting, Pumped, Session, Sessions, Terms, Will, ends_at,
};
use crate::tap::Tap;
use crate::telemetry::Telemetry;
use crate::topics::{Kept, Receiver, Route, Topics};

/// Topics, sessions, devices, counters, and where all of it is stored.
pub(crate) struct Broker {
    pub(crate) topics: Topics,
    pub(crate) sessions: Sessions,
    pub(crate) registry: Registry,
    pub(crate) hasher: Hasher,
    pub(crate) lockout: Lockout,
    pub(crate) attempts: Attempts,
    pub(crate) metrics: Metrics,
    /// `None` where nothing survives the process.
    pub(crate) store: Option<Arc<Store>>,
    /// Connections of all gateways.
    pub(crate) connections_max: usize,
    pub(crate) publish_rates: PublishRates,
    pub(crate) tap: Tap,
    pub(crate) telemetry: Telemetry,
    /// Set while nobody is let in and connections end.
    pub(crate) drain: ArcSwapOption<Drain>,
}

/// An end of service that an operator asked for.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Where clients are sent.
    pub(crate) server_reference: Option<String>,
}

/// How much devices may publish in a second, where that is bounded: one bucket for each device,
/// however many connections it has.
#[derive(Debug, Default)]
pub(crate) struct PublishRates(Mutex<HashMap<DeviceKey, Weak<Bucket>>>);

/// Product and name.
type DeviceKey = (Arc<str>, DeviceName);

impl PublishRates {
    /// The bucket of a device; `None` for a rate of 0, which is no bound.
    pub(crate) fn of(&self, device: &Device, per_second: u32, now: Instant) -> Option<Arc<Bucket>> {
        if per_second == 0 {
            return None;
        }
        let mut buckets = self.0.lock();
        let key = (Arc::clone(&device.product), device.name.clone());
        if let Some(bucket) = buckets.get(&key).and_then(Weak::upgrade) {
            return Some(bucket);
        }
        if buckets.len() == buckets.capacity() {
            // Before it grows: those of devices that are gone need no room.
            buckets.retain(|_, bucket| bucket.strong_count() > 0);
        }
        let bucket = Arc::new(Bucket::new(per_second, now)?);
        buckets.insert(key, Arc::downgrade(&bucket));
        Some(bucket)
    }
}

/// What a connection does in one go: woken, counted and noted once at its end. One that publishes
/// nothing has no room for it.
#[derive(Debug, Default)]
pub(crate) struct Batch(Option<Box<Deliveries>>);

#[derive(Debug, Default)]
struct Deliveries {
    encodings: Encodings,
    wakers: Vec<Waker>,
    counts: Counts,
    /// What is over, whether it is stored or not.
    over: Changes,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    dropped_mailbox: u64,
    dropped_queue: u64,
    dropped_too_large: u64,
    expired: u64,
}

/// A message that is to be stored, and everybody who gets it then.
pub(crate) struct Plan {
    message: Arc<Message>,
    retain: bool,
    receivers: Vec<Planned>,
}

struct Planned {
    session: Arc<Session>,
    qos: QoS,
    retain: bool,
    identifiers: Box<[u32]>,
    /// Its number in a session that is stored, otherwise 0.
    entry: u64,
    share: Option<Arc<str>>,
}

impl Batch {
    /// Wakes the owners of mailboxes that are no longer empty, adds the counts up, and hands over
    /// what the store need not be waited for.
    pub(crate) fn finish(&mut self, broker: &Broker) {
        let Some(deliveries) = &mut self.0 else { return };
        for waker in deliveries.wakers.drain(..) {
            waker.wake();
        }
        if let Some(store) = broker.store.as_ref().filter(|_| !deliveries.over.is_empty()) {
            store.note(std::mem::take(&mut deliveries.over));
        }
        let counts = std::mem::take(&mut deliveries.counts);
        let metrics = &broker.metrics;
        metrics.messages_delivered.add(counts.delivered);
        metrics.messages_dropped_mailbox.add(counts.dropped_mailbox);
        metrics.messages_dropped_queue.add(counts.dropped_queue);
        metrics.messages_dropped_too_large.add(counts.dropped_too_large);
        metrics.messages_expired.add(counts.expired);
    }

    /// Hands `changes` over at the end of the batch.
    pub(crate) fn note(&mut self, changes: Changes) {
        if !changes.is_empty() {
            self.0.get_or_insert_default().over.append(changes);
        }
    }

    /// Counts what a session did not send after all.
    pub(crate) fn count(&mut self, pumped: Pumped) {
        if pumped != Pumped::default() {
            let counts = &mut self.0.get_or_insert_default().counts;
            counts.expired += pumped.expired;
            counts.dropped_too_large += pumped.too_large;
        }
    }
}

impl Counts {
    fn count(&mut self, delivered: Delivered) {
        match delivered {
            Delivered::Sent => self.delivered += 1,
            Delivered::Queued | Delivered::Offline => {}
            Delivered::QueuedForAnother | Delivered::QueueFull => self.dropped_queue += 1,
            Delivered::MailboxFull => self.dropped_mailbox += 1,
            Delivered::TooLarge => self.dropped_too_large += 1,
        }
    }
}

impl Planned {
    fn of(receiver: &Receiver, message: &MessageRef<'_>, share: Option<&Arc<str>>) -> Self {
        let terms = terms(receiver, message, share);
        let session = Arc::clone(&receiver.session);
        let is_stored = terms.qos != QoS::AtMostOnce && session.is_stored();
        let entry = if is_stored { session.next_entry() } else { 0 };
        Self {
            session,
            qos: terms.qos,
            retain: terms.retain,
            identifiers: terms.identifiers.into(),
            entry,
            share: share.map(Arc::clone),
        }
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

impl Plan {
    /// Whether anybody subscribes to it.
    pub(crate) fn is_received(&self) -> bool {
        !self.receivers.is_empty()
    }

    /// What the store has to have of it.
    fn store(&self, store: &Arc<Store>, changes: &mut Changes) {
        let keeps = self.retain && !self.message.payload().is_empty();
        let stored = || self.receivers.iter().filter(|receiver| receiver.entry != 0);
        let entries = stored().count() + usize::from(keeps);
        if self.retain && !keeps {
            changes.unretain(self.message.topic());
        }
        if entries == 0 {
            return;
        }
        let moment = Moment::at(Instant::now());
        let bytes = StoredBytes::of(&self.message, entries, store, changes, moment);
        for receiver in stored() {
            receiver.session.enqueue_in_store(&receiver.terms(), &bytes, changes);
        }
        if keeps {
            changes.retain(self.message.topic(), bytes.body());
        }
    }
}

impl Broker {
    /// Whether a message must not be delivered or acknowledged before the store has it.
    pub(crate) fn must_store(&self, message: &MessageRef<'_>, route: &Route) -> bool {
        self.store.is_some()
            && (message.retain
                || message.qos != QoS::AtMostOnce
                    && (route.receivers.iter().any(is_stored)
                        || route.shared.iter().any(|group| group.is_stored())))
    }

    /// Delivers a message to the receivers of its topic and keeps it if it is to be retained.
    /// Returns whether anybody subscribes to it.
    pub(crate) fn publish(
        &self,
        message: MessageRef<'_>,
        publisher: Option<&Arc<Session>>,
        route: &Route,
        batch: &mut Batch,
    ) -> bool {
        if message.retain {
            self.retain(&Arc::new(message.to_message()), 0);
        }
        let Deliveries { encodings, wakers, counts, .. } = &mut **batch.0.get_or_insert_default();
        encodings.reset();
        let mut delivery = Delivery { message, encodings, kept: None, wakers };
        let mut is_received = false;
        for receiver in &route.receivers {
            if is_own(receiver, publisher) {
                continue;
            }
            is_received = true;
            let terms = terms(receiver, &delivery.message, None);
            counts.count(receiver.session.deliver(&mut delivery, &terms));
        }
        for group in &route.shared {
            is_received = true;
            let Some(receiver) = group.choose(message.qos) else { continue };
            let terms = terms(receiver, &delivery.message, Some(&group.filter));
            counts.count(receiver.session.deliver(&mut delivery, &terms));
        }
        is_received
    }

    /// Notes who gets a message. What has to be stored before is added to `changes`.
    pub(crate) fn plan(
        &self,
        message: &MessageRef<'_>,
        publisher: Option<&Arc<Session>>,
        route: &Route,
        changes: &mut Changes,
    ) -> Plan {
        let receives = |receiver: &&Receiver| !is_own(receiver, publisher);
        let plain = route.receivers.iter().filter(receives);
        let plain = plain.map(|receiver| Planned::of(receiver, message, None));
        let shared = route.shared.iter().filter_map(|group| {
            let receiver = group.choose(message.qos)?;
            Some(Planned::of(receiver, message, Some(&group.filter)))
        });
        let receivers = plain.chain(shared).collect();
        let plan =
            Plan { message: Arc::new(message.to_message()), retain: message.retain, receivers };
        if let Some(store) = &self.store {
            plan.store(store, changes);
        }
        plan
    }

    /// Delivers what was planned. `order` is its place among what was stored.
    pub(crate) fn carry_out(&self, plan: Plan, order: u64, now: Instant, batch: &mut Batch) {
        let left = self.deliver_plan(plan, order, now, batch);
        if !left.is_empty() {
            self.redistribute(left, now);
        }
    }

    /// Returns what members of shared subscriptions did not take: they left meanwhile.
    fn deliver_plan(
        &self,
        plan: Plan,
        order: u64,
        now: Instant,
        batch: &mut Batch,
    ) -> Vec<(Arc<str>, Arc<Message>)> {
        let Plan { message, retain, receivers } = plan;
        if retain {
            self.retain(&message, order);
        }
        let properties = message.properties_at(now);
        let mut left = Vec::new();
        let Some(borrowed) = message.borrowed(retain, &properties) else { return left };
        let Deliveries { encodings, wakers, counts, .. } = &mut **batch.0.get_or_insert_default();
        encodings.reset();
        let kept = Some(Arc::clone(&message));
        let mut delivery = Delivery { message: borrowed, encodings, kept, wakers };
        for receiver in &receivers {
            let delivered = receiver.session.deliver(&mut delivery, &receiver.terms());
            if let (Delivered::Offline, Some(share)) = (delivered, &receiver.share) {
                left.push((Arc::clone(share), Arc::clone(&message)));
            }
            counts.count(delivered);
        }
        left
    }

    /// Publishes a message of the gateway's own that need not survive a restart.
    pub(crate) fn publish_uncached(&self, message: MessageRef<'_>) {
        let (_, route) = self.topics.route(message.topic.as_str());
        let mut batch = Batch::default();
        self.publish(message, None, &route, &mut batch);
        batch.finish(self);
    }

    /// An empty payload removes what was retained [MQTT-3.3.1-6].
    fn retain(&self, message: &Arc<Message>, order: u64) {
        if message.payload().is_empty() {
            self.topics.remove_retained(message.topic(), order);
            return;
        }
        let retention = self.topics.retain(Arc::clone(message), order, Instant::now());
        let mut over = Changes::default();
        if retention.kept == Kept::NoRoom {
            self.metrics.retained_refused.add(1);
            tracing::debug!(
                topic = message.topic(),
                "not retained: a limit of retained messages is reached"
            );
            over.retained_over(message.topic());
        }
        self.metrics.messages_expired.add(u64::try_from(retention.expired.len()).unwrap_or(0));
        retention.expired.iter().for_each(|message| over.retained_over(message.topic()));
        if let Some(store) = &self.store {
            store.note(over);
        }
    }

    /// A connection is over: its session goes on, waits for its end, or ends.
    pub(crate) fn disconnected(
        &self,
        session: &Arc<Session>,
        generation: u64,
        will: Option<Box<Will>>,
        now: Instant,
    ) {
        let publish = |will: &Will| self.publish_will(will, session, Changes::default(), now);
        let Some(detached) = session.detach(generation, will.clone(), Parting::ForGood, now) else {
            // Another connection has the session now. A will without delay is still due.
            if let Some(will) = will.filter(|will| will.delay.is_zero()) {
                publish(&will);
            }
            return;
        };
        if detached.has_ended || detached.expiry_seconds == 0 {
            let ended = self.sessions.end(session, generation);
            if let Some(will) = will {
                publish(&will);
            }
            if let Some(ended) = ended {
                self.session_ended(session, ended, now);
            }
            return;
        }
        match will {
            Some(will) if will.delay.is_zero() => publish(&will),
            Some(will) => self.sessions.schedule(session, generation, Due::Will, now + will.delay),
            None => {}
        }
        if let Some(at) = ends_at(now, detached.expiry_seconds) {
            self.sessions.schedule(session, generation, Due::End, at);
        }
    }

    /// A resumed session keeps only the subscriptions that its device may still have.
    pub(crate) fn drop_denied_subscriptions(
        &self,
        session: &Arc<Session>,
        permissions: &Permissions,
        changes: &mut Changes,
    ) {
        for text in session.filters() {
            let Ok(filter) = TopicFilter::parse(&text) else { continue };
            let inner = filter.shared().map_or(filter, |shared| shared.filter);
            if !permissions.may_subscribe(inner.as_str())
                && session.unsubscribed(None, &text, changes)
            {
                self.topics.unsubscribe(filter, session);
            }
        }
    }

    /// Takes the subscriptions of an ended session away, gives its messages of shared
    /// subscriptions to other members, and publishes the will that waited.
    pub(crate) fn session_ended(&self, session: &Arc<Session>, ended: Ended, now: Instant) {
        let Ended { filters, shared, changes, will, .. } = ended;
        for filter in &filters {
            if let Ok(filter) = TopicFilter::parse(filter) {
                self.topics.unsubscribe(filter, session);
            }
        }
        if let Some(store) = &self.store {
            store.note(changes);
        }
        if !shared.is_empty() {
            self.redistribute(shared, now);
        }
        if let Some(will) = &will {
            self.publish_will(will, session, Changes::default(), now);
        }
    }

    /// Ends the connections of these devices; with `forgets` their sessions, too. Returns how many
    /// connections there were.
    pub(crate) fn end_sessions(&self, devices: &[Arc<Device>], forgets: bool) -> usize {
        if devices.is_empty() {
            return 0;
        }
        let keys = devices.iter().map(|device| (&*device.product, device.name.as_str()));
        let sessions = self.sessions.of_devices(&keys.collect());
        let connected = sessions.iter().filter(|session| session.is_connected()).count();
        sessions.iter().for_each(|session| self.end_session(session, forgets));
        connected
    }

    /// Ends the connection of a session; with `forgets` the session, too.
    pub(crate) fn end_session(&self, session: &Arc<Session>, forgets: bool) {
        if session.is_connected() {
            self.metrics.sessions_ended_by_operator.add(1);
        }
        session.close(ReasonCode::AdministrativeAction);
        if forgets && let Some(ended) = self.sessions.end(session, session.generation()) {
            self.session_ended(session, ended, Instant::now());
        }
    }

    /// Gives messages of shared subscriptions to other members (§4.8.2).
    fn redistribute(&self, messages: Vec<(Arc<str>, Arc<Message>)>, now: Instant) {
        let mut batch = Batch::default();
        for (share, message) in messages {
            let group = self.topics.shared_group(&share).filter(|_| !message.is_expired(now));
            let Some(group) = group else { continue };
            let Some(receiver) = group.choose(message.qos) else { continue };
            let properties = message.properties_at(now);
            let Some(borrowed) = message.borrowed(false, &properties) else { continue };
            let receivers = vec![Planned::of(receiver, &borrowed, Some(&share))];
            let plan = Plan { message: Arc::clone(&message), retain: false, receivers };
            let mut changes = Changes::default();
            let order = self.store.as_ref().map_or(0, |store| {
                plan.store(store, &mut changes);
                store.note(changes)
            });
            self.metrics.messages_redistributed.add(1);
            // Who leaves in this moment, too, leaves it to nobody.
            let _nobodys = self.deliver_plan(plan, order, now, &mut batch);
        }
        batch.finish(self);
    }

    /// Publishes a will. What the store has to know beside it goes with it as `changes`.
    pub(crate) fn publish_will(
        &self,
        will: &Will,
        session: &Arc<Session>,
        mut changes: Changes,
        now: Instant,
    ) {
        let interval = will.expiry_interval.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let kept = will.message.expiring(interval.map(|interval| now + interval));
        let properties = kept.properties_at(now);
        let Some(message) = kept.borrowed(will.retain, &properties) else { return };
        self.metrics.wills_published.add(1);
        let (_, route) = self.topics.route(message.topic.as_str());
        let mut batch = Batch::default();
        match &self.store {
            Some(store) if self.must_store(&message, &route) => {
                let plan = self.plan(&message, Some(session), &route, &mut changes);
                let order = store.note(changes);
                self.carry_out(plan, order, now, &mut batch);
            }
            store => {
                if let Some(store) = store {
                    store.note(changes);
                }
                self.publish(message, Some(session), &route, &mut batch);
            }
        }
        batch.finish(self);
    }

    /// Does what is due for sessions without connection. Returns whether there may be more.
    pub(crate) fn do_due(&self, now: Instant) -> bool {
        const AT_A_TIME: usize = 256;
        let due = self.sessions.due(now, AT_A_TIME);
        for (session, generation, what) in &due {
            match what {
                Due::Will => {
                    let mut changes = Changes::default();
                    if let Some(will) = session.take_due_will(*generation, now, &mut changes) {
                        self.publish_will(&will, session, changes, now);
                    }
                }
                Due::End => {
                    if !session.is_connected()
                        && let Some(ended) = self.sessions.end(session, *generation)
                    {
                        self.metrics.sessions_expired.add(1);
                        self.session_ended(session, ended, now);
                    }
                }
            }
        }
        due.len() == AT_A_TIME
    }
}

fn is_stored(receiver: &Receiver) -> bool {
    receiver.qos != QoS::AtMostOnce && receiver.session.is_stored()
}

/// Whether a receiver does not want its own message [MQTT-3.8.3-3].
fn is_own(receiver: &Receiver, publisher: Option<&Arc<Session>>) -> bool {
    receiver.no_local && publisher.is_some_and(|own| Arc::ptr_eq(own, &receiver.session))
}

fn terms<'a>(
    receiver: &'a Receiver,
    message: &MessageRef<'_>,
    share: Option<&'a Arc<str>>,
) -> Terms<'a> {
    Terms {
        qos: message.qos.min(receiver.qos),
        // A message that is not sent for a new subscription keeps the flag on demand only
        // [MQTT-3.3.1-12, MQTT-3.3.1-13].
        retain: message.retain && receiver.retain_as_published,
        identifiers: &receiver.identifiers,
        entry: 0,
        share,
    }
}
