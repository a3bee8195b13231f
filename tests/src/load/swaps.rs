//! Versions of a plugin are swapped while clients connect and publish at full speed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::resident_bytes;
use crate::V5;
use crate::binary::{Process, binary, free_address};
use crate::client::Client;
use crate::plugins::{manifest, put, variant};

/// What the run came to.
#[derive(Debug)]
pub struct Swapped {
    /// Messages that were published and came back parsed.
    pub messages: u64,
    /// Connections that were made meanwhile.
    pub connects: u64,
    /// CONNECTs that were refused.
    pub refused: u64,
    /// Messages that were lost, refused, or parsed by a version older than the one before.
    pub wrong: u64,
    /// From the rename until a message came back by the new version, in their order.
    pub live: Vec<Duration>,
    /// Resident memory after the first tenth of the swaps, and at the end.
    pub resident_bytes: (u64, u64),
}

/// Clients among those that connect again and again.
const VISITORS_OF_TEN: usize = 2;

/// Swaps `count` versions under `clients` clients, some of which connect and the others publish. The
/// components are different ones, so that each is compiled.
#[must_use]
pub fn run(count: u32, clients: usize) -> Swapped {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).expect("a folder");
    put(&plugins, "versioned.toml", manifest("0", MANIFEST));
    put(&plugins, "versioned.wasm", variant("versioned", 0));
    let address = free_address();
    let data = folder.path().join("data");
    let arguments = [
        "--plugins",
        plugins.to_str().expect("a path"),
        "--data",
        data.to_str().expect("a path"),
        "--durability",
        "memory",
        "--listen",
        &address.to_string(),
        "--verification",
        "plugin:versioned",
    ];
    assert!(binary().exists(), "the binary is built");
    let process = Process::start(&arguments).expect("the gateway starts");
    let stop = AtomicBool::new(false);
    let [messages, connects, refused, wrong] = [const { AtomicU64::new(0) }; 4];
    let mut live = Vec::new();
    let mut resident = (0, 0);
    std::thread::scope(|scope| {
        for number in 0..clients {
            let (stop, messages, connects, refused, wrong) =
                (&stop, &messages, &connects, &refused, &wrong);
            scope.spawn(move || {
                if number % 10 < VISITORS_OF_TEN {
                    visit(address, number, stop, connects, refused);
                } else {
                    publish(address, number, stop, messages, wrong);
                }
            });
        }
        let mut watcher = Client::dial(address);
        watcher.connect(V5, "watcher");
        watcher.subscribe("watcher/out", 0);
        for version in 1..=count {
            live.push(swap(&plugins, version, &mut watcher));
            if version == count / 10 {
                resident.0 = resident_bytes(process.pid());
            }
        }
        stop.store(true, Ordering::Relaxed);
        resident.1 = resident_bytes(process.pid());
    });
    live.sort_unstable();
    Swapped {
        messages: messages.into_inner(),
        connects: connects.into_inner(),
        refused: refused.into_inner(),
        wrong: wrong.into_inner(),
        live,
        resident_bytes: resident,
    }
}

const MANIFEST: &str =
    "[[binding]]\ntopic = \"+/in\"\nmay_publish = [\"+/out\"]\n[instances]\npolicy = \"warm\"";

/// Moves a version into place, and waits until it answers. The manifest, by which a version is told,
/// comes last.
fn swap(plugins: &Path, version: u32, watcher: &mut Client) -> Duration {
    let component = variant("versioned", version);
    std::fs::write(plugins.join(".versioned.new"), component).expect("the file is written");
    let text = format!("{MANIFEST}\n[settings]\nversion = \"{version}\"\n");
    std::fs::write(plugins.join(".manifest.new"), text).expect("the file is written");
    let begin = Instant::now();
    std::fs::rename(plugins.join(".versioned.new"), plugins.join("versioned.wasm")).expect("moved");
    std::fs::rename(plugins.join(".manifest.new"), plugins.join("versioned.toml")).expect("moved");
    let wanted = format!("{version}:x");
    loop {
        watcher.publish_at_least_once("watcher/in", "x");
        if watcher.next_publish().payload == wanted.as_bytes() {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "version {version} is not live");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn visit(
    address: std::net::SocketAddr,
    number: usize,
    stop: &AtomicBool,
    connects: &AtomicU64,
    refused: &AtomicU64,
) {
    let name = format!("visitor-{number}");
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::dial(address);
        if client.try_connect(V5, &name) {
            connects.fetch_add(1, Ordering::Relaxed);
            client.disconnect();
        } else {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn publish(
    address: std::net::SocketAddr,
    number: usize,
    stop: &AtomicBool,
    messages: &AtomicU64,
    wrong: &AtomicU64,
) {
    let name = format!("publisher-{number}");
    let mut client = Client::dial(address);
    client.connect(V5, &name);
    client.subscribe(&format!("{name}/out"), 0);
    let topic = format!("{name}/in");
    let mut last = 0;
    for count in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let payload = format!("{count}.");
        let code = client.publish_at_least_once(&topic, &payload);
        let answer = match code {
            0 => String::from_utf8(client.next_publish().payload).unwrap_or_default(),
            _ => String::new(),
        };
        let parsed = answer.split_once(':').filter(|(_, rest)| *rest == payload);
        match parsed.and_then(|(version, _)| version.parse::<u32>().ok()) {
            Some(version) if version >= last => {
                last = version;
                messages.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
