//! One instance of a component: its store, what the host keeps for it, and its limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::ThreadId;

use wasmtime::component::{InstancePre, ResourceTable};
use wasmtime::{ResourceLimiter, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::background::Computing;
use crate::bindings::exports::portreeve::plugin::{on_connect, on_publish};
use crate::call::CallError;
use crate::engine::Engine;
use crate::host_functions::http::Http;
use crate::host_functions::log::{Capture, CaptureSlot};
use crate::host_functions::stdio;
use crate::version::{Role, Shared};

/// A guest asked for more than its limit. The call ends here, since few guests survive it well.
#[derive(Debug, thiserror::Error)]
#[error("{desired} {what}, the limit is {limit}")]
pub(crate) struct GrowthRefused {
    what: &'static str,
    desired: usize,
    limit: usize,
}

/// What the host keeps for one instance.
pub(crate) struct GuestState {
    pub(crate) shared: Arc<Shared>,
    memory_bytes: usize,
    table_elements: usize,
    table: ResourceTable,
    /// Where log lines of the call go beside the log.
    pub(crate) capture: CaptureSlot,
    /// Made when the guest first asks for WASI: many never do.
    wasi: Option<WasiCtx>,
    /// Made when it first asks for HTTP.
    http: Option<Box<Http>>,
    /// How long the call that runs has computed.
    computing: Computing,
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let shared = &self.shared;
        let capture = &self.capture;
        let ctx = self.wasi.get_or_insert_with(|| stdio::wasi_context(shared, capture));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (shared, capture) = (&self.shared, &self.capture);
        let http = self.http.get_or_insert_with(|| Box::new(Http::new(shared, capture)));
        WasiHttpCtxView { hooks: &mut http.hooks, table: &mut self.table, ctx: &mut http.context }
    }
}

impl Drop for GuestState {
    fn drop(&mut self) {
        self.shared.statistics.memory_bytes.fetch_sub(self.memory_bytes, Ordering::Relaxed);
    }
}

/// Table elements of one instance in all; the engine's own bound is for each table.
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, tables and memories of one instance.
const CORE_INSTANCES_MAX: usize = 200;
const TABLES_MAX: usize = 64;
const MEMORIES_MAX: usize = 8;
/// Streams, pollables and the like that a guest has open.
const RESOURCES_MAX: usize = 256;

impl ResourceLimiter for GuestState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // Beyond the guest's own bound: it is told, as the WebAssembly standard says.
            return Ok(false);
        }
        let limit = self.shared.limits.memory_bytes_max;
        // The limit is for all memories of the instance together.
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > limit {
            return Err(GrowthRefused { what: "bytes of memory", desired: total, limit }.into());
        }
        let all = &self.shared.statistics.memory_bytes;
        all.fetch_add(total.saturating_sub(self.memory_bytes), Ordering::Relaxed);
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let limit = TABLE_ELEMENTS_MAX;
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > limit {
            return Err(GrowthRefused { what: "table elements", desired: total, limit }.into());
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

/// The typed exports of a component, looked up once when it is loaded.
#[derive(Clone)]
pub(crate) struct PreInstance {
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) verifier: Option<Arc<on_connect::GuestIndices>>,
    pub(crate) parser: Option<Arc<on_publish::GuestIndices>>,
}

/// A running guest. After any error its store cannot be used again, so it is dropped then.
pub(crate) struct Instance {
    pub(crate) store: Store<GuestState>,
    pub(crate) export: Export,
    pub(crate) calls: u32,
    /// Linear memory that it began with.
    pub(crate) first_memory_bytes: usize,
    /// Where it was called last: its memory is in that core's cache.
    pub(crate) thread: Option<ThreadId>,
}

/// The export that the instance was started for.
pub(crate) enum Export {
    Verifier(on_connect::Guest),
    Parser(on_publish::Guest),
}

impl Instance {
    /// Starts an instance. Runs guest code: the caller holds a deadline over it. `capture` takes what the
    /// guest writes to its log meanwhile.
    pub(crate) async fn start(
        engine: &Engine,
        pre: &PreInstance,
        shared: &Arc<Shared>,
        role: Role,
        capture: Option<Capture>,
    ) -> Result<Self, CallError> {
        let slot = CaptureSlot::default();
        slot.put(capture, "");
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let shared_state = Arc::clone(shared);
        let state = GuestState {
            shared: shared_state,
            memory_bytes: 0,
            table_elements: 0,
            table,
            capture: slot,
            wasi: None,
            http: None,
            computing: Computing::begin(),
        };
        let mut store = Store::new(&engine.wasmtime, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(shared.limits.output_bytes_max);
        // A guest that still computes at a tick lets other tasks run; the time-out around the call
        // ends it there when its deadline is over.
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().computing.tick()));
        store.set_epoch_deadline(1);
        let output_bytes_max = shared.limits.output_bytes_max;
        let instance = pre
            .pre
            .instantiate_async(&mut store)
            .await
            .map_err(|error| CallError::from_start(&error, output_bytes_max))?;
        let shape = |error: wasmtime::Error| CallError::Shape(format!("{error:#}"));
        let export = match (role, &pre.verifier, &pre.parser) {
            (Role::Verifier, Some(indices), _) => {
                Export::Verifier(indices.load(&mut store, &instance).map_err(shape)?)
            }
            (Role::Parser, _, Some(indices)) => {
                Export::Parser(indices.load(&mut store, &instance).map_err(shape)?)
            }
            (Role::Verifier, None, _) => return Err(CallError::NotExported("on-connect")),
            (Role::Parser, _, None) => return Err(CallError::NotExported("on-publish")),
        };
        let first_memory_bytes = store.data().memory_bytes;
        Ok(Self { store, export, calls: 0, first_memory_bytes, thread: None })
    }

    /// Before each call: the epoch went on while the instance rested.
    pub(crate) fn arm(&mut self, capture: Option<Capture>, device: &str) {
        self.store.data().capture.put(capture, device);
        self.store.set_epoch_deadline(1);
        let state = self.store.data_mut();
        state.computing = Computing::begin();
        if let Some(http) = &mut state.http {
            http.arm();
        }
        self.calls = self.calls.saturating_add(1);
    }

    /// Linear memory that it has.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes
    }

    /// Whether the call that it answered computed for long.
    pub(crate) fn computed_for_long(&self) -> bool {
        self.store.data().computing.is_long()
    }
}
