//! What MQTT 5 adds and the other suites do not hold: re-authentication, topic aliases towards
//! clients, response information, payload format, topic rules, shared subscriptions, limits of
//! the client.
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
    AcknowledgementKind, Connect, PropertiesBuf, Property, SubscriptionOptions, Will,
};
use portreeve_tests::client::{Client, connect, qos, will};
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::{TestGateway, V5, V311};

fn dial_with(gateway: &RunningGateway, client_id: &str, properties: &[Property<'_>]) -> Client {
    let properties: PropertiesBuf = properties.iter().copied().collect();
    let mut client = gateway.dial();
    client.connect_with(&Connect {
        properties: properties.as_properties(),
        ..connect(V5, client_id)
    });
    client
}

/// CONNECT with authentication method "sum"; AUTH with that method and this data.
const CONNECT_SUM: &str = "1018 0004 4d515454 05 02 0000 06 15 0003 73756d 0005 6175746830";

fn authenticated(gateway: &RunningGateway) -> Client {
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_hex(CONNECT_SUM);
    assert_eq!(client.next_hex(), "f00e180c15000373756d160003312b31");
    client.send_hex("f00c 18 0a 15 0003 73756d 16 0001 32");
    assert!(client.next_hex()[4..].starts_with("0000"));
    client
}

#[test]
fn a_client_authenticates_again_with_the_method_of_its_connect_mqtt_4_12_1() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let mut client = authenticated(&gateway);
    client.subscribe("t", 0);
    client.send_hex("f008 19 06 15 0003 73756d");
    assert_eq!(client.next_hex(), "f00e180c15000373756d160003312b31");
    // Everything else goes on meanwhile.
    client.publish("t", "meanwhile");
    assert_eq!(client.next_publish().text(), "meanwhile");
    client.send_hex("f00c 18 0a 15 0003 73756d 16 0001 32");
    assert_eq!(client.next_hex(), "f008000615000373756d");
    client.ping();
    // A second time, with the wrong answer.
    client.send_hex("f008 19 06 15 0003 73756d");
    let _challenge = client.next_hex();
    client.send_hex("f00c 18 0a 15 0003 73756d 16 0001 33");
    assert_eq!(client.expect_close(), "e00187");
}

#[test]
fn auth_that_nothing_asked_for_ends_the_connection_mqtt_4_12_0_6() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    for wrong in [
        // Another method, an answer without challenge, success from a client.
        "f008 19 06 15 0003 78797a",
        "f00c 18 0a 15 0003 73756d 16 0001 32",
        "f008 00 06 15 0003 73756d",
    ] {
        let mut client = authenticated(&gateway);
        client.send_hex(wrong);
        assert_eq!(client.expect_close(), "e00182", "{wrong}");
    }
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "without-method");
    client.send_hex("f008 19 06 15 0003 73756d");
    assert_eq!(client.expect_close(), "e00182");
}

#[test]
fn a_disconnect_instead_of_an_answer_is_no_fault_mqtt_3_1_2_30() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_hex(CONNECT_SUM);
    let _challenge = client.next_hex();
    client.send_hex("e000");
    assert_eq!(client.expect_close(), "");
}

#[test]
fn topics_towards_a_client_get_aliases_up_to_its_maximum_mqtt_3_1_2_26() {
    let gateway = TestGateway::open().start();
    let mut subscriber = dial_with(&gateway, "subscriber", &[Property::TopicAliasMaximum(2)]);
    subscriber.subscribe("t/#", 1);
    let mut publisher = gateway.client(V311, "publisher");
    for topic in ["t/1", "t/2", "t/3", "t/1", "t/2", "t/3"] {
        publisher.publish(topic, "x");
    }
    let hex = |topic: &str| hex::encode(topic);
    assert_eq!(
        subscriber.next_hex(),
        format!("300a0003{}03 230001 78", hex("t/1")).replace(' ', "")
    );
    assert_eq!(
        subscriber.next_hex(),
        format!("300a0003{}03 230002 78", hex("t/2")).replace(' ', "")
    );
    assert_eq!(subscriber.next_hex(), format!("30070003{}0078", hex("t/3")));
    assert_eq!(subscriber.next_hex(), "300700000323000178");
    assert_eq!(subscriber.next_hex(), "300700000323000278");
    assert_eq!(subscriber.next_hex(), format!("30070003{}0078", hex("t/3")));
}

