//! Chapters 3.3 to 3.7 of the standard: PUBLISH and its acknowledgements.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::Duration;

use portreeve_mqtt::{
    AcknowledgementKind, Connect, PropertiesBuf, Property, RetainHandling, SubscriptionOptions,
};
use portreeve_tests::client::{connect, qos};
use portreeve_tests::wire::{
    BOTH, Wire, answer, client_with, expect_end, publish_exactly_once, resume, resume_with,
    subscribe, unsubscribe,
};
use portreeve_tests::{TestGateway, V5, V311};

/// SUBSCRIBE options: keep RETAIN as it was published.
const RETAIN_AS_PUBLISHED: u8 = 0x08;

#[test]
fn dup_belongs_to_qos_1_and_2_mqtt_3_3_1_2() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut watcher = gateway.client(version, "watcher");
        watcher.subscribe("t", 0);
        let mut client = gateway.client(version, "client");
        client.send(&Wire::publish(version, 0x38, "t", None).bytes("no").packet());
        expect_end(&mut client, version, &[0x81, 0x82], "DUP with QoS 0");
        let mut client = gateway.client(version, "client");
        client.send(&Wire::publish(version, 0x3a, "t", Some(1)).bytes("yes").packet());
        let expected = Wire::publish(version, 0x30, "t", None).bytes("yes").packet();
        assert_eq!(watcher.next_bytes().unwrap(), expected);
    }
}

#[test]
fn dup_of_the_publisher_is_not_that_of_a_delivery_mqtt_3_3_1_3() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut watcher = gateway.client(version, "watcher");
        watcher.subscribe("t", 2);
        let mut client = gateway.client(version, "client");
        client.send(&Wire::publish(version, 0x3a, "t", Some(1)).packet());
        client.send(&Wire::publish(version, 0x3c, "t", Some(2)).packet());
        assert_eq!(watcher.next_bytes().unwrap()[0], 0x32);
        assert_eq!(watcher.next_bytes().unwrap()[0], 0x34);
    }
}

#[test]
fn there_is_no_qos_3_mqtt_3_3_1_4() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut watcher = gateway.client(version, "watcher");
        watcher.subscribe("t", 2);
        for first in [0x36, 0x37, 0x3e, 0x3f] {
            let mut client = gateway.client(version, "client");
            client.send(&Wire::publish(version, first, "t", Some(1)).bytes("no").packet());
            expect_end(&mut client, version, &[0x81], "QoS 3");
        }
        watcher.publish("t", "last");
        assert_eq!(watcher.next_publish().text(), "last");
    }
}

// Of 3.1.1: MQTT-3.3.1-6 to -9. Of 5.0: MQTT-3.3.1-12.
#[test]
fn the_last_retained_message_is_kept_with_its_qos_mqtt_3_3_1_5() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let topic = format!("r/{version:?}/x");
        let mut publisher = gateway.client(version, "publisher");
        let mut live = gateway.client(version, "live");
        live.subscribe(&format!("r/{version:?}/+"), 2);
        for level in [0, 1, 2] {
            // What was retained before has another QoS each time.
            for (level, text) in [((level + 1) % 3, "old"), (level, "new")] {
                let id = (level > 0).then_some(u16::from(level));
                let none = PropertiesBuf::new();
                publisher.publish_with(&topic, text.as_bytes(), level, true, id, &none);
                if level == 1 {
                    assert_eq!(publisher.next_hex(), "40020001");
                } else if level == 2 {
                    assert_eq!(publisher.next_hex(), "50020002");
                    publisher.send_hex("62020002");
                    assert_eq!(publisher.next_hex(), "70020002");
                }
                let message = live.next_publish();
                assert_eq!(
                    (message.text().as_str(), message.qos, message.retain),
                    (text, level, false),
                    "an established subscription gets it without the flag"
                );
            }
            publisher.ping();
            let mut late = gateway.client(version, "late");
            late.subscribe(&format!("r/{version:?}/#"), 2);
            let message = late.next_publish();
            assert_eq!(
                (message.text().as_str(), message.qos, message.retain, message.dup),
                ("new", level, true, false)
            );
            late.ping();
        }
    }
}

