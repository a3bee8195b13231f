//! Every limit: what happens at it, and the counter that tells.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use portreeve_mqtt::{Connect, PropertiesBuf, Property};
use portreeve_tests::binary::{Process, binary};
use portreeve_tests::client::{Client, connect};
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::{TestGateway, V5, V311};

fn counted(gateway: &RunningGateway, name: &str) {
    gateway.wait_until(name, |gateway| gateway.count(name) > 0);
}

#[test]
fn connections_max_closes_the_next_connection_and_a_place_becomes_free() {
    for limit in ["of the gateway", "of the process"] {
        let gateway = match limit {
            "of the gateway" => TestGateway::open().with_limit("connections_max", "2"),
            _ => TestGateway::open().with("[limits]\nconnections_max = 2"),
        }
        .start();
        let first = gateway.client(V5, "first");
        let _second = gateway.client(V5, "second");
        assert_eq!(gateway.dial().expect_close(), "", "{limit}");
        counted(&gateway, "connections_refused");
        first.disconnect();
        gateway.wait_until("a place is free", |gateway| {
            gateway.server().metrics().connections.load(std::sync::atomic::Ordering::Relaxed) < 2
        });
        let _third = gateway.client(V5, "third");
    }
}

#[test]
fn connections_per_address_max_closes_the_next_connection_of_that_address() {
    let gateway = TestGateway::open().with_limit("connections_per_address_max", "2").start();
    let first = gateway.client(V5, "first");
    let _second = gateway.client(V5, "second");
    assert_eq!(gateway.dial().expect_close(), "");
    counted(&gateway, "connections_refused_address");
    drop(first);
    gateway.wait_until("a place is free", |gateway| {
        gateway.server().metrics().connections.load(std::sync::atomic::Ordering::Relaxed) < 2
    });
    let _third = gateway.client(V5, "third");
}

#[test]
fn connection_rate_max_lets_the_others_wait() {
    let gateway = TestGateway::open().with_limit("connection_rate_max", "10").start();
    let begin = Instant::now();
    for number in 0..15 {
        gateway.client(V5, &format!("client-{number}")).disconnect();
    }
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
    counted(&gateway, "connections_delayed");
}

#[test]
fn handshakes_max_lets_the_others_wait_until_one_is_decided() {
    let gateway = TestGateway::open()
        .with_limit("handshakes_max", "1")
        .with_limit("connect_timeout", "\"500ms\"")
        .start();
    // It says nothing, and holds the only place until its time is over.
    let silent = gateway.dial();
    std::thread::sleep(Duration::from_millis(50));
    let begin = Instant::now();
    let _client = gateway.client(V5, "client");
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    counted(&gateway, "handshakes_waited");
    counted(&gateway, "connect_timeouts");
    drop(silent);
}

#[test]
fn connect_timeout_closes_a_connection_whose_connect_does_not_end() {
    let gateway = TestGateway::open().with_limit("connect_timeout", "\"200ms\"").start();
    let mut client = gateway.dial();
    client.send_hex("1010 0004 4d51");
    assert_eq!(client.expect_close(), "");
    counted(&gateway, "connect_timeouts");
}

#[test]
fn a_packet_above_its_limit_is_refused_before_and_after_connect() {
    let gateway = TestGateway::open()
        .with_limit("connect_packet_bytes_max", "\"1KiB\"")
        .with_limit("packet_bytes_max", "\"2KiB\"")
        .start();
    let mut client = gateway.dial();
    client.send_hex("10 ff7f 0004 4d515454 05 02 0000");
    let answer = client.expect_close();
    assert!(answer.starts_with("20") && answer[4..].starts_with("0095"), "{answer}");
    gateway.wait_until("counted", |gateway| gateway.count("packets_too_large") == 1);
    let mut client = gateway.client(V5, "client");
    client.send_hex("30 ff7f 0001 74");
    assert_eq!(client.expect_close(), "e00195");
    gateway.wait_until("counted", |gateway| gateway.count("packets_too_large") == 2);
}

