//! Publishers and subscribers. What is under way is bounded by a window, so that nothing has to
//! be dropped and every server works on the same load.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Connect, Limits, Packet, Properties, ProtocolVersion,
    Publish, QoS, Subscribe, SubscribeEntriesBuf, SubscribeEntry, SubscriptionOptions, TopicFilter,
    TopicName, decode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::{Measured, cpu_time};
use crate::client::connect;

pub(super) const VERSION: ProtocolVersion = ProtocolVersion::V311;
const PAYLOAD_BYTES: usize = 64;
/// Messages that each publisher may have under way.
const WINDOW: u64 = 256;
/// Messages that are written at a time.
const BATCH: u64 = 32;
/// Of so many messages one has its latency noted.
const SAMPLE: u64 = 16;

/// Who publishes to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Ten publishers, one subscriber.
    TenToOne,
    /// Ten pairs.
    TenPairs,
    /// One publisher, a hundred subscribers.
    OneToHundred,
}

impl Shape {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TenToOne => "10 -> 1",
            Self::TenPairs => "10 pairs",
            Self::OneToHundred => "1 -> 100",
        }
    }

    const fn publishers(self) -> u64 {
        match self {
            Self::TenToOne | Self::TenPairs => 10,
            Self::OneToHundred => 1,
        }
    }

    const fn subscribers(self) -> u64 {
        match self {
            Self::TenToOne => 1,
            Self::TenPairs => 10,
            Self::OneToHundred => 100,
        }
    }

    /// What subscriber `number` subscribes to; messages go from `…/in` to `…/out` in a parser.
    fn filter(self, number: u64, last: &str) -> String {
        match self {
            Self::TenToOne => format!("load/+/{last}"),
            Self::TenPairs => format!("load/{number}/{last}"),
            Self::OneToHundred => format!("load/0/{last}"),
        }
    }
}

struct Shared {
    begin: Instant,
    delivered: AtomicU64,
    /// Messages that publishers may send, counted up by deliveries or acknowledgements.
    credit: Vec<AtomicU64>,
    wake: Vec<Notify>,
    stop: AtomicBool,
}

/// Runs a load for `duration` after a warm-up of a third of it. `lasting` subscribers have sessions
/// that outlive their connections.
pub async fn run(
    address: SocketAddr,
    pid: u32,
    shape: Shape,
    qos: QoS,
    parsed: bool,
    lasting: bool,
    duration: Duration,
) -> Measured {
    let publishers = usize::try_from(shape.publishers()).unwrap();
    let shared = Arc::new(Shared {
        begin: Instant::now(),
        delivered: AtomicU64::new(0),
        credit: (0..publishers).map(|_| AtomicU64::new(WINDOW)).collect(),
        wake: (0..publishers).map(|_| Notify::new()).collect(),
        stop: AtomicBool::new(false),
    });
    let last = if parsed { "out" } else { "in" };
    let mut subscribers = Vec::new();
    for number in 0..shape.subscribers() {
        let (read, write) = open(address, &format!("subscriber-{number}"), !lasting).await;
        let filter = shape.filter(number, last);
        // Of a fan-out, only one subscriber gives the publisher its credit back.
        let gives_credit = shape != Shape::OneToHundred || number == 0;
        subscribers.push(spawn(subscriber(
            Arc::clone(&shared),
            read,
            write,
            filter,
            qos,
            gives_credit,
        )));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut tasks = Vec::new();
    for number in 0..publishers {
        let (read, write) = open(address, &format!("publisher-{number}"), true).await;
        tasks.push(spawn(discard(read)));
        tasks.push(spawn(publisher(Arc::clone(&shared), write, number, qos)));
    }
    tokio::time::sleep(duration / 3).await;
    let (cpu, delivered, begin) =
        (cpu_time(pid), shared.delivered.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(duration).await;
    let delivered = shared.delivered.load(Ordering::Relaxed) - delivered;
    let (cpu, elapsed) = (cpu_time(pid).saturating_sub(cpu), begin.elapsed());
    shared.stop.store(true, Ordering::Relaxed);
    for wake in &shared.wake {
        wake.notify_one();
    }
    for task in tasks {
        task.abort();
    }
    let mut latencies: Vec<u64> = Vec::new();
    for subscriber in subscribers {
        if let Ok(mut some) = subscriber.await {
            latencies.append(&mut some);
        }
    }
    latencies.sort_unstable();
    let at = |share: usize| {
        Duration::from_nanos(latencies.get(latencies.len() * share / 100).copied().unwrap_or(0))
    };
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let delivered = delivered as f64;
    Measured {
        messages_per_second: delivered / elapsed.as_secs_f64(),
        cpu_us_for_each: cpu.as_secs_f64() * 1e6 / delivered,
        p50: at(50),
        p99: at(99),
    }
}

#[expect(clippy::disallowed_methods, reason = "the tool ends when its tasks do")]
pub(super) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

/// A connection that was let in.
pub(super) async fn connected(
    address: SocketAddr,
    client_id: &str,
    clean_start: bool,
) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    let packet = Connect { clean_start, ..connect(VERSION, client_id) };
    Packet::Connect(packet).encode(VERSION, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0], "CONNECT is accepted");
    stream
}

