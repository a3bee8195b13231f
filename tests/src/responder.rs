//! OCSP responders: OpenSSL's, and one that answers as no responder should.

pub mod answer;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::binary::free_address;
use crate::der::from_base64;
use crate::pki::{Certificate, Index};

use answer::{Question, answer};

/// How long a connection may be silent, and how long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(600);
/// The body of `big`.
const BIG_BYTES: usize = 10 << 20;
/// Bodies of requests are shorter.
const BODY_BYTES_MAX: usize = 65_536;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Asked {
    /// GET or POST.
    pub method: String,
    /// The path, still percent-encoded.
    pub path: String,
    /// What it asks for, if that can be read.
    pub question: Option<Question>,
    /// The body of a POST.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    asked: Mutex<Vec<Asked>>,
    /// What a path does instead of what it says.
    aliases: Mutex<HashMap<String, String>>,
    in_flight: AtomicUsize,
    in_flight_most: AtomicUsize,
    connections: AtomicUsize,
    sent: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The misbehaving responder. The first part of the path is the behaviour; those that are about bytes are in
/// [`answer::answer`], the others are `500`, `404`, `redir` (to `/hits`), `big`, `bigchunk`, `hang`, `drip`, `slow1`
/// (good after a second) and `postonly` (405 to GET). Its threads end with the process.
#[derive(Debug)]
pub struct Responder {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Responder {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { address, state }
    }

    /// The URL of a behaviour.
    #[must_use]
    pub fn url(&self, behaviour: &str) -> String {
        format!("http://{}/{behaviour}", self.address)
    }

    /// From now on, the path does as this behaviour says.
    pub fn set(&self, path: &str, behaviour: &str) {
        locked(&self.state.aliases).insert(path.to_owned(), behaviour.to_owned());
    }

    /// What came in on a path.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let is_of = |asked: &&Asked| first_part(&asked.path) == path;
        locked(&self.state.asked).iter().filter(is_of).cloned().collect()
    }

    /// How often a path was asked.
    #[must_use]
    pub fn hits(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    /// Requests that were answered at the same time, at most.
    #[must_use]
    pub fn in_flight_most(&self) -> usize {
        self.state.in_flight_most.load(Ordering::Relaxed)
    }

    /// Connections that it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Bytes of `big` and `bigchunk` that somebody took.
    #[must_use]
    pub fn bytes_taken(&self) -> usize {
        self.state.sent.load(Ordering::Relaxed)
    }
}

fn first_part(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or("")
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let byte =
            more.get(..2).filter(|_| first == b'%').and_then(|digits| hex::decode(digits).ok());
        match byte {
            Some(byte) => {
                bytes.extend(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one request; `None` at the end of the connection.
fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    let request = if method == "GET" {
        let encoded = path.trim_start_matches('/').split_once('/').map_or("", |(_, rest)| rest);
        from_base64(&percent_decoded(encoded)).unwrap_or_default()
    } else {
        body.clone()
    };
    Ok(Some(Asked { method, path, question: Question::read(&request), body }))
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    while let Some(asked) = read(&mut reader)? {
        locked(&state.asked).push(asked.clone());
        let now = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        state.in_flight_most.fetch_max(now, Ordering::Relaxed);
        let answered = answer_one(&mut writer, state, &asked);
        state.in_flight.fetch_sub(1, Ordering::Relaxed);
        answered?;
    }
    Ok(())
}

fn head(status: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/ocsp-response\r\ncontent-length: {length}\r\n"
    )
}

fn answer_one(writer: &mut TcpStream, state: &State, asked: &Asked) -> std::io::Result<()> {
    let path = first_part(&asked.path).to_owned();
    let behaviour = locked(&state.aliases).get(&path).cloned().unwrap_or(path);
    let mut plain = |status: &str, more: &str| {
        writer.write_all(format!("{}{more}\r\n", head(status, 0)).as_bytes())
    };
    let behaviour = match behaviour.as_str() {
        "500" => return plain("500 Internal Server Error", ""),
        "404" => return plain("404 Not Found", ""),
        "redir" => return plain("302 Found", "location: /hits\r\n"),
        "postonly" if asked.method == "GET" => return plain("405 Method Not Allowed", ""),
        "postonly" | "ocsp" => "good",
        "hang" => {
            std::thread::sleep(FOR_EVER);
            return Ok(());
        }
        "slow1" => {
            std::thread::sleep(Duration::from_secs(1));
            "good"
        }
        "big" => return big(writer, state),
        "bigchunk" => return endless(writer, state),
        other => other,
    };
    let asks = asked.question.as_ref();
    let (bytes, is_slow) = match behaviour {
        "drip" => (asks.and_then(|question| answer("good", question)), true),
        other => (asks.and_then(|question| answer(other, question)), false),
    };
    let Some(bytes) = bytes else { return plain("400 Bad Request", "") };
    let head = format!("{}\r\n", head("200 OK", bytes.len())).into_bytes();
    if is_slow {
        writer.write_all(&head)?;
        for byte in bytes {
            writer.write_all(&[byte])?;
            std::thread::sleep(Duration::from_millis(100));
        }
        return Ok(());
    }
    writer.write_all(&[head, bytes].concat())
}

fn big(writer: &mut TcpStream, state: &State) -> std::io::Result<()> {
    writer.write_all(format!("{}\r\n", head("200 OK", BIG_BYTES)).as_bytes())?;
    for _ in 0..BIG_BYTES / 4096 {
        writer.write_all(&[0x30; 4096])?;
        state.sent.fetch_add(4096, Ordering::Relaxed);
    }
    Ok(())
}

fn endless(writer: &mut TcpStream, state: &State) -> std::io::Result<()> {
    writer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    loop {
        writer.write_all(b"1000\r\n")?;
        writer.write_all(&[0x30; 4096])?;
        writer.write_all(b"\r\n")?;
        state.sent.fetch_add(4096, Ordering::Relaxed);
    }
}

/// Accepts connections and never says a word.
#[must_use]
pub fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        let _held: Vec<_> = listener.incoming().flatten().collect();
    });
    address
}

