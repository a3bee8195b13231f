//! PUBLISH, SUBSCRIBE and delivery: chapters 3.3, 3.8, 4.3, 4.7 and 4.8.
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
    AcknowledgementKind, Connect, PropertiesBuf, Property, RetainHandling, SubscriptionOptions,
};
use portreeve_tests::client::{connect, qos};
use portreeve_tests::{TestGateway, V5, V311};

#[test]
fn qos_is_the_lower_of_publish_and_subscription_mqtt_3_8_4_8() {
    let gateway = TestGateway::open().start();
    for (version, publisher_version) in [(V311, V5), (V5, V311)] {
        for asked in 0..=2 {
            let mut subscriber = gateway.client(version, "subscriber");
            assert_eq!(subscriber.subscribe("t", asked), asked);
            let mut publisher = gateway.client(publisher_version, "publisher");
            for published in 0..=2 {
                let id = (published > 0).then_some(u16::from(published));
                publisher.publish_with("t", b"x", published, false, id, &PropertiesBuf::new());
                let message = subscriber.next_publish();
                assert_eq!(message.qos, asked.min(published));
                match message.qos {
                    1 => subscriber
                        .acknowledge(AcknowledgementKind::Puback, message.packet_id.unwrap()),
                    2 => {
                        let id = message.packet_id.unwrap();
                        subscriber.acknowledge(AcknowledgementKind::Pubrec, id);
                        assert_eq!(subscriber.next_hex(), format!("6202{id:04x}"));
                        subscriber.acknowledge(AcknowledgementKind::Pubcomp, id);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_qos_2_publish_is_delivered_once_however_often_it_comes_mqtt_4_3_3_10() {
    let gateway = TestGateway::open().start();
    let mut subscriber = gateway.client(V311, "subscriber");
    subscriber.subscribe("t", 0);
    let mut publisher = gateway.client(V311, "publisher");
    publisher.send_hex("3406 0001 74 0005 78");
    assert_eq!(publisher.next_hex(), "50020005");
    publisher.send_hex("3c06 0001 74 0005 78");
    assert_eq!(publisher.next_hex(), "50020005");
    publisher.send_hex("62020005");
    assert_eq!(publisher.next_hex(), "70020005");
    publisher.send_hex("62020005");
    assert_eq!(publisher.next_hex(), "70020005");
    assert_eq!(subscriber.next_publish().text(), "x");
    subscriber.expect_silence();
    publisher.send_hex("3406 0001 74 0005 79");
    assert_eq!(publisher.next_hex(), "50020005");
    assert_eq!(subscriber.next_publish().text(), "y");
}

#[test]
fn an_unknown_pubrel_is_answered_0x92_on_mqtt_5() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    client.send_hex("62020009");
    assert_eq!(client.next_hex(), "7003000992");
    client.send_hex("50020009");
    assert_eq!(client.next_hex(), "6203000992");
}

#[test]
fn what_was_not_acknowledged_comes_again_with_dup_mqtt_4_4_0_1() {
    let gateway = TestGateway::open().start();
    let lasting = Connect { clean_start: false, ..connect(V311, "lasting") };
    let mut client = gateway.dial();
    client.connect_with(&lasting);
    client.subscribe("t/#", 2);
    let mut publisher = gateway.client(V5, "publisher");
    for (topic, level) in [("t/1", 1), ("t/2", 2), ("t/3", 1)] {
        publisher.publish_with(topic, b"x", level, false, Some(9), &PropertiesBuf::new());
        let _acknowledgement = publisher.next_hex();
        if level == 2 {
            publisher.acknowledge(AcknowledgementKind::Pubrel, 9);
            let _pubcomp = publisher.next_hex();
        }
    }
    let first: Vec<_> = (0..3).map(|_| client.next_publish()).collect();
    let released = first[1].packet_id.unwrap();
    client.acknowledge(AcknowledgementKind::Pubrec, released);
    assert_eq!(client.next_hex(), format!("6202{released:04x}"));
    drop(client);
    let mut client = gateway.dial();
    assert!(client.connect_with(&lasting));
    let one = client.next_publish();
    assert_eq!((one.packet_id, one.dup, one.topic.as_str()), (first[0].packet_id, true, "t/1"));
    assert_eq!(client.next_hex(), format!("6202{released:04x}"));
    let three = client.next_publish();
    assert_eq!(
        (three.packet_id, three.dup, three.topic.as_str()),
        (first[2].packet_id, true, "t/3")
    );
}

#[test]
fn receive_maximum_is_kept_and_what_waits_follows_in_order_mqtt_3_3_4_9() {
    let gateway = TestGateway::open().start();
    let mut two = PropertiesBuf::new();
    two.push(Property::ReceiveMaximum(2)).unwrap();
    let mut client = gateway.dial();
    client.connect_with(&Connect { properties: two.as_properties(), ..connect(V5, "two") });
    client.subscribe("t", 1);
    let mut publisher = gateway.client(V311, "publisher");
    for number in 0..5 {
        publisher.publish_at_least_once("t", number.to_string());
    }
    let (a, b) = (client.next_publish(), client.next_publish());
    client.expect_silence();
    client.acknowledge(AcknowledgementKind::Puback, a.packet_id.unwrap());
    let c = client.next_publish();
    client.expect_silence();
    client.acknowledge(AcknowledgementKind::Puback, b.packet_id.unwrap());
    client.acknowledge(AcknowledgementKind::Puback, c.packet_id.unwrap());
    let rest = [client.next_publish().text(), client.next_publish().text()];
    assert_eq!((a.text(), b.text(), c.text()), ("0".to_owned(), "1".to_owned(), "2".to_owned()));
    assert_eq!(rest, ["3", "4"]);
}

#[test]
fn a_packet_larger_than_the_client_takes_is_dropped_for_it_mqtt_3_1_2_24() {
    let gateway = TestGateway::open().start();
    let mut small = PropertiesBuf::new();
    small.push(Property::MaximumPacketSize(40)).unwrap();
    let mut client = gateway.dial();
    client.connect_with(&Connect { properties: small.as_properties(), ..connect(V5, "small") });
    client.subscribe("t", 1);
    let mut publisher = gateway.client(V311, "publisher");
    publisher.publish_at_least_once("t", "x".repeat(100));
    publisher.publish_at_least_once("t", "fits");
    assert_eq!(client.next_publish().text(), "fits");
    assert_eq!(gateway.count("messages_dropped_too_large"), 1);
}

#[test]
fn wildcards_match_and_dollar_topics_are_apart() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    for filter in ["a/+/c", "b/#", "+/plus"] {
        client.subscribe(filter, 0);
    }
    let mut publisher = gateway.client(V311, "publisher");
    for topic in ["a/b", "a/b/c/d", "a/b/c", "b", "b/x/y", "/plus", "x/plus", "x/y/plus", "$x/plus"]
    {
        publisher.publish(topic, topic);
    }
    let received: Vec<String> = (0..5).map(|_| client.next_publish().topic).collect();
    assert_eq!(received, ["a/b/c", "b", "b/x/y", "/plus", "x/plus"]);
    client.expect_silence();
}

#[test]
fn overlapping_subscriptions_deliver_once_with_every_identifier() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    client.subscribe_with("a/#", SubscriptionOptions::with_qos(qos(0)), Some(11));
    client.subscribe_with("a/+", SubscriptionOptions::with_qos(qos(1)), Some(12));
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_at_least_once("a/b", "x");
    let mut message = client.next_publish();
    message.properties.sort();
    assert_eq!(message.qos, 1);
    assert_eq!(message.properties, ["SubscriptionIdentifier(11)", "SubscriptionIdentifier(12)"]);
    client.expect_silence();
}

#[test]
fn unsubscribe_ends_deliveries_and_tells_what_was_there_mqtt_3_10_4_1() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("t", 0);
    client.send_hex("a209 0005 00 0001 74 0001 75");
    assert_eq!(client.next_hex(), "b0050005000011");
    let mut publisher = gateway.client(V5, "publisher");
    assert_eq!(publisher.publish_at_least_once("t", "x"), 0x10, "nobody subscribes");
    client.expect_silence();
    let mut old = gateway.client(V311, "old");
    old.send_hex("a205 0005 0001 74");
    assert_eq!(old.next_hex(), "b0020005");
}

#[test]
fn properties_are_forwarded_unaltered_and_in_order_mqtt_3_3_2_17() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("t", 0);
    let given = [
        Property::UserProperty(("z", "1")),
        Property::ContentType("text/plain"),
        Property::PayloadFormatIndicator(1),
        Property::ResponseTopic("answers"),
        Property::UserProperty(("a", "2")),
        Property::CorrelationData(&[0, 255]),
        Property::UserProperty(("z", "3")),
    ];
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_with("t", b"x", 0, false, None, &given.into_iter().collect());
    let expected: Vec<String> = given.iter().map(|property| format!("{property:?}")).collect();
    assert_eq!(client.next_publish().properties, expected);
}

#[test]
fn a_topic_alias_stands_for_its_topic_and_is_not_forwarded_mqtt_3_3_2_7() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("t", 0);
    let mut publisher = gateway.client(V5, "publisher");
    publisher.send_hex("3008 0001 74 03 230002 31");
    publisher.send_hex("3007 0000 03 230002 32");
    let (first, second) = (client.next_publish(), client.next_publish());
    assert_eq!((first.text().as_str(), second.text().as_str()), ("1", "2"));
    assert!(second.topic == "t" && second.properties.is_empty(), "{second:?}");
    publisher.send_hex("3007 0000 03 230003 33");
    assert_eq!(publisher.expect_close(), "e00182");
    let mut publisher = gateway.client(V5, "publisher");
    publisher.send_hex("3008 0001 74 03 23ffff 31");
    assert_eq!(publisher.expect_close(), "e00194");
}

