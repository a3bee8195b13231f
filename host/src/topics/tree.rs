//! Subscriptions as a tree of topic levels: a lookup walks the levels of one topic.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use portreeve_mqtt::TopicFilter;

use super::{Receiver, Route, SharedGroup, Subscription};
use crate::session::Session;

#[derive(Default)]
pub(super) struct SubscriptionTree {
    root: Node,
    count: usize,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Self>,
    /// The child for `+`.
    any: Option<Box<Self>>,
    /// Subscriptions whose filter ends here.
    here: Subscribers,
    /// Subscriptions whose filter goes on with `#` and ends.
    below: Subscribers,
}

/// Subscriptions with one and the same filter.
#[derive(Default)]
struct Subscribers {
    plain: Members,
    /// By share name.
    groups: HashMap<Box<str>, Group>,
}

/// Subscriptions by the address of their session.
type Members = HashMap<usize, Subscription>;

struct Group {
    /// The whole topic filter of its members.
    filter: Arc<str>,
    members: Members,
    /// What routes hold; made again after a change, when the next route needs it.
    shared: OnceLock<Arc<SharedGroup>>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

impl Subscribers {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }

    fn insert(
        &mut self,
        whole: TopicFilter<'_>,
        share_name: Option<&str>,
        subscription: Subscription,
    ) -> bool {
        let members = match share_name {
            None => &mut self.plain,
            Some(share_name) => {
                let group = self.groups.entry(share_name.into()).or_insert_with(|| Group {
                    filter: whole.as_str().into(),
                    members: Members::default(),
                    shared: OnceLock::new(),
                });
                group.shared = OnceLock::new();
                &mut group.members
            }
        };
        members.insert(address(&subscription.session), subscription).is_none()
    }

    fn remove(&mut self, share_name: Option<&str>, session: &Arc<Session>) -> bool {
        let Some(share_name) = share_name else {
            return self.plain.remove(&address(session)).is_some();
        };
        let Some(group) = self.groups.get_mut(share_name) else { return false };
        let existed = group.members.remove(&address(session)).is_some();
        group.shared = OnceLock::new();
        if group.members.is_empty() {
            self.groups.remove(share_name);
        }
        existed
    }

    fn collect(&self, route: &mut Route) {
        route.receivers.extend(self.plain.values().map(Receiver::of));
        route.shared.extend(self.groups.values().map(Group::shared));
    }
}

impl Group {
    fn shared(&self) -> Arc<SharedGroup> {
        let make = || {
            let filter = Arc::clone(&self.filter);
            Arc::new(SharedGroup::new(filter, self.members.values()))
        };
        Arc::clone(self.shared.get_or_init(make))
    }
}

fn address(session: &Arc<Session>) -> usize {
    Arc::as_ptr(session).addr()
}

/// Share name and filter.
fn parts(filter: TopicFilter<'_>) -> (Option<&str>, &str) {
    match filter.shared() {
        Some(shared) => (Some(shared.share_name), shared.filter.as_str()),
        None => (None, filter.as_str()),
    }
}

impl SubscriptionTree {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, filter: TopicFilter<'_>, subscription: Subscription) -> bool {
        let whole = filter;
        let (share_name, filter) = parts(filter);
        let mut node = &mut self.root;
        let mut subscribers = None;
        for level in filter.split('/') {
            match level {
                "#" => {
                    subscribers = Some(&mut node.below);
                    break;
                }
                "+" => node = node.any.get_or_insert_default(),
                _ => node = node.children.entry(level.into()).or_default(),
            }
        }
        let is_new = match subscribers {
            Some(below) => below.insert(whole, share_name, subscription),
            None => node.here.insert(whole, share_name, subscription),
        };
        self.count += usize::from(is_new);
        is_new
    }

    pub(super) fn remove(&mut self, filter: TopicFilter<'_>, session: &Arc<Session>) -> bool {
        let (share_name, filter) = parts(filter);
        let levels: Vec<&str> = filter.split('/').collect();
        let existed = remove_at(&mut self.root, &levels, share_name, session);
        self.count -= usize::from(existed);
        existed
    }

    /// The members of a shared subscription.
    pub(super) fn group(&self, filter: TopicFilter<'_>) -> Option<Arc<SharedGroup>> {
        let (share_name, filter) = parts(filter);
        let mut node = &self.root;
        let mut subscribers = None;
        for level in filter.split('/') {
            match level {
                "#" => {
                    subscribers = Some(&node.below);
                    break;
                }
                "+" => node = node.any.as_deref()?,
                _ => node = node.children.get(level)?,
            }
        }
        subscribers.unwrap_or(&node.here).groups.get(share_name?).map(Group::shared)
    }

    pub(super) fn collect(&self, topic: &str, route: &mut Route) {
        // A wildcard in front does not match a topic that begins with `$` [MQTT-4.7.2-1].
        let is_dollar = topic.starts_with('$');
        collect_at(&self.root, Some(topic), is_dollar, route);
    }
}

/// Removes below `node` and takes the nodes away that are empty then. Recursion is as deep as
/// the filter has levels, which the gateway bounds.
fn remove_at(
    node: &mut Node,
    levels: &[&str],
    share_name: Option<&str>,
    session: &Arc<Session>,
) -> bool {
    match levels.split_first() {
        None => node.here.remove(share_name, session),
        Some((&"#", _)) => node.below.remove(share_name, session),
        Some((&"+", rest)) => {
            let Some(child) = &mut node.any else { return false };
            let existed = remove_at(child, rest, share_name, session);
            if child.is_empty() {
                node.any = None;
            }
            existed
        }
        Some((&level, rest)) => {
            let Some(child) = node.children.get_mut(level) else { return false };
            let existed = remove_at(child, rest, share_name, session);
            if child.is_empty() {
                node.children.remove(level);
            }
            existed
        }
    }
}

/// Collects what matches `rest`, the levels of the topic below `node`; `None` at its end.
fn collect_at(node: &Node, rest: Option<&str>, is_dollar: bool, route: &mut Route) {
    if !is_dollar {
        // `#` also matches the level above it.
        node.below.collect(route);
    }
    let Some(rest) = rest else {
        node.here.collect(route);
        return;
    };
    let (level, rest) = match rest.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (rest, None),
    };
    if let Some(child) = node.children.get(level) {
        collect_at(child, rest, false, route);
    }
    if let Some(child) = node.any.as_deref().filter(|_| !is_dollar) {
        collect_at(child, rest, false, route);
    }
}
