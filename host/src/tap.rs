//! Lets somebody look at messages as devices publish them, before any parser sees them.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use portreeve_mqtt::matches;
use tokio::sync::mpsc;

/// Those who may look at a time.
const TAPS_MAX: usize = 8;
/// Messages that were not taken yet; those beyond are left out.
const MESSAGES_MAX: usize = 1_024;

/// Everybody who looks.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    is_open: AtomicBool,
    open: Mutex<Vec<(String, mpsc::Sender<String>)>>,
}

impl Tap {
    /// Messages to topics that match a filter, as lines, until the receiver is dropped. `None`
    /// where enough look already.
    pub(crate) fn open(&self, filter: &str) -> Option<mpsc::Receiver<String>> {
        let mut open = self.open.lock();
        open.retain(|(_, sender)| !sender.is_closed());
        if open.len() >= TAPS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        open.push((filter.to_owned(), sender));
        self.is_open.store(true, Ordering::Relaxed);
        Some(receiver)
    }

    /// Whether anybody looks: one read for each message.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Shows a message; the line is made where somebody looks at its topic.
    pub(crate) fn show(&self, topic: &str, line: impl FnOnce() -> String) {
        let mut open = self.open.lock();
        open.retain(|(_, sender)| !sender.is_closed());
        if open.is_empty() {
            self.is_open.store(false, Ordering::Relaxed);
            return;
        }
        let mut looking = open.iter().filter(|(filter, _)| matches(filter, topic)).peekable();
        if looking.peek().is_some() {
            let line = line();
            for (_, sender) in looking {
                let _is_full = sender.try_send(line.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_look_at_a_topic_see_it() {
        let tap = Tap::default();
        assert!(!tap.is_open());
        let mut one = tap.open("a/+").unwrap();
        let mut all = tap.open("#").unwrap();
        tap.show("a/b", || "first".to_owned());
        tap.show("c", || "second".to_owned());
        assert_eq!(one.try_recv().as_deref(), Ok("first"));
        assert!(one.try_recv().is_err());
        assert_eq!(all.try_recv().as_deref(), Ok("first"));
        assert_eq!(all.try_recv().as_deref(), Ok("second"));
        drop((one, all));
        tap.show("a/b", || unreachable!("nobody looks"));
        assert!(!tap.is_open());
    }
}
