//! How a new version takes over: it answers a few devices first (canary), or it is asked beside the
//! old one and its answers are compared only (shadow). A canary that does worse than the old
//! version is taken back by itself.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::statistics::Tally;
use crate::version::Version;

/// A share of devices or calls, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    /// So many in a million, at most all of them.
    #[must_use]
    pub fn parts_per_million(parts: u32) -> Self {
        Self(parts.min(Self::ALL.0))
    }

    fn holds(self, hash: u64) -> bool {
        hash % u64::from(Self::ALL.0) < u64::from(self.0)
    }
}

/// How a version takes over from the one before it: at once, where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutPolicy {
    /// The share of devices that it answers first.
    pub canary: Option<Share>,
    /// Good calls after which it answers all of them.
    pub canary_calls: u64,
    /// Devices that it answers at most before that.
    pub canary_devices_max: usize,
    /// The share of devices whose questions it is asked too, before it answers anybody.
    pub shadow: Option<Share>,
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self { canary: None, canary_calls: 1_000, canary_devices_max: 50, shadow: None }
    }
}

impl RolloutPolicy {
    /// Where a new version begins; `None` where it takes over at once.
    #[must_use]
    pub const fn first_stage(&self) -> Option<Stage> {
        match (self.shadow, self.canary) {
            (Some(_), _) => Some(Stage::Shadow),
            (None, Some(_)) => Some(Stage::Canary),
            (None, None) => None,
        }
    }
}

/// How far a new version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is asked, and its answers are compared.
    Shadow,
    /// It answers some devices.
    Canary,
}

impl Stage {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

/// A new version on its way.
#[derive(Debug)]
pub(crate) struct Rollout {
    pub(crate) candidate: Arc<Version>,
    pub(crate) stage: Stage,
    policy: RolloutPolicy,
    /// What the old version had done when this began.
    live_before: Tally,
    /// Devices that the candidate answered.
    devices: Mutex<HashSet<u64>>,
    pub(crate) compared: AtomicU64,
    pub(crate) differences: AtomicU64,
    pub(crate) skipped: AtomicU64,
}

/// What becomes of a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Promote,
    RollBack(String),
}

