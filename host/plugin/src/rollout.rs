//! How a new version takes over: it answers a few devices first (canary), or it is asked beside the
//! old one and its answers are compared only (shadow). A canary that does worse than the old
//! version is taken back by itself.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::call::CallError;
use crate::statistics::Tally;
use crate::version::Version;

mod chance;
mod devices;

use chance::of_so_many;
use devices::{Places, Refusals};

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
    /// Devices that it answers at a time at most before that.
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
    /// Answers of the candidate.
    answers: AtomicU64,
    /// Calls in which it did what it must not, where the old version answered.
    violations: AtomicU64,
    /// Calls without an answer, of its own or by what is around it, where the old version answered.
    failures: AtomicU64,
    devices: Mutex<Devices>,
    pub(crate) compared: AtomicU64,
    pub(crate) differences: AtomicU64,
    pub(crate) skipped: AtomicU64,
    /// Whether it was told that it did well.
    is_told: AtomicBool,
}

#[derive(Debug, Default)]
struct Devices {
    /// Devices that the candidate answers.
    places: Places,
    of_candidate: Refusals,
    of_live: Refusals,
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
            answers: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            devices: Mutex::default(),
            compared: AtomicU64::new(0),
            differences: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
        }
    }

    /// Whether the candidate is asked for a device that is known by this: the same devices each
    /// time, other ones for another version.
    pub(crate) fn is_for(&self, known_as: u64) -> bool {
        let share = match self.stage {
            Stage::Shadow => self.policy.shadow,
            Stage::Canary => self.policy.canary,
        };
        // Promoted from shadow by hand without a canary's share: everybody's questions.
        if !share.unwrap_or(Share::ALL).holds(hash(&(known_as, self.candidate.digest()))) {
            return false;
        }
        let max = self.policy.canary_devices_max;
        self.stage == Stage::Shadow
            || self.devices.lock().places.admit(known_as, max, Instant::now())
    }

    pub(crate) fn device_count(&self) -> usize {
        self.devices.lock().places.count()
    }

    pub(crate) fn count_compared(&self, is_different: bool) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        self.differences.fetch_add(u64::from(is_different), Ordering::Relaxed);
    }

    /// The candidate answered.
    pub(crate) fn note_answer(&self, device: u64, is_refusal: bool) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if self.stage == Stage::Canary {
            self.devices.lock().of_candidate.note(device, is_refusal);
        }
    }

    /// The candidate gave no answer where the old version gave one. Where both fail, it is the
    /// message, or what is around them.
    pub(crate) fn note_fault(&self, error: &CallError) {
        let faults = if error.is_violation() { &self.violations } else { &self.failures };
        faults.fetch_add(1, Ordering::Relaxed);
    }

    /// The old version answered a device that is not the candidate's.
    pub(crate) fn note_live(&self, device: u64, is_refusal: bool) {
        if self.stage == Stage::Canary {
            self.devices.lock().of_live.note(device, is_refusal);
        }
    }

    /// Whether it was not told before that it did well; from now on it was.
    pub(crate) fn is_told_first(&self) -> bool {
        !self.is_told.load(Ordering::Relaxed) && !self.is_told.swap(true, Ordering::Relaxed)
    }

    /// Whether it is time to decide, by what both versions did.
    pub(crate) fn decision(&self, live: &Version) -> Option<Decision> {
        let ever = live.counted().tally();
        let (candidate_refusals, live_refusals) = {
            let devices = self.devices.lock();
            (devices.of_candidate.counts(), devices.of_live.counts())
        };
        decide(&Seen {
            is_canary: self.stage == Stage::Canary,
            canary_calls: self.policy.canary_calls,
            answers: self.answers.load(Ordering::Relaxed),
            violations: self.violations.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            ever,
            meanwhile: ever.since(self.live_before),
            candidate_refusals,
            live_refusals,
        })
    }
}

/// What both versions did.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    is_canary: bool,
    canary_calls: u64,
    answers: u64,
    violations: u64,
    failures: u64,
    /// What the live version did since it was loaded.
    ever: Tally,
    /// What it did since the rollout began.
    meanwhile: Tally,
    /// Devices that the versions answered, and those among them that were refused.
    candidate_refusals: (u64, u64),
    live_refusals: (u64, u64),
}