#[test]
fn retained_messages_come_first_with_the_flag_and_end_with_an_empty_payload_mqtt_3_3_1_5() {
    let gateway = TestGateway::open().start();
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_retained("r/1", "one");
    publisher.publish_retained("r/2", "two");
    publisher.publish_retained("r/1", "one again");
    publisher.ping();
    let mut client = gateway.client(V311, "client");
    client.subscribe("r/+", 0);
    let mut kept = [client.next_publish(), client.next_publish()];
    kept.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!((kept[0].text().as_str(), kept[0].retain), ("one again", true));
    assert_eq!((kept[1].text().as_str(), kept[1].retain), ("two", true));
    publisher.publish_retained("r/1", "live");
    assert!(!client.next_publish().retain, "a live message has no flag");
    publisher.publish_retained("r/1", "");
    assert_eq!(client.next_publish().text(), "");
    let mut late = gateway.client(V5, "late");
    late.subscribe("r/1", 0);
    late.expect_silence();
}

#[test]
fn retain_options_of_mqtt_5_are_obeyed() {
    let gateway = TestGateway::open().start();
    let mut publisher = gateway.client(V5, "publisher");
    publisher.publish_retained("r", "kept");
    publisher.ping();
    let mut client = gateway.client(V5, "client");
    let options = |retain_handling, retain_as_published, no_local| SubscriptionOptions {
        retain_handling,
        retain_as_published,
        no_local,
        ..SubscriptionOptions::with_qos(qos(0))
    };
    client.subscribe_with("r", options(RetainHandling::DoNotSend, true, false), None);
    client.expect_silence();
    client.subscribe_with("r", options(RetainHandling::SendIfNew, true, false), None);
    client.expect_silence();
    client.subscribe_with("r", options(RetainHandling::Send, true, false), None);
    assert!(client.next_publish().retain);
    publisher.publish_retained("r", "new");
    assert!(client.next_publish().retain, "retain as published");
    client.subscribe_with("own", options(RetainHandling::Send, false, true), None);
    client.publish("own", "x");
    client.expect_silence();
}

