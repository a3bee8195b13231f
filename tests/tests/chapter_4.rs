//! Chapter 4 of the standard without 4.7 and 4.8.2: sessions, delivery, order, authentication.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::Duration;

use portreeve_mqtt::{AcknowledgementKind, Packet, Property, ProtocolVersion};
use portreeve_tests::client::Incoming;
use portreeve_tests::wire::{
    BOTH, Wire, client_with, expect_end, publish_exactly_once, resume, resume_with,
};
use portreeve_tests::{Client, TestGateway, V5, V311};

/// Acknowledges a delivery to its end.
fn take(client: &mut Client, message: &Incoming) {
    let Some(id) = message.packet_id else { return };
    if message.qos == 1 {
        client.acknowledge(AcknowledgementKind::Puback, id);
    } else {
        client.acknowledge(AcknowledgementKind::Pubrec, id);
        assert_eq!(client.next_hex(), format!("6202{id:04x}"));
        client.acknowledge(AcknowledgementKind::Pubcomp, id);
    }
}

#[test]
fn a_session_lasts_at_least_as_long_as_its_connection_mqtt_4_1_0_2_mqtt_4_1_0_1() {
    let gateway = TestGateway::open().start();
    let mut clients = [
        gateway.client(V311, "clean"),
        client_with(&gateway, "zero", &[Property::SessionExpiryInterval(0)]),
        client_with(&gateway, "one", &[Property::SessionExpiryInterval(1)]),
    ];
    let mut publisher = gateway.client(V5, "publisher");
    for client in &mut clients {
        client.subscribe("t", 2);
    }
    publish_exactly_once(&mut publisher, V5, "t", "open");
    let open = clients.each_mut().map(|client| client.next_publish().packet_id.unwrap());
    // Longer than the gateway takes to look for sessions that are over.
    std::thread::sleep(Duration::from_millis(2200));
    publisher.publish_at_least_once("t", "still there");
    for (client, open) in clients.iter_mut().zip(open) {
        assert_eq!(client.next_publish().text(), "still there");
        client.acknowledge(AcknowledgementKind::Pubrec, open);
        assert_eq!(client.next_hex(), format!("6202{open:04x}"));
    }
}

#[test]
fn a_session_that_expired_is_not_resumed_mqtt_4_1_0_2() {
    let gateway = TestGateway::open().start();
    let expiry = [Property::SessionExpiryInterval(1)];
    for number in 0..3 {
        let id = format!("client-{number}");
        resume_with(&gateway, V5, &id, &expiry).0.disconnect();
        std::thread::sleep(Duration::from_millis(1100));
        assert!(!resume_with(&gateway, V5, &id, &expiry).1);
    }
}

#[test]
fn a_delivery_of_qos_0_has_qos_0_and_no_dup_mqtt_4_3_1_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        client.subscribe("t", 0);
        for (first, id) in [(0x30, None), (0x32, Some(1)), (0x3a, Some(2)), (0x3c, Some(3))] {
            let mut publisher = gateway.client(version, "publisher");
            publisher.send(&Wire::publish(version, first, "t", id).bytes("x").packet());
            let expected = Wire::publish(version, 0x30, "t", None).bytes("x").packet();
            assert_eq!(client.next_bytes().unwrap(), expected);
        }
    }
}

// Of 3.1.1: MQTT-3.3.1-1. Of 5.0: MQTT-3.3.1-1, MQTT-4.3.2-2 and -3, MQTT-4.3.3-2 and -3.
#[test]
fn a_delivery_is_open_until_it_is_acknowledged_mqtt_4_3_2_1_mqtt_4_3_3_3() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let id = format!("{version:?}");
        let (mut client, _) = resume(&gateway, version, &id);
        client.subscribe("t", 2);
        let mut publisher = gateway.client(version, "publisher");
        publisher.publish_at_least_once("t", "one");
        publish_exactly_once(&mut publisher, version, "t", "two");
        let first = [client.next_publish(), client.next_publish()];
        assert!(first.iter().all(|message| !message.dup && message.packet_id != Some(0)));
        let [one, two] = [0, 1].map(|index: usize| first[index].packet_id.unwrap());
        // Neither another identifier nor another packet acknowledges them.
        client.acknowledge(AcknowledgementKind::Puback, 0x7777);
        client.acknowledge(AcknowledgementKind::Puback, two);
        client.acknowledge(AcknowledgementKind::Pubcomp, two);
        client.acknowledge(AcknowledgementKind::Pubcomp, one);
        client.ping();
        for _ in 0..2 {
            drop(client);
            (client, _) = resume(&gateway, version, &id);
            for before in &first {
                let expected = Incoming { dup: true, ..before.clone() };
                assert_eq!(client.next_publish(), expected, "{version:?}");
            }
        }
        client.acknowledge(AcknowledgementKind::Puback, one);
        client.acknowledge(AcknowledgementKind::Pubrec, two);
        assert_eq!(client.next_hex(), format!("6202{two:04x}"));
        client.acknowledge(AcknowledgementKind::Pubcomp, two);
        client.ping();
        drop(client);
        let (mut client, was_there) = resume(&gateway, version, &id);
        assert!(was_there);
        client.expect_silence();
    }
}

