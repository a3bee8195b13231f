//! The levels below a level. Most levels have one below them or none, so that is what takes little
//! room: with a million topics, a lookup is as fast as memory is.

use std::collections::HashMap;

/// Nodes by the name of their level.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "there are many nodes, and few have many below them")]
pub(super) enum Children<N> {
    #[default]
    None,
    One(Box<(Box<str>, N)>),
    Many(Box<HashMap<Box<str>, N>>),
}

impl<N: Default> Children<N> {
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn get(&self, level: &str) -> Option<&N> {
        match self {
            Self::None => None,
            Self::One(child) => (*child.0 == *level).then_some(&child.1),
            Self::Many(children) => children.get(level),
        }
    }

    pub(super) fn get_mut(&mut self, level: &str) -> Option<&mut N> {
        match self {
            Self::None => None,
            Self::One(child) => (*child.0 == *level).then_some(&mut child.1),
            Self::Many(children) => children.get_mut(level),
        }
    }

    /// The node of a level, made if there is none.
    pub(super) fn get_or_default(&mut self, level: &str) -> &mut N {
        let is_other = matches!(self, Self::One(child) if *child.0 != *level);
        if is_other && let Self::One(child) = std::mem::take(self) {
            *self = Self::Many(Box::new(HashMap::from([*child])));
        }
        loop {
            match self {
                Self::None => *self = Self::One(Box::new((level.into(), N::default()))),
                Self::One(child) => return &mut child.1,
                Self::Many(children) => return children.entry(level.into()).or_default(),
            }
        }
    }

    pub(super) fn remove(&mut self, level: &str) {
        let is_empty = match self {
            Self::None => true,
            Self::One(child) => *child.0 == *level,
            Self::Many(children) => {
                children.remove(level);
                children.is_empty()
            }
        };
        if is_empty {
            *self = Self::None;
        }
    }

    /// Keeps the nodes that `keep` says yes to.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &mut N) -> bool) {
        let is_empty = match self {
            Self::None => true,
            Self::One(child) => !keep(&child.0, &mut child.1),
            Self::Many(children) => {
                children.retain(|name, node| keep(name, node));
                children.is_empty()
            }
        };
        if is_empty {
            *self = Self::None;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &N)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(child) => (Some((&*child.0, &child.1)), None),
            Self::Many(children) => (None, Some(children.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten().map(|(name, node)| (&**name, node)))
    }
}

#[cfg(test)]
mod tests {
    use super::Children;

    #[test]
    fn children_come_and_go_in_every_number() {
        let mut children: Children<u32> = Children::default();
        for (number, level) in (1..).zip(["a", "", "c"]) {
            assert!(children.get(level).is_none());
            *children.get_or_default(level) = number;
            assert_eq!(*children.get_or_default(level), number);
        }
        let mut all: Vec<_> = children.iter().map(|(level, number)| (level, *number)).collect();
        all.sort_unstable();
        assert_eq!(all, [("", 2), ("a", 1), ("c", 3)]);
        children.remove("a");
        children.retain(|level, number| level != "c" && *number == 2);
        assert_eq!(
            (children.get_mut("").copied(), children.get("a"), children.get("c")),
            (Some(2), None, None)
        );
        children.remove("nothing");
        children.remove("");
        assert!(children.is_empty() && children.iter().next().is_none());
    }
}
