//! Chapters 1.5 and 2 of the standard: strings, integers, fixed headers, packet identifiers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::collections::HashSet;
use std::num::NonZeroU16;
use std::time::Duration;

use portreeve_mqtt::{AcknowledgementKind, Packet, PropertiesBuf, ProtocolVersion};
use portreeve_tests::guests::workspace;
use portreeve_tests::wire::{
    BOTH, SUBSCRIBE, UNSUBSCRIBE, Wire, answer, expect_end, expect_not_let_in,
    publish_exactly_once, resume, subscribe, unsubscribe,
};
use portreeve_tests::{Client, TestGateway, V5, V311};

/// Strings that are not UTF-8 as the standard wants it: no character, over-long, surrogates (each,
/// and as a pair), beyond U+10FFFF, cut, U+0000.
const BAD_STRINGS: [&[u8]; 8] = [
    b"a\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"a\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf4\x90\x80\x80",
    b"a\xc3",
    b"a\x00b",
];

/// A property whose value is a string.
fn text_property(id: u8, text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[id, 0, length], text].concat()
}

/// Properties with their length.
fn properties(properties: &[u8]) -> Vec<u8> {
    [&[u8::try_from(properties.len()).unwrap()], properties].concat()
}

/// User properties with the bad string as name and as value.
fn user_properties(bad: &[u8]) -> [Vec<u8>; 2] {
    let good = b"\0\x01k".to_vec();
    let bad = text_property(0x26, bad);
    let (id, bad) = bad.split_at(1);
    [[id, bad, &good].concat(), [id, &good, bad].concat()]
}

// MQTT-3.1.3-4, and of 3.1.1 -10 and -11, of 5.0 -11 and -12.
#[test]
fn a_bad_string_in_connect_keeps_the_client_out_mqtt_1_5_3_1_and_2_mqtt_1_5_4_1_and_2() {
    let gateway = TestGateway::open().start();
    for bad in BAD_STRINGS {
        for version in BOTH {
            let begin = |flags| Wire::connect(version, flags);
            let will = |topic| begin(6).string("id").no_properties().string(topic).string("x");
            expect_not_let_in(&gateway, &begin(2).string(bad).packet(), version);
            expect_not_let_in(&gateway, &will(bad).packet(), version);
            expect_not_let_in(&gateway, &begin(0x82).string("id").string(bad).packet(), version);
        }
        // Properties of CONNECT (authentication method, user properties), and of the will.
        let [name, value] = user_properties(bad);
        let head = Wire::new(V5, 0x10).string("MQTT");
        for property in [&text_property(0x15, bad), &name, &value] {
            let connect = head.clone().bytes([5, 2, 0, 0]).bytes(properties(property)).string("id");
            expect_not_let_in(&gateway, &connect.packet(), V5);
        }
        for property in [&text_property(0x03, bad), &text_property(0x08, bad), &name, &value] {
            let connect = Wire::connect(V5, 6).string("id").bytes(properties(property));
            expect_not_let_in(&gateway, &connect.string("will").string("x").packet(), V5);
        }
    }
}

// MQTT-3.3.2-1, -3.8.3-1, -3.10.3-1, -4.7.3-2, and of 5.0 -3.3.2-13 and -19.
#[test]
fn a_bad_string_ends_the_connection_mqtt_1_5_3_1_and_2_mqtt_1_5_4_1_and_2_mqtt_1_5_7_1() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    for bad in BAD_STRINGS {
        for version in BOTH {
            let filter = |first| Wire::request(version, first, 1).string(bad);
            for (wire, code) in [
                (Wire::publish(version, 0x30, bad, None).bytes("x"), 0x90),
                (filter(SUBSCRIBE).bytes([0]), 0x8f),
                (filter(UNSUBSCRIBE), 0x8f),
            ] {
                let mut client = gateway.client(version, "client");
                client.send(&wire.packet());
                expect_end(&mut client, version, &[0x81, code], &format!("{wire:?}"));
            }
        }
        let [name, value] = user_properties(bad);
        let (content_type, response_topic) = (text_property(3, bad), text_property(8, bad));
        let reason_string = text_property(0x1f, bad);
        let publish = |first| Wire::new(V5, first).string("t");
        let mut wires = vec![
            publish(0x30).bytes(properties(&content_type)),
            publish(0x30).bytes(properties(&response_topic)),
            Wire::new(V5, 0x40).bytes([0, 1, 0]).bytes(properties(&reason_string)),
            Wire::new(V5, 0xe0).bytes([0]).bytes(properties(&reason_string)),
        ];
        for property in [&name, &value] {
            let property = properties(property);
            let request = |first| Wire::new(V5, first).bytes([0, 1]).bytes(&property).string("t");
            wires.push(publish(0x30).bytes(&property));
            wires.push(request(SUBSCRIBE).bytes([0]));
            wires.push(request(UNSUBSCRIBE));
            wires.push(Wire::new(V5, 0x40).bytes([0, 1, 0]).bytes(&property));
            wires.push(Wire::new(V5, 0xe0).bytes([0]).bytes(&property));
        }
        for wire in wires {
            let mut client = gateway.client(V5, "client");
            client.send(&wire.packet());
            expect_end(&mut client, V5, &[0x81, 0x90], &format!("{wire:?}"));
        }
    }
    gateway.client(V311, "last").publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last", "no bad PUBLISH is delivered");
}

