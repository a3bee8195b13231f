//! Topic names and topic filters (§4.7) and shared subscriptions (§4.8.2).

use core::fmt;

/// Why a string is not a topic name or not a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no character [MQTT-4.7.3-1].
    Empty,
    /// It holds U+0000 [MQTT-4.7.3-2].
    Null,
    /// It is longer than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// A topic name holds `+` or `#` [MQTT-3.3.2-2].
    Wildcard,
    /// `#` stands elsewhere than alone in the last level [MQTT-4.7.1-1].
    MultiLevelWildcard,
    /// `+` does not fill its level [MQTT-4.7.1-2].
    SingleLevelWildcard,
    /// A share name is empty or holds a wildcard, or no filter follows it [MQTT-4.8.2-1, MQTT-4.8.2-2].
    ShareName,
}

impl TopicError {
    /// The fact as a phrase.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Empty => "topic is empty",
            Self::Null => "topic holds U+0000",
            Self::TooLong => "topic is longer than 65535 bytes",
            Self::Wildcard => "topic name holds a wildcard",
            Self::MultiLevelWildcard => "`#` is not alone in the last level of the topic filter",
            Self::SingleLevelWildcard => "`+` does not fill its level of the topic filter",
            Self::ShareName => "shared subscription is not `$share/NAME/FILTER`",
        }
    }

    pub(crate) const fn statement(self) -> &'static str {
        match self {
            Self::Empty => "MQTT-4.7.3-1",
            Self::Null => "MQTT-4.7.3-2",
            Self::TooLong => "MQTT-4.7.3-3",
            Self::Wildcard => "MQTT-3.3.2-2",
            Self::MultiLevelWildcard => "MQTT-4.7.1-1",
            Self::SingleLevelWildcard => "MQTT-4.7.1-2",
            Self::ShareName => "MQTT-4.8.2-1",
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what(), self.statement())
    }
}

impl core::error::Error for TopicError {}

const TOPIC_BYTES_MAX: usize = 65_535;

/// A topic that a message is published to: not empty, no wildcard, no U+0000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks that `topic` can be published to.
    ///
    /// # Errors
    /// [`TopicError`] naming the rule that it breaks.
    #[inline]
    pub fn parse(topic: &'a str) -> Result<Self, TopicError> {
        if topic.is_empty() {
            return Err(TopicError::Empty);
        }
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        match topic.bytes().find(|byte| matches!(byte, 0 | b'+' | b'#')) {
            None => Ok(Self(topic)),
            Some(0) => Err(TopicError::Null),
            Some(_) => Err(TopicError::Wildcard),
        }
    }

    /// The topic as text.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a subscription asks for: levels, `+` for one level, `#` for all that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter<'a>(&'a str);

/// A shared subscription `$share/NAME/FILTER`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The share name.
    pub share_name: &'a str,
    /// The filter that messages are matched with.
    pub filter: TopicFilter<'a>,
}

const SHARE_PREFIX: &str = "$share/";

impl<'a> TopicFilter<'a> {
    /// Checks that `filter` can be subscribed with; `$share/…` is checked as §4.8.2 demands.
    ///
    /// # Errors
    /// [`TopicError`] naming the rule that it breaks.
    pub fn parse(filter: &'a str) -> Result<Self, TopicError> {
        if filter.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        let Some(shared) = filter.strip_prefix(SHARE_PREFIX) else {
            return Self::parse_plain(filter);
        };
        let (share_name, rest) = shared.split_once('/').ok_or(TopicError::ShareName)?;
        if share_name.is_empty() || rest.is_empty() || share_name.contains(['+', '#', '\0']) {
            return Err(TopicError::ShareName);
        }
        Self::parse_plain(rest).map(|_| Self(filter))
    }

    fn parse_plain(filter: &'a str) -> Result<Self, TopicError> {
        if filter.is_empty() {
            return Err(TopicError::Empty);
        }
        let mut levels = filter.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('\0') {
                return Err(TopicError::Null);
            }
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicError::MultiLevelWildcard);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicError::SingleLevelWildcard);
            }
        }
        Ok(Self(filter))
    }

    /// The filter as it was subscribed with, `$share/…` included.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Share name and inner filter, where this is a shared subscription.
    #[must_use]
    pub fn shared(&self) -> Option<SharedFilter<'a>> {
        let (share_name, filter) = self.0.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
        Some(SharedFilter { share_name, filter: TopicFilter(filter) })
    }

    /// Whether a message published to `topic` is one that this filter asks for.
    #[must_use]
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        let filter = self.shared().map_or(self.0, |shared| shared.filter.0);
        matches(filter, topic.0)
    }

    /// Whether it holds `+` or `#`.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Matches a topic filter without share prefix against a topic name (§4.7.1). A wildcard in the
/// first level does not match a topic that begins with `$` [MQTT-4.7.2-1]. `#` also matches the
/// level above it: `a/#` matches `a`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::{TopicError, TopicFilter, TopicName, matches};

    #[test]
    fn a_filter_matches_as_the_examples_of_4_7_1_say() {
        for topic in [
            "sport/tennis/player1",
            "sport/tennis/player1/ranking",
            "sport/tennis/player1/score/wimbledon",
        ] {
            assert!(matches("sport/tennis/player1/#", topic));
        }
        assert!(matches("sport/#", "sport"));
        assert!(matches("sport/+", "sport/"));
        assert!(!matches("sport/+", "sport"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(
            matches("+/+", "/finance") && matches("/+", "/finance") && !matches("+", "/finance")
        );
        assert!(matches("#", "a/b") && matches("a/b", "a/b") && !matches("a/b", "A/b"));
    }

    #[test]
    fn wildcards_in_front_do_not_match_dollar_topics_mqtt_4_7_2_1() {
        assert!(!matches("#", "$SYS/broker/uptime"));
        assert!(!matches("+/monitor/Clients", "$SYS/monitor/Clients"));
        assert!(matches("$SYS/#", "$SYS/") && matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    }

    #[test]
    fn non_ascii_topics_match_without_a_panic() {
        assert!(matches("é/+", "é/x") && !matches("+/b", "é"));
    }

    #[test]
    fn a_shared_filter_comes_apart() {
        let filter = TopicFilter::parse("$share/g/a/#").unwrap();
        let shared = filter.shared().unwrap();
        assert_eq!((shared.share_name, shared.filter.as_str()), ("g", "a/#"));
        assert!(filter.matches(TopicName::parse("a/b").unwrap()));
        assert_eq!(TopicFilter::parse("$share/g"), Err(TopicError::ShareName));
        assert_eq!(TopicFilter::parse("$share/+/a"), Err(TopicError::ShareName));
    }
}
