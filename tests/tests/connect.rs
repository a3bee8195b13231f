//! CONNECT and what follows: chapter 3.1 and 3.2, sessions, keep alive, wills.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use portreeve_mqtt::{Connect, PropertiesBuf, Property, Will};
use portreeve_tests::client::{connect, qos, will};
use portreeve_tests::{TestGateway, V5, V311};

#[test]
fn the_first_packet_must_be_connect_mqtt_3_1_0_1() {
    let gateway = TestGateway::open().start();
    for packet in ["c000", "e000", "300300016178", "820600010001611100"] {
        let mut client = gateway.dial();
        client.send_hex(packet);
        assert_eq!(client.expect_close(), "", "{packet}");
    }
}

#[test]
fn a_second_connect_is_a_protocol_error_mqtt_3_1_0_2() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V5, "twice");
    client.send_hex("101200044d5154540502000a0000057477696365");
    assert_eq!(client.expect_close(), "e00182");
    let mut client = gateway.client(V311, "twice");
    client.send_hex("101100044d5154540402000a00057477696365");
    assert_eq!(client.expect_close(), "");
}

#[test]
fn another_protocol_level_is_told_so_mqtt_3_1_2_2() {
    let gateway = TestGateway::open().start();
    let mut newer = gateway.dial();
    newer.speak(V5);
    newer.send_hex("101000044d5154540602000a000003616263");
    let answer = newer.expect_close();
    assert!(answer.starts_with("20") && answer[4..].starts_with("0084"), "{answer}");
    let mut older = gateway.dial();
    older.send_hex("100f00044d5154540302000a0003616263");
    assert_eq!(older.expect_close(), "20020001");
}

#[test]
fn mqtt_3_1_is_served_as_3_1_1() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.send_hex("1011 0006 4d5149736470 03 02 000a 0003 616263");
    assert_eq!(client.next_hex(), "20020000");
    assert_eq!(client.subscribe("a", 1), 1);
}

#[test]
fn a_malformed_connect_is_answered_where_mqtt_5_allows_it() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_hex("101000044d5154540503000a000003616263");
    let answer = client.expect_close();
    assert!(answer.starts_with("20") && answer[4..].starts_with("0081"), "{answer}");
    let mut client = gateway.dial();
    client.send_hex("100f00044d5154540403000a0003616263");
    assert_eq!(client.expect_close(), "");
}

#[test]
fn an_empty_client_identifier_gets_one_mqtt_3_1_3_6() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.send_hex("100d00044d51545405020000000000");
    client.speak(V5);
    let assigned = client.next(|packet| format!("{packet:?}"));
    assert!(assigned.contains("AssignedClientIdentifier(\"auto-"), "{assigned}");
    let mut client = gateway.dial();
    client.send_hex("100c00044d515454040200000000");
    assert_eq!(client.next_hex(), "20020000");
}

#[test]
fn an_empty_client_identifier_without_clean_session_is_refused_mqtt_3_1_3_8() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.send_hex("100c00044d515454040000000000");
    assert_eq!(client.expect_close(), "20020002");
}

#[test]
fn connect_must_come_in_time() {
    let gateway = TestGateway::open().with_limit("connect_timeout", "\"200ms\"").start();
    let begin = Instant::now();
    let mut silent = gateway.dial();
    let mut slow = gateway.dial();
    slow.send_hex("100f0004");
    assert_eq!((silent.expect_close(), slow.expect_close()), (String::new(), String::new()));
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert_eq!(gateway.count("connections_refused"), 2);
}

#[test]
fn packets_behind_connect_are_handled_mqtt_3_1_4_5() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.send_hex("100f00044d51545404020000 0003616263 8206 0001 0001 61 00 c000");
    assert_eq!(client.next_hex(), "20020000");
    assert_eq!(client.next_hex(), "9003000100");
    assert_eq!(client.next_hex(), "d000");
}

#[test]
fn silence_beyond_the_keep_alive_closes_mqtt_3_1_2_22() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.connect_with(&Connect { keep_alive: 1, ..connect(V5, "silent") });
    let begin = Instant::now();
    assert_eq!(client.expect_close(), "e0018d");
    let elapsed = begin.elapsed();
    assert!(
        elapsed >= Duration::from_millis(1400) && elapsed < Duration::from_secs(4),
        "{elapsed:?}"
    );
    assert_eq!(gateway.count("keep_alive_timeouts"), 1);
}

#[test]
fn pings_keep_a_connection_alive() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.dial();
    client.connect_with(&Connect { keep_alive: 1, ..connect(V311, "pinging") });
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(700));
        client.ping();
    }
}

#[test]
fn the_same_client_identifier_takes_over_mqtt_3_1_4_3() {
    let gateway = TestGateway::open().start();
    for (version, said) in [(V5, "e0018e"), (V311, "")] {
        let mut first = gateway.client(version, "same-client");
        let mut second = gateway.client(V5, "same-client");
        assert_eq!(first.expect_close(), said);
        second.ping();
    }
}

