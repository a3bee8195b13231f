//! What one version of a plugin did: answers, faults, times, memory. Numbers only grow, but for
//! the memory in use.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::call::{CallError, FaultKind};

/// What a guest answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// A verifier lets the peer in.
    Admit,
    /// A verifier turns it away.
    Refuse,
    /// A verifier asks for more.
    Challenge,
    /// A parser leaves the message as it is.
    Pass,
    /// A parser puts others in its place.
    Replace,
    /// A parser lets it vanish.
    Drop,
    /// A parser refuses it.
    Reject,
}

impl AnswerKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Admit,
        Self::Refuse,
        Self::Challenge,
        Self::Pass,
        Self::Replace,
        Self::Drop,
        Self::Reject,
    ];

    /// One word, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Refuse => "refuse",
            Self::Challenge => "challenge",
            Self::Pass => "pass",
            Self::Replace => "replace",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }

    /// Whether it says no to a device: what a version that went wrong says more often.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Refuse | Self::Reject)
    }
}

/// The last bucket holds what takes 16 seconds and more.
const BUCKETS: usize = 26;

/// Counts of times, in powers of two of a microsecond.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(crate) fn note(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bits = usize::try_from(u64::BITS - us.leading_zeros()).unwrap_or(usize::MAX);
        if let Some(bucket) = self.buckets.get(bits.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn times(&self) -> Times {
        Times {
            buckets: std::array::from_fn(|index| {
                self.buckets.get(index).map_or(0, |bucket| bucket.load(Ordering::Relaxed))
            }),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }
}

/// How long things took: bucket `i` counts those below `2^i` microseconds that are in no bucket
/// before it; the last one counts all the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The counts.
    pub buckets: [u64; BUCKETS],
    /// All of them together.
    pub sum: Duration,
}

impl Times {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time that `share` (0 to 1) of them did not exceed, as exact as the buckets are.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a rank need not be exact")]
        let rank = self.count() as f64 * share;
        let mut seen = 0.0;
        for (bits, &count) in (0_u32..).zip(&self.buckets) {
            #[expect(clippy::cast_precision_loss, reason = "a rank need not be exact")]
            let count = count as f64;
            seen += count;
            if seen >= rank && count > 0.0 {
                return Duration::from_micros(1 << bits);
            }
        }
        Duration::ZERO
    }
}

/// What is counted while a version serves.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    answers: [AtomicU64; AnswerKind::ALL.len()],
    faults: [AtomicU64; FaultKind::ALL.len()],
    latency: Histogram,
    pub(crate) queue_wait: Histogram,
    busy_ns: AtomicU64,
    pub(crate) instance_starts: AtomicU64,
    pub(crate) instances_recycled: AtomicU64,
    pub(crate) memory_bytes: AtomicUsize,
    pub(crate) http_requests: AtomicU64,
    pub(crate) http_refused: AtomicU64,
    pub(crate) http_failed: AtomicU64,
}

