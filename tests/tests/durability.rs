//! What survives the end of the gateway: sessions, queues, packet identifiers, retained messages,
//! wills, devices. The process is killed with SIGKILL, unless the test says otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use portreeve_mqtt::{
    AcknowledgementKind, Connect, PropertiesBuf, Property, ProtocolVersion, Will,
};
use portreeve_tests::binary::{Process, binary, free_address};
use portreeve_tests::client::{Client, connect, qos, will};
use portreeve_tests::{V5, V311};
use tempfile::TempDir;

/// A gateway that can be killed and started again with the same store.
struct Durable {
    process: Option<Process>,
    address: SocketAddr,
    data: TempDir,
}

impl Durable {
    fn start() -> Self {
        let (address, data) = (free_address(), tempfile::tempdir().unwrap());
        let process = Some(Process::with_store(address, data.path()));
        Self { process, address, data }
    }

    fn kill_and_start(&mut self) {
        self.process.take().unwrap().kill();
        self.process = Some(Process::with_store(self.address, self.data.path()));
    }

    fn terminate_and_start(&mut self) {
        assert_eq!(self.process.take().unwrap().terminate(), Some(0));
        self.process = Some(Process::with_store(self.address, self.data.path()));
    }

    /// A client with a session that outlives it, and whether it was there.
    fn persistent(&self, version: ProtocolVersion, client_id: &str) -> (Client, bool) {
        self.persistent_for(version, client_id, 3600)
    }

    fn persistent_for(
        &self,
        version: ProtocolVersion,
        client_id: &str,
        seconds: u32,
    ) -> (Client, bool) {
        let mut client = Client::dial(self.address);
        let expiry = Property::SessionExpiryInterval(seconds);
        let properties: PropertiesBuf = version.is_v5().then_some(expiry).into_iter().collect();
        let properties = properties.as_properties();
        let present = client.connect_with(&Connect {
            clean_start: false,
            properties,
            ..connect(version, client_id)
        });
        (client, present)
    }

    fn client(&self, version: ProtocolVersion, client_id: &str) -> Client {
        let mut client = Client::dial(self.address);
        client.connect(version, client_id);
        client
    }
}

#[test]
fn messages_for_an_absent_session_are_there_after_sigkill_in_order_and_without_dup() {
    for version in [V311, V5] {
        let mut gateway = Durable::start();
        let (mut subscriber, present) = gateway.persistent(version, "subscriber");
        assert!(!present);
        subscriber.subscribe("queue/#", 2);
        subscriber.disconnect();
        let mut publisher = gateway.client(V5, "publisher");
        for number in 0..50_u8 {
            let level = number % 3;
            let id = (level > 0).then_some(u16::from(number) + 1);
            let topic = format!("queue/{level}");
            publisher.publish_with(&topic, &[number], level, false, id, &PropertiesBuf::new());
            if level > 0 {
                publisher.next(|packet| assert!(format!("{packet:?}").contains("Success")));
            }
        }
        gateway.kill_and_start();
        let (mut subscriber, present) = gateway.persistent(version, "subscriber");
        assert!(present, "the session survived");
        for number in (0..50_u8).filter(|number| number % 3 > 0) {
            let message = subscriber.next_publish();
            assert_eq!(
                (message.payload, message.qos, message.dup),
                (vec![number], number % 3, false)
            );
        }
        subscriber.expect_silence();
    }
}

