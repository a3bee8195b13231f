//! Chapters 3.8 to 3.11 of the standard: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_mqtt::{AcknowledgementKind, Connect, Packet, SubscriptionOptions};
use portreeve_tests::client::{connect, qos};
use portreeve_tests::wire::{
    BOTH, SUBSCRIBE, UNSUBSCRIBE, Wire, answer, expect_end, publish_exactly_once, resume,
    subscribe, unsubscribe,
};
use portreeve_tests::{TestGateway, V5, V311};

// MQTT-3.10.3-2.
#[test]
fn a_request_has_a_filter_mqtt_3_8_3_3_mqtt_3_8_3_2_mqtt_3_10_3_2() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        for first in [SUBSCRIBE, UNSUBSCRIBE] {
            let mut client = gateway.client(version, "client");
            client.send(&Wire::request(version, first, 1).packet());
            expect_end(&mut client, version, &[0x82], "no filter");
        }
        // A filter without its options.
        let mut client = gateway.client(version, "client");
        client.send(&Wire::request(version, SUBSCRIBE, 1).string("a").packet());
        expect_end(&mut client, version, &[0x81], "no options");
    }
}

#[test]
fn reserved_bits_of_the_options_are_malformed_mqtt_3_8_3_4_mqtt_3_8_3_5() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let is_defined = |options: u8| match version {
            V5 => options & 0xc3 < 3 && options >> 4 & 3 < 3,
            _ => options < 3,
        };
        let mut accepted = gateway.client(version, "accepted");
        for options in 0..=0xff_u8 {
            if is_defined(options) {
                accepted.send(&subscribe(version, 1, &[("a", options)]));
                assert_eq!(accepted.next_hex(), answer(version, 0x90, 1, &[options & 3]));
                continue;
            }
            let mut client = gateway.client(version, "client");
            client.send(&subscribe(version, 1, &[("a", options)]));
            let codes: &[u8] = if options & 0xc0 > 0 { &[0x81] } else { &[0x81, 0x82] };
            expect_end(&mut client, version, codes, &format!("options {options:02x}"));
        }
    }
}

#[test]
fn bytes_between_filters_are_malformed_mqtt_3_10_3_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        for wire in [
            Wire::request(version, UNSUBSCRIBE, 1).string("a").bytes([7]).string("b"),
            Wire::request(version, UNSUBSCRIBE, 1).string("a").bytes([0]),
            Wire::request(version, SUBSCRIBE, 1).string("a").bytes([0]).bytes([0]),
        ] {
            let mut client = gateway.client(version, "client");
            client.send(&wire.packet());
            expect_end(&mut client, version, &[0x81], &format!("{wire:?}"));
        }
    }
}

// Of both: MQTT-3.8.4-5, MQTT-3.9.3-2. Of 5.0: MQTT-3.8.4-6 and -7.
#[test]
fn suback_has_a_code_for_each_filter_in_their_order_mqtt_3_9_3_1() {
    let gateway = TestGateway::verified_by("plugin:scripted")
        .with_plugin("scripted", "")
        .with_limit("topic_levels_max", "3")
        .with_limit("subscriptions_max", "5")
        .start();
    for (version, forbidden, too_deep, too_many) in
        [(V311, 0x80, 0x80, 0x80), (V5, 0x87, 0x8f, 0x97)]
    {
        let mut client = gateway.dial();
        client.connect_with(&Connect {
            user_name: Some("device-1"),
            password: Some(b"subscribe ok/#"),
            ..connect(version, "client")
        });
        client.send(&subscribe(
            version,
            0x0102,
            &[
                ("ok/2", 2),
                ("forbidden", 0),
                ("ok/0", 0),
                ("ok/a/b/c", 1),
                ("ok/1", 1),
                ("forbidden/#", 1),
                ("ok/4", 0),
                ("ok/5", 2),
                ("ok/6", 1),
                ("ok/2", 1),
            ],
        ));
        let codes = [2, forbidden, 0, too_deep, 1, forbidden, 0, 2, too_many, 1];
        assert_eq!(client.next_hex(), answer(version, 0x90, 0x0102, &codes), "{version:?}");
    }
}