#[test]
fn aliases_do_not_outlive_their_connection_mqtt_3_3_2_7() {
    let gateway = TestGateway::open().start();
    // Towards the client: what is sent again on a new connection has its topic.
    let properties = [Property::TopicAliasMaximum(5), Property::SessionExpiryInterval(100)];
    let mut subscriber = dial_with(&gateway, "subscriber", &properties);
    subscriber.subscribe("t", 1);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_at_least_once("t", "1");
    publisher.publish_at_least_once("t", "2");
    assert_eq!(subscriber.next_publish().topic, "t");
    let second = subscriber.next_hex();
    assert!(second.starts_with("3209 0000".replace(' ', "").as_str()), "{second}");
    drop(subscriber);
    let properties: PropertiesBuf = properties.into_iter().collect();
    let mut subscriber = gateway.dial();
    assert!(subscriber.connect_with(&Connect {
        clean_start: false,
        properties: properties.as_properties(),
        ..connect(V5, "subscriber")
    }));
    let first = subscriber.next_publish();
    assert_eq!((first.topic.as_str(), first.text().as_str(), first.dup), ("t", "1", true));
    // From the client: an alias of its last connection stands for nothing.
    let told = [Property::TopicAlias(3)].into_iter().collect();
    publisher.publish_with("t", b"x", 0, false, None, &told);
    publisher.ping();
    drop(publisher);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.send_hex("3007 0000 03 230003 78");
    assert_eq!(publisher.expect_close(), "e00182");
}

#[test]
fn response_information_is_told_to_who_asks_mqtt_3_1_2_28() {
    let gateway =
        TestGateway::open().with_gateway_line("response_information = \"answers/%c\"").start();
    for (asks, expected) in [(Some(1), true), (Some(0), false), (None, false)] {
        let properties: PropertiesBuf =
            asks.map(Property::RequestResponseInformation).into_iter().collect();
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_packet(&portreeve_mqtt::Packet::Connect(Connect {
            properties: properties.as_properties(),
            ..connect(V5, "asks")
        }));
        let told = client.next(|packet| format!("{packet:?}").contains("answers/asks"));
        assert_eq!(told, expected);
    }
}

#[test]
fn a_payload_that_says_it_is_text_has_to_be_where_that_is_checked() {
    let gateway = TestGateway::open().with_gateway_line("payload_format_check = \"on\"").start();
    let mut client = gateway.client(V5, "client");
    let text: PropertiesBuf = [Property::PayloadFormatIndicator(1)].into_iter().collect();
    for (payload, properties, code) in [
        (&b"\xff\xfe"[..], &text, "99"),
        (b"h\xc3\xa9", &text, "10"),
        (b"\xff\xfe", &PropertiesBuf::new(), "10"),
    ] {
        client.publish_with("t", payload, 1, false, Some(7), properties);
        assert_eq!(client.next_hex(), format!("40030007{code}"));
    }
    assert_eq!(gateway.count("payloads_not_text"), 1);
}

#[test]
fn topic_rules_hold_for_publish_and_subscribe_in_both_versions() {
    let gateway = TestGateway::open()
        .with_gateway_line("topic_default = \"deny\"")
        .with(
            "[[gateway.topic_rule]]\neffect = \"allow\"\ntopic = \"#\"\ndevices = [\"application\"]\n\
             [[gateway.topic_rule]]\neffect = \"deny\"\ntopic = \"devices/%d/locked/#\"\n\
             [[gateway.topic_rule]]\neffect = \"allow\"\ntopic = \"devices/%d/#\"\n\
             [[gateway.topic_rule]]\neffect = \"allow\"\naction = \"subscribe\"\ntopic = \"news/#\"",
        )
        .start();
    for (version, refusal) in [(V5, 0x87), (V311, 0x80)] {
        let mut client = gateway.client(version, "dev-1");
        assert_eq!(client.subscribe("devices/dev-1/down", 0), 0);
        assert_eq!(client.subscribe("news/#", 0), 0);
        for closed in ["devices/dev-2/down", "devices/+/down", "#", "devices/dev-1/#"] {
            assert_eq!(client.subscribe(closed, 0), refusal, "{closed}");
        }
        let mut application = gateway.client(V5, "application");
        application.subscribe("devices/#", 0);
        // MQTT 3.1.1 acknowledges what it drops; MQTT 5 says why.
        for topic in ["devices/dev-2/up", "devices/dev-1/locked/x", "news/today"] {
            let code = client.publish_at_least_once(topic, "no");
            assert_eq!(code, if version == V5 { 0x87 } else { 0 }, "{topic}");
        }
        client.publish_at_least_once("devices/dev-1/up", "yes");
        assert_eq!(application.next_publish().text(), "yes");
    }
    assert!(gateway.count("publishes_denied") >= 6 && gateway.count("subscriptions_denied") >= 8);
}

