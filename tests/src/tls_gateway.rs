//! A gateway process with several `[[gateway]]` sections, each with a TLS listener of its own.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::binary::{Process, free_address};
use crate::openssl::Client;
use crate::pki::{Certificate, Lab, bundle, named};

/// How long the start may take after the first listener.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name that the gateway's metrics begin with.
const METRICS: &str = "portreeve_tls_";

/// One `[[gateway]]` of the configuration.
#[derive(Debug, Clone)]
struct Section {
    name: String,
    kind: String,
    verification: String,
    address: SocketAddr,
    tls: String,
}

/// A gateway in the making: `TlsGateway::new().mutual("hard", "[gateway.tls.client.ocsp]…").start()`.
#[derive(Debug)]
pub struct TlsGateway {
    lab: Lab,
    sections: Vec<Section>,
    top: String,
}

impl Default for TlsGateway {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsGateway {
    /// Without listeners; `root.pem` and `gw.pem` (with `int`) are in its folder.
    #[must_use]
    pub fn new() -> Self {
        let lab = Lab::new();
        let _root = bundle(lab.path(), "root.pem", &[named("root")]);
        let gateway = Self { lab, sections: Vec::new(), top: String::new() };
        gateway.put_identity("gw", named("gw"));
        gateway
    }

    /// Puts `NAME.pem` (with `int`) and `NAME.key` into its folder.
    pub fn put_identity(&self, name: &str, certificate: &Certificate) {
        put_identity(&self.lab, name, certificate);
    }

    /// Its folder.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// With lines before the first `[[gateway]]`.
    #[must_use]
    pub fn top(mut self, toml: &str) -> Self {
        self.top.push_str(toml);
        self.top.push('\n');
        self
    }

    /// With a section that has these lines after `[gateway.tls]`.
    #[must_use]
    pub fn section(mut self, name: &str, kind: &str, tls: &str) -> Self {
        self.sections.push(Section {
            name: name.to_owned(),
            kind: kind.to_owned(),
            verification: "open".to_owned(),
            address: free_address(),
            tls: tls.to_owned(),
        });
        self
    }

    /// With a section that asks nobody for a certificate.
    #[must_use]
    pub fn server_only(self, name: &str) -> Self {
        self.section(name, "tls", OWN)
    }

    /// With a section that demands certificates below `root`; `more` follows `[gateway.tls.client]`.
    #[must_use]
    pub fn mutual(self, name: &str, more: &str) -> Self {
        self.section(name, "tls", &format!("{OWN}{CLIENT}{more}"))
    }

    /// With a section `NAME` for these lines of `[gateway.tls.client.ocsp]`.
    #[must_use]
    pub fn ocsp(self, name: &str, mode: &str, responder: &str, more: &str) -> Self {
        let toml = format!(
            "[gateway.tls.client.ocsp]\nmode = {mode:?}\nresponder = {responder:?}\n{more}\n"
        );
        self.mutual(name, &toml)
    }

    /// With another verification than `open` for the section that was added last.
    ///
    /// # Panics
    /// Where there is no section.
    #[must_use]
    pub fn verified_by(mut self, verification: &str) -> Self {
        let last = self.sections.last_mut().expect("there is a section");
        verification.clone_into(&mut last.verification);
        self
    }

    /// Its configuration.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("[data]\ndirectory = \"data\"\n{}", self.top);
        for Section { name, kind, verification, address, tls } in &self.sections {
            let _infallible = write!(
                text,
                "[[gateway]]\nname = {name:?}\nverification = {verification:?}\n[[gateway.listener]]\n\
                 address = \"{address}\"\nkind = {kind:?}\n"
            );
            if !tls.is_empty() {
                let _infallible = writeln!(text, "[gateway.tls]\n{tls}");
            }
        }
        text
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> RunningTls {
        self.try_start().unwrap_or_else(|said| panic!("the gateway ended: {said}"))
    }

