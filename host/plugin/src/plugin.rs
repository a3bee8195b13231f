//! A plugin: a name under which versions come and go. Calls that run end on the version that they
//! began with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::bindings::exports::portreeve::plugin::on_connect::Verdict;
use crate::bindings::exports::portreeve::plugin::on_publish::Outcome;
use crate::breaker::{Breaker, BreakerState, Change, Ended};
use crate::budget::{Budget, Held};
use crate::call::CallError;
use crate::host_functions::log::Capture;
use crate::host_functions::state::StateSpace;
use crate::question::{
    Answer, Answered, Ask, Asked, ConnectQuestion, Parse, PublishQuestion, Verify,
};
use crate::rollout::{Decision, Rollout, Stage, hash};
use crate::version::{Role, Version};

/// What a plugin serves.
#[derive(Debug)]
struct Versions {
    live: Arc<Version>,
    rollout: Option<Arc<Rollout>>,
}

/// Where a plugin tells what happens by itself.
#[derive(Debug, Clone)]
pub struct Observer {
    /// Rollouts that came to an end, or are to.
    pub concluded: mpsc::Sender<Concluded>,
    /// Answers of a shadow that differ; those that find no room are counted and dropped.
    pub differences: mpsc::Sender<Difference>,
    /// Bytes of those that wait.
    pub differences_bytes: Budget,
}

/// What came of a rollout by itself.
#[derive(Debug)]
pub struct Concluded {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// The new version.
    pub candidate: Arc<Version>,
    /// What came of it.
    pub conclusion: Conclusion,
}

/// How a rollout ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// It was taken back, at once; why.
    RolledBack(String),
    /// It did well, and goes on until [`Plugin::promote`]: what else changes with it is not known
    /// here.
    Proven,
}

/// Two versions answer differently.
#[derive(Debug)]
pub struct Difference {
    /// When.
    pub at: SystemTime,
    /// The plugin's name.
    pub plugin: String,
    /// The digest of the version that answered.
    pub live_digest: String,
    /// That of the new one.
    pub candidate_digest: String,
    /// What was asked.
    pub asked: Asked,
    /// The answer of the live version, or its error.
    pub live: Result<Answered, String>,
    /// That of the new one.
    pub candidate: Result<Answered, String>,
    _held: Held,
}

/// One call, for somebody who watches.
#[derive(Debug)]
pub struct Traced {
    /// When it ended.
    pub at: SystemTime,
    /// The version's digest.
    pub digest: String,
    /// What was asked.
    pub asked: Asked,
    /// The answer, or the error.
    pub answer: Result<Answered, String>,
    /// What the guest logged meanwhile, whatever the log's level.
    pub log: Vec<String>,
    /// How long it took.
    pub took: Duration,
    _held: Held,
}

/// A new version on its way, as it stands.
#[derive(Debug, Clone)]
pub struct RolloutStatus {
    /// The new version.
    pub candidate: Arc<Version>,
    /// How far it is.
    pub stage: Stage,
    /// Devices that it answered.
    pub devices: usize,
    /// Answers that were compared.
    pub compared: u64,
    /// Those that differed.
    pub differences: u64,
    /// Questions that it was not asked, since all its instances were busy.
    pub skipped: u64,
}

/// A plugin.
pub struct Plugin {
    name: String,
    versions: ArcSwap<Versions>,
    /// Held while versions change, so that a rollout ends once.
    changes: Mutex<()>,
    state: Arc<StateSpace>,
    breaker: Breaker,
    observer: Observer,
    is_traced: AtomicBool,
    tracers: Mutex<Vec<mpsc::Sender<Arc<Traced>>>>,
    traced_bytes: Budget,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Those who may watch one plugin at a time.
const TRACERS_MAX: usize = 8;
/// Bytes of calls that they did not take yet.
const TRACED_BYTES_MAX: usize = 16 << 20;

impl Plugin {
    /// A plugin that serves this version.
    #[must_use]
    pub fn new(live: Arc<Version>, observer: Observer) -> Arc<Self> {
        Arc::new(Self {
            name: live.name().to_owned(),
            state: live.state(),
            breaker: Breaker::new(live.breaker),
            versions: ArcSwap::from_pointee(Versions { live, rollout: None }),
            changes: Mutex::default(),
            observer,
            is_traced: AtomicBool::new(false),
            tracers: Mutex::default(),
            traced_bytes: Budget::of(TRACED_BYTES_MAX),
        })
    }

