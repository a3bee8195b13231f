//! One instance of a component: its store, what the host keeps for it, and its limits.

use std::sync::Arc;

use wasmtime::component::{InstancePre, ResourceTable};
use wasmtime::{ResourceLimiter, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::exports::portreeve::plugin::{on_connect, on_publish};
use crate::engine::Engine;
use crate::host_functions::stdio;
use crate::plugin::Shared;

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
    table: ResourceTable,
    /// Made when the guest first asks for WASI: many never do.
    wasi: Option<WasiCtx>,
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let shared = &self.shared;
        let ctx = self.wasi.get_or_insert_with(|| stdio::wasi_context(shared));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// Tables of one instance in all; the engine's own bound is for each.
const TABLE_ELEMENTS_MAX: usize = 100_000;

impl ResourceLimiter for GuestState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.shared.limits.memory_bytes_max;
        // The limit is for all memories of the instance together.
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > limit || maximum.is_some_and(|maximum| desired > maximum) {
            return Err(GrowthRefused { what: "bytes of memory", desired: total, limit }.into());
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            let limit = TABLE_ELEMENTS_MAX;
            return Err(GrowthRefused { what: "table elements", desired, limit }.into());
        }
        Ok(true)
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
    pub(crate) verifier: Option<on_connect::Guest>,
    pub(crate) parser: Option<on_publish::Guest>,
    pub(crate) calls: u32,
}

impl Instance {
    /// Starts an instance. Runs guest code: the caller holds a deadline over it.
    pub(crate) async fn start(
        engine: &Engine,
        pre: &PreInstance,
        shared: &Arc<Shared>,
    ) -> wasmtime::Result<Self> {
        let state = GuestState {
            shared: Arc::clone(shared),
            memory_bytes: 0,
            table: ResourceTable::new(),
            wasi: None,
        };
        let mut store = Store::new(&engine.wasmtime, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(shared.limits.output_bytes_max);
        // At each tick the guest yields to the other tasks of its thread; the time-out around
        // the call ends it there when its deadline is over.
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        let instance = pre.pre.instantiate_async(&mut store).await?;
        let verifier = match &pre.verifier {
            Some(indices) => Some(indices.load(&mut store, &instance)?),
            None => None,
        };
        let parser = match &pre.parser {
            Some(indices) => Some(indices.load(&mut store, &instance)?),
            None => None,
        };
        Ok(Self { store, verifier, parser, calls: 0 })
    }

    /// Before each call: the epoch went on while the instance rested.
    pub(crate) fn arm(&mut self) {
        self.store.set_epoch_deadline(1);
        self.calls = self.calls.saturating_add(1);
    }
}
