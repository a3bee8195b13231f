//! Subscriptions and retained messages by topic. What one publisher needs costs the same however
//! many unrelated subscriptions there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use portreeve_mqtt::{QoS, SubscriptionOptions, TopicFilter};
use tokio::time::Instant;

use crate::message::Message;
use crate::session::{Session, Standing};

mod children;
mod retained;
mod tree;

use retained::RetainedTree;
pub(crate) use retained::{Kept, Retention};
use tree::SubscriptionTree;

/// Subscriptions and retained messages of the whole process.
pub(crate) struct Topics {
    subscriptions: RwLock<SubscriptionTree>,
    /// Counts changes of the subscriptions, so that a publisher knows whether its routes hold.
    generation: AtomicU64,
    retained: RwLock<RetainedTree>,
}

/// One subscription of a session.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) session: Arc<Session>,
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<u32>,
}

/// A session that gets a message, once, for all of its subscriptions that match.
pub(crate) struct Receiver {
    pub(crate) session: Arc<Session>,
    /// The highest that its subscriptions ask for.
    pub(crate) qos: QoS,
    /// Every matching subscription says no-local.
    pub(crate) no_local: bool,
    /// A matching subscription says retain-as-published.
    pub(crate) retain_as_published: bool,
    /// Subscription identifiers, in no particular order.
    pub(crate) identifiers: Vec<u32>,
}

impl Receiver {
    fn of(subscription: &Subscription) -> Self {
        Self {
            session: Arc::clone(&subscription.session),
            qos: subscription.options.qos,
            no_local: subscription.options.no_local,
            retain_as_published: subscription.options.retain_as_published,
            identifiers: subscription.identifier.into_iter().collect(),
        }
    }

    fn merge(&mut self, other: Self) {
        self.qos = self.qos.max(other.qos);
        self.no_local &= other.no_local;
        self.retain_as_published |= other.retain_as_published;
        self.identifiers.extend(other.identifiers);
    }
}

/// The members of one shared subscription; a message goes to one of them.
pub(crate) struct SharedGroup {
    /// Its whole topic filter, `$share` included.
    pub(crate) filter: Arc<str>,
    members: Vec<Receiver>,
    next: AtomicUsize,
}

impl SharedGroup {
    fn new<'a>(filter: Arc<str>, members: impl Iterator<Item = &'a Subscription>) -> Self {
        Self { filter, members: members.map(Receiver::of).collect(), next: AtomicUsize::new(0) }
    }

    /// Whether any of its members is stored.
    pub(crate) fn is_stored(&self) -> bool {
        self.members.iter().any(|member| member.session.is_stored())
    }

    /// The member that gets a message of this QoS: whose turn it is among those that can send it
    /// at once, else among those that are connected, else among those that keep it.
    pub(crate) fn choose(&self, qos: QoS) -> Option<&Receiver> {
        let mut best = None;
        for member in self.in_turn(self.next_turn()) {
            let standing = member.session.standing(qos.min(member.qos));
            if standing == Standing::Ready {
                return Some(member);
            }
            if standing != Standing::Gone && best.is_none_or(|(other, _)| standing < other) {
                best = Some((standing, member));
            }
        }
        best.map(|(_, member)| member)
    }

    /// Whose turn it is.
    fn next_turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.members.len().max(1)
    }

    /// The members, beginning with the one whose turn it is.
    fn in_turn(&self, turn: usize) -> impl Iterator<Item = &Receiver> {
        let (before, from) = self.members.split_at_checked(turn).unwrap_or((&[], &self.members));
        from.iter().chain(before)
    }
}

/// Who gets what is published to one topic.
#[derive(Default)]
pub(crate) struct Route {
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) shared: Vec<Arc<SharedGroup>>,
}

impl Route {
    fn merge_receivers(&mut self) {
        let key = |receiver: &Receiver| Arc::as_ptr(&receiver.session).addr();
        self.receivers.sort_by_key(key);
        self.receivers.dedup_by(|next, kept| {
            let is_same = Arc::ptr_eq(&next.session, &kept.session);
            if is_same {
                let session = Arc::clone(&next.session);
                let taken = Receiver {
                    session,
                    identifiers: std::mem::take(&mut next.identifiers),
                    ..*next
                };
                kept.merge(taken);
            }
            is_same
        });
    }
}

impl Topics {
    pub(crate) fn new(retained_messages_max: usize, retained_bytes_max: usize) -> Self {
        Self {
            subscriptions: RwLock::default(),
            generation: AtomicU64::new(0),
            retained: RwLock::new(RetainedTree::new(retained_messages_max, retained_bytes_max)),
        }
    }

    /// Changes whenever a route may have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Adds a subscription, or replaces the session's one with the same filter
    /// [MQTT-3.8.4-3]. Returns whether it is new.
    pub(crate) fn subscribe(&self, filter: TopicFilter<'_>, subscription: Subscription) -> bool {
        let is_new = self.subscriptions.write().insert(filter, subscription);
        self.generation.fetch_add(1, Ordering::Release);
        is_new
    }

    /// Removes a subscription. Returns whether there was one.
    pub(crate) fn unsubscribe(&self, filter: TopicFilter<'_>, session: &Arc<Session>) -> bool {
        let existed = self.subscriptions.write().remove(filter, session);
        self.generation.fetch_add(1, Ordering::Release);
        existed
    }

    /// Who gets a message that is published to `topic`, and the generation of that answer.
    pub(crate) fn route(&self, topic: &str) -> (u64, Route) {
        let subscriptions = self.subscriptions.read();
        // Read under the lock: a change after it has another generation.
        let generation = self.generation();
        let mut route = Route::default();
        subscriptions.collect(topic, &mut route);
        drop(subscriptions);
        if route.receivers.len() > 1 {
            route.merge_receivers();
        }
        (generation, route)
    }

    /// How many subscriptions there are.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.read().count()
    }

    /// The members of a shared subscription by its whole topic filter.
    pub(crate) fn shared_group(&self, filter: &str) -> Option<Arc<SharedGroup>> {
        let filter = TopicFilter::parse(filter).ok()?;
        self.subscriptions.read().group(filter)
    }

    /// Keeps `message` for later subscribers, in place of the one before. `order` is its place
    /// among the messages that are stored; an earlier one does not replace a later one.
    pub(crate) fn retain(&self, message: Arc<Message>, order: u64, now: Instant) -> Retention {
        self.retained.write().insert(message, order, now)
    }

    /// Whether `message` is the one that is retained for its topic.
    pub(crate) fn is_retained(&self, message: &Arc<Message>) -> bool {
        self.retained.read().is_current(message)
    }

    /// Forgets the message of a topic, unless it came behind `order`.
    pub(crate) fn remove_retained(&self, topic: &str, order: u64) {
        self.retained.write().remove(topic, order);
    }

    /// The retained messages that `filter` asks for, at most `max`.
    pub(crate) fn retained(&self, filter: &str, now: Instant, max: usize) -> Vec<Arc<Message>> {
        let mut messages = Vec::new();
        self.retained.read().collect(filter, now, max, &mut messages);
        messages
    }

    /// How many retained messages there are.
    pub(crate) fn retained_count(&self) -> usize {
        self.retained.read().count()
    }
}