// Of 3.1.1: MQTT-3.3.1-10. Of 5.0: MQTT-3.3.1-6.
#[test]
fn an_empty_retained_message_is_delivered_and_never_stored_mqtt_3_3_1_11_mqtt_3_3_1_7() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        for before in [false, true] {
            let topic = format!("{version:?}/{before}");
            let mut publisher = gateway.client(version, "publisher");
            if before {
                publisher.publish_retained(&topic, "kept");
                publisher.ping();
            }
            let mut live = gateway.client(V5, "live");
            // Retain handling 2: nothing that is retained.
            live.send(&subscribe(V5, 1, &[(&topic, 0x20 | RETAIN_AS_PUBLISHED)]));
            assert_eq!(live.next_hex(), answer(V5, 0x90, 1, &[0]));
            publisher.publish_retained(&topic, "");
            assert!(live.next_publish().payload.is_empty());
            let mut late = gateway.client(version, "late");
            late.subscribe(&topic, 0);
            late.publish(&topic, "last");
            assert_eq!(late.next_publish().text(), "last");
        }
    }
}

#[test]
fn a_message_without_retain_leaves_the_retained_one_mqtt_3_3_1_12_mqtt_3_3_1_8() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let topic = format!("{version:?}");
        let mut publisher = gateway.client(version, "publisher");
        publisher.publish(&topic, "before");
        publisher.ping();
        let mut early = gateway.client(version, "early");
        early.subscribe(&topic, 0);
        publisher.publish_retained(&topic, "kept");
        publisher.publish(&topic, "other");
        publisher.publish(&topic, "");
        for text in ["kept", "other", ""] {
            let message = early.next_publish();
            assert_eq!((message.text().as_str(), message.retain), (text, false));
        }
        let mut late = gateway.client(version, "late");
        late.subscribe(&topic, 0);
        let message = late.next_publish();
        assert_eq!((message.text().as_str(), message.retain), ("kept", true));
    }
}

// MQTT-3.3.1-9, -10 and -11.
#[test]
fn retain_handling_decides_about_retained_messages_mqtt_3_3_1_9_to_11() {
    let gateway = TestGateway::open().start();
    gateway.client(V5, "publisher").publish_retained("r", "kept");
    let mut client = gateway.client(V5, "client");
    let mut asks = |handling, retained: bool| {
        let options = SubscriptionOptions {
            retain_handling: handling,
            ..SubscriptionOptions::with_qos(qos(0))
        };
        client.subscribe_with("r", options, None);
        if retained {
            assert_eq!(client.next_publish().text(), "kept");
        }
        client.publish("r", "marker");
        assert_eq!(client.next_publish().text(), "marker", "{handling:?}");
    };
    asks(RetainHandling::DoNotSend, false);
    asks(RetainHandling::SendIfNew, false);
    asks(RetainHandling::Send, true);
    asks(RetainHandling::Send, true);
    asks(RetainHandling::SendIfNew, false);
    client.send(&unsubscribe(V5, 1, &["r"]));
    assert_eq!(client.next_hex(), answer(V5, 0xb0, 1, &[0]));
    let if_new = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..SubscriptionOptions::with_qos(qos(0))
    };
    client.subscribe_with("r", if_new, None);
    assert_eq!(client.next_publish().text(), "kept", "it is new again");
}

#[test]
fn retain_as_published_is_what_it_says_mqtt_3_3_1_12_and_13() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    client.send(&subscribe(V5, 1, &[("0", 0), ("1", RETAIN_AS_PUBLISHED)]));
    assert_eq!(client.next_hex(), answer(V5, 0x90, 1, &[0, 0]));
    let mut publisher = gateway.client(V311, "publisher");
    for (topic, kept) in [("0", false), ("1", true)] {
        publisher.publish_retained(topic, "x");
        publisher.publish(topic, "x");
        assert_eq!([client.next_publish().retain, client.next_publish().retain], [kept, false]);
    }
}

