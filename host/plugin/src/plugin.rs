//! A plugin: a component with its manifest, and the two things that can be asked of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::bindings::exports::portreeve::plugin::on_connect::Verdict;
use crate::bindings::exports::portreeve::plugin::on_publish::Outcome;
use crate::call::CallError;
use crate::component::{LoadError, Loaded};
use crate::engine::Engine;
use crate::host_functions::log::LogLimiter;
use crate::host_functions::state::StateSpace;
use crate::instance::{Instance, PreInstance};
use crate::limits::{InstancePolicy, Limits};
use crate::question::{Ask, ConnectQuestion, Parse, PublishQuestion, Verify};

/// What a plugin's manifest decides; the defaults are those of a plugin without one.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// Given to the guest through `settings`.
    pub settings: BTreeMap<String, String>,
    /// Its bounds.
    pub limits: Limits,
    /// How its instances live; `None` for the default of each role.
    pub instances: Option<InstancePolicy>,
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
    /// The interface that it exports.
    const fn interface(self) -> &'static str {
        match self {
            Self::Verifier => "on-connect",
            Self::Parser => "on-publish",
        }
    }
}

/// What all instances of a plugin share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) log: LogLimiter,
    pub(crate) state: Arc<StateSpace>,
}

/// Counts since the plugin was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginStatistics {
    /// Calls that were begun.
    pub calls: u64,
    /// Calls that gave no answer.
    pub faults: u64,
    /// Instances that were started.
    pub instance_starts: u64,
    /// Log lines that were dropped.
    pub log_lines_dropped: u64,
}

/// A loaded plugin. Calls go to instances that its policy provides.
pub struct Plugin {
    engine: Engine,
    pre: PreInstance,
    shared: Arc<Shared>,
    verifiers: Pool,
    parsers: Pool,
    start_up: OnceLock<Duration>,
    /// Whether its last calls computed for long.
    are_long: AtomicBool,
    calls: AtomicU64,
    faults: AtomicU64,
    instance_starts: AtomicU64,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Makes a plugin of a checked component: starts one instance, so that exports of another
    /// shape and a guest that fails at its start are found now.
    ///
    /// # Errors
    /// [`LoadError::Start`] with what the first instance did.
    pub async fn start(
        engine: &Engine,
        name: &str,
        loaded: Loaded,
        manifest: Manifest,
    ) -> Result<Arc<Self>, LoadError> {
        let Manifest { settings, limits, instances } = manifest;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            settings,
            limits,
            log: LogLimiter::new(limits.log_lines_per_second, limits.log_line_bytes_max),
            state: Arc::new(StateSpace::new(limits.state_bytes_max)),
        });
        let verifier_policy = instances.unwrap_or(InstancePolicy::Fresh);
        let parser_policy = instances.unwrap_or_else(InstancePolicy::warm_default);
        let plugin = Arc::new(Self {
            engine: engine.clone(),
            pre: loaded.pre,
            verifiers: Pool::new(verifier_policy, &limits),
            parsers: Pool::new(parser_policy, &limits),
            shared,
            start_up: OnceLock::new(),
            are_long: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            instance_starts: AtomicU64::new(0),
        });
        let begin = Instant::now();
        for role in [Role::Verifier, Role::Parser] {
            if plugin.is(role) {
                plugin.try_role(role).await.map_err(LoadError::Start)?;
            }
        }
        plugin.start_up.get_or_init(|| begin.elapsed());
        Ok(plugin)
    }

    /// Starts the first instance of a role, which rests until it is called where it may.
    async fn try_role(self: &Arc<Self>, role: Role) -> Result<(), CallError> {
        let deadline = self.shared.limits.deadline;
        let plugin = Arc::clone(self);
        let first = self.engine.background.call(&self.are_long, async move {
            let instance = plugin.new_instance(role).await?;
            plugin.pool(role).give_back(instance);
            Ok(())
        });
        match timeout(deadline, first).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(CallError::Engine(error.to_string())),
            Err(_) => Err(CallError::DeadlineExceeded(deadline)),
        }
    }

    /// Whether one more line about this plugin may be written to the log: what the gateway has
    /// to say of its faults counts against the plugin's own rate.
    #[must_use]
    pub fn may_log(&self) -> bool {
        self.shared.log.admit_line()
    }

    /// The name of its file, without `.wasm`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
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

    /// Its bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Counts since it was loaded.
    #[must_use]
    pub fn statistics(&self) -> PluginStatistics {
        PluginStatistics {
            calls: self.calls.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
            instance_starts: self.instance_starts.load(Ordering::Relaxed),
            log_lines_dropped: self.shared.log.dropped(),
        }
    }

    /// Asks the verifier who this is.
    ///
    /// # Errors
    /// [`CallError`] when it gave no verdict; the peer is then not let in.
    pub async fn verify(
        self: &Arc<Self>,
        question: impl ConnectQuestion,
    ) -> Result<Verdict, CallError> {
        self.call(Role::Verifier, Verify(question)).await
    }

    /// Asks the parser what this message means.
    ///
    /// # Errors
    /// [`CallError`] when it gave no outcome; the binding's `on_error` then decides.
    pub async fn parse(
        self: &Arc<Self>,
        question: impl PublishQuestion,
    ) -> Result<Outcome, CallError> {
        self.call(Role::Parser, Parse(question)).await
    }

    async fn call<A: Ask>(self: &Arc<Self>, role: Role, ask: A) -> Result<A::Answer, CallError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let deadline = self.shared.limits.deadline;
        let call = self.engine.background.call(&self.are_long, Arc::clone(self).ask(role, ask));
        let result = match timeout(deadline, call).await {
            Ok(Ok(result)) => result,
            // A panic of a host function, in the background: ours.
            Ok(Err(error)) => Err(CallError::Engine(error.to_string())),
            Err(_) => Err(CallError::DeadlineExceeded(deadline)),
        };
        if result.is_err() {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Puts a question to an instance, one that rests or a new one.
    async fn ask<A: Ask>(self: Arc<Self>, role: Role, ask: A) -> Result<A::Answer, CallError> {
        let pool = self.pool(role);
        let _permit = pool.acquire().await?;
        let mut instance = match pool.take() {
            Some(instance) => instance,
            None => self.new_instance(role).await?,
        };
        instance.arm();
        // After an error the instance, and with it its store, is dropped here.
        let answer = ask
            .ask(&mut instance)
            .await
            .map_err(|error| CallError::from_engine(&error, self.shared.limits.output_bytes_max))?;
        if self.are_long.load(Ordering::Relaxed) && !instance.computed_for_long() {
            self.are_long.store(false, Ordering::Relaxed);
        }
        pool.give_back(instance);
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(text)) => Err(CallError::reported(&text)),
            None => Err(CallError::NotExported(role.interface())),
        }
    }

    const fn pool(&self, role: Role) -> &Pool {
        match role {
            Role::Verifier => &self.verifiers,
            Role::Parser => &self.parsers,
        }
    }

    async fn new_instance(&self, role: Role) -> Result<Instance, CallError> {
        self.instance_starts.fetch_add(1, Ordering::Relaxed);
        Instance::start(&self.engine, &self.pre, &self.shared, role).await
    }
}