    /// The name of its file, without `.wasm`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that answers.
    #[must_use]
    pub fn live(&self) -> Arc<Version> {
        Arc::clone(&self.versions.load().live)
    }

    /// The version that is on its way, if one is.
    #[must_use]
    pub fn rollout(&self) -> Option<RolloutStatus> {
        let versions = self.versions.load();
        let rollout = versions.rollout.as_ref()?;
        Some(RolloutStatus {
            candidate: Arc::clone(&rollout.candidate),
            stage: rollout.stage,
            devices: rollout.device_count(),
            compared: rollout.compared.load(Ordering::Relaxed),
            differences: rollout.differences.load(Ordering::Relaxed),
            skipped: rollout.skipped.load(Ordering::Relaxed),
        })
    }

    /// What its versions keep in `state`.
    #[must_use]
    pub fn state(&self) -> Arc<StateSpace> {
        Arc::clone(&self.state)
    }

    /// Whether it is asked at present.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.breaker.state(Instant::now())
    }

    /// Whether its live version exports the role's interface.
    #[must_use]
    pub fn is(&self, role: Role) -> bool {
        self.versions.load().live.is(role)
    }

    /// Whether one more line about this plugin may be written to the log.
    #[must_use]
    pub fn may_log(&self) -> bool {
        self.versions.load().live.may_log()
    }

    /// From now on `version` answers. What was on its way is dropped.
    pub fn publish(&self, version: Arc<Version>) {
        let _changes = self.changes.lock();
        self.state.set_limits(version.limits());
        self.breaker.reset(version.breaker);
        self.versions.store(Arc::new(Versions { live: version, rollout: None }));
    }

    /// Tries `candidate` beside the live version.
    pub fn begin(&self, candidate: Arc<Version>, stage: Stage) {
        let _changes = self.changes.lock();
        let live = self.live();
        let rollout = Some(Arc::new(Rollout::new(candidate, stage, &live)));
        self.versions.store(Arc::new(Versions { live, rollout }));
    }

    /// Drops the version on its way, if it is this one.
    pub fn abort(&self, candidate: &Arc<Version>) -> bool {
        self.end_rollout(candidate, |versions| Arc::clone(&versions.live))
    }

    /// The version on its way answers everybody from now on, if it is this one.
    pub fn promote(&self, candidate: &Arc<Version>) -> bool {
        self.end_rollout(candidate, |_| {
            self.state.set_limits(candidate.limits());
            self.breaker.reset(candidate.breaker);
            Arc::clone(candidate)
        })
    }

    fn end_rollout(
        &self,
        candidate: &Arc<Version>,
        live: impl FnOnce(&Versions) -> Arc<Version>,
    ) -> bool {
        let _changes = self.changes.lock();
        let versions = self.versions.load_full();
        let is_this = |rollout: &Arc<Rollout>| Arc::ptr_eq(&rollout.candidate, candidate);
        let is_on_its_way = versions.rollout.as_ref().is_some_and(is_this);
        if is_on_its_way {
            self.versions.store(Arc::new(Versions { live: live(&versions), rollout: None }));
        }
        is_on_its_way
    }

    /// Every call from now on, until the receiver is dropped; those that find no room are left out.
    /// `None` where there are enough who watch.
    #[must_use]
    pub fn trace(&self, capacity: usize) -> Option<mpsc::Receiver<Arc<Traced>>> {
        let mut tracers = self.tracers.lock();
        tracers.retain(|tracer| !tracer.is_closed());
        if tracers.len() >= TRACERS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        tracers.push(sender);
        self.is_traced.store(true, Ordering::Relaxed);
        Some(receiver)
    }

    /// Asks the verifier who this is.
    ///
    /// # Errors
    /// [`CallError`] when it gave no verdict; the peer is then not let in.
    pub async fn verify(
        self: &Arc<Self>,
        question: impl ConnectQuestion,
    ) -> Result<Verdict, CallError> {
        self.call(Verify(question), None).await
    }

