//! Retained messages as a tree of topic levels: a subscription walks what its filter can match.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::children::Children;
use crate::message::Message;

pub(super) struct RetainedTree {
    root: Node,
    count: usize,
    count_max: usize,
    bytes: usize,
    bytes_max: usize,
    /// Expired messages are looked for when there is no room, but not all the time.
    next_sweep: Option<Instant>,
}

/// The least time between two searches for expired messages.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What became of a message that was to be retained.
#[derive(Debug)]
pub(crate) struct Retention {
    pub(crate) kept: Kept,
    /// Messages that expired and gave way. They are to be dropped after the store was told.
    pub(crate) expired: Vec<Arc<Message>>,
}

/// Whether a message is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    /// There is no room; the one before it is not retained any more either [MQTT-3.3.1-5].
    NoRoom,
    /// A later one is there already.
    Superseded,
}

#[derive(Default)]
struct Node {
    message: Option<Arc<Message>>,
    /// The place of the message among those that are stored.
    order: u64,
    children: Children<Self>,
}

impl Node {
    fn find(&self, topic: &str) -> Option<&Self> {
        topic.split('/').try_fold(self, |node, level| node.children.get(level))
    }
}

impl RetainedTree {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        let root = Node::default();
        Self { root, count: 0, count_max, bytes: 0, bytes_max, next_sweep: None }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, message: Arc<Message>, order: u64, now: Instant) -> Retention {
        let expired = if self.has_room(&message) { Vec::new() } else { self.sweep(now) };
        if !self.has_room(&message) {
            self.remove(message.topic(), order);
            return Retention { kept: Kept::NoRoom, expired };
        }
        let mut node = &mut self.root;
        for level in message.topic().split('/') {
            node = node.children.get_or_default(level);
        }
        if node.message.is_some() && order < node.order {
            return Retention { kept: Kept::Superseded, expired };
        }
        node.order = order;
        self.bytes += message.cost_bytes();
        match node.message.replace(message) {
            None => self.count += 1,
            Some(old) => self.bytes -= old.cost_bytes(),
        }
        Retention { kept: Kept::Yes, expired }
    }

    pub(super) fn is_current(&self, message: &Arc<Message>) -> bool {
        let node = self.root.find(message.topic());
        node.and_then(|node| node.message.as_ref()).is_some_and(|kept| Arc::ptr_eq(kept, message))
    }

    fn has_room(&self, message: &Message) -> bool {
        let old = self.root.find(message.topic()).and_then(|node| node.message.as_ref());
        let bytes = self.bytes - old.map_or(0, |old| old.cost_bytes()) + message.cost_bytes();
        bytes <= self.bytes_max && (old.is_some() || self.count < self.count_max)
    }

    /// Removes what has expired, and returns it.
    fn sweep(&mut self, now: Instant) -> Vec<Arc<Message>> {
        let mut gone = Vec::new();
        if self.next_sweep.is_some_and(|next| now < next) {
            return gone;
        }
        self.next_sweep = Some(now + SWEEP_INTERVAL);
        let (count, bytes) = (&mut self.count, &mut self.bytes);
        sweep_at(&mut self.root, now, &mut |expired| {
            *count -= 1;
            *bytes -= expired.cost_bytes();
            gone.push(expired);
        });
        gone
    }

    /// Removes the message of a topic, unless it came behind `order`.
    pub(super) fn remove(&mut self, topic: &str, order: u64) {
        if self.root.find(topic).is_some_and(|node| node.order > order) {
            return;
        }
        let levels: Vec<&str> = topic.split('/').collect();
        if let Some(removed) = remove_at(&mut self.root, &levels) {
            self.count -= 1;
            self.bytes -= removed.cost_bytes();
        }
    }

    pub(super) fn collect(
        &self,
        filter: &str,
        now: Instant,
        max: usize,
        messages: &mut Vec<Arc<Message>>,
    ) {
        let walk = Walk { now, max };
        walk.collect(&self.root, Some(filter), true, messages);
    }
}

fn remove_at(node: &mut Node, levels: &[&str]) -> Option<Arc<Message>> {
    let Some((&level, rest)) = levels.split_first() else { return node.message.take() };
    let child = node.children.get_mut(level)?;
    let removed = remove_at(child, rest);
    if child.message.is_none() && child.children.is_empty() {
        node.children.remove(level);
    }
    removed
}

fn sweep_at(node: &mut Node, now: Instant, expired: &mut impl FnMut(Arc<Message>)) {
    if let Some(message) = node.message.take_if(|message| message.is_expired(now)) {
        expired(message);
    }
    node.children.retain(|_, child: &mut Node| {
        sweep_at(child, now, expired);
        child.message.is_some() || !child.children.is_empty()
    });
}

struct Walk {
    now: Instant,
    max: usize,
}

impl Walk {
    fn push(&self, node: &Node, messages: &mut Vec<Arc<Message>>) {
        if let Some(message) = &node.message
            && !message.is_expired(self.now)
            && messages.len() < self.max
        {
            messages.push(Arc::clone(message));
        }
    }

    fn collect(
        &self,
        node: &Node,
        filter: Option<&str>,
        is_first: bool,
        messages: &mut Vec<Arc<Message>>,
    ) {
        if messages.len() >= self.max {
            return;
        }
        let Some(filter) = filter else { return self.push(node, messages) };
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        // Wildcards in front do not match topics that begin with `$` [MQTT-4.7.2-1].
        let visible = |name: &str| !(is_first && name.starts_with('$'));
        match level {
            "#" => {
                self.push(node, messages);
                for (_, child) in node.children.iter().filter(|(name, _)| visible(name)) {
                    self.collect(child, Some("#"), false, messages);
                }
            }
            "+" => {
                for (_, child) in node.children.iter().filter(|(name, _)| visible(name)) {
                    self.collect(child, rest, false, messages);
                }
            }
            _ => {
                if let Some(child) = node.children.get(level) {
                    self.collect(child, rest, false, messages);
                }
            }
        }
    }
}
