//! Chapters 4.7 and 4.8.2 of the standard: topic names and filters, shared subscriptions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::Duration;

use portreeve_mqtt::{Packet, Property};
use portreeve_tests::client::Incoming;
use portreeve_tests::wire::{
    BOTH, Wire, answer, expect_end, publish_exactly_once, resume, resume_with, subscribe,
    unsubscribe,
};
use portreeve_tests::{TestGateway, V5, V311};

#[test]
fn filters_are_valid_or_never_granted_mqtt_4_7_1_2_and_3_mqtt_4_7_1_1_and_2_mqtt_4_7_3_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        for filter in
            ["", "a#", "#a", "##", "a/#/b", "#/a", "a/+#", "+a", "a+", "a+/b", "++", "a/b+"]
        {
            for (request, first) in [
                (subscribe(version, 1, &[("good", 0), (filter, 0)]), 0x90),
                (unsubscribe(version, 1, &["good", filter]), 0xb0),
            ] {
                let mut client = gateway.client(version, "client");
                client.send(&request);
                let said = client.next_bytes();
                // It may be refused alone, or it ends the connection.
                let granted = [0, 1, 2, 0x11];
                match (said, version) {
                    (None, _) => assert_eq!(version, V311),
                    (Some(packet), _) if packet[0] == first && (first == 0x90 || version == V5) => {
                        assert!(
                            !granted.contains(packet.last().unwrap()),
                            "{filter}: {packet:02x?}"
                        );
                    }
                    (Some(packet), V5) => {
                        assert!([0x81, 0x82, 0x8f].contains(&packet[2]), "{filter}: {packet:02x?}");
                        assert_eq!((packet[0], client.expect_close().as_str()), (0xe0, ""));
                    }
                    (Some(packet), _) => panic!("{filter}: {packet:02x?}"),
                }
            }
        }
        for filter in ["#", "+", "/", "+/#", "/+/", " "] {
            let mut client = gateway.client(version, "client");
            client.send(&subscribe(version, 1, &[(filter, 0)]));
            assert_eq!(client.next_hex(), answer(version, 0x90, 1, &[0]), "{filter}");
        }
        let mut client = gateway.client(version, "client");
        client.send(&Wire::publish(version, 0x30, "", None).bytes("x").packet());
        expect_end(&mut client, version, &[0x81, 0x82, 0x90], "empty topic name");
    }
}

/// Every filter, and the topics it matches of these.
const TOPICS: [&str; 14] = [
    "a", "a/b", "a/b/c", "a/", "/a", "/", "A", "a//b", "b", "$a/x", "$a", "x/$a", "\u{e9}",
    "e\u{301}",
];
const MATCHES: [(&str, &[&str]); 16] = [
    ("#", &["a", "a/b", "a/b/c", "a/", "/a", "/", "A", "a//b", "b", "x/$a", "\u{e9}", "e\u{301}"]),
    ("+", &["a", "A", "b", "\u{e9}", "e\u{301}"]),
    ("a/#", &["a", "a/b", "a/b/c", "a/", "a//b"]),
    ("a/+", &["a/b", "a/"]),
    ("+/+", &["a/b", "a/", "/a", "/", "x/$a"]),
    ("/+", &["/a", "/"]),
    ("a/+/c", &["a/b/c"]),
    (
        "+/#",
        &["a", "a/b", "a/b/c", "a/", "/a", "/", "A", "a//b", "b", "x/$a", "\u{e9}", "e\u{301}"],
    ),
    ("+/x", &[]),
    ("+/$a", &["x/$a"]),
    ("$a/#", &["$a/x", "$a"]),
    ("$a/+", &["$a/x"]),
    ("a", &["a"]),
    ("a/b", &["a/b"]),
    ("\u{e9}", &["\u{e9}"]),
    ("a/", &["a/"]),
];

// MQTT-3.3.2-3, MQTT-4.7.2-1, MQTT-4.7.3-4.
#[test]
fn a_filter_gets_what_it_matches_and_nothing_else_mqtt_3_3_2_3_mqtt_4_7_2_1_mqtt_4_7_3_4() {
    let gateway = TestGateway::open().with_sys_interval("1h").start();
    let mut publisher = gateway.client(V5, "publisher");
    for topic in TOPICS {
        publisher.publish_retained(topic, topic);
    }
    publisher.ping();
    for version in BOTH {
        for (filter, expected) in MATCHES {
            let mut client = gateway.client(version, "client");
            // Retained messages, in any order; `$SYS` has its own.
            assert_eq!(client.subscribe(filter, 0), 0);
            client.send_hex("c000");
            let mut kept = Vec::new();
            while let Some(topic) = client.next(|packet| match packet {
                Packet::Publish(publish) => Some(publish.topic.unwrap().as_str().to_owned()),
                _ => None,
            }) {
                kept.push(topic);
            }
            kept.sort();
            let mut sorted = expected.to_vec();
            sorted.sort_unstable();
            assert_eq!(kept, sorted, "retained, {filter}");
            // Live ones, in order.
            for topic in TOPICS {
                publisher.publish(topic, topic);
            }
            publisher.ping();
            for topic in expected {
                let message = client.next_publish();
                assert_eq!((message.topic.as_str(), message.text().as_str()), (*topic, *topic));
            }
            client.ping();
        }
    }
}