/// Resting instances among which one of this thread is looked for.
const LOOKED_AT_MAX: usize = 16;

/// Instances that may exist at a time, and those that rest.
struct Pool {
    permits: Semaphore,
    waiting: AtomicUsize,
    waiting_calls_max: usize,
    calls_max: u32,
    idle: Mutex<Vec<Instance>>,
}

impl Pool {
    fn new(policy: InstancePolicy, limits: &Limits) -> Self {
        let (instances, calls_max) = match policy {
            InstancePolicy::Fresh => (limits.concurrent_calls_max, 1),
            InstancePolicy::Warm { instances, calls } => (instances.max(1), calls.max(1)),
        };
        Self {
            permits: Semaphore::new(instances),
            waiting: AtomicUsize::new(0),
            waiting_calls_max: limits.waiting_calls_max,
            calls_max,
            idle: Mutex::new(Vec::new()),
        }
    }

    async fn acquire(&self) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.others >= self.waiting_calls_max {
            return Err(CallError::Overloaded(waiting.others));
        }
        self.permits.acquire().await.map_err(|closed| CallError::Engine(closed.to_string()))
    }

    /// An instance that rests; one that this thread called last, where there is one: otherwise
    /// the instances' memory wanders between the caches of the cores with every call.
    fn take(&self) -> Option<Instance> {
        let here = Some(std::thread::current().id());
        let mut idle = self.idle.lock();
        let last = idle.len().checked_sub(1)?;
        let back = idle.iter().rev().take(LOOKED_AT_MAX).position(|one| one.thread == here);
        Some(idle.swap_remove(last.saturating_sub(back.unwrap_or(0))))
    }

    /// Keeps an instance that answered, unless it has served its calls. At most as many rest as
    /// there are permits.
    fn give_back(&self, mut instance: Instance) {
        instance.thread = Some(std::thread::current().id());
        if instance.calls < self.calls_max {
            self.idle.lock().push(instance);
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