#[test]
fn one_member_of_a_share_gets_a_message_and_they_take_turns() {
    let gateway = TestGateway::open().start();
    let mut members = [gateway.client(V5, "member-1"), gateway.client(V311, "member-2")];
    for member in &mut members {
        assert_eq!(member.subscribe("$share/group/jobs/#", 1), 1);
    }
    let mut other = gateway.client(V5, "other");
    other.subscribe("jobs/#", 0);
    let mut publisher = gateway.client(V5, "publisher");
    for number in 0..10 {
        publisher.publish("jobs/x", number.to_string());
    }
    publisher.ping();
    for member in &mut members {
        for _ in 0..5 {
            assert_eq!(member.next_publish().topic, "jobs/x");
        }
        member.expect_silence();
    }
    assert_eq!((0..10).map(|_| other.next_publish().text()).collect::<String>(), "0123456789");
    let [left, mut right] = members;
    left.disconnect();
    for number in 0..3 {
        publisher.publish("jobs/x", number.to_string());
        assert_eq!(right.next_publish().text(), number.to_string());
    }
}

#[test]
fn a_message_expires_and_the_rest_of_its_interval_is_told_mqtt_3_3_2_6() {
    let gateway = TestGateway::open().start();
    let mut publisher = gateway.client(V5, "publisher");
    let expiring =
        |seconds| [Property::MessageExpiryInterval(seconds)].into_iter().collect::<PropertiesBuf>();
    publisher.publish_with("short", b"x", 0, true, None, &expiring(1));
    publisher.publish_with("long", b"x", 0, true, None, &expiring(100));
    publisher.ping();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let mut client = gateway.client(V5, "client");
    client.subscribe("short", 0);
    client.subscribe("long", 0);
    let message = client.next_publish();
    assert_eq!(message.topic, "long");
    assert_eq!(message.properties, ["MessageExpiryInterval(98)"]);
}

