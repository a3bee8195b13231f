//! `portreeve-load`: measures the gateway beside mosquitto, as ratios in one run.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a tool for developers that prints its table"
)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use portreeve_mqtt::QoS;
use portreeve_tests::load::servers::{ServerProcess, With, gateway, mosquitto, mosquitto_with};
use portreeve_tests::load::swaps::{self, Swapped};
use portreeve_tests::load::tls::{self, Line, number};
use portreeve_tests::load::traffic::{Shape, connects, idle, one_after_another, round_trips, run};
use portreeve_tests::load::traps::{self, Trapped};
use portreeve_tests::load::{Measured, devices, median, resident_bytes, scale, verifiers};
use portreeve_tests::web::Web;

/// Measure the gateway beside mosquitto, as ratios in one run.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every shape of traffic, connections and memory, against both servers in turn.
    Compare {
        /// Runs of each, of which the median is told.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// Seconds of each run.
        #[arg(long, default_value_t = 2)]
        seconds: u64,
    },
    /// Connections and memory alone, against both servers in turn.
    Connections {
        /// Runs of each, of which the median is told.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Latency of one client while a guest spins for another.
    Spin,
    /// Latency of one client while calls of a plugin wait for a server that never answers.
    Hang {
        /// Pairs of runs, idle and not, of which the medians are told.
        #[arg(long, default_value_t = 5)]
        pairs: usize,
    },
    /// QoS 1 to sessions that outlive their connections, in each durability, beside mosquitto.
    Durable {
        /// Runs of each, of which the median is told.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// Seconds of each run.
        #[arg(long, default_value_t = 2)]
        seconds: u64,
    },
    /// Routing and retained messages at 1,000, 100,000 and 1,000,000; a storm of connections; a
    /// start with many sessions and messages.
    Scale,
    /// Versions of a plugin are swapped while clients connect and publish.
    Swaps {
        /// Swaps.
        #[arg(long, default_value_t = 1_000)]
        count: u32,
        /// Clients.
        #[arg(long, default_value_t = 50)]
        clients: usize,
    },
    /// Calls of one plugin, some of which trap: fails where the memory grows by 5 per cent or more
    /// after the first twentieth of the calls.
    Traps {
        /// Calls.
        #[arg(long, default_value_t = 10_000_000)]
        calls: u64,
        /// Those among them that trap.
        #[arg(long, default_value_t = 10_000)]
        traps: u64,
        /// The result as JSON, without progress.
        #[arg(long)]
        json: bool,
    },
    /// TLS: what connections cost beside mosquitto, latency, memory, slow handshakes, a large CRL.
    Tls {
        /// Rounds of each kind of connection, of which the median is told.
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// Connections of each kind in a round.
        #[arg(long, default_value_t = 400)]
        connections: usize,
        /// What is measured; everything where nothing is named.
        #[arg(value_parser = TLS_PARTS)]
        parts: Vec<String>,
    },
    /// Certificates, keys, trust anchors and CRLs are replaced under clients (ROTATIONS, CLIENTS, HANDSHAKES).
    TlsRotation,
    /// No OCSP responder answers (OUTAGE_SECONDS).
    TlsOutage,
    /// Devices are revoked by OCSP, CRL and deny-list (DEVICES in each way).
    TlsRevocation,
    /// Many devices are imported, and some of them let in.
    DeviceImport {
        /// Devices.
        #[arg(long, default_value_t = 1_000_000)]
        count: usize,
    },
    /// Devices come back at once, verified by a service over HTTPS.
    DeviceStorm {
        /// Devices.
        #[arg(long, default_value_t = 10_000)]
        count: usize,
    },
    /// What each way to verify adds to a CONNECT, and what a script adds to a message.
    Verifiers {
        /// Rounds of each, of which the median is told.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Connections of each kind in a round.
        #[arg(long, default_value_t = 10_000)]
        connections: u32,
        /// Seconds of messages of each kind in a round.
        #[arg(long, default_value_t = 2)]
        seconds: u64,
    },
    /// One shape against a server that runs already.
    Run {
        /// Its address.
        address: std::net::SocketAddr,
        /// Its process.
        pid: u32,
        /// Quality of service.
        #[arg(long, default_value_t = 0)]
        qos: u8,
        /// Subscribe to what a parser publishes to `…/out`.
        #[arg(long)]
        parsed: bool,
        /// Seconds.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Compare { runs, seconds } => compare(runs, Duration::from_secs(seconds)).await,
        Command::Connections { runs } => connections(runs).await,
        Command::Spin => spin().await,
        Command::Hang { pairs } => hang(pairs).await,
        Command::Durable { runs, seconds } => durable(runs, Duration::from_secs(seconds)).await,
        Command::Scale => scale().await,
        Command::Swaps { count, clients } => {
            let swapped = tokio::task::spawn_blocking(move || swaps::run(count, clients)).await;
            tell_swaps(&swapped.unwrap());
        }
        Command::Traps { calls, traps, json } => return trap(calls, traps, json).await,
        Command::Tls { rounds, connections, parts } => {
            return tls_bench(rounds, connections, &parts).await;
        }
        Command::DeviceImport { count } => return table(devices::import(count, tell).await),
        Command::DeviceStorm { count } => return table(devices::storm(count, tell).await),
        Command::TlsRotation => {
            let each_second = u32::try_from(number("HANDSHAKES", 50)).unwrap().max(1);
            let (rotations, clients) = (number("ROTATIONS", 20), number("CLIENTS", 200));
            return table(tls::rotation::run(rotations, clients, each_second, tell).await);
        }
        Command::TlsOutage => {
            let seconds = u64::try_from(number("OUTAGE_SECONDS", 10)).unwrap();
            return table(tls::outage::run(Duration::from_secs(seconds), tell).await);
        }
        Command::TlsRevocation => return table(tls::revocation::run(number("DEVICES", 3)).await),
        Command::Verifiers { rounds, connections, seconds } => {
            return verification(rounds, connections, Duration::from_secs(seconds)).await;
        }
        Command::Run { address, pid, qos, parsed, seconds } => {
            let qos = QoS::from_bits(qos).unwrap();
            let duration = Duration::from_secs(seconds);
            let measured = run(address, pid, Shape::TenPairs, qos, parsed, false, duration).await;
            println!("{measured:?}");
        }
    }
    ExitCode::SUCCESS
}

