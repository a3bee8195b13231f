//! A small model of sessions, and a driver that does the same to it and to a real gateway: connects,
//! take-overs, subscriptions, messages, half-finished acknowledgements, lost connections, kills.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use portreeve_mqtt::{
    AcknowledgementKind, Connect, Packet, PropertiesBuf, Property, ProtocolVersion,
};

use crate::binary::{Process, free_address};
use crate::client::{Client, V5, V311, connect};

/// Clients of a run; one of each speaks MQTT 3.1.1, MQTT 5, and MQTT 5 with little room.
pub const CLIENTS: usize = 3;
/// Topics of a run.
pub const TOPICS: usize = 3;
/// How long a client waits for a packet that may come.
const PATIENCE: Duration = Duration::from_millis(60);
/// How long nothing comes at the end.
const QUIET: Duration = Duration::from_millis(250);

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A client connects; it may be connected already.
    Connect {
        /// Which one.
        client: usize,
        /// Clean start.
        clean: bool,
    },
    /// A client subscribes.
    Subscribe {
        /// Which one.
        client: usize,
        /// To which topic.
        topic: usize,
        /// With which QoS.
        qos: u8,
    },
    /// A client ends a subscription.
    Unsubscribe {
        /// Which one.
        client: usize,
        /// Of which topic.
        topic: usize,
    },
    /// A message is published and acknowledged.
    Publish {
        /// To which topic.
        topic: usize,
        /// With which QoS, 1 or 2.
        qos: u8,
    },
    /// A client reads messages.
    Read {
        /// Which one.
        client: usize,
        /// How many at most.
        messages: usize,
        /// How far it acknowledges them.
        acknowledges: Acknowledges,
    },
    /// A client's connection is lost.
    Drop {
        /// Whose.
        client: usize,
    },
    /// A client says goodbye.
    Disconnect {
        /// Who.
        client: usize,
    },
    /// The gateway is killed and started again.
    Kill,
}

/// How far a client goes in acknowledging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledges {
    /// Not at all.
    Nothing,
    /// QoS 2 up to PUBREC only.
    Half,
    /// To the end.
    Whole,
}

/// What the gateway has to hold for a client.
#[derive(Debug, Default)]
struct Session {
    subscriptions: BTreeMap<usize, u8>,
    /// It outlives its connection.
    is_lasting: bool,
    /// Messages that have to come, with the QoS of the subscription.
    expected: BTreeMap<u64, u8>,
}

struct Peer {
    version: ProtocolVersion,
    name: String,
    connection: Option<Client>,
    session: Option<Session>,
    /// Packet identifiers of QoS 2 messages that it has and that were not released.
    received: BTreeSet<u16>,
    /// Topic, QoS and number of what came, repetitions of QoS 2 excepted.
    delivered: Vec<(usize, u8, u64)>,
}

/// A run: the gateway, its clients, and the model.
pub struct Run<'a> {
    data: &'a Path,
    address: SocketAddr,
    process: Option<Process>,
    peers: Vec<Peer>,
    publisher: Option<Client>,
    next_number: u64,
    next_id: u16,
}

/// What is wrong, in words.
pub type Finding = String;

impl<'a> Run<'a> {
    /// Starts a gateway with its store in `data`.
    #[must_use]
    pub fn start(data: &'a Path) -> Self {
        let address = free_address();
        let peer = |index: usize| Peer {
            version: if index == 0 { V311 } else { V5 },
            name: format!("model-{index}"),
            connection: None,
            session: None,
            received: BTreeSet::new(),
            delivered: Vec::new(),
        };
        Self {
            data,
            address,
            process: Some(Process::with_store(address, data)),
            peers: (0..CLIENTS).map(peer).collect(),
            publisher: None,
            next_number: 1,
            next_id: 0,
        }
    }

