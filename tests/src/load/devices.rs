//! Devices: a large import, and a fleet that comes back at once through a service over HTTPS.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portreeve_mqtt::{Packet, Properties, Property, ProtocolVersion, decode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::tls::Line;
use super::{cpu_time, resident_bytes};
use crate::binary::{Process, binary, free_address};
use crate::client::{V5, connect};
use crate::guests;
use crate::https_gateway::{manifest, trusting};
use crate::https_service::{Answer, HttpsService};
use crate::plugins::put;

/// How long a CONNECT may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts of one device.
const ATTEMPTS_MAX: usize = 100;
/// Bits of what devices are chosen by (a linear congruential generator).
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// A device that is connected.
struct Device {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What a CONNECT came to.
enum Came {
    In(Device),
    /// The reason code, and when to come again.
    Refused(u8, Option<Duration>),
}

impl Device {
    async fn connect(address: SocketAddr, name: &str, password: &str) -> std::io::Result<Came> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut device = Self { stream, buffer: Vec::new() };
        let mut login = connect(V5, name);
        login.user_name = Some(name);
        login.password = Some(password.as_bytes());
        login.keep_alive = 0;
        device.send(&Packet::Connect(login)).await?;
        device
            .next(|packet| match packet {
                Packet::Connack(connack) => {
                    let wait = connack.properties.find(|property| match property {
                        Property::UserProperty(("retry-after", text)) => text.parse().ok(),
                        _ => None,
                    });
                    (connack.reason_code as u8, wait.map(Duration::from_secs))
                }
                other => panic!("no CONNACK: {other:?}"),
            })
            .await
            .map(
                |(code, wait)| if code == 0 { Came::In(device) } else { Came::Refused(code, wait) },
            )
    }

    async fn send(&mut self, packet: &Packet<'_>) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes).expect("it can be encoded");
        self.stream.write_all(&bytes).await
    }

