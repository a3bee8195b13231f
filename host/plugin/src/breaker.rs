//! The breaker: a plugin that fails again and again is not asked for a while, so that devices get
//! their answer at once and a service behind the plugin can recover. It closes by itself.
//!
//! It opens when most calls of several devices fail. One device whose messages make a parser trap
//! must not stop the others, so it takes faults of [`BreakerPolicy::devices`] devices at least.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When a plugin is not asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Faults within ten seconds; 0 for never.
    pub faults: u32,
    /// Per cent of the calls meanwhile that they have to be.
    pub percent: u32,
    /// Devices that they come from.
    pub devices: usize,
    /// How long it stays open the first time; twice as long each time that the probe fails.
    pub open: Duration,
    /// The longest time.
    pub open_max: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            faults: 20,
            percent: 50,
            devices: 3,
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
        }
    }
}

/// How long faults are remembered.
const WINDOW: Duration = Duration::from_secs(10);
/// Good probes in a row after which it closes.
const GOOD_PROBES: u32 = 3;
/// Devices that are told apart.
const DEVICES_MAX: usize = 1_000;

/// No faults: calls pass without a look.
const QUIET: u8 = 0;
/// There were faults: calls are counted.
const COUNTING: u8 = 1;
/// Open, or half open.
const OPEN: u8 = 2;

/// Whether the plugin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// It is not, for this long.
    Open(Duration),
    /// Single calls try whether it works again.
    HalfOpen,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    mode: AtomicU8,
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    policy: BreakerPolicy,
    window: Instant,
    calls: u32,
    faults: u32,
    devices: Vec<u64>,
    /// Times that it opened without having closed in between.
    openings: u32,
    open_until: Instant,
    is_probing: bool,
    good_probes: u32,
    /// Counted up with each version: what an old one does says nothing about the next.
    generation: u64,
}

/// How a call ended, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The guest answered.
    Answered,
    /// It failed.
    Failed,
    /// It was not asked, or another version was.
    Unasked,
}

/// A call that was let through. A probe that is dropped makes room for the next.
pub(crate) struct Admitted<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    generation: u64,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            let mut inner = self.breaker.inner.lock();
            if inner.generation == self.generation {
                inner.is_probing = false;
            }
        }
    }
}

/// What [`Breaker::note`] changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Opened(Duration),
    Closed,
}

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        let now = Instant::now();
        let inner = Inner {
            policy,
            window: now,
            calls: 0,
            faults: 0,
            devices: Vec::new(),
            openings: 0,
            open_until: now,
            is_probing: false,
            good_probes: 0,
            generation: 0,
        };
        Self { mode: AtomicU8::new(QUIET), generation: AtomicU64::new(0), inner: Mutex::new(inner) }
    }

    /// Closed, with another policy: what the version before it did says nothing about this one.
    pub(crate) fn reset(&self, policy: BreakerPolicy) {
        let mut inner = self.inner.lock();
        inner.policy = policy;
        inner.openings = 0;
        inner.is_probing = false;
        inner.generation = inner.generation.wrapping_add(1);
        self.generation.store(inner.generation, Ordering::Release);
        inner.forget();
        self.mode.store(QUIET, Ordering::Release);
    }

    /// Whether a call may begin; otherwise the time until one may.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admitted<'_>, Duration> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut admitted = Admitted { breaker: self, is_probe: false, generation };
        if self.mode.load(Ordering::Acquire) != OPEN {
            return Ok(admitted);
        }
        let mut inner = self.inner.lock();
        let left = inner.open_until.saturating_duration_since(now);
        if !left.is_zero() || inner.is_probing {
            return Err(left.max(PROBE_WAIT));
        }
        inner.is_probing = true;
        admitted.is_probe = true;
        admitted.generation = inner.generation;
        Ok(admitted)
    }

    /// Notes how a call ended; `device` is told for a fault only.
    pub(crate) fn note(
        &self,
        admitted: &Admitted<'_>,
        ended: Ended,
        device: impl FnOnce() -> u64,
        now: Instant,
    ) -> Option<Change> {
        let is_fault = ended == Ended::Failed;
        let is_quiet = self.mode.load(Ordering::Acquire) == QUIET;
        if ended == Ended::Unasked || is_quiet && !is_fault {
            return None;
        }
        let mut inner = self.inner.lock();
        if inner.generation != admitted.generation {
            return None;
        }
        let mode = self.mode.load(Ordering::Acquire);
        if admitted.is_probe {
            return self.note_probe(&mut inner, is_fault, now);
        }
        // The end of a call that began before it opened.
        if mode == OPEN || inner.policy.faults == 0 {
            return None;
        }
        if now.saturating_duration_since(inner.window) > WINDOW || mode == QUIET {
            inner.forget();
            inner.window = now;
            let next = if is_fault { COUNTING } else { QUIET };
            self.mode.store(next, Ordering::Release);
        }
        inner.calls = inner.calls.saturating_add(1);
        if !is_fault {
            return None;
        }
        inner.faults = inner.faults.saturating_add(1);
        let device = device();
        if inner.devices.len() < DEVICES_MAX && !inner.devices.contains(&device) {
            inner.devices.push(device);
        }
        let policy = inner.policy;
        let opens = inner.faults >= policy.faults
            && inner.devices.len() >= policy.devices
            && u64::from(inner.faults) * 100 >= u64::from(inner.calls) * u64::from(policy.percent);
        opens.then(|| self.open(&mut inner, now))
    }

    fn note_probe(&self, inner: &mut Inner, is_fault: bool, now: Instant) -> Option<Change> {
        if is_fault {
            return Some(self.open(inner, now));
        }
        inner.good_probes += 1;
        if inner.good_probes < GOOD_PROBES {
            return None;
        }
        inner.openings = 0;
        inner.forget();
        self.mode.store(QUIET, Ordering::Release);
        Some(Change::Closed)
    }

    fn open(&self, inner: &mut Inner, now: Instant) -> Change {
        let BreakerPolicy { open, open_max, .. } = inner.policy;
        let time = open.saturating_mul(1 << inner.openings.min(16)).min(open_max.max(open));
        inner.openings = inner.openings.saturating_add(1);
        inner.forget();
        inner.open_until = now + time;
        self.mode.store(OPEN, Ordering::Release);
        Change::Opened(time)
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        if self.mode.load(Ordering::Acquire) != OPEN {
            return BreakerState::Closed;
        }
        let left = self.inner.lock().open_until.saturating_duration_since(now);
        if left.is_zero() { BreakerState::HalfOpen } else { BreakerState::Open(left) }
    }
}