#[test]
fn after_puback_the_identifier_is_a_new_message_mqtt_4_3_2_2_mqtt_4_3_2_5() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut watcher = gateway.client(version, "watcher");
        watcher.subscribe("t", 1);
        let mut publisher = gateway.client(version, "publisher");
        for first in [0x32, 0x3a, 0x3a, 0x32] {
            publisher.send(&Wire::publish(version, first, "t", Some(5)).bytes([first]).packet());
            assert_eq!(publisher.next_hex(), "40020005");
            let message = watcher.next_publish();
            assert_eq!((message.payload, message.dup), (vec![first], false));
        }
    }
}

// Of 3.1.1: MQTT-4.3.3-1. Of 5.0: MQTT-4.3.3-4, -5, -6.
#[test]
fn a_released_message_is_not_published_again_mqtt_4_3_3_1_mqtt_4_3_3_5_and_6() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let id = format!("{version:?}");
        let (mut client, _) = resume(&gateway, version, &id);
        client.subscribe("t", 2);
        let mut publisher = gateway.client(version, "publisher");
        publish_exactly_once(&mut publisher, version, "t", "x");
        let message = client.next_publish();
        assert_eq!((message.qos, message.dup), (2, false));
        let pubrel = format!("6202{:04x}", message.packet_id.unwrap());
        client.acknowledge(AcknowledgementKind::Pubrec, message.packet_id.unwrap());
        assert_eq!(client.next_hex(), pubrel);
        for _ in 0..2 {
            drop(client);
            (client, _) = resume(&gateway, version, &id);
            assert_eq!(client.next_hex(), pubrel);
            client.expect_silence();
        }
        // A repeated PUBREC gets PUBREL again.
        client.acknowledge(AcknowledgementKind::Pubrec, message.packet_id.unwrap());
        assert_eq!(client.next_hex(), pubrel);
        client.acknowledge(AcknowledgementKind::Pubcomp, message.packet_id.unwrap());
        client.ping();
        drop(client);
        let (mut client, was_there) = resume(&gateway, version, &id);
        assert!(was_there);
        client.expect_silence();
    }
}

// Of 3.1.1: MQTT-4.3.3-2. Of 5.0: MQTT-4.3.3-8, -10, -11, -12.
#[test]
fn a_message_of_qos_2_is_taken_once_over_connections_mqtt_4_3_3_2_mqtt_4_3_3_10_to_12() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut watcher = gateway.client(version, "watcher");
        watcher.subscribe("t", 0);
        let id = format!("{version:?}");
        let (mut publisher, _) = resume(&gateway, version, &id);
        for text in ["one", "two"] {
            let publish = |first| Wire::publish(version, first, "t", Some(5)).bytes(text).packet();
            for first in [0x34, 0x3c, 0x34, 0x3c] {
                publisher.send(&publish(first));
                assert_eq!(publisher.next_hex(), "50020005");
            }
            drop(publisher);
            (publisher, _) = resume(&gateway, version, &id);
            publisher.send(&publish(0x3c));
            assert_eq!(publisher.next_hex(), "50020005");
            publisher.send_hex("62020005");
            assert_eq!(publisher.next_hex(), "70020005");
            assert_eq!(watcher.next_publish().text(), text, "{version:?}");
        }
        publisher.publish("t", "last");
        assert_eq!(watcher.next_publish().text(), "last");
    }
}