#[test]
fn a_byte_order_mark_is_a_character_like_any_other_mqtt_1_5_3_3_mqtt_1_5_4_3() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut marked = gateway.client(version, "marked");
        let mut plain = gateway.client(version, "plain");
        marked.subscribe("\u{feff}a", 0);
        plain.subscribe("a", 0);
        plain.subscribe("last", 0);
        let mut publisher = gateway.client(version, "publisher");
        publisher.send(&Wire::publish(version, 0x30, b"\xef\xbb\xbfa", None).bytes("x").packet());
        publisher.publish("last", "");
        let delivered = Wire::publish(version, 0x30, b"\xef\xbb\xbfa", None).bytes("x").packet();
        assert_eq!(marked.next_bytes().unwrap(), delivered);
        assert_eq!(plain.next_publish().topic, "last", "the mark is not skipped");
    }
    let mut client = gateway.client(V5, "client");
    client.subscribe("t", 0);
    let property = b"\x26\0\x04\xef\xbb\xbfk\0\x04\xef\xbb\xbfv";
    let publish = Wire::new(V5, 0x30).string("t").bytes(properties(property)).packet();
    client.send(&publish);
    assert_eq!(client.next_bytes().unwrap(), publish);
}

#[test]
fn integers_of_variable_length_have_the_fewest_bytes_mqtt_1_5_5_1() {
    let gateway = TestGateway::open().start();
    for (bytes, what) in [
        ("3086 00 0001 61 00 6869", "remaining length"),
        ("3006 0001 61 8000 78", "property length"),
        ("8208 0001 8000 0001 61 00", "property length of SUBSCRIBE"),
        ("820a 0001 03 0b8100 0001 61 00", "subscription identifier"),
    ] {
        let mut client = gateway.client(V5, "client");
        client.send_hex(bytes);
        expect_end(&mut client, V5, &[0x81], what);
    }
    // What the gateway writes at each border of the length is what the shortest form is.
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        client.subscribe("t", 0);
        let overhead = Wire::publish(version, 0x30, "t", None).packet().len() - 2;
        for remaining in [127, 128, 16_383, 16_384] {
            let payload = vec![b'x'; remaining - overhead];
            client.publish("t", &payload);
            let expected = Wire::publish(version, 0x30, "t", None).bytes(&payload).packet();
            assert_eq!(client.next_bytes().unwrap(), expected, "{version:?} {remaining}");
        }
    }
    let mut client = gateway.client(V5, "client");
    client.subscribe("t", 0);
    for (length, prefix) in [(127_u8, &b"\x7f"[..]), (128, b"\x80\x01")] {
        let property = [&b"\x26\0\x01k\0"[..], &[length - 6], &vec![b'v'; usize::from(length - 6)]];
        let publish = Wire::new(V5, 0x30).string("t").bytes(prefix).bytes(property.concat());
        client.send(&publish.packet());
        assert_eq!(client.next_bytes().unwrap(), publish.packet());
    }
}

#[test]
fn other_flags_than_the_listed_ones_end_the_connection_mqtt_2_2_2_2_mqtt_2_1_3_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let filter = |first| Wire::request(version, first, 1).string("a");
        for packet in [
            Wire::new(version, 0x40).bytes([0, 1]),
            Wire::new(version, 0x50).bytes([0, 1]),
            Wire::new(version, 0x62).bytes([0, 1]),
            Wire::new(version, 0x70).bytes([0, 1]),
            filter(SUBSCRIBE).bytes([0]),
            filter(UNSUBSCRIBE),
            Wire::new(version, 0xc0),
            Wire::new(version, 0xe0),
        ] {
            let packet = packet.packet();
            for flags in (0..16).filter(|flags| *flags != packet[0] & 0x0f) {
                let mut client = gateway.client(version, "client");
                let mut wrong = packet.clone();
                wrong[0] = packet[0] & 0xf0 | flags;
                client.send(&wrong);
                expect_end(&mut client, version, &[0x81], &hex::encode(&wrong));
            }
        }
        let mut connect = Wire::connect(version, 2).string("id").packet();
        for flags in 1..16 {
            connect[0] = 0x10 | flags;
            expect_not_let_in(&gateway, &connect, version);
        }
    }
}