// Of 3.1.1: MQTT-4.7.1-1. Of 5.0: MQTT-4.7.0-1.
#[test]
fn a_topic_name_has_no_wildcards_mqtt_3_3_2_2_mqtt_4_7_1_1() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    for version in BOTH {
        for topic in ["+", "#", "a/+", "a/#", "a+b", "a#", "+/a"] {
            let mut client = gateway.client(version, "client");
            client.send(&Wire::publish(version, 0x30, topic, None).bytes("x").packet());
            expect_end(&mut client, version, &[0x81, 0x90], topic);
        }
    }
    watcher.publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last");
}

#[test]
fn a_publish_of_qos_0_has_no_answer_mqtt_3_3_4_1() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        let mut client = gateway.client(version, "client");
        client.send(&Wire::publish(version, 0x30, "t", None).packet());
        client.send(&Wire::publish(version, 0x32, "t", Some(1)).packet());
        client.send(&Wire::publish(version, 0x34, "t", Some(2)).packet());
        // MQTT 5 tells that nobody subscribes.
        let expected = match version {
            V5 => ["4003000110", "5003000210"],
            _ => ["40020001", "50020002"],
        };
        assert_eq!([client.next_hex(), client.next_hex()], expected);
        client.ping();
    }
}

// Of 5.0: MQTT-3.3.4-3 and -4.
#[test]
fn overlapping_subscriptions_get_the_highest_qos_mqtt_3_3_5_1_mqtt_3_3_4_2() {
    let gateway = TestGateway::open().start();
    for version in BOTH {
        for order in [[0, 2, 1], [2, 1, 0], [1, 0, 2]] {
            let mut client = gateway.client(version, "client");
            for (filter, level) in ["a/#", "a/+", "a/b"].into_iter().zip(order) {
                let id = (version == V5 && level > 0).then_some(u32::from(level) + 100);
                let options = SubscriptionOptions::with_qos(qos(level));
                assert_eq!(client.subscribe_with(filter, options, id), level);
            }
            let mut publisher = gateway.client(version, "publisher");
            publish_exactly_once(&mut publisher, version, "a/b", "x");
            let mut message = client.next_publish();
            assert_eq!(message.qos, 2, "{version:?} {order:?}");
            message.properties.sort();
            let ids = ["SubscriptionIdentifier(101)", "SubscriptionIdentifier(102)"];
            assert_eq!(message.properties, if version == V5 { &ids[..] } else { &[] });
            publisher.publish("a/b", "last");
            assert_eq!(client.next_publish().text(), "last", "one copy");
        }
    }
}

// Of 5.0: MQTT-4.3.3-9.
#[test]
fn a_publish_that_is_not_permitted_is_acknowledged_and_goes_nowhere_mqtt_3_3_5_2() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let mut watcher = gateway.dial();
    watcher.connect_with(&Connect { user_name: Some("watcher"), ..connect(V5, "watcher") });
    watcher.subscribe("#", 0);
    for version in BOTH {
        let mut client = gateway.dial();
        client.connect_with(&Connect {
            user_name: Some("device-1"),
            password: Some(b"publish allowed"),
            ..connect(version, "client")
        });
        let publish =
            |first, topic| Wire::publish(version, first, topic, Some(5)).bytes("x").packet();
        client.send(&publish(0x32, "forbidden"));
        client.send(&publish(0x34, "forbidden"));
        match version {
            V5 => {
                assert_eq!(client.next_hex(), "4003000587");
                assert_eq!(client.next_hex(), "5003000587");
            }
            _ => {
                assert_eq!(client.next_hex(), "40020005");
                assert_eq!(client.next_hex(), "50020005");
                client.send_hex("62020005");
                assert_eq!(client.next_hex(), "70020005");
            }
        }
        // The identifier is free.
        client.send(&publish(0x34, "allowed"));
        assert_eq!(client.next_hex(), "50020005");
        assert_eq!(watcher.next_publish().topic, "allowed");
    }
}

