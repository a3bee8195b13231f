//! The servers that are measured, each a process of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::https_gateway::{manifest, trusting};
use crate::{guests, scripts};

/// A server that runs until it is dropped.
pub struct ServerProcess {
    child: Child,
    command: Command,
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
}

impl ServerProcess {
    /// Kills it with SIGKILL and starts it again; how long until it listens.
    pub fn kill_and_start(&mut self) -> Duration {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        let begin = Instant::now();
        self.child = self.command.spawn().expect("it starts again");
        wait_for(self.address);
        begin.elapsed()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What verifies and parses in a gateway that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// Nobody.
    Nothing,
    /// A warm parser on each message to `…/in`.
    WarmParser,
    /// The ready plugin `script-parser` with a payload formatter, on each message to `…/in`.
    ScriptParser,
    /// A fresh verifier on each CONNECT.
    FreshVerifier,
    /// Its devices, which are imported through its data directory.
    OneParty,
    /// The ready plugin `https-verifier`, which asks a service of the tests at this address.
    HttpsVerifier(SocketAddr),
    /// The ready plugin `function-verifier` with the function that it comes with.
    FunctionVerifier,
    /// The same in Python.
    FunctionVerifierPython,
    /// Nobody, but a store with this durability, and room for millions.
    Store(&'static str),
    /// A parser that computes until its deadline of 100 ms, on messages to `spin`.
    Spinner,
    /// A parser whose calls may ask this server, on messages to `ask`: four at a time, for 5 s each.
    Asker(SocketAddr),
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(mut command: Command, port: u16, folder: TempDir) -> ServerProcess {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_for(address);
    ServerProcess { child, command, address, folder }
}

fn wait_for(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn gateway_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let binary = own.with_file_name("portreeve");
    assert!(binary.exists(), "build it first: cargo build --release -p portreeve");
    binary
}

/// The gateway; `guest` plugins come from the workspace.
#[must_use]
pub fn gateway(with: With) -> ServerProcess {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "[log]\nlevel = \"error\"\n[plugins]\ndirectory = \".\"\n[[gateway]]\nname = \"load\"\nverification = \"{}\"\n\
         [[gateway.listener]]\naddress = \"127.0.0.1:{port}\"\n{}",
        verification(with),
        parts(with, folder.path())
    );
    let file = folder.path().join("gateway.toml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(gateway_binary());
    command.arg("run").arg("--config").arg(&file);
    start(command, port, folder)
}

const fn verification(with: With) -> &'static str {
    match with {
        With::FreshVerifier => "plugin:allow-list",
        With::OneParty => "one-party",
        With::HttpsVerifier(_) => "plugin:https-verifier",
        With::FunctionVerifier => "plugin:function-verifier",
        With::FunctionVerifierPython => "plugin:function-verifier-python",
        With::Nothing
        | With::WarmParser
        | With::ScriptParser
        | With::Store(_)
        | With::Spinner
        | With::Asker(_) => "open",
    }
}

/// Puts the plugin into the gateway's folder; what else stands in its configuration.
fn parts(with: With, folder: &Path) -> String {
    match with {
        With::Nothing => String::new(),
        With::WarmParser => {
            plugin(folder, "relay", "");
            relaying("relay")
        }
        With::ScriptParser => {
            put(folder, "script-parser", &scripts::built("script-parser"), TTS_MANIFEST);
            let script = scripts::example("script-parser/scripts/tts.js");
            fs::write(folder.join("tts.js"), script).unwrap();
            relaying("script-parser")
        }
        With::FreshVerifier => {
            plugin(folder, "allow-list", &guests::manifest("allow-list"));
            String::new()
        }
        With::OneParty => {
            "[store]\ndurability = \"memory\"\n[data]\ndirectory = \"data\"\n".to_owned()
        }
        With::HttpsVerifier(service) => {
            let url = format!("https://{service}/verify");
            let manifest = manifest(&url, "preset = \"portreeve\"", &trusting("root"));
            plugin(folder, "https-verifier", &manifest);
            NOTHING_KEPT.to_owned()
        }
        With::FunctionVerifier => {
            let name = "function-verifier";
            put(folder, name, &scripts::built(name), &guests::manifest(name));
            let script = scripts::example("function-verifier/scripts/handler.js");
            fs::write(folder.join("handler.js"), script).unwrap();
            NOTHING_KEPT.to_owned()
        }
        With::FunctionVerifierPython => {
            let name = "function-verifier-python";
            put(folder, name, &scripts::built_python(), &guests::manifest(name));
            NOTHING_KEPT.to_owned()
        }
        With::Store(durability) => format!(
            "[gateway.limits]\nsubscriptions_max = 1000000\n[store]\ndurability = {durability:?}\n\
             [data]\ndirectory = \"data\"\n"
        ),
        With::Spinner => {
            plugin(folder, "spin", "[limits]\ndeadline = \"100ms\"\n");
            "[[gateway.binding]]\nplugin = \"spin\"\ntopic = \"spin\"\n".to_owned()
        }
        With::Asker(server) => {
            let manifest = format!(
                "http = [\"http://{server}/\"]\n[instances]\ninstances = 4\n[limits]\ndeadline = \"5s\"\n\
                 [http_client]\ntimeout = \"60s\"\n[breaker]\nfaults = 0\n"
            );
            plugin(folder, "fetch", &manifest);
            "[[gateway.binding]]\nplugin = \"fetch\"\ntopic = \"ask\"\n".to_owned()
        }
    }
}

/// A verdict is not used again, whatever the verifier says: each CONNECT is a question.
const NOTHING_KEPT: &str = "[gateway.limits]\nverdicts_max = 0\n";

const TTS_MANIFEST: &str = "[settings]\npreset = \"tts\"\nscript = { file = \"tts.js\" }\nscript_name = \"tts.js\"\n\
                            topic_up = \"${parent}/out\"\n";

/// What a parser does with messages to `…/in`.
fn relaying(plugin: &str) -> String {
    format!(
        "[[gateway.binding]]\nplugin = {plugin:?}\ntopic = \"load/+/in\"\nmay_publish = [\"load/+/out\"]\n"
    )
}

fn plugin(folder: &Path, name: &str, manifest: &str) {
    put(folder, name, &guests::component(name), manifest);
}

fn put(folder: &Path, name: &str, component: &Path, manifest: &str) {
    fs::copy(component, folder.join(format!("{name}.wasm"))).unwrap();
    fs::write(folder.join(format!("{name}.toml")), manifest).unwrap();
}

/// Debian's mosquitto, with its bounds on queues off; `password` for a password file with the
/// user `device-1`, password `demo`.
#[must_use]
pub fn mosquitto(password: bool) -> ServerProcess {
    mosquitto_with(password, false)
}

/// The same; `persistence` has it write its state to its database as often as it can: at each
/// change of it.
#[must_use]
pub fn mosquitto_with(password: bool, persistence: bool) -> ServerProcess {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut config = format!(
        "listener {port} 127.0.0.1\nmax_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n\
         log_type error\nuser root\n"
    );
    if password {
        let file = folder.path().join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&file)
            .args(["device-1", "demo"])
            .status()
            .expect("mosquitto is installed by `make setup`");
        assert!(made.success());
        let _infallible =
            writeln!(config, "allow_anonymous false\npassword_file {}", file.display());
    } else {
        config.push_str("allow_anonymous true\n");
    }
    if persistence {
        let _infallible = writeln!(
            config,
            "persistence true\npersistence_location {}/\nautosave_on_changes true\n\
             autosave_interval 1000",
            folder.path().display()
        );
    }
    let file = folder.path().join("mosquitto.conf");
    fs::File::create(&file).unwrap().write_all(config.as_bytes()).unwrap();
    let binary =
        if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let mut command = Command::new(binary);
    command.arg("-c").arg(&file);
    start(command, port, folder)
}

/// mosquitto with TLS: a listener for everybody, and one that demands certificates below `trust_anchors`.
#[must_use]
pub fn mosquitto_tls(
    chain: &Path,
    key: &Path,
    trust_anchors: &Path,
) -> (ServerProcess, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let (one_way, mutual) = (free_port(), free_port());
    let mut config = String::from(
        "per_listener_settings false\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
         set_tcp_nodelay true\nlog_type error\nuser root\n",
    );
    for (port, demands) in [(one_way, false), (mutual, true)] {
        let _infallible = writeln!(
            config,
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {demands}",
            trust_anchors.display(),
            chain.display(),
            key.display()
        );
    }
    let file = folder.path().join("mosquitto.conf");
    fs::write(&file, config).unwrap();
    let binary =
        if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let mut command = Command::new(binary);
    command.arg("-c").arg(&file);
    let server = start(command, one_way, folder);
    let mutual = SocketAddr::from(([127, 0, 0, 1], mutual));
    wait_for(mutual);
    (server, mutual)
}
