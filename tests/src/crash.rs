//! A gateway under load that is killed again and again, and what its clients find afterwards.
//!
//! Publishers and subscribers keep their side of a session as the standard asks: they send again
//! what was not acknowledged, and remember the packet identifiers of QoS 2. Each message carries
//! its publisher and a number.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Connect, Limits, Packet, Properties, PropertiesBuf,
    Property, ProtocolVersion, Publish, QoS, Subscribe, SubscribeEntriesBuf, SubscribeEntry,
    SubscriptionOptions, TopicFilter, TopicName, decode,
};

use crate::binary::{Process, free_address};

/// Messages of a publisher that are not acknowledged at a time.
const WINDOW: usize = 20;
/// How long a client waits for bytes before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);
/// How long nothing comes before everything is taken to have come.
const QUIET: Duration = Duration::from_secs(2);

/// How a run is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often the gateway is killed.
    pub kills: u32,
    /// Where randomness begins.
    pub seed: u64,
    /// Further arguments of the gateway.
    pub durability: &'static str,
}

/// What a run found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Kills.
    pub kills: u32,
    /// Messages that the gateway acknowledged (PUBACK, PUBREC).
    pub acknowledged: usize,
    /// Deliveries, repetitions included.
    pub delivered: usize,
    /// Acknowledged messages that a subscriber did not get.
    pub lost: usize,
    /// QoS 2 messages that a subscriber got more than once.
    pub duplicates: usize,
    /// Messages that came in front of an earlier one of the same publisher and QoS.
    pub out_of_order: usize,
    /// Sessions that were not there after a restart.
    pub sessions_lost: usize,
    /// Retained messages that were older than the last acknowledged one.
    pub retained_lost: usize,
}

impl Outcome {
    /// Whether nothing was broken.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost + self.duplicates + self.out_of_order + self.sessions_lost + self.retained_lost
            == 0
    }
}

/// Pseudo-random numbers (xorshift), the same ones for the same seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// A number below `below`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

/// A connection whose errors are values: its gateway may be gone at any time.
struct Link {
    stream: TcpStream,
    received: Vec<u8>,
    version: ProtocolVersion,
}

impl Link {
    /// Connects with its session; whether the gateway had it.
    fn connect(
        address: SocketAddr,
        version: ProtocolVersion,
        client_id: &str,
    ) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        let mut link = Self { stream, received: Vec::new(), version };
        let expiry = Property::SessionExpiryInterval(3600);
        let properties: PropertiesBuf = version.is_v5().then_some(expiry).into_iter().collect();
        link.send(&Packet::Connect(Connect {
            protocol_version: version,
            clean_start: false,
            keep_alive: 0,
            properties: properties.as_properties(),
            client_id,
            will: None,
            user_name: None,
            password: None,
        }))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let present = link.next(|packet| match packet {
                Packet::Connack(connack) => Some(connack.session_present),
                _ => None,
            })?;
            if let Some(Some(present)) = present {
                return Ok((link, present));
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn send(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).map_err(io::Error::other)?;
        self.stream.write_all(&bytes)
    }

    fn acknowledge(&mut self, kind: AcknowledgementKind, id: NonZeroU16) -> io::Result<()> {
        self.send(&Packet::Acknowledgement(Acknowledgement::success(kind, id)))
    }

