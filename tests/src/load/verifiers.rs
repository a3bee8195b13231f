//! What a way to verify adds to a CONNECT, and what a script adds to a message. The CPU time is the gateway's
//! alone: the service over HTTPS that is asked runs in the process of the load tool.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portreeve_mqtt::{Limits, Packet, QoS, decode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::scale::{publish, subscribe};
use super::servers::{ServerProcess, With, gateway, mosquitto};
use super::tls::Line;
use super::traffic::{VERSION, connected, connects, spawn};
use super::{cpu_time, median};
use crate::binary::binary;
use crate::https_service::{Answer, HttpsService};
use crate::scripts;

/// Connections before those that are counted.
const WARM: u32 = 200;
/// Connections are made in so many lanes, as many in each.
const LANES: u32 = 8;
/// Publishers, each with a subscriber.
const PAIRS: usize = 10;
/// Messages of one publisher that are under way.
const BATCH: u64 = 64;
/// A frame of the example `tts.js`: 21.5 °C, 45.5 %.
const FRAME: [u8; 3] = [0x08, 0x66, 0x5b];
/// How long a message may take, and a start.
const PATIENCE: Duration = Duration::from_secs(30);

/// It needs a Python with packages, and the others do not.
const PYTHON_IS_NOT_BUILT: &str = "function-verifier-python is not there; to measure it, too: \
                                   portreeve plugin build plugins-examples/function-verifier-python";

/// What has to be built before, and how; `None` where everything is there.
#[must_use]
pub fn not_built() -> Option<String> {
    let names = ["function-verifier", "script-parser"].into_iter();
    let missing = names.map(scripts::built).find(|component| !component.exists())?;
    Some(format!("{} is not there; build it first: make script-plugins", missing.display()))
}

/// One block of work.
#[derive(Debug, Clone, Copy)]
struct Sample {
    cpu_us: f64,
    per_second: f64,
}

/// A server, and what each of its blocks cost it.
struct Kind {
    name: &'static str,
    server: ServerProcess,
    samples: Vec<Sample>,
}

impl Kind {
    const fn new(name: &'static str, server: ServerProcess) -> Self {
        Self { name, server, samples: Vec::new() }
    }

    fn cpu_us(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.cpu_us).collect())
    }

    fn per_second(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.per_second).collect())
    }

    /// The middle of the differences to another one in the same round.
    fn above(&self, other: &Self) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.map(|(own, other)| own.cpu_us - other.cpu_us).collect())
    }

    /// A line of a table; `added` are columns of numbers.
    fn row(&self, added: &[Option<f64>]) -> String {
        let added: String = added
            .iter()
            .map(|added| added.map_or(" ".repeat(13), |added| format!(" {added:>12.1}")))
            .collect();
        format!("{:<44} {:>9.1}{added} {:>12.0}", self.name, self.cpu_us(), self.per_second())
    }
}

/// CONNECT and DISCONNECT with each way to verify, `count` times in each of `rounds`.
///
/// # Panics
/// When a CONNECT is refused.
pub async fn verification(rounds: usize, count: u32, mut tell: impl FnMut(&str)) -> Vec<Line> {
    // As many in each lane, so that what is asked for can be compared with what was asked.
    let count = count.next_multiple_of(LANES);
    let (service, asked) = service();
    let mut kinds = verifiers(&service);
    for kind in &kinds {
        let _warm = block(&kind.server, WARM).await;
    }
    for _ in 0..rounds {
        for kind in &mut kinds {
            let sample = block(&kind.server, count).await;
            kind.samples.push(sample);
        }
    }
    let [mosquitto, open, _, rust, https, ..] = kinds.as_slice() else { unreachable!() };
    let header = ["CONNECT + DISCONNECT", "CPU-us", "above open", "CONNECT/s"];
    tell(&format!("{:<44} {:>9} {:>12} {:>12}", header[0], header[1], header[2], header[3]));
    tell(&mosquitto.row(&[None]));
    tell(&open.row(&[None]));
    for kind in kinds.iter().skip(2) {
        tell(&kind.row(&[Some(kind.above(open))]));
    }
    if !scripts::built_python().exists() {
        tell(PYTHON_IS_NOT_BUILT);
    }
    let each = usize::try_from(count).unwrap();
    let made = usize::try_from(WARM).unwrap() + rounds * each;
    let unasked = made.saturating_sub(asked.load(Ordering::Relaxed));
    let beside = |cpu_us: f64| cpu_us / mosquitto.cpu_us();
    let (rust_adds, https_adds) = (rust.above(open), https.above(open));
    // Where the budgets were measured, this CONNECT of mosquitto's took 139 us: 110, 40 and 167 us.
    vec![
        Line::at_most(
            "Rust verifier / mosquitto's password file",
            beside(rust.cpu_us()),
            0.79,
            "x",
        ),
        Line::at_most("what it adds / the same", beside(rust_adds), 0.29, "x"),
        Line::at_most("what HTTPS adds / the same", beside(https_adds), 1.20, "x"),
        Line::at_most("fresh Rust verifier adds", rust_adds, 40.0, "us"),
        Line::at_most("HTTPS adds, the service not counted", https_adds, 167.0, "us"),
        Line::none("CONNECTs that the service was not asked about", unasked, made),
    ]
}

