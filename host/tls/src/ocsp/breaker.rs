//! Leaves a responder alone that failed often: nobody waits for what will not come, and it is not
//! asked by everybody at once when it comes back.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures in a row before it is left alone.
const FAILURES_MAX: u32 = 5;
/// For how long, at first.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// For how long, at most.
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    /// Since the last success.
    failures: u32,
    /// While it is left alone: until when, and how long that is.
    pause: Option<(Instant, Duration)>,
    /// The one request is under way that finds out whether it is back.
    is_probing: bool,
}

/// What is known of one responder's health.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker {
    state: Arc<Mutex<State>>,
}

/// A request that may be made. One that is dropped without a result says nothing.
#[derive(Debug)]
pub(super) struct Attempt {
    breaker: Breaker,
    is_probe: bool,
}

impl Breaker {
    /// Whether it is left alone now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        let state = self.state.lock();
        state.pause.is_some_and(|(until, _)| now < until || state.is_probing)
    }

    /// A request, unless it is left alone. After a pause the first one is a probe, and the only one.
    pub(super) fn attempt(&self, now: Instant) -> Option<Attempt> {
        let mut state = self.state.lock();
        let is_probe = match state.pause {
            Some((until, _)) if now < until || state.is_probing => return None,
            Some(_) => true,
            None => false,
        };
        state.is_probing = is_probe;
        drop(state);
        Some(Attempt { breaker: self.clone(), is_probe })
    }
}

impl Attempt {
    pub(super) fn succeeded(self) {
        *self.breaker.state.lock() = State::default();
    }

    /// The pause that begins with this failure, if one does.
    pub(super) fn failed(self, now: Instant) -> Option<Duration> {
        let mut state = self.breaker.state.lock();
        state.failures = state.failures.saturating_add(1);
        let pause = match state.pause {
            // One of those that were under way when the pause began.
            Some(_) if !self.is_probe => return None,
            Some((_, last)) => last.saturating_mul(2).min(PAUSE_MAX),
            None if state.failures >= FAILURES_MAX => PAUSE_MIN,
            None => return None,
        };
        state.pause = Some((now + pause, pause));
        drop(state);
        Some(pause)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.state.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_there_is_a_growing_pause_and_then_one_probe() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.attempt(start).unwrap().failed(start), None);
        }
        let late = breaker.attempt(start).unwrap();
        assert_eq!(breaker.attempt(start).unwrap().failed(start), Some(PAUSE_MIN));
        assert_eq!(late.failed(start), None, "it was under way");
        assert!(breaker.attempt(start).is_none() && breaker.is_open(start));

        let after = start + PAUSE_MIN;
        let probe = breaker.attempt(after).unwrap();
        assert!(breaker.attempt(after).is_none(), "one probe");
        drop(probe);
        let probe = breaker.attempt(after).unwrap();
        assert_eq!(probe.failed(after), Some(PAUSE_MIN * 2));
        breaker.attempt(after + PAUSE_MIN * 2).unwrap().succeeded();
        assert!(!breaker.is_open(after));
    }
}
