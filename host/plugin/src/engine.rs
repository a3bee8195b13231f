//! The WebAssembly engine: one for the process, every number explained, and a ticker that lets
//! a guest that computes be interrupted.

use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

use crate::host_functions;
use crate::instance::GuestState;
use crate::limits::Limits;

/// How often a computing guest gives its thread to other tasks. Shorter costs wake-ups, longer
/// lets a spinning guest add more to the latency of the tasks beside it.
const TICK: Duration = Duration::from_millis(1);

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
    pub(crate) linker: std::sync::Arc<Linker<GuestState>>,
    pooling: bool,
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
        start_ticker(&wasmtime).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { wasmtime, linker: std::sync::Arc::new(linker), pooling })
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
        // Nothing stays resident in an empty slot: what one guest wrote is never another's.
        .linear_memory_keep_resident(0)
        .table_keep_resident(0);
    pooling
}

/// Counts the engine's epoch up, until the engine is gone.
fn start_ticker(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("guest-ticker".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    })?;
    Ok(())
}
