//! A responder for tests, which behaves as it is told. Statuses are made by OpenSSL.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use url::Url;

use crate::test_pki::PKI;

/// What it does with each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Says what the index has, signed by this one.
    Answer(&'static str),
    /// As [`Self::Answer`], after a while.
    Slow(Duration),
    /// Answers with this HTTP status and an empty body.
    HttpStatus(u16),
    /// Knows POST only.
    PostOnly,
    /// Sends a redirect to itself.
    Redirect,
    /// Says nothing.
    Hang,
    /// Sends a body without end.
    Endless,
    /// Says tryLater.
    TryLater,
    /// Sends this.
    Garbage,
}

/// A running responder.
pub(crate) struct TestResponder {
    pub(crate) url: Url,
    state: Arc<State>,
}

struct State {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<String>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl TestResponder {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            behaviour: Mutex::new(behaviour),
            requests: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        });
        let tasks = TaskTracker::new();
        let (serving, connections) = (Arc::clone(&state), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { url: Url::parse(&format!("http://{address}/ocsp")).unwrap(), state }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock() = behaviour;
    }

    /// The first line of each request.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().clone()
    }

    pub(crate) fn most_under_way(&self) -> usize {
        self.state.most_under_way.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) -> Option<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..end + 4).collect()).ok()?;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while bytes.len() < length.unwrap_or(0) {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let line = head.lines().next()?.to_owned();
    state.requests.lock().push(line.clone());
    let now = state.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_under_way.fetch_max(now, Ordering::SeqCst);
    let path = line.split(' ').nth(1)?;
    let request = if line.starts_with("GET") {
        let escaped = path.rsplit('/').next()?;
        let text = escaped.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        STANDARD.decode(text).ok()?
    } else {
        bytes
    };
    let behaviour = *state.behaviour.lock();
    let (status, body) = match behaviour {
        Behaviour::Hang => pending().await,
        Behaviour::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(&[0x30; 4096]).await.ok()?;
            }
        }
        Behaviour::Answer(signer) => (200, answer(request, signer).await),
        Behaviour::Slow(time) => {
            tokio::time::sleep(time).await;
            (200, answer(request, "oc_good").await)
        }
        Behaviour::PostOnly if line.starts_with("GET") => (405, Vec::new()),
        Behaviour::PostOnly => (200, answer(request, "oc_good").await),
        Behaviour::HttpStatus(status) => (status, Vec::new()),
        Behaviour::Redirect => (302, Vec::new()),
        Behaviour::TryLater => (200, vec![0x30, 3, 10, 1, 3]),
        Behaviour::Garbage => (200, b"<html></html>".to_vec()),
    };
    state.under_way.fetch_sub(1, Ordering::SeqCst);
    let head = format!(
        "HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()
}

async fn answer(request: Vec<u8>, signer: &'static str) -> Vec<u8> {
    let respond = move || PKI.respond_to(&request, signer, "-nmin 60");
    tokio::task::spawn_blocking(respond).await.unwrap()
}