impl Rollout {
    pub(crate) fn new(candidate: Arc<Version>, stage: Stage, live: &Version) -> Self {
        Self {
            policy: candidate.rollout,
            candidate,
            stage,
            live_before: live.counted().tally(),
            devices: Mutex::default(),
            compared: AtomicU64::new(0),
            differences: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// Whether the candidate is asked for this device: the same devices each time, other ones for
    /// another version.
    pub(crate) fn is_for(&self, device: u64) -> bool {
        let share = match self.stage {
            Stage::Shadow => self.policy.shadow,
            Stage::Canary => self.policy.canary,
        };
        // Promoted from shadow by hand without a canary's share: everybody's questions.
        if !share.unwrap_or(Share::ALL).holds(hash(&(device, self.candidate.digest()))) {
            return false;
        }
        if self.stage == Stage::Shadow {
            return true;
        }
        let mut devices = self.devices.lock();
        if devices.contains(&device) {
            return true;
        }
        let has_room = devices.len() < self.policy.canary_devices_max;
        if has_room {
            devices.insert(device);
        }
        has_room
    }

    pub(crate) fn device_count(&self) -> usize {
        self.devices.lock().len()
    }

    pub(crate) fn count_compared(&self, is_different: bool) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        self.differences.fetch_add(u64::from(is_different), Ordering::Relaxed);
    }

    /// Whether it is time to decide, by what both versions did.
    pub(crate) fn decision(&self, live: &Version) -> Option<Decision> {
        let live = live.counted().tally();
        let candidate = self.candidate.counted().tally();
        decide(self.stage, &self.policy, live, live.since(self.live_before), candidate)
    }
}

/// `ever` is what the live version did since it was loaded, `meanwhile` since the rollout began.
fn decide(
    stage: Stage,
    policy: &RolloutPolicy,
    ever: Tally,
    meanwhile: Tally,
    candidate: Tally,
) -> Option<Decision> {
    let Tally { calls, faults, refusals } = candidate;
    let expected = rate(ever.faults, ever.calls).max(rate(meanwhile.faults, meanwhile.calls));
    if faults > 0 && is_surprising(faults, calls, expected, FAULTS_CHANCE) {
        return Some(Decision::RollBack(format!(
            "{faults} of {calls} calls failed, of the version before it {} of {}",
            ever.faults, ever.calls
        )));
    }
    // One more refusal than there were: with few calls of the old version nothing is surprising.
    let expected = rate(meanwhile.refusals + 1, meanwhile.calls + 2);
    if stage == Stage::Canary
        && refusals >= REFUSALS_MIN
        && is_surprising(refusals, calls, expected, REFUSALS_CHANCE)
    {
        return Some(Decision::RollBack(format!(
            "it refused {refusals} of {calls} calls, the version before it meanwhile {} of {}",
            meanwhile.refusals, meanwhile.calls
        )));
    }
    let is_good = stage == Stage::Canary && calls.saturating_sub(faults) >= policy.canary_calls;
    is_good.then_some(Decision::Promote)
}

#[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
fn rate(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// Whether so many of `calls` would happen by less than `chance` where each happens with `rate`: the
/// upper tail of the binomial distribution.
#[expect(clippy::cast_precision_loss, reason = "a probability need not be exact")]
fn is_surprising(count: u64, calls: u64, rate: f64, chance: f64) -> bool {
    let (n, k) = (calls as f64, count as f64);
    let mean = n * rate;
    if k <= mean {
        return false;
    }
    if mean > NORMAL_MEAN {
        // Here the distribution is as good as normal; 3.1 deviations are one in a thousand.
        return k - 0.5 - mean > 3.1 * (mean * (1.0 - rate)).sqrt();
    }
    // P(fewer than count), term by term; the terms vanish soon, as the mean is small.
    let mut term = (1.0 - rate).powf(n);
    let mut below = 0.0;
    for i in 0..count.min(TERMS_MAX) {
        below += term;
        term *= (n - i as f64) / (i as f64 + 1.0) * (rate / (1.0 - rate));
    }
    1.0 - below < chance
}

/// A hash that is the same for as long as the process runs.
pub(crate) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How improbable the faults of a canary have to be for a version as good as the old one.
const FAULTS_CHANCE: f64 = 0.01;
/// The same for refusals, which depend on the devices that happen to ask.
const REFUSALS_CHANCE: f64 = 0.001;
const REFUSALS_MIN: u64 = 5;
const NORMAL_MEAN: f64 = 50.0;
const TERMS_MAX: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(calls: u64, faults: u64, refusals: u64) -> Tally {
        Tally { calls, faults, refusals }
    }

    fn canary(live: Tally, candidate: Tally) -> Option<Decision> {
        decide(Stage::Canary, &RolloutPolicy::default(), live, live, candidate)
    }

    #[test]
    fn the_first_fault_where_there_were_none_is_enough() {
        let decision = canary(tally(1_000, 0, 0), tally(30, 1, 0));
        assert!(matches!(decision, Some(Decision::RollBack(why)) if why.contains("1 of 30")));
        assert!(canary(tally(0, 0, 0), tally(1, 1, 0)).is_some());
    }

    #[test]
    fn faults_that_the_old_version_has_as_well_are_no_reason() {
        assert_eq!(canary(tally(1_000, 50, 0), tally(100, 5, 0)), None);
        assert_eq!(canary(tally(100_000, 5_000, 0), tally(900, 50, 0)), None);
        assert!(canary(tally(100_000, 5_000, 0), tally(900, 90, 0)).is_some());
        assert!(canary(tally(1_000, 50, 0), tally(100, 30, 0)).is_some());
    }

    #[test]
    fn more_refusals_than_before_take_it_back() {
        assert_eq!(canary(tally(1_000, 0, 100), tally(100, 0, 12)), None);
        assert!(canary(tally(1_000, 0, 100), tally(100, 0, 40)).is_some());
        // The old version was hardly asked meanwhile.
        assert_eq!(canary(tally(1, 0, 0), tally(6, 0, 3)), None);
    }

    #[test]
    fn good_calls_promote_it() {
        assert_eq!(canary(tally(10, 0, 0), tally(999, 0, 0)), None);
        assert_eq!(canary(tally(10, 0, 0), tally(1_000, 0, 0)), Some(Decision::Promote));
        let shadow = decide(
            Stage::Shadow,
            &RolloutPolicy::default(),
            tally(10, 0, 0),
            tally(10, 0, 0),
            tally(5_000, 0, 0),
        );
        assert_eq!(shadow, None, "a shadow is promoted by hand");
    }

    #[test]
    fn a_share_is_of_devices() {
        let five = Share::parts_per_million(50_000);
        let held = (0..100_000_u64).filter(|device| five.holds(hash(device))).count();
        assert!((4_500..5_500).contains(&held), "{held}");
        assert!((0..1_000_u64).all(|device| Share::ALL.holds(hash(&device))));
    }
}
