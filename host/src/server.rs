//! The process: loads, fits together, listens, and comes to an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portreeve_mqtt::ReasonCode;
use portreeve_plugin::{CodeCache, Engine, EngineError};
use portreeve_store::{Contents, OpenError, Store, Tally};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::config::{Config, Durability, ListenerConfig, ListenerKind};
use crate::gateway::{Gateway, Verification};
use crate::listener::{self, Listener};
use crate::metrics::Metrics;
use crate::plugins::{PluginDirectory, load_directory};
use crate::resolve::{Resolved, resolve};
use crate::restore::{LimitsOf, restore};
use crate::sys;

/// Connections that wait to be accepted.
const LISTEN_QUEUE: u32 = 4096;
/// How often a long start says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often sessions are looked through for what is due.
const DUE_INTERVAL: Duration = Duration::from_millis(500);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The WebAssembly engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The plugin directory.
    #[error("the plugin directory {path} cannot be read: {error}")]
    Plugins {
        /// The directory.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The data directory.
    #[error("the data directory cannot be used: {0}")]
    Data(std::io::Error),
    /// Configuration and plugins do not fit together: every mistake.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Something is to be stored, and there is no place for it.
    #[error(
        "[store] durability asks for a data directory: say [data] directory = \"data\" in the configuration, or --data DIR"
    )]
    NoDataDirectory,
    /// An address cannot be listened on.
    #[error("gateway {gateway:?} cannot listen on {address}: {error}")]
    Listen {
        /// The gateway.
        gateway: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// A running gateway process.
pub struct Server {
    broker: Arc<Broker>,
    addresses: Vec<(String, SocketAddr)>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    drain_timeout: Duration,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Loads the plugins that a configuration names.
///
/// # Errors
/// [`StartError`] when the directory cannot be read; what is wrong with single plugins stands in
/// the result.
pub async fn load_plugins(config: &Config) -> Result<PluginDirectory, StartError> {
    let Some(directory) = &config.plugins else { return Ok(PluginDirectory::default()) };
    let engine = Engine::new()?;
    let cache = match &config.data {
        None => None,
        Some(data) => Some(CodeCache::open(&data.join("code")).map_err(StartError::Data)?),
    };
    load_directory(&engine, directory, cache.as_ref())
        .await
        .map_err(|error| StartError::Plugins { path: directory.display().to_string(), error })
}

/// Whether configuration and plugins fit together.
///
/// # Errors
/// Every mistake.
pub fn check(config: &Config, plugins: &PluginDirectory) -> Result<(), Vec<String>> {
    resolve(config, &plugins.plugins, None).map(drop)
}

impl Server {
    /// Starts every gateway of `config`.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is listened on.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let directory = load_plugins(config).await?;
        for problem in &directory.problems {
            tracing::error!(plugin = problem.name, "not loaded: {problem}");
        }
        for (name, loaded) in &directory.plugins {
            let start_up_us = loaded.plugin.start_up().as_micros();
            tracing::info!(plugin = name, start_up_us, "plugin loaded");
        }
        // Mistakes are reported before the store is opened, which may take a while.
        check(config, &directory).map_err(|mistakes| with_problems(mistakes, &directory))?;
        let (store, contents) = open_store(config).await?.unzip();
        let Resolved { broker, gateways } = resolve(config, &directory.plugins, store)
            .map_err(|mistakes| with_problems(mistakes, &directory))?;
        // A start that fails ends nothing that is stored. Dropped before the broker, since it stands
        // behind it.
        let stops_store = StopsStore(broker.store.clone());
        if let Some(contents) = contents {
            put_back(&broker, contents, &gateways).await?;
        }
        let mut bound = Vec::new();
        for (gateway, listeners) in gateways {
            let handshakes = Arc::new(Semaphore::new(gateway.limits.handshakes_max));
            for ListenerConfig { address, kind, trusted_proxies } in listeners {
                let socket = listen(address).map_err(|error| StartError::Listen {
                    gateway: gateway.name.to_string(),
                    address,
                    error,
                })?;
                let (gateway, handshakes) = (Arc::clone(&gateway), Arc::clone(&handshakes));
                bound.push(Listener { socket, kind, trusted_proxies, gateway, handshakes });
            }
        }
        stops_store.served();
        Ok(Self::serve(config, broker, bound))
    }

    fn serve(config: &Config, broker: Arc<Broker>, bound: Vec<Listener>) -> Self {
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let mut addresses = Vec::new();
        for listener in bound {
            if let Ok(address) = listener.socket.local_addr() {
                announce(&listener, address);
                addresses.push((listener.gateway.name.to_string(), address));
            }
            tasks.spawn(listener::accept(listener, tasks.clone(), shutdown.clone()));
        }
        tasks
            .spawn(until(shutdown.clone(), sys::publish(Arc::clone(&broker), config.sys_interval)));
        tasks.spawn(until(shutdown.clone(), do_due(Arc::clone(&broker))));
        Self { broker, addresses, tasks, shutdown, drain_timeout: config.drain_timeout }
    }

    /// Where each gateway listens, with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// What was counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.broker.metrics
    }

    /// Devices in the registry.
    #[must_use]
    pub fn device_count(&self) -> usize {
        self.broker.registry.count()
    }

    /// Sessions, connected or not.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.broker.sessions.count()
    }

    /// Tasks that run: listeners, connections and the gateway's own.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Stops accepting, tells every client, and waits for the connections to end. Returns whether
    /// all of them did.
    pub async fn shutdown(self) -> bool {
        self.shutdown.cancel();
        for session in self.broker.sessions.all() {
            session.close(ReasonCode::ServerShuttingDown);
        }
        self.tasks.close();
        let all = timeout(self.drain_timeout, self.tasks.wait()).await.is_ok();
        if let Some(store) = self.broker.store.clone() {
            let closed = tokio::task::spawn_blocking(move || store.close()).await;
            if closed.is_err() {
                tracing::error!("the store did not end in order");
            }
        }
        all
    }
}

