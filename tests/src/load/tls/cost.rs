//! What a connection costs the server: handshake, CONNECT, DISCONNECT. Every kind in turn, in blocks, so that what
//! else the machine does meets all of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::traffic::spawn;
use super::super::{median, resident_bytes};
use super::client::{Identity, TlsClient};
use super::devices::Devices;
use super::setup::Servers;
use super::{Line, us};
use crate::load::servers::mosquitto_tls;
use crate::pki::named;
use crate::tls_gateway::TlsGateway;

/// Connections at a time.
const LANES: usize = 8;
/// Connections before those that are counted.
const WARM: usize = 200;
/// Idle connections that are open before those that are counted.
const IDLE_WARM: usize = 500;

/// Nanoseconds of CPU time of each thread of a process, by its number.
fn thread_times(pid: u32) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let of_task = |path: PathBuf| -> Option<(String, u64)> {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, text.split_whitespace().next()?.parse().ok()?))
    };
    tasks.flatten().filter_map(|task| of_task(task.path())).collect()
}

/// CPU time between two looks; `None` where a thread has ended meanwhile and took its time with it.
fn between(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Option<Duration> {
    let is_whole = before.keys().all(|thread| after.contains_key(thread));
    let nanoseconds =
        after.values().sum::<u64>() - before.values().sum::<u64>().min(after.values().sum());
    is_whole.then(|| Duration::from_nanos(nanoseconds))
}

/// One connection after the other with each of `clients`, some lanes at a time; CPU-microseconds of the server for
/// each. Again where a thread of the server ends meanwhile.
async fn block(pid: u32, clients: &Arc<[TlsClient]>, begin: usize, count: usize) -> f64 {
    loop {
        let before = thread_times(pid);
        connect_all(clients, begin, count).await;
        if let Some(time) = between(&before, &thread_times(pid)) {
            return us(time) / count as f64;
        }
    }
}

async fn connect_all(clients: &Arc<[TlsClient]>, begin: usize, count: usize) {
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let clients = Arc::clone(clients);
            spawn(async move {
                for number in (begin..begin + count).skip(lane).step_by(LANES) {
                    let client = &clients[number % clients.len()];
                    client.once(&format!("load-{number}")).await.expect("it is let in");
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.expect("every connection is let in");
    }
}

/// A kind of connection.
struct Kind {
    name: &'static str,
    pid: u32,
    clients: Arc<[TlsClient]>,
    taken: Vec<f64>,
}

impl Kind {
    fn median(&self) -> f64 {
        median(self.taken.clone())
    }

    /// The middle of the differences to another one in the same round.
    fn difference(&self, other: &Self) -> f64 {
        median(self.taken.iter().zip(&other.taken).map(|(a, b)| a - b).collect())
    }
}

fn kinds(servers: &Servers, strangers: usize) -> Vec<Kind> {
    let device = Identity::device(named("dev_ec"));
    let devices = Devices::default();
    let strangers: Vec<Identity> = (0..strangers).map(|_| devices.next()).collect();
    let (gateway, mosquitto) = (servers.gateway.process.pid(), servers.mosquitto.pid());
    let kind = |name, pid, address: SocketAddr, identities: &[Identity]| Kind {
        name,
        pid,
        clients: match identities {
            [] => Arc::new([TlsClient::new(address, None)]),
            some => some.iter().map(|one| TlsClient::new(address, Some(one))).collect(),
        },
        taken: Vec::new(),
    };
    let ours = |section: &str| servers.gateway.at(section);
    let one = std::slice::from_ref(&device);
    vec![
        kind("mosquitto, one-way", mosquitto, servers.mosquitto.address, &[]),
        kind("portreeve, one-way", gateway, ours("one-way"), &[]),
        kind("mosquitto, mutual", mosquitto, servers.mosquitto_mutual, one),
        kind("portreeve, mutual", gateway, ours("mutual"), one),
        kind("portreeve, mutual, OCSP hard from the cache", gateway, ours("ocsp"), one),
        kind("portreeve, mutual, CRL of 100,000", gateway, ours("crl"), one),
        kind(
            "mosquitto, mutual, never the same device",
            mosquitto,
            servers.mosquitto_mutual,
            &strangers,
        ),
        kind("portreeve, mutual, never the same device", gateway, ours("mutual"), &strangers),
        kind("portreeve, the same, CRL of 100,000", gateway, ours("crl"), &strangers),
        Kind {
            clients: Arc::new([TlsClient::new(ours("one-way"), None).chacha_first()]),
            ..kind("portreeve, one-way, ChaCha20 first", gateway, ours("one-way"), &[])
        },
    ]
}

/// CPU-microseconds of each kind, as lines; `count` connections of each in each of `rounds`.
///
/// # Panics
/// When a connection is not let in.
pub async fn connections(servers: &Servers, rounds: usize, count: usize) -> Vec<Line> {
    // As many as there are connections: none comes again.
    let mut kinds = kinds(servers, WARM + rounds * count);
    for kind in &kinds {
        let _warm = block(kind.pid, &kind.clients, 0, WARM).await;
    }
    for round in 0..rounds {
        for kind in &mut kinds {
            let taken = block(kind.pid, &kind.clients, WARM + round * count, count).await;
            kind.taken.push(taken);
        }
    }
    let mut lines = Vec::new();
    for kind in &kinds[..2] {
        let opened = kind.clients[0].open("looks").await.expect("it is let in");
        lines.push(Line::plain(format!("suite: {}", kind.name), opened.cipher_suite()));
        opened.leave().await;
    }
    for kind in &kinds {
        let spread = kind
            .taken
            .iter()
            .copied()
            .fold((f64::MAX, f64::MIN), |(least, most), one| (least.min(one), most.max(one)));
        let value = format!("{:.0} ({:.0}-{:.0})", kind.median(), spread.0, spread.1);
        lines.push(Line::plain(format!("CPU-us: {}", kind.name), value));
    }
    let at = |index: usize| &kinds[index];
    let ratio = |a: usize, b: usize| at(a).median() / at(b).median();
    lines.push(Line::at_most("one-way / mosquitto", ratio(1, 0), 0.50, "x"));
    lines.push(Line::plain("mutual without a check / mosquitto", format!("{:.3} x", ratio(3, 2))));
    lines.push(Line::at_most("mutual, OCSP from the cache / mosquitto", ratio(4, 2), 0.27, "x"));
    let strangers = format!("{:.3} x", ratio(7, 6));
    lines.push(Line::plain("mutual, never the same device / mosquitto", strangers));
    lines.push(Line::at_most(
        "a check from the OCSP cache adds",
        at(4).difference(at(3)),
        10.0,
        "us",
    ));
    let percent = 100.0 * at(5).difference(at(3)) / at(3).median();
    lines.push(Line::at_most("a CRL of 100,000 adds", percent, 5.0, "%"));
    let percent = 100.0 * at(8).difference(at(7)) / at(7).median();
    lines.push(Line::plain("the same, never the same device", format!("{percent:.1} %")));
    let percent = 100.0 * at(9).difference(at(1)) / at(1).median();
    lines.push(Line::plain(
        "a client that lists ChaCha20 first costs more",
        format!("{percent:.1} %"),
    ));
    lines
}

/// Resident bytes of a server for each of `count` idle connections.
async fn idle_of(pid: u32, client: &TlsClient, count: usize) -> f64 {
    let mut open = Vec::new();
    for number in 0..IDLE_WARM {
        open.push(client.open(&format!("warm-{number}")).await.expect("it is let in"));
    }
    let before = resident_bytes(pid);
    for number in 0..count {
        open.push(client.open(&format!("idle-{number}")).await.expect("it is let in"));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    resident_bytes(pid).saturating_sub(before) as f64 / count as f64
}

/// The same of servers that did nothing before.
///
/// # Panics
/// When a connection is not let in.
pub async fn idle(runs: usize, count: usize) -> Vec<Line> {
    let device = Identity::device(named("dev_ec"));
    let (mut one_way, mut mutual, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let gateway = TlsGateway::new().server_only("one-way").start();
        let client = TlsClient::new(gateway.at("one-way"), None);
        one_way.push(idle_of(gateway.process.pid(), &client, count).await);
        let file = |name: &str| gateway.lab().file(name);
        let (mosquitto, _) = mosquitto_tls(&file("gw.pem"), &file("gw.key"), &file("root.pem"));
        let client = TlsClient::new(mosquitto.address, None);
        theirs.push(idle_of(mosquitto.pid(), &client, count).await);
        let gateway = TlsGateway::new().mutual("mutual", "").start();
        let client = TlsClient::new(gateway.at("mutual"), Some(&device));
        mutual.push(idle_of(gateway.process.pid(), &client, count).await);
    }
    let name = "resident bytes for each idle connection";
    vec![
        Line::plain(format!("{name}, mosquitto"), format!("{:.0} B", median(theirs))),
        Line::at_most(format!("{name}, one-way"), median(one_way), 8_000.0, "B"),
        Line::plain(format!("{name}, mutual"), format!("{:.0} B", median(mutual))),
    ]
}