#[test]
fn what_was_sent_and_not_acknowledged_comes_again_with_dup_and_its_identifier_mqtt_4_4_0_1() {
    for version in [V311, V5] {
        let mut gateway = Durable::start();
        let (mut subscriber, _) = gateway.persistent(version, "subscriber");
        subscriber.subscribe("t/#", 2);
        let mut publisher = gateway.client(V5, "publisher");
        publisher.publish_at_least_once("t/1", "one");
        publisher.publish_at_least_once("t/1", "two");
        let first = subscriber.next_publish();
        let second = subscriber.next_publish();
        subscriber.acknowledge(AcknowledgementKind::Puback, first.packet_id.unwrap());
        subscriber.ping();
        sleep(Duration::from_millis(100));
        gateway.kill_and_start();
        let (mut subscriber, present) = gateway.persistent(version, "subscriber");
        assert!(present);
        let again = subscriber.next_publish();
        assert_eq!((again.text().as_str(), again.dup), ("two", true));
        assert_eq!(again.packet_id, second.packet_id);
        subscriber.acknowledge(AcknowledgementKind::Puback, again.packet_id.unwrap());
        subscriber.expect_silence();
    }
}

#[test]
fn a_qos_2_message_is_received_once_over_sigkill_mqtt_4_3_3_10() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V311, "subscriber");
    subscriber.subscribe("t", 2);
    subscriber.disconnect();
    let (mut publisher, _) = gateway.persistent(V311, "publisher");
    publisher.send_hex("3406 0001 74 0005 78");
    assert_eq!(publisher.next_hex(), "50020005");
    gateway.kill_and_start();
    // The PUBREC was lost on its way, so the message is sent again.
    let (mut publisher, present) = gateway.persistent(V311, "publisher");
    assert!(present);
    publisher.send_hex("3c06 0001 74 0005 78");
    assert_eq!(publisher.next_hex(), "50020005");
    publisher.send_hex("62020005");
    assert_eq!(publisher.next_hex(), "70020005");
    gateway.kill_and_start();
    // PUBCOMP came, so the identifier stands for another message now.
    let (mut publisher, _) = gateway.persistent(V311, "publisher");
    publisher.send_hex("3406 0001 74 0005 79");
    assert_eq!(publisher.next_hex(), "50020005");
    let (mut subscriber, _) = gateway.persistent(V311, "subscriber");
    assert_eq!(subscriber.next_publish().text(), "x");
    assert_eq!(subscriber.next_publish().text(), "y");
    subscriber.expect_silence();
}

#[test]
fn a_qos_2_message_is_delivered_once_over_sigkill_mqtt_4_3_3_8() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V311, "subscriber");
    subscriber.subscribe("t", 2);
    let mut publisher = gateway.client(V311, "publisher");
    publisher.send_hex("3406 0001 74 0005 78");
    assert_eq!(publisher.next_hex(), "50020005");
    let id = subscriber.next_publish().packet_id.unwrap();
    subscriber.acknowledge(AcknowledgementKind::Pubrec, id);
    assert_eq!(subscriber.next_hex(), format!("6202{id:04x}"));
    gateway.kill_and_start();
    // It was released: what comes again is PUBREL, not the message.
    let (mut subscriber, _) = gateway.persistent(V311, "subscriber");
    assert_eq!(subscriber.next_hex(), format!("6202{id:04x}"));
    subscriber.acknowledge(AcknowledgementKind::Pubcomp, id);
    subscriber.ping();
    sleep(Duration::from_millis(100));
    gateway.kill_and_start();
    let (mut subscriber, _) = gateway.persistent(V311, "subscriber");
    subscriber.expect_silence();
}

#[test]
fn retained_messages_survive_and_removed_ones_stay_removed_mqtt_3_3_1_5() {
    let mut gateway = Durable::start();
    let mut publisher = gateway.client(V5, "publisher");
    for (topic, payload) in [("r/kept", "1"), ("r/kept", "2"), ("r/gone", "x"), ("r/gone", "")] {
        publisher.publish_with(topic, payload.as_bytes(), 1, true, Some(7), &PropertiesBuf::new());
        publisher.next(|packet| assert!(format!("{packet:?}").contains("Puback")));
    }
    // QoS 0 has no acknowledgement to wait for.
    publisher.publish_retained("r/qos0", "0");
    publisher.ping();
    sleep(Duration::from_millis(100));
    gateway.kill_and_start();
    let mut subscriber = gateway.client(V5, "subscriber");
    subscriber.subscribe("r/#", 1);
    let mut found: Vec<(String, String, bool)> = (0..2)
        .map(|_| subscriber.next_publish())
        .map(|message| (message.topic.clone(), message.text(), message.retain))
        .collect();
    found.sort();
    let kept = |topic: &str, text: &str| (topic.to_owned(), text.to_owned(), true);
    assert_eq!(found, [kept("r/kept", "2"), kept("r/qos0", "0")]);
    subscriber.expect_silence();
}

