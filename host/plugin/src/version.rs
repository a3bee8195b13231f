//! One version of a plugin: a component with its manifest as they were when it was loaded. It never
//! changes; what a plugin does next is another version.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::background::Stopwatch;
use crate::bindings::exports::portreeve::plugin::on_connect::Verdict;
use crate::bindings::exports::portreeve::plugin::on_publish::Outcome;
use crate::breaker::BreakerPolicy;
use crate::call::CallError;
use crate::capabilities::{Capabilities, HttpPolicy};
use crate::component::{LoadError, Loaded};
use crate::engine::Engine;
use crate::host_functions::http::Client;
use crate::host_functions::log::{Capture, LogLimiter};
use crate::host_functions::state::StateSpace;
use crate::instance::{Instance, PreInstance};
use crate::limits::{InstancePolicy, Limits};
use crate::pool::Pool;
use crate::question::{Answer, Ask, ConnectQuestion, Parse, PublishQuestion, Verify};
use crate::rollout::RolloutPolicy;
use crate::statistics::{Statistics, StatisticsSnapshot};

/// What a plugin's manifest decides; the defaults are those of a plugin without one.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// Given to the guest through `settings`.
    pub settings: BTreeMap<String, String>,
    /// Keys of settings that are secret: their values are masked in traces.
    pub secrets: BTreeSet<String>,
    /// Its bounds.
    pub limits: Limits,
    /// What it may reach.
    pub capabilities: Capabilities,
    /// How its instances live; `None` for the default of each role.
    pub instances: Option<InstancePolicy>,
    /// How it takes over from the version before it.
    pub rollout: RolloutPolicy,
    /// When it is not asked any more.
    pub breaker: BreakerPolicy,
}

/// What a plugin can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who is this?
    Verifier,
    /// What does this mean?
    Parser,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Verifier, Self::Parser];

    /// The interface that it exports.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Verifier => "on-connect",
            Self::Parser => "on-publish",
        }
    }

    /// Its word in the glossary.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verifier => "verifier",
            Self::Parser => "parser",
        }
    }
}

/// What all instances of a version share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) settings: BTreeMap<String, String>,
    /// Texts that no trace shows.
    secrets: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) log: LogLimiter,
    pub(crate) state: Arc<StateSpace>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) http: Option<Arc<Client>>,
    pub(crate) statistics: Statistics,
}

/// What stands for a secret in a trace.
const MASK: &str = "(masked)";
/// A shorter secret would mask half of the words there are.
const SECRET_BYTES_MIN: usize = 4;

impl Shared {
    /// A text for somebody who looks on, less the secrets of the manifest.
    pub(crate) fn masked(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for secret in self.secrets.iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN) {
            if masked.contains(secret.as_str()) {
                masked = masked.replace(secret.as_str(), MASK);
            }
        }
        masked
    }
}

/// A version that was loaded. Calls go to instances that its policy provides.
pub struct Version {
    engine: Engine,
    pre: PreInstance,
    shared: Arc<Shared>,
    verifiers: Pool,
    parsers: Pool,
    digest: String,
    pub(crate) rollout: RolloutPolicy,
    pub(crate) breaker: BreakerPolicy,
    start_up: OnceLock<Duration>,
    /// Whether its last calls computed for long.
    are_long: AtomicBool,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version")
            .field("name", &self.shared.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Version {
    /// Makes a version of a checked component: starts one instance, so that exports of another
    /// shape and a guest that fails at its start are found now. `digest` names it: that of
    /// everything that it was made of.
    ///
    /// # Errors
    /// [`LoadError::Start`] with what the first instance did.
    pub async fn start(
        engine: &Engine,
        name: &str,
        digest: &str,
        loaded: Loaded,
        manifest: Manifest,
    ) -> Result<Arc<Self>, LoadError> {
        let state = Arc::new(StateSpace::new(&manifest.limits));
        Self::start_with(engine, name, digest, loaded, manifest, state).await
    }

    /// The same with the state of the versions before it.
    ///
    /// # Errors
    /// As [`Version::start`].
    pub async fn start_with(
        engine: &Engine,
        name: &str,
        digest: &str,
        loaded: Loaded,
        manifest: Manifest,
        state: Arc<StateSpace>,
    ) -> Result<Arc<Self>, LoadError> {
        let Manifest { settings, secrets, limits, capabilities, instances, rollout, breaker } =
            manifest;
        let http = http_client(capabilities.http).await?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            secrets: secrets.iter().filter_map(|key| settings.get(key)).cloned().collect(),
            settings,
            limits,
            log: LogLimiter::new(limits.log_lines_per_second, limits.log_line_bytes_max),
            state,
            environment: capabilities.environment,
            http,
            statistics: Statistics::default(),
        });
        let verifier_policy = instances.unwrap_or(InstancePolicy::Fresh);
        let parser_policy = instances.unwrap_or_else(InstancePolicy::warm_default);
        let version = Arc::new(Self {
            engine: engine.clone(),
            pre: loaded.pre,
            verifiers: Pool::new(verifier_policy, &limits),
            parsers: Pool::new(parser_policy, &limits),
            shared,
            digest: digest.to_owned(),
            rollout,
            breaker,
            start_up: OnceLock::new(),
            are_long: AtomicBool::new(false),
        });
        let begin = Instant::now();
        for role in Role::ALL {
            if version.is(role) {
                let said = Capture::default();
                let started = version.warm_up(role, &said).await;
                started.map_err(|source| LoadError::Start { source, lines: said.take() })?;
                version.start_up.get_or_init(|| begin.elapsed());
            }
        }
        Ok(version)
    }