#[test]
fn what_a_leaving_member_did_not_acknowledge_goes_to_another_mqtt_4_8_2() {
    let gateway = TestGateway::open().start();
    let mut leaving = dial_with(&gateway, "leaving", &[Property::ReceiveMaximum(2)]);
    leaving.subscribe("$share/group/t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    for number in 0..5_u8 {
        publisher.publish_at_least_once("t", [number]);
    }
    publisher.publish_with("t", b"qos2", 2, false, Some(50), &PropertiesBuf::new());
    publisher.next_hex();
    let first = leaving.next_publish();
    let _second = leaving.next_publish();
    leaving.acknowledge(AcknowledgementKind::Puback, first.packet_id.unwrap());
    let _third = leaving.next_publish();
    let mut other = gateway.client(V5, "other");
    other.subscribe("$share/group/t", 2);
    drop(leaving);
    // Two in flight and what waited; the acknowledged one does not come again.
    let mut got: Vec<Vec<u8>> = Vec::new();
    for _ in 0..5 {
        let message = other.next_publish();
        assert!(!message.dup, "the first time for this client");
        got.push(message.payload);
    }
    got.sort();
    let mut expected: Vec<Vec<u8>> = (1..5_u8).map(|number| vec![number]).collect();
    expected.push(b"qos2".to_vec());
    expected.sort();
    assert_eq!(got, expected);
    assert_eq!(gateway.count("messages_redistributed"), 5);
    other.expect_silence();
}

#[test]
fn a_qos_2_message_that_was_sent_goes_to_no_other_member_mqtt_4_8_2_5() {
    let gateway = TestGateway::open().start();
    let mut leaving = gateway.client(V5, "leaving");
    leaving.subscribe("$share/group/t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_with("t", b"x", 2, false, Some(5), &PropertiesBuf::new());
    publisher.next_hex();
    let _message = leaving.next_publish();
    let mut other = gateway.client(V5, "other");
    other.subscribe("$share/group/t", 2);
    drop(leaving);
    other.expect_silence();
}

#[test]
fn a_connected_member_at_its_quota_comes_before_an_absent_one() {
    let gateway = TestGateway::open().start();
    let mut absent = dial_with(&gateway, "absent", &[Property::SessionExpiryInterval(100)]);
    absent.subscribe("$share/group/t", 1);
    absent.disconnect();
    let mut slow = dial_with(&gateway, "slow", &[Property::ReceiveMaximum(1)]);
    slow.subscribe("$share/group/t", 1);
    let mut publisher = gateway.client(V5, "publisher");
    for _ in 0..20 {
        publisher.publish_at_least_once("t", "x");
    }
    for _ in 0..20 {
        let id = slow.next_publish().packet_id.unwrap();
        slow.acknowledge(AcknowledgementKind::Puback, id);
    }
}

#[test]
fn nothing_larger_than_the_client_takes_is_sent_mqtt_3_1_2_24_and_3_2_2_19() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let small: PropertiesBuf = [Property::MaximumPacketSize(20)].into_iter().collect();
    let connect = |password| Connect {
        properties: small.as_properties(),
        user_name: Some("device-1"),
        password: Some(password),
        ..connect(V5, "small")
    };
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_packet(&portreeve_mqtt::Packet::Connect(connect(b"refuse banned")));
    let answer = client.expect_close();
    assert!(answer.len() <= 40 && answer[4..].starts_with("008a"), "{answer}");
    // SUBACK for 20 filters has 24 bytes.
    let gateway = TestGateway::open().start();
    let mut client = dial_with(&gateway, "small", &[Property::MaximumPacketSize(22)]);
    let filters: String = (0..20).map(|_| "0001 61 00").collect();
    client.send_hex(&format!("8253 0001 00 {filters}"));
    assert_eq!(client.expect_close(), "e00195");
}