#[test]
fn a_clean_start_ends_the_stored_session_for_good_mqtt_3_1_2_4() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    subscriber.subscribe("t", 1);
    subscriber.disconnect();
    gateway.client(V5, "publisher").publish_at_least_once("t", "old");
    let client = gateway.client(V5, "subscriber");
    gateway.kill_and_start();
    drop(client);
    let (mut subscriber, present) = gateway.persistent(V5, "subscriber");
    assert!(!present);
    gateway.client(V5, "publisher").publish_at_least_once("t", "new");
    subscriber.expect_silence();
}

#[test]
fn an_ended_subscription_stays_ended_mqtt_3_10_4_1() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V311, "subscriber");
    subscriber.subscribe("kept", 1);
    subscriber.subscribe("ended", 1);
    subscriber.send_hex("a209 0003 0005 656e646564");
    assert_eq!(subscriber.next_hex(), "b0020003");
    gateway.kill_and_start();
    let mut publisher = gateway.client(V5, "publisher");
    assert_eq!(publisher.publish_at_least_once("ended", "x"), 0x10, "nobody subscribes");
    assert_eq!(publisher.publish_at_least_once("kept", "x"), 0);
}

#[test]
fn a_session_expires_while_the_gateway_is_away_mqtt_3_1_2_23() {
    let mut gateway = Durable::start();
    let (mut client, _) = gateway.persistent_for(V5, "short", 1);
    client.subscribe("t", 1);
    client.disconnect();
    let (client, _) = gateway.persistent_for(V5, "long", 1000);
    client.disconnect();
    sleep(Duration::from_millis(100));
    gateway.process.take().unwrap().kill();
    sleep(Duration::from_millis(1200));
    gateway.process = Some(Process::with_store(gateway.address, gateway.data.path()));
    sleep(Duration::from_millis(1000));
    assert!(!gateway.persistent_for(V5, "short", 1).1);
    assert!(gateway.persistent_for(V5, "long", 1).1);
}

#[test]
fn a_message_expires_in_the_store_and_its_interval_counts_down_mqtt_3_3_2_5_and_6() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    subscriber.subscribe("t", 1);
    subscriber.disconnect();
    let mut publisher = gateway.client(V5, "publisher");
    for (id, seconds) in [(1, 1), (2, 100)] {
        let properties = [Property::MessageExpiryInterval(seconds)].into_iter().collect();
        publisher.publish_with("t", b"x", 1, false, Some(id), &properties);
        publisher.next(|packet| assert!(format!("{packet:?}").contains("Puback")));
    }
    gateway.process.take().unwrap().kill();
    sleep(Duration::from_millis(2100));
    gateway.process = Some(Process::with_store(gateway.address, gateway.data.path()));
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    let message = subscriber.next_publish();
    let interval = message.properties.iter().find(|text| text.contains("Expiry")).unwrap();
    let digits: String = interval.chars().filter(char::is_ascii_digit).collect();
    assert!((90..=98).contains(&digits.parse::<u32>().unwrap()), "{interval}");
    subscriber.expect_silence();
}

