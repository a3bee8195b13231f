//! The configuration: what an operator can say, read in full before anything is done, with every
//! mistake reported at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::devices::ConfiguredDevice;
use crate::devices::password::HashCost;
use ipnet::IpNet;

use crate::signature::TrustedKeys;
use tls::TlsConfig;

use crate::gateway::{GatewayLimits, OnError, TopicRules};
use crate::leading_slash::LeadingSlash;
use crate::lockout::LockoutPolicy;
use crate::telemetry::TelemetryConfig;

mod admin;
mod capabilities;
pub(crate) mod edit;
mod gateway;
mod manifest;
mod reader;
mod telemetry;
pub(crate) mod tls;

pub use admin::AdminConfig;
pub use manifest::PluginManifest;
pub use reader::Problem;
use reader::Section;
pub(crate) use reader::read_plain;

/// Everything that an operator can say.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[log]`.
    pub log: Log,
    /// The file that it was read from.
    pub path: Option<PathBuf>,
    /// As the file was when it was read.
    modified: Option<(SystemTime, u64)>,
    /// `[plugins] directory`.
    pub plugins: Option<PathBuf>,
    /// `[plugins] watch`: how changes of plugins and configuration are noticed.
    pub watch: Watch,
    /// `[plugins] poll_interval`: how often files are looked at where nothing tells of changes.
    pub poll_interval: Duration,
    /// `[plugins] signature_keys`: those whose components are accepted; none: nothing has to be
    /// signed.
    pub signature_keys: TrustedKeys,
    /// `[admin]`.
    pub admin: AdminConfig,
    /// `[certificates] directory`: certificates that `portreeve cert` manages.
    pub certificates: Option<PathBuf>,
    /// `[data] directory`: where the gateway keeps what is its own.
    pub data: Option<PathBuf>,
    /// `[store] durability`; `None` where it follows from whether there is a data directory.
    pub durability: Option<Durability>,
    /// How often `$SYS` is published.
    pub sys_interval: Duration,
    /// How long a shutdown waits for connections.
    pub drain_timeout: Duration,
    /// `[limits]` of the process.
    pub limits: ProcessLimits,
    /// `[passwords]`.
    pub passwords: PasswordConfig,
    /// `[lockout]`.
    pub lockout: LockoutPolicy,
    /// `[telemetry]`; `None`: no traces.
    pub telemetry: Option<TelemetryConfig>,
    /// `[[gateway]]`.
    pub gateways: Vec<GatewayConfig>,
    /// `[[device]]`.
    pub devices: Vec<ConfiguredDevice>,
}

/// How changes of files are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The system tells of changes; files are looked at now and then all the same.
    Notify,
    /// Files are looked at: for network file systems, where the system tells of nothing.
    Poll,
    /// On SIGHUP and by command only.
    Off,
}

/// What a restart does not take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Nothing is stored.
    Memory,
    /// What was acknowledged survives the end of the process, also by SIGKILL.
    Process,
    /// It survives the loss of power.
    Power,
}

/// Bounds that all gateways share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Connections of all gateways.
    pub connections_max: usize,
    /// Sessions, connected or not.
    pub sessions_max: usize,
    /// Retained messages.
    pub retained_messages_max: usize,
    /// Bytes of retained messages.
    pub retained_bytes_max: usize,
    /// Devices in the registry.
    pub devices_max: usize,
}

impl ProcessLimits {
    fn read(&mut self, limits: &Section<'_>) {
        limits.integer_into("connections_max", &mut self.connections_max, 1..=COUNT_MAX);
        limits.integer_into("sessions_max", &mut self.sessions_max, 1..=COUNT_MAX);
        limits.integer_into(
            "retained_messages_max",
            &mut self.retained_messages_max,
            0..=COUNT_MAX,
        );
        limits.bytes_into("retained_bytes_max", &mut self.retained_bytes_max, 0..(1 << 40));
        limits.integer_into("devices_max", &mut self.devices_max, 1..=COUNT_MAX);
        limits.finish();
    }
}

impl Default for ProcessLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            sessions_max: 1_000_000,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            devices_max: 10_000_000,
        }
    }
}

/// `[passwords]`: how passwords of the registry are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordConfig {
    /// What a new hash costs.
    pub cost: HashCost,
    /// Hashes that are computed at a time.
    pub threads: usize,
    /// Others that wait for it; a CONNECT beyond is told to come back.
    pub waiting_max: usize,
}

