//! The WebAssembly engine: one for the process, every number explained, and a ticker that lets
//! a guest that computes be interrupted.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    Strategy,
};

use crate::background::{Background, stand_back};
use crate::host_functions;
use crate::instance::GuestState;
use crate::limits::Limits;

/// How often the epoch is counted up while guests run, which costs about 10 us each time. A guest that computes on
/// yields at its first tick and goes on in the background at its third, so this is about what it may
/// add to the latency of everything else.
const TICK: Duration = Duration::from_millis(1);

/// The same where guests compute for long, and for as many ticks after the last one did.
const BUSY_TICK: Duration = Duration::from_micros(200);
const BUSY_TICKS: u32 = 5_000;

/// How late the kernel may wake the ticker, in nanoseconds; 50,000 where nothing is asked for.
#[cfg(target_os = "linux")]
const TIMER_SLACK_NS: u64 = 1;

/// Ticks without a running guest after which the ticker rests: 10 to 50 ms, so that it is woken
/// by few calls.
const TICKS_UNTIL_REST: u32 = 50;

/// How long the ticker rests before it looks whether the engine is still there.
const REST: Duration = Duration::from_secs(1);

/// Instances of all plugins that exist at a time. Address space is reserved for them, not
/// memory; a call beyond it gets [`crate::CallError::Engine`].
const INSTANCES_MAX: u32 = 1_000;

/// Core modules of all instances, by the mean of a component: they are counted, not laid out.
const CORE_INSTANCES_MEAN: u32 = 40;

/// Core modules that one component is made of: a Python component has about 200, a Rust one 4.
const CORE_INSTANCES_FOR_EACH_COMPONENT: u32 = 200;

/// Linear memories of one component: more than one only where components are composed.
const MEMORIES_FOR_EACH_COMPONENT: u32 = 8;

/// Tables of one component: one for each core module, mostly.
const TABLES_FOR_EACH_COMPONENT: u32 = 64;

/// Function-table elements; JavaScript engines have about 15,000.
const TABLE_ELEMENTS: usize = 20_000;

/// Address space for each memory: with 4 GiB and a guard behind it no bounds check is needed.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Bytes of a memory or table whose pages stay with its slot when the instance is gone. They are
/// overwritten with the component's image: what one guest wrote is never another's. Only where
/// the kernel tells which pages were written to; elsewhere all of them are given back.
const KEPT_BYTES: usize = 256 << 10;

/// Bytes of an image that is mostly holes. Beyond this a memory gets its few pages one by one when an
/// instance starts, or two bytes of data at its ends would be megabytes of code.
const SPARSE_IMAGE_BYTES_MAX: u64 = 1 << 20;

/// The same without a pool.
const SMALL_RESERVATION_BYTES: u64 = 16 << 20;
const SMALL_GUARD_BYTES: u64 = 64 << 10;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start on this machine: {0}")]
pub struct EngineError(String);

/// Compiles and runs components. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Arc<Linker<GuestState>>,
    pooling: bool,
    pub(crate) background: Background,
    /// Threads that compile, and stand back.
    pub(crate) compilers: Arc<rayon::ThreadPool>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("pooling", &self.pooling).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts an engine, with pooled instances where the machine has the address space for them
    /// and with instances on demand (slower to start) where it has not.
    ///
    /// # Errors
    /// [`EngineError`] where neither works.
    pub fn new() -> Result<Self, EngineError> {
        let pooled = wasmtime::Engine::new(&config(Some(pooling())));
        let pooling = pooled.is_ok();
        let wasmtime = pooled
            .or_else(|error| {
                tracing::warn!(%error, "no address space for pooled instances, starting without");
                wasmtime::Engine::new(&config(None))
            })
            .map_err(|error| EngineError(format!("{error:#}")))?;
        let mut linker = Linker::new(&wasmtime);
        host_functions::add_to_linker(&mut linker)
            .map_err(|error| EngineError(format!("{error:#}")))?;
        let failed = |error: std::io::Error| EngineError(error.to_string());
        let background = Background::start().map_err(failed)?;
        let compilers = rayon::ThreadPoolBuilder::new()
            .thread_name(|_| "guest-compiler".to_owned())
            .start_handler(|_| stand_back())
            .build()
            .map_err(|error| EngineError(error.to_string()))?;
        start_ticker(&wasmtime, background.clone()).map_err(failed)?;
        Ok(Self {
            wasmtime,
            linker: Arc::new(linker),
            pooling,
            background,
            compilers: Arc::new(compilers),
        })
    }

    /// Whether instances come from a pool that was laid out at start.
    #[must_use]
    pub const fn is_pooling(&self) -> bool {
        self.pooling
    }
}

