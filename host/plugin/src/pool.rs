//! The instances of one version and role: those that may exist at a time, those that rest, and
//! the calls that wait for one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::call::CallError;
use crate::instance::Instance;
use crate::limits::{InstancePolicy, Limits};
use crate::statistics::Statistics;

/// Resting instances among which one of this thread is looked for.
const LOOKED_AT_MAX: usize = 16;

pub(crate) struct Pool {
    permits: Semaphore,
    waiting: AtomicUsize,
    waiting_calls_max: usize,
    calls_max: u32,
    memory_bytes_mark: usize,
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
            permits: Semaphore::new(instances),
            waiting: AtomicUsize::new(0),
            waiting_calls_max: limits.waiting_calls_max,
            calls_max,
            memory_bytes_mark: mark,
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
        statistics: &Statistics,
    ) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.others >= self.waiting_calls_max {
            return Err(CallError::Overloaded(waiting.others));
        }
        let begin = Instant::now();
        let permit = self.permits.acquire().await;
        statistics.queue_wait.note(begin.elapsed());
        permit.map_err(|closed| CallError::Engine(closed.to_string()))
    }

    /// A place if there is one at once.
    pub(crate) fn has_room(&self) -> bool {
        self.permits.available_permits() > 0
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
        if instance.calls < self.calls_max && instance.memory_bytes() <= self.memory_bytes_mark {
            instance.thread = Some(std::thread::current().id());
            self.idle.lock().push(instance);
        } else if self.calls_max > 1 {
            statistics.instances_recycled.fetch_add(1, Ordering::Relaxed);
        }
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
