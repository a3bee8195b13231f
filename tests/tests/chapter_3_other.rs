//! Chapters 3.12 to 3.15 of the standard: PINGREQ, DISCONNECT, AUTH.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_mqtt::{Connect, PropertiesBuf, Property, ProtocolVersion, Will};
use portreeve_tests::client::{connect, will};
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::wire::{BOTH, Wire, expect_end, resume, subscribe};
use portreeve_tests::{Client, TestGateway, V5, V311};

/// CONNECT with the authentication method `sum`, which the verifier `scripted` knows.
const CONNECT_SUM: &str = "1018 0004 4d515454 05 02 0000 06 15 0003 73756d 0005 6175746830";

/// A client whose will goes to the topic `will`.
fn with_will(gateway: &RunningGateway, version: ProtocolVersion) -> Client {
    let mut client = gateway.dial();
    client.connect_with(&Connect {
        will: Some(will("will", "gone")),
        ..connect(version, "with-will")
    });
    client
}

fn watcher(gateway: &RunningGateway) -> Client {
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    watcher
}

/// Asserts that the watcher was sent nothing before this.
fn expect_nothing(watcher: &mut Client) {
    watcher.publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last");
}

#[test]
fn pingreq_gets_pingresp_mqtt_3_12_4_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        client.send_hex("c000 c000 c000");
        for _ in 0..3 {
            assert_eq!(client.next_hex(), "d000");
        }
        client.expect_silence();
    }
}

#[test]
fn a_disconnect_with_reserved_bits_is_none_mqtt_3_14_1_1() {
    let gateway = TestGateway::open().start();
    let mut watcher = watcher(&gateway);
    for version in BOTH {
        for flags in 1..16 {
            let mut client = with_will(&gateway, version);
            client.send(&[0xe0 | flags, 0]);
            expect_end(&mut client, version, &[0x81], &format!("flags {flags}"));
            assert_eq!(watcher.next_publish().topic, "will");
        }
    }
}

#[test]
fn a_disconnect_takes_the_will_away_mqtt_3_14_4_3() {
    let gateway = TestGateway::open().start();
    let mut watcher = watcher(&gateway);
    with_will(&gateway, V311).disconnect();
    for normal in ["e000", "e00100", "e0020000"] {
        let mut client = with_will(&gateway, V5);
        client.send_hex(normal);
        assert_eq!(client.expect_close(), "");
    }
    // The same where the will has a delay and the session stays.
    let expiry: PropertiesBuf = [Property::SessionExpiryInterval(60)].into_iter().collect();
    let delay: PropertiesBuf = [Property::WillDelayInterval(60)].into_iter().collect();
    let mut client = gateway.dial();
    client.connect_with(&Connect {
        properties: expiry.as_properties(),
        will: Some(Will { properties: delay.as_properties(), ..will("will", "gone") }),
        ..connect(V5, "delayed")
    });
    client.disconnect();
    // Ending the session would publish a will that is still there.
    gateway.client(V5, "delayed").disconnect();
    expect_nothing(&mut watcher);
}

#[test]
fn what_follows_disconnect_is_not_processed_mqtt_3_14_4_2() {
    let gateway = TestGateway::open().start();
    let mut watcher = watcher(&gateway);
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        let publish = Wire::publish(version, 0x31, "late", None).bytes("x").packet();
        client.send(&[vec![0xe0, 0], publish, vec![0xc0, 0]].concat());
        assert_eq!(client.expect_close(), "");
    }
    watcher.subscribe("late", 0);
    expect_nothing(&mut watcher);
}

// MQTT-3.14.4-2, MQTT-4.13.2-1: the connection is closed behind it.
#[test]
fn disconnect_is_the_last_word_mqtt_3_14_4_1() {
    let gateway = TestGateway::open().start();
    for round in 0..20 {
        let mut client = gateway.client(V5, "client");
        client.subscribe("t", 1);
        let mut publisher = gateway.client(V5, "publisher");
        let flood: Vec<u8> = (0..200)
            .flat_map(|_| Wire::publish(V5, 0x30, "t", None).bytes([b'x'; 50]).packet())
            .collect();
        publisher.send(&flood);
        // Replies and deliveries are due when the malformed packet comes, others come after it.
        let replies: Vec<u8> = (1..=50)
            .flat_map(|id| Wire::publish(V5, 0x32, "t", Some(id)).packet())
            .chain([0xc0, 0, 0xc1, 0, 0xc0, 0])
            .collect();
        client.send(&replies);
        publisher.send(&flood);
        let (mut last, mut disconnects) = (Vec::new(), 0);
        while let Some(packet) = client.next_bytes() {
            disconnects += usize::from(packet[0] == 0xe0);
            last = packet;
        }
        assert_eq!((hex::encode(last).as_str(), disconnects), ("e00181", 1), "round {round}");
    }
}