    /// The next packet; `None` when none came within a tick.
    fn next<T>(&mut self, look: impl FnOnce(Packet<'_>) -> T) -> io::Result<Option<T>> {
        loop {
            let decoded = decode(&self.received, self.version, &Limits::STANDARD);
            if let Some((packet, taken)) = decoded.map_err(io::Error::other)? {
                let looked = look(packet);
                self.received.drain(..taken);
                return Ok(Some(looked));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.received.extend_from_slice(&bytes[..read]),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

struct InFlight {
    number: u64,
    qos: QoS,
    is_released: bool,
}

/// A publisher of QoS 1 and 2 messages with a session of its own.
struct Publisher {
    name: String,
    version: ProtocolVersion,
    next_number: u64,
    next_id: u16,
    in_flight: BTreeMap<u64, (NonZeroU16, InFlight)>,
    acknowledged: BTreeSet<(u8, u64)>,
    had_session: bool,
    sessions_lost: usize,
    /// The last number that was acknowledged as retained message.
    retained: Option<u64>,
}

/// Every so many messages is a retained one.
const RETAINED_EVERY: u64 = 7;

impl Publisher {
    fn new(name: String, version: ProtocolVersion) -> Self {
        Self {
            name,
            version,
            next_number: 0,
            next_id: 0,
            in_flight: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            had_session: false,
            sessions_lost: 0,
            retained: None,
        }
    }

    fn run(mut self, address: SocketAddr, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) || !self.in_flight.is_empty() {
            if self.serve(address, stop).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self
    }

    fn serve(&mut self, address: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let (mut link, present) = Link::connect(address, self.version, &self.name)?;
        self.sessions_lost += usize::from(self.had_session && !present);
        self.had_session = true;
        for (id, message) in self.in_flight.values() {
            if message.is_released {
                link.acknowledge(AcknowledgementKind::Pubrel, *id)?;
            } else {
                self.send(&mut link, *id, message, true)?;
            }
        }
        loop {
            while self.in_flight.len() < WINDOW && !stop.load(Ordering::Relaxed) {
                let (number, qos) = (
                    self.next_number,
                    if self.next_number.is_multiple_of(2) {
                        QoS::AtLeastOnce
                    } else {
                        QoS::ExactlyOnce
                    },
                );
                self.next_number += 1;
                self.next_id = self.next_id % 60_000 + 1;
                let id = NonZeroU16::new(self.next_id).expect("from 1 to 60,000");
                let message = InFlight { number, qos, is_released: false };
                let sent = self.send(&mut link, id, &message, false);
                self.in_flight.insert(number, (id, message));
                sent?;
            }
            if stop.load(Ordering::Relaxed) && self.in_flight.is_empty() {
                return link.send(&Packet::Disconnect(portreeve_mqtt::Disconnect {
                    reason_code: portreeve_mqtt::ReasonCode::Success,
                    properties: Properties::NONE,
                }));
            }
            let acknowledged = link.next(|packet| match packet {
                Packet::Acknowledgement(acknowledgement) => Some((
                    acknowledgement.kind,
                    acknowledgement.packet_id,
                    acknowledgement.reason_code.is_error(),
                )),
                _ => None,
            })?;
            if let Some(Some((kind, id, is_error))) = acknowledged {
                self.acknowledged(&mut link, kind, id, is_error)?;
            }
        }
    }

    fn send(
        &self,
        link: &mut Link,
        id: NonZeroU16,
        message: &InFlight,
        dup: bool,
    ) -> io::Result<()> {
        let retain = message.number.is_multiple_of(RETAINED_EVERY);
        let topic = match retain {
            true => format!("load/{}/retained", self.name),
            false => format!("load/{}/{}", self.name, message.qos as u8),
        };
        let payload = format!("{} {}", self.name, message.number);
        link.send(&Packet::Publish(Publish {
            dup,
            qos: message.qos,
            retain,
            topic: TopicName::parse(&topic).ok(),
            packet_id: Some(id),
            properties: Properties::NONE,
            payload: payload.as_bytes(),
        }))
    }

    fn acknowledged(
        &mut self,
        link: &mut Link,
        kind: AcknowledgementKind,
        id: NonZeroU16,
        is_error: bool,
    ) -> io::Result<()> {
        let found = self.in_flight.iter_mut().find(|(_, (other, _))| *other == id);
        let Some((&number, (_, message))) = found else { return Ok(()) };
        let qos = message.qos as u8;
        if kind == AcknowledgementKind::Pubrec && !is_error {
            message.is_released = true;
            self.note(number, qos);
            return link.acknowledge(AcknowledgementKind::Pubrel, id);
        }
        if kind == AcknowledgementKind::Puback && !is_error {
            self.note(number, qos);
        }
        self.in_flight.remove(&number);
        Ok(())
    }

    fn note(&mut self, number: u64, qos: u8) {
        self.acknowledged.insert((qos, number));
        if number.is_multiple_of(RETAINED_EVERY) {
            self.retained = self.retained.max(Some(number));
        }
    }
}

/// A subscriber to everything, with a session of its own.
struct Subscriber {
    name: String,
    version: ProtocolVersion,
    received: BTreeSet<NonZeroU16>,
    /// Topic, publisher, QoS and number, in the order of delivery.
    delivered: Vec<(String, u8, u64)>,
    had_session: bool,
    sessions_lost: usize,
    is_subscribed: bool,
}

impl Subscriber {
    fn run(mut self, address: SocketAddr, stop: &AtomicBool, ready: &AtomicBool) -> Self {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) || last.elapsed() < QUIET {
            if self.serve(address, stop, ready, &mut last).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self
    }

    fn serve(
        &mut self,
        address: SocketAddr,
        stop: &AtomicBool,
        ready: &AtomicBool,
        last: &mut Instant,
    ) -> io::Result<()> {
        let (mut link, present) = Link::connect(address, self.version, &self.name)?;
        self.sessions_lost += usize::from(self.had_session && !present);
        self.had_session = true;
        if !self.is_subscribed {
            subscribe(&mut link, "load/#")?;
        }
        loop {
            let action = link.next(|packet| self.action(&packet))?;
            match action {
                Some(Action::Subscribed) => {
                    self.is_subscribed = true;
                    ready.store(true, Ordering::Relaxed);
                }
                Some(Action::Acknowledge(kind, id)) => {
                    *last = Instant::now();
                    link.acknowledge(kind, id)?;
                }
                Some(Action::Nothing) => {}
                None if stop.load(Ordering::Relaxed) && last.elapsed() >= QUIET => return Ok(()),
                None => {}
            }
        }
    }

    fn action(&mut self, packet: &Packet<'_>) -> Action {
        match packet {
            Packet::Suback(_) => Action::Subscribed,
            Packet::Publish(publish) => {
                let Some(id) = publish.packet_id else { return Action::Nothing };
                let kind = match publish.qos {
                    QoS::ExactlyOnce => AcknowledgementKind::Pubrec,
                    _ => AcknowledgementKind::Puback,
                };
                if publish.qos != QoS::ExactlyOnce || self.received.insert(id) {
                    let text = String::from_utf8_lossy(publish.payload).into_owned();
                    if let Some((name, number)) = text.split_once(' ') {
                        let number = number.parse().unwrap_or(u64::MAX);
                        self.delivered.push((name.to_owned(), publish.qos as u8, number));
                    }
                }
                Action::Acknowledge(kind, id)
            }
            Packet::Acknowledgement(packet) if packet.kind == AcknowledgementKind::Pubrel => {
                self.received.remove(&packet.packet_id);
                Action::Acknowledge(AcknowledgementKind::Pubcomp, packet.packet_id)
            }
            _ => Action::Nothing,
        }
    }
}

enum Action {
    Subscribed,
    Acknowledge(AcknowledgementKind, NonZeroU16),
    Nothing,
}

fn subscribe(link: &mut Link, filter: &str) -> io::Result<()> {
    let mut entries = SubscribeEntriesBuf::new();
    let filter = TopicFilter::parse(filter).map_err(io::Error::other)?;
    let options = SubscriptionOptions::with_qos(QoS::ExactlyOnce);
    entries.push(SubscribeEntry { filter, options }).map_err(io::Error::other)?;
    link.send(&Packet::Subscribe(Subscribe {
        packet_id: NonZeroU16::MIN,
        properties: Properties::NONE,
        entries: entries.as_entries(),
    }))
}

/// Kills a gateway under load as often as planned, with its store in `data`.
///
/// # Panics
/// When the gateway does not start again.
#[must_use]
pub fn run(plan: Plan, data: &Path) -> Outcome {
    let address = free_address();
    // A subscriber that comes back later than the publishers finds more than the default bound of
    // a queue; what a bound drops is no loss of the store.
    let config = format!(
        "[data]\ndirectory = \"data\"\n[store]\ndurability = {:?}\n[[gateway]]\nname = \"main\"\n\
         verification = \"open\"\n[[gateway.listener]]\naddress = \"{address}\"\n\
         [gateway.limits]\nqueued_messages_max = 1000000\nqueued_bytes_max = \"1GiB\"\n",
        plan.durability
    );
    let file = data.join("gateway.toml");
    std::fs::write(&file, config).expect("the folder can be written");
    let file = file.display().to_string();
    let start = || {
        Process::start(&["--config", &file])
            .unwrap_or_else(|said| panic!("the gateway ended: {said}"))
    };
    let mut gateway = start();
    let stop = Arc::new(AtomicBool::new(false));
    let subscribers_stop = Arc::new(AtomicBool::new(false));
    let subscribers: Vec<JoinHandle<Subscriber>> = [ProtocolVersion::V5, ProtocolVersion::V311]
        .into_iter()
        .enumerate()
        .map(|(index, version)| spawn_subscriber(index, version, address, &subscribers_stop))
        .collect();
    let publishers: Vec<JoinHandle<Publisher>> = (0..3)
        .map(|index| {
            let version = if index % 2 == 0 { ProtocolVersion::V311 } else { ProtocolVersion::V5 };
            let publisher = Publisher::new(format!("publisher-{index}"), version);
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || publisher.run(address, &stop))
        })
        .collect();
    let mut random = Random(plan.seed | 1);
    for _ in 0..plan.kills {
        std::thread::sleep(Duration::from_millis(20 + random.below(300)));
        gateway.kill();
        gateway = start();
    }
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    let publishers: Vec<Publisher> =
        publishers.into_iter().map(|thread| thread.join().expect("a publisher")).collect();
    subscribers_stop.store(true, Ordering::Relaxed);
    let subscribers: Vec<Subscriber> =
        subscribers.into_iter().map(|thread| thread.join().expect("a subscriber")).collect();
    let mut outcome = compare(&publishers, &subscribers);
    outcome.kills = plan.kills;
    outcome.retained_lost = retained_lost(address, &publishers);
    drop(gateway);
    outcome
}

fn spawn_subscriber(
    index: usize,
    version: ProtocolVersion,
    address: SocketAddr,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Subscriber> {
    let subscriber = Subscriber {
        name: format!("subscriber-{index}"),
        version,
        received: BTreeSet::new(),
        delivered: Vec::new(),
        had_session: false,
        sessions_lost: 0,
        is_subscribed: false,
    };
    let (stop, ready) = (Arc::clone(stop), Arc::new(AtomicBool::new(false)));
    let is_ready = Arc::clone(&ready);
    let thread = std::thread::spawn(move || subscriber.run(address, &stop, &ready));
    while !is_ready.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    thread
}

fn compare(publishers: &[Publisher], subscribers: &[Subscriber]) -> Outcome {
    let mut outcome = Outcome::default();
    for publisher in publishers {
        outcome.acknowledged += publisher.acknowledged.len();
        outcome.sessions_lost += publisher.sessions_lost;
    }
    for subscriber in subscribers {
        outcome.sessions_lost += subscriber.sessions_lost;
        outcome.delivered += subscriber.delivered.len();
        let mut seen: BTreeMap<(&str, u8, bool), BTreeSet<u64>> = BTreeMap::new();
        for (name, qos, number) in &subscriber.delivered {
            // Messages of one topic and QoS are ordered; only the first delivery counts.
            let numbers =
                seen.entry((name, *qos, number.is_multiple_of(RETAINED_EVERY))).or_default();
            let later = numbers.last().is_some_and(|last| last > number);
            if !numbers.insert(*number) {
                outcome.duplicates += usize::from(*qos == 2);
            } else if later {
                outcome.out_of_order += 1;
            }
        }
        for publisher in publishers {
            for (qos, number) in &publisher.acknowledged {
                let key = (publisher.name.as_str(), *qos, number.is_multiple_of(RETAINED_EVERY));
                let got = seen.get(&key);
                outcome.lost += usize::from(!got.is_some_and(|got| got.contains(number)));
            }
        }
    }
    outcome
}

/// Retained messages that a new subscriber finds older than what was acknowledged.
fn retained_lost(address: SocketAddr, publishers: &[Publisher]) -> usize {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let collected = (|| {
        let (mut link, _) = Link::connect(address, ProtocolVersion::V311, "new")?;
        subscribe(&mut link, "load/+/retained")?;
        let mut last = Instant::now();
        while last.elapsed() < QUIET {
            let text = link.next(|packet| match packet {
                Packet::Publish(publish) => {
                    Some(String::from_utf8_lossy(publish.payload).into_owned())
                }
                _ => None,
            })?;
            if let Some(Some(text)) = text
                && let Some((name, number)) = text.split_once(' ')
            {
                last = Instant::now();
                found.insert(name.to_owned(), number.parse().unwrap_or(0));
            }
        }
        io::Result::Ok(())
    })();
    assert!(collected.is_ok(), "retained messages cannot be read: {collected:?}");
    let is_lost = |publisher: &&Publisher| {
        publisher.retained.is_some_and(|number| found.get(&publisher.name).copied() < Some(number))
    };
    publishers.iter().filter(is_lost).count()
}
