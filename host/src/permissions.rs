//! What a device may publish to and subscribe with, evaluated natively.

use portreeve_mqtt::{TopicFilter, matches};

/// What a permission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Publish,
    Subscribe,
    Both,
}

/// A topic filter that a device may use, placeholders put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) action: Action,
    pub(crate) filter: Box<str>,
}

/// The permissions of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permissions {
    /// `None`: everything but `$SYS`.
    list: Option<Box<[Permission]>>,
    /// Whether `$SYS/#` may be subscribed to.
    reads_sys: bool,
}

impl Permissions {
    pub(crate) fn everything(reads_sys: bool) -> Self {
        Self { list: None, reads_sys }
    }

    pub(crate) fn only(list: Vec<Permission>, reads_sys: bool) -> Self {
        Self { list: Some(list.into_boxed_slice()), reads_sys }
    }

    /// `$SYS` is the gateway's own to publish to.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        if is_sys(topic) {
            return false;
        }
        self.list.as_deref().is_none_or(|list| {
            let publishes = |permission: &&Permission| permission.action != Action::Subscribe;
            list.iter().filter(publishes).any(|permission| matches(&permission.filter, topic))
        })
    }

    /// Whether every topic that `filter` can match is permitted. `filter` is without share name.
    pub(crate) fn may_subscribe(&self, filter: &str) -> bool {
        if is_sys(filter) && self.reads_sys {
            return true;
        }
        match self.list.as_deref() {
            None => !is_sys(filter),
            Some(list) => {
                let subscribes = |permission: &&Permission| permission.action != Action::Publish;
                list.iter().filter(subscribes).any(|permission| covers(&permission.filter, filter))
            }
        }
    }
}

fn is_sys(topic: &str) -> bool {
    topic == "$SYS" || topic.starts_with("$SYS/")
}

/// Whether every topic that `narrow` matches is matched by `wide` too.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    // A wildcard in front does not reach topics that begin with `$` [MQTT-4.7.2-1].
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        if level == "#" {
            return true;
        }
        match narrow.next() {
            Some("#") | None => return false,
            Some(other) if level == "+" || level == other => {}
            Some(_) => return false,
        }
    }
    narrow.next().is_none()
}

/// Puts the device's names into a permission's filter: `%d`, `%c`, `%u`. `None` when a name that
/// the filter needs is absent, would change the filter's levels or wildcards, or when what comes
/// out is no topic filter: such a permission permits nothing.
pub(crate) fn fill_in(
    filter: &str,
    device_name: &str,
    client_id: &str,
    user_name: Option<&str>,
) -> Option<Box<str>> {
    let mut filled = String::with_capacity(filter.len() + device_name.len());
    let mut pieces = filter.split('%');
    filled.push_str(pieces.next()?);
    for piece in pieces {
        let value = match piece.chars().next() {
            Some('d') => device_name,
            Some('c') => client_id,
            Some('u') => user_name?,
            _ => {
                filled.push('%');
                filled.push_str(piece);
                continue;
            }
        };
        // A name in front that begins with `$` would open what belongs to the gateway.
        if value.is_empty() || value.contains(['/', '+', '#', '\0']) || value.starts_with('$') {
            return None;
        }
        filled.push_str(value);
        filled.push_str(piece.get(1..)?);
    }
    TopicFilter::parse(&filled).ok()?;
    Some(filled.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::{Action, Permission, Permissions, covers, fill_in};

    #[test]
    fn a_wide_filter_covers_what_it_matches_in_full_only() {
        assert!(covers("a/#", "a") && covers("a/#", "a/+/c") && covers("#", "+/b/#"));
        assert!(covers("a/+", "a/b") && covers("a/+", "a/+") && covers("a/b", "a/b"));
        assert!(!covers("a/+", "a/#") && !covers("a/b", "a/+") && !covers("a/+", "a/b/c"));
        assert!(!covers("#", "$SYS/#") && !covers("+/x", "$SYS/x") && !covers("a/b", "a"));
    }

    #[test]
    fn placeholders_cannot_widen_a_permission() {
        let fill = |filter, client_id, user_name| {
            fill_in(filter, "dev-1", client_id, user_name).map(String::from)
        };
        assert_eq!(fill("d/%d/%c/#", "c1", None), Some("d/dev-1/c1/#".to_owned()));
        assert_eq!(fill("d/%c", "#", None), None);
        assert_eq!(fill("d/%c", "a/b", None), None);
        assert_eq!(fill("d/%u", "c", None), None);
        assert_eq!(fill("%c/#", "$SYS", None), None);
        assert_eq!(fill("d/%u/%", "c", Some("é")), Some("d/é/%".to_owned()));
        assert_eq!(fill("d/#/%d", "c", None), None);
    }

    #[test]
    fn permissions_are_by_action_and_sys_is_closed() {
        let up = Permission { action: Action::Publish, filter: "up/#".into() };
        let down = Permission { action: Action::Subscribe, filter: "down/#".into() };
        let some = Permissions::only(vec![up, down], false);
        assert!(some.may_publish("up/1") && !some.may_publish("down/1"));
        assert!(
            some.may_subscribe("down/+") && !some.may_subscribe("up/1") && !some.may_subscribe("#")
        );
        let all = Permissions::everything(false);
        assert!(all.may_publish("x") && all.may_subscribe("#"));
        assert!(!all.may_publish("$SYS/x") && !all.may_subscribe("$SYS/#"));
        assert!(Permissions::everything(true).may_subscribe("$SYS/broker/+"));
    }
}
