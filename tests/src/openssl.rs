//! `openssl s_client` and curl as clients, so that what judges the gateway's TLS is not its own library.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::pki::{Certificate, named};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the start to CONNECT where an alert is waited for: a connection that is reset loses it.
const BEFORE_CONNECT: Duration = Duration::from_millis(200);

/// TLS 1.2 and 1.3 as `s_client` names them.
pub const BOTH: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// What became of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// CONNACK 0.
    Accepted,
    /// CONNACK with this code.
    Refused(u8),
    /// A TLS alert of this number.
    Alert(u8),
    /// Closed without a word.
    Closed,
    /// Nothing in time.
    Silence,
}

impl Outcome {
    /// Whether it was not let in, and was told or closed.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Refused(_) | Self::Alert(_) | Self::Closed)
    }

    /// Whether it was refused as one that is revoked: alert 44, or CONNACK 0x87 or 5.
    #[must_use]
    pub fn is_revoked(self) -> bool {
        matches!(self, Self::Alert(44) | Self::Refused(0x87 | 5))
    }
}

/// A client in the making.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    arguments: Vec<String>,
    trust_anchor: PathBuf,
    server_name: Option<String>,
    is_mqtt_5: bool,
    client_id: String,
    user_name: Option<String>,
    password: Option<String>,
    more: Vec<u8>,
    before_connect: Duration,
}

