//! A web server that answers as it is asked to, also as no server should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(600);

/// A server on a free port of this machine. Its threads end with the process.
///
/// The path says what it does: `/ok` and what lies below it answers "ok"; `/echo` tells what it was asked; `/to?URL`
/// redirects; `/bytes?N` answers so many; `/hang` never answers; `/drip` sends its body byte by byte, for ever;
/// `/cut` closes in the middle of the body.
#[derive(Debug)]
pub struct Web {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Web {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (requests, connections) = (Arc::default(), Arc::default());
        let web = Self {
            address,
            requests: Arc::clone(&requests),
            connections: Arc::clone(&connections),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let requests = Arc::clone(&requests);
                std::thread::spawn(move || drop(serve(&stream, &requests)));
            }
        });
        web
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same by another name of this machine.
    #[must_use]
    pub fn url_by(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// What it was asked so far: method, path and query.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn serve(stream: &TcpStream, requests: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let mut headers = String::new();
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
            headers.push_str(header.trim());
            headers.push('\n');
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let asked = format!("{method} {target}");
        requests.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let ok =
            |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let answer = match path {
            path if path.starts_with("/ok") => ok("ok"),
            "/echo" => ok(&format!("{asked} {length}\n{headers}")),
            "/to" => {
                format!("HTTP/1.1 302 Found\r\nlocation: {query}\r\ncontent-length: 0\r\n\r\n")
            }
            "/bytes" => ok(&"x".repeat(query.parse().unwrap_or(0))),
            "/hang" => {
                std::thread::sleep(FOR_EVER);
                return Ok(());
            }
            "/drip" => return drip(&mut writer),
            "/cut" => {
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")?;
                return Ok(());
            }
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        };
        writer.write_all(answer.as_bytes())?;
    }
}

fn drip(writer: &mut TcpStream) -> std::io::Result<()> {
    writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
    loop {
        writer.write_all(b"x")?;
        std::thread::sleep(Duration::from_millis(20));
    }
}