/// A service that admits everybody, and counts.
fn service() -> (HttpsService, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let service = HttpsService::start(move |question| {
        counted.fetch_add(1, Ordering::Relaxed);
        let name = question.json()["userName"].clone();
        Answer::json(json!({ "result": "accept", "deviceName": name }))
    });
    (service, asked)
}

fn verifiers(service: &HttpsService) -> Vec<Kind> {
    let one_party = gateway(With::OneParty);
    import(&one_party);
    let mut kinds = vec![
        Kind::new("mosquitto, password file", mosquitto(true)),
        Kind::new("portreeve, open", gateway(With::Nothing)),
        Kind::new("one-party, a password that was proven", one_party),
        Kind::new("Rust component, fresh", gateway(With::FreshVerifier)),
        Kind::new("https-verifier", gateway(With::HttpsVerifier(service.address))),
        Kind::new("function-verifier (JavaScript)", gateway(With::FunctionVerifier)),
    ];
    if scripts::built_python().exists() {
        let server = gateway(With::FunctionVerifierPython);
        kinds.push(Kind::new("function-verifier-python", server));
    }
    kinds
}

/// Brings the device `device-1` into the registry.
fn import(server: &ServerProcess) {
    let file = server.folder().join("devices.csv");
    let devices = "SN,MQTT UserName,MQTT Password\nSN_0001,device-1,demo\n";
    std::fs::write(&file, devices).expect("it is written");
    let mut command = Command::new(binary());
    command.args(["device", "import"]).arg(&file).arg("--data").arg(server.folder().join("data"));
    let begin = Instant::now();
    // The port is open a little before the gateway takes commands.
    loop {
        let output = command.output().expect("it runs");
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(begin.elapsed() < PATIENCE, "the device is not imported: {said}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn block(server: &ServerProcess, count: u32) -> Sample {
    let begin = Instant::now();
    let cpu_us = connects(server.address, server.pid(), count, true).await;
    Sample { cpu_us, per_second: f64::from(count) / begin.elapsed().as_secs_f64() }
}

/// Messages with QoS 0 to a topic that nothing is bound to, a parser in Rust, and a script; for `duration` in each
/// of `rounds`.
///
/// # Panics
/// When a message is lost.
pub async fn parsing(rounds: usize, duration: Duration, mut tell: impl FnMut(&str)) -> Vec<Line> {
    let mut kinds = [
        (Kind::new("mosquitto", mosquitto(false)), "in"),
        (Kind::new("no binding", gateway(With::Nothing)), "in"),
        (Kind::new("Rust parser, warm", gateway(With::WarmParser)), "out"),
        (Kind::new("script-parser, warm, tts.js", gateway(With::ScriptParser)), "out"),
    ];
    let mut warm_calls = Vec::new();
    for _ in 0..rounds {
        for (kind, last) in &mut kinds {
            let sample = messages(&kind.server, last, duration).await;
            kind.samples.push(sample);
        }
        let [.., (script, _)] = &kinds;
        warm_calls.push(warm_call(&script.server.folder().join("script-parser.wasm")));
    }
    let [(mosquitto, _), (none, _), (rust, _), (script, _)] = &kinds;
    tell(&format!(
        "{:<44} {:>9} {:>12} {:>12} {:>12}",
        "message, QoS 0, 10 pairs", "CPU-us", "above none", "above Rust", "messages/s"
    ));
    tell(&mosquitto.row(&[None, None]));
    tell(&none.row(&[None, None]));
    tell(&rust.row(&[Some(rust.above(none)), None]));
    tell(&script.row(&[Some(script.above(none)), Some(script.above(rust))]));
    let warm_call = median(warm_calls);
    let beside = warm_call / mosquitto.cpu_us();
    // Where the budget of 8 us for a warm call was measured, this message took mosquitto 8.6 us.
    vec![
        Line::at_most("a warm call of the script / mosquitto's message", beside, 0.93, "x"),
        Line::at_most("a warm call of the script, plugin bench", warm_call, 8.0, "us"),
        Line::at_most("script-parser adds to a message", script.above(none), 8.0, "us"),
    ]
}

/// The median of what a warm call takes that is asked about a frame, in microseconds.
fn warm_call(component: &Path) -> f64 {
    let mut command = Command::new(binary());
    command.args(["plugin", "bench", "--json"]).arg(component);
    let hex: String = FRAME.iter().map(|byte| format!("{byte:02x}")).collect();
    let question = json!({ "topic": "load/0/in", "payload_hex": hex });
    let output = command.arg(question.to_string()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    result["warm_call_us"].as_f64().expect("a number")
}

/// What a message costs that arrives at `load/NUMBER/LAST`.
async fn messages(server: &ServerProcess, last: &str, duration: Duration) -> Sample {
    let (delivered, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let pairs: Vec<_> = (0..PAIRS)
        .map(|number| {
            let (delivered, is_over) = (Arc::clone(&delivered), Arc::clone(&is_over));
            let to = format!("load/{number}/{last}");
            spawn(pair(server.address, number, to, delivered, is_over))
        })
        .collect();
    tokio::time::sleep(duration / 3).await;
    let (cpu, before) = (cpu_time(server.pid()), delivered.load(Ordering::Relaxed));
    let begin = Instant::now();
    tokio::time::sleep(duration).await;
    let count = delivered.load(Ordering::Relaxed) - before;
    let (cpu, took) = (cpu_time(server.pid()).saturating_sub(cpu), begin.elapsed());
    is_over.store(true, Ordering::Relaxed);
    for pair in pairs {
        pair.await.expect("every message arrives");
    }
    #[expect(clippy::cast_precision_loss, reason = "messages of a few seconds")]
    let count = count as f64;
    Sample { cpu_us: cpu.as_secs_f64() * 1e6 / count, per_second: count / took.as_secs_f64() }
}

/// Publishes messages to `load/NUMBER/in` and waits until all of them have arrived at `to`, again and again.
async fn pair(
    address: SocketAddr,
    number: usize,
    to: String,
    delivered: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
) {
    let mut subscriber = connected(address, &format!("subscriber-{number}"), true).await;
    subscribe(&mut subscriber, &[to], QoS::AtMostOnce).await;
    let mut publisher = connected(address, &format!("publisher-{number}"), true).await;
    let mut batch = Vec::new();
    for _ in 0..BATCH {
        publish(&format!("load/{number}/in"), &FRAME, QoS::AtMostOnce, false, &mut batch);
    }
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 65_536]);
    while !is_over.load(Ordering::Relaxed) {
        publisher.write_all(&batch).await.expect("the server reads");
        let mut under_way = BATCH;
        while under_way > 0 {
            let reading = timeout(PATIENCE, subscriber.read(&mut chunk)).await;
            let read = reading.expect("no message is lost").expect("the server writes");
            assert!(read > 0, "the server has closed the connection");
            buffer.extend_from_slice(&chunk[..read]);
            let (messages, used) = whole(&buffer);
            buffer.drain(..used);
            delivered.fetch_add(messages, Ordering::Relaxed);
            under_way = under_way.checked_sub(messages).expect("no message comes twice");
        }
    }
}

/// How many messages there are in a buffer, and where the last of them ends.
fn whole(buffer: &[u8]) -> (u64, usize) {
    let (mut messages, mut used) = (0, 0);
    while let Ok(Some((packet, taken))) = decode(&buffer[used..], VERSION, &Limits::STANDARD) {
        used += taken;
        messages += u64::from(matches!(packet, Packet::Publish(_)));
    }
    (messages, used)
}
