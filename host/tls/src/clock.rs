//! The time of day. Whatever decides by it takes it as an argument; here it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The system's clock, which can be shifted: every copy shows the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    shift_seconds: Arc<AtomicI64>,
}

impl Clock {
    /// Seconds since the Unix epoch; 0 before it.
    #[must_use]
    pub fn now(&self) -> i64 {
        now().saturating_add(self.shift_seconds.load(Ordering::Relaxed))
    }

    /// Shows this many seconds more (or less) than the system's clock from now on.
    pub fn shift(&self, seconds: i64) {
        self.shift_seconds.store(seconds, Ordering::Relaxed);
    }
}

/// What the system's clock shows: seconds since the Unix epoch; 0 before it.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A duration in whole seconds.
pub(crate) fn whole_seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