impl Inner {
    fn forget(&mut self) {
        self.calls = 0;
        self.faults = 0;
        self.devices.clear();
        self.good_probes = 0;
    }
}

/// What a caller is told while another one probes.
const PROBE_WAIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        let policy = BreakerPolicy { faults: 4, devices: 2, ..BreakerPolicy::default() };
        (Breaker::new(policy), Instant::now())
    }

    fn call(breaker: &Breaker, is_fault: bool, device: u64, now: Instant) -> Option<Change> {
        let admitted = breaker.admit(now).ok()?;
        let ended = if is_fault { Ended::Failed } else { Ended::Answered };
        breaker.note(&admitted, ended, || device, now)
    }

    #[test]
    fn faults_of_several_devices_open_it_and_good_probes_close_it() {
        let (breaker, mut now) = breaker();
        for device in 0..3 {
            assert_eq!(call(&breaker, true, device, now), None);
        }
        assert_eq!(call(&breaker, true, 3, now), Some(Change::Opened(Duration::from_secs(1))));
        assert!(breaker.admit(now).is_err());
        assert_eq!(breaker.state(now), BreakerState::Open(Duration::from_secs(1)));
        now += Duration::from_secs(1);
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        // A failed probe: twice as long.
        assert_eq!(call(&breaker, true, 3, now), Some(Change::Opened(Duration::from_secs(2))));
        now += Duration::from_secs(2);
        assert_eq!(call(&breaker, false, 3, now), None);
        assert_eq!(call(&breaker, false, 3, now), None);
        assert_eq!(call(&breaker, false, 3, now), Some(Change::Closed));
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn one_probe_at_a_time_and_one_that_is_dropped_makes_room() {
        let (breaker, mut now) = breaker();
        for device in 0..4 {
            call(&breaker, true, device, now);
        }
        now += Duration::from_secs(1);
        let probe = breaker.admit(now);
        assert!(probe.is_ok() && breaker.admit(now).is_err());
        drop(probe);
        assert!(breaker.admit(now).is_ok());
    }

    #[test]
    fn one_device_alone_does_not_open_it() {
        let (breaker, now) = breaker();
        for _ in 0..100 {
            assert_eq!(call(&breaker, true, 7, now), None);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn few_faults_among_many_calls_do_not_open_it() {
        let (breaker, now) = breaker();
        for device in 0..100 {
            assert_eq!(call(&breaker, true, device, now), None, "{device}");
            for _ in 0..3 {
                assert_eq!(call(&breaker, false, device, now), None);
            }
        }
    }

    #[test]
    fn calls_of_a_version_that_was_replaced_do_not_count() {
        let (breaker, now) = breaker();
        let old: Vec<_> = (0..8).map(|_| breaker.admit(now).ok().unwrap()).collect();
        breaker.reset(BreakerPolicy { faults: 4, devices: 2, ..BreakerPolicy::default() });
        for (device, call) in (0..).zip(&old) {
            assert_eq!(breaker.note(call, Ended::Failed, || device, now), None);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_was_not_answered_is_not_a_good_one() {
        let (breaker, mut now) = breaker();
        for device in 0..4 {
            call(&breaker, true, device, now);
        }
        now += Duration::from_secs(1);
        for _ in 0..5 {
            let probe = breaker.admit(now).ok().unwrap();
            assert_eq!(breaker.note(&probe, Ended::Unasked, || 0, now), None);
        }
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
    }

    #[test]
    fn old_faults_are_forgotten() {
        let (breaker, mut now) = breaker();
        for device in 0..20 {
            assert_eq!(call(&breaker, true, device, now), None);
            now += WINDOW / 2;
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }
}