    /// The same, with what the guest wrote to the log meanwhile, less the secrets of its manifest.
    pub async fn verify_logged(
        self: &Arc<Self>,
        question: impl ConnectQuestion,
    ) -> (Result<Verdict, CallError>, Vec<String>) {
        let capture = Capture::quiet();
        let verdict = self.call(Verify(question), Some(&capture)).await;
        (verdict, capture.take())
    }

    /// Asks the parser what this message means.
    ///
    /// # Errors
    /// [`CallError`] when it gave no outcome; the binding's `on_error` then decides.
    pub async fn parse(
        self: &Arc<Self>,
        question: impl PublishQuestion,
    ) -> Result<Outcome, CallError> {
        self.call(Parse(question), None).await
    }

    async fn call<A: Ask>(
        self: &Arc<Self>,
        ask: A,
        capture: Option<&Capture>,
    ) -> Result<A::Answer, CallError> {
        let admitted = self.breaker.admit(Instant::now()).map_err(|wait| {
            let error = CallError::Unavailable(wait);
            self.versions.load().live.counted().note_unasked(&error);
            error
        })?;
        let device = hash(&ask.device());
        let versions = self.versions.load();
        let is_watched = versions.rollout.is_some() || self.is_traced.load(Ordering::Relaxed);
        let (result, is_live) = if is_watched {
            let versions = arc_swap::Guard::into_inner(versions);
            Box::pin(self.watched(versions, ask, device, capture)).await
        } else {
            let live = Arc::clone(&versions.live);
            drop(versions);
            (live.call(ask, capture.cloned()).await, true)
        };
        let ended = match &result {
            // What a version that is tried does, decides about it and not about the plugin.
            _ if !is_live => Ended::Unasked,
            Ok(_) => Ended::Answered,
            Err(error) if error.kind().is_the_guests() => Ended::Failed,
            Err(_) => Ended::Unasked,
        };
        match self.breaker.note(&admitted, ended, || device, Instant::now()) {
            None => {}
            Some(Change::Opened(time)) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(plugin = self.name, ms, "fails too often: not asked for a while");
            }
            Some(Change::Closed) => tracing::info!(plugin = self.name, "works again"),
        }
        result
    }

    /// A call that somebody looks at: a rollout, or a trace. Says whether the live version answered.
    async fn watched<A: Ask>(
        self: &Arc<Self>,
        versions: Arc<Versions>,
        ask: A,
        device: u64,
        capture: Option<&Capture>,
    ) -> (Result<A::Answer, CallError>, bool) {
        let known_as = hash(&ask.known_as());
        let shared = ask.share();
        let live = &versions.live;
        let rollout = versions.rollout.as_ref();
        let its = rollout.filter(|rollout| rollout.is_for(known_as));
        let Some(canary) = its.filter(|rollout| rollout.stage == Stage::Canary) else {
            let result = self.traced(live, shared.clone(), capture).await;
            if let (Some(rollout), Ok(answer)) = (rollout, &result) {
                rollout.note_live(device, answer.kind().is_refusal());
            }
            if let Some(rollout) = its {
                self.shadow(live, rollout, shared, &result);
            }
            return (result, true);
        };
        let error = match self.traced(&canary.candidate, shared.clone(), capture).await {
            Ok(answer) => {
                canary.note_answer(device, answer.kind().is_refusal());
                self.conclude(live, canary);
                return (Ok(answer), false);
            }
            Err(error) => error,
        };
        // The device need not suffer from what the new version does wrong. What the old one cannot
        // answer either is no fault of the new one.
        let instead = self.traced(live, shared, capture).await;
        if instead.is_ok() && error.kind().is_the_guests() {
            canary.note_fault(&error);
            self.conclude(live, canary);
        }
        (instead, true)
    }

    async fn traced<A>(
        &self,
        version: &Arc<Version>,
        ask: A,
        also: Option<&Capture>,
    ) -> Result<A::Answer, CallError>
    where
        A: Ask<Shared = A> + Clone,
    {
        if !self.is_traced.load(Ordering::Relaxed) {
            return version.call(ask, also.cloned()).await;
        }
        let capture = Capture::default();
        let begin = Instant::now();
        let result = version.call(ask.clone(), Some(capture.clone())).await;
        let (took, asked, answer, log) =
            (begin.elapsed(), A::asked(ask), answered(&result), capture.take());
        if let Some(also) = also {
            also.put(&log);
        }
        let bytes = asked.bytes() + bytes(&answer) + log.iter().map(String::len).sum::<usize>();
        // Those who watch are too slow: this one is left out.
        let Some(held) = self.traced_bytes.take(bytes) else { return result };
        let traced = Arc::new(Traced {
            at: SystemTime::now(),
            digest: version.digest().to_owned(),
            asked,
            answer,
            log,
            took,
            _held: held,
        });
        let mut tracers = self.tracers.lock();
        let is_there = |sent| !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)));
        tracers.retain(|tracer| is_there(tracer.try_send(Arc::clone(&traced))));
        if tracers.is_empty() {
            self.is_traced.store(false, Ordering::Relaxed);
        }
        result
    }

    /// Asks the new version beside the old one, in the background, and compares.
    fn shadow<A: Ask<Shared = A> + Clone>(
        self: &Arc<Self>,
        live: &Arc<Version>,
        rollout: &Arc<Rollout>,
        ask: A,
        result: &Result<A::Answer, CallError>,
    ) {
        // The place is taken here: what nobody waits for must not wait itself.
        let is_asked = rollout.candidate.is(A::ROLE)
            && !matches!(result, Err(error) if !error.kind().is_the_guests());
        let permit = is_asked.then(|| rollout.candidate.try_acquire(A::ROLE)).flatten();
        let Some(permit) = permit else {
            rollout.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let expected = answered(result);
        let (plugin, rollout, live) = (Arc::clone(self), Arc::clone(rollout), Arc::clone(live));
        live.clone().in_background(async move {
            let candidate = &rollout.candidate;
            let result = candidate.call_with(permit, Instant::now(), ask.clone(), None).await;
            match &result {
                Ok(answer) => rollout.note_answer(0, answer.kind().is_refusal()),
                Err(error) if !error.kind().is_the_guests() => {
                    rollout.skipped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                // It runs behind everything else: that it is late says little.
                Err(CallError::DeadlineExceeded(_)) => {}
                Err(error) if expected.is_ok() => rollout.note_fault(error),
                Err(_) => {}
            }
            let answer = answered(&result);
            let is_different = answer != expected;
            rollout.count_compared(is_different);
            if is_different {
                plugin.tell_difference(&live, candidate, A::asked(ask), expected, answer);
            }
            plugin.conclude(&live, &rollout);
        });
    }

    fn tell_difference(
        &self,
        live: &Version,
        candidate: &Version,
        asked: Asked,
        expected: Result<Answered, String>,
        answer: Result<Answered, String>,
    ) {
        let bytes = asked.bytes() + bytes(&expected) + bytes(&answer);
        // Samples: where many differ, some of them are enough.
        let Some(held) = self.observer.differences_bytes.take(bytes) else { return };
        let difference = Difference {
            at: SystemTime::now(),
            plugin: self.name.clone(),
            live_digest: live.digest().to_owned(),
            candidate_digest: candidate.digest().to_owned(),
            asked,
            live: expected,
            candidate: answer,
            _held: held,
        };
        let _is_full = self.observer.differences.try_send(difference);
    }

    /// Takes a version back that does badly, and tells of one that did well.
    fn conclude(self: &Arc<Self>, live: &Version, rollout: &Arc<Rollout>) {
        let Some(decision) = rollout.decision(live) else { return };
        let conclusion = match decision {
            Decision::RollBack(why) if self.abort(&rollout.candidate) => {
                Conclusion::RolledBack(why)
            }
            Decision::Promote if rollout.is_told_first() => Conclusion::Proven,
            Decision::RollBack(_) | Decision::Promote => return,
        };
        let candidate = Arc::clone(&rollout.candidate);
        let concluded = Concluded { plugin: Arc::clone(self), candidate, conclusion };
        // There is room: a rollout is told of twice at most, and there are four places for each
        // plugin.
        let _is_full = self.observer.concluded.try_send(concluded);
    }
}

fn answered<T: Answer>(result: &Result<T, CallError>) -> Result<Answered, String> {
    result.as_ref().map(|answer| answer.clone().answered()).map_err(ToString::to_string)
}

fn bytes(answer: &Result<Answered, String>) -> usize {
    answer.as_ref().map_or_else(String::len, Answered::bytes)
}
