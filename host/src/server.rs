//! The process: loads, fits together, listens, and comes to an orderly end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portreeve_mqtt::ReasonCode;
use portreeve_plugin::{Budget, CodeCache, Engine, EngineError, Observer};
use portreeve_store::{Contents, OpenError, Store, Tally};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Audit, Front, Places, SOCKET_PATH_BYTES_MAX, Socket};
use crate::broker::Broker;
use crate::config::{Config, Durability, ListenerConfig};
use crate::credentials::{self, Credentials, TlsByGateway};
use crate::gateway::{Gateway, Verification};
use crate::listener::{self, Listener};
use crate::metrics::Metrics;
use crate::plugins::archive::Archive;
use crate::plugins::scan::{Scanner, Trust};
use crate::plugins::{PluginDirectory, load_directory, short};
use crate::reload::differences::Differences;
use crate::reload::set::{Around, PluginSet};
use crate::reload::{
    CONCLUDED_MAX, Command, DIFFERENCES_BYTES_MAX, DIFFERENCES_MAX, Reload, Reloader, Reread,
};
use crate::resolve::{Resolved, resolve};
use crate::restore::{LimitsOf, restore};
use crate::sys;
use crate::telemetry::Telemetry;

/// Connections that wait to be accepted.
const LISTEN_QUEUE: u32 = 4096;
/// How often a long start says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is stored when devices connected last.
const SEEN_INTERVAL: Duration = Duration::from_secs(30);
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
    /// The admin socket.
    #[error(
        "the admin API cannot listen on {path}: {error}; [admin] socket and listen name other places"
    )]
    Admin {
        /// The socket.
        path: String,
        /// Why.
        error: std::io::Error,
    },
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
    admin_address: Option<SocketAddr>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    drain_timeout: Duration,
    reloader: Reloader,
    /// Ends the thread that makes changes, also where nobody shuts the server down.
    _reloads: DropGuard,
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
    let cache = code_cache(config)?;
    // Nobody looks on: nothing is called.
    let observer = Observer {
        concluded: mpsc::channel(1).0,
        differences: mpsc::channel(1).0,
        differences_bytes: Budget::of(0),
    };
    load_directory(&engine, directory, cache.as_ref(), &config.signature_keys, &observer)
        .await
        .map_err(|error| unreadable(directory, error))
}

fn code_cache(config: &Config) -> Result<Option<CodeCache>, StartError> {
    let open = |data: &PathBuf| CodeCache::open(&data.join("code")).map_err(StartError::Data);
    config.data.as_ref().map(open).transpose()
}

fn unreadable(directory: &Path, error: std::io::Error) -> StartError {
    StartError::Plugins { path: directory.display().to_string(), error }
}

/// Whether configuration and plugins fit together.
///
/// # Errors
/// Every mistake.
pub fn check(config: &Config, plugins: &PluginDirectory) -> Result<(), Vec<String>> {
    resolve(config, &plugins.plugins, &TlsByGateway::new(), None, Telemetry::default()).map(drop)
}

/// Whether certificates, keys, CRLs and staples are there and fit together.
///
/// # Errors
/// Every mistake.
pub async fn check_tls(config: &Config) -> Result<(), Vec<String>> {
    Credentials::start(config, TaskTracker::new()).await.map(drop)
}

/// The plugins at the start, and what watches them from then on.
async fn start_plugins(config: &Config) -> Result<Reload, StartError> {
    let (concluded, concluded_receiver) = mpsc::channel(CONCLUDED_MAX);
    let (differences, differences_receiver) = mpsc::channel(DIFFERENCES_MAX);
    let differences_bytes = Budget::of(DIFFERENCES_BYTES_MAX);
    let observer = Observer { concluded, differences, differences_bytes };
    let remembered = config.data.as_ref().map(|data| data.join("plugins"));
    let archive = Archive::open(remembered.clone()).map_err(StartError::Data)?;
    let directory = config.plugins.clone();
    let cache = code_cache(config)?;
    let keys = config.signature_keys.clone();
    let mut set = PluginSet::new(Engine::new()?, cache, keys, observer, directory.clone(), archive);
    let mut scanner = None;
    if let Some(directory) = directory {
        let looking = scanner.insert(Scanner::new(directory.clone()));
        let found = looking.look(std::time::Instant::now(), Trust::AsItIs);
        let found = found.map_err(|error| unreadable(&directory, error))?;
        Box::pin(set.start(found, Around { config, gateways: &[] })).await;
        for name in set.plugins().keys() {
            looking.watch_files(name, set.files(name));
        }
    }
    for (name, loaded) in set.plugins() {
        let version = loaded.plugin.live();
        let start_up_us = version.start_up().as_micros();
        tracing::info!(
            plugin = name,
            version = short(version.digest()),
            start_up_us,
            "plugin loaded"
        );
    }
    Ok(Reload {
        started: config.clone(),
        config: config.clone(),
        wanted: None,
        reread: None,
        set,
        scanner,
        gateways: Vec::new(),
        credentials: None,
        concluded: concluded_receiver,
        differences: differences_receiver,
        differing: Differences::into_directory(remembered),
        config_seen: None,
    })
}

