//! What peers throw at the gateway: garbage, floods, silence. Nothing leaks and others go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use portreeve_mqtt::PropertiesBuf;
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::{TestGateway, V5, V311};

const CONNECTIONS: u64 = 1_000;

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.next() % most).map(|_| self.next().to_le_bytes()[7]).collect()
    }
}

fn file_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn wait_for_idle(gateway: &RunningGateway) {
    gateway.wait_until("every connection ends", |gateway| {
        gateway.server().metrics().connections.load(Ordering::Relaxed) == 0
    });
}

/// What the gateway may say to garbage on MQTT 5 before it closes: a DISCONNECT or CONNACK with
/// an error.
fn assert_is_reasoned(said: &str) {
    assert!(said.is_empty() || said.starts_with("e001") || said.starts_with("20"), "{said}");
}

#[test]
fn a_thousand_connections_with_garbage_leave_nothing_behind() {
    let gateway = TestGateway::open().with_limit("connect_timeout", "\"300ms\"").start();
    let mut witness = gateway.client(V5, "witness");
    witness.ping();
    let (tasks, descriptors) = (gateway.server().task_count(), file_descriptors());
    let mut random = Random(0x1234_5678_9abc_def1);
    let valid_connect =
        hex::decode("100f00044d5154540402000000036162 63".replace(' ', "")).unwrap();
    let mut silent = Vec::new();
    for number in 0..CONNECTIONS {
        let mut client = gateway.dial();
        match number % 6 {
            // Random bytes at once.
            0 => {
                let _sent = client.try_send(&random.bytes(200));
                silent.push(client);
            }
            // A CONNECT that is cut short.
            1 => {
                let cut = usize::try_from(random.next() % 17).unwrap();
                client.send(&valid_connect[..cut]);
                silent.push(client);
            }
            // Nothing at all.
            2 => silent.push(client),
            // Random bytes behind a CONNECT.
            3 => {
                client.connect(V5, &format!("garbage-{number}"));
                let _sent = client.try_send(&random.bytes(300));
            }
            // A second CONNECT.
            4 => {
                client.connect(V5, &format!("second-{number}"));
                client.send_hex("101000044d515454050200000000 03616263");
                assert_eq!(client.expect_close(), "e00182");
            }
            // A packet above the limit.
            _ => {
                client.connect(V5, &format!("large-{number}"));
                client.send_hex("30ffffff7f");
                assert_eq!(client.expect_close(), "e00195");
            }
        }
    }
    for mut client in silent {
        assert_is_reasoned(&client.expect_close());
    }
    witness.ping();
    gateway.wait_until("only the witness is left", |gateway| {
        gateway.server().metrics().connections.load(Ordering::Relaxed) == 1
    });
    gateway.wait_until("no task is left", |gateway| gateway.server().task_count() == tasks);
    gateway.wait_until("no descriptor is left", |_| file_descriptors() <= descriptors);
    assert_eq!(gateway.server().session_count(), 1);
}

#[test]
fn a_subscriber_that_does_not_read_costs_its_mailbox_and_others_go_on() {
    let gateway = TestGateway::open()
        .with_limit("mailbox_bytes_max", "\"64KiB\"")
        .with_limit("queued_messages_max", "100")
        .start();
    let mut stuck = gateway.client(V5, "stuck");
    stuck.subscribe("flood", 0);
    let mut reader = gateway.client(V5, "reader");
    reader.subscribe("other", 0);
    let mut publisher = gateway.client(V311, "publisher");
    let before = resident_kib();
    let payload = vec![b'x'; 1_000];
    for _ in 0..60 {
        for _ in 0..1_000 {
            publisher.publish("flood", &payload);
        }
        publisher.publish("other", "alive");
        publisher.ping();
        assert_eq!(reader.next_publish().text(), "alive");
    }
    let dropped = gateway.count("messages_dropped_mailbox");
    assert!(dropped > 10_000, "{dropped} dropped");
    let grown = resident_kib().saturating_sub(before);
    println!("{dropped} of 60000 dropped, resident memory grew by {grown} KiB");
    assert!(grown < 16_000, "60 MB were published and {grown} KiB are kept");
}