impl Statistics {
    pub(crate) fn note(&self, time: Duration, result: Result<AnswerKind, &CallError>) {
        self.latency.note(time);
        match result {
            Ok(kind) => {
                if let Some(count) = self.answers.get(kind as usize) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => self.note_unasked(error),
        }
    }

    /// A call that did not begin: it has no time, and would make the others look short.
    pub(crate) fn note_unasked(&self, error: &CallError) {
        if let Some(count) = self.faults.get(error.kind() as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn note_busy(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.busy_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What a decision about a new version is made from.
    pub(crate) fn tally(&self) -> Tally {
        let of = |is: fn(FaultKind) -> bool| -> u64 {
            let kinds = FaultKind::ALL.iter().zip(&self.faults);
            kinds.filter(|(kind, _)| is(**kind)).map(|(_, n)| n.load(Ordering::Relaxed)).sum()
        };
        let answers: u64 = self.answers.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let faults = of(FaultKind::is_the_guests);
        Tally { calls: answers + faults, faults, violations: of(FaultKind::is_violation) }
    }

    pub(crate) fn snapshot(&self, log_lines_dropped: u64) -> StatisticsSnapshot {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StatisticsSnapshot {
            answers: AnswerKind::ALL
                .iter()
                .zip(&self.answers)
                .map(|(kind, count)| (*kind, load(count)))
                .collect(),
            faults: FaultKind::ALL
                .iter()
                .zip(&self.faults)
                .map(|(kind, count)| (*kind, load(count)))
                .collect(),
            latency: self.latency.times(),
            queue_wait: self.queue_wait.times(),
            busy: Duration::from_nanos(load(&self.busy_ns)),
            instance_starts: load(&self.instance_starts),
            instances_recycled: load(&self.instances_recycled),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            log_lines_dropped,
            http_requests: load(&self.http_requests),
            http_refused: load(&self.http_refused),
            http_failed: load(&self.http_failed),
        }
    }
}

/// Calls, and those among them that speak against a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that came to an end.
    pub calls: u64,
    /// Calls in which the guest did what it must not, or reported that it could not.
    pub faults: u64,
    /// Those among them in which the guest did what it must not.
    pub violations: u64,
}

impl Tally {
    /// What came since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            faults: self.faults.saturating_sub(earlier.faults),
            violations: self.violations.saturating_sub(earlier.violations),
        }
    }
}

/// What a version did until now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsSnapshot {
    /// Answers by kind.
    pub answers: Vec<(AnswerKind, u64)>,
    /// Calls without an answer, by kind.
    pub faults: Vec<(FaultKind, u64)>,
    /// Time of the calls, waiting and instance starts included.
    pub latency: Times,
    /// Time of those that had to wait for an instance.
    pub queue_wait: Times,
    /// Time for which guests computed.
    pub busy: Duration,
    /// Instances that were started.
    pub instance_starts: u64,
    /// Warm instances that were thrown away: they had served their calls, or grown.
    pub instances_recycled: u64,
    /// Linear memory of the instances that there are.
    pub memory_bytes: usize,
    /// Log lines that were dropped.
    pub log_lines_dropped: u64,
    /// Requests over HTTP that the guest asked for.
    pub http_requests: u64,
    /// Those that the gateway did not make, or whose response was over a limit.
    pub http_refused: u64,
    /// Those that got no whole response.
    pub http_failed: u64,
}

impl StatisticsSnapshot {
    /// Calls that began and came to an end.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.latency.count()
    }

    /// Those that gave no answer.
    #[must_use]
    pub fn fault_count(&self) -> u64 {
        self.faults.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_powers_of_two() {
        let histogram = Histogram::default();
        for us in [0, 1, 3, 1000, u64::MAX / 2000] {
            histogram.note(Duration::from_micros(us));
        }
        let times = histogram.times();
        assert_eq!(times.count(), 5);
        assert_eq!((times.buckets[0], times.buckets[1], times.buckets[2]), (1, 1, 1));
        assert_eq!((times.buckets[10], times.buckets[25]), (1, 1));
        assert_eq!(times.quantile(0.5), Duration::from_micros(4));
        assert_eq!(times.quantile(0.8), Duration::from_micros(1024));
    }

    #[test]
    fn what_is_not_the_guests_fault_does_not_count_against_it() {
        let statistics = Statistics::default();
        statistics.note(Duration::ZERO, Ok(AnswerKind::Refuse));
        statistics.note(Duration::ZERO, Ok(AnswerKind::Admit));
        statistics.note(Duration::ZERO, Err(&CallError::Overloaded(3, Duration::ZERO)));
        statistics.note(Duration::ZERO, Err(&CallError::Reported(String::new())));
        let trap = CallError::Guest(crate::call::GuestFault::Trapped(String::new()));
        statistics.note(Duration::ZERO, Err(&trap));
        assert_eq!(statistics.tally(), Tally { calls: 4, faults: 2, violations: 1 });
        assert_eq!(statistics.snapshot(0).fault_count(), 3);
    }

    #[test]
    fn calls_that_did_not_begin_are_counted_without_a_time() {
        let statistics = Statistics::default();
        statistics.note_unasked(&CallError::Unavailable(Duration::from_secs(1)));
        let snapshot = statistics.snapshot(0);
        assert_eq!((snapshot.latency.count(), snapshot.fault_count()), (0, 1));
    }
}