// MQTT-3.8.4-3 and, of 5.0, MQTT-3.8.4-4.
#[test]
fn an_identical_filter_replaces_the_subscription_mqtt_3_8_4_3() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let topic = format!("{version:?}");
        let mut publisher = gateway.client(version, "publisher");
        publisher.publish_retained(&topic, "kept");
        publisher.ping();
        let mut client = gateway.client(version, "client");
        for (level, id) in [(2, 21), (0, 22), (1, 23)] {
            let options = SubscriptionOptions::with_qos(qos(level));
            let id = (version == V5).then_some(id);
            assert_eq!(client.subscribe_with(&topic, options, id), level);
            let kept = client.next_publish();
            assert_eq!((kept.text().as_str(), kept.retain), ("kept", true), "it comes again");
            publish_exactly_once(&mut publisher, version, &topic, "x");
            let message = client.next_publish();
            assert_eq!((message.text().as_str(), message.qos), ("x", level));
            let expected: Vec<_> =
                id.map(|id| format!("SubscriptionIdentifier({id})")).into_iter().collect();
            assert_eq!(message.properties, expected);
            publisher.publish(&topic, "last");
            assert_eq!(client.next_publish().text(), "last", "one copy");
        }
    }
}

#[test]
fn no_message_is_lost_while_a_subscription_is_replaced_mqtt_3_8_4_3_mqtt_3_8_4_4() {
    const MESSAGES: u16 = 800;
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        client.subscribe("t", 1);
        let mut publisher = gateway.client(version, "publisher");
        let publishing = std::thread::spawn(move || {
            for number in 1..=MESSAGES {
                let publish = Wire::publish(version, 0x32, "t", Some(number));
                publisher.send(&publish.bytes(number.to_be_bytes()).packet());
                assert_eq!(publisher.next_hex(), format!("4002{number:04x}"));
            }
        });
        let (mut next, mut subacks) = (1, 0);
        while next <= MESSAGES {
            client.send(&subscribe(version, 1, &[("t", 1 + u8::from(next % 2 == 0))]));
            let mut is_answered = false;
            while !is_answered {
                let acknowledged = client.next(|packet| match packet {
                    Packet::Publish(publish) => {
                        assert_eq!(publish.payload, next.to_be_bytes());
                        next += 1;
                        publish.packet_id
                    }
                    Packet::Suback(_) => None,
                    other => panic!("neither PUBLISH nor SUBACK: {other:?}"),
                });
                match acknowledged {
                    Some(id) => client.acknowledge(AcknowledgementKind::Puback, id.get()),
                    None => is_answered = true,
                }
            }
            subacks += 1;
        }
        publishing.join().unwrap();
        assert!(subacks > 10, "only {subacks} times");
    }
}

#[test]
fn many_filters_act_as_many_subscriptions_mqtt_3_8_4_4_mqtt_3_8_4_5() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut publisher = gateway.client(version, "publisher");
        publisher.publish_retained("a", "kept");
        publisher.ping();
        let mut client = gateway.client(version, "client");
        client.send(&subscribe(version, 3, &[("a", 2), ("b/+", 1), ("a", 0), ("c/#", 2)]));
        assert_eq!(client.next_hex(), answer(version, 0x90, 3, &[2, 1, 0, 2]));
        // As two subscriptions, one after the other, `a` gets its retained message twice.
        assert_eq!([client.next_publish().text(), client.next_publish().text()], ["kept", "kept"]);
        for (topic, level) in [("a", 0), ("b/x", 1), ("c", 2)] {
            publish_exactly_once(&mut publisher, version, topic, "x");
            let message = client.next_publish();
            assert_eq!((message.topic.as_str(), message.qos), (topic, level));
        }
        client.ping();
    }
}

#[test]
fn a_client_without_local_messages_gets_those_of_others_mqtt_3_8_3_3() {
    let gateway = TestGateway::open().start();
    let (mut client, _) = resume(&gateway, V5, "client");
    client.send(&subscribe(V5, 1, &[("t", 0x05), ("other", 1)]));
    assert_eq!(client.next_hex(), answer(V5, 0x90, 1, &[1, 1]));
    let mut other = gateway.client(V5, "other");
    client.publish("t", "own");
    other.publish("t", "of another");
    assert_eq!(client.next_publish().text(), "of another");
    // A message of its own is not queued for it either.
    client.send(&Wire::publish(V5, 0x32, "t", Some(1)).bytes("own").packet());
    client.send_hex("e000");
    client.expect_close();
    other.publish_at_least_once("t", "of another, later");
    let (mut client, was_there) = resume(&gateway, V5, "client");
    assert!(was_there);
    assert_eq!(client.next_publish().text(), "of another, later");
    client.expect_silence();
}

