//! The devices of a canary: those that it may answer, and those that were refused.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A place that nobody asked from for so long is free again: a client that comes with another name
/// each time would otherwise use up all of them, and nobody would ask the canary any more.
const PLACE_IDLE: Duration = Duration::from_mins(1);
/// Devices whose refusals are told apart, for each version.
const DEVICES_MAX: usize = 10_000;

/// Who a canary may answer.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: HashMap<u64, Instant>,
    /// No place is free before.
    full_until: Option<Instant>,
}

impl Places {
    /// Whether a device has one of `max` places, or gets one.
    pub(super) fn admit(&mut self, device: u64, max: usize, now: Instant) -> bool {
        if let Some(last) = self.taken.get_mut(&device) {
            *last = now;
            return true;
        }
        if self.taken.len() >= max {
            if self.full_until.is_some_and(|until| now < until) {
                return false;
            }
            self.taken.retain(|_, last| now.saturating_duration_since(*last) < PLACE_IDLE);
            if self.taken.len() >= max {
                self.full_until = self.taken.values().min().map(|first| *first + PLACE_IDLE);
                return false;
            }
        }
        self.taken.insert(device, now);
        true
    }

    pub(super) fn count(&self) -> usize {
        self.taken.len()
    }
}

/// How many devices a version said no to: one that comes again and again with a wrong password is one.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    asked: HashSet<u64>,
    refused: HashSet<u64>,
}

impl Refusals {
    pub(super) fn note(&mut self, device: u64, is_refusal: bool) {
        if self.asked.len() >= DEVICES_MAX && !self.asked.contains(&device) {
            return;
        }
        self.asked.insert(device);
        if is_refusal {
            self.refused.insert(device);
        }
    }

    /// Those that were asked about, and those among them that were refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |devices: &HashSet<u64>| u64::try_from(devices.len()).unwrap_or(u64::MAX);
        (count(&self.asked), count(&self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_used_once_do_not_use_up_the_places() {
        let mut places = Places::default();
        let mut now = Instant::now();
        for device in 0..50 {
            assert!(places.admit(device, 50, now));
        }
        now += PLACE_IDLE / 2;
        assert!(places.admit(7, 50, now));
        assert!(!places.admit(100, 50, now), "there are fifty");
        now += PLACE_IDLE / 2;
        assert!(places.admit(100, 50, now), "the others did not ask again");
        assert!(places.admit(7, 50, now) && places.count() == 2);
    }

    #[test]
    fn a_device_that_is_refused_again_and_again_is_one() {
        let mut refusals = Refusals::default();
        for _ in 0..100 {
            refusals.note(1, true);
            refusals.note(2, false);
        }
        assert_eq!(refusals.counts(), (2, 1));
    }
}
