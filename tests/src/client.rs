//! A client that speaks bytes. It is blocking, has no state of its own beyond its socket, and
//! builds packets with the codec only where a test is about something else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::time::Duration;

use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Connect, Limits, Packet, Properties, PropertiesBuf,
    Property, ProtocolVersion, Publish, QoS, Subscribe, SubscribeEntriesBuf, SubscribeEntry,
    SubscriptionOptions, TopicFilter, TopicName, Will,
};

/// MQTT 3.1.1.
pub const V311: ProtocolVersion = ProtocolVersion::V311;
/// MQTT 5.0.
pub const V5: ProtocolVersion = ProtocolVersion::V5;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a test waits for something that must not come.
const SILENCE: Duration = Duration::from_millis(150);

/// A network connection, and the version that it speaks once it is connected.
pub struct Client {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
}

/// A PUBLISH that came in, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// Retain flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// Packet identifier.
    pub packet_id: Option<u16>,
    /// Properties, as their debug form.
    pub properties: Vec<String>,
}

impl Incoming {
    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// A CONNECT with the usual values.
#[must_use]
pub fn connect(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    Connect {
        protocol_version: version,
        clean_start: true,
        keep_alive: 0,
        properties: Properties::NONE,
        client_id,
        will: None,
        user_name: None,
        password: None,
    }
}

/// A will without properties.
#[must_use]
pub fn will<'a>(topic: &'a str, payload: &'a str) -> Will<'a> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic: TopicName::parse(topic).unwrap(),
        payload: payload.as_bytes(),
    }
}

/// The level of a number.
#[must_use]
pub fn qos(level: u8) -> QoS {
    QoS::from_bits(level).unwrap()
}