#[test]
fn every_packet_of_the_gateway_has_the_listed_flags_mqtt_2_2_2_1_mqtt_2_1_3_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.dial();
        client.speak(version);
        let mut said = |packet: &[u8]| {
            client.send(packet);
            client.next_bytes().unwrap()
        };
        assert_eq!(said(&Wire::connect(version, 2).string("id").packet())[0], 0x20);
        assert_eq!(said(&subscribe(version, 1, &[("a", 2)]))[0], 0x90);
        assert_eq!(said(&unsubscribe(version, 1, &["a"]))[0], 0xb0);
        assert_eq!(said(&Wire::publish(version, 0x32, "b", Some(1)).packet())[0], 0x40);
        assert_eq!(said(&Wire::publish(version, 0x34, "b", Some(1)).packet())[0], 0x50);
        assert_eq!(said(&[0x62, 2, 0, 1])[0], 0x70);
        assert_eq!(said(&[0xc0, 0])[0], 0xd0);
        client.subscribe("c", 2);
        let mut publisher = gateway.client(version, "publisher");
        publish_exactly_once(&mut publisher, version, "c", "x");
        let id = client.next_publish().packet_id.unwrap();
        client.acknowledge(AcknowledgementKind::Pubrec, id);
        assert_eq!(client.next_hex(), format!("6202{id:04x}"));
    }
    let mut client = gateway.client(V5, "id");
    client.send_hex("c100");
    assert_eq!(client.next_hex(), "e00181");
}

#[test]
fn a_packet_identifier_is_not_zero_mqtt_2_3_1_1_mqtt_2_2_1_3() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    for version in BOTH {
        for packet in [
            subscribe(version, 0, &[("a", 0)]),
            unsubscribe(version, 0, &["a"]),
            Wire::publish(version, 0x32, "a", Some(0)).bytes("x").packet(),
            Wire::publish(version, 0x34, "a", Some(0)).bytes("x").packet(),
            vec![0x40, 2, 0, 0],
            vec![0x50, 2, 0, 0],
            vec![0x62, 2, 0, 0],
            vec![0x70, 2, 0, 0],
        ] {
            let mut client = gateway.client(version, "client");
            client.send(&packet);
            expect_end(&mut client, version, &[0x81, 0x82], &hex::encode(&packet));
        }
    }
    gateway.client(V311, "last").publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last");
}

#[test]
fn a_publish_of_qos_0_has_no_packet_identifier_mqtt_2_3_1_5_mqtt_2_2_1_2() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        client.subscribe("t", 2);
        // Two bytes that could be an identifier are payload.
        let publish = Wire::publish(version, 0x30, "t", None).bytes([1, 2]).packet();
        client.send(&publish);
        assert_eq!(client.next_bytes().unwrap(), publish);
        client.subscribe("t", 0);
        client.send(&Wire::publish(version, 0x32, "t", Some(5)).bytes([1, 2]).packet());
        let mut came = [client.next_bytes().unwrap(), client.next_bytes().unwrap()];
        came.sort();
        assert_eq!(came, [publish, vec![0x40, 2, 0, 5]]);
    }
}

#[test]
fn an_acknowledgement_has_the_identifier_of_its_publish_mqtt_2_3_1_6_mqtt_2_2_1_5() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut subscriber = gateway.client(version, "subscriber");
        subscriber.subscribe("t", 2);
        let mut client = gateway.client(version, "client");
        for id in [1, 0x1234, 0xffff] {
            client.send(&Wire::publish(version, 0x32, "t", Some(id)).packet());
            assert_eq!(client.next_hex(), format!("4002{id:04x}"));
            client.send(&Wire::publish(version, 0x34, "t", Some(id)).packet());
            assert_eq!(client.next_hex(), format!("5002{id:04x}"));
            client.send_hex(&format!("6202{id:04x}"));
            assert_eq!(client.next_hex(), format!("7002{id:04x}"));
            let _of_qos_1 = subscriber.next_publish();
            let id = subscriber.next_publish().packet_id.unwrap();
            subscriber.acknowledge(AcknowledgementKind::Pubrec, id);
            assert_eq!(subscriber.next_hex(), format!("6202{id:04x}"));
        }
    }
}

