//! Packets built byte by byte, so that a test can build what no codec would write; and what the
//! suites of the standard's chapters have in common.

use std::sync::atomic::Ordering;

use portreeve_mqtt::{Connect, PropertiesBuf, Property, ProtocolVersion};

use crate::client::{Client, connect};
use crate::gateway::RunningGateway;
use crate::{V5, V311};

/// Both versions, for rules that are the same in them.
pub const BOTH: [ProtocolVersion; 2] = [V311, V5];

/// The first byte of SUBSCRIBE and UNSUBSCRIBE.
pub const SUBSCRIBE: u8 = 0x82;
/// The first byte of UNSUBSCRIBE.
pub const UNSUBSCRIBE: u8 = 0xa2;

/// A packet in the making: the first byte, then whatever is appended to the body.
#[derive(Debug, Clone)]
pub struct Wire {
    version: ProtocolVersion,
    first: u8,
    body: Vec<u8>,
}

impl Wire {
    /// A packet without body.
    #[must_use]
    pub const fn new(version: ProtocolVersion, first: u8) -> Self {
        Self { version, first, body: Vec::new() }
    }

    /// CONNECT up to its payload, with these connect flags, without keep alive and properties.
    #[must_use]
    pub fn connect(version: ProtocolVersion, flags: u8) -> Self {
        let level = if version == V5 { 5 } else { 4 };
        Self::new(version, 0x10).string("MQTT").bytes([level, flags, 0, 0]).no_properties()
    }

    /// PUBLISH up to its payload, without properties.
    #[must_use]
    pub fn publish(
        version: ProtocolVersion,
        first: u8,
        topic: impl AsRef<[u8]>,
        packet_id: Option<u16>,
    ) -> Self {
        let packet_id = packet_id.map_or_else(Vec::new, |id| id.to_be_bytes().to_vec());
        Self::new(version, first).string(topic).bytes(packet_id).no_properties()
    }

    /// SUBSCRIBE or UNSUBSCRIBE up to its filters, without properties.
    #[must_use]
    pub fn request(version: ProtocolVersion, first: u8, packet_id: u16) -> Self {
        Self::new(version, first).bytes(packet_id.to_be_bytes()).no_properties()
    }

    /// Appends two bytes of length and these bytes.
    #[must_use]
    pub fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let length = u16::try_from(bytes.len()).expect("a string is at most 65,535 bytes long");
        self.bytes(length.to_be_bytes()).bytes(bytes)
    }

    /// Appends bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body.extend_from_slice(bytes.as_ref());
        self
    }

    /// Appends the length of no properties, where the version has properties.
    #[must_use]
    pub fn no_properties(self) -> Self {
        if self.version == V5 { self.bytes([0]) } else { self }
    }

    /// The packet with its remaining length.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = vec![self.first];
        let mut rest = self.body.len();
        loop {
            let more = if rest > 127 { 0x80 } else { 0 };
            packet.push(u8::try_from(rest % 128).expect("seven bits") | more);
            rest /= 128;
            if rest == 0 {
                break;
            }
        }
        packet.extend_from_slice(&self.body);
        packet
    }
}

/// SUBSCRIBE for filters with their options.
#[must_use]
pub fn subscribe(version: ProtocolVersion, packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let begin = Wire::request(version, SUBSCRIBE, packet_id);
    filters
        .iter()
        .fold(begin, |wire, (filter, options)| wire.string(filter).bytes([*options]))
        .packet()
}

/// UNSUBSCRIBE for filters.
#[must_use]
pub fn unsubscribe(version: ProtocolVersion, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let begin = Wire::request(version, UNSUBSCRIBE, packet_id);
    filters.iter().fold(begin, |wire, filter| wire.string(filter)).packet()
}

