//! Chapters 3.1.2.5 and 3.1.2.10 of the standard: wills and keep alive.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use portreeve_mqtt::{Connect, Packet, PropertiesBuf, Property, ProtocolVersion, Will};
use portreeve_tests::client::{connect, qos, will};
use portreeve_tests::wire::{BOTH, Wire, expect_end, lose, resume, subscribe};
use portreeve_tests::{TestGateway, V5, V311};

fn with_will<'a>(version: ProtocolVersion, client_id: &'a str, topic: &'a str) -> Connect<'a> {
    Connect { will: Some(will(topic, "gone")), ..connect(version, client_id) }
}

// MQTT-3.1.2-7 of 5.0.
#[test]
fn a_will_is_published_however_the_connection_ends_mqtt_3_1_2_8() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("wills", 2);
    for version in BOTH {
        for (number, level) in [0, 1, 2, 0].into_iter().enumerate() {
            let mut dying = gateway.dial();
            dying.connect_with(&Connect {
                will: Some(Will { qos: qos(level), ..will("wills", "gone") }),
                ..connect(version, "dying")
            });
            let taker = match number {
                0 => {
                    drop(dying);
                    None
                }
                1 => {
                    dying.send_hex("c100");
                    None
                }
                2 => {
                    // A second CONNECT.
                    dying.send(&Wire::connect(version, 2).string("dying").packet());
                    None
                }
                _ => Some(gateway.client(version, "dying")),
            };
            let message = watcher.next_publish();
            assert_eq!(
                (message.text().as_str(), message.qos, message.retain),
                ("gone", level, false),
                "{version:?} {number}"
            );
            drop(taker);
        }
    }
    watcher.expect_silence();
}

#[test]
fn silence_beyond_the_keep_alive_is_a_lost_connection_mqtt_3_1_2_24_mqtt_3_1_2_22() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("wills/#", 0);
    let mut without = gateway.client(V311, "without");
    let begin = Instant::now();
    let mut silent = BOTH.map(|version| {
        let mut client = gateway.dial();
        let topic = format!("wills/{version:?}");
        client.connect_with(&Connect {
            keep_alive: 1,
            ..with_will(version, &format!("{version:?}"), &topic)
        });
        client
    });
    for (client, version) in silent.iter_mut().zip(BOTH) {
        expect_end(client, version, &[0x8d], "silence");
        let elapsed = begin.elapsed();
        let bounds = Duration::from_millis(1400)..Duration::from_secs(3);
        assert!(bounds.contains(&elapsed), "{version:?}: {elapsed:?}");
    }
    let mut wills = [watcher.next_publish().topic, watcher.next_publish().topic];
    wills.sort();
    assert_eq!(wills, ["wills/V311", "wills/V5"]);
    without.ping();
}

#[test]
fn the_keep_alive_of_the_server_counts_if_it_tells_one_mqtt_3_2_2_22() {
    let begin = Instant::now();
    let gateway = TestGateway::open().with_limit("keep_alive_max", "1").start();
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_packet(&Packet::Connect(Connect { keep_alive: 60, ..connect(V5, "client") }));
    assert!(client.next(|packet| format!("{packet:?}").contains("ServerKeepAlive(1)")));
    assert_eq!(client.expect_close(), "e0018d");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_packet(&Packet::Connect(Connect { keep_alive: 60, ..connect(V5, "client") }));
    assert!(!client.next(|packet| format!("{packet:?}").contains("ServerKeepAlive")));
}

#[test]
fn a_will_is_published_once_mqtt_3_1_2_10() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    for version in BOTH {
        let id = format!("{version:?}");
        let expiry: PropertiesBuf = match version {
            V5 => [Property::SessionExpiryInterval(60)].into_iter().collect(),
            _ => PropertiesBuf::new(),
        };
        let mut dying = gateway.dial();
        dying.connect_with(&Connect {
            clean_start: false,
            properties: expiry.as_properties(),
            ..with_will(version, &id, "will")
        });
        drop(dying);
        assert_eq!(watcher.next_publish().topic, "will");
        let (again, was_there) = resume(&gateway, version, &id);
        assert!(was_there);
        lose(&gateway, again, 1);
        // MQTT-3.1.2-12 of 3.1.1: whoever has no will leaves none.
        let nobody = gateway.client(version, "nobody");
        lose(&gateway, nobody, 1);
        gateway.client(version, "last").publish("last", "");
        assert_eq!(watcher.next_publish().topic, "last");
    }
}