impl PasswordConfig {
    fn read(&mut self, section: &Section<'_>) {
        let mut memory_bytes = u64::from(self.cost.memory_kib) << 10;
        section.bytes_into("memory", &mut memory_bytes, (8 << 10)..((64 << 20) + 1));
        self.cost.memory_kib = u32::try_from(memory_bytes >> 10).unwrap_or(self.cost.memory_kib);
        section.integer_into("passes", &mut self.cost.passes, 1..=16);
        section.integer_into("threads", &mut self.threads, 1..=1_024);
        section.integer_into("waiting_max", &mut self.waiting_max, 1..=1_000_000);
        section.finish();
    }
}

impl Default for PasswordConfig {
    /// Half of the cores hash, the others go on with what is connected.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { cost: HashCost::default(), threads: (cores / 2).max(1), waiting_max: 20_000 }
    }
}

/// `[lockout]`.
fn read_lockout(policy: &mut LockoutPolicy, section: &Section<'_>) {
    const FAILURES_MAX: u64 = 1_000_000;
    section.integer_into("device_failures", &mut policy.device_failures, 0..=FAILURES_MAX);
    section.integer_into(
        "device_failures_anywhere",
        &mut policy.device_failures_anywhere,
        0..=FAILURES_MAX,
    );
    section.integer_into("address_failures", &mut policy.address_failures, 0..=FAILURES_MAX);
    section.duration_into("back_off", &mut policy.back_off, Duration::from_millis(1));
    section.duration_into("back_off_max", &mut policy.back_off_max, Duration::from_millis(1));
    section.duration_into("forget_after", &mut policy.forget_after, Duration::from_secs(1));
    section.finish();
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,plugin=debug`.
    pub level: String,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[[gateway]]`.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Its name, unique.
    pub name: String,
    /// The product of its devices.
    pub product: String,
    /// Its listeners.
    pub listeners: Vec<ListenerConfig>,
    /// How it verifies; `None` where a plugin's manifest has to say it.
    pub verification: Option<VerificationConfig>,
    /// `taken_names`: whether a verifier may take the name of an imported device.
    pub admits_taken_names: bool,
    /// `disabled_devices`: whether a verifier enables a device that was disabled.
    pub enables_disabled: bool,
    /// `[[gateway.binding]]`, in order.
    pub bindings: Vec<BindingConfig>,
    /// Device names that may read `$SYS/#`.
    pub sys_readers: Vec<String>,
    pub(crate) leading_slash: LeadingSlash,
    pub(crate) topic_rules: TopicRules,
    pub(crate) checks_payload_format: bool,
    pub(crate) response_information: Option<String>,
    pub(crate) limits: GatewayLimits,
    /// `[gateway.tls]`.
    pub tls: Option<TlsConfig>,
}

/// `[[gateway.listener]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Networks of the proxies whose PROXY protocol header is believed, and demanded; `None` where
    /// there is no proxy.
    pub trusted_proxies: Option<Vec<IpNet>>,
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// MQTT over TCP.
    Tcp,
    /// MQTT over TLS.
    Tls,
    /// MQTT over WebSocket over TCP.
    WebSocket,
    /// MQTT over WebSocket over TLS.
    WebSocketTls,
}

impl ListenerKind {
    /// The word for it in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "ws",
            Self::WebSocketTls => "wss",
        }
    }

    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocketTls)
    }
}

impl ListenerConfig {
    /// MQTT over TCP, without proxy.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, kind: ListenerKind::Tcp, trusted_proxies: None }
    }
}

/// How a gateway verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerificationConfig {
    /// Everybody is let in.
    Open,
    /// Imported devices.
    OneParty,
    /// The plugin of this name decides.
    Plugin(String),
}

/// A parser for a topic filter.
#[derive(Debug, Clone)]
pub struct BindingConfig {
    pub(crate) filter: String,
    pub(crate) direction: DirectionConfig,
    /// The plugin's name.
    pub(crate) plugin: String,
    pub(crate) may_publish: Vec<String>,
    pub(crate) on_error: OnError,
}

/// The way of the messages of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectionConfig {
    Up,
    Down,
}