// MQTT-3.14.2-2: what the gateway says has no session expiry interval, for it has no property.
#[test]
fn disconnect_has_a_code_of_its_own_mqtt_3_14_2_1_and_2() {
    let gateway = TestGateway::open().start();
    let mut watcher = watcher(&gateway);
    // Codes that a client may send; those of MQTT-3.14.4-3 but 0x00 leave the will.
    for code in [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let mut client = with_will(&gateway, V5);
        client.send(&[0xe0, 1, code]);
        assert_eq!(client.expect_close(), "", "{code:02x}");
        assert_eq!(watcher.next_publish().topic, "will");
    }
    for code in [0x01, 0x02, 0x10, 0x42, 0x84, 0x86, 0x91, 0x92, 0xa3, 0xff] {
        let mut client = with_will(&gateway, V5);
        client.send(&[0xe0, 1, code]);
        expect_end(&mut client, V5, &[0x81, 0x82], &format!("code {code:02x}"));
        assert_eq!(watcher.next_publish().topic, "will");
    }
}

#[test]
fn the_gateway_says_why_and_nothing_about_sessions_mqtt_3_14_2_2() {
    let gateway = TestGateway::open().with_limit("packet_bytes_max", "256").start();
    let (mut taken_over, _) = resume(&gateway, V5, "taken-over");
    let (_taker, _) = resume(&gateway, V5, "taken-over");
    assert_eq!(taken_over.expect_close(), "e0018e");
    for (bytes, said) in [
        ("c100", "e00181"),
        ("f000", "e00182"),
        ("30ff7f", "e00195"),
        ("3008 0001 74 03 230100 78", "e00194"),
    ] {
        let (mut client, _) = resume(&gateway, V5, "client");
        client.send_hex(bytes);
        assert_eq!(client.expect_close(), said, "{bytes}");
    }
    let (mut client, _) = resume(&gateway, V5, "client");
    assert!(gateway.shut_down());
    assert_eq!(client.expect_close(), "e0018b");
}

#[test]
fn there_is_no_disconnect_before_connack_mqtt_3_14_0_1() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let publish = hex::encode(Wire::publish(V5, 0x30, "t", None).packet());
    let request = hex::encode(subscribe(V5, 1, &[("t", 0)]));
    let connect = hex::encode(Wire::connect(V5, 3).string("c").packet());
    for first in
        ["c000", "c100", "e000", "e1ff", "f000", "0000", "ffffffffff", &publish, &request, &connect]
    {
        for is_authenticating in [false, true] {
            let mut client = gateway.dial();
            client.speak(V5);
            if is_authenticating {
                client.send_hex(CONNECT_SUM);
                assert!(client.next_hex().starts_with("f0"));
            }
            client.send_hex(first);
            let said = client.expect_close();
            assert!(said.is_empty() || said.starts_with("20"), "{first}: {said}");
        }
    }
    let waiting = gateway.dial();
    let mut authenticating = gateway.dial();
    authenticating.send_hex(CONNECT_SUM);
    assert!(authenticating.next_hex().starts_with("f0"));
    assert!(gateway.shut_down());
    for mut client in [waiting, authenticating] {
        let said = client.expect_close();
        assert!(said.is_empty() || said.starts_with("20"), "{said}");
    }
}

#[test]
fn the_servers_last_word_of_an_authentication_comes_with_its_success_4_12() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let answer = |code: u8| {
        let auth = Wire::new(V5, 0xf0).bytes([code, 0x0b, 0x15]).string("sum");
        auth.bytes([0x16]).string("2!").packet()
    };
    let proof = hex::encode(Wire::new(V5, 0).bytes([0x16]).string("proof").packet());
    let proof = proof.get(4..).unwrap_or_default();
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_hex(CONNECT_SUM);
    client.next_hex();
    client.send(&answer(0x18));
    let connack = client.next_hex();
    assert!(connack.starts_with("20") && connack.contains(proof), "{connack}");
    // The same for an AUTH on the open connection.
    client.send(&answer(0x19));
    let auth = client.next_hex();
    assert!(auth.starts_with("f0") && auth.contains(proof), "{auth}");
}

// MQTT-3.15.2-1.
#[test]
fn auth_has_no_flags_and_a_code_of_its_own_mqtt_3_15_1_1_mqtt_3_15_2_1() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let answer = |first, code| {
        Wire::new(V5, first)
            .bytes([code, 0x0a, 0x15])
            .string("sum")
            .bytes([0x16])
            .string("2")
            .packet()
    };
    let flags = (1..16).map(|flags| answer(0xf0 | flags, 0x18));
    let codes = [0x01, 0x04, 0x17, 0x1a, 0x80, 0xff].map(|code| answer(0xf0, code));
    for wrong in flags.chain(codes) {
        // During authentication.
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_hex(CONNECT_SUM);
        // The gateway's own code says that it goes on.
        assert!(client.next_hex().starts_with("f00e18"));
        client.send(&wrong);
        let said = client.expect_close();
        let is_refusal =
            ["0081", "0082"].iter().any(|code| said.len() > 6 && said[4..].starts_with(code));
        assert!(said.is_empty() || said.starts_with("20") && is_refusal, "{wrong:02x?}: {said}");
        // After it.
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_hex(CONNECT_SUM);
        client.next_hex();
        client.send(&answer(0xf0, 0x18));
        assert!(client.next_hex()[4..].starts_with("0000"));
        client.send(&wrong);
        expect_end(&mut client, V5, &[0x81, 0x82], &hex::encode(&wrong));
    }
}