#[test]
fn a_verifiers_permissions_hold_for_both_directions() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let script = b"publish up/%d/#\nsubscribe down/%d\nsubscribe c/%c/+";
    for (version, publish_refused, subscribe_refused) in [(V5, 0x87, 0x87), (V311, 0, 0x80)] {
        let mut client = gateway.dial();
        let login = Connect {
            user_name: Some("device-1"),
            password: Some(script),
            ..connect(version, "cid1")
        };
        client.connect_with(&login);
        assert_eq!(client.subscribe("down/device-1", 0), 0);
        assert_eq!(client.subscribe("c/cid1/x", 0), 0);
        for refused in
            ["down/device-2", "down/+", "#", "up/device-1/x", "c/cid1/#", "$share/g/down/device-2"]
        {
            assert_eq!(client.subscribe(refused, 0), subscribe_refused, "{refused}");
        }
        let mut watcher = gateway.dial();
        let all = Connect { user_name: Some("watcher"), ..connect(V5, "watcher") };
        watcher.connect_with(&all);
        watcher.subscribe("#", 0);
        assert_eq!(client.publish_at_least_once("up/device-2/x", "no"), publish_refused);
        client.publish_at_least_once("up/device-1/x", "yes");
        assert_eq!(watcher.next_publish().text(), "yes");
    }
    assert_eq!(gateway.count("publishes_denied"), 2);
}

#[test]
fn a_client_that_floods_its_own_packet_identifiers_is_stopped_mqtt_3_3_4_7() {
    let gateway = TestGateway::open().with_limit("in_flight_max", "3").start();
    let mut client = gateway.client(V5, "client");
    for id in 1..=3 {
        client.publish_with("t", b"x", 2, false, Some(id), &PropertiesBuf::new());
        assert_eq!(client.next_hex(), format!("5003{id:04x}10"));
    }
    client.publish_with("t", b"x", 2, false, Some(4), &PropertiesBuf::new());
    assert_eq!(client.expect_close(), "e00193");
}

#[test]
fn limits_of_topics_and_filters_answer_with_their_reason() {
    let gateway = TestGateway::open()
        .with_limit("topic_levels_max", "3")
        .with_limit("subscriptions_max", "2")
        .with_limit("packet_bytes_max", "256")
        .start();
    let mut client = gateway.client(V5, "client");
    assert_eq!(client.subscribe("a/b/c/d", 0), 0x8f);
    assert_eq!((client.subscribe("a", 0), client.subscribe("b", 0)), (0, 0));
    assert_eq!(client.subscribe("c", 0), 0x97);
    assert_eq!(client.subscribe("a", 1), 1, "a replaced subscription is not another one");
    client.publish("a/b/c/d", "x");
    assert_eq!(client.expect_close(), "e00190");
    let mut client = gateway.client(V5, "client");
    client.publish("a", "x".repeat(300));
    assert_eq!(client.expect_close(), "e00195");
}
