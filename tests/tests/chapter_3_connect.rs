//! Chapters 3.1 and 3.2 of the standard: CONNECT, sessions, CONNACK.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_mqtt::{
    AcknowledgementKind, Connect, Packet, PropertiesBuf, Property, ProtocolVersion,
};
use portreeve_tests::client::connect;
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::wire::{
    BOTH, Wire, client_with, expect_end, expect_not_let_in, lose, publish_exactly_once, resume,
    resume_with, subscribe,
};
use portreeve_tests::{Client, TestGateway, V5, V311};

/// A gateway whose verifier does what the password says.
fn scripted() -> RunningGateway {
    TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start()
}

#[test]
fn another_protocol_name_is_not_served_mqtt_3_1_2_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let level = if version == V5 { 5 } else { 4 };
        for name in ["mqtt", "MQTTX", "MQIsdp", "MQT", ""] {
            let head = Wire::new(version, 0x10).string(name).bytes([level, 2, 0, 0]);
            let connect = head.no_properties().string("id").packet();
            expect_not_let_in(&gateway, &connect, version);
        }
    }
}

// Of 3.1.1: MQTT-3.1.2-3, -9, -11, -13, -14, -15, -18 to -22, MQTT-3.1.3-3, MQTT-3.1.4-1,
// MQTT-3.2.2-6. Of 5.0: MQTT-3.1.2-3, -9, -11, -12, -13, -16 to -19, MQTT-3.1.3-3, MQTT-3.1.4-1.
#[test]
fn a_payload_that_its_flags_do_not_announce_keeps_the_client_out_mqtt_3_1_2_9_to_22() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    for version in BOTH {
        let begin = |flags| Wire::connect(version, flags).string("id");
        let will = |flags| begin(flags).no_properties().string("will").string("x");
        let mut refused = vec![
            ("no client identifier", Wire::connect(version, 2)),
            ("the reserved flag", begin(3)),
            ("no will", begin(6)),
            ("no will message", begin(6).no_properties().string("will")),
            ("will QoS 1 without will", begin(0x0a)),
            ("will QoS 2 without will", begin(0x12)),
            ("will QoS 3 without will", begin(0x1a)),
            ("will QoS 3", will(0x1e)),
            ("will retain without will", begin(0x22)),
            ("will fields with will QoS and without will", will(0x0a)),
            ("will fields without will", will(2)),
            ("a user name without its flag", begin(2).string("user")),
            ("no user name", begin(0x82)),
            ("a password without its flag", begin(0x82).string("user").string("password")),
            ("no password", begin(0xc2).string("user")),
            ("the password flag alone, without password", begin(0x42)),
        ];
        if version == V311 {
            refused.push(("a password without user name", begin(0x42).string("password")));
        }
        for (what, wire) in refused {
            println!("{version:?}: {what}");
            expect_not_let_in(&gateway, &wire.packet(), version);
        }
        let accepted = if version == V5 { begin(0x42) } else { begin(0xc2).string("user") };
        let mut client = gateway.dial();
        client.send(&accepted.string("password").packet());
        let connack = client.next_hex();
        assert!(connack.starts_with("20") && connack[4..].starts_with("0000"), "{connack}");
    }
    gateway.client(V311, "last").publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last", "nobody who was let in had a will");
}

#[test]
fn the_fields_of_connect_have_their_order_mqtt_3_1_3_1() {
    let gateway = scripted();
    let mut watcher = gateway.dial();
    watcher.connect_with(&Connect { user_name: Some("watcher"), ..connect(V5, "watcher") });
    watcher.subscribe("#", 2);
    for version in BOTH {
        // The verifier reads the password, and `%c`, `%d` are client identifier and user name.
        let connect = Wire::connect(version, 0xce)
            .string("the-id")
            .no_properties()
            .string("will/the-user/the-id")
            .string("the will")
            .string("the-user")
            .string("publish will/%d/%c\nsubscribe allowed");
        let mut client = gateway.dial();
        client.speak(version);
        client.send(&connect.packet());
        assert_eq!(client.next_hex()[4..8], *"0000");
        assert_eq!(client.subscribe("allowed", 0), 0);
        assert!(client.subscribe("another", 0) >= 0x80);
        drop(client);
        let message = watcher.next_publish();
        assert_eq!(
            (message.topic.as_str(), message.text().as_str(), message.qos),
            ("will/the-user/the-id", "the will", 1)
        );
    }
}