/// A listener whose queue is full, so that a SYN gets no answer.
#[derive(Debug)]
pub struct Blackhole {
    /// Where it listens.
    pub address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Blackhole {
    /// Makes one.
    ///
    /// # Panics
    /// When sockets cannot be had.
    #[must_use]
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
            socket.listen(1).expect("it listens")
        });
        let address = listener.local_addr().expect("it has an address");
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        Self { address, runtime, _listener: listener, _waiting: waiting }
    }

    /// Keeps it until here.
    pub fn end(self) {
        self.runtime.shutdown_background();
    }
}

impl Default for Blackhole {
    fn default() -> Self {
        Self::new()
    }
}

/// `openssl ocsp` as a responder. It is killed when this is dropped.
#[derive(Debug)]
pub struct OpensslResponder {
    /// Where it listens; the same over restarts.
    pub address: SocketAddr,
    index: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl OpensslResponder {
    /// Starts one for an issuer's index. `more` are options: `-nmin 60` if none is about that.
    #[must_use]
    pub fn start(index: &Index, issuer: &Certificate, signer: &Certificate, more: &[&str]) -> Self {
        Self::start_at(free_address(), index, issuer, signer, more)
    }

    /// Starts one at an address.
    #[must_use]
    pub fn start_at(
        address: SocketAddr,
        index: &Index,
        issuer: &Certificate,
        signer: &Certificate,
        more: &[&str],
    ) -> Self {
        let log = index.path.with_extension(format!("{}.log", address.port()));
        let path = |path: &Path| path.display().to_string();
        let mut arguments = vec!["ocsp".to_owned(), "-text".to_owned(), "-ignore_err".to_owned()];
        for (option, value) in [
            ("-index", path(&index.path)),
            ("-port", address.port().to_string()),
            ("-rsigner", path(&signer.crt)),
            ("-rkey", path(&signer.key)),
            ("-CA", path(&issuer.crt)),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        if !more.contains(&"-nmin") {
            arguments.extend(["-nmin".to_owned(), "60".to_owned()]);
        }
        arguments.extend(more.iter().map(|option| (*option).to_owned()));
        let mut responder =
            Self { address, index: index.path.clone(), log, arguments, child: None };
        responder.restart();
        responder
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Starts it again, or for the first time.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub fn restart(&mut self) {
        self.kill();
        let starts = self.log().matches("ACCEPT").count();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.expect("the log can be written");
        let errors = log.try_clone().expect("a handle");
        let mut command = Command::new("stdbuf");
        command.args(["-o0", "openssl"]).args(&self.arguments).stdin(Stdio::null());
        self.child = Some(command.stdout(log).stderr(errors).spawn().expect("openssl runs"));
        // A connection without a request would block it for good, so its port is not tried.
        let begin = Instant::now();
        while self.log().matches("ACCEPT").count() <= starts {
            assert!(begin.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it: connections to its port are refused.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }

    /// What it was asked and what it answered, as OpenSSL prints it.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.log().matches("OCSP Request Data:").count()
    }

    /// The file with the certificates that it knows.
    #[must_use]
    pub fn index(&self) -> &Path {
        &self.index
    }
}

impl Drop for OpensslResponder {
    fn drop(&mut self) {
        self.kill();
    }
}