/// A configuration that cannot be used: everything that is wrong with it.
#[derive(Debug, Clone)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Default for Config {
    /// A gateway for development: port 1883 of this machine, for nobody but this machine.
    fn default() -> Self {
        Self {
            log: Log { level: "info".to_owned(), format: LogFormat::Text },
            path: None,
            modified: None,
            plugins: None,
            watch: Watch::Notify,
            poll_interval: Duration::from_millis(500),
            signature_keys: TrustedKeys::default(),
            admin: AdminConfig::default(),
            certificates: None,
            data: None,
            durability: None,
            sys_interval: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            limits: ProcessLimits::default(),
            passwords: PasswordConfig::default(),
            lockout: LockoutPolicy::default(),
            telemetry: None,
            gateways: vec![GatewayConfig::development()],
            devices: Vec::new(),
        }
    }
}

/// `signature_keys = ["RW…", "release.pub"]`: keys or files of keys.
fn signature_keys(plugins: &Section<'_>, folder: &Path) -> TrustedKeys {
    let mut keys = TrustedKeys::default();
    let texts = plugins.strings("signature_keys");
    if texts.as_ref().is_some_and(Vec::is_empty) {
        // An empty list could mean that nobody is trusted, or that nothing has to be signed.
        plugins.problem(
            "signature_keys",
            "is empty",
            "name a key, or leave it out: then nothing has to be signed",
        );
    }
    for text in texts.unwrap_or_default() {
        let read = match text.ends_with(".pub") {
            true => std::fs::read_to_string(folder.join(&text)),
            false => Ok(text.clone()),
        };
        let added = read
            .map_err(|error| format!("cannot be read: {error}"))
            .and_then(|key| keys.add(&key).map_err(|error| error.to_string()));
        if let Err(error) = added {
            let hint =
                "write the second line of a minisign public key, or the path of its .pub file";
            plugins.problem("signature_keys", format!("{text:?} {error}"), hint);
        }
    }
    keys
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, by line and key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        // Before it is read: what changes meanwhile is read again.
        let before = modified(path);
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(vec![Problem::of_file(path, &error)]))?;
        let mut config = Self::parse(path, &text)?;
        config.modified = before;
        Ok(config)
    }

    /// Parses the text of the file `path`, whose folder relative paths begin at.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, by line and key.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        reader::read(path, text, |root| Self::from_section(path, &root))
    }

    /// Whether the file that it was read from is another one now.
    pub(crate) fn is_changed(&self) -> bool {
        self.path.as_ref().is_some_and(|path| modified(path) != self.modified)
    }

    /// What `other` changes that only a restart does.
    pub(crate) fn needs_restart(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut note = |is_changed: bool, what: &str| {
            if is_changed {
                found.push(what.to_owned());
            }
        };
        note(self.log != other.log, "[log]");
        note(self.plugins != other.plugins || self.watch != other.watch, "[plugins]");
        note(self.data != other.data || self.durability != other.durability, "[data] and [store]");
        note(self.admin != other.admin, "[admin]");
        note(self.certificates != other.certificates, "[certificates]");
        note(self.limits != other.limits, "[limits]");
        note(self.passwords != other.passwords, "[passwords]");
        note(self.lockout != other.lockout, "[lockout]");
        note(self.telemetry != other.telemetry, "[telemetry]");
        note(
            self.devices != other.devices,
            "[[device]]: until then the devices are what they were",
        );
        note(self.sys_interval != other.sys_interval, "[sys]");
        note(self.drain_timeout != other.drain_timeout, "[shutdown]");
        for gateway in &other.gateways {
            match self.gateways.iter().find(|ours| ours.name == gateway.name) {
                None => note(true, &format!("gateway {:?}", gateway.name)),
                Some(ours) => {
                    let of = |what: &str| format!("{what} of gateway {:?}", gateway.name);
                    note(ours.listeners != gateway.listeners, &of("the listeners"));
                    note(ours.tls.is_some() != gateway.tls.is_some(), &of("TLS on or off"));
                    note(ours.limits != gateway.limits, &of("the limits"));
                    note(ours.product != gateway.product, &of("the product"));
                    note(ours.leading_slash != gateway.leading_slash, &of("leading_slash"));
                }
            }
        }
        found
    }

    /// Where `portreeve plugin` and its like reach the gateway: what the configuration says, or
    /// `admin.sock` in the data directory.
    #[must_use]
    pub fn admin_socket(&self) -> Option<PathBuf> {
        let in_data = || self.data.as_ref().map(|data| data.join(ADMIN_SOCKET));
        self.admin.socket.clone().or_else(in_data)
    }

    /// Where managed certificates are: what the configuration says, or `certificates` in the data
    /// directory.
    #[must_use]
    pub fn certificates(&self) -> Option<PathBuf> {
        let in_data = || self.data.as_ref().map(|data| data.join(CERTIFICATES));
        self.certificates.clone().or_else(in_data)
    }

    /// Gateways that name a managed certificate of this kind (`server`, `ca`, `crl`).
    #[must_use]
    pub fn users_of_certificate(&self, kind: &str, name: &str) -> Vec<String> {
        let names = |gateway: &&GatewayConfig| {
            gateway.tls.as_ref().is_some_and(|tls| tls.names(kind, name))
        };
        self.gateways.iter().filter(names).map(|gateway| gateway.name.clone()).collect()
    }

    /// `[sys]`, `[shutdown]`, `[limits]`, `[passwords]`, `[lockout]`, `[telemetry]`.
    fn read_bounds(&mut self, root: &Section<'_>, folder: &Path) {
        if let Some(sys) = root.table("sys") {
            sys.duration_into("interval", &mut self.sys_interval, MIN_INTERVAL);
            sys.finish();
        }
        if let Some(shutdown) = root.table("shutdown") {
            shutdown.duration_into("drain_timeout", &mut self.drain_timeout, Duration::ZERO);
            shutdown.finish();
        }
        if let Some(limits) = root.table("limits") {
            self.limits.read(&limits);
        }
        if let Some(passwords) = root.table("passwords") {
            self.passwords.read(&passwords);
        }
        if let Some(lockout) = root.table("lockout") {
            read_lockout(&mut self.lockout, &lockout);
        }
        self.telemetry = root.table("telemetry").and_then(|table| telemetry::read(&table, folder));
    }

    fn from_section(path: &Path, root: &Section<'_>) -> Self {
        let mut config = Self::default();
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        if let Some(log) = root.table("log") {
            if let Some(level) = log.log_filter("level") {
                config.log.level = level;
            }
            let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
            config.log.format = log.choice("format", &formats).unwrap_or(config.log.format);
            log.finish();
        }
        config.path = Some(path.to_owned());
        if let Some(plugins) = root.table("plugins") {
            config.plugins = plugins.string("directory").map(|path| folder.join(path));
            let ways = [("notify", Watch::Notify), ("poll", Watch::Poll), ("off", Watch::Off)];
            config.watch = plugins.choice("watch", &ways).unwrap_or(config.watch);
            plugins.duration_into("poll_interval", &mut config.poll_interval, MIN_INTERVAL);
            config.signature_keys = signature_keys(&plugins, folder);
            plugins.finish();
        }
        if let Some(data) = root.table("data") {
            config.data = data.string("directory").map(|path| folder.join(path));
            data.finish();
        }
        if let Some(certificates) = root.table("certificates") {
            config.certificates = certificates.string("directory").map(|path| folder.join(path));
            certificates.finish();
        }
        if let Some(admin) = root.table("admin") {
            config.admin = AdminConfig::from_section(&admin, folder);
        }
        if let Some(store) = root.table("store") {
            let modes = [
                ("memory", Durability::Memory),
                ("process", Durability::Process),
                ("power", Durability::Power),
            ];
            config.durability = store.choice("durability", &modes);
            store.finish();
        }
        config.read_bounds(root, folder);
        let gateways = root.tables("gateway");
        if gateways.is_empty() {
            root.problem_here(
                "there is no gateway",
                "add a [[gateway]] with a name and a [[gateway.listener]]",
            );
        }
        let gateway = |section| GatewayConfig::from_section(section, folder);
        config.gateways = gateways.into_iter().map(gateway).collect();
        config.devices =
            root.tables("device").into_iter().filter_map(gateway::device_from_section).collect();
        gateway::check_names(&config.gateways, root);
        gateway::check_devices(&config.devices, root);
        root.finish();
        config
    }
}

/// The largest number that a count may be set to.
const COUNT_MAX: u64 = 1_000_000_000;

fn modified(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Managed certificates in the data directory.
const CERTIFICATES: &str = "certificates";

/// The admin socket in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

const MIN_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
