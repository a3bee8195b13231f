//! What a device may publish to and subscribe with, evaluated natively.

use portreeve_mqtt::{TopicFilter, matches};

use crate::leading_slash::LeadingSlash;

/// What a permission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// PUBLISH.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
    /// Either.
    Both,
}

impl Action {
    /// Each with its word, and its number in the store.
    const ALL: [(Self, &'static str, u8); 3] =
        [(Self::Publish, "publish", 1), (Self::Subscribe, "subscribe", 2), (Self::Both, "both", 3)];

    /// The action of a word.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, word, _)| *word == name).map(|(action, ..)| *action)
    }

    /// The action of a number of the store.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, its)| *its == number).map(|(action, ..)| *action)
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Both => "both",
        }
    }

    /// The number for it in the store.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Publish => 1,
            Self::Subscribe => 2,
            Self::Both => 3,
        }
    }
}

/// A permission of a device: a topic filter, which may hold `%d`, `%c` and `%u`, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it is for.
    pub action: Action,
    /// The topics.
    pub filter: Box<str>,
}

/// What holds for the topics of a filter, placeholders put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allows: bool,
    pub(crate) action: Action,
    pub(crate) filter: Box<str>,
}

/// The permissions of one connection: the first rule that is about a topic counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permissions {
    rules: Box<[Rule]>,
    /// What holds for topics that no rule is about.
    otherwise: bool,
    /// Whether `$SYS/#` may be subscribed to.
    reads_sys: bool,
}

impl Permissions {
    pub(crate) fn new(rules: Vec<Rule>, otherwise: bool, reads_sys: bool) -> Self {
        Self { rules: rules.into_boxed_slice(), otherwise, reads_sys }
    }

    /// These and nothing else, with names put in.
    pub(crate) fn granted(
        grants: &[Grant],
        device_name: &str,
        client_id: &str,
        user_name: Option<&str>,
        reads_sys: bool,
    ) -> Self {
        let rule = |grant: &Grant| {
            let filter = fill_in(&grant.filter, device_name, client_id, user_name)?;
            Some(Rule { allows: true, action: grant.action, filter })
        };
        Self::new(grants.iter().filter_map(rule).collect(), false, reads_sys)
    }

    /// The same about topics as a gateway knows them.
    pub(crate) fn of_known_topics(mut self, slash: LeadingSlash) -> Self {
        for rule in &mut self.rules {
            slash.know(&mut rule.filter);
        }
        self
    }

    /// `$SYS` is the gateway's own to publish to.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        if is_sys(topic) {
            return false;
        }
        let is_about =
            |rule: &&Rule| rule.action != Action::Subscribe && matches(&rule.filter, topic);
        self.rules.iter().find(is_about).map_or(self.otherwise, |rule| rule.allows)
    }

    /// Whether every topic that `filter` can match is permitted. `filter` is without share name.
    pub(crate) fn may_subscribe(&self, filter: &str) -> bool {
        if is_sys(filter) && self.reads_sys {
            return true;
        }
        // A denied topic closes every filter that reaches it; an allowed one opens only filters
        // that reach nothing else.
        let is_about = |rule: &&Rule| {
            rule.action != Action::Publish
                && if rule.allows {
                    covers(&rule.filter, filter)
                } else {
                    overlap(&rule.filter, filter)
                }
        };
        match self.rules.iter().find(is_about) {
            Some(rule) => rule.allows,
            None => self.otherwise && !is_sys(filter),
        }
    }
}

/// Rules that are shown.
const SHOWN_MAX: usize = 8;

impl std::fmt::Display for Permissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Rule { allows, action, filter } in self.rules.iter().take(SHOWN_MAX) {
            let effect = if *allows { "may" } else { "may not" };
            let action = match action {
                Action::Both => "publish and subscribe",
                one => one.name(),
            };
            write!(f, "{effect} {action} {filter}; ")?;
        }
        if self.rules.len() > SHOWN_MAX {
            write!(f, "and {} rules more; ", self.rules.len() - SHOWN_MAX)?;
        }
        let otherwise = if self.otherwise { "everything" } else { "nothing" };
        write!(f, "{}may {otherwise}", if self.rules.is_empty() { "" } else { "otherwise " })
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

/// Whether some topic is matched by both filters.
fn overlap(one: &str, other: &str) -> bool {
    // A wildcard in front does not reach topics that begin with `$` [MQTT-4.7.2-1].
    let (dollar, wild) = (|filter: &str| filter.starts_with('$'), ['+', '#']);
    if dollar(one) && other.starts_with(wild) || dollar(other) && one.starts_with(wild) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some("#"), _) | (_, Some("#")) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
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
    use super::{Action, Permissions, Rule, covers, fill_in, overlap};

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

    fn rule(allows: bool, action: Action, filter: &str) -> Rule {
        Rule { allows, action, filter: filter.into() }
    }

    #[test]
    fn permissions_are_by_action_and_sys_is_closed() {
        let rules =
            vec![rule(true, Action::Publish, "up/#"), rule(true, Action::Subscribe, "down/#")];
        let some = Permissions::new(rules, false, false);
        assert!(some.may_publish("up/1") && !some.may_publish("down/1"));
        assert!(
            some.may_subscribe("down/+") && !some.may_subscribe("up/1") && !some.may_subscribe("#")
        );
        let all = Permissions::new(Vec::new(), true, false);
        assert!(all.may_publish("x") && all.may_subscribe("#"));
        assert!(!all.may_publish("$SYS/x") && !all.may_subscribe("$SYS/#"));
        assert!(Permissions::new(Vec::new(), true, true).may_subscribe("$SYS/broker/+"));
    }

    #[test]
    fn the_first_rule_counts_and_a_denied_topic_closes_every_filter_that_reaches_it() {
        let rules = vec![
            rule(true, Action::Both, "secret/mine"),
            rule(false, Action::Both, "secret/#"),
            rule(false, Action::Publish, "+/state"),
        ];
        let permissions = Permissions::new(rules, true, false);
        assert!(permissions.may_publish("secret/mine") && !permissions.may_publish("secret/yours"));
        assert!(!permissions.may_publish("a/state") && permissions.may_publish("a/b"));
        assert!(permissions.may_subscribe("secret/mine") && permissions.may_subscribe("a/state"));
        for closed in ["#", "+/#", "secret", "secret/+", "+/mine"] {
            assert!(!permissions.may_subscribe(closed), "{closed}");
        }
        assert!(permissions.may_subscribe("a/#") && !permissions.may_subscribe("+/b/c"));
    }

    #[test]
    fn filters_overlap_when_a_topic_matches_both() {
        assert!(overlap("a/+", "+/b") && overlap("#", "a") && overlap("a/#", "a"));
        assert!(!overlap("a/b", "a/c") && !overlap("a", "a/b") && !overlap("#", "$SYS/x"));
    }
}
