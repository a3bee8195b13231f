//! Connections at a pace: how long each of them waits, alone and beside handshakes that never end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::median;
use super::super::traffic::spawn;
use super::client::{Identity, Refused, TlsClient, Took};
use super::setup::Servers;
use super::{Line, percentile, us};
use crate::pki::named;

/// Connections a second.
const PACE: u32 = 30;
/// The same beside handshakes that never end: more of them, for the slowest of a hundred.
const PACE_BESIDE: u32 = 60;
/// Handshakes that never end.
const SLOW: usize = 500;

/// So many connections a second, each in its time whether the one before is done or not.
pub async fn paced(
    client: &TlsClient,
    name: &str,
    each_second: u32,
    duration: Duration,
) -> Vec<Result<Took, Refused>> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / each_second);
    let begin = Instant::now();
    let mut tasks = Vec::new();
    while begin.elapsed() < duration {
        ticks.tick().await;
        let (client, id) = (client.clone(), format!("{name}-{}", tasks.len()));
        tasks.push(spawn(async move { client.once(&id).await }));
    }
    let mut taken = Vec::new();
    for task in tasks {
        taken.push(task.await.expect("it ends"));
    }
    taken
}

async fn served(client: &TlsClient, each_second: u32, duration: Duration) -> Vec<Took> {
    let taken = paced(client, "paced", each_second, duration).await;
    taken.into_iter().map(|one| one.expect("it is let in")).collect()
}

/// From CONNECT to CONNACK at 30 connections a second.
///
/// # Panics
/// When a connection is not let in.
pub async fn connack(servers: &Servers, runs: usize, duration: Duration) -> Vec<Line> {
    let device = Identity::device(named("dev_ec"));
    let gateway = |section: &str| servers.gateway.at(section);
    let clients = [
        ("mosquitto, mutual", TlsClient::new(servers.mosquitto_mutual, Some(&device))),
        ("one-way", TlsClient::new(gateway("one-way"), None)),
        ("mutual, OCSP from the cache", TlsClient::new(gateway("ocsp"), Some(&device))),
    ];
    let mut taken: [(Vec<f64>, Vec<f64>); 3] = Default::default();
    for _ in 0..runs {
        for ((_, client), (p50, p99)) in clients.iter().zip(&mut taken) {
            let times: Vec<Duration> =
                served(client, PACE, duration).await.iter().map(|one| one.connack_after).collect();
            p50.push(us(percentile(&times, 50)) / 1000.0);
            p99.push(us(percentile(&times, 99)) / 1000.0);
        }
    }
    let mut lines = Vec::new();
    for ((name, _), (p50, p99)) in clients.iter().zip(taken) {
        let what = |part: &str| format!("{part} CONNECT to CONNACK, {PACE}/s, {name}");
        let (p50, p99) = (median(p50), median(p99));
        lines.push(if name.starts_with("mosquitto") {
            Line::plain(what("p50"), format!("{p50:.3} ms"))
        } else {
            Line::at_most(what("p50"), p50, 1.0, "ms")
        });
        lines.push(Line::plain(what("p99"), format!("{p99:.3} ms")));
    }
    lines
}

/// The bytes of a ClientHello.
fn hello() -> Vec<u8> {
    let config = TlsClient::new(SocketAddr::from(([127, 0, 0, 1], 1)), None).config();
    let name = ServerName::try_from("gw.test").expect("a name");
    let mut connection = ClientConnection::new(config, name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("into memory");
    bytes
}

/// What those that are slow share.
struct Slow {
    hello: Vec<u8>,
    open: AtomicUsize,
    stop: AtomicBool,
}

/// One byte a second; again from the start where the server has had enough.
async fn slow(shared: Arc<Slow>, address: SocketAddr) {
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        shared.open.fetch_add(1, Ordering::Relaxed);
        for byte in &shared.hello {
            if shared.stop.load(Ordering::Relaxed) || stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whole connections of others with and without 500 handshakes of one byte a second.
///
/// # Panics
/// When a connection is not let in.
pub async fn slow_loris(servers: &Servers, pairs: usize, duration: Duration) -> Vec<Line> {
    let device = Identity::device(named("dev_ec"));
    let address = servers.gateway.at("mutual");
    let client = TlsClient::new(address, Some(&device));
    let (mut alone, mut beside, mut open) = (Vec::new(), Vec::new(), usize::MAX);
    let p99 = |taken: Vec<Took>| {
        let times: Vec<Duration> = taken.iter().map(|one| one.all).collect();
        us(percentile(&times, 99)) / 1000.0
    };
    for _ in 0..pairs {
        alone.push(p99(served(&client, PACE_BESIDE, duration).await));
        let shared = Arc::new(Slow {
            hello: hello(),
            open: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let slow_ones: Vec<_> =
            (0..SLOW).map(|_| spawn(slow(Arc::clone(&shared), address))).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        beside.push(p99(served(&client, PACE_BESIDE, duration).await));
        open = open.min(shared.open.load(Ordering::Relaxed));
        shared.stop.store(true, Ordering::Relaxed);
        for slow_one in slow_ones {
            slow_one.abort();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (alone, beside) = (median(alone), median(beside));
    vec![
        Line::plain(
            format!("p99 TCP to CONNACK, {PACE_BESIDE}/s, alone"),
            format!("{alone:.2} ms"),
        ),
        Line::at_least("slow handshakes at a time", open as f64, SLOW as f64 * 0.9),
        Line::plain("p99 beside them", format!("{beside:.2} ms")),
        Line::at_most("ratio", beside / alone, 2.0, "x"),
    ]
}
