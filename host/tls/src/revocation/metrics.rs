//! Counters of revocation checks; whoever shows metrics reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ocsp::{Invalid, Status, Unavailable};

/// Upper ends of the buckets of [`Latency`], in milliseconds; the last bucket has none.
pub const LATENCY_BUCKETS_MS: [u64; 8] = [5, 10, 25, 50, 100, 250, 1000, 2500];

/// How long responders took.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; LATENCY_BUCKETS_MS.len() + 1],
    sum_micros: AtomicU64,
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let ms = took.as_millis();
        let within = LATENCY_BUCKETS_MS.iter().take_while(|end| u128::from(**end) < ms).count();
        if let Some(bucket) = self.buckets.get(within) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many there are in each bucket (not in those before it).
    #[must_use]
    pub fn counts(&self) -> [u64; LATENCY_BUCKETS_MS.len() + 1] {
        self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros.load(Ordering::Relaxed))
    }
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct RevocationMetrics {
    /// Responses that say good.
    pub ocsp_good: AtomicU64,
    /// Responses that say revoked.
    pub ocsp_revoked: AtomicU64,
    /// Responses that say unknown.
    pub ocsp_unknown: AtomicU64,
    unavailable: [AtomicU64; Unavailable::ALL.len()],
    invalid: [AtomicU64; Invalid::ALL.len()],
    /// Statuses that were known when somebody wanted to know.
    pub cache_hits: AtomicU64,
    /// Statuses that were asked for; who waits for the same one is not counted again.
    pub cache_misses: AtomicU64,
    /// Of whole requests.
    pub latency: Latency,
    /// Devices that were let in although no source knew their certificate.
    pub soft_fails: AtomicU64,
    /// Certificates that a CRL says are revoked.
    pub crl_revoked: AtomicU64,
    /// Certificates that a CRL decided about as good.
    pub crl_good: AtomicU64,
}

impl RevocationMetrics {
    /// Counts what a responder said.
    pub(crate) fn count(&self, status: &Status) {
        let counter = match status {
            Status::Good => Some(&self.ocsp_good),
            Status::Revoked(_) => Some(&self.ocsp_revoked),
            Status::Unknown => Some(&self.ocsp_unknown),
            Status::Unavailable(why) => self.unavailable.get(*why as usize),
            Status::Invalid(why) => self.invalid.get(*why as usize),
        };
        if let Some(counter) = counter {
            add(counter);
        }
    }

    /// Requests without an answer, by kind.
    pub fn unavailable(&self) -> impl Iterator<Item = (Unavailable, u64)> {
        let counts = self.unavailable.iter().map(|count| count.load(Ordering::Relaxed));
        Unavailable::ALL.iter().copied().zip(counts)
    }

    /// Answers that were not believed, by kind.
    pub fn invalid(&self) -> impl Iterator<Item = (Invalid, u64)> {
        let counts = self.invalid.iter().map(|count| count.load(Ordering::Relaxed));
        Invalid::ALL.iter().copied().zip(counts)
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
