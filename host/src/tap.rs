//! Lets somebody look at messages as devices publish them, before any parser sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use portreeve_mqtt::matches;
use portreeve_plugin::{Budget, Held};
use tokio::sync::mpsc;

/// Those who may look at a time.
const TAPS_MAX: usize = 8;
/// Messages that were not taken yet; those beyond are left out.
const MESSAGES_MAX: usize = 1_024;
/// Bytes of messages that one who looks did not take yet.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Everybody who looks.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    is_open: AtomicBool,
    open: Mutex<Vec<Looking>>,
}

/// One who looks.
#[derive(Debug, Clone)]
struct Looking {
    filter: Arc<str>,
    sender: mpsc::Sender<Shown>,
    bytes: Budget,
}

/// A message, for one who looks.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) line: Arc<str>,
    _held: Held,
}

impl Tap {
    /// Messages to topics that match a filter, as lines, until the receiver is dropped. `None`
    /// where enough look already.
    pub(crate) fn open(&self, filter: &str) -> Option<mpsc::Receiver<Shown>> {
        let mut open = self.open.lock();
        open.retain(|looking| !looking.sender.is_closed());
        if open.len() >= TAPS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let bytes = Budget::of(MESSAGE_BYTES_MAX);
        open.push(Looking { filter: filter.into(), sender, bytes });
        self.is_open.store(true, Ordering::Relaxed);
        Some(receiver)
    }

    /// Whether anybody looks: one read for each message.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Shows a message; the line is made where somebody looks at its topic and has room for it.
    pub(crate) fn show(&self, topic: &str, line: impl FnOnce() -> String) {
        let looking = self.looking_at(topic);
        if looking.iter().all(|looking| looking.sender.capacity() == 0) {
            return;
        }
        // Not under the lock: a message of a megabyte takes a while.
        let line: Arc<str> = line().into();
        for Looking { sender, bytes, .. } in looking {
            if let Some(held) = bytes.take(line.len()) {
                let _is_full = sender.try_send(Shown { line: Arc::clone(&line), _held: held });
            }
        }
    }

    fn looking_at(&self, topic: &str) -> Vec<Looking> {
        let mut open = self.open.lock();
        open.retain(|looking| !looking.sender.is_closed());
        if open.is_empty() {
            self.is_open.store(false, Ordering::Relaxed);
        }
        open.iter().filter(|looking| matches(&looking.filter, topic)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(receiver: &mut mpsc::Receiver<Shown>) -> Option<String> {
        receiver.try_recv().ok().map(|shown| shown.line.to_string())
    }

    #[test]
    fn only_those_who_look_at_a_topic_see_it() {
        let tap = Tap::default();
        assert!(!tap.is_open());
        let mut one = tap.open("a/+").unwrap();
        let mut all = tap.open("#").unwrap();
        tap.show("a/b", || "first".to_owned());
        tap.show("c", || "second".to_owned());
        assert_eq!(next(&mut one).as_deref(), Some("first"));
        assert_eq!(next(&mut one), None);
        assert_eq!(next(&mut all).as_deref(), Some("first"));
        assert_eq!(next(&mut all).as_deref(), Some("second"));
        drop((one, all));
        tap.show("a/b", || unreachable!("nobody looks"));
        assert!(!tap.is_open());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let tap = Tap::default();
        let mut all = tap.open("#").unwrap();
        for _ in 0..100 {
            tap.show("a", || "x".repeat(1 << 20));
        }
        let mut waiting = 0;
        while next(&mut all).is_some() {
            waiting += 1;
        }
        assert_eq!(waiting, MESSAGE_BYTES_MAX >> 20);
        tap.show("a", || "there is room again".to_owned());
        assert!(next(&mut all).is_some());
    }
}