// MQTT-3.3.2-4, -15, -16, -17, -18, -20, and MQTT-3.3.4-3.
#[test]
fn properties_stay_unaltered_in_every_way_of_delivery_mqtt_3_3_2_4_and_15_to_20() {
    let gateway = TestGateway::open().start();
    let (mut absent, _) = resume(&gateway, V5, "absent");
    absent.subscribe_with("t", SubscriptionOptions::with_qos(qos(1)), Some(268_435_455));
    absent.disconnect();
    let mut live = gateway.client(V5, "live");
    live.subscribe_with("t", SubscriptionOptions::with_qos(qos(1)), Some(7));
    let mut publisher = gateway.client(V5, "publisher");
    for format in [None, Some(0), Some(1)] {
        let mut given = vec![
            Property::UserProperty(("z", "1")),
            Property::ContentType("text/\u{e9}"),
            Property::UserProperty(("a", "")),
            Property::ResponseTopic("answers/\u{e9}"),
            Property::UserProperty(("z", "1")),
            Property::CorrelationData(&[0, 255, 0]),
            Property::UserProperty(("", "2")),
        ];
        given.extend(format.map(Property::PayloadFormatIndicator));
        let properties = given.iter().copied().collect();
        publisher.publish_with("t", b"x", 1, true, Some(7), &properties);
        publisher.next_hex();
        let mut late = gateway.client(V5, "late");
        late.subscribe_with("t", SubscriptionOptions::with_qos(qos(1)), Some(8));
        let (mut absent, _) = resume(&gateway, V5, "absent");
        for (client, id) in [(&mut live, 7), (&mut late, 8), (&mut absent, 268_435_455)] {
            let message = client.next_publish();
            client.acknowledge(AcknowledgementKind::Puback, message.packet_id.unwrap());
            let (ids, forwarded): (Vec<_>, Vec<_>) = message
                .properties
                .into_iter()
                .partition(|property| property.starts_with("SubscriptionIdentifier"));
            assert_eq!(ids, [format!("SubscriptionIdentifier({id})")]);
            let expected: Vec<String> = given.iter().map(|one| format!("{one:?}")).collect();
            assert_eq!(forwarded, expected, "{id}");
        }
        absent.ping();
        absent.disconnect();
    }
}

#[test]
fn a_message_that_expired_is_not_sent_and_another_counts_down_mqtt_3_3_2_5_and_6() {
    let gateway = TestGateway::open().start();
    let (mut absent, _) = resume(&gateway, V5, "absent");
    absent.subscribe("t", 1);
    absent.disconnect();
    let mut narrow = client_with(&gateway, "narrow", &[Property::ReceiveMaximum(1)]);
    narrow.subscribe("t", 1);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_at_least_once("t", "first");
    let first = narrow.next_publish().packet_id.unwrap();
    for (seconds, text) in [(1, "short"), (100, "long")] {
        let properties = [Property::MessageExpiryInterval(seconds)].into_iter().collect();
        publisher.publish_with("t", text.as_bytes(), 1, true, Some(7), &properties);
        assert_eq!(publisher.next_hex(), "40020007");
    }
    std::thread::sleep(Duration::from_millis(2100));
    narrow.acknowledge(AcknowledgementKind::Puback, first);
    let (mut absent, _) = resume(&gateway, V5, "absent");
    assert_eq!(absent.next_publish().text(), "first");
    let mut late = gateway.client(V5, "late");
    late.subscribe("t", 1);
    for client in [&mut narrow, &mut absent, &mut late] {
        let message = client.next_publish();
        assert_eq!(message.text(), "long");
        let rest: u32 = message.properties[0]
            .chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .unwrap();
        assert!((90..=98).contains(&rest), "{:?}", message.properties);
    }
}