    /// Starts the first instances of a role, which rest until they are called where they may: those
    /// that stay warm start now and not under the first calls. `said` takes what they write to their log.
    async fn warm_up(self: &Arc<Self>, role: Role, said: &Capture) -> Result<(), CallError> {
        let deadline = self.shared.limits.deadline;
        for _ in 0..self.pool(role).warm_instances().clamp(1, WARM_UP_MAX) {
            let (version, said) = (Arc::clone(self), said.clone());
            let next = self.engine.background.call(&self.are_long, async move {
                let instance = version.new_instance(role, Some(said)).await?;
                version.pool(role).give_back(instance, &version.shared.statistics);
                Ok::<(), CallError>(())
            });
            match timeout(deadline, next).await {
                Ok(Ok(result)) => result?,
                Ok(Err(error)) => return Err(CallError::Engine(error.to_string())),
                Err(_) => return Err(CallError::DeadlineExceeded(deadline)),
            }
        }
        Ok(())
    }

    /// Whether one more line about this version may be written to the log: what the gateway has
    /// to say of its faults counts against the plugin's own rate.
    #[must_use]
    pub fn may_log(&self) -> bool {
        self.shared.log.admit_line()
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it was started with as its digest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether it exports the role's interface.
    #[must_use]
    pub const fn is(&self, role: Role) -> bool {
        match role {
            Role::Verifier => self.pre.verifier.is_some(),
            Role::Parser => self.pre.parser.is_some(),
        }
    }

    /// How long its first instance took to start.
    #[must_use]
    pub fn start_up(&self) -> Duration {
        self.start_up.get().copied().unwrap_or_default()
    }

    /// Whether its calls may wait for somebody else: it is granted HTTP.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.shared.http.is_some()
    }

    /// Its bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// What it did until now.
    #[must_use]
    pub fn statistics(&self) -> StatisticsSnapshot {
        self.shared.statistics.snapshot(self.shared.log.dropped())
    }

    pub(crate) fn state(&self) -> Arc<StateSpace> {
        Arc::clone(&self.shared.state)
    }

