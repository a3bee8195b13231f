//! Whether a slash in front of a topic counts. Where it does not, the topic is known without it, and a
//! client that subscribes with one is told topics with one.

use std::borrow::Cow;

use portreeve_mqtt::TopicName;

/// Whether `/a` is another topic than `a` on a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LeadingSlash {
    /// It is, as MQTT has it (§4.7.3).
    #[default]
    Significant,
    /// It is the same.
    Optional,
}

impl LeadingSlash {
    /// Each with its word.
    pub(crate) const ALL: [(&'static str, Self); 2] =
        [("significant", Self::Significant), ("optional", Self::Optional)];

    /// A topic, or a filter without share name, as it is known. `/$SYS` is no other way to `$SYS`.
    pub(crate) fn known(self, text: &str) -> &str {
        match (self, text.strip_prefix('/')) {
            (Self::Optional, Some(rest)) if !rest.is_empty() && !rest.starts_with('$') => rest,
            _ => text,
        }
    }

    /// A topic name as it is known.
    pub(crate) fn known_name(self, name: TopicName<'_>) -> TopicName<'_> {
        match self {
            Self::Significant => name,
            Self::Optional => TopicName::parse(self.known(name.as_str())).unwrap_or(name),
        }
    }

    /// A filter as it is known, that of a shared subscription included.
    pub(crate) fn known_filter(self, filter: &str) -> Cow<'_, str> {
        let shared = filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/'));
        let Some((share_name, inner)) = shared else { return Cow::Borrowed(self.known(filter)) };
        let known = self.known(inner);
        match known.len() == inner.len() {
            true => Cow::Borrowed(filter),
            false => Cow::Owned(format!("$share/{share_name}/{known}")),
        }
    }
}

/// A topic as a client is told it that writes topics with a slash in front.
pub(crate) fn with_slash(topic: &str) -> Cow<'_, str> {
    match topic.starts_with(['/', '$']) {
        true => Cow::Borrowed(topic),
        false => Cow::Owned(format!("/{topic}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_in_front_does_not_count_where_that_is_said() {
        let cases = [
            ("/a/b", "a/b"),
            ("a/b", "a/b"),
            ("//a", "/a"),
            ("/", "/"),
            ("/#", "#"),
            ("/+/a", "+/a"),
            ("/$SYS/x", "/$SYS/x"),
            ("$SYS/x", "$SYS/x"),
            ("$share/g//a", "$share/g/a"),
            ("$share/g/a", "$share/g/a"),
            ("/$share/g/a", "/$share/g/a"),
        ];
        for (filter, known) in cases {
            assert_eq!(LeadingSlash::Optional.known_filter(filter), known);
            assert_eq!(LeadingSlash::Significant.known_filter(filter), filter);
        }
        assert_eq!(with_slash("a/b"), "/a/b");
        for same in ["/a", "$SYS/x"] {
            assert_eq!(with_slash(same), same);
        }
    }

    #[test]
    fn a_topic_name_stays_one() {
        for (topic, known) in [("/a", "a"), ("/", "/"), ("//", "/"), ("a", "a")] {
            let name = TopicName::parse(topic).unwrap();
            assert_eq!(LeadingSlash::Optional.known_name(name).as_str(), known);
        }
    }
}