impl Client {
    /// Connects to an address.
    #[must_use]
    pub fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, version: V311, received: Vec::new() }
    }

    /// Connects with a clean start; whether the gateway answers and lets it in.
    pub fn try_connect(&mut self, version: ProtocolVersion, client_id: &str) -> bool {
        self.version = version;
        let mut bytes = Vec::new();
        let packet = Packet::Connect(connect(version, client_id));
        packet.encode(version, &mut bytes).expect("it can be encoded");
        if !self.try_send(&bytes) {
            return false;
        }
        let connack = self.next_bytes();
        connack.is_some_and(|bytes| bytes.get(3) == Some(&0))
    }

    /// The next packet, if one comes within this time.
    pub fn next_within<T>(
        &mut self,
        patience: Duration,
        look: impl FnOnce(Packet<'_>) -> T,
    ) -> Option<T> {
        self.next_if(patience, |packet| Some(look(*packet)))
    }

    /// The next packet, if one comes within this time and `look` takes it.
    pub fn next_if<T>(
        &mut self,
        patience: Duration,
        look: impl FnOnce(&Packet<'_>) -> Option<T>,
    ) -> Option<T> {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        let mut looked = None;
        loop {
            let decoded = portreeve_mqtt::decode(&self.received, self.version, &Limits::STANDARD);
            if let Some((packet, taken)) = decoded.expect("the gateway sends packets") {
                looked = look(&packet);
                if looked.is_some() {
                    self.received.drain(..taken);
                }
                break;
            }
            if !matches!(self.read_some(), Ok(read) if read > 0) {
                break;
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        looked
    }

    /// The version that packets are read as.
    pub fn speak(&mut self, version: ProtocolVersion) {
        self.version = version;
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway reads");
    }

    /// Sends bytes; whether the gateway took them.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends bytes written as hex.
    pub fn send_hex(&mut self, bytes: &str) {
        self.send(&hex::decode(bytes.replace(' ', "")).unwrap());
    }

    /// Sends a packet.
    pub fn send_packet(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.send(&bytes);
    }

    fn read_some(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 65_536];
        let read = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    /// The bytes of the next packet; `None` when the gateway closed the connection.
    pub fn next_bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            let header = portreeve_mqtt::FixedHeader::parse(&self.received, &Limits::STANDARD)
                .expect("the gateway sends packets");
            if let Some(header) =
                header.filter(|header| header.packet_bytes() <= self.received.len())
            {
                let rest = self.received.split_off(header.packet_bytes());
                return Some(std::mem::replace(&mut self.received, rest));
            }
            match self.read_some() {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                    ) =>
                {
                    return None;
                }
                Err(error) => panic!("no packet came: {error}"),
            }
        }
    }

    /// The next packet as hex.
    pub fn next_hex(&mut self) -> String {
        hex::encode(self.next_bytes().expect("the connection is open"))
    }

    /// The next packet, checked by our own codec.
    pub fn next<T>(&mut self, look: impl FnOnce(Packet<'_>) -> T) -> T {
        let bytes = self.next_bytes().expect("the connection is open");
        let (packet, taken) = portreeve_mqtt::decode(&bytes, self.version, &Limits::STANDARD)
            .unwrap_or_else(|error| panic!("{}: {error}", hex::encode(&bytes)))
            .expect("a whole packet");
        assert_eq!(taken, bytes.len());
        look(packet)
    }

    /// Asserts that nothing comes for a while.
    pub fn expect_silence(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        let read = self.read_some();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(read.is_err() && self.received.is_empty(), "came: {}", hex::encode(&self.received));
    }

    /// Asserts that the gateway closes the connection; returns what it said before, as hex.
    pub fn expect_close(&mut self) -> String {
        let mut last = String::new();
        while let Some(bytes) = self.next_bytes() {
            last.push_str(&hex::encode(bytes));
        }
        last
    }

    /// Connects with the usual values and asserts that it is let in.
    pub fn connect(&mut self, version: ProtocolVersion, client_id: &str) {
        self.connect_with(&connect(version, client_id));
    }

    /// Connects and asserts that it is let in; whether the session was present.
    pub fn connect_with(&mut self, connect: &Connect<'_>) -> bool {
        self.version = connect.protocol_version;
        self.send_packet(&Packet::Connect(*connect));
        self.next(|packet| match packet {
            Packet::Connack(connack) => {
                assert!(!connack.reason_code.is_error(), "refused: {connack:?}");
                connack.session_present
            }
            other => panic!("not CONNACK: {other:?}"),
        })
    }

    /// Connects; the code of CONNACK as it stands on the wire.
    pub fn connect_code(&mut self, connect: &Connect<'_>) -> u8 {
        self.version = connect.protocol_version;
        self.send_packet(&Packet::Connect(*connect));
        let bytes = self.next_bytes().expect("CONNACK");
        assert_eq!(bytes[0], 0x20);
        bytes[3]
    }

    /// Subscribes and returns the code of SUBACK.
    pub fn subscribe(&mut self, filter: &str, level: u8) -> u8 {
        self.subscribe_with(filter, SubscriptionOptions::with_qos(qos(level)), None)
    }

    /// Subscribes with options and returns the code of SUBACK.
    pub fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) -> u8 {
        let mut entries = SubscribeEntriesBuf::new();
        entries
            .push(SubscribeEntry { filter: TopicFilter::parse(filter).unwrap(), options })
            .unwrap();
        let properties: PropertiesBuf =
            identifier.map(Property::SubscriptionIdentifier).into_iter().collect();
        self.send_packet(&Packet::Subscribe(Subscribe {
            packet_id: NonZeroU16::new(99).unwrap(),
            properties: properties.as_properties(),
            entries: entries.as_entries(),
        }));
        self.next(|packet| match packet {
            Packet::Suback(suback) => suback.reason_codes[0],
            other => panic!("not SUBACK: {other:?}"),
        })
    }

    /// Publishes with QoS 0.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_with(topic, payload.as_ref(), 0, false, None, &PropertiesBuf::new());
    }

    /// Publishes a retained message with QoS 0.
    pub fn publish_retained(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_with(topic, payload.as_ref(), 0, true, None, &PropertiesBuf::new());
    }

    /// Publishes.
    pub fn publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        level: u8,
        retain: bool,
        packet_id: Option<u16>,
        properties: &PropertiesBuf,
    ) {
        self.send_packet(&Packet::Publish(Publish {
            dup: false,
            qos: qos(level),
            retain,
            topic: Some(TopicName::parse(topic).unwrap()),
            packet_id: packet_id.and_then(NonZeroU16::new),
            properties: properties.as_properties(),
            payload,
        }));
    }

    /// Publishes with QoS 1 and returns the reason code of PUBACK.
    pub fn publish_at_least_once(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> u8 {
        self.publish_with(topic, payload.as_ref(), 1, false, Some(7), &PropertiesBuf::new());
        self.next(|packet| match packet {
            Packet::Acknowledgement(packet) if packet.kind == AcknowledgementKind::Puback => {
                assert_eq!(packet.packet_id.get(), 7);
                packet.reason_code.byte()
            }
            other => panic!("not PUBACK: {other:?}"),
        })
    }

    /// The next PUBLISH.
    pub fn next_publish(&mut self) -> Incoming {
        self.next(|packet| match packet {
            Packet::Publish(publish) => Incoming {
                topic: publish.topic.map_or("", |topic| topic.as_str()).to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                dup: publish.dup,
                packet_id: publish.packet_id.map(NonZeroU16::get),
                properties: publish.properties.iter().map(|p| format!("{p:?}")).collect(),
            },
            other => panic!("not PUBLISH: {other:?}"),
        })
    }

    /// Sends an acknowledgement.
    pub fn acknowledge(&mut self, kind: AcknowledgementKind, packet_id: u16) {
        let packet_id = NonZeroU16::new(packet_id).unwrap();
        self.send_packet(&Packet::Acknowledgement(Acknowledgement::success(kind, packet_id)));
    }

    /// Says DISCONNECT and closes.
    pub fn disconnect(mut self) {
        self.send_hex("e000");
        let _rest = self.expect_close();
    }

    /// Sends PINGREQ and waits for PINGRESP, so that everything before it was handled.
    pub fn ping(&mut self) {
        self.send_hex("c000");
        assert_eq!(self.next_hex(), "d000");
    }
}