fn with_will(gateway: &Durable, client_id: &str, delay: u32) -> Client {
    let mut client = Client::dial(gateway.address);
    let expiry: PropertiesBuf = [Property::SessionExpiryInterval(3600)].into_iter().collect();
    let delay: PropertiesBuf = [Property::WillDelayInterval(delay)].into_iter().collect();
    client.connect_with(&Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        will: Some(Will {
            qos: qos(1),
            properties: delay.as_properties(),
            ..will("will", client_id)
        }),
        ..connect(V5, client_id)
    });
    client
}

#[test]
fn a_delayed_will_is_published_after_a_restart_and_not_if_its_client_comes_back() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    subscriber.subscribe("will", 1);
    drop(with_will(&gateway, "stays-away", 1));
    drop(with_will(&gateway, "comes-back", 1));
    // Connected at the time of the kill; its will was given and is due, too.
    let connected = with_will(&gateway, "connected", 0);
    sleep(Duration::from_millis(100));
    gateway.kill_and_start();
    drop(connected);
    drop(with_will(&gateway, "comes-back", 1000));
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    let mut wills = [subscriber.next_publish().text(), subscriber.next_publish().text()];
    wills.sort();
    assert_eq!(wills, ["connected", "stays-away"]);
    subscriber.expect_silence();
}

#[test]
fn an_orderly_end_keeps_everything_and_defers_wills() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    subscriber.subscribe("will", 1);
    subscriber.disconnect();
    let _connected = with_will(&gateway, "connected", 0);
    gateway.terminate_and_start();
    let (mut subscriber, present) = gateway.persistent(V5, "subscriber");
    assert!(present);
    assert_eq!(subscriber.next_publish().text(), "connected");
}

#[test]
fn a_body_is_stored_once_and_goes_when_the_last_session_has_it() {
    let gateway = Durable::start();
    for number in 0..20 {
        let (mut subscriber, _) = gateway.persistent(V5, &format!("subscriber-{number}"));
        subscriber.subscribe("big", 1);
        subscriber.disconnect();
    }
    let mut publisher = gateway.client(V5, "publisher");
    let payload = vec![b'x'; 500_000];
    publisher.publish_at_least_once("big", &payload);
    let used = store_bytes(gateway.data.path());
    assert!((500_000..2_000_000).contains(&used), "{used} bytes for 20 receivers of 500,000");
    for number in 0..20 {
        let (mut subscriber, _) = gateway.persistent(V5, &format!("subscriber-{number}"));
        let message = subscriber.next_publish();
        assert_eq!(message.payload.len(), payload.len());
        subscriber.acknowledge(AcknowledgementKind::Puback, message.packet_id.unwrap());
        subscriber.disconnect();
    }
    sleep(Duration::from_millis(200));
    assert_eq!(gateway.process.unwrap().terminate(), Some(0));
    let checked = Command::new(binary())
        .args(["store", "check", "--json"])
        .arg(gateway.data.path().join("store"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{text}");
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&found["messages"], &found["orphans"]), (&0.into(), &0.into()), "{text}");
}

/// Bytes of the journals that are not zero, about.
fn store_bytes(data: &Path) -> usize {
    let mut used = 0;
    for entry in std::fs::read_dir(data.join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let bytes = std::fs::read(path).unwrap();
            used += bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
        }
    }
    used
}