const TLS_PARTS: [&str; 5] = ["cost", "connack", "slow", "reload", "idle"];
/// How long connections at a pace are watched.
const PACED: Duration = Duration::from_secs(10);

fn tell(line: &str) {
    println!("{line}");
}

fn table(lines: Vec<Line>) -> ExitCode {
    lines.iter().for_each(|line| println!("{line}"));
    if tls::all_met(&lines) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn tls_bench(rounds: usize, connections: usize, parts: &[String]) -> ExitCode {
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|one| one == part);
    println!("TLS 1.3, P-256, full handshakes; medians; {}", tls::setup::load_average());
    let mut is_met = true;
    let mut show = |lines: Vec<Line>| is_met &= table(lines) == ExitCode::SUCCESS;
    let servers = tls::setup::Servers::start();
    if wants("cost") {
        show(tls::cost::connections(&servers, rounds, connections).await);
    }
    if wants("connack") {
        show(tls::pace::connack(&servers, 3, PACED).await);
    }
    if wants("slow") {
        show(tls::pace::slow_loris(&servers, 3, PACED).await);
    }
    if wants("reload") {
        show(tls::stall::reload(&servers, 6).await);
    }
    drop(servers);
    if wants("idle") {
        show(tls::cost::idle(3, 2_000).await);
    }
    println!("{}", tls::setup::load_average());
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn verification(rounds: usize, connections: u32, duration: Duration) -> ExitCode {
    if let Some(missing) = verifiers::not_built() {
        println!("{missing}");
        return ExitCode::FAILURE;
    }
    println!("CPU-us of the server; medians of {rounds} rounds; {}\n", tls::setup::load_average());
    let mut lines = verifiers::verification(rounds, connections, tell).await;
    println!();
    lines.extend(verifiers::parsing(rounds, duration, tell).await);
    println!();
    let code = table(lines);
    println!("{}", tls::setup::load_average());
    code
}

/// Per cent by which memory may grow.
const GROWTH_PERCENT_MAX: f64 = 5.0;

async fn trap(calls: u64, traps: u64, json: bool) -> ExitCode {
    let tell = |call: u64, bytes: u64| {
        if !json {
            println!("{call:>12} calls, {:>8.2} MiB resident", mib(bytes));
        }
    };
    let trapped = traps::run(calls, traps, tell).await;
    let Trapped { calls, traps, instances, took, early_bytes, late_bytes } = trapped;
    let growth_percent = trapped.growth_percent();
    let is_bounded = growth_percent < GROWTH_PERCENT_MAX;
    if json {
        let result = serde_json::json!({
            "calls": calls,
            "traps": traps,
            "instances": instances,
            "seconds": took.as_secs_f64(),
            "early_bytes": early_bytes,
            "late_bytes": late_bytes,
            "growth_percent": growth_percent,
            "is_bounded": is_bounded,
        });
        println!("{result}");
    } else {
        println!(
            "{calls} calls, {traps} traps, {instances} instances in {:.1} s",
            took.as_secs_f64()
        );
        println!(
            "resident after a twentieth: {:.2} MiB, at the end: {:.2} MiB; growth {growth_percent:.2} %, \
             less than {GROWTH_PERCENT_MAX} is wanted",
            mib(early_bytes),
            mib(late_bytes)
        );
    }
    if is_bounded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn tell_swaps(swapped: &Swapped) {
    let Swapped { messages, connects, refused, wrong, live, resident_bytes } = swapped;
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!("{} swaps: {connects} CONNECTs, {refused} refused", live.len());
    println!("{messages} messages parsed, {wrong} lost, refused or parsed wrongly");
    println!(
        "rename to live: median {:.1} ms, max {:.1} ms",
        ms(live.get(live.len() / 2)),
        ms(live.last())
    );
    let (early, late) = resident_bytes;
    println!("resident after a tenth: {:.1} MiB, at the end: {:.1} MiB", mib(*early), mib(*late));
    assert!(*refused == 0 && *wrong == 0, "clients noticed the swaps");
}

/// While a guest spins a hundred times for one client, another one's latency.
async fn spin() {
    const CALLS: u32 = 100;
    let server = gateway(With::Spinner);
    let alone = Duration::from_secs(5);
    let (idle_p50, idle_p99) = round_trips(server.address, alone).await;
    let spinning = one_after_another(server.address, "spin", b"x", CALLS);
    // A hundred calls of 100 ms each.
    let beside = round_trips(server.address, Duration::from_secs(9));
    let ((), (p50, p99)) = tokio::join!(spinning, beside);
    println!("round trip of one message, us        p50      p99");
    println!("idle                            {:>8.0} {:>8.0}", us(idle_p50), us(idle_p99));
    println!("while a guest spins {CALLS} times     {:>8.0} {:>8.0}", us(p50), us(p99));
    println!("ratio of p99: {:.2}, target 2.00", us(p99) / us(idle_p99));
}

/// A plugin at its limit of four calls, each of which waits for 5 s, with sixteen more that wait for
/// it; and a client that publishes on another topic.
async fn hang(pairs: usize) {
    const WAITING: usize = 20;
    const WATCHED: Duration = Duration::from_millis(4_500);
    let web = Web::start();
    let server = gateway(With::Asker(web.address));
    let payload = format!("1 GET {}", web.url("/hang"));
    let (mut idle, mut beside): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        idle.push(round_trips(server.address, WATCHED).await);
        let waiting = futures_util::future::join_all(
            (0..WAITING).map(|_| one_after_another(server.address, "ask", payload.as_bytes(), 1)),
        );
        let (_, taken) = tokio::join!(waiting, round_trips(server.address, WATCHED));
        beside.push(taken);
    }
    let of = |taken: &[(Duration, Duration)], pick: fn(&(Duration, Duration)) -> Duration| {
        median(taken.iter().map(|one| us(pick(one))).collect())
    };
    let [idle_p99, beside_p99] = [&idle, &beside].map(|taken| of(taken, |one| one.1));
    println!("round trip of one message, us; medians of {pairs} pairs    p50      p99");
    println!(
        "idle                                             {:>8.0} {idle_p99:>8.0}",
        of(&idle, |one| one.0)
    );
    println!(
        "while {WAITING} calls wait for a server                 {:>8.0} {beside_p99:>8.0}",
        of(&beside, |one| one.0)
    );
    println!("requests that the server heard: {}", web.requests().len());
    println!("ratio of p99: {:.2}, target 1.10", beside_p99 / idle_p99);
}

/// QoS 1, ten pairs, to sessions that outlive their connections.
async fn durable(runs: usize, duration: Duration) {
    const MODES: [&str; 5] = ["mosquitto", "its autosave", "memory", "process", "power"];
    println!("10 pairs, QoS 1, lasting sessions, 64-byte payload; medians of {runs} runs");
    println!("{:<14} {:>10} {:>9} {:>9} {:>8}", "server", "msgs/s", "p50 us", "p99 us", "CPU-us");
    let mut samples: [Vec<Measured>; MODES.len()] = Default::default();
    for _ in 0..runs {
        for (mode, measured) in MODES.iter().zip(&mut samples) {
            let server = match *mode {
                "mosquitto" => mosquitto(false),
                "its autosave" => mosquitto_with(false, true),
                durability => gateway(With::Store(durability)),
            };
            let (shape, qos) = (Shape::TenPairs, QoS::AtLeastOnce);
            measured
                .push(run(server.address, server.pid(), shape, qos, false, true, duration).await);
        }
    }
    for (mode, measured) in MODES.iter().zip(&samples) {
        let of = |pick: fn(&Measured) -> f64| median(measured.iter().map(pick).collect());
        println!(
            "{mode:<14} {:>10.0} {:>9.0} {:>9.0} {:>8.2}",
            of(|sample| sample.messages_per_second),
            of(|sample| us(sample.p50)),
            of(|sample| us(sample.p99)),
            cpu(measured),
        );
    }
}

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const STORM: usize = 10_000;
const SESSIONS: usize = 100_000;
const MESSAGES_FOR_EACH: usize = 10;

async fn scale() {
    println!("CPU-us of the server for each message to a topic of its own, by subscriptions");
    println!("{:>10} {:>12} {:>12}", "", "one matches", "none does");
    for count in SIZES {
        let server = gateway(With::Store("memory"));
        let (matched, unmatched) = scale::routing(&server, count).await;
        println!("{count:>10} {matched:>12.2} {unmatched:>12.2}");
    }
    println!(
        "\nCPU-us for a SUBSCRIBE with + that one retained message matches, by retained messages"
    );
    for count in SIZES {
        let server = gateway(With::Store("memory"));
        println!("{count:>10} {:>12.2}", scale::retained(&server, count).await);
    }
    println!("\n{STORM} lasting sessions come back at once: seconds until all are served");
    let theirs = mosquitto(false);
    scale::make_sessions(theirs.address, STORM, "storm").await;
    println!(
        "{:<28} {:>8.2}",
        "mosquitto",
        scale::storm(theirs.address, STORM).await.as_secs_f64()
    );
    for durability in ["memory", "process", "power"] {
        let server = gateway(With::Store(durability));
        scale::make_sessions(server.address, STORM, "storm").await;
        let taken = scale::storm(server.address, STORM).await;
        println!("{:<28} {:>8.2}", durability, taken.as_secs_f64());
    }
    let mut server = gateway(With::Store("process"));
    scale::make_sessions(server.address, SESSIONS, "queue").await;
    scale::publish_all(server.address, "queue", MESSAGES_FOR_EACH).await;
    let taken = server.kill_and_start();
    println!(
        "\nstart after SIGKILL with {SESSIONS} sessions and {} queued messages: {:.2} s, {} MiB resident",
        SESSIONS * MESSAGES_FOR_EACH,
        taken.as_secs_f64(),
        resident_bytes(server.pid()) >> 20
    );
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Targets of the design: no plugin, warm parser, as ratios to mosquitto.
const TRAFFIC: [(Shape, QoS, f64, f64); 6] = [
    (Shape::TenToOne, QoS::AtMostOnce, 0.10, 0.35),
    (Shape::TenToOne, QoS::AtLeastOnce, 0.09, 0.19),
    (Shape::TenPairs, QoS::AtMostOnce, 0.08, 0.27),
    (Shape::TenPairs, QoS::AtLeastOnce, 0.12, 0.23),
    (Shape::OneToHundred, QoS::AtMostOnce, 0.08, 0.09),
    (Shape::OneToHundred, QoS::AtLeastOnce, 0.11, 0.12),
];

async fn compare(runs: usize, duration: Duration) {
    println!(
        "64-byte payload; CPU-us of the server for each delivered message; medians of {runs} runs"
    );
    println!(
        "{:<10} {:>3} {:<12} {:>10} {:>9} {:>9} {:>8} {:>7} {:>7}",
        "shape", "QoS", "server", "msgs/s", "p50 us", "p99 us", "CPU-us", "ratio", "target"
    );
    for (shape, qos, target, target_parsed) in TRAFFIC {
        let mut samples: [Vec<Measured>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..runs {
            // In turn, so that a noisy neighbour meets all of them.
            for (index, measured) in samples.iter_mut().enumerate() {
                let server = match index {
                    0 => mosquitto(false),
                    1 => gateway(With::Nothing),
                    _ => gateway(With::WarmParser),
                };
                measured.push(
                    run(server.address, server.pid(), shape, qos, index == 2, false, duration)
                        .await,
                );
            }
        }
        let reference = cpu(&samples[0]);
        for (name, measured, target) in [
            ("mosquitto", &samples[0], None),
            ("portreeve", &samples[1], Some(target)),
            ("+ parser", &samples[2], Some(target_parsed)),
        ] {
            print_row(shape, qos, name, measured, reference, target);
        }
    }
    connections(runs).await;
}

fn cpu(samples: &[Measured]) -> f64 {
    median(samples.iter().map(|sample| sample.cpu_us_for_each).collect())
}

fn print_row(
    shape: Shape,
    qos: QoS,
    name: &str,
    samples: &[Measured],
    reference: f64,
    target: Option<f64>,
) {
    let of = |pick: fn(&Measured) -> f64| median(samples.iter().map(pick).collect());
    let target = target.map_or(String::new(), |target| format!("{target:.2}"));
    println!(
        "{:<10} {:>3} {:<12} {:>10.0} {:>9.0} {:>9.0} {:>8.2} {:>7.3} {:>7}",
        shape.name(),
        qos as u8,
        name,
        of(|sample| sample.messages_per_second),
        of(|sample| sample.p50.as_secs_f64() * 1e6),
        of(|sample| sample.p99.as_secs_f64() * 1e6),
        cpu(samples),
        cpu(samples) / reference,
        target
    );
}

const CONNECTS: u32 = 40_000;
const IDLE: u32 = 10_000;

async fn connections(runs: usize) {
    type Start = fn() -> ServerProcess;
    println!("\n{:<44} {:>10} {:>10} {:>7}", "connections", "mosquitto", "portreeve", "ratio");
    let kinds: [(&str, bool, Start, Start); 2] = [
        (
            "CPU-us for CONNECT + DISCONNECT, anonymous",
            false,
            || mosquitto(false),
            || gateway(With::Nothing),
        ),
        (
            "the same: password file / fresh verifier",
            true,
            || mosquitto(true),
            || gateway(With::FreshVerifier),
        ),
    ];
    for (name, login, theirs, ours) in kinds {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let server = theirs();
            a.push(connects(server.address, server.pid(), CONNECTS, login).await);
            drop(server);
            let server = ours();
            b.push(connects(server.address, server.pid(), CONNECTS, login).await);
        }
        let (a, b) = (median(a), median(b));
        println!("{name:<44} {a:>10.1} {b:>10.1} {:>7.3}", b / a);
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let server = mosquitto(false);
        a.push(idle(server.address, server.pid(), IDLE).await);
        drop(server);
        let server = gateway(With::Nothing);
        b.push(idle(server.address, server.pid(), IDLE).await);
    }
    let (a, b) = (median(a), median(b));
    println!(
        "{:<44} {a:>10.0} {b:>10.0} {:>7.3}",
        "resident bytes for each idle connection",
        b / a
    );
}
