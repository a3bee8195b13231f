//! How much may happen in a second: a bucket that holds one second's worth.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Allows so much in a second, and at once after a pause.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In nanoseconds of the rate: one is worth `1_000_000_000 / per_second` of them.
    credit: u64,
    at: Instant,
}

const SECOND: u64 = 1_000_000_000;

impl Bucket {
    /// A full bucket; `None` for a rate of 0, which is no limit.
    pub(crate) fn new(per_second: u32, now: Instant) -> Option<Self> {
        let state = Mutex::new(State { credit: SECOND, at: now });
        (per_second > 0).then_some(Self { per_second, state })
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let cost = SECOND / u64::from(self.per_second);
        let mut state = self.state.lock();
        let passed = now.saturating_duration_since(state.at);
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(SECOND).min(SECOND);
        state.credit = (state.credit + passed).min(SECOND);
        state.at = now.max(state.at);
        if state.credit < cost {
            return Err(Duration::from_nanos(cost - state.credit));
        }
        state.credit -= cost;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Bucket;

    #[test]
    fn one_seconds_worth_goes_at_once_and_then_the_rate_holds() {
        let begin = Instant::now();
        let bucket = Bucket::new(10, begin).unwrap();
        assert_eq!((0..20).filter(|_| bucket.take(begin).is_ok()).count(), 10);
        assert_eq!(bucket.take(begin), Err(Duration::from_millis(100)));
        let later = begin + Duration::from_millis(250);
        assert_eq!((0..20).filter(|_| bucket.take(later).is_ok()).count(), 2);
        let much_later = begin + Duration::from_secs(3600);
        assert_eq!((0..20).filter(|_| bucket.take(much_later).is_ok()).count(), 10);
        assert!(Bucket::new(0, begin).is_none());
    }
}