fn decide(seen: &Seen) -> Option<Decision> {
    let Seen { answers, violations, failures, ever, meanwhile, .. } = *seen;
    let faults = violations + failures;
    let calls = answers + faults;
    let is_more = rate(meanwhile.faults, meanwhile.calls) > rate(ever.faults, ever.calls);
    let other = if is_more { meanwhile } else { ever };
    // What a guest must not do it does by itself. A service that does not answer says less.
    let is_new = violations > 0 && ever.violations == 0;
    if is_new || faults > 0 && of_so_many(faults, calls, other.faults, other.calls) < FAULTS_CHANCE
    {
        return Some(Decision::RollBack(format!(
            "{faults} of {calls} calls failed that the version before it answers; of its own calls {} of {} failed",
            ever.faults, ever.calls
        )));
    }
    let ((asked, refused), (others, others_refused)) =
        (seen.candidate_refusals, seen.live_refusals);
    if seen.is_canary
        && refused >= REFUSED_DEVICES_MIN
        && of_so_many(refused, asked, others_refused, others) < REFUSALS_CHANCE
    {
        return Some(Decision::RollBack(format!(
            "it refused {refused} of {asked} devices, the version before it meanwhile {others_refused} of {others}"
        )));
    }
    (seen.is_canary && answers >= seen.canary_calls).then_some(Decision::Promote)
}