/// Closes the store when a start fails, before what was restored from it is dropped.
struct StopsStore(Option<Arc<Store>>);

impl StopsStore {
    /// The start did not fail; from now on the server does it.
    fn served(mut self) {
        self.0 = None;
    }
}

impl Drop for StopsStore {
    fn drop(&mut self) {
        if let Some(store) = &self.0 {
            store.stop();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What is dropped with the process was not ended.
        if let Some(store) = &self.broker.store {
            store.stop();
        }
    }
}

/// Opens the store that the configuration asks for.
async fn open_store(config: &Config) -> Result<Option<(Arc<Store>, Contents)>, StartError> {
    let durability = match (config.durability, &config.data) {
        (Some(Durability::Memory), _) | (None, None) => {
            tracing::info!(
                "nothing is stored: sessions and retained messages end with the process"
            );
            return Ok(None);
        }
        (None | Some(Durability::Process), _) => portreeve_store::Durability::Process,
        (Some(Durability::Power), _) => portreeve_store::Durability::Power,
    };
    let Some(data) = &config.data else { return Err(StartError::NoDataDirectory) };
    let path = data.join("store");
    let opened = blocking(move || Store::open(&path, durability)).await?;
    Ok(Some(opened).map(|(store, contents)| (Arc::new(store), contents)))
}

/// Puts everything back that the store holds.
async fn put_back(
    broker: &Arc<Broker>,
    contents: Contents,
    gateways: &[(Arc<Gateway>, Vec<ListenerConfig>)],
) -> Result<(), StartError> {
    let limits: LimitsOf = gateways
        .iter()
        .map(|(gateway, _)| (gateway.name.to_string(), Arc::clone(&gateway.limits.session)))
        .collect();
    let begin = Instant::now();
    let broker = Arc::clone(broker);
    let restored = blocking(move || {
        let mut reported = std::time::Instant::now();
        restore(&broker, &contents, &limits, |progress| {
            if reported.elapsed() >= PROGRESS_INTERVAL {
                reported = std::time::Instant::now();
                tracing::info!(records = progress.records, "reading the store");
            }
        })
    });
    let Tally { devices, sessions, subscriptions, entries, retained, orphans, missing, .. } =
        restored.await?;
    if missing > 0 {
        tracing::warn!(
            missing,
            "messages of the store are missing; what referred to them is left out"
        );
    }
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        ms,
        sessions,
        subscriptions,
        messages = entries,
        retained,
        devices,
        orphans,
        "the store was read"
    );
    Ok(())
}

/// Runs what blocks in a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, StartError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| StartError::Data(std::io::Error::other(error)))??)
}

/// A mistake often comes from a plugin that could not be loaded.
fn with_problems(mut mistakes: Vec<String>, directory: &PluginDirectory) -> StartError {
    mistakes.extend(directory.problems.iter().map(ToString::to_string));
    StartError::Mistakes(mistakes)
}

fn announce(listener: &Listener, address: SocketAddr) {
    let gateway = &listener.gateway;
    let kind = match listener.kind {
        ListenerKind::Tcp => "tcp",
        ListenerKind::WebSocket => "ws",
    };
    let verification = match &gateway.verification {
        Verification::Open => "open".to_owned(),
        Verification::OneParty => "one-party".to_owned(),
        Verification::Plugin(plugin) => format!("plugin:{}", plugin.name()),
    };
    tracing::info!(gateway = %gateway.name, %address, kind, verification, "listening");
    if matches!(gateway.verification, Verification::Open) {
        tracing::warn!(
            gateway = %gateway.name,
            "verification is open: everybody is let in, and reaches the topics of every gateway"
        );
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_QUEUE)
}

/// Runs a task that has no end of its own.
async fn until(shutdown: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        () = shutdown.cancelled() => {}
    }
}

/// Ends sessions and publishes wills when their time has come.
async fn do_due(broker: Arc<Broker>) {
    let mut ticks = tokio::time::interval(DUE_INTERVAL);
    loop {
        ticks.tick().await;
        while broker.do_due(Instant::now()) {
            tokio::task::yield_now().await;
        }
    }
}