    /// Does a step to the gateway and to the model.
    ///
    /// # Errors
    /// What they do not agree in.
    pub fn step(&mut self, step: Step) -> Result<(), Finding> {
        match step {
            Step::Connect { client, clean } => self.connect(client, clean)?,
            Step::Subscribe { client, topic, qos } => {
                let peer = &mut self.peers[client];
                if let (Some(connection), Some(session)) = (&mut peer.connection, &mut peer.session)
                {
                    // What came meanwhile is read first, so that SUBACK is next.
                    peer.delivered.extend(read(
                        connection,
                        &mut peer.received,
                        usize::MAX,
                        Acknowledges::Whole,
                        PATIENCE,
                    ));
                    let granted = connection.subscribe(&format!("model/{topic}"), qos);
                    if granted != qos {
                        return Err(format!("subscription with QoS {qos} got {granted}"));
                    }
                    session.subscriptions.insert(topic, qos);
                }
            }
            Step::Unsubscribe { client, topic } => self.unsubscribe(client, topic),
            Step::Publish { topic, qos } => self.publish(topic, qos)?,
            Step::Read { client, messages, acknowledges } => {
                let peer = &mut self.peers[client];
                if let Some(connection) = &mut peer.connection {
                    let got =
                        read(connection, &mut peer.received, messages, acknowledges, PATIENCE);
                    peer.delivered.extend(got);
                }
            }
            Step::Drop { client } => {
                drop(self.peers[client].connection.take());
                self.connection_lost(client);
            }
            Step::Disconnect { client } => {
                if let Some(connection) = self.peers[client].connection.take() {
                    connection.disconnect();
                }
                self.connection_lost(client);
            }
            Step::Kill => {
                if let Some(process) = self.process.take() {
                    process.kill();
                }
                self.publisher = None;
                for client in 0..CLIENTS {
                    drop(self.peers[client].connection.take());
                    self.connection_lost(client);
                }
                self.process = Some(Process::with_store(self.address, self.data));
            }
        }
        Ok(())
    }

    fn connection_lost(&mut self, client: usize) {
        let peer = &mut self.peers[client];
        peer.session.take_if(|session| !session.is_lasting);
    }

    fn connect(&mut self, client: usize, clean: bool) -> Result<(), Finding> {
        let peer = &mut self.peers[client];
        let before = peer.connection.take();
        if before.is_some() {
            peer.session.take_if(|session| !session.is_lasting);
        }
        let mut properties = PropertiesBuf::new();
        if peer.version == V5 {
            let all = [Property::SessionExpiryInterval(3600), Property::ReceiveMaximum(3)];
            properties = all.into_iter().take(client.min(2)).collect();
        }
        let mut connection = Client::dial(self.address);
        let present = connection.connect_with(&Connect {
            clean_start: clean,
            properties: properties.as_properties(),
            ..connect(peer.version, &peer.name)
        });
        let expected = !clean && peer.session.is_some();
        if present != expected {
            return Err(format!("{}: session present is {present}, not {expected}", peer.name));
        }
        if !present {
            let is_lasting = peer.version == V5 || !clean;
            peer.session = Some(Session { is_lasting, ..Session::default() });
            peer.received.clear();
            peer.delivered.clear();
        }
        peer.connection = Some(connection);
        drop(before);
        Ok(())
    }

    fn unsubscribe(&mut self, client: usize, topic: usize) {
        let peer = &mut self.peers[client];
        let (Some(connection), Some(session)) = (&mut peer.connection, &mut peer.session) else {
            return;
        };
        let got = read(connection, &mut peer.received, usize::MAX, Acknowledges::Whole, PATIENCE);
        peer.delivered.extend(got);
        let filter = format!("model/{topic}");
        let mut body = vec![0, 77];
        if peer.version == V5 {
            body.push(0);
        }
        body.extend(u16::try_from(filter.len()).unwrap_or_default().to_be_bytes());
        body.extend(filter.as_bytes());
        let mut packet = vec![0xa2, u8::try_from(body.len()).unwrap_or_default()];
        packet.extend(body);
        connection.send(&packet);
        connection.next(|packet| assert!(matches!(packet, Packet::Suback(_)), "{packet:?}"));
        session.subscriptions.remove(&topic);
    }

    fn publish(&mut self, topic: usize, qos: u8) -> Result<(), Finding> {
        let number = self.next_number;
        self.next_number += 1;
        self.next_id = self.next_id % 60_000 + 1;
        let (address, id) = (self.address, self.next_id);
        let publisher = self.publisher.get_or_insert_with(|| {
            let mut client = Client::dial(address);
            client.connect(V5, "model-publisher");
            client
        });
        let (name, payload) = (format!("model/{topic}"), number.to_string());
        let none = PropertiesBuf::new();
        publisher.publish_with(&name, payload.as_bytes(), qos, false, Some(id), &none);
        let code = publisher.next(|packet| match packet {
            Packet::Acknowledgement(packet) => packet.reason_code.byte(),
            other => panic!("not an acknowledgement: {other:?}"),
        });
        if qos == 2 {
            publisher.acknowledge(AcknowledgementKind::Pubrel, id);
            publisher.next(|packet| assert!(matches!(packet, Packet::Acknowledgement(_))));
        }
        let mut has_receiver = false;
        for peer in &mut self.peers {
            let Some(session) = &mut peer.session else { continue };
            let Some(&subscribed) = session.subscriptions.get(&topic) else { continue };
            has_receiver = true;
            if subscribed > 0 && (session.is_lasting || peer.connection.is_some()) {
                session.expected.insert(number, subscribed.min(qos));
            }
        }
        // A connection that was just lost may not be noticed yet, so more may be told.
        match (code, has_receiver) {
            (0, _) | (0x10, false) => Ok(()),
            _ => Err(format!("message {number} was answered {code:#04x}")),
        }
    }

