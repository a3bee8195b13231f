//! Whether a slash in front of a topic counts. Where it does not, the topic is known without it, and a
//! client that subscribes with one is told topics with one.

use std::borrow::Cow;

use portreeve_mqtt::{TopicFilter, TopicName};

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

    /// A filter as it is known, that of a shared subscription included, for which `room` is made use
    /// of.
    pub(crate) fn known_filter<'a>(
        self,
        filter: TopicFilter<'a>,
        room: &'a mut String,
    ) -> TopicFilter<'a> {
        let inner = filter.shared().map_or(filter, |shared| shared.filter).as_str();
        let known = self.known(inner);
        if known.len() == inner.len() {
            return filter;
        }
        let text = match filter.shared() {
            None => known,
            Some(shared) => {
                *room = format!("$share/{}/{known}", shared.share_name);
                room.as_str()
            }
        };
        // What is left of a filter is one.
        TopicFilter::parse(text).unwrap_or(filter)
    }

    /// Has a topic, or a filter without share name, be as it is known.
    pub(crate) fn know(self, text: &mut Box<str>) {
        let known = self.known(text);
        if known.len() < text.len() {
            *text = known.into();
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
            let parsed = TopicFilter::parse(filter).unwrap();
            let mut room = String::new();
            let told = LeadingSlash::Optional.known_filter(parsed, &mut room);
            assert_eq!(told.as_str(), known);
            let told = LeadingSlash::Significant.known_filter(parsed, &mut room);
            assert_eq!(told.as_str(), filter);
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