#[test]
fn a_pubrel_does_not_wait_for_the_receive_maximum_mqtt_3_3_4_10() {
    let gateway = TestGateway::open().start();
    let lasting = [Property::SessionExpiryInterval(100)];
    let mut client = dial_with(&gateway, "client", &lasting);
    client.subscribe("t", 2);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_at_least_once("t", "one");
    publisher.publish_with("t", b"two", 2, false, Some(50), &PropertiesBuf::new());
    publisher.next_hex();
    publisher.publish_at_least_once("t", "three");
    let one = client.next_publish();
    let two = client.next_publish();
    client.acknowledge(AcknowledgementKind::Pubrec, two.packet_id.unwrap());
    let _three = client.next_publish();
    let _pubrel = client.next_hex();
    drop(client);
    let narrow: PropertiesBuf =
        [Property::SessionExpiryInterval(100), Property::ReceiveMaximum(1)].into_iter().collect();
    let mut client = gateway.dial();
    assert!(client.connect_with(&Connect {
        clean_start: false,
        properties: narrow.as_properties(),
        ..connect(V5, "client")
    }));
    assert_eq!(client.next_publish().packet_id, one.packet_id);
    assert_eq!(client.next_hex(), format!("6202{:04x}", two.packet_id.unwrap()));
    client.expect_silence();
    client.acknowledge(AcknowledgementKind::Puback, one.packet_id.unwrap());
    assert_eq!(client.next_publish().text(), "three");
}

#[test]
fn all_retained_messages_come_however_many_there_are_mqtt_3_3_1_9() {
    let gateway = TestGateway::open().with_limit("mailbox_bytes_max", "\"64KiB\"").start();
    let mut publisher = gateway.client(V5, "publisher");
    for number in 0..5_000 {
        publisher.publish_retained(&format!("r/{number}"), [b'x'; 100]);
    }
    publisher.ping();
    for level in [0, 1] {
        let mut subscriber = gateway.client(V5, "subscriber");
        assert_eq!(subscriber.subscribe("r/#", level), level);
        for _ in 0..5_000 {
            let message = subscriber.next_publish();
            if let Some(id) = message.packet_id {
                subscriber.acknowledge(AcknowledgementKind::Puback, id);
            }
        }
        subscriber.expect_silence();
    }
}

#[test]
fn a_will_does_not_reach_its_own_no_local_subscription_mqtt_3_8_3_3() {
    let gateway = TestGateway::open().start();
    let expiry: PropertiesBuf = [Property::SessionExpiryInterval(100)].into_iter().collect();
    let connect = Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        will: Some(Will { qos: qos(1), ..will("will", "gone") }),
        ..connect(V5, "client")
    };
    let mut client = gateway.dial();
    client.connect_with(&connect);
    let no_local = SubscriptionOptions { no_local: true, ..SubscriptionOptions::with_qos(qos(1)) };
    client.subscribe_with("will", no_local, None);
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("will", 1);
    drop(client);
    assert_eq!(watcher.next_publish().text(), "gone");
    let mut client = gateway.dial();
    assert!(client.connect_with(&connect));
    client.expect_silence();
}

#[test]
fn a_property_of_another_packet_is_malformed_mqtt_2_2_2_2() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    // SUBSCRIBE with a session expiry interval.
    client.send_hex("820c 0001 05 1100000001 0001 61 01");
    assert_eq!(client.expect_close(), "e00181");
}

#[test]
fn a_bridge_of_mosquitto_is_answered_in_its_own_version_mqtt_3_1_2_2() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.send_hex("100e 0004 4d515454 84 02 0000 0002 6272");
    assert_eq!(client.expect_close(), "20020001");
}