#[test]
fn a_will_is_retained_if_it_says_so_mqtt_3_1_2_16_and_17_mqtt_3_1_2_14_and_15() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.send(&subscribe(V5, 1, &[("will/#", 0x08)]));
    assert_eq!(watcher.next_hex(), "9004000100 00".replace(' ', ""));
    for version in BOTH {
        for retain in [false, true] {
            let topic = format!("will/{version:?}/{retain}");
            let mut dying = gateway.dial();
            dying.connect_with(&Connect {
                will: Some(Will { retain, ..will(&topic, "gone") }),
                ..connect(version, "dying")
            });
            drop(dying);
            assert_eq!(watcher.next_publish().retain, retain, "retain as published");
            let mut late = gateway.client(version, "late");
            late.subscribe(&topic, 0);
            if retain {
                let message = late.next_publish();
                assert_eq!((message.text().as_str(), message.retain), ("gone", true));
            }
            late.publish(&topic, "after");
            let next = late.next_publish();
            assert_eq!((next.text().as_str(), next.retain), ("after", false));
            assert_eq!(watcher.next_publish().text(), "after");
        }
    }
}

// MQTT-3.1.2-10 of 5.0: a will with delay is removed by DISCONNECT.
#[test]
fn a_will_comes_when_its_session_ends_before_its_delay_mqtt_3_1_2_8() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    let delay: PropertiesBuf = [Property::WillDelayInterval(3600)].into_iter().collect();
    let dying = |expiry| {
        let expiry: PropertiesBuf = [Property::SessionExpiryInterval(expiry)].into_iter().collect();
        let mut client = gateway.dial();
        client.connect_with(&Connect {
            properties: expiry.as_properties(),
            will: Some(Will { properties: delay.as_properties(), ..will("will", "gone") }),
            ..connect(V5, "dying")
        });
        client
    };
    // The session ends with its connection.
    drop(dying(0));
    assert_eq!(watcher.next_publish().topic, "will");
    // The session ends one second later.
    let begin = Instant::now();
    drop(dying(1));
    assert_eq!(watcher.next_publish().topic, "will");
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    // A clean start ends the session.
    let lost = dying(3600);
    lose(&gateway, lost, 1);
    let client = gateway.client(V5, "dying");
    assert_eq!(watcher.next_publish().topic, "will");
    client.disconnect();
    // DISCONNECT removes it, although the session stays.
    dying(3600).disconnect();
    gateway.client(V5, "dying").publish("last", "");
    assert_eq!(watcher.next_publish().topic, "last");
}

#[test]
fn the_properties_of_a_will_are_published_in_their_order_mqtt_3_1_3_10() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("will", 0);
    let given = [
        Property::UserProperty(("z", "1")),
        Property::PayloadFormatIndicator(1),
        Property::UserProperty(("a", "2")),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("answers"),
        Property::CorrelationData(&[0, 255]),
        Property::UserProperty(("z", "3")),
        Property::UserProperty(("", "")),
    ];
    let properties: PropertiesBuf = given.into_iter().collect();
    let mut dying = gateway.dial();
    dying.connect_with(&Connect {
        will: Some(Will { properties: properties.as_properties(), ..will("will", "gone") }),
        ..connect(V5, "dying")
    });
    drop(dying);
    let expected: Vec<String> = given.iter().map(|property| format!("{property:?}")).collect();
    assert_eq!(watcher.next_publish().properties, expected);
}

#[test]
fn a_takeover_publishes_the_will_unless_it_may_wait_mqtt_3_1_2_8_mqtt_3_1_3_9() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("#", 0);
    for (clean_start, seconds, is_published) in
        [(true, 0, true), (true, 60, true), (false, 0, true), (false, 60, false)]
    {
        let expiry: PropertiesBuf = [Property::SessionExpiryInterval(600)].into_iter().collect();
        let delay: PropertiesBuf = [Property::WillDelayInterval(seconds)].into_iter().collect();
        let mut first = gateway.dial();
        first.connect_with(&Connect {
            properties: expiry.as_properties(),
            will: Some(Will { properties: delay.as_properties(), ..will("will", "gone") }),
            ..connect(V5, "client")
        });
        let mut second = gateway.dial();
        second.connect_with(&Connect { clean_start, ..connect(V5, "client") });
        expect_end(&mut first, V5, &[0x8e], "takeover");
        if is_published {
            assert_eq!(watcher.next_publish().topic, "will", "{clean_start} {seconds}");
        }
        second.publish("last", "");
        assert_eq!(watcher.next_publish().topic, "last", "{clean_start} {seconds}");
        second.disconnect();
    }
}