#[test]
fn in_flight_max_bounds_what_a_client_may_have_unreleased_mqtt_3_3_4_7() {
    let gateway = TestGateway::open().with_limit("in_flight_max", "3").start();
    let mut client = gateway.client(V5, "client");
    for id in 1..=4_u16 {
        client.publish_with("t", b"x", 2, false, Some(id), &PropertiesBuf::new());
    }
    assert!(client.expect_close().ends_with("e00193"));
    counted(&gateway, "quotas_exceeded");
}

#[test]
fn queued_messages_and_bytes_are_bounded_for_each_session() {
    for (key, value) in [("queued_messages_max", "5"), ("queued_bytes_max", "\"1KiB\"")] {
        let gateway = TestGateway::open().with_limit(key, value).start();
        let properties: PropertiesBuf =
            [Property::SessionExpiryInterval(100)].into_iter().collect();
        let lasting = Connect { properties: properties.as_properties(), ..connect(V5, "lasting") };
        let mut client = gateway.dial();
        client.connect_with(&lasting);
        client.subscribe("t", 1);
        client.disconnect();
        let mut publisher = gateway.client(V5, "publisher");
        for _ in 0..20 {
            publisher.publish_at_least_once("t", [b'x'; 100]);
        }
        assert!(gateway.count("messages_dropped_queue") >= 10, "{key}");
    }
}

#[test]
fn subscriptions_max_refuses_the_next_one_with_0x97() {
    let gateway = TestGateway::open().with_limit("subscriptions_max", "2").start();
    for (version, refusal) in [(V5, 0x97), (V311, 0x80)] {
        let mut client = gateway.client(version, "client");
        assert_eq!((client.subscribe("a", 0), client.subscribe("b", 0)), (0, 0));
        assert_eq!(client.subscribe("c", 0), refusal);
        assert_eq!(client.subscribe("a", 1), 1, "one that is there may change");
    }
    counted(&gateway, "subscriptions_refused");
}

#[test]
fn filters_max_ends_a_connection_that_asks_for_more_at_once() {
    let gateway = TestGateway::open().with_limit("filters_max", "2").start();
    let mut client = gateway.client(V5, "client");
    client.send_hex("820f 0001 00 0001 61 00 0001 62 00 0001 63 00");
    assert_eq!(client.expect_close(), "e00197");
    counted(&gateway, "quotas_exceeded");
}

#[test]
fn topic_levels_max_and_topic_bytes_max_refuse_filters_and_names() {
    for (key, value) in [("topic_levels_max", "3"), ("topic_bytes_max", "6")] {
        let gateway = TestGateway::open().with_limit(key, value).start();
        let mut client = gateway.client(V5, "client");
        assert_eq!(client.subscribe("a/b/c/d", 0), 0x8f, "{key}");
        assert_eq!(client.subscribe("a/b/c", 0), 0, "{key}");
        client.publish("a/b/c", "fits");
        assert_eq!(client.next_publish().text(), "fits");
        client.publish("a/b/c/d", "x");
        assert_eq!(client.expect_close(), "e00190", "{key}");
        gateway.wait_until(key, |gateway| gateway.count("topics_refused") == 2);
    }
}

#[test]
fn retained_limits_refuse_another_topic_and_take_the_old_message_away() {
    for limits in ["retained_messages_max = 2", "retained_bytes_max = 400"] {
        // `$SYS` has retained messages of its own, which come later than these.
        let gateway = TestGateway::open()
            .with(&format!("[limits]\n{limits}"))
            .with_sys_interval("1h")
            .start();
        let mut publisher = gateway.client(V5, "publisher");
        let before = gateway.count("retained_refused");
        for topic in ["r/1", "r/2", "r/3", "r/4"] {
            publisher.publish_retained(topic, "x");
        }
        publisher.ping();
        gateway.wait_until(limits, |gateway| gateway.count("retained_refused") > before);
    }
}