#[test]
fn identifiers_of_an_earlier_connection_do_not_count_against_the_receive_maximum_4_9() {
    let gateway = TestGateway::open().with_limit("in_flight_max", "2").start();
    let lasting: PropertiesBuf = [Property::SessionExpiryInterval(100)].into_iter().collect();
    let lasting = Connect {
        clean_start: false,
        properties: lasting.as_properties(),
        ..connect(V5, "client")
    };
    let mut client = gateway.dial();
    client.connect_with(&lasting);
    for id in [1, 2] {
        client.publish_with("t", b"x", 2, false, Some(id), &PropertiesBuf::new());
        client.next_hex();
    }
    drop(client);
    let mut client = gateway.dial();
    assert!(client.connect_with(&lasting));
    for id in [3, 4] {
        client.publish_with("t", b"x", 2, false, Some(id), &PropertiesBuf::new());
        assert!(client.next_hex().starts_with("50"));
    }
}

#[test]
fn a_message_that_waits_in_the_mailbox_expires_there_mqtt_3_3_2_5() {
    let gateway = TestGateway::open().with_limit("mailbox_bytes_max", "\"64MiB\"").start();
    let mut slow = gateway.client(V5, "slow");
    slow.subscribe("t/#", 0);
    let mut publisher = gateway.client(V5, "publisher");
    // More than the kernel keeps for a socket: the rest waits in the gateway.
    for _ in 0..500 {
        publisher.publish("t/filler", vec![b'f'; 60_000]);
    }
    let expiring: PropertiesBuf = [Property::MessageExpiryInterval(1)].into_iter().collect();
    for _ in 0..200 {
        publisher.publish_with("t/expiring", b"x", 0, false, None, &expiring);
    }
    publisher.publish("t/last", "x");
    publisher.ping();
    std::thread::sleep(Duration::from_millis(1500));
    let mut expired = 0;
    loop {
        let message = slow.next_publish();
        match message.topic.as_str() {
            "t/expiring" => expired += 1,
            "t/last" => break,
            _ => {}
        }
    }
    assert_eq!(expired, 0, "messages that expired were sent");
    // Counted with the connection's next packet.
    slow.ping();
    gateway.wait_until("expired", |gateway| gateway.count("messages_expired") > 0);
}

#[test]
fn one_message_without_acknowledgement_does_not_stop_the_others_mqtt_2_2_1_4() {
    const BATCH: u32 = 500;
    let gateway = TestGateway::open().start();
    for version in [V5, V311] {
        let mut subscriber = gateway.client(version, "subscriber");
        subscriber.subscribe("t", 1);
        let mut publisher = gateway.client(V311, "publisher");
        let mut held = None;
        for batch in 0..140 {
            // More than there are packet identifiers.
            let mut bytes = Vec::new();
            for number in 1..=BATCH {
                bytes.extend([0x32, 6, 0, 1, b't']);
                bytes.extend(u16::try_from(number).unwrap().to_be_bytes());
                bytes.push(b'x');
            }
            publisher.send(&bytes);
            for _ in 0..BATCH {
                publisher.next_bytes().unwrap();
            }
            for _ in 0..BATCH {
                let id = subscriber.next_publish().packet_id.unwrap();
                match held {
                    None => held = Some(id),
                    Some(held) => {
                        assert_ne!(id, held, "batch {batch}");
                        subscriber.acknowledge(AcknowledgementKind::Puback, id);
                    }
                }
            }
        }
    }
}

#[test]
fn a_deny_rule_holds_for_names_that_no_filter_can_hold() {
    let gateway = TestGateway::open()
        .with("[[gateway.topic_rule]]\neffect = \"deny\"\ntopic = \"devices/%c/secret\"")
        .start();
    let mut client = gateway.client(V5, "a/b");
    assert_eq!(client.publish_at_least_once("devices/a/b/secret", "x"), 0x87);
    let mut client = gateway.client(V5, "plain");
    assert_eq!(client.publish_at_least_once("devices/plain/secret", "x"), 0x87);
    assert_eq!(client.publish_at_least_once("devices/plain/open", "x"), 0x10);
}