    /// Runs work of a guest's that nobody waits for.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.engine.background.detach(work);
    }

    pub(crate) fn counted(&self) -> &Statistics {
        &self.shared.statistics
    }

    /// A place for one call, if there is one at once.
    pub(crate) fn try_acquire(&self, role: Role) -> Option<OwnedSemaphorePermit> {
        self.pool(role).try_acquire()
    }

    /// Asks the verifier who this is.
    ///
    /// # Errors
    /// [`CallError`] when it gave no verdict.
    pub async fn verify(
        self: &Arc<Self>,
        question: impl ConnectQuestion,
    ) -> Result<Verdict, CallError> {
        self.call(Verify(question), None).await
    }

    /// Asks the parser what this message means.
    ///
    /// # Errors
    /// [`CallError`] when it gave no outcome.
    pub async fn parse(
        self: &Arc<Self>,
        question: impl PublishQuestion,
    ) -> Result<Outcome, CallError> {
        self.call(Parse(question), None).await
    }

    /// Asks. `capture` takes what the guest logs meanwhile.
    pub(crate) async fn call<A: Ask>(
        self: &Arc<Self>,
        ask: A,
        capture: Option<Capture>,
    ) -> Result<A::Answer, CallError> {
        let begin = Instant::now();
        let deadline = self.shared.limits.deadline;
        match self.pool(A::ROLE).acquire(deadline, &self.shared.statistics).await {
            Ok(permit) => self.call_with(permit, begin, ask, capture).await,
            Err(error) => {
                self.shared.statistics.note(begin.elapsed(), Err(&error));
                Err(error)
            }
        }
    }

    /// Asks with a place that was taken; `begin` is when the call began.
    pub(crate) async fn call_with<A: Ask>(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        begin: Instant,
        ask: A,
        capture: Option<Capture>,
    ) -> Result<A::Answer, CallError> {
        let deadline = self.shared.limits.deadline;
        let version = Arc::clone(self);
        let timed = Arc::clone(self);
        let asked = self.engine.background.call(&self.are_long, async move {
            let _permit = permit;
            let begin = Instant::now();
            let busy = Arc::clone(&version.shared);
            let mut asked = pin!(version.ask(ask, capture));
            let answer = poll_fn(|cx| {
                let stopwatch = Stopwatch::start();
                let poll = asked.as_mut().poll(cx);
                busy.statistics.note_busy(stopwatch.elapsed());
                poll
            })
            .await;
            timed.pool(A::ROLE).took(begin.elapsed());
            answer
        });
        let result = match timeout(deadline.saturating_sub(begin.elapsed()), asked).await {
            Ok(Ok(result)) => result,
            // A panic of a host function, in the background: ours.
            Ok(Err(error)) => Err(CallError::Engine(error.to_string())),
            Err(_) => Err(CallError::DeadlineExceeded(deadline)),
        };
        self.shared.statistics.note(begin.elapsed(), result.as_ref().map(Answer::kind));
        result
    }

    /// Puts a question to an instance, one that rests or a new one.
    async fn ask<A: Ask>(
        self: Arc<Self>,
        ask: A,
        capture: Option<Capture>,
    ) -> Result<A::Answer, CallError> {
        let pool = self.pool(A::ROLE);
        let statistics = &self.shared.statistics;
        let mut instance = match pool.take() {
            Some(instance) => instance,
            None => self.new_instance(A::ROLE, capture.clone()).await?,
        };
        instance.arm(capture, ask.device());
        // After an error the instance, and with it its store, is dropped here.
        let answer = ask
            .ask(&mut instance)
            .await
            .map_err(|error| CallError::from_engine(&error, self.shared.limits.output_bytes_max))?;
        if self.are_long.load(Ordering::Relaxed) && !instance.computed_for_long() {
            self.are_long.store(false, Ordering::Relaxed);
        }
        pool.give_back(instance, statistics);
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(text)) => Err(CallError::reported(&text)),
            None => Err(CallError::NotExported(A::ROLE.interface())),
        }
    }

    const fn pool(&self, role: Role) -> &Pool {
        match role {
            Role::Verifier => &self.verifiers,
            Role::Parser => &self.parsers,
        }
    }

    async fn new_instance(
        &self,
        role: Role,
        capture: Option<Capture>,
    ) -> Result<Instance, CallError> {
        self.shared.statistics.instance_starts.fetch_add(1, Ordering::Relaxed);
        Instance::start(&self.engine, &self.pre, &self.shared, role, capture).await
    }
}

/// The client for what is granted. It reads the system's certificates, which takes a while.
async fn http_client(policy: Option<HttpPolicy>) -> Result<Option<Arc<Client>>, LoadError> {
    let Some(policy) = policy else { return Ok(None) };
    let runtime = Handle::current();
    let made = tokio::task::spawn_blocking(move || Client::new(&policy, runtime)).await;
    let client = made.map_err(|error| LoadError::Interrupted(error.to_string()))??;
    Ok(Some(Arc::new(client)))
}

/// Instances that are started before a version is published.
const WARM_UP_MAX: usize = 16;