#[test]
fn a_topic_may_be_65535_bytes_long_mqtt_4_7_3_3() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let topic = "t".repeat(65_535);
        let mut client = gateway.client(version, "client");
        assert_eq!(client.subscribe(&topic, 0), 0);
        let publish = Wire::publish(version, 0x30, &topic, None).bytes("x").packet();
        client.send(&publish);
        assert_eq!(client.next_bytes().unwrap(), publish);
    }
}

// MQTT-4.8.2-2.
#[test]
fn a_shared_filter_has_a_name_and_a_filter_mqtt_4_8_2_1_and_2() {
    let gateway = TestGateway::open().start();
    for filter in [
        "$share//a",
        "$share/g",
        "$share/g/",
        "$share/",
        "$share/#/a",
        "$share/+/a",
        "$share/g+/a",
        "$share/g#/a",
        "$share/g/a#",
        "$share/g/a/#/b",
        "$share/g/+a",
    ] {
        let mut client = gateway.client(V5, "client");
        client.send(&subscribe(V5, 1, &[(filter, 1)]));
        let said = client.next_hex();
        assert!(
            ["90040001008f", "e0018f", "e00181", "e00182"].contains(&said.as_str()),
            "{filter}: {said}"
        );
    }
    for filter in ["$share/g/a", "$share/g//", "$share/\u{e9}/#", "$share/$/+/a"] {
        let mut client = gateway.client(V5, "client");
        client.send(&subscribe(V5, 1, &[(filter, 1)]));
        assert_eq!(client.next_hex(), "900400010001", "{filter}");
    }
}

#[test]
fn a_member_of_a_share_gets_the_qos_it_was_granted_mqtt_4_8_2_3() {
    let gateway = TestGateway::open().start();
    let mut publisher = gateway.client(V5, "publisher");
    for level in 0..=2 {
        let mut member = gateway.client(V5, "member");
        assert_eq!(member.subscribe("$share/group/t", level), level);
        let mut other = gateway.client(V5, "other");
        assert_eq!(other.subscribe("$share/group/t", (level + 1) % 3), (level + 1) % 3);
        for _ in 0..6 {
            publish_exactly_once(&mut publisher, V5, "t", "x");
        }
        let mut came = 0;
        for (client, level) in [(&mut member, level), (&mut other, (level + 1) % 3)] {
            while let Some(qos) =
                client.next_within(Duration::from_millis(150), |packet| match packet {
                    Packet::Publish(publish) => publish.qos as u8,
                    other => panic!("not PUBLISH: {other:?}"),
                })
            {
                assert_eq!(qos, level);
                came += 1;
            }
        }
        assert_eq!(came, 6);
    }
}

// MQTT-4.8.2-5: not even when the session ends.
#[test]
fn an_open_shared_delivery_of_qos_2_stays_with_its_member_mqtt_4_8_2_4_and_5() {
    let gateway = TestGateway::open().start();
    let expiry = [Property::SessionExpiryInterval(1)];
    let (mut member, _) = resume_with(&gateway, V5, "member", &expiry);
    member.subscribe("$share/group/t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    publish_exactly_once(&mut publisher, V5, "t", "x");
    let message = member.next_publish();
    let mut other = gateway.client(V5, "other");
    other.subscribe("$share/group/t", 2);
    drop(member);
    other.expect_silence();
    let (mut member, was_there) = resume_with(&gateway, V5, "member", &expiry);
    assert!(was_there);
    assert_eq!(member.next_publish(), Incoming { dup: true, ..message });
    drop(member);
    gateway.wait_until("the session ends", |gateway| gateway.server().session_count() == 2);
    other.expect_silence();
}

#[test]
fn a_shared_delivery_that_is_refused_goes_to_nobody_else_mqtt_4_8_2_6() {
    let gateway = TestGateway::open().start();
    let (mut member, _) = resume(&gateway, V5, "member");
    member.subscribe("$share/group/t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_at_least_once("t", "one");
    publish_exactly_once(&mut publisher, V5, "t", "two");
    let ids = [member.next_publish(), member.next_publish()].map(|one| one.packet_id.unwrap());
    let mut other = gateway.client(V5, "other");
    other.subscribe("$share/group/t", 2);
    member.send_hex(&format!("4003{:04x}83 5003{:04x}83", ids[0], ids[1]));
    member.ping();
    other.expect_silence();
    drop(member);
    let (mut member, _) = resume(&gateway, V5, "member");
    member.expect_silence();
    other.expect_silence();
}