    /// Everybody comes back and reads what there is; then nothing may be missing, come twice, or
    /// be out of order.
    ///
    /// # Errors
    /// What is wrong.
    pub fn finish(mut self) -> Result<(), Finding> {
        for client in 0..CLIENTS {
            let Some(session) = &self.peers[client].session else { continue };
            if session.is_lasting {
                self.connect(client, false)?;
            }
            let peer = &mut self.peers[client];
            if let Some(connection) = &mut peer.connection {
                let got =
                    read(connection, &mut peer.received, usize::MAX, Acknowledges::Whole, QUIET);
                peer.delivered.extend(got);
            }
            check(peer)?;
        }
        Ok(())
    }
}

fn check(peer: &Peer) -> Result<(), Finding> {
    let Some(session) = &peer.session else { return Ok(()) };
    let name = &peer.name;
    for (number, qos) in &session.expected {
        let times = peer.delivered.iter().filter(|(_, _, other)| other == number).count();
        if times == 0 {
            return Err(format!("{name}: message {number} with QoS {qos} never came"));
        }
        if *qos == 2 && times > 1 {
            return Err(format!("{name}: message {number} with QoS 2 came {times} times"));
        }
    }
    let mut last: BTreeMap<(usize, u8), u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for &(topic, qos, number) in peer.delivered.iter().filter(|(_, qos, _)| *qos > 0) {
        if !seen.insert(number) {
            continue;
        }
        if !session.expected.contains_key(&number) {
            return Err(format!("{name}: message {number} came, and nobody owed it"));
        }
        let before = last.insert((topic, qos), number);
        if before.is_some_and(|before| before > number) {
            return Err(format!("{name}: message {number} came behind {before:?}"));
        }
    }
    Ok(())
}

/// Reads messages until nothing comes for `patience`.
fn read(
    connection: &mut Client,
    received: &mut BTreeSet<u16>,
    messages: usize,
    acknowledges: Acknowledges,
    patience: Duration,
) -> Vec<(usize, u8, u64)> {
    let mut got = Vec::new();
    let mut count = 0;
    while count < messages {
        let Some(action) = connection.next_within(patience, |packet| action(&packet)) else {
            break;
        };
        match action {
            Action::Message { topic, qos, number, id } => {
                count += 1;
                let is_new = qos != 2 || id.is_some_and(|id| received.insert(id));
                if is_new {
                    got.push((topic, qos, number));
                }
                let Some(id) = id else { continue };
                match (acknowledges, qos) {
                    (Acknowledges::Nothing, _) => {}
                    (_, 2) => connection.acknowledge(AcknowledgementKind::Pubrec, id),
                    _ => connection.acknowledge(AcknowledgementKind::Puback, id),
                }
            }
            Action::Release(id) => {
                if acknowledges == Acknowledges::Whole {
                    received.remove(&id);
                    connection.acknowledge(AcknowledgementKind::Pubcomp, id);
                }
            }
            Action::Other => {}
        }
    }
    // PUBREL for the last of them is on its way.
    if acknowledges == Acknowledges::Whole {
        while let Some(action) = connection.next_if(patience, |packet| {
            matches!(packet, Packet::Acknowledgement(_)).then(|| action(packet))
        }) {
            if let Action::Release(id) = action {
                received.remove(&id);
                connection.acknowledge(AcknowledgementKind::Pubcomp, id);
            }
        }
    }
    got
}

enum Action {
    Message { topic: usize, qos: u8, number: u64, id: Option<u16> },
    Release(u16),
    Other,
}

fn action(packet: &Packet<'_>) -> Action {
    match packet {
        Packet::Publish(publish) => {
            let topic = publish.topic.map_or("", |topic| topic.as_str());
            Action::Message {
                topic: topic.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(99),
                qos: publish.qos as u8,
                number: String::from_utf8_lossy(publish.payload).parse().unwrap_or(0),
                id: publish.packet_id.map(std::num::NonZeroU16::get),
            }
        }
        Packet::Acknowledgement(packet) if packet.kind == AcknowledgementKind::Pubrel => {
            Action::Release(packet.packet_id.get())
        }
        _ => Action::Other,
    }
}
