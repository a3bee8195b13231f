//! Retained messages as a tree of topic levels: a subscription walks what its filter can match.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::message::Message;

pub(super) struct RetainedTree {
    root: Node,
    count: usize,
    count_max: usize,
}

#[derive(Default)]
struct Node {
    message: Option<Arc<Message>>,
    children: HashMap<Box<str>, Self>,
}

impl Node {
    fn find(&self, topic: &str) -> Option<&Self> {
        topic.split('/').try_fold(self, |node, level| node.children.get(level))
    }
}

impl RetainedTree {
    pub(super) fn new(count_max: usize) -> Self {
        Self { root: Node::default(), count: 0, count_max }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, message: Arc<Message>) -> bool {
        let is_new = self.root.find(message.topic()).is_none_or(|node| node.message.is_none());
        if is_new && self.count >= self.count_max {
            return false;
        }
        let mut node = &mut self.root;
        for level in message.topic().split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        node.message = Some(message);
        self.count += usize::from(is_new);
        true
    }

    pub(super) fn remove(&mut self, topic: &str) {
        let levels: Vec<&str> = topic.split('/').collect();
        self.count -= usize::from(remove_at(&mut self.root, &levels));
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

fn remove_at(node: &mut Node, levels: &[&str]) -> bool {
    let Some((&level, rest)) = levels.split_first() else { return node.message.take().is_some() };
    let Some(child) = node.children.get_mut(level) else { return false };
    let existed = remove_at(child, rest);
    if child.message.is_none() && child.children.is_empty() {
        node.children.remove(level);
    }
    existed
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