#[test]
fn every_identifier_of_23_letters_and_digits_is_allowed_mqtt_3_1_3_5() {
    let gateway = TestGateway::open().start();
    let characters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in BOTH {
        for id in characters.as_bytes().chunks(23).chain(characters.as_bytes().chunks(1)) {
            let mut client = gateway.dial();
            client.speak(version);
            client.send(&Wire::connect(version, 2).string(id).packet());
            assert_eq!(client.next_hex()[4..8], *"0000", "{id:?}");
        }
    }
}

/// Connects with an empty client identifier; the one that CONNACK assigns, if it does.
fn anonymous(gateway: &RunningGateway, version: ProtocolVersion, clean: bool) -> (Client, String) {
    let expiry: PropertiesBuf = [Property::SessionExpiryInterval(60)].into_iter().collect();
    let mut client = gateway.dial();
    client.speak(version);
    let properties = if version == V5 { expiry.as_properties() } else { Default::default() };
    client.send_packet(&Packet::Connect(Connect {
        clean_start: clean,
        properties,
        ..connect(version, "")
    }));
    let assigned = client.next(|packet| match packet {
        Packet::Connack(connack) => {
            assert!(!connack.reason_code.is_error() && !connack.session_present);
            connack
                .properties
                .iter()
                .find_map(|property| match property {
                    Property::AssignedClientIdentifier(id) => Some(id.to_owned()),
                    _ => None,
                })
                .unwrap_or_default()
        }
        other => panic!("not CONNACK: {other:?}"),
    });
    (client, assigned)
}

#[test]
fn clients_without_identifier_do_not_meet_mqtt_3_1_3_6_mqtt_3_2_2_16() {
    let gateway = TestGateway::open().start();
    for (version, clean) in [(V311, true), (V5, true), (V5, false)] {
        let mut clients: Vec<_> = (0..20).map(|_| anonymous(&gateway, version, clean)).collect();
        for (client, id) in &mut clients {
            assert_eq!(client.subscribe(if id.is_empty() { "x" } else { id }, 0), 0);
            client.ping();
        }
        if version == V5 {
            clients.sort_by(|a, b| a.1.cmp(&b.1));
            clients.dedup_by(|a, b| a.1 == b.1);
            assert!(clients.len() == 20 && !clients[0].1.is_empty());
        }
    }
}

#[test]
fn an_assigned_identifier_names_the_session_mqtt_3_1_3_7() {
    let gateway = TestGateway::open().start();
    let (mut client, assigned) = anonymous(&gateway, V5, false);
    client.subscribe("t", 1);
    client.disconnect();
    gateway.client(V5, "publisher").publish_at_least_once("t", "kept");
    let (mut client, was_there) = resume(&gateway, V5, &assigned);
    assert!(was_there);
    assert_eq!(client.next_publish().text(), "kept");
}

#[test]
fn an_identifier_that_is_refused_is_told_so_mqtt_3_1_3_9_mqtt_3_1_3_8() {
    let gateway = scripted();
    let as_device = |version, name| Connect { user_name: Some(name), ..connect(version, "shared") };
    let mut owner = gateway.dial();
    owner.connect_with(&as_device(V5, "device-1"));
    for (version, code) in [(V311, 2), (V5, 0x85)] {
        let mut thief = gateway.dial();
        assert_eq!(thief.connect_code(&as_device(version, "device-2")), code);
        assert_eq!(thief.expect_close(), "");
    }
    owner.ping();
}