/// SUBACK or UNSUBACK as hex: `90` with codes; `b0`, whose codes MQTT 3.1.1 does not have.
#[must_use]
pub fn answer(version: ProtocolVersion, first: u8, packet_id: u16, codes: &[u8]) -> String {
    let codes: &[u8] = if first == 0xb0 && version == V311 { &[] } else { codes };
    let wire = Wire::new(version, first).bytes(packet_id.to_be_bytes()).no_properties();
    hex::encode(wire.bytes(codes).packet())
}

/// Asserts that what was sent ends the connection: without a word on MQTT 3.1.1, with DISCONNECT
/// and one of these reason codes on MQTT 5.
pub fn expect_end(client: &mut Client, version: ProtocolVersion, codes: &[u8], what: &str) {
    let said = client.expect_close();
    let expected: Vec<String> = match version {
        V5 => codes.iter().map(|code| format!("e001{code:02x}")).collect(),
        _ => vec![String::new()],
    };
    assert!(expected.contains(&said), "{version:?}, {what}: {said:?} is none of {expected:?}");
}

/// Asserts that a CONNECT is not let in: the connection ends without a word on MQTT 3.1.1, with
/// nothing or CONNACK 0x80 or above, without session, on MQTT 5.
pub fn expect_not_let_in(gateway: &RunningGateway, connect: &[u8], version: ProtocolVersion) {
    let mut client = gateway.dial();
    client.speak(version);
    client.send(connect);
    let said = client.expect_close();
    if said.is_empty() {
        return;
    }
    let bytes = hex::decode(&said).expect("hex");
    let is_refusal = version == V5
        && bytes.len() == usize::from(bytes[1]) + 2
        && (bytes[0], bytes[2]) == (0x20, 0)
        && bytes[3] >= 0x80;
    assert!(is_refusal, "{version:?}, {}: {said}", hex::encode(connect));
}

/// Connects to the session of this client, which outlives its connection; whether it was there.
pub fn resume(
    gateway: &RunningGateway,
    version: ProtocolVersion,
    client_id: &str,
) -> (Client, bool) {
    resume_with(gateway, version, client_id, &[Property::SessionExpiryInterval(3600)])
}

/// As [`resume`], with these properties on MQTT 5.
pub fn resume_with(
    gateway: &RunningGateway,
    version: ProtocolVersion,
    client_id: &str,
    properties: &[Property<'_>],
) -> (Client, bool) {
    let properties: &[Property<'_>] = if version == V5 { properties } else { &[] };
    let properties: PropertiesBuf = properties.iter().copied().collect();
    let mut client = gateway.dial();
    let was_there = client.connect_with(&Connect {
        clean_start: false,
        properties: properties.as_properties(),
        ..connect(version, client_id)
    });
    (client, was_there)
}

/// Connects with a clean start and these properties.
pub fn client_with(
    gateway: &RunningGateway,
    client_id: &str,
    properties: &[Property<'_>],
) -> Client {
    let properties: PropertiesBuf = properties.iter().copied().collect();
    let mut client = gateway.dial();
    client.connect_with(&Connect {
        properties: properties.as_properties(),
        ..connect(V5, client_id)
    });
    client
}

/// Closes the socket of a client without DISCONNECT, and waits until the gateway has only this
/// many connections.
pub fn lose(gateway: &RunningGateway, client: Client, connections: i64) {
    drop(client);
    gateway.wait_until("the lost connection is noticed", |gateway| {
        gateway.server().metrics().connections.load(Ordering::Relaxed) == connections
    });
}

/// Publishes with QoS 2, up to PUBCOMP.
pub fn publish_exactly_once(
    client: &mut Client,
    version: ProtocolVersion,
    topic: &str,
    payload: &str,
) {
    let id = 0x0715;
    client.send(&Wire::publish(version, 0x34, topic, Some(id)).bytes(payload).packet());
    let pubrec = client.next_hex();
    // MQTT 5 tells where nobody subscribes.
    assert!(pubrec == "50020715" || version == V5 && pubrec == "5003071510", "{pubrec}");
    client.send_hex("62020715");
    assert_eq!(client.next_hex(), "70020715");
}