#[test]
fn a_shared_subscription_has_local_messages_mqtt_3_8_3_4() {
    let gateway = TestGateway::open().start();
    for options in [0x04, 0x05, 0x06] {
        let mut client = gateway.client(V5, "client");
        client.send(&subscribe(V5, 1, &[("$share/g/a", options)]));
        assert_eq!(client.expect_close(), "e00182");
    }
    let mut client = gateway.client(V5, "client");
    client.send(&subscribe(V5, 1, &[("$share/g/a", 0)]));
    assert_eq!(client.next_hex(), answer(V5, 0x90, 1, &[0]));
    client.publish("a", "own");
    assert_eq!(client.next_publish().text(), "own");
}

// Of 3.1.1: MQTT-3.10.4-2, -4, -5. Of 5.0: MQTT-3.10.4-2, MQTT-3.11.3-1 and -2.
#[test]
fn unsubscribe_compares_character_by_character_mqtt_3_10_4_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        let share = if version == V5 { "$share/g/a/b" } else { "unused" };
        for filter in ["a/+", "a/b", share] {
            client.subscribe(filter, 1);
        }
        let mut publisher = gateway.client(version, "publisher");
        let mut came = |client: &mut portreeve_tests::Client, expected: usize| {
            publisher.publish("a/b", "x");
            publisher.publish("a/c", "last");
            publisher.ping();
            // What lies in the mailbox is written with the first answer, maybe behind it.
            let mut copies = 0;
            for _ in 0..2 {
                client.send_hex("c000");
                while client.next_bytes().unwrap()[0] != 0xd0 {
                    copies += 1;
                }
            }
            assert_eq!(copies, expected);
        };
        // One copy of `a/b` for the session, one for the share, and one of `a/c`.
        let shared = usize::from(version == V5);
        came(&mut client, 2 + shared);
        let no = 0x11;
        client.send(&unsubscribe(version, 1, &["a/#", "A/b", "a/", "a/b/", "$share/G/a/b", "+/b"]));
        assert_eq!(client.next_hex(), answer(version, 0xb0, 1, &[no; 6]));
        came(&mut client, 2 + shared);
        client.send(&unsubscribe(version, 2, &["a/+"]));
        assert_eq!(client.next_hex(), answer(version, 0xb0, 2, &[0]));
        came(&mut client, 1 + shared);
        client.send(&unsubscribe(version, 3, &["x", "a/b", "a/b"]));
        assert_eq!(client.next_hex(), answer(version, 0xb0, 3, &[no, 0, no]));
        came(&mut client, shared);
        if version == V5 {
            client.send(&unsubscribe(version, 4, &[share]));
            assert_eq!(client.next_hex(), answer(version, 0xb0, 4, &[0]));
            came(&mut client, 0);
        }
    }
}

#[test]
fn many_filters_end_as_many_subscriptions_mqtt_3_10_4_6() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        client.send(&subscribe(version, 1, &[("a", 0), ("b", 1), ("c/#", 2), ("d", 0)]));
        assert_eq!(client.next_hex(), answer(version, 0x90, 1, &[0, 1, 2, 0]));
        client.send(&unsubscribe(version, 2, &["a", "unknown", "b", "c/#"]));
        assert_eq!(client.next_hex(), answer(version, 0xb0, 2, &[0, 0x11, 0, 0]));
        let mut publisher = gateway.client(version, "publisher");
        for topic in ["a", "b", "c", "c/d", "unknown", "d"] {
            publisher.publish_at_least_once(topic, "x");
        }
        assert_eq!(client.next_publish().topic, "d");
    }
}

#[test]
fn unsubscribe_lets_open_deliveries_end_mqtt_3_10_4_3() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let id = format!("{version:?}");
        let (mut client, _) = resume(&gateway, version, &id);
        client.subscribe("t", 2);
        let mut publisher = gateway.client(version, "publisher");
        publisher.publish_at_least_once("t", "one");
        publish_exactly_once(&mut publisher, version, "t", "two");
        publish_exactly_once(&mut publisher, version, "t", "three");
        let [one, two, three] = [0; 3].map(|_| client.next_publish());
        client.send(&unsubscribe(version, 1, &["t"]));
        assert_eq!(client.next_hex(), answer(version, 0xb0, 1, &[0]));
        publisher.publish_at_least_once("t", "not any more");
        let released = three.packet_id.unwrap();
        client.acknowledge(AcknowledgementKind::Pubrec, released);
        assert_eq!(client.next_hex(), format!("6202{released:04x}"));
        client.acknowledge(AcknowledgementKind::Pubcomp, released);
        client.ping();
        drop(client);
        let (mut client, was_there) = resume(&gateway, version, &id);
        assert!(was_there);
        for before in [one, two] {
            let again = client.next_publish();
            assert!(again.dup);
            assert_eq!((again.packet_id, again.text()), (before.packet_id, before.text()));
        }
        client.expect_silence();
    }
}