#[test]
fn what_was_sent_does_not_expire_mqtt_4_3_3_7() {
    let gateway = TestGateway::open().start();
    let (mut client, _) = resume(&gateway, V5, "client");
    client.subscribe("t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    let expiry = [5, 2, 0, 0, 0, 1];
    for (first, id) in [(0x34, 5_u16), (0x32, 6)] {
        let wire = Wire::new(V5, first).string("t").bytes(id.to_be_bytes()).bytes(expiry);
        publisher.send(&wire.bytes("x").packet());
        publisher.next_bytes().unwrap();
    }
    let before = [client.next_publish(), client.next_publish()];
    std::thread::sleep(Duration::from_millis(2100));
    drop(client);
    let (mut client, _) = resume(&gateway, V5, "client");
    let again = [client.next_publish(), client.next_publish()];
    for (before, again) in before.iter().zip(again) {
        assert_eq!((again.packet_id, again.dup, again.qos), (before.packet_id, true, before.qos));
        take(&mut client, &again);
    }
}

#[test]
fn an_exchange_goes_on_when_its_message_expired_mqtt_4_3_3_13() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("t", 2);
    let (mut absent, _) = resume(&gateway, V5, "absent");
    absent.subscribe("t", 2);
    absent.disconnect();
    let mut publisher = gateway.client(V5, "publisher");
    // PUBLISH with a message expiry interval of one second.
    publisher.send_hex("340c 0001 74 0005 05 0200000001 78");
    assert_eq!(publisher.next_hex(), "50020005");
    let message = client.next_publish();
    std::thread::sleep(Duration::from_millis(1200));
    publisher.send_hex("62020005");
    assert_eq!(publisher.next_hex(), "70020005");
    take(&mut client, &message);
    client.ping();
    let (mut absent, _) = resume(&gateway, V5, "absent");
    absent.expect_silence();
}

// MQTT-4.3.3-4.
#[test]
fn an_error_acknowledges_and_frees_the_identifier_mqtt_4_4_0_2() {
    let gateway = TestGateway::open().start();
    for code in ["80", "83", "87", "97", "99"] {
        let (mut client, _) = resume(&gateway, V5, code);
        client.subscribe("t", 2);
        let mut publisher = gateway.client(V5, "publisher");
        publisher.publish_at_least_once("t", "one");
        publish_exactly_once(&mut publisher, V5, "t", "two");
        let ids = [client.next_publish(), client.next_publish()]
            .map(|message| message.packet_id.unwrap());
        client.send_hex(&format!("4003{:04x}{code} 5003{:04x}{code}", ids[0], ids[1]));
        // No PUBREL follows.
        client.ping();
        drop(client);
        let (mut client, was_there) = resume(&gateway, V5, code);
        assert!(was_there);
        client.expect_silence();
        client.disconnect();
        gateway.client(V5, code).disconnect();
    }
}

#[test]
fn nothing_is_sent_again_but_on_a_new_connection_in_order_mqtt_4_4_0_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let id = format!("{version:?}");
        let (mut client, _) = resume(&gateway, version, &id);
        client.subscribe("t/#", 2);
        let mut publisher = gateway.client(version, "publisher");
        let mut sent = Vec::new();
        for number in 0..6 {
            let topic = format!("t/{number}");
            if number % 2 == 0 {
                publisher.publish_at_least_once(&topic, "x");
            } else {
                publish_exactly_once(&mut publisher, version, &topic, "x");
            }
            sent.push(client.next_publish());
        }
        let released = sent[3].packet_id.unwrap();
        client.acknowledge(AcknowledgementKind::Pubrec, released);
        assert_eq!(client.next_hex(), format!("6202{released:04x}"));
        let patience = Duration::from_millis(1200);
        assert!(client.next_within(patience, |_| ()).is_none(), "only a new connection does it");
        drop(client);
        let (mut client, _) = resume(&gateway, version, &id);
        for (number, before) in sent.iter().enumerate() {
            if number == 3 {
                assert_eq!(client.next_hex(), format!("6202{released:04x}"));
            } else {
                assert_eq!(client.next_publish(), Incoming { dup: true, ..before.clone() });
            }
        }
        client.expect_silence();
        assert_eq!(gateway.count("messages_dropped_queue"), 0);
    }
}