#[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
fn rate(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// A hash that is the same for as long as the process runs.
pub(crate) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How improbable the faults of a canary have to be for a version as good as the old one. It is looked
/// at after every call, and each look is another chance to be wrong: all of them together take back
/// less than one good version in a hundred.
const FAULTS_CHANCE: f64 = 0.000_2;
/// The same for devices that are refused.
const REFUSALS_CHANCE: f64 = 0.000_5;
/// Fewer devices may have been turned away for a reason of their own.
const REFUSED_DEVICES_MIN: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(calls: u64, faults: u64, violations: u64) -> Tally {
        Tally { calls, faults, violations }
    }

    /// A canary beside a live version that did this.
    fn beside(live: Tally) -> Seen {
        Seen {
            is_canary: true,
            canary_calls: 1_000,
            ever: live,
            meanwhile: live,
            ..Seen::default()
        }
    }

    fn is_taken_back(seen: &Seen) -> bool {
        matches!(decide(seen), Some(Decision::RollBack(_)))
    }

    #[test]
    fn the_first_trap_where_there_were_none_is_enough() {
        let seen = Seen { answers: 29, violations: 1, ..beside(tally(1_000, 0, 0)) };
        let decision = decide(&seen);
        assert!(matches!(decision, Some(Decision::RollBack(why)) if why.contains("1 of 30")));
        assert!(is_taken_back(&Seen { violations: 1, ..beside(Tally::default()) }));
        // One that reports an error may have met a service that was away.
        assert!(!is_taken_back(&Seen { failures: 1, ..beside(Tally::default()) }));
        assert!(is_taken_back(&Seen { failures: 3, ..beside(tally(1_000, 0, 0)) }));
    }

    #[test]
    fn faults_that_the_old_version_has_as_well_are_no_reason() {
        let faults =
            |failures, answers, live| is_taken_back(&Seen { failures, answers, ..beside(live) });
        assert!(!faults(5, 95, tally(1_000, 50, 0)));
        assert!(!faults(50, 850, tally(100_000, 5_000, 0)));
        assert!(faults(90, 810, tally(100_000, 5_000, 0)));
        assert!(faults(30, 70, tally(1_000, 50, 0)));
    }

    #[test]
    fn more_devices_refused_than_before_take_it_back() {
        let refused = |candidate, live| {
            let seen = Seen {
                candidate_refusals: candidate,
                live_refusals: live,
                ..beside(tally(1_000, 0, 0))
            };
            is_taken_back(&seen)
        };
        assert!(!refused((50, 7), (1_000, 100)));
        assert!(refused((50, 20), (1_000, 100)));
        assert!(refused((7, 7), (7, 0)));
        // The old version was hardly asked meanwhile.
        assert!(!refused((6, 6), (1, 0)));
        assert!(!refused((1, 1), (10_000, 0)), "one device is no reason");
    }

    #[test]
    fn good_calls_promote_it() {
        let live = tally(10, 0, 0);
        assert_eq!(decide(&Seen { answers: 999, ..beside(live) }), None);
        assert_eq!(decide(&Seen { answers: 1_000, ..beside(live) }), Some(Decision::Promote));
        let shadow = Seen { answers: 5_000, is_canary: false, ..beside(live) };
        assert_eq!(decide(&shadow), None, "a shadow is promoted by hand");
    }

    /// Numbers that look like chance and are the same each time (splitmix64).
    struct Chance(u64);

    impl Chance {
        fn is_less_than(&mut self, parts_per_million: u64) -> bool {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % 1_000_000 < parts_per_million
        }
    }

    /// Whether a canary that gets every twentieth call is taken back before it is promoted, with
    /// what it did. Both versions fail by chance, so often in a million calls.
    fn run(
        chance: &mut Chance,
        (live, candidate): (u64, u64),
        history: u64,
        are_traps: bool,
    ) -> (bool, u64) {
        let mut seen = beside(Tally::default());
        let call = |tally: &mut Tally, is_fault: bool| {
            tally.calls += 1;
            tally.faults += u64::from(is_fault);
            tally.violations += u64::from(is_fault && are_traps);
        };
        for _ in 0..history {
            call(&mut seen.ever, chance.is_less_than(live));
        }
        seen.meanwhile = Tally::default();
        loop {
            for _ in 0..19 {
                let is_fault = chance.is_less_than(live);
                call(&mut seen.ever, is_fault);
                call(&mut seen.meanwhile, is_fault);
            }
            if !chance.is_less_than(candidate) {
                seen.answers += 1;
            } else {
                // The old version is asked in its place.
                let is_fault = chance.is_less_than(live);
                call(&mut seen.ever, is_fault);
                call(&mut seen.meanwhile, is_fault);
                let charged = if are_traps { &mut seen.violations } else { &mut seen.failures };
                *charged += u64::from(!is_fault);
            }
            let calls = seen.answers + seen.violations + seen.failures;
            match decide(&seen) {
                Some(Decision::RollBack(_)) => return (true, calls),
                Some(Decision::Promote) => return (false, calls),
                None => {}
            }
        }
    }

    const RUNS: usize = 1_000;

    /// Runs that end with a roll-back.
    fn taken_back(rates: (u64, u64), history: u64, are_traps: bool) -> usize {
        let mut chance = Chance(rates.0 ^ history);
        (0..RUNS).filter(|_| run(&mut chance, rates, history, are_traps).0).count()
    }

    #[test]
    fn a_version_as_good_as_the_one_before_it_is_hardly_ever_taken_back() {
        for rate in [0, 1_000, 10_000, 50_000] {
            for history in [0, 1_000] {
                let count = taken_back((rate, rate), history, false);
                assert!(count * 100 < RUNS, "{rate} in a million: {count} of {RUNS}");
            }
            // Traps that come by chance have to have been seen.
            let count = taken_back((rate, rate), 10_000, true);
            assert!(count * 100 < RUNS, "{rate} in a million trap: {count} of {RUNS}");
        }
    }

    #[test]
    fn a_version_that_traps_where_the_old_one_does_not_is_taken_back_soon() {
        let mut chance = Chance(7);
        for history in [0, 1_000] {
            for _ in 0..RUNS {
                // At most fifty devices ask it until it is promoted or taken back.
                let (is_taken_back, calls) = run(&mut chance, (0, 20_000), history, true);
                assert!(is_taken_back && calls < 1_000, "{calls}");
            }
        }
        let count = taken_back((0, 20_000), 0, false);
        assert_eq!(count, RUNS, "what fails in another way as well");
    }

    #[test]
    fn a_share_is_of_devices() {
        let five = Share::parts_per_million(50_000);
        let held = (0..100_000_u64).filter(|device| five.holds(hash(device))).count();
        assert!((4_500..5_500).contains(&held), "{held}");
        assert!((0..1_000_u64).all(|device| Share::ALL.holds(hash(&device))));
    }
}