#[test]
fn a_session_outlives_its_connection_as_long_as_it_said() {
    let gateway = TestGateway::open().start();
    let mut expiry = PropertiesBuf::new();
    expiry.push(Property::SessionExpiryInterval(1)).unwrap();
    let lasting = Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        ..connect(V5, "lasting")
    };
    let mut client = gateway.dial();
    assert!(!client.connect_with(&lasting));
    client.subscribe("queued", 1);
    drop(client);
    gateway.wait_until("it is noticed", |gateway| {
        gateway.server().metrics().connections.load(std::sync::atomic::Ordering::Relaxed) == 0
    });
    let mut publisher = gateway.client(V311, "publisher");
    publisher.publish_at_least_once("queued", "kept");
    let mut client = gateway.dial();
    assert!(client.connect_with(&lasting), "the session is present");
    let message = client.next_publish();
    assert_eq!((message.text().as_str(), message.qos), ("kept", 1));
    drop(client);
    gateway.wait_until("the session ends", |gateway| gateway.server().session_count() == 1);
    let mut client = gateway.dial();
    assert!(!client.connect_with(&lasting), "the session is over");
}

#[test]
fn a_clean_session_of_3_1_1_ends_with_its_connection_mqtt_3_1_2_6() {
    let gateway = TestGateway::open().start();
    let lasting = Connect { clean_start: false, ..connect(V311, "lasting") };
    let mut client = gateway.dial();
    assert!(!client.connect_with(&lasting));
    client.disconnect();
    let mut client = gateway.dial();
    assert!(client.connect_with(&lasting));
    client.disconnect();
    let mut client = gateway.dial();
    assert!(!client.connect_with(&connect(V311, "lasting")));
    client.disconnect();
    gateway.wait_until("the session ends", |gateway| gateway.server().session_count() == 0);
}

#[test]
fn a_will_is_published_when_the_connection_is_lost_mqtt_3_1_2_8() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("wills/#", 0);
    for version in [V311, V5] {
        let mut dying = gateway.dial();
        dying.connect_with(&Connect {
            will: Some(will("wills/lost", "gone")),
            ..connect(version, "dying")
        });
        drop(dying);
        assert_eq!(watcher.next_publish().text(), "gone");
    }
    let mut faulty = gateway.dial();
    faulty.connect_with(&Connect {
        will: Some(will("wills/fault", "broke")),
        ..connect(V5, "faulty")
    });
    faulty.send_hex("f100");
    assert_eq!(watcher.next_publish().text(), "broke");
}

#[test]
fn disconnect_discards_the_will_but_0x04_does_not_mqtt_3_14_4_3() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("wills/#", 0);
    for (said, is_published) in [("e000", false), ("e00104", true)] {
        let mut leaving = gateway.dial();
        leaving.connect_with(&Connect {
            will: Some(will("wills/left", "left")),
            ..connect(V5, "leaving")
        });
        leaving.send_hex(said);
        leaving.expect_close();
        if is_published {
            assert_eq!(watcher.next_publish().text(), "left");
        } else {
            watcher.expect_silence();
        }
    }
}

#[test]
fn a_delayed_will_waits_and_a_new_connection_calls_it_off_mqtt_3_1_3_9() {
    let gateway = TestGateway::open().start();
    let mut watcher = gateway.client(V5, "watcher");
    watcher.subscribe("wills/#", 0);
    let mut delay = PropertiesBuf::new();
    delay.push(Property::WillDelayInterval(1)).unwrap();
    let mut expiry = PropertiesBuf::new();
    expiry.push(Property::SessionExpiryInterval(60)).unwrap();
    let delayed = Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        will: Some(Will {
            properties: delay.as_properties(),
            qos: qos(1),
            ..will("wills/late", "late")
        }),
        ..connect(V5, "delayed")
    };
    let mut client = gateway.dial();
    client.connect_with(&delayed);
    drop(client);
    watcher.expect_silence();
    let mut again = gateway.dial();
    assert!(again.connect_with(&delayed));
    std::thread::sleep(Duration::from_millis(1600));
    watcher.expect_silence();
    drop(again);
    let begin = Instant::now();
    assert_eq!(watcher.next_publish().text(), "late");
    assert!(begin.elapsed() >= Duration::from_millis(900));
}

#[test]
fn a_shutdown_says_0x8b_and_ends_in_time() {
    let gateway = TestGateway::open().start();
    let mut new = gateway.client(V5, "new");
    let mut old = gateway.client(V311, "old");
    let waiting = gateway.dial();
    assert!(gateway.shut_down(), "every connection ends");
    assert_eq!((new.expect_close().as_str(), old.expect_close().as_str()), ("e0018b", ""));
    drop(waiting);
}

#[test]
fn a_client_cannot_take_the_session_of_another_device() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let as_device = |name| Connect { user_name: Some(name), ..connect(V5, "shared-id") };
    let mut owner = gateway.dial();
    owner.connect_with(&as_device("device-1"));
    let mut thief = gateway.dial();
    assert_eq!(thief.connect_code(&as_device("device-2")), 0x85);
    owner.ping();
}
