//! The real binary in a process of its own, on a port that stays the same over restarts.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use crate::guests;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of the log that wait to be looked at.
const LOG_LINES_MAX: usize = 100_000;

/// The path of the binary, built once: with the profile of the tests, or for release where
/// `PORTREEVE_RELEASE` is set.
#[must_use]
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    // The load tool stands beside the one that it measures, which was built with it.
    let beside = std::env::current_exe().map(|own| own.with_file_name("portreeve"));
    if let Some(beside) = beside.ok().filter(|beside| beside.exists()) {
        return beside;
    }
    let build = || {
        let is_release = !cfg!(debug_assertions) || std::env::var_os("PORTREEVE_RELEASE").is_some();
        // Of the packages that were built before: with the features of others all dependencies would be
        // built again. Tests are built of the whole workspace, the tools build these two for release.
        let packages: &[&str] = match is_release {
            true => &["--release", "-p", "portreeve", "-p", "portreeve-tests"],
            false => &["--workspace"],
        };
        let arguments = [&["build", "--quiet", "--bin", "portreeve"], packages].concat();
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo).current_dir(guests::workspace()).args(arguments).status();
        assert!(built.expect("cargo runs").success(), "the binary does not build");
        let profile = if is_release { "release" } else { "debug" };
        guests::workspace().join("target").join(profile).join("portreeve")
    };
    BINARY.get_or_init(build).clone()
}

/// A gateway process. It is killed when this is dropped.
pub struct Process {
    child: Child,
    /// Where its first listener is.
    pub address: SocketAddr,
    log: Receiver<String>,
    /// Lines of its log before it listened.
    pub said: Vec<String>,
}

/// An address of this machine that nobody listens on.
#[must_use]
pub fn free_address() -> SocketAddr {
    // Not one that the system gives to whoever asks for any, and not one twice: some time goes by
    // before it is listened on. Test programs that run at a time begin at different places.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    loop {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + next % 20_000).expect("it is below 30,000");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Process {
    /// Starts `portreeve run` with these arguments, and waits until it listens.
    ///
    /// # Errors
    /// What it said, when it ended instead.
    pub fn start(arguments: &[&str]) -> Result<Self, String> {
        Self::start_by(Command::new(binary()).arg("run").args(arguments))
    }

    /// Starts a command that runs the gateway, and waits until it listens.
    ///
    /// # Errors
    /// What it said, when it ended instead.
    pub fn start_by(command: &mut Command) -> Result<Self, String> {
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the command runs");
        let stderr = child.stderr.take().expect("a pipe");
        let (lines, log) = sync_channel(LOG_LINES_MAX);
        // Read all the time, so that the gateway never waits for us.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _full = lines.try_send(line);
            }
        });
        let mut said = Vec::new();
        loop {
            let Ok(line) = log.recv_timeout(PATIENCE) else {
                let _gone = child.kill();
                let _status = child.wait();
                return Err(said.join("\n"));
            };
            // As text, or as JSON.
            let told = line.split_once("address=").or_else(|| line.split_once("\"address\":\""));
            if let Some((_, rest)) = told {
                let address = rest.split([' ', '"']).next().and_then(|text| text.parse().ok());
                if let Some(address) = address {
                    return Ok(Self { child, address, log, said });
                }
            }
            said.push(line);
        }
    }

    /// Starts it for nobody but this machine, everybody let in, with its store in `data`.
    #[must_use]
    pub fn with_store(address: SocketAddr, data: &Path) -> Self {
        let (address, data) = (address.to_string(), data.display().to_string());
        Self::start(&["--listen", &address, "--verification", "open", "--data", &data])
            .unwrap_or_else(|said| panic!("the gateway ended: {said}"))
    }

    /// SIGKILL: it can do nothing about it.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and the exit code.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("kill runs").success());
        self.child.wait().expect("it ends").code()
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Lines of the log that came so far and were not looked at.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// Waits for a line of the log that holds `text`.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn wait_for_log(&self, text: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("no line with {text:?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