fn config(pooling: Option<PoolingAllocationConfig>) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Interrupts a computing guest; fuel would cost two to seven times as much.
        .epoch_interruption(true)
        .consume_fuel(false)
        // A new instance shares the pages of the component's image until it writes to them.
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(SPARSE_IMAGE_BYTES_MAX)
        .wasm_component_model(true)
        // Guests call the host synchronously; support for concurrent component tasks costs
        // most of what an asynchronous call costs.
        .concurrency_support(false)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8));
    match pooling {
        Some(pooling) => {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
            config.memory_reservation(MEMORY_RESERVATION_BYTES);
        }
        // A machine without address space for the pool has none for large reservations either;
        // memories then have bounds checks and may move when they grow.
        None => {
            config.memory_reservation(SMALL_RESERVATION_BYTES);
            config.memory_guard_size(SMALL_GUARD_BYTES);
        }
    }
    config
}

fn pooling() -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX * CORE_INSTANCES_MEAN)
        .total_memories(INSTANCES_MAX * 2)
        .total_tables(INSTANCES_MAX * 16)
        .total_stacks(INSTANCES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_FOR_EACH_COMPONENT)
        .max_memories_per_component(MEMORIES_FOR_EACH_COMPONENT)
        .max_tables_per_component(TABLES_FOR_EACH_COMPONENT)
        .max_memory_size(Limits::MEMORY_BYTES_CEILING)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(0)
        .table_keep_resident(0);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pooling
            .pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(KEPT_BYTES)
            .table_keep_resident(KEPT_BYTES);
    }
    pooling
}

/// Counts the engine's epoch up while guests run, in a thread of its own, until the engine is gone.
fn start_ticker(engine: &wasmtime::Engine, background: Background) -> std::io::Result<()> {
    let engine = engine.weak();
    let thread = std::thread::Builder::new().name("guest-ticker".to_owned());
    thread.spawn(move || tick(&engine, &background)).map(drop)
}

fn tick(engine: &EngineWeak, background: &Background) {
    be_punctual();
    let (mut ticks, mut busy_ticks) = (0_u32, 0_u32);
    while let Some(engine) = engine.upgrade() {
        engine.increment_epoch();
        drop(engine);
        let is_busy = background.is_busy();
        busy_ticks = if is_busy { BUSY_TICKS } else { busy_ticks.saturating_sub(1) };
        ticks = (ticks + 1) % TICKS_UNTIL_REST;
        if ticks != 0 || is_busy || background.take_has_run() {
            std::thread::sleep(if busy_ticks > 0 { BUSY_TICK } else { TICK });
        } else {
            background.rest_until_a_guest_runs(REST);
        }
    }
}

/// Asks to be woken in time. Without it the ticks come late, which costs latency and no more.
#[cfg(target_os = "linux")]
fn be_punctual() {
    let slack = std::num::NonZeroU64::new(TIMER_SLACK_NS);
    if let Err(error) = rustix::thread::set_current_timer_slack(slack) {
        tracing::debug!(%error, "the ticker's timer keeps its slack");
    }
}

#[cfg(not(target_os = "linux"))]
fn be_punctual() {}