impl Client {
    /// Of TLS 1.3, MQTT 5 and the name `gw.test`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            arguments: Vec::new(),
            trust_anchor: named("root").crt.clone(),
            server_name: Some("gw.test".to_owned()),
            is_mqtt_5: true,
            client_id: "device-1".to_owned(),
            user_name: None,
            password: None,
            more: Vec::new(),
            before_connect: Duration::ZERO,
        }
    }

    /// With an option: `-tls1_2`.
    #[must_use]
    pub fn with(mut self, option: &str) -> Self {
        self.arguments.push(option.to_owned());
        self
    }

    /// With an option and its value.
    #[must_use]
    pub fn with_value(self, option: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref().display().to_string();
        self.with(option).with(&value)
    }

    /// With a certificate, and what is sent after it.
    #[must_use]
    pub fn certificate(self, certificate: &Certificate, chain: &Path) -> Self {
        self.alone(certificate).with_value("-cert_chain", chain)
    }

    /// With a certificate of `int`.
    #[must_use]
    pub fn device(self, certificate: &Certificate) -> Self {
        self.certificate(certificate, &named("int").crt)
    }

    /// With a certificate and nothing after it.
    #[must_use]
    pub fn alone(self, certificate: &Certificate) -> Self {
        self.with_value("-cert", &certificate.crt).with_value("-key", &certificate.key)
    }

    /// With another trust anchor.
    #[must_use]
    pub fn trusts(mut self, certificate: &Certificate) -> Self {
        self.trust_anchor.clone_from(&certificate.crt);
        self
    }

    /// With another server name, or none.
    #[must_use]
    pub fn server_name(mut self, name: Option<&str>) -> Self {
        self.server_name = name.map(str::to_owned);
        self
    }

    /// Speaks MQTT 3.1.1.
    #[must_use]
    pub fn mqtt_3(mut self) -> Self {
        self.is_mqtt_5 = false;
        self
    }

    /// With this client identifier.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// With this user name.
    #[must_use]
    pub fn user_name(mut self, user_name: &str) -> Self {
        self.user_name = Some(user_name.to_owned());
        self
    }

    /// With this password, which goes with a user name on MQTT 3.1.1.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Sends these bytes right after CONNECT.
    #[must_use]
    pub fn and_sends(mut self, bytes: &[u8]) -> Self {
        self.more = bytes.to_vec();
        self
    }

    /// Waits before CONNECT, so that an alert is read.
    #[must_use]
    pub fn slowly(mut self) -> Self {
        self.before_connect = BEFORE_CONNECT;
        self
    }

    fn connect(&self) -> Vec<u8> {
        let string = |text: &str| {
            let length = u16::try_from(text.len()).expect("it is short").to_be_bytes();
            [&length[..], text.as_bytes()].concat()
        };
        let name_flag = if self.user_name.is_some() { 0x80 } else { 0 };
        let flags = 0x02 | name_flag | if self.password.is_some() { 0x40 } else { 0 };
        let mut body = [&string("MQTT")[..], &[4 + u8::from(self.is_mqtt_5), flags, 0, 0]].concat();
        if self.is_mqtt_5 {
            body.push(0);
        }
        body.extend(string(&self.client_id));
        let credentials = self.user_name.iter().chain(&self.password);
        body.extend(credentials.flat_map(|text| string(text)));
        let length = u8::try_from(body.len()).ok().filter(|length| *length < 128);
        [&[0x10, length.expect("a short CONNECT")][..], &body].concat()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &self.address.to_string(), "-CAfile"]);
        command.arg(&self.trust_anchor).args(&self.arguments);
        match &self.server_name {
            Some(name) => command.args(["-servername", name]),
            None => command.arg("-noservername"),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Connects, sends CONNECT and waits for what becomes of it.
    #[must_use]
    pub fn run(&self) -> Outcome {
        self.open().0
    }

    /// The same, and what keeps the connection open.
    #[must_use]
    pub fn open(&self) -> (Outcome, Open) {
        let mut open = self.open_bare();
        std::thread::sleep(self.before_connect);
        open.send(&self.connect());
        open.send(&self.more);
        let outcome = open.connack();
        (outcome, open)
    }

    /// Connects and sends nothing.
    ///
    /// # Panics
    /// When `s_client` cannot be started.
    #[must_use]
    pub fn open_bare(&self) -> Open {
        let mut child =
            self.command().args(["-quiet", "-nocommands"]).spawn().expect("openssl runs");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = collected(child.stdout.take().expect("a pipe"));
        let stderr = collected(child.stderr.take().expect("a pipe"));
        Open { child, stdin, stdout, stderr, received: Vec::new() }
    }

    /// Connects, sends CONNECT and is gone after a while.
    ///
    /// # Panics
    /// When `s_client` cannot be started.
    pub fn leave_after(&self, patience: Duration) {
        let mut child =
            self.command().args(["-quiet", "-nocommands"]).spawn().expect("openssl runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let _gone = stdin.write_all(&self.connect());
        std::thread::sleep(patience);
        let _gone = child.kill();
        let _status = child.wait();
    }

    /// What `s_client` shows of the handshake: certificates, protocol, cipher, ALPN, staple. Sends nothing.
    ///
    /// # Panics
    /// When `s_client` does not run or does not end.
    #[must_use]
    pub fn inspect(&self) -> String {
        let mut child = self.command().arg("-showcerts").spawn().expect("openssl runs");
        drop(child.stdin.take());
        let stdout = collected(child.stdout.take().expect("a pipe"));
        let stderr = collected(child.stderr.take().expect("a pipe"));
        let deadline = Instant::now() + PATIENCE;
        let (mut said, mut is_open) = (Vec::new(), true);
        while is_open && Instant::now() < deadline {
            is_open = take(&stdout, &mut said, deadline);
        }
        let _gone = child.kill();
        let _status = child.wait();
        while take(&stderr, &mut said, deadline) {}
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// Reads a pipe to its end, so that nobody waits for us.
fn collected(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (parts, collected) = sync_channel(4096);
    std::thread::spawn(move || {
        let mut chunk = [0; 16_384];
        while let Ok(read @ 1..) = pipe.read(&mut chunk) {
            if parts.send(chunk[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    collected
}

/// Takes one part; whether there may be more.
fn take(pipe: &Receiver<Vec<u8>>, into: &mut Vec<u8>, deadline: Instant) -> bool {
    match pipe.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(part) => {
            into.extend(part);
            true
        }
        Err(_) => false,
    }
}

/// A connection that stays until this is dropped.
#[derive(Debug)]
pub struct Open {
    child: Child,
    stdin: ChildStdin,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    received: Vec<u8>,
}

impl Open {
    /// Sends bytes; an end that came meanwhile shows later.
    pub fn send(&mut self, bytes: &[u8]) {
        let _gone = self.stdin.write_all(bytes);
        let _gone = self.stdin.flush();
    }

    fn receive(&mut self, count: usize, deadline: Instant) -> Result<(), RecvTimeoutError> {
        while self.received.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            self.received.extend(self.stdout.recv_timeout(left)?);
        }
        Ok(())
    }

    /// Behind the remaining length, which has one byte or more, and the flags.
    fn connack_code(&mut self) -> u8 {
        let length_bytes =
            self.received[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let place = 1 + length_bytes + 1;
        self.receive(place + 1, Instant::now() + PATIENCE).expect("the rest of CONNACK");
        self.received[place]
    }

    fn connack(&mut self) -> Outcome {
        match self.receive(4, Instant::now() + PATIENCE) {
            Ok(()) if self.received[0] == 0x20 => match self.connack_code() {
                0 => Outcome::Accepted,
                code => Outcome::Refused(code),
            },
            Ok(()) => panic!("no CONNACK: {}", hex::encode(&self.received)),
            Err(RecvTimeoutError::Timeout) => Outcome::Silence,
            Err(RecvTimeoutError::Disconnected) => {
                let mut said = Vec::new();
                let deadline = Instant::now() + PATIENCE;
                while take(&self.stderr, &mut said, deadline) {}
                let said = String::from_utf8_lossy(&said);
                let number =
                    said.split("alert number ").nth(1).and_then(|rest| rest.lines().next());
                number
                    .and_then(|text| text.trim().parse().ok())
                    .map_or(Outcome::Closed, Outcome::Alert)
            }
        }
    }

    /// Whether it is alive: PINGREQ is answered. Everything that came before was taken.
    pub fn pings(&mut self) -> bool {
        self.asks(&[0xc0, 0], 2).ends_with(&[0xd0, 0])
    }

    /// Sends a packet and gives so many bytes of what comes then; fewer at the end of the connection.
    pub fn asks(&mut self, packet: &[u8], count: usize) -> Vec<u8> {
        self.received.clear();
        while let Ok(part) = self.stdout.try_recv() {
            drop(part);
        }
        self.send(packet);
        let _ended = self.receive(count, Instant::now() + PATIENCE);
        self.received.clone()
    }

    /// Waits until the gateway ends it; what it said after CONNACK, as hex. `None` when it goes on.
    pub fn ended(&mut self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        self.received.clear();
        match self.receive(usize::MAX, deadline) {
            Err(RecvTimeoutError::Disconnected) => Some(hex::encode(&self.received)),
            _ => None,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The exit code of `curl --cert-status`: 91 is a bad or missing staple. Any other is a good one: what MQTT answers
/// to HTTP is nothing.
///
/// # Panics
/// When curl does not run.
#[must_use]
pub fn curl_cert_status(address: SocketAddr, name: &str, tls: &str) -> i32 {
    let port = address.port();
    let version = if tls == "-tls1_2" { "1.2" } else { "1.3" };
    let versions = [&format!("--tlsv{version}"), "--tls-max", version];
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "5", "--cert-status", "--cacert"])
        .arg(&named("root").crt)
        .args(["--resolve", &format!("{name}:{port}:{}", address.ip())])
        .args(versions)
        .arg(format!("https://{name}:{port}/"))
        .output()
        .expect("curl runs");
    output.status.code().expect("it was not killed")
}

/// The first value after `key` in what `inspect` shows.
#[must_use]
pub fn shown<'a>(said: &'a str, key: &str) -> Option<&'a str> {
    said.lines().find_map(|line| Some(line.split_once(key)?.1.trim()))
}