    async fn next<T>(&mut self, look: impl FnOnce(Packet<'_>) -> T) -> std::io::Result<T> {
        loop {
            let limits = portreeve_mqtt::Limits {
                packet_bytes_max: 1 << 20,
                user_properties_max: 64,
                filters_max: 64,
            };
            let decoded = decode(&self.buffer, ProtocolVersion::V5, &limits).expect("a packet");
            if let Some((packet, taken)) = decoded {
                let looked = look(packet);
                self.buffer.drain(..taken);
                return Ok(looked);
            }
            let mut chunk = [0; 4096];
            let read = timeout(PATIENCE, self.stream.read(&mut chunk)).await??;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    /// PUBLISH of QoS 1; how long its PUBACK took.
    async fn publish(&mut self, topic: &str) -> std::io::Result<Duration> {
        let publish = portreeve_mqtt::Publish {
            dup: false,
            qos: portreeve_mqtt::QoS::AtLeastOnce,
            retain: false,
            topic: Some(portreeve_mqtt::TopicName::parse(topic).expect("a topic")),
            packet_id: std::num::NonZeroU16::new(1),
            properties: Properties::NONE,
            payload: b"21.5",
        };
        let begin = Instant::now();
        self.send(&Packet::Publish(publish)).await?;
        self.next(|_| ()).await?;
        Ok(begin.elapsed())
    }

    async fn pings(&mut self) -> bool {
        self.send(&Packet::Pingreq).await.is_ok()
            && timeout(PATIENCE, self.next(|packet| matches!(packet, Packet::Pingresp)))
                .await
                .is_ok_and(|answer| answer.unwrap_or(false))
    }
}

/// Places at a service that takes so many calls at a time.
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    free: Condvar,
    most: AtomicUsize,
}

impl Places {
    fn with<T>(&self, max: usize, work: impl FnOnce() -> T) -> T {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= max {
            taken = self.free.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        self.most.fetch_max(*taken, Ordering::Relaxed);
        drop(taken);
        let done = work();
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.free.notify_one();
        done
    }
}

/// A gateway in a process of its own, with little in its log.
fn gateway(folder: &Path, more: &str) -> (Process, SocketAddr) {
    let address = free_address();
    let config = format!(
        "[log]\nlevel = \"warn,portreeve::server=info\"\n[data]\ndirectory = \"data\"\n{more}\n\
         [[gateway.listener]]\naddress = \"{address}\"\n"
    );
    std::fs::write(folder.join("gateway.toml"), config).expect("it is written");
    let path = folder.join("gateway.toml");
    let process = Process::start(&["--config", path.to_str().expect("a path")]).expect("it starts");
    (process, address)
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place among some thousand"
    )]
    let place = ((times.len() as f64 - 1.0) * share).round() as usize;
    times.get(place).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn line(what: &str, text: String, is_met: bool) -> Line {
    Line { is_met: Some(is_met), ..Line::plain(what, text) }
}

/// A file with `count` good lines and three bad ones.
fn devices_csv(count: usize) -> String {
    let mut text = "SN,MQTT UserName,MQTT Password,attribute.site\n".to_owned();
    for number in 0..count {
        let site = number % 1_000;
        let _infallible =
            writeln!(text, "SN_{number:08},user-{number:08},secret-{number:08},site-{site}");
    }
    text.push_str("SN 1,a,b,\nSN_9,only-two\nSN_99999999,user-00000001,taken,\n");
    text
}

/// The least that a hash may cost: a million with the default cost take some ten minutes of two cores, which says
/// nothing of the import.
const CHEAP_HASHES: &str = "[passwords]\nmemory = \"8KiB\"\npasses = 1\n";

/// Imports `count` devices with passwords, then lets some of them in.
pub async fn import(count: usize, mut tell: impl FnMut(&str)) -> Vec<Line> {
    let folder = tempfile::tempdir().expect("a folder");
    let rest =
        format!("{CHEAP_HASHES}[[gateway]]\nname = \"main\"\nverification = \"one-party\"\n");
    let (process, address) = gateway(folder.path(), &rest);
    tell("writing the file");
    let file = folder.path().join("devices.csv");
    std::fs::write(&file, devices_csv(count)).expect("it is written");
    let before = resident_bytes(process.pid());
    tell("importing");
    let data = folder.path().join("data");
    let (begin, cpu) = (Instant::now(), cpu_time(process.pid()));
    let mut command = Command::new(binary());
    command.args(["device", "import", "--json"]).arg(&file).arg("--data").arg(&data);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
    let output = output.expect("it runs");
    let (took, cpu) = (begin.elapsed().as_secs_f64(), cpu_time(process.pid()) - cpu);
    let cpu = cpu.as_secs_f64();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let bytes = resident_bytes(process.pid()).saturating_sub(before);
    let each = bytes / u64::try_from(count.max(1)).expect("it fits");
    let is_whole = said["created"] == count && said["refused"] == 3;
    let text = format!("{count} devices in {took:.1} s, {cpu:.1} s CPU: {said}");
    let memory = format!("{} MiB more, {each} bytes for each device", bytes >> 20);
    let mut lines = vec![line("import", text, is_whole), line("memory", memory, each < 1_024)];
    for what in ["first", "known"] {
        lines.push(logins(address, count, what).await);
    }
    tell("starting again");
    process.kill();
    let begin = Instant::now();
    let path = folder.path().join("gateway.toml");
    let again = Process::start(&["--config", path.to_str().expect("a path")]).expect("it starts");
    let came = Device::connect(address, "user-00000000", "secret-00000000").await;
    let is_in = matches!(came, Ok(Came::In(_)));
    let text = format!("{:.1} s to the first CONNACK", begin.elapsed().as_secs_f64());
    lines.push(line("start with them", text, is_in));
    drop(again);
    lines
}

/// A thousand devices connect, one after the other; always the same ones.
async fn logins(address: SocketAddr, count: usize, what: &str) -> Line {
    let mut random = 88_172_645_463_325_252_u64;
    let mut times = Vec::new();
    for _ in 0..1_000 {
        random = random.wrapping_mul(MULTIPLIER).wrapping_add(1);
        let number = usize::try_from(random >> 33).expect("it fits") % count;
        let (name, password) = (format!("user-{number:08}"), format!("secret-{number:08}"));
        let begin = Instant::now();
        let came = Device::connect(address, &name, &password).await.expect("it answers");
        assert!(matches!(came, Came::In(_)), "{name} is let in");
        times.push(begin.elapsed());
    }
    let (p50, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    let text = format!("p50 {:.2} ms, p99 {:.2} ms", ms(p50), ms(p99));
    line(&format!("CONNECT, {what}"), text, p99 < Duration::from_millis(100))
}

/// What the service takes for a call, and how many at a time.
const SERVICE: Duration = Duration::from_millis(50);
const AT_A_TIME: usize = 64;

/// A service that accepts everybody, slowly.
struct Slow {
    service: HttpsService,
    places: Arc<Places>,
    calls: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
}

impl Slow {
    fn start() -> Self {
        let (places, calls, is_down) =
            (Arc::<Places>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (its_places, its_calls, its_state) =
            (Arc::clone(&places), Arc::clone(&calls), Arc::clone(&is_down));
        let service = HttpsService::start(move |question| {
            its_calls.fetch_add(1, Ordering::Relaxed);
            if its_state.load(Ordering::Relaxed) {
                return Answer::status(503);
            }
            its_places.with(AT_A_TIME, || std::thread::sleep(SERVICE));
            let name = question.json()["userName"].clone();
            Answer::json(json!({ "result": "accept", "deviceName": name }))
        });
        Self { service, places, calls, is_down }
    }

    /// A gateway that asks it.
    fn gateway(&self, folder: &Path) -> (Process, SocketAddr) {
        let plugins = folder.join("plugins");
        std::fs::create_dir(&plugins).expect("it is made");
        let url = self.service.url("/verify");
        let manifest = manifest(&url, "preset = \"portreeve\"", &trusting("root"));
        put(&plugins, "https-verifier.toml", manifest);
        let component = std::fs::read(guests::component("https-verifier")).expect("it was built");
        put(&plugins, "https-verifier.wasm", component);
        gateway(
            folder,
            "[plugins]\ndirectory = \"plugins\"\n[[gateway]]\nname = \"main\"\n\
             verification = \"plugin:https-verifier\"\n[gateway.limits]\nhandshakes_max = 20000\n",
        )
    }
}

/// The storm: `count` devices connect at once, of which the service takes 64 at a time, 50 ms each.
pub async fn storm(count: usize, mut tell: impl FnMut(&str)) -> Vec<Line> {
    let slow = Slow::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (process, address) = slow.gateway(folder.path());
    let mut publishers = Vec::new();
    for number in 0..20 {
        let name = format!("publisher-{number}");
        let Ok(Came::In(device)) = Device::connect(address, &name, "x").await else {
            panic!("the first devices are let in");
        };
        publishers.push(device);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut publishing = JoinSet::new();
    publishing.spawn(publish(publishers, Arc::clone(&is_over)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    tell("the storm begins");
    let (before, cpu) = (slow.calls.load(Ordering::Relaxed), cpu_time(process.pid()));
    let begin = Instant::now();
    let (mut devices, attempts, codes) = come_in(address, "device", count).await;
    let (took, cpu) = (begin.elapsed(), cpu_time(process.pid()) - cpu);
    let made = slow.calls.load(Ordering::Relaxed) - before;
    is_over.store(true, Ordering::Relaxed);
    let times = publishing.join_next().await.expect("it publishes").expect("it ends");
    tell("everybody pings");
    let mut alive = 0;
    for device in &mut devices {
        alive += usize::from(device.pings().await);
    }
    let floor = SERVICE * u32::try_from(count.div_ceil(AT_A_TIME)).expect("it fits");
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    let cpu_us = cpu.as_secs_f64() * 1e6 / count as f64;
    let (seconds, alone) = (took.as_secs_f64(), floor.as_secs_f64());
    let text = format!(
        "{count} devices in after {seconds:.1} s (the service alone takes {alone:.1} s), {attempts} attempts, \
         refusals {codes:?}, {cpu_us:.0} us CPU for each"
    );
    let most = slow.places.most.load(Ordering::Relaxed);
    let calls = format!("{made} calls of the service, at most {most} at a time");
    let mut lines = vec![
        line("storm", text, devices.len() == count && took < floor * 3),
        line("calls", calls, made <= count + count / 10),
        beside(&times, begin, took),
        line("hung", format!("{} of {count}", count - alive), alive == count),
    ];
    tell("the service is down");
    lines.extend(outage(address, &slow).await);
    lines
}

/// Latency of those who were connected before, during the storm and around it.
fn beside(times: &[(Instant, Duration)], begin: Instant, took: Duration) -> Line {
    let during = |is_during: bool| -> Vec<Duration> {
        let is_it = |at: &Instant| (*at >= begin && *at <= begin + took) == is_during;
        times.iter().filter(|(at, _)| is_it(at)).map(|(_, time)| *time).collect()
    };
    let (mut alone, mut beside) = (during(false), during(true));
    let (alone, beside) = (quantile(&mut alone, 0.99), quantile(&mut beside, 0.99));
    let text = format!("p99 of PUBLISH to PUBACK {:.1} ms, alone {:.1} ms", ms(beside), ms(alone));
    line("beside it", text, beside < Duration::from_millis(100))
}

/// The service is down, and comes back.
async fn outage(address: SocketAddr, slow: &Slow) -> [Line; 2] {
    slow.is_down.store(true, Ordering::Relaxed);
    let mut refused = BTreeMap::new();
    for number in 0..100 {
        let what = match Device::connect(address, &format!("late-{number:06}"), "x").await {
            Ok(Came::In(_)) => "let in".to_owned(),
            Ok(Came::Refused(code, Some(_))) => format!("{code:#04x} with a hint"),
            Ok(Came::Refused(code, None)) => format!("{code:#04x}"),
            Err(error) => error.to_string(),
        };
        *refused.entry(what).or_insert(0) += 1;
    }
    let is_closed = !refused.contains_key("let in");
    slow.is_down.store(false, Ordering::Relaxed);
    let begin = Instant::now();
    let (late, attempts, _) = come_in(address, "late", 100).await;
    let seconds = begin.elapsed().as_secs_f64();
    let back = format!("100 devices in after {seconds:.1} s, {attempts} attempts");
    [
        line("service down", format!("{refused:?}"), is_closed),
        line("it is back", back, late.len() == 100),
    ]
}

/// Connects devices until all are in; returns them, the attempts, and the refusals by code.
async fn come_in(
    address: SocketAddr,
    prefix: &str,
    count: usize,
) -> (Vec<Device>, usize, BTreeMap<String, usize>) {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let name = format!("{prefix}-{number:06}");
        tasks.spawn(async move {
            let mut refusals = Vec::new();
            for attempt in 1..=ATTEMPTS_MAX {
                let connecting = Device::connect(address, &name, "x");
                match timeout(PATIENCE, connecting).await {
                    Ok(Ok(Came::In(device))) => return (Some(device), attempt, refusals),
                    Ok(Ok(Came::Refused(code, wait))) => {
                        refusals.push(format!("{code:#04x}"));
                        tokio::time::sleep(wait.unwrap_or(Duration::from_secs(1))).await;
                    }
                    Ok(Err(error)) => {
                        refusals.push(error.kind().to_string());
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Err(_) => refusals.push("no answer".to_owned()),
                }
            }
            (None, ATTEMPTS_MAX, refusals)
        });
    }
    let (mut devices, mut attempts, mut codes) = (Vec::new(), 0, BTreeMap::new());
    while let Some(done) = tasks.join_next().await {
        let (device, tried, refusals) = done.expect("it does not panic");
        devices.extend(device);
        attempts += tried;
        for code in refusals {
            *codes.entry(code).or_insert(0) += 1;
        }
    }
    (devices, attempts, codes)
}

/// Publishes until it is over; when each was sent and what its acknowledgement took.
async fn publish(devices: Vec<Device>, is_over: Arc<AtomicBool>) -> Vec<(Instant, Duration)> {
    let mut tasks = JoinSet::new();
    for (number, mut device) in devices.into_iter().enumerate() {
        let is_over = Arc::clone(&is_over);
        tasks.spawn(async move {
            let topic = format!("devices/publisher-{number}/up");
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut times = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                ticks.tick().await;
                let at = Instant::now();
                times.push((at, device.publish(&topic).await.expect("it is acknowledged")));
            }
            times
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.expect("it does not panic"));
    }
    all
}
