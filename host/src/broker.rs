//! What all gateways of the process share, and the delivery of a message: the publisher's task
//! puts it into the receivers' mailboxes itself.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use portreeve_mqtt::{QoS, TopicFilter};
use tokio::time::Instant;

use crate::devices::Registry;
use crate::message::{Encodings, MessageRef};
use crate::metrics::Metrics;
use crate::permissions::Permissions;
use crate::session::{Delivered, Delivery, Due, Ended, Session, Sessions, Terms, Will, ends_at};
use crate::topics::{Receiver, Route, SharedGroup, Topics};

/// Topics, sessions, devices and counters.
pub(crate) struct Broker {
    pub(crate) topics: Topics,
    pub(crate) sessions: Sessions,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
}

/// What a connection does in one go: woken and counted once at its end. One that publishes
/// nothing has no room for it.
#[derive(Debug, Default)]
pub(crate) struct Batch(Option<Box<Deliveries>>);

#[derive(Debug, Default)]
struct Deliveries {
    encodings: Encodings,
    wakers: Vec<Waker>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    dropped_mailbox: u64,
    dropped_queue: u64,
    dropped_too_large: u64,
}

impl Batch {
    /// Wakes the owners of mailboxes that are no longer empty and adds the counts up.
    pub(crate) fn finish(&mut self, metrics: &Metrics) {
        let Some(deliveries) = &mut self.0 else { return };
        for waker in deliveries.wakers.drain(..) {
            waker.wake();
        }
        let counts = std::mem::take(&mut deliveries.counts);
        metrics.messages_delivered.add(counts.delivered);
        metrics.messages_dropped_mailbox.add(counts.dropped_mailbox);
        metrics.messages_dropped_queue.add(counts.dropped_queue);
        metrics.messages_dropped_too_large.add(counts.dropped_too_large);
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

impl Broker {
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
            self.retain(&message);
        }
        let Deliveries { encodings, wakers, counts } = &mut **batch.0.get_or_insert_default();
        encodings.reset();
        let mut delivery = Delivery { message, encodings, kept: None, wakers };
        let mut is_received = false;
        for receiver in &route.receivers {
            let is_own = publisher.is_some_and(|own| Arc::ptr_eq(own, &receiver.session));
            if receiver.no_local && is_own {
                continue;
            }
            is_received = true;
            counts.count(deliver(receiver, &mut delivery));
        }
        for group in &route.shared {
            is_received = true;
            counts.count(deliver_to_one(group, &mut delivery));
        }
        is_received
    }

    /// Publishes a message that no connection's route cache knows.
    pub(crate) fn publish_uncached(&self, message: MessageRef<'_>) {
        let (_, route) = self.topics.route(message.topic.as_str());
        let mut batch = Batch::default();
        self.publish(message, None, &route, &mut batch);
        batch.finish(&self.metrics);
    }

    /// An empty payload removes what was retained [MQTT-3.3.1-6].
    fn retain(&self, message: &MessageRef<'_>) {
        if message.payload.is_empty() {
            self.topics.remove_retained(message.topic.as_str());
        } else if !self.topics.retain(Arc::new(message.to_message()), Instant::now()) {
            self.metrics.messages_dropped_queue.add(1);
            tracing::debug!(topic = %message.topic, "not retained: a limit of retained messages is reached");
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
        let Some(detached) = session.detach(generation, will.clone()) else {
            // Another connection has the session now. A will without delay is still due.
            if let Some(will) = will.filter(|will| will.delay.is_zero()) {
                self.publish_will(&will, now);
            }
            return;
        };
        if detached.has_ended || detached.expiry_seconds == 0 {
            let ended = self.sessions.end(session, generation);
            if let Some(will) = will {
                self.publish_will(&will, now);
            }
            if let Some(ended) = ended {
                self.remove_subscriptions(session, &ended);
            }
            return;
        }
        match will {
            Some(will) if will.delay.is_zero() => self.publish_will(&will, now),
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
    ) {
        for text in session.filters() {
            let Ok(filter) = TopicFilter::parse(&text) else { continue };
            let inner = filter.shared().map_or(filter, |shared| shared.filter);
            if !permissions.may_subscribe(inner.as_str()) && session.unsubscribed(&text) {
                self.topics.unsubscribe(filter, session);
            }
        }
    }

    /// Takes the subscriptions of an ended session away and publishes the will that waited.
    pub(crate) fn session_ended(&self, session: &Arc<Session>, ended: &Ended, now: Instant) {
        self.remove_subscriptions(session, ended);
        if let Some(will) = &ended.will {
            self.publish_will(will, now);
        }
    }

    fn remove_subscriptions(&self, session: &Arc<Session>, ended: &Ended) {
        for filter in &ended.filters {
            if let Ok(filter) = TopicFilter::parse(filter) {
                self.topics.unsubscribe(filter, session);
            }
        }
    }

    pub(crate) fn publish_will(&self, will: &Will, now: Instant) {
        let interval = will.expiry_interval.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let kept = will.message.expiring(interval.map(|interval| now + interval));
        let properties = kept.properties_at(now);
        if let Some(message) = kept.borrowed(will.retain, &properties) {
            self.publish_uncached(message);
        }
    }

    /// Does what is due for sessions without connection. Returns whether there may be more.
    pub(crate) fn do_due(&self, now: Instant) -> bool {
        const AT_A_TIME: usize = 256;
        let due = self.sessions.due(now, AT_A_TIME);
        for (session, generation, what) in &due {
            match what {
                Due::Will => {
                    if let Some(will) = session.take_due_will(*generation) {
                        self.publish_will(&will, now);
                    }
                }
                Due::End => {
                    if !session.is_connected()
                        && let Some(ended) = self.sessions.end(session, *generation)
                    {
                        self.session_ended(session, &ended, now);
                    }
                }
            }
        }
        due.len() == AT_A_TIME
    }
}

fn terms<'a>(receiver: &'a Receiver, message: &MessageRef<'_>) -> Terms<'a> {
    Terms {
        qos: message.qos.min(receiver.qos),
        // A message that is not sent for a new subscription keeps the flag on demand only
        // [MQTT-3.3.1-12, MQTT-3.3.1-13].
        retain: message.retain && receiver.retain_as_published,
        identifiers: &receiver.identifiers,
    }
}

fn deliver(receiver: &Receiver, delivery: &mut Delivery<'_>) -> Delivered {
    let terms = terms(receiver, &delivery.message);
    receiver.session.deliver(delivery, &terms)
}

/// To the member whose turn it is and that has room; if none has, to the first that takes it.
fn deliver_to_one(group: &SharedGroup, delivery: &mut Delivery<'_>) -> Delivered {
    let qos = |receiver: &Receiver| -> QoS { delivery.message.qos.min(receiver.qos) };
    let turn = group.next_turn();
    let with_room = |receiver: &&Receiver| receiver.session.has_room(qos(receiver));
    if let Some(receiver) = group.in_turn(turn).find(with_room) {
        return deliver(receiver, delivery);
    }
    let mut last = Delivered::Offline;
    for receiver in group.in_turn(turn) {
        last = deliver(receiver, delivery);
        if matches!(last, Delivered::Sent | Delivered::Queued | Delivered::QueuedForAnother) {
            break;
        }
    }
    last
}