#[test]
fn a_session_belongs_to_exactly_its_identifier_mqtt_3_1_3_2() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut publisher = gateway.client(version, "publisher");
        let ids = ["case", "CASE", "case ", "cas\u{e9}", "case/1"];
        for id in ids {
            let (mut client, was_there) = resume(&gateway, version, id);
            assert!(!was_there, "{id}");
            client.subscribe(&format!("to/{id}"), 1);
            client.disconnect();
            publisher.publish_at_least_once(&format!("to/{id}"), id);
        }
        for id in ids {
            let (mut client, was_there) = resume(&gateway, version, id);
            assert!(was_there, "{id}");
            let message = client.next_publish();
            assert_eq!(message.text(), id);
            client.acknowledge(AcknowledgementKind::Puback, message.packet_id.unwrap());
            client.ping();
            client.disconnect();
            // The session is not there for the other version.
            gateway.client(version, id).disconnect();
        }
    }
}

// Of both: MQTT-3.2.0-1, MQTT-3.2.2-2 or -3, MQTT-4.1.0-1, MQTT-4.5.0-1. Of 5.0: MQTT-4.3.2-2,
// MQTT-4.3.3-2.
#[test]
fn messages_for_an_absent_session_come_after_connack_mqtt_3_1_2_5_mqtt_3_1_2_4() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let id = format!("{version:?}");
        let (mut client, was_there) = resume(&gateway, version, &id);
        assert!(!was_there);
        client.subscribe("one", 1);
        client.subscribe("two", 2);
        lose(&gateway, client, 0);
        let mut publisher = gateway.client(version, "publisher");
        for number in 0..20 {
            let (one, two) = (format!("one {number}"), format!("two {number}"));
            assert_eq!(publisher.publish_at_least_once("one", one), 0);
            publish_exactly_once(&mut publisher, version, "two", &two);
        }
        publisher.disconnect();
        // CONNACK says that the session was there, and comes before what waited, although the
        // client asks for more in the same segment.
        let mut client = gateway.dial();
        client.speak(version);
        let begin = Wire::connect(version, 0);
        let connect = match version {
            V5 => Wire::new(V5, 0x10)
                .string("MQTT")
                .bytes([5, 0, 0, 0])
                .bytes([5, 0x11, 0, 0, 14, 16]),
            _ => begin,
        };
        let connect = connect.string(&id).packet();
        client.send(&[connect, vec![0xc0, 0], subscribe(version, 1, &[("three", 0)])].concat());
        let connack = client.next_hex();
        assert!(connack.starts_with("20") && connack[4..].starts_with("0100"), "{connack}");
        let mut expected = (0..20).flat_map(|number| {
            [(format!("one {number}"), 1, false), (format!("two {number}"), 2, false)]
        });
        let mut came = 0;
        while came < 40 {
            client.next(|packet| {
                if let Packet::Publish(publish) = packet {
                    let text = String::from_utf8_lossy(publish.payload).into_owned();
                    let what = (text, publish.qos as u8, publish.dup);
                    assert_eq!(Some(what), expected.next());
                    came += 1;
                }
            });
        }
        client.disconnect();
    }
}

// Of 3.1.1: MQTT-3.2.2-1 and -3. Of 5.0: MQTT-3.2.2-2.
#[test]
fn a_clean_start_finds_nothing_and_ends_what_was_mqtt_3_1_2_6_mqtt_3_1_2_4() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let id = format!("{version:?}");
        let (mut client, _) = resume(&gateway, version, &id);
        client.subscribe("t", 2);
        client.disconnect();
        let mut publisher = gateway.client(version, "publisher");
        publisher.publish_at_least_once("t", "queued");
        let mut client = gateway.dial();
        assert!(!client.connect_with(&connect(version, &id)), "session present");
        publisher.publish_at_least_once("t", "new");
        client.expect_silence();
        client.disconnect();
        let (mut client, was_there) = resume(&gateway, version, &id);
        assert!(!was_there, "the clean session is not reused");
        publisher.publish_at_least_once("t", "newer");
        client.expect_silence();
    }
}

