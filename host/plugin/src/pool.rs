//! The instances of one version and role: those that may exist at a time, those that rest, and
//! the calls that wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::call::CallError;
use crate::instance::Instance;
use crate::limits::{InstancePolicy, Limits};
use crate::statistics::Statistics;

/// Calls that the moving average is about.
const AVERAGED: u64 = 8;
/// Resting instances among which one of this thread is looked for.
const LOOKED_AT_MAX: usize = 16;

pub(crate) struct Pool {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_calls_max: usize,
    /// What a call takes, its waiting aside: a moving average in microseconds.
    call_us: AtomicU64,
    calls_max: u32,
    memory_bytes_mark: usize,
    memory_bytes_max: usize,
    idle: Mutex<Vec<Instance>>,
    instances_max: usize,
}

impl Pool {
    pub(crate) fn new(policy: InstancePolicy, limits: &Limits) -> Self {
        let (instances, calls_max, mark) = match policy {
            InstancePolicy::Fresh => (limits.concurrent_calls_max, 1, usize::MAX),
            InstancePolicy::Warm { instances, calls, memory_bytes_mark } => {
                let mark = memory_bytes_mark.unwrap_or(limits.memory_bytes_max / 4 * 3);
                (instances.max(1), calls.max(1), mark)
            }
        };
        Self {
            permits: Arc::new(Semaphore::new(instances)),
            waiting: AtomicUsize::new(0),
            waiting_calls_max: limits.waiting_calls_max,
            call_us: AtomicU64::new(0),
            calls_max,
            memory_bytes_mark: mark,
            memory_bytes_max: limits.memory_bytes_max,
            idle: Mutex::new(Vec::new()),
            instances_max: instances,
        }
    }

    /// Instances that are kept warm: none where each call has its own.
    pub(crate) const fn warm_instances(&self) -> usize {
        if self.calls_max > 1 { self.instances_max } else { 0 }
    }

    /// A place for one call. Waiting for it is bounded by the call's deadline, and the number of
    /// those that wait by the plugin's limit.
    pub(crate) async fn acquire(
        &self,
        deadline: Duration,
        statistics: &Statistics,
    ) -> Result<OwnedSemaphorePermit, CallError> {
        if let Some(permit) = self.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting::new(&self.waiting);
        let expected = self.expected_wait(waiting.others);
        // The estimate is rough: only what is clearly in vain is not waited for.
        if waiting.others >= self.waiting_calls_max || expected > deadline.saturating_mul(3) / 2 {
            // Nobody waits longer than the deadline, so the queue is empty then, however slow calls are now.
            return Err(CallError::Overloaded(waiting.others, expected.min(deadline)));
        }
        let begin = Instant::now();
        let permit = timeout(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        statistics.queue_wait.note(begin.elapsed());
        match permit {
            Ok(permit) => permit.map_err(|closed| CallError::Engine(closed.to_string())),
            Err(_) => Err(CallError::NoInstance(deadline)),
        }
    }

    /// How long a call waits behind `others`.
    fn expected_wait(&self, others: usize) -> Duration {
        let rounds = others.div_ceil(self.instances_max.max(1));
        let rounds = u64::try_from(rounds).unwrap_or(u64::MAX);
        Duration::from_micros(self.call_us.load(Ordering::Relaxed).saturating_mul(rounds))
    }

    /// Notes what a call took, its waiting aside.
    pub(crate) fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX) / AVERAGED;
        let before = self.call_us.load(Ordering::Relaxed);
        // Two at a time may lose one of their times, which the average does not notice.
        self.call_us.store(before - before / AVERAGED + us, Ordering::Relaxed);
    }

    /// A place if there is one at once.
    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// An instance that rests; one that this thread called last, where there is one: otherwise
    /// the instances' memory wanders between the caches of the cores with every call.
    pub(crate) fn take(&self) -> Option<Instance> {
        let here = Some(std::thread::current().id());
        let mut idle = self.idle.lock();
        let last = idle.len().checked_sub(1)?;
        let back = idle.iter().rev().take(LOOKED_AT_MAX).position(|one| one.thread == here);
        Some(idle.swap_remove(last.saturating_sub(back.unwrap_or(0))))
    }

    /// Keeps an instance that answered, unless it has served its calls or grown beyond the mark. At
    /// most as many rest as there are permits.
    pub(crate) fn give_back(&self, mut instance: Instance, statistics: &Statistics) {
        if instance.calls < self.calls_max
            && instance.memory_bytes()
                <= mark(self.memory_bytes_mark, instance.first_memory_bytes, self.memory_bytes_max)
        {
            instance.thread = Some(std::thread::current().id());
            self.idle.lock().push(instance);
        } else if self.calls_max > 1 {
            statistics.instances_recycled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The mark of an instance that begins with `first_bytes`. One that begins beyond it would be
/// replaced after every call: for it the mark is where three quarters of what it may still take are
/// taken.
const fn mark(mark: usize, first_bytes: usize, memory_bytes_max: usize) -> usize {
    if first_bytes < mark {
        mark
    } else {
        first_bytes.saturating_add(memory_bytes_max.saturating_sub(first_bytes) / 4 * 3)
    }
}

/// Counts a waiting call for as long as it lives, also when its future is dropped.
struct Waiting<'a> {
    counter: &'a AtomicUsize,
    others: usize,
}

impl<'a> Waiting<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        Self { counter, others: counter.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_begins_beyond_the_mark_is_not_replaced_after_every_call() {
        assert_eq!(mark(12, 1, 16), 12);
        assert_eq!(mark(12, 12, 16), 15);
        assert_eq!(mark(1, 4, 16), 13);
        assert_eq!(mark(usize::MAX, 4, 16), usize::MAX);
    }

    #[tokio::test]
    async fn a_call_that_would_wait_far_beyond_its_deadline_does_not_wait() {
        let limits = Limits { concurrent_calls_max: 1, ..Limits::default() };
        let pool = Pool::new(InstancePolicy::Fresh, &limits);
        let statistics = Statistics::default();
        let deadline = Duration::from_millis(100);
        let _held = pool.acquire(deadline, &statistics).await;
        for _ in 0..50 {
            pool.took(Duration::from_millis(60));
        }
        let ask = || pool.acquire(deadline, &statistics);
        let (one, two, three, four) = tokio::join!(ask(), ask(), ask(), ask());
        // Nobody is in front of the first; two are in front of the third.
        for waited in [one, two, three] {
            assert!(matches!(waited, Err(CallError::NoInstance(_))), "{waited:?}");
        }
        let Err(CallError::Overloaded(3, wait)) = four else { panic!("{four:?}") };
        assert_eq!(wait, deadline, "those who wait now have given up by then");
    }

    #[tokio::test]
    async fn waiting_in_vain_is_no_fault_of_the_guest_and_is_counted() {
        let limits = Limits { concurrent_calls_max: 1, ..Limits::default() };
        let pool = Pool::new(InstancePolicy::Fresh, &limits);
        let statistics = Statistics::default();
        let deadline = Duration::from_millis(10);
        let first = pool.acquire(deadline, &statistics).await;
        let second = pool.acquire(deadline, &statistics).await;
        assert!(first.is_ok() && pool.try_acquire().is_none());
        assert!(matches!(&second, Err(error) if !error.kind().is_the_guests()), "{second:?}");
        assert_eq!(statistics.snapshot(0).queue_wait.count(), 1);
    }
}
