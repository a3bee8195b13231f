//! A gateway in this process, on a port that the system chooses.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portreeve::config::{Config, ConfigError};
use portreeve::{Reread, Server, StartError};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::client::Client;
use crate::{guests, plugins};

/// A gateway in the making; reads as a sentence:
/// `TestGateway::verified_by("open").with_plugin("spin", "").with_binding("spin", "raw/#").start()`.
pub struct TestGateway {
    folder: TempDir,
    verification: String,
    gateway: String,
    listener: String,
    sys_interval: String,
    plugins: String,
    limits: String,
    bindings: String,
    rest: String,
    is_reread: bool,
}

impl TestGateway {
    /// With this verification: `open`, `one-party` or `plugin:NAME`.
    #[must_use]
    pub fn verified_by(verification: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            verification: verification.to_owned(),
            gateway: String::new(),
            listener: String::new(),
            sys_interval: "100ms".to_owned(),
            plugins: String::new(),
            limits: String::new(),
            bindings: String::new(),
            rest: String::new(),
            is_reread: false,
        }
    }

    /// With everybody let in.
    #[must_use]
    pub fn open() -> Self {
        Self::verified_by("open")
    }

    /// With a guest and its manifest.
    #[must_use]
    pub fn with_plugin(self, name: &str, manifest: &str) -> Self {
        std::fs::copy(guests::component(name), self.folder.path().join(format!("{name}.wasm")))
            .expect("the component is copied");
        std::fs::write(self.folder.path().join(format!("{name}.toml")), manifest)
            .expect("the manifest is written");
        self
    }

    /// With a component that no guest was built for.
    #[must_use]
    pub fn with_component(self, name: &str, bytes: &[u8], manifest: &str) -> Self {
        std::fs::write(self.folder.path().join(format!("{name}.wasm")), bytes)
            .expect("the component is written");
        std::fs::write(self.folder.path().join(format!("{name}.toml")), manifest)
            .expect("the manifest is written");
        self
    }

    /// Its folder, to put there what no plugin is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// With an example plugin and the manifest that it comes with.
    #[must_use]
    pub fn with_example(self, name: &str) -> Self {
        let manifest = guests::manifest(name);
        self.with_plugin(name, &manifest)
    }

    /// With a parser for `topic` that may publish anywhere; `more` are further keys.
    #[must_use]
    pub fn with_binding(mut self, plugin: &str, topic: &str, more: &str) -> Self {
        let _infallible = write!(
            self.bindings,
            "[[gateway.binding]]\nplugin = {plugin:?}\ntopic = {topic:?}\n{more}\n"
        );
        self
    }

    /// With a key of `[gateway.limits]`.
    #[must_use]
    pub fn with_limit(mut self, key: &str, value: &str) -> Self {
        let _infallible = writeln!(self.limits, "{key} = {value}");
        self
    }

    /// With a line of `[[gateway]]`.
    #[must_use]
    pub fn with_gateway_line(mut self, line: &str) -> Self {
        self.gateway.push_str(line);
        self.gateway.push('\n');
        self
    }

    /// With lines of its `[[gateway.listener]]`.
    #[must_use]
    pub fn with_listener_line(mut self, lines: &str) -> Self {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// With `$SYS` published this often.
    #[must_use]
    pub fn with_sys_interval(mut self, interval: &str) -> Self {
        interval.clone_into(&mut self.sys_interval);
        self
    }

    /// With lines of `[plugins]`.
    #[must_use]
    pub fn with_plugins_line(mut self, lines: &str) -> Self {
        self.plugins.push_str(lines);
        self.plugins.push('\n');
        self
    }

    /// With a configuration file that is read again when it changes.
    #[must_use]
    pub fn with_a_file(mut self) -> Self {
        self.is_reread = true;
        self
    }

    /// With further tables.
    #[must_use]
    pub fn with(mut self, toml: &str) -> Self {
        self.rest.push_str(toml);
        self.rest.push('\n');
        self
    }

    fn text(&self) -> String {
        let Self { verification, gateway, listener, sys_interval, .. } = self;
        let Self { limits, bindings, rest, plugins, .. } = self;
        format!(
            "[plugins]\ndirectory = \".\"\n{plugins}[sys]\ninterval = {sys_interval:?}\n[[gateway]]\nname = \"test\"\n\
             verification = {verification:?}\n{gateway}[[gateway.listener]]\naddress = \"127.0.0.1:0\"\n\
             {listener}{bindings}[gateway.limits]\n{limits}{rest}"
        )
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    fn config(&self) -> Config {
        let text = self.text();
        Config::parse(&self.file(), &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// What reads its file again, where it has one.
    fn reread(&self) -> Option<Reread> {
        let path = self.file();
        self.is_reread.then(|| -> Reread {
            std::fs::write(&path, self.text()).expect("the configuration is written");
            let mistakes = |error: ConfigError| error.0.iter().map(ToString::to_string).collect();
            Box::new(move |text| {
                let config =
                    text.map_or_else(|| Config::read(&path), |text| Config::parse(&path, text));
                config.map_err(mistakes)
            })
        })
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> RunningGateway {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it, or tells why it does not start.
    ///
    /// # Errors
    /// What [`Server::start`] says.
    pub fn try_start(self) -> Result<RunningGateway, StartError> {
        let reread = self.reread();
        let config = match &reread {
            Some(reread) => reread(None).unwrap_or_else(|mistakes| panic!("{mistakes:?}")),
            None => self.config(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime.block_on(Server::start_with(&config, reread))?;
        let address = server.addresses()[0].1;
        Ok(RunningGateway { server: Some(server), runtime, address, folder: self.folder })
    }
}

/// A gateway that runs until it is dropped.
pub struct RunningGateway {
    server: Option<Server>,
    runtime: Runtime,
    address: SocketAddr,
    folder: TempDir,
}

impl RunningGateway {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder: plugins and manifests.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server, to look at its counters.
    #[must_use]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs until it is dropped")
    }

    /// Has configuration and plugins looked at again. Gives a summary.
    ///
    /// # Errors
    /// What was refused.
    pub fn reload(&self) -> Result<String, String> {
        self.runtime.block_on(self.server().reload("test"))
    }

    /// Puts another text into its configuration file, which it needs to have.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.folder().join("gateway.toml"));
        let text = change(text.expect("it has a configuration file"));
        plugins::put(self.folder(), "gateway.toml", text);
    }

    /// What happened to its plugins; it needs a data directory `data`.
    #[must_use]
    pub fn history(&self) -> String {
        let path = self.folder().join("data/plugins/history.jsonl");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// The value of a counter.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        let mut counters = self.server().metrics().counters();
        counters
            .find(|(counter, _)| *counter == name)
            .unwrap_or_else(|| panic!("no counter {name}"))
            .1
    }

    /// Waits until `condition` holds; at most ten seconds.
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition(self) {
            assert!(Instant::now() < deadline, "not within ten seconds: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A network connection to it.
    #[must_use]
    pub fn dial(&self) -> Client {
        Client::dial(self.address)
    }

    /// A client that is connected: version 3.1.1 or 5.0, clean start.
    #[must_use]
    pub fn client(&self, version: portreeve_mqtt::ProtocolVersion, client_id: &str) -> Client {
        let mut client = self.dial();
        client.connect(version, client_id);
        client
    }

    /// Ends it in order; whether all connections ended in time.
    #[must_use]
    pub fn shut_down(mut self) -> bool {
        let server = self.server.take().expect("it runs until it is dropped");
        self.runtime.block_on(server.shutdown())
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
    }
}