#[test]
fn a_message_goes_to_every_session_that_matches_mqtt_4_5_0_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut connected: Vec<_> = ["t/1", "t/+", "t/#", "#", "+/1"]
            .into_iter()
            .map(|filter| {
                let mut client = gateway.client(version, filter);
                client.subscribe(filter, 1);
                client
            })
            .collect();
        let absent = ["absent-1", "absent-2"].map(|name| format!("{name}-{version:?}"));
        for name in &absent {
            let (mut client, _) = resume(&gateway, version, name);
            client.subscribe("t/1", 1);
            client.disconnect();
        }
        gateway.client(version, "publisher").publish_at_least_once("t/1", "for all");
        for name in &absent {
            connected.push(resume(&gateway, version, name).0);
        }
        for client in &mut connected {
            assert_eq!(client.next_publish().text(), "for all");
        }
        for name in &absent {
            gateway.client(version, name).disconnect();
        }
    }
}

/// Publishes numbered messages of one level on three topics, all in one piece, and checks that
/// each is answered in order.
fn publish_pipelined(publisher: &mut Client, version: ProtocolVersion, level: u8, count: u16) {
    let bytes: Vec<u8> = (1..=count)
        .flat_map(|number| {
            let topic = format!("order/{}", number % 3);
            let id = (level > 0).then_some(number);
            let wire = Wire::publish(version, 0x30 | level << 1, topic, id);
            wire.bytes(number.to_be_bytes()).packet()
        })
        .collect();
    publisher.send(&bytes);
    if level > 0 {
        let first = if level == 1 { "40" } else { "50" };
        for number in 1..=count {
            let said = publisher.next_hex();
            assert!(said.starts_with(first) && said[4..8] == format!("{number:04x}"), "{said}");
        }
    }
    if level == 2 {
        let release: Vec<u8> =
            (1..=count).flat_map(|id| [&[0x62, 2], &id.to_be_bytes()[..]].concat()).collect();
        publisher.send(&release);
        for number in 1..=count {
            assert_eq!(publisher.next_hex(), format!("7002{number:04x}"));
        }
    }
    publisher.ping();
}

/// Receives numbered messages in order and acknowledges them; where they have QoS 2, PUBREL has to
/// come in the order of PUBREC.
fn receive_in_order(client: &mut Client, level: u8, count: u16) {
    let mut ids = Vec::new();
    for number in 1..=count {
        let message = client.next_publish();
        assert_eq!((message.payload.as_slice(), message.qos), (&number.to_be_bytes()[..], level));
        ids.extend(message.packet_id);
    }
    let all = |first: u8| -> Vec<u8> {
        ids.iter().flat_map(|id| [&[first, 2], &id.to_be_bytes()[..]].concat()).collect()
    };
    match level {
        0 => {}
        1 => client.send(&all(0x40)),
        _ => {
            client.send(&all(0x50));
            for id in &ids {
                assert_eq!(client.next_hex(), format!("6202{id:04x}"));
            }
            client.send(&all(0x70));
        }
    }
    client.ping();
}

// Of 3.1.1: MQTT-4.6.0-5 and -6. Of 5.0: MQTT-4.6.0-5 and -6.
#[test]
fn messages_of_one_client_and_their_answers_keep_their_order_mqtt_4_6_0_5_and_6() {
    const COUNT: u16 = 900;
    let gateway = TestGateway::open().start();
    for version in BOTH {
        for level in 0..=2 {
            let mut live = gateway.client(version, "live");
            live.subscribe("order/#", level);
            let absent = format!("absent-{version:?}-{level}");
            if level > 0 {
                let (mut client, _) = resume(&gateway, version, &absent);
                client.subscribe("order/#", level);
                client.disconnect();
            }
            let mut publisher = gateway.client(version, "publisher");
            let receiving = std::thread::spawn(move || receive_in_order(&mut live, level, COUNT));
            publish_pipelined(&mut publisher, version, level, COUNT);
            receiving.join().unwrap();
            if level > 0 {
                // Half of them on one connection, and all that was not acknowledged on the next.
                let (mut client, _) = resume(&gateway, version, &absent);
                for number in 1..=COUNT / 2 {
                    assert_eq!(client.next_publish().payload, number.to_be_bytes());
                }
                drop(client);
                let (mut client, _) = resume(&gateway, version, &absent);
                receive_in_order(&mut client, level, COUNT);
                drop(client);
                gateway.client(version, &absent).disconnect();
            }
        }
    }
}