#[test]
fn a_topic_alias_is_never_0_mqtt_3_3_2_8() {
    let gateway = TestGateway::open().start();
    for topic in ["t", ""] {
        let mut client = gateway.client(V5, "client");
        client.send(&Wire::new(V5, 0x30).string(topic).bytes([3, 0x23, 0, 0]).packet());
        expect_end(&mut client, V5, &[0x94], topic);
    }
}

#[test]
fn every_alias_up_to_the_maximum_is_taken_and_can_change_mqtt_3_3_2_12() {
    let gateway = TestGateway::open().with_limit("topic_alias_maximum", "300").start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("t/#", 0);
    let mut client = gateway.client(V5, "client");
    let publish = |topic: &str, alias: u16| {
        Wire::new(V5, 0x30).string(topic).bytes([3, 0x23]).bytes(alias.to_be_bytes()).packet()
    };
    for round in 0..2 {
        let told: Vec<u8> =
            (1..=300).flat_map(|alias| publish(&format!("t/{round}/{alias}"), alias)).collect();
        let used: Vec<u8> = (1..=300).rev().flat_map(|alias| publish("", alias)).collect();
        client.send(&[told, used].concat());
        for alias in (1..=300).chain((1..=300).rev()) {
            let message = watcher.next_publish();
            assert_eq!(message.topic, format!("t/{round}/{alias}"));
            assert!(message.properties.is_empty(), "{:?}", message.properties);
        }
    }
}

#[test]
fn a_response_topic_has_no_wildcards_mqtt_3_3_2_14() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("t", 0);
    for topic in ["#", "r/+", "r#"] {
        let property = [&[0x08, 0, u8::try_from(topic.len()).unwrap()], topic.as_bytes()].concat();
        let length = [u8::try_from(property.len()).unwrap()];
        let mut client = gateway.client(V5, "client");
        client.send(&Wire::new(V5, 0x30).string("t").bytes(length).bytes(&property).packet());
        expect_end(&mut client, V5, &[0x81, 0x82, 0x90], topic);
    }
    watcher.publish("t", "last");
    assert_eq!(watcher.next_publish().text(), "last");
}

#[test]
fn a_client_sends_no_subscription_identifier_mqtt_3_3_4_6() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("t", 0);
    let mut client = gateway.client(V5, "client");
    client.send_hex("3007 0001 74 02 0b05 78");
    assert_eq!(client.expect_close(), "e00182");
    watcher.publish("t", "last");
    assert_eq!(watcher.next_publish().text(), "last");
}

// MQTT-4.9.0-1 and -2.
#[test]
fn the_receive_maximum_counts_both_levels_mqtt_3_3_4_9() {
    let gateway = TestGateway::open().start();
    let properties = [Property::ReceiveMaximum(2), Property::SessionExpiryInterval(60)];
    let (mut client, _) = resume_with(&gateway, V5, "two", &properties);
    client.subscribe("t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    for number in ["1", "3", "5", "7"] {
        publisher.publish_at_least_once("t", number);
        let next = (number.parse::<u8>().unwrap() + 1).to_string();
        publish_exactly_once(&mut publisher, V5, "t", &next);
    }
    let (one, two) = (client.next_publish(), client.next_publish());
    assert_eq!((one.text().as_str(), two.text().as_str()), ("1", "2"));
    client.expect_silence();
    // A released message keeps its place until PUBCOMP.
    client.acknowledge(AcknowledgementKind::Pubrec, two.packet_id.unwrap());
    assert_eq!(client.next_hex(), format!("6202{:04x}", two.packet_id.unwrap()));
    client.expect_silence();
    client.acknowledge(AcknowledgementKind::Pubcomp, two.packet_id.unwrap());
    let three = client.next_publish();
    assert_eq!(three.text(), "3");
    client.expect_silence();
    client.acknowledge(AcknowledgementKind::Puback, one.packet_id.unwrap());
    let four = client.next_publish();
    assert_eq!((four.text().as_str(), four.qos), ("4", 2));
    // PUBREC with an error frees it at once.
    client.send_hex(&format!("5003{:04x}83", four.packet_id.unwrap()));
    let five = client.next_publish();
    assert_eq!(five.text(), "5");
    client.expect_silence();
    // The same on a new connection: what is sent again counts.
    drop(client);
    let (mut client, was_there) = resume_with(&gateway, V5, "two", &properties);
    assert!(was_there);
    let again = [client.next_publish().text(), client.next_publish().text()];
    assert_eq!(again, ["3", "5"]);
    client.expect_silence();
}