impl Server {
    /// Starts every gateway of `config`.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is listened on.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Box::pin(Self::start_with(config, None)).await
    }

    /// The same with a configuration that may change: `reread` reads it again.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is listened on.
    pub async fn start_with(config: &Config, reread: Option<Reread>) -> Result<Self, StartError> {
        let mut reload = start_plugins(config).await?;
        reload.reread = reread;
        // Mistakes are reported before the store is opened, which may take a while.
        let tasks = TaskTracker::new();
        let credentials = Credentials::start(config, tasks.clone()).await;
        let none = TlsByGateway::new();
        let checked =
            resolve(config, reload.set.plugins(), &none, None, Telemetry::default()).map(drop);
        let mistakes = credentials.as_ref().map(drop).err().cloned();
        let mistakes: Vec<String> =
            checked.err().into_iter().flatten().chain(mistakes.into_iter().flatten()).collect();
        if !mistakes.is_empty() {
            return Err(with_refused(mistakes, &reload.set));
        }
        let (credentials, tls) = credentials.map_err(StartError::Mistakes)?;
        let telemetry = Telemetry::start(config.telemetry.as_ref()).await;
        let telemetry = telemetry
            .map_err(|error| StartError::Mistakes(vec![format!("[telemetry]: {error}")]))?;
        let front = open_front(config, &tasks).await?;
        let (store, contents) = open_store(config).await?.unzip();
        let Resolved { broker, gateways } =
            resolve(config, reload.set.plugins(), &tls, store, telemetry)
                .map_err(|mistakes| with_refused(mistakes, &reload.set))?;
        reload.credentials = Some(credentials);
        reload.gateways = gateways.iter().map(|(gateway, _)| Arc::clone(gateway)).collect();
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
        Ok(Self::serve(config, broker, bound, reload, front, tasks))
    }

    fn serve(
        config: &Config,
        broker: Arc<Broker>,
        bound: Vec<Listener>,
        reload: Reload,
        front: Front,
        tasks: TaskTracker,
    ) -> Self {
        let shutdown = front.shutdown();
        let view = reload.set.view();
        let gateways: Arc<[Arc<Gateway>]> = reload.gateways.clone().into();
        for (tls, lists) in reload.credentials.iter().flat_map(Credentials::lists) {
            let kept = credentials::keep(Arc::clone(tls), Arc::clone(lists));
            tasks.spawn(until(shutdown.clone(), kept));
        }
        let (reloader, changes) = reload.task();
        // A thread of its own: it reads and writes files, which may take long on a network file
        // system, and no connection is to wait for them.
        let reloads = shutdown.child_token();
        let (changes, runtime) = (until(reloads.clone(), changes), Handle::current());
        tasks.spawn_blocking(move || runtime.block_on(changes));
        let admin_address = front.address;
        // Before the first client, so that who saw one served can ask about it. Sockets listen already.
        front.ready(Admin {
            reloader: reloader.clone(),
            view,
            gateways,
            broker: Arc::clone(&broker),
            audit: front.audit(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        });
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
        tasks.spawn(until(shutdown.clone(), store_seen(Arc::clone(&broker))));
        let drain_timeout = config.drain_timeout;
        let _reloads = reloads.drop_guard();
        Self {
            broker,
            addresses,
            admin_address,
            tasks,
            shutdown,
            drain_timeout,
            reloader,
            _reloads,
        }
    }

    /// Looks at configuration and plugins again, as SIGHUP asks for. Gives a summary.
    ///
    /// # Errors
    /// What was refused.
    pub async fn reload(&self, by: &str) -> Result<String, String> {
        self.reloader.order(Command::Reload, by.to_owned()).await
    }

    /// Where each gateway listens, with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Where the admin API listens on the network, with the port that was chosen for port 0.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
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
        self.broker.telemetry.stop().await;
        self.broker.registry.store_seen();
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
fn with_refused(mut mistakes: Vec<String>, set: &PluginSet) -> StartError {
    mistakes.extend(set.refused().map(|(name, why)| format!("plugin {name:?}: {why}")));
    StartError::Mistakes(mistakes)
}

/// The admin API, which says that the gateway starts.
async fn open_front(config: &Config, tasks: &TaskTracker) -> Result<Front, StartError> {
    let audit = Audit::open(config.data.as_deref()).map_err(StartError::Data)?;
    let socket = admin_socket(config)?;
    let network = config.admin.network.as_ref();
    let places = Places { socket, network, tokens: &config.admin.tokens };
    let opened = Front::open(places, audit, tasks, CancellationToken::new()).await;
    opened.map_err(|error| StartError::Admin {
        path: network.map(|network| network.address.to_string()).unwrap_or_default(),
        error,
    })
}

/// The socket of the admin API, where there is a place for it.
fn admin_socket(config: &Config) -> Result<Option<Socket>, StartError> {
    let Some(path) = config.admin_socket() else { return Ok(None) };
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        tracing::warn!(
            path = %path.display(),
            "there is no admin socket: its path is longer than {SOCKET_PATH_BYTES_MAX} bytes; [admin] socket \
             names another"
        );
        return Ok(None);
    }
    let bound = Socket::bind(&path);
    let failed = |error| StartError::Admin { path: path.display().to_string(), error };
    bound.map(Some).map_err(failed)
}

fn announce(listener: &Listener, address: SocketAddr) {
    let gateway = &listener.gateway;
    let kind = listener.kind.name();
    let rules = gateway.rules();
    let verification = match &rules.verification {
        Verification::Open => "open".to_owned(),
        Verification::OneParty => "one-party".to_owned(),
        Verification::Plugin(plugin) => format!("plugin:{}", plugin.name()),
    };
    tracing::info!(gateway = %gateway.name, %address, kind, verification, "listening");
    if matches!(rules.verification, Verification::Open) {
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

/// Has it stored when devices connected last.
async fn store_seen(broker: Arc<Broker>) {
    let mut ticks = tokio::time::interval(SEEN_INTERVAL);
    loop {
        ticks.tick().await;
        broker.registry.store_seen();
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