// MQTT-4.13.1-1, MQTT-4.13.2-1.
#[test]
fn packets_that_only_a_server_sends_end_the_connection_mqtt_4_8_0_1_mqtt_4_13_1_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let properties = if version == V5 { "00" } else { "" };
        for packet in [
            if version == V5 { "2003000000".to_owned() } else { "20020000".to_owned() },
            hex::encode(Wire::request(version, 0x90, 1).bytes([0]).packet()),
            hex::encode(Wire::request(version, 0xb0, 1).bytes(properties).packet()),
            "d000".to_owned(),
            "0000".to_owned(),
            "f000".to_owned(),
        ] {
            let mut client = gateway.client(version, "client");
            client.send_hex(&packet);
            expect_end(&mut client, version, &[0x81, 0x82], &packet);
        }
    }
}

/// The authentication method `sum`, and CONNECT with it.
const CONNECT_SUM: &str = "1018 0004 4d515454 05 02 0000 06 15 0003 73756d 0005 6175746830";

#[test]
fn an_authentication_method_that_is_not_there_is_refused_mqtt_4_12_0_1() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.send_hex(CONNECT_SUM);
    let said = client.expect_close();
    let is_refusal =
        ["008c", "0087"].iter().any(|code| said.len() > 6 && said[4..].starts_with(code));
    assert!(said.is_empty() || said.starts_with("20") && is_refusal, "{said}");
}

// MQTT-4.12.0-2: the challenge has the code 0x18.
#[test]
fn auth_and_connack_have_the_method_of_connect_mqtt_4_12_0_5() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_hex(CONNECT_SUM);
    assert_eq!(client.next_hex(), "f00e180c15000373756d160003312b31");
    client.send_hex("f00c 18 0a 15 0003 73756d 16 0001 32");
    let method = client.next(|packet| match packet {
        Packet::Connack(connack) => {
            assert!(!connack.reason_code.is_error());
            connack.properties.iter().find_map(|property| match property {
                Property::AuthenticationMethod(method) => Some(method.to_owned()),
                _ => None,
            })
        }
        other => panic!("not CONNACK: {other:?}"),
    });
    assert_eq!(method.as_deref(), Some("sum"));
}

#[test]
fn an_answer_to_a_challenge_has_its_code_and_method_mqtt_4_12_0_3() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    for wrong in [
        "f00c 00 0a 15 0003 73756d 16 0001 32",
        "f00c 19 0a 15 0003 73756d 16 0001 32",
        "f00c 18 0a 15 0003 78797a 16 0001 32",
        "f006 18 04 16 0001 32",
        "f000",
    ] {
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_hex(CONNECT_SUM);
        assert!(client.next_hex().starts_with("f0"));
        client.send_hex(wrong);
        let said = client.expect_close();
        let is_refusal =
            said.len() > 8 && said.starts_with("20") && said[4..6] == *"00" && said[6..8] >= *"80";
        assert!(said.is_empty() || is_refusal, "{wrong}: {said}");
    }
}

// MQTT-4.12.0-7.
#[test]
fn without_method_there_is_no_auth_mqtt_4_12_0_6_and_7() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    for auth in
        ["f000", "f00218 00", "f00c 18 0a 15 0003 73756d 16 0001 32", "f008 19 06 15 0003 73756d"]
    {
        let mut client = gateway.dial();
        client.speak(V5);
        client.send(&Wire::connect(V5, 0x82).string("id").string("device-1").packet());
        client.next(|packet| match packet {
            Packet::Connack(connack) => {
                assert!(!connack.reason_code.is_error());
                let has_method = connack
                    .properties
                    .iter()
                    .any(|property| matches!(property, Property::AuthenticationMethod(_)));
                assert!(!has_method);
            }
            other => panic!("not CONNACK: {other:?}"),
        });
        client.send_hex(auth);
        expect_end(&mut client, V5, &[0x81, 0x82], auth);
    }
}