#[test]
fn a_damaged_store_is_refused_with_a_way_out() {
    let gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    subscriber.subscribe("t", 1);
    let mut publisher = gateway.client(V5, "publisher");
    for _ in 0..20 {
        publisher.publish_at_least_once("t", "x");
    }
    gateway.process.unwrap().kill();
    let store = gateway.data.path().join("store");
    let journal = store.join("0.jnl");
    let mut bytes = std::fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[used / 2] ^= 1;
    std::fs::write(&journal, &bytes).unwrap();
    let data = gateway.data.path().display().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--verification", "open", "--data", &data];
    let said = Process::start(&arguments).err().expect("it must not start");
    assert!(said.contains("damaged") && said.contains("portreeve store salvage"), "{said}");
    assert_eq!(std::fs::read(&journal).unwrap(), bytes, "nothing was changed");

    let run = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("store").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = run(&["check", store.to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("damaged"), "{text}");
    let saved = gateway.data.path().join("saved");
    let (code, text) = run(&["salvage", store.to_str().unwrap(), saved.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("sessions: 1"), "{text}");
    let (code, text) = run(&["check", saved.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_start_that_fails_takes_nothing_from_the_store() {
    let mut gateway = Durable::start();
    for client_id in ["one", "other"] {
        let (mut subscriber, _) = gateway.persistent(V5, client_id);
        subscriber.subscribe("t", 1);
        subscriber.disconnect();
    }
    gateway.client(V5, "publisher").publish_at_least_once("t", "shared by two");
    assert_eq!(gateway.process.take().unwrap().terminate(), Some(0));
    let occupied = std::net::TcpListener::bind(gateway.address).unwrap();
    let data = gateway.data.path().display().to_string();
    let address = gateway.address.to_string();
    let arguments = ["--listen", &address, "--verification", "open", "--data", &data];
    let said = Process::start(&arguments).err().expect("its port is in use");
    assert!(said.contains("in use"), "{said}");
    drop(occupied);
    gateway.process = Some(Process::with_store(gateway.address, gateway.data.path()));
    for client_id in ["one", "other"] {
        assert_eq!(gateway.persistent(V5, client_id).0.next_publish().text(), "shared by two");
    }
}

#[test]
fn a_refused_qos_2_identifier_is_free_after_a_restart_mqtt_4_3_3_9() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    subscriber.subscribe("t", 2);
    subscriber.disconnect();
    let (mut publisher, _) = gateway.persistent(V5, "publisher");
    // Nobody may publish to `$SYS`.
    publisher.send_hex("340b 0006 245359532f78 0005 00");
    assert_eq!(publisher.next_hex(), "5003000587");
    gateway.kill_and_start();
    let (mut publisher, _) = gateway.persistent(V5, "publisher");
    publisher.send_hex("3407 0001 74 0005 00 78");
    assert_eq!(publisher.next_hex(), "50020005");
    assert_eq!(gateway.persistent(V5, "subscriber").0.next_publish().text(), "x");
}

#[test]
fn fewer_retained_messages_may_be_kept_than_are_stored() {
    let mut gateway = Durable::start();
    let (mut subscriber, _) = gateway.persistent(V5, "subscriber");
    subscriber.subscribe("r/#", 1);
    subscriber.disconnect();
    let mut publisher = gateway.client(V5, "publisher");
    for topic in ["r/1", "r/2", "r/3"] {
        publisher.publish_with(topic, b"x", 1, true, Some(7), &PropertiesBuf::new());
        publisher.next(|packet| assert!(format!("{packet:?}").contains("Puback")));
    }
    let config = gateway.data.path().join("gateway.toml");
    std::fs::write(
        &config,
        format!(
            "[data]\ndirectory = \".\"\n[limits]\nretained_messages_max = 1\n[sys]\ninterval = \"1h\"\n\
             [[gateway]]\nname = \"development\"\nverification = \"open\"\n\
             [[gateway.listener]]\naddress = \"{}\"\n",
            gateway.address
        ),
    )
    .unwrap();
    for _ in 0..3 {
        gateway.process.take().unwrap().kill();
        let process = Process::start(&["--config", config.to_str().unwrap()]);
        gateway.process = Some(process.unwrap_or_else(|said| panic!("{said}")));
        let (mut subscriber, present) = gateway.persistent(V5, "subscriber");
        assert!(present);
        while let Some(id) = subscriber.next_within(Duration::from_millis(200), |packet| {
            let portreeve_mqtt::Packet::Publish(publish) = packet else { return None };
            publish.packet_id
        }) {
            if let Some(id) = id {
                subscriber.acknowledge(AcknowledgementKind::Puback, id.get());
            }
        }
        sleep(Duration::from_millis(100));
    }
}