// MQTT-3.1.4-2 of 3.1.1, MQTT-3.1.4-3 of 5.0.
#[test]
fn a_takeover_obeys_clean_start_mqtt_3_1_4_3_mqtt_3_1_4_4() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let id = format!("{version:?}");
        let (mut first, _) = resume(&gateway, version, &id);
        first.subscribe("t", 1);
        let (mut second, was_there) = resume(&gateway, version, &id);
        assert!(was_there);
        expect_end(&mut first, version, &[0x8e], "takeover");
        let mut publisher = gateway.client(version, "publisher");
        publisher.publish_at_least_once("t", "resumed");
        assert_eq!(second.next_publish().text(), "resumed");
        let mut third = gateway.dial();
        assert!(!third.connect_with(&connect(version, &id)));
        expect_end(&mut second, version, &[0x8e], "takeover");
        publisher.publish_at_least_once("t", "not for the third");
        third.expect_silence();
    }
}

#[test]
fn retained_messages_are_no_part_of_the_session_mqtt_3_1_2_7() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        for leaves in [true, false] {
            let topic = format!("kept/{version:?}/{leaves}");
            let mut publisher = gateway.client(version, "publisher");
            publisher.publish_retained(&topic, "kept");
            publisher.ping();
            if leaves {
                publisher.disconnect();
            } else {
                lose(&gateway, publisher, 0);
            }
            gateway.wait_until("the session ends", |gateway| gateway.server().session_count() == 0);
            let mut late = gateway.client(version, "late");
            late.subscribe(&topic, 0);
            let message = late.next_publish();
            assert_eq!((message.text().as_str(), message.retain), ("kept", true));
            late.disconnect();
        }
    }
}

// MQTT-3.2.2-5 of 3.1.1, MQTT-3.2.2-7 of 5.0: the connection is closed, too.
#[test]
fn a_refusal_says_that_no_session_is_present_mqtt_3_2_2_4_mqtt_3_2_2_6() {
    let gateway = scripted();
    for (version, code) in [(V311, "05"), (V5, "86")] {
        let id = format!("{version:?}");
        let expiry: PropertiesBuf = match version {
            V5 => [Property::SessionExpiryInterval(60)].into_iter().collect(),
            _ => PropertiesBuf::new(),
        };
        let login = |password| Connect {
            clean_start: false,
            properties: expiry.as_properties(),
            user_name: Some("device-1"),
            password: Some(password),
            ..connect(version, &id)
        };
        let mut client = gateway.dial();
        assert!(!client.connect_with(&login(b"")));
        client.disconnect();
        let mut refused = gateway.dial();
        refused.speak(version);
        refused.send_packet(&Packet::Connect(login(b"refuse bad-user-name-or-password")));
        let said = refused.expect_close();
        assert!(said.starts_with("20") && said[4..].starts_with(&format!("00{code}")), "{said}");
        let mut client = gateway.dial();
        assert!(client.connect_with(&login(b"")), "the session was there all the time");
    }
}

#[test]
fn nothing_behind_a_refused_connect_is_processed_mqtt_3_1_4_5_mqtt_3_1_4_6() {
    let gateway = scripted();
    let mut watcher = gateway.dial();
    watcher.connect_with(&Connect { user_name: Some("watcher"), ..connect(V5, "watcher") });
    watcher.subscribe("#", 0);
    for (version, code) in [(V311, "05"), (V5, "8a")] {
        let reason = if version == V5 { "refuse banned" } else { "refuse not-authorized" };
        let connect = Wire::connect(version, 0xc2).string("c").string("device-1").string(reason);
        let behind = [
            Wire::publish(version, 0x31, "kept", None).bytes("x").packet(),
            Wire::publish(version, 0x32, "live", Some(1)).bytes("x").packet(),
            subscribe(version, 2, &[("#", 0)]),
            vec![0xc0, 0],
        ];
        let mut client = gateway.dial();
        client.speak(version);
        client.send(&[connect.packet(), behind.concat()].concat());
        let said = client.expect_close();
        let length = usize::from(hex::decode(&said).unwrap()[1]) + 2;
        assert_eq!(said.len(), 2 * length, "CONNACK and nothing else: {said}");
        assert!(said.starts_with("20") && said[4..].starts_with(&format!("00{code}")), "{said}");
        // The same for an empty identifier without clean session.
        if version == V311 {
            let mut client = gateway.dial();
            client.send(&[Wire::connect(V311, 0).string("").packet(), behind.concat()].concat());
            assert_eq!(client.expect_close(), "20020002");
        }
    }
    watcher.subscribe("kept", 0);
    watcher.publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last", "neither published nor retained");
}