// MQTT-3.8.4-1 and -2; of 3.1.1 MQTT-3.10.4-4 and -5; of 5.0 MQTT-3.10.4-4 and -5.
#[test]
fn suback_and_unsuback_have_the_identifier_of_their_request_mqtt_2_3_1_7_mqtt_2_2_1_6() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        for id in [1, 0x1234, 0xffff] {
            client.send(&subscribe(version, id, &[("a", 1)]));
            assert_eq!(client.next_hex(), answer(version, 0x90, id, &[1]));
            client.send(&unsubscribe(version, id, &["a"]));
            assert_eq!(client.next_hex(), answer(version, 0xb0, id, &[0]));
            client.send(&unsubscribe(version, id, &["a"]));
            assert_eq!(client.next_hex(), answer(version, 0xb0, id, &[0x11]));
        }
    }
}

#[test]
fn an_acknowledged_identifier_stands_for_the_next_message_mqtt_2_3_1_3_mqtt_2_2_1_3() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut subscriber = gateway.client(version, "subscriber");
        subscriber.subscribe("t", 0);
        let mut client = gateway.client(version, "client");
        for number in ["1", "2", "3"] {
            client.send(&subscribe(version, 0x0715, &[("other", 1)]));
            assert_eq!(client.next_hex(), answer(version, 0x90, 0x0715, &[1]));
            let publish = Wire::publish(version, 0x32, "t", Some(0x0715)).bytes(number).packet();
            client.send(&publish);
            assert_eq!(client.next_hex(), "40020715");
            publish_exactly_once(&mut client, version, "t", number);
            assert_eq!(subscriber.next_publish().text(), number);
            assert_eq!(subscriber.next_publish().text(), number);
        }
    }
}

/// A subscriber that leaves two messages unacknowledged while the identifiers come round.
struct Holder {
    client: Client,
    held: Vec<u16>,
}

impl Holder {
    /// Receives and acknowledges so many messages. Where nothing comes any more because the next
    /// identifier is held, it is acknowledged, too.
    fn receive(&mut self, count: u16) -> Vec<u16> {
        let mut came = Vec::new();
        while came.len() < usize::from(count) {
            let id = self.client.next_within(Duration::from_millis(500), |packet| match packet {
                Packet::Publish(publish) => publish.packet_id.map(NonZeroU16::get),
                _ => None,
            });
            match id {
                Some(Some(id)) => came.push(id),
                Some(None) => {}
                None => {
                    assert!(!self.held.is_empty(), "{} of {count} came", came.len());
                    let [at_least_once, exactly_once] = [self.held[0], self.held[1]];
                    self.client.acknowledge(AcknowledgementKind::Puback, at_least_once);
                    self.client.acknowledge(AcknowledgementKind::Pubrec, exactly_once);
                    self.client.acknowledge(AcknowledgementKind::Pubcomp, exactly_once);
                    self.held.clear();
                }
            }
            let at_a_time: HashSet<u16> = came.iter().chain(&self.held).copied().collect();
            let is_new = at_a_time.len() == came.len() + self.held.len();
            assert!(is_new && !at_a_time.contains(&0), "{:?} follows {came:?}", came.last());
        }
        let acknowledgements =
            came.iter().flat_map(|id| [&[0x40, 2], &id.to_be_bytes()[..]].concat());
        self.client.send(&acknowledgements.collect::<Vec<u8>>());
        came
    }
}

// MQTT-4.3.2-1 of both versions; of 5.0 MQTT-4.3.3-1.
#[test]
fn the_gateway_gives_no_identifier_twice_at_a_time_mqtt_2_3_1_4_mqtt_2_2_1_4() {
    let gateway = TestGateway::open().start();
    let mut holders = BOTH.map(|version| {
        let mut client = gateway.client(version, &format!("{version:?}"));
        client.subscribe("t", 2);
        Holder { client, held: Vec::new() }
    });
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_at_least_once("t", "held");
    publish_exactly_once(&mut publisher, V5, "t", "held");
    for holder in &mut holders {
        holder.held = (0..2).map(|_| holder.client.next_publish().packet_id.unwrap()).collect();
    }
    let batch = 500_u16;
    let packets: Vec<u8> =
        (1..=batch).flat_map(|id| Wire::publish(V5, 0x32, "t", Some(id)).packet()).collect();
    let mut seen = HashSet::new();
    for _ in 0..=65_536 / usize::from(batch) {
        publisher.send(&packets);
        for holder in &mut holders {
            seen.extend(holder.receive(batch));
        }
        for _ in 0..batch {
            publisher.next_hex();
        }
    }
    assert!(seen.len() > 60_000, "the identifiers came round");
}