    /// Starts it, or gives what it said.
    ///
    /// # Errors
    /// When it ended instead.
    pub fn try_start(self) -> Result<RunningTls, String> {
        let path = self.lab.file("gateway.toml");
        std::fs::write(&path, self.text()).expect("it is written");
        let process = Process::start(&["--config", path.to_str().expect("a path in UTF-8")])
            .map_err(|said| format!("{said}\n{}", self.text()))?;
        let running = RunningTls { lab: self.lab, sections: self.sections, process, top: self.top };
        let begin = Instant::now();
        for section in &running.sections {
            while TcpStream::connect(section.address).is_err() {
                assert!(begin.elapsed() < PATIENCE, "{} does not listen", section.name);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(running)
    }
}

/// The gateway's own certificate, with stapling off: the tests of stapling say otherwise.
pub const OWN: &str =
    "[[gateway.tls.certificate]]\nchain = \"gw.pem\"\nkey = \"gw.key\"\nstapling = \"off\"\n";
/// Certificates below `root` are demanded.
pub const CLIENT: &str =
    "[gateway.tls.client]\nmode = \"required\"\ntrust_anchors = [\"root.pem\"]\n";

fn put_identity(lab: &Lab, name: &str, certificate: &Certificate) {
    // Both are moved into place, the key first, so that no half of a file is ever read.
    let partial = lab.file(&format!(".{name}.partial"));
    std::fs::copy(&certificate.key, &partial).expect("it is copied");
    std::fs::rename(&partial, lab.file(&format!("{name}.key"))).expect("it is moved");
    let chain = bundle(lab.path(), &format!(".{name}.chain"), &[certificate, named("int")]);
    std::fs::rename(chain, lab.file(&format!("{name}.pem"))).expect("it is moved");
}

/// A gateway that runs until this is dropped.
pub struct RunningTls {
    lab: Lab,
    sections: Vec<Section>,
    /// Its process.
    pub process: Process,
    top: String,
}

impl RunningTls {
    /// Where a section listens.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn at(&self, section: &str) -> SocketAddr {
        self.sections
            .iter()
            .find(|one| one.name == section)
            .expect("there is such a section")
            .address
    }

    /// A client of a section.
    #[must_use]
    pub fn client(&self, section: &str) -> Client {
        Client::new(self.at(section))
    }

    /// Its folder.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Puts another certificate of its own into its folder.
    pub fn put_identity(&self, name: &str, certificate: &Certificate) {
        put_identity(&self.lab, name, certificate);
    }

    /// Moves bytes into its folder.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let partial = self.lab.file(&format!(".{name}.partial"));
        std::fs::write(&partial, bytes).expect("it is written");
        // A key that others can read is refused for that.
        let only_owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&partial, only_owner).expect("it is ours");
        std::fs::rename(partial, self.lab.file(name)).expect("it is moved");
    }

    /// Its log since it was looked at, and what it said before it listened.
    #[must_use]
    pub fn log(&self) -> String {
        let mut lines = self.process.said.clone();
        lines.extend(self.process.log_lines());
        lines.join("\n")
    }

    fn socket(&self) -> PathBuf {
        self.lab.file("data/admin.sock")
    }

    /// Asks the admin socket: status and body.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn admin(&self, method: &str, path: &str) -> (u16, String) {
        self.admin_with(method, path, "")
    }

    /// The same with a body of JSON.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn admin_with(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).expect("the admin socket is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// Has everything read again; whether nothing was refused, and what was said.
    #[must_use]
    pub fn reload(&self) -> (bool, String) {
        let (status, body) = self.admin("POST", "/v1/reload");
        (status < 300, body)
    }

    /// The sum of a metric over its labels, of those lines that hold every one of `labels`.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.admin("GET", "/metrics");
        let of_name = |line: &&str| {
            line.strip_prefix(METRICS)
                .and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        let lines = text.lines().filter(of_name);
        let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Starts it again with the same folder and the same addresses.
    ///
    /// # Errors
    /// When it ended instead.
    pub fn restart(self) -> Result<Self, String> {
        let Self { lab, sections, process, top } = self;
        process.kill();
        TlsGateway { lab, sections, top }.try_start()
    }
}

/// Waits until something holds.
///
/// # Panics
/// When it does not in time.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