#[test]
fn a_queue_is_bounded_and_the_oldest_message_gives_way() {
    let gateway = TestGateway::open().with_limit("queued_messages_max", "10").start();
    let mut one = PropertiesBuf::new();
    one.push(portreeve_mqtt::Property::ReceiveMaximum(1)).unwrap();
    let mut client = gateway.dial();
    client.connect_with(&portreeve_mqtt::Connect {
        properties: one.as_properties(),
        ..portreeve_tests::client::connect(V5, "slow")
    });
    client.subscribe("t", 1);
    let mut publisher = gateway.client(V311, "publisher");
    for number in 0..31 {
        publisher.publish_at_least_once("t", number.to_string());
    }
    assert_eq!(gateway.count("messages_dropped_queue"), 20);
    let mut received = Vec::new();
    for _ in 0..11 {
        let message = client.next_publish();
        client.acknowledge(portreeve_mqtt::AcknowledgementKind::Puback, message.packet_id.unwrap());
        received.push(message.text());
    }
    let expected: Vec<String> =
        std::iter::once(0).chain(21..31).map(|n: u32| n.to_string()).collect();
    assert_eq!(received, expected);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_traps_leave_resident_memory_flat() {
    let gateway =
        TestGateway::open().with_plugin("trap", "").with_binding("trap", "bad", "").start();
    let mut client = gateway.client(V5, "client");
    for _ in 0..1_000 {
        assert_eq!(client.publish_at_least_once("bad", "x"), 0x83);
    }
    let before = resident_kib();
    for _ in 0..10_000 {
        assert_eq!(client.publish_at_least_once("bad", "x"), 0x83);
    }
    let grown = resident_kib().saturating_sub(before);
    println!("10000 traps, resident memory grew by {grown} KiB");
    assert!(grown < 2_048, "resident memory grew by {grown} KiB");
}

#[test]
fn connections_beyond_the_limit_are_turned_away_and_room_is_given_back() {
    let gateway = TestGateway::open().with_limit("connections_max", "2").start();
    let first = gateway.client(V5, "first");
    let _second = gateway.client(V5, "second");
    let mut third = gateway.dial();
    assert_eq!(third.expect_close(), "");
    first.disconnect();
    gateway.wait_until("there is room", |gateway| {
        gateway.server().metrics().connections.load(Ordering::Relaxed) == 1
    });
    let mut third = gateway.client(V5, "third");
    third.ping();
}

#[test]
fn packets_in_any_pieces_are_the_same_packets() {
    let gateway = TestGateway::open().start();
    let mut subscriber = gateway.client(V5, "subscriber");
    subscriber.subscribe("t", 0);
    let mut publisher = gateway.client(V311, "publisher");
    let large = "y".repeat(300_000);
    let mut stream = Vec::new();
    for payload in ["a", "b", large.as_str(), "c"] {
        let publish = portreeve_mqtt::Publish {
            dup: false,
            qos: portreeve_mqtt::QoS::AtMostOnce,
            retain: false,
            topic: portreeve_mqtt::TopicName::parse("t").ok(),
            packet_id: None,
            properties: portreeve_mqtt::Properties::NONE,
            payload: payload.as_bytes(),
        };
        portreeve_mqtt::Packet::Publish(publish).encode(V311, &mut stream).unwrap();
    }
    let mut random = Random(77);
    let mut rest = stream.as_slice();
    while !rest.is_empty() {
        let most = if rest.len() > 100_000 { 60_000 } else { 7 };
        let piece = usize::try_from(random.next() % most + 1).unwrap().min(rest.len());
        publisher.send(&rest[..piece]);
        rest = &rest[piece..];
        if most == 7 && rest.len() % 1000 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for payload in ["a", "b", large.as_str(), "c"] {
        assert_eq!(subscriber.next_publish().text(), payload);
    }
    drop(publisher);
    drop(subscriber);
    wait_for_idle(&gateway);
}