#[test]
fn connack_has_no_other_flag_than_session_present_mqtt_3_2_2_1() {
    let gateway = TestGateway::open().start();
    for (flags, expected) in [(2, 0), (0, 1), (2, 0)] {
        let connect = Wire::new(V5, 0x10).string("MQTT").bytes([5, flags, 0, 0]);
        let mut client = gateway.dial();
        client.send(&connect.bytes([5, 0x11, 0, 0, 0, 60]).string("id").packet());
        let connack = client.next_bytes().unwrap();
        assert_eq!((connack[0], connack[2], connack[3]), (0x20, expected, 0));
        client.disconnect();
    }
}

#[test]
fn disconnect_changes_how_long_the_session_stays_mqtt_3_1_2_23_mqtt_4_1_0_2() {
    let gateway = TestGateway::open().start();
    // It ends at once.
    let (mut client, _) = resume(&gateway, V5, "client");
    client.send_hex("e007 00 05 1100000000");
    assert_eq!(client.expect_close(), "");
    assert!(!resume(&gateway, V5, "client").1);
    // It ends after one second.
    let (mut client, was_there) = resume(&gateway, V5, "other");
    assert!(!was_there);
    client.send_hex("e007 00 05 1100000001");
    assert_eq!(client.expect_close(), "");
    let (mut client, was_there) = resume(&gateway, V5, "other");
    assert!(was_there);
    client.send_hex("e007 00 05 1100000001");
    assert_eq!(client.expect_close(), "");
    gateway.wait_until("the session ends", |gateway| gateway.server().session_count() == 1);
    assert!(!resume(&gateway, V5, "other").1);
    // A session that was to end with its connection cannot be made to stay (§3.14.2.2.2).
    let mut client = gateway.client(V5, "third");
    client.send_hex("e007 00 05 1100000001");
    assert_eq!(client.expect_close(), "e00182");
}