#[test]
fn what_is_sent_again_has_its_old_identifier_mqtt_2_3_1_4_mqtt_2_2_1_4() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let (mut client, _) = resume(&gateway, version, &format!("{version:?}"));
        client.subscribe("t", 2);
        let mut publisher = gateway.client(version, "publisher");
        for number in ["1", "2", "3"] {
            publisher.publish_at_least_once("t", number);
        }
        let ids: Vec<_> = (0..3).map(|_| client.next_publish().packet_id).collect();
        drop(client);
        let (mut client, _) = resume(&gateway, version, &format!("{version:?}"));
        assert_eq!((0..3).map(|_| client.next_publish().packet_id).collect::<Vec<_>>(), ids);
        // What is new while they are in flight gets others.
        publisher.publish_at_least_once("t", "4");
        let new = client.next_publish().packet_id;
        assert!(new.is_some() && !ids.contains(&new), "{new:?} of {ids:?}");
    }
}

#[test]
fn packets_without_properties_say_so_mqtt_2_2_2_1() {
    let gateway = TestGateway::open().start();
    for without in [
        "8206 0001 0001 61 00",
        "a205 0001 0001 61",
        "a202 0001",
        "3003 0001 61",
        "3205 0001 61 0001",
    ] {
        let mut client = gateway.client(V5, "client");
        client.send_hex(without);
        expect_end(&mut client, V5, &[0x81], without);
    }
    let connect = hex::decode("100f00044d51545405020000 0003616263".replace(' ', "")).unwrap();
    expect_not_let_in(&gateway, &connect, V5);
    let mut client = gateway.client(V5, "client");
    client.send(&subscribe(V5, 1, &[("t", 0)]));
    assert_eq!(client.next_hex(), "9004 0001 00 00".replace(' ', ""));
    client.publish_with("t", b"x", 0, false, None, &PropertiesBuf::new());
    assert_eq!(client.next_hex(), "3005 0001 74 00 78".replace(' ', ""));
    client.send(&unsubscribe(V5, 1, &["t"]));
    assert_eq!(client.next_hex(), "b004 0001 00 00".replace(' ', ""));
}

/// What is no packet of the client at the gateway but one of another version.
const OTHER_VERSION: &str = "v5 CONNECT level 4 given to the v5 decoder";

// MQTT-3.1.4-1, -3.9.3-2, -4.8.0-1 of 3.1.1; MQTT-3.1.4-1, -3.4.2-1, -3.5.2-1, -3.6.2-1, -3.7.2-1
// of 5.0.
#[test]
fn every_packet_that_the_table_rejects_ends_its_connection_mqtt_4_8_0_1_mqtt_4_13_1_1() {
    let gateway = TestGateway::open().start();
    let table = workspace().join("host/mqtt/tests/data/packets.jsonl");
    let (mut replayed, mut faults) = (0, Vec::new());
    for line in std::fs::read_to_string(table).unwrap().lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        if text("expect") != "reject" || text("id") == OTHER_VERSION {
            continue;
        }
        replayed += 1;
        let version = if case["version"] == 5 { V5 } else { V311 };
        let bytes = hex::decode(text("hex")).unwrap();
        let is_connect = bytes[0] >> 4 == 1;
        let mut client =
            if is_connect { gateway.dial() } else { gateway.client(version, "client") };
        client.send(&bytes);
        let said = client.expect_close();
        let is_right = match (is_connect, version) {
            (true, _) => is_refusal(&said, version, text("spec")),
            (false, V5) => said.len() == 6 && said.starts_with("e001") && said.as_str() >= "e00180",
            (false, _) => said.is_empty(),
        };
        if !is_right {
            faults.push(format!("{}: {said:?}", text("id")));
        }
    }
    println!("{replayed} packets were replayed");
    assert!(replayed > 200, "only {replayed} packets were replayed");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether this is how a CONNECT that breaks these statements may be answered: not at all, or with
/// CONNACK, which MQTT 3.1.1 has for two reasons only.
fn is_refusal(said: &str, version: ProtocolVersion, statements: &str) -> bool {
    let mut ids = statements.split([' ', '/']);
    let has_code = version == V5 || ids.any(|id| ["3.1.2-2", "3.1.3-8"].contains(&id));
    if said.is_empty() {
        return version == V5 || !has_code;
    }
    has_code && said.starts_with("20") && said[4..6] == *"00" && said[6..8] != *"00"
}
