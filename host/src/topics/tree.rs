//! Subscriptions as a tree of topic levels: a lookup walks the levels of one topic.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use portreeve_mqtt::TopicFilter;

use super::children::Children;
use super::{Receiver, Route, SharedGroup, Subscription};
use crate::session::Session;

#[derive(Default)]
pub(super) struct SubscriptionTree {
    root: Node,
    count: usize,
}

#[derive(Default)]
struct Node {
    children: Children<Self>,
    /// The child for `+`.
    any: Option<Box<Self>>,
    /// Subscriptions whose filter ends here.
    here: Option<Box<Subscribers>>,
    /// Subscriptions whose filter goes on with `#` and ends.
    below: Option<Box<Subscribers>>,
}

/// Subscriptions with one and the same filter.
#[derive(Default)]
struct Subscribers {
    /// Nearly always there is one.
    first: Option<Subscription>,
    more: Members,
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
            && self.here.is_none()
            && self.below.is_none()
    }
}

impl Subscribers {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty() && self.groups.is_empty()
    }

    fn insert(
        &mut self,
        whole: TopicFilter<'_>,
        share_name: Option<&str>,
        subscription: Subscription,
    ) -> bool {
        let members = match (share_name, &mut self.first) {
            (None, Some(first)) if Arc::ptr_eq(&first.session, &subscription.session) => {
                *first = subscription;
                return false;
            }
            (None, first @ None) if !self.more.contains_key(&address(&subscription.session)) => {
                *first = Some(subscription);
                return true;
            }
            (None, _) => &mut self.more,
            (Some(share_name), _) => {
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
            let is_its = |first: &mut Subscription| Arc::ptr_eq(&first.session, session);
            return self.first.take_if(is_its).is_some()
                || self.more.remove(&address(session)).is_some();
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
        route.receivers.extend(self.first.iter().chain(self.more.values()).map(Receiver::of));
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
                _ => node = node.children.get_or_default(level),
            }
        }
        let is_new = match subscribers {
            Some(below) => below.get_or_insert_default().insert(whole, share_name, subscription),
            None => node.here.get_or_insert_default().insert(whole, share_name, subscription),
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
        let subscribers = subscribers.unwrap_or(&node.here).as_ref()?;
        subscribers.groups.get(share_name?).map(Group::shared)
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
        None => remove_from(&mut node.here, share_name, session),
        Some((&"#", _)) => remove_from(&mut node.below, share_name, session),
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

fn remove_from(
    subscribers: &mut Option<Box<Subscribers>>,
    share_name: Option<&str>,
    session: &Arc<Session>,
) -> bool {
    let Some(some) = subscribers else { return false };
    let existed = some.remove(share_name, session);
    subscribers.take_if(|some| some.is_empty());
    existed
}

/// Collects what matches `rest`, the levels of the topic below `node`; `None` at its end.
fn collect_at(node: &Node, rest: Option<&str>, is_dollar: bool, route: &mut Route) {
    if let Some(below) = node.below.as_ref().filter(|_| !is_dollar) {
        // `#` also matches the level above it.
        below.collect(route);
    }
    let Some(rest) = rest else {
        if let Some(here) = &node.here {
            here.collect(route);
        }
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