/// Its two ways.
async fn open(
    address: SocketAddr,
    client_id: &str,
    clean_start: bool,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    connected(address, client_id, clean_start).await.into_split()
}

async fn publisher(shared: Arc<Shared>, mut write: OwnedWriteHalf, number: usize, qos: QoS) {
    let topic = format!("load/{number}/in");
    let mut payload = [0_u8; PAYLOAD_BYTES];
    payload[8] = u8::try_from(number).unwrap();
    let mut bytes = Vec::new();
    let mut id = 0_u16;
    while !shared.stop.load(Ordering::Relaxed) {
        let credit = shared.credit[number].load(Ordering::Acquire).min(BATCH);
        if credit == 0 {
            shared.wake[number].notified().await;
            continue;
        }
        shared.credit[number].fetch_sub(credit, Ordering::AcqRel);
        bytes.clear();
        let now = u64::try_from(shared.begin.elapsed().as_nanos()).unwrap();
        payload[..8].copy_from_slice(&now.to_le_bytes());
        for _ in 0..credit {
            id = id.wrapping_add(1).max(1);
            let publish = Publish {
                dup: false,
                qos,
                retain: false,
                topic: TopicName::parse(&topic).ok(),
                packet_id: NonZeroU16::new(id).filter(|_| qos != QoS::AtMostOnce),
                properties: Properties::NONE,
                payload: &payload,
            };
            Packet::Publish(publish).encode(VERSION, &mut bytes).unwrap();
        }
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads acknowledgements and forgets them.
async fn discard(mut read: OwnedReadHalf) {
    let mut chunk = vec![0; 65_536];
    while read.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
}

/// Subscribes, acknowledges, gives credit back; returns sampled latencies in nanoseconds.
async fn subscriber(
    shared: Arc<Shared>,
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    filter: String,
    qos: QoS,
    gives_credit: bool,
) -> Vec<u64> {
    let mut entries = SubscribeEntriesBuf::new();
    let filter = TopicFilter::parse(&filter).unwrap();
    entries.push(SubscribeEntry { filter, options: SubscriptionOptions::with_qos(qos) }).unwrap();
    let mut bytes = Vec::new();
    let packet = Subscribe {
        packet_id: NonZeroU16::MIN,
        properties: Properties::NONE,
        entries: entries.as_entries(),
    };
    Packet::Subscribe(packet).encode(VERSION, &mut bytes).unwrap();
    write.write_all(&bytes).await.unwrap();
    let mut latencies = Vec::new();
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 65_536];
    let mut counted = 0_u64;
    while !shared.stop.load(Ordering::Relaxed) {
        let next = tokio::time::timeout(Duration::from_millis(100), read.read(&mut chunk)).await;
        let Ok(next) = next else { continue };
        match next {
            Ok(0) | Err(_) => break,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
        bytes.clear();
        let mut used = 0;
        let mut delivered = 0;
        let mut credit = [0_u64; 10];
        while let Ok(Some((packet, taken))) = decode(&buffer[used..], VERSION, &Limits::STANDARD) {
            used += taken;
            let Packet::Publish(publish) = packet else { continue };
            delivered += 1;
            counted += 1;
            credit[usize::from(publish.payload[8])] += 1;
            if counted.is_multiple_of(SAMPLE) {
                let sent = u64::from_le_bytes(publish.payload[..8].try_into().unwrap());
                let now = u64::try_from(shared.begin.elapsed().as_nanos()).unwrap();
                latencies.push(now.saturating_sub(sent));
            }
            if let Some(id) = publish.packet_id {
                let puback = Acknowledgement::success(AcknowledgementKind::Puback, id);
                Packet::Acknowledgement(puback).encode(VERSION, &mut bytes).unwrap();
            }
        }
        buffer.drain(..used);
        shared.delivered.fetch_add(delivered, Ordering::Relaxed);
        if gives_credit {
            for (number, given) in credit.into_iter().enumerate().filter(|(_, given)| *given > 0) {
                shared.credit[number].fetch_add(given, Ordering::AcqRel);
                shared.wake[number].notify_one();
            }
        }
        if !bytes.is_empty() && write.write_all(&bytes).await.is_err() {
            break;
        }
    }
    latencies
}

/// Connects and disconnects `count` times, eight at a time; CPU-microseconds of the server for
/// each.
pub async fn connects(address: SocketAddr, pid: u32, count: u32, login: bool) -> f64 {
    const LANES: u32 = 8;
    let before = cpu_time(pid);
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            spawn(async move {
                for number in 0..count / LANES {
                    let client_id = format!("connect-{lane}-{number}");
                    let mut connect = connect(VERSION, &client_id);
                    if login {
                        connect.user_name = Some("device-1");
                        connect.password = Some(b"demo");
                    }
                    let mut stream = TcpStream::connect(address).await.expect("the server listens");
                    stream.set_nodelay(true).unwrap();
                    let mut bytes = Vec::new();
                    Packet::Connect(connect).encode(VERSION, &mut bytes).unwrap();
                    stream.write_all(&bytes).await.unwrap();
                    let mut connack = [0; 4];
                    stream.read_exact(&mut connack).await.unwrap();
                    assert_eq!(connack, [0x20, 2, 0, 0]);
                    stream.write_all(&[0xe0, 0]).await.unwrap();
                    let _end = stream.read(&mut connack).await;
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.expect("every CONNECT is accepted");
    }
    (cpu_time(pid).saturating_sub(before)).as_secs_f64() * 1e6 / f64::from(count)
}

/// Resident bytes of the server for each of `count` connections that do nothing.
pub async fn idle(address: SocketAddr, pid: u32, count: u32) -> f64 {
    // Once before, so that what is allocated once is not counted.
    let mut warm = Vec::new();
    for number in 0..100 {
        warm.push(open(address, &format!("warm-{number}"), true).await);
    }
    let before = super::resident_bytes(pid);
    let mut open_ones = Vec::new();
    for number in 0..count {
        open_ones.push(open(address, &format!("idle-{number}"), true).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = super::resident_bytes(pid).saturating_sub(before);
    drop((warm, open_ones));
    #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
    let grown = grown as f64;
    grown / f64::from(count)
}

/// Round trips of one message at a time, for `duration`: 50 and 99 of 100 took at most so long.
pub async fn round_trips(address: SocketAddr, duration: Duration) -> (Duration, Duration) {
    const PAUSE: Duration = Duration::from_micros(500);
    let (mut read, mut write) = open(address, "round-trips", true).await;
    write.write_all(b"\x82\x06\0\x01\0\x01t\0").await.unwrap();
    let mut answer = [0; 5];
    read.read_exact(&mut answer).await.unwrap();
    let begin = Instant::now();
    let mut taken = Vec::new();
    while begin.elapsed() < duration {
        let sent = Instant::now();
        write.write_all(b"\x30\x04\0\x01tx").await.unwrap();
        let mut message = [0; 6];
        read.read_exact(&mut message).await.unwrap();
        taken.push(sent.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    taken.sort_unstable();
    (taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

/// Publishes `payload` to `topic` with QoS 1, `calls` times, each after the acknowledgement of the one
/// before.
pub async fn one_after_another(address: SocketAddr, topic: &str, payload: &[u8], calls: u32) {
    static CLIENTS: AtomicU64 = AtomicU64::new(0);
    let client_id = format!("one-after-another-{}", CLIENTS.fetch_add(1, Ordering::Relaxed));
    let (mut read, mut write) = open(address, &client_id, true).await;
    let mut bytes = Vec::new();
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TopicName::parse(topic).ok(),
        packet_id: NonZeroU16::new(1),
        properties: Properties::NONE,
        payload,
    };
    Packet::Publish(publish).encode(VERSION, &mut bytes).unwrap();
    for _ in 0..calls {
        write.write_all(&bytes).await.unwrap();
        let mut puback = [0; 4];
        read.read_exact(&mut puback).await.unwrap();
    }
}