#[test]
fn publish_rate_max_refuses_with_0x97_drops_qos_0_and_slows_3_1_1_down() {
    let gateway = TestGateway::open().with_limit("publish_rate_max", "20").start();
    let mut client = gateway.client(V5, "device");
    let codes: Vec<u8> = (0..40).map(|_| client.publish_at_least_once("t", "x")).collect();
    assert!(codes[..20].iter().all(|code| *code == 0x10), "one second's worth: {codes:?}");
    assert!(codes.contains(&0x97), "{codes:?}");
    counted(&gateway, "publishes_over_rate");

    let mut subscriber = gateway.client(V5, "subscriber");
    subscriber.subscribe("q0", 0);
    let mut client = gateway.client(V311, "other-device");
    for _ in 0..40 {
        client.publish("q0", "x");
    }
    client.ping();
    let mut got = 0;
    subscriber.publish("q0", "end");
    while subscriber.next_publish().text() != "end" {
        got += 1;
    }
    assert!((20..40).contains(&got), "{got} of 40");

    let mut client = gateway.client(V311, "third-device");
    let begin = Instant::now();
    for _ in 0..30 {
        client.publish_at_least_once("t", "x");
    }
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
}

#[test]
fn out_of_file_descriptors_accepting_pauses_and_recovers() {
    let mut command = Command::new("sh");
    let run = format!(
        "ulimit -n 60; exec {} run --listen 127.0.0.1:0 --verification open",
        binary().display()
    );
    let mut gateway = Process::start_by(command.args(["-c", &run])).unwrap();
    let mut early = Client::dial(gateway.address);
    early.connect(V5, "early");
    let many: Vec<Client> = (0..100).map(|_| Client::dial(gateway.address)).collect();
    gateway.wait_for_log("accepting pauses");
    // Who is connected is served.
    early.ping();
    assert!(gateway.is_alive());
    drop(many);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut late = Client::dial(gateway.address);
        if late.try_connect(V5, "late") {
            break;
        }
        assert!(Instant::now() < deadline, "accepting does not go on");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_message_above_queued_bytes_max_takes_no_other_one_away() {
    let gateway = TestGateway::open().with_limit("queued_bytes_max", "\"4KiB\"").start();
    let properties: PropertiesBuf = [Property::SessionExpiryInterval(100)].into_iter().collect();
    let lasting = Connect {
        clean_start: false,
        properties: properties.as_properties(),
        ..connect(V5, "lasting")
    };
    let mut client = gateway.dial();
    client.connect_with(&lasting);
    client.subscribe("t", 1);
    client.disconnect();
    let mut publisher = gateway.client(V5, "publisher");
    for _ in 0..3 {
        publisher.publish_at_least_once("t", "small");
    }
    publisher.publish_at_least_once("t", [b'x'; 5000]);
    let mut client = gateway.dial();
    assert!(client.connect_with(&lasting));
    for _ in 0..3 {
        assert_eq!(client.next_publish().text(), "small");
    }
    client.expect_silence();
}

#[test]
fn a_subscriber_that_holds_every_identifier_stops_nobody() {
    let gateway = TestGateway::open()
        .with_limit("in_flight_max", "65535")
        .with_limit("mailbox_bytes_max", "\"64MiB\"")
        .start();
    let mut silent = gateway.client(V5, "silent");
    silent.subscribe("t", 1);
    let mut publisher = gateway.client(V311, "publisher");
    let mut batch = Vec::new();
    for id in 1..=500_u16 {
        batch.extend([0x32, 6, 0, 1, b't']);
        batch.extend(id.to_be_bytes());
        batch.push(b'x');
    }
    for _ in 0..135 {
        publisher.send(&batch);
        for _ in 0..500 {
            publisher.next_bytes().unwrap();
        }
    }
    let mut other = gateway.client(V5, "other");
    other.ping();
}