#[test]
fn a_message_that_is_too_large_counts_as_sent_mqtt_3_1_2_25() {
    let gateway = TestGateway::open().start();
    let properties = [
        Property::MaximumPacketSize(40),
        Property::ReceiveMaximum(1),
        Property::SessionExpiryInterval(60),
    ];
    let (mut client, _) = resume_with(&gateway, V5, "small", &properties);
    client.subscribe("t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    let large = "x".repeat(100);
    publisher.publish_at_least_once("t", &large);
    publish_exactly_once(&mut publisher, V5, "t", &large);
    publisher.publish_at_least_once("t", "fits");
    let message = client.next_publish();
    assert_eq!(message.text(), "fits", "the quota of one was not used up");
    client.acknowledge(AcknowledgementKind::Puback, message.packet_id.unwrap());
    client.ping();
    client.disconnect();
    // What comes while it is away is measured when it is back; what was dropped stays dropped.
    publisher.publish_at_least_once("t", &large);
    publisher.publish_at_least_once("t", "fits, too");
    let (mut client, was_there) = resume_with(&gateway, V5, "small", &properties);
    assert!(was_there);
    assert_eq!(client.next_publish().text(), "fits, too");
    client.expect_silence();
}

#[test]
fn nothing_but_auth_is_processed_during_authentication_mqtt_3_1_2_30() {
    let gateway = scripted();
    let mut watcher = gateway.dial();
    watcher.connect_with(&Connect { user_name: Some("watcher"), ..connect(V5, "watcher") });
    watcher.subscribe("#", 0);
    for packet in [
        vec![0xc0, 0],
        Wire::publish(V5, 0x30, "early", None).packet(),
        subscribe(V5, 1, &[("#", 0)]),
        Wire::connect(V5, 2).string("id").packet(),
    ] {
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_hex("1018 0004 4d515454 05 02 0000 06 15 0003 73756d 0005 6175746830");
        assert!(client.next_hex().starts_with("f00e18"));
        client.send(&packet);
        // No DISCONNECT, since there was no CONNACK before (MQTT-3.14.0-1).
        let said = client.expect_close();
        let is_refusal = said.starts_with("20") && said[4..6] == *"00" && said[6..8] >= *"80";
        assert!(said.is_empty() || is_refusal, "{said}");
    }
    watcher.publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last");
}

#[test]
fn a_client_is_told_no_more_than_its_largest_packet_mqtt_3_2_2_19() {
    let gateway = scripted();
    for maximum in [5, 10, 30] {
        let properties: PropertiesBuf =
            [Property::MaximumPacketSize(maximum)].into_iter().collect();
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_packet(&Packet::Connect(Connect {
            properties: properties.as_properties(),
            user_name: Some("device-1"),
            password: Some(b"refuse banned"),
            ..connect(V5, "c")
        }));
        let said = client.expect_close();
        assert!(said.len() / 2 <= usize::try_from(maximum).unwrap(), "{said}");
        assert!(said.starts_with("20") && said[4..].starts_with("008a"), "{said}");
    }
}

#[test]
fn an_alias_that_the_server_does_not_offer_ends_the_connection_mqtt_3_2_2_17_and_18() {
    for offered in [0_u16, 3] {
        let gateway =
            TestGateway::open().with_limit("topic_alias_maximum", &offered.to_string()).start();
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_packet(&Packet::Connect(connect(V5, "client")));
        let told = client.next(|packet| match packet {
            Packet::Connack(connack) => {
                connack.properties.iter().find_map(|property| match property {
                    Property::TopicAliasMaximum(maximum) => Some(maximum),
                    _ => None,
                })
            }
            other => panic!("not CONNACK: {other:?}"),
        });
        assert_eq!(told.unwrap_or(0), offered);
        for alias in [offered + 1, 0xffff] {
            let mut client = client_with(&gateway, "client", &[]);
            let publish = Wire::new(V5, 0x30).string("t").bytes([3, 0x23]);
            client.send(&publish.bytes(alias.to_be_bytes()).packet());
            expect_end(&mut client, V5, &[0x94], "alias");
        }
    }
}

#[test]
fn a_packet_of_the_announced_size_is_taken_and_no_larger_one_mqtt_3_2_2_15() {
    let gateway = TestGateway::open().with_limit("packet_bytes_max", "300").start();
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_packet(&Packet::Connect(connect(V5, "client")));
    assert!(client.next(|packet| format!("{packet:?}").contains("MaximumPacketSize(300)")));
    client.subscribe("t", 0);
    let publish = |size: usize| {
        let head = Wire::publish(V5, 0x30, "t", None).packet().len() + 1;
        let publish = Wire::publish(V5, 0x30, "t", None).bytes(vec![b'x'; size - head]).packet();
        assert_eq!(publish.len(), size);
        publish
    };
    client.send(&publish(300));
    assert_eq!(client.next_bytes().unwrap(), publish(300));
    client.send(&publish(301));
    expect_end(&mut client, V5, &[0x95], "one byte too many");
    // The header alone is enough.
    let mut client = gateway.client(V5, "client");
    client.send_hex("30ffffff7f");
    expect_end(&mut client, V5, &[0x95], "the largest packet");
}