// MQTT-4.9.0-3.
#[test]
fn a_client_without_quota_gets_everything_else_mqtt_3_3_4_10() {
    let gateway = TestGateway::open().start();
    let mut client = client_with(&gateway, "client", &[Property::ReceiveMaximum(1)]);
    client.subscribe("t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_at_least_once("t", "in flight");
    publisher.publish_at_least_once("t", "waits");
    let held = client.next_publish();
    assert_eq!(held.text(), "in flight");
    client.ping();
    assert_eq!(client.subscribe("other", 1), 1);
    client.send(&unsubscribe(V5, 1, &["nothing"]));
    assert_eq!(client.next_hex(), answer(V5, 0xb0, 1, &[0x11]));
    assert_eq!(client.publish_at_least_once("own", "x"), 0x10);
    publish_exactly_once(&mut client, V5, "own", "x");
    publisher.publish("t", "qos 0");
    assert_eq!(client.next_publish().text(), "qos 0");
    client.acknowledge(AcknowledgementKind::Puback, held.packet_id.unwrap());
    assert_eq!(client.next_publish().text(), "waits");
}

// MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1.
#[test]
fn an_acknowledgement_has_a_code_of_its_own_mqtt_3_4_2_1_to_mqtt_3_7_2_1() {
    let gateway = TestGateway::open().start();
    let errors = [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let of_publish: Vec<u8> = [0, 0x10].into_iter().chain(errors).collect();
    for (first, defined) in
        [(0x40, &of_publish[..]), (0x50, &of_publish), (0x62, &[0, 0x92]), (0x70, &[0, 0x92])]
    {
        let mut client = gateway.client(V5, "client");
        for code in defined {
            client.send(&[first, 3, 0, 1, *code]);
        }
        client.send_hex("c000");
        // Whatever is said about the unknown identifier, the connection goes on.
        while client.next_hex() != "d000" {}
        for code in (0..=0xff_u8).filter(|code| !defined.contains(code)) {
            client.send(&[first, 3, 0, 1, code]);
            expect_end(&mut client, V5, &[0x81, 0x82], &format!("{first:02x} {code:02x}"));
            client = gateway.client(V5, "client");
        }
    }
}

// MQTT-3.1.2-29, and MQTT-3.4.2-1, MQTT-3.5.2-1 for what the gateway sends.
#[test]
fn a_reason_is_told_to_who_wants_it_and_has_room_mqtt_3_4_2_2_mqtt_3_5_2_2_mqtt_3_1_2_29() {
    let gateway = TestGateway::open().with_example("sensor-frame").start();
    let wants = |information| Property::RequestProblemInformation(information);
    for (properties, has_reason) in [
        (&[][..], true),
        (&[wants(1)], true),
        (&[wants(0)], false),
        (&[Property::MaximumPacketSize(24)], false),
        (&[wants(1), Property::MaximumPacketSize(24)], false),
    ] {
        let mut client = client_with(&gateway, "device-1", properties);
        for (first, acknowledgement) in [(0x32, "40"), (0x34, "50")] {
            let publish = Wire::publish(V5, first, "devices/device-1/raw", Some(7)).bytes("x");
            client.send(&publish.packet());
            let said = client.next_hex();
            if has_reason {
                assert!(said.starts_with(acknowledgement), "{said}");
                assert!(said[4..].starts_with("000799") && said[12..].starts_with("1f"), "{said}");
            } else {
                assert_eq!(said, format!("{acknowledgement}03000799"), "{properties:?}");
            }
        }
    }
}
