//! Guests that misbehave harm their own call only; guests that behave see what they should.
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

use portreeve_mqtt::Connect;
use portreeve_tests::client::connect;
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::{Client, TestGateway, V5, V311};

const QUICK: &str = "[limits]\ndeadline = \"100ms\"";

/// A gateway whose topic `bad` goes to the guest and whose other topics do not.
fn gateway(guest: &str, manifest: &str) -> RunningGateway {
    TestGateway::open().with_plugin(guest, manifest).with_binding(guest, "bad", "").start()
}

/// Publishes to `bad`, wants 0x83 for it, and the connection to go on.
fn expect_fault(gateway: &RunningGateway) {
    let mut client = gateway.client(V5, "publisher");
    client.subscribe("good", 0);
    assert_eq!(client.publish_at_least_once("bad", "x"), 0x83);
    assert_eq!(client.publish_at_least_once("good", "x"), 0);
    assert_eq!(gateway.count("parser_faults"), 1);
}

#[test]
fn a_guest_that_traps_fails_its_own_call() {
    let gateway = gateway("trap", "");
    expect_fault(&gateway);
    let mut old = gateway.client(V311, "old");
    assert_eq!(old.publish_at_least_once("bad", "x"), 0, "3.1.1 has no way to say no");
}

#[test]
fn a_guest_that_spins_is_cut_at_its_deadline_and_delays_nobody() {
    let gateway = gateway("spin", QUICK);
    let mut spinner = gateway.client(V5, "spinner");
    let begin = Instant::now();
    spinner.publish_with("bad", b"x", 1, false, Some(1), &Default::default());
    let mut other = gateway.client(V5, "other");
    for _ in 0..20 {
        other.ping();
    }
    assert!(begin.elapsed() < Duration::from_millis(100), "the others did not wait for it");
    assert_eq!(spinner.next_hex(), "4003000183");
    assert!(begin.elapsed() >= Duration::from_millis(100));
    expect_fault_count(&gateway, 1);
}

fn expect_fault_count(gateway: &RunningGateway, faults: u64) {
    assert_eq!(gateway.count("parser_faults"), faults);
}

#[test]
fn a_guest_that_sleeps_is_cut_at_its_deadline() {
    expect_fault(&gateway("slow", QUICK));
}

#[test]
fn a_guest_that_grows_is_stopped_at_its_memory_limit() {
    expect_fault(&gateway("grow", "[limits]\nmemory = \"8MiB\""));
}

#[test]
fn a_guest_that_exits_fails_its_own_call() {
    expect_fault(&gateway("exits", ""));
}

#[test]
fn a_guest_that_returns_too_much_is_refused() {
    expect_fault(&gateway("huge-output", ""));
}

#[test]
fn a_guest_that_floods_the_log_loses_lines_and_nothing_else() {
    let gateway = gateway("flood-log", "[limits]\ndeadline = \"5s\"");
    let mut client = gateway.client(V5, "client");
    client.subscribe("bad", 0);
    assert_eq!(client.publish_at_least_once("bad", "x"), 0);
    assert_eq!(client.next_publish().text(), "x");
}

#[test]
fn a_guest_finds_no_file_no_variable_and_no_argument() {
    let gateway = gateway("files", "");
    let mut client = gateway.client(V5, "client");
    client.subscribe("bad", 0);
    client.publish("bad", "x");
    assert_eq!(client.next_publish().text(), "false false false 0 0");
}

#[test]
fn a_guest_of_another_world_is_named_with_its_exports() {
    let refused = TestGateway::open()
        .with_plugin("wrong-world", "")
        .with_binding("wrong-world", "x", "")
        .try_start()
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("there is no plugin \"wrong-world\""), "{refused}");
    assert!(refused.contains("exports neither portreeve:plugin/on-connect"), "{refused}");
    assert!(refused.contains("wasi:cli/run@0.2"), "{refused}");
}

#[test]
fn a_guest_that_wants_a_socket_is_refused_by_its_imports() {
    let refused = TestGateway::open()
        .with_plugin("sockets", "")
        .with_binding("sockets", "x", "")
        .try_start()
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("wasi:sockets/tcp@0.2") && refused.contains("plugins have no sockets"),
        "{refused}"
    );
}

#[test]
fn a_parser_cannot_verify() {
    let refused = TestGateway::verified_by("plugin:files")
        .with_plugin("files", "")
        .try_start()
        .err()
        .unwrap();
    assert!(refused.to_string().contains("the plugin \"files\" is no verifier"), "{refused}");
    let refused =
        TestGateway::verified_by("plugin:fils").with_plugin("files", "").try_start().err().unwrap();
    assert!(
        refused.to_string().contains("there is no plugin \"fils\"; there are files"),
        "{refused}"
    );
}

#[test]
fn a_topic_outside_may_publish_stops_the_whole_outcome() {
    let gateway = TestGateway::open()
        .with_plugin("stray", "")
        .with_binding("stray", "in/+", "may_publish = [\"in/#\", \"out/#\"]")
        .start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("#", 0);
    assert_eq!(client.publish_at_least_once("in/1", "out/x"), 0);
    assert_eq!([client.next_publish().topic, client.next_publish().topic], ["in/1", "out/x"]);
    for topic in ["elsewhere", "$SYS/broker/version", "out/+", "", "out"] {
        let expected = if topic == "out" { 0 } else { 0x83 };
        assert_eq!(client.publish_at_least_once("in/1", topic), expected, "{topic}");
    }
    assert_eq!([client.next_publish().topic, client.next_publish().topic], ["in/1", "out"]);
    client.expect_silence();
}

#[test]
fn on_error_decides_about_a_message_whose_parser_failed() {
    for (on_error, code, delivered_to) in [
        ("reject", 0x83, None),
        ("drop", 0, None),
        ("pass", 0, Some("bad")),
        ("dead-letter:dead", 0, Some("dead")),
    ] {
        let gateway = TestGateway::open()
            .with_plugin("trap", "")
            .with_binding("trap", "bad", &format!("on_error = {on_error:?}"))
            .start();
        let mut client = gateway.client(V5, "client");
        let mut watcher = gateway.client(V5, "watcher");
        watcher.subscribe("#", 0);
        assert_eq!(client.publish_at_least_once("bad", "x"), code, "{on_error}");
        match delivered_to {
            None => watcher.expect_silence(),
            Some(topic) => {
                let message = watcher.next_publish();
                assert_eq!((message.topic.as_str(), message.text().as_str()), (topic, "x"));
                let has_reason =
                    message.properties.iter().any(|property| property.contains("trapped"));
                assert_eq!(has_reason, topic == "dead", "{message:?}");
            }
        }
    }
}

#[test]
fn a_verifier_that_fails_lets_nobody_in() {
    for (guest, manifest) in
        [("trap", ""), ("spin", QUICK), ("grow", ""), ("slow", QUICK), ("exits", "")]
    {
        let gateway = TestGateway::verified_by(&format!("plugin:{guest}"))
            .with_plugin(guest, manifest)
            .start();
        for (version, code) in [(V5, 0x88), (V311, 3)] {
            let mut client = gateway.dial();
            assert_eq!(client.connect_code(&connect(version, "c")), code, "{guest}");
            client.expect_close();
        }
        assert_eq!(gateway.server().device_count(), 0);
        assert_eq!(gateway.count("verifier_faults"), 2);
    }
}

fn scripted(gateway: &RunningGateway, script: &str) -> (Client, u8) {
    let mut client = gateway.dial();
    let login = Connect {
        user_name: Some("device-1"),
        password: Some(script.as_bytes()),
        ..connect(V5, "c")
    };
    let code = client.connect_code(&login);
    (client, code)
}

#[test]
fn an_admission_that_breaks_the_contract_lets_nobody_in() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    for script in [
        "name x",
        "name a b c d",
        "name devices/1",
        "product ",
        "publish a/#/b",
        "attribute long ".to_owned().as_str(),
        "unknown",
    ] {
        let script = if script.starts_with("attribute") {
            format!("{script}{}", "v".repeat(2000))
        } else {
            script.to_owned()
        };
        assert_eq!(scripted(&gateway, &script).1, 0x88, "{script:.20}");
    }
    assert_eq!(gateway.server().device_count(), 0);
}

#[test]
fn every_refusal_has_its_reason_code() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    for (reason, code) in [
        ("bad-user-name-or-password", 0x86),
        ("not-authorized", 0x87),
        ("banned", 0x8a),
        ("server-busy", 0x89),
        ("quota-exceeded", 0x97),
        ("use-another-server", 0x9c),
    ] {
        assert_eq!(scripted(&gateway, &format!("refuse {reason}")).1, code);
    }
}

#[test]
fn an_admission_ends_when_it_says() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    let (mut client, code) = scripted(&gateway, "expires 1");
    assert_eq!((code, client.expect_close().as_str()), (0, "e001a0"));
}

#[test]
fn a_challenge_is_sent_and_its_answer_decides() {
    let gateway = TestGateway::verified_by("plugin:scripted").with_plugin("scripted", "").start();
    // CONNECT with authentication method "sum"; AUTH 0x18 with method and data "1+1".
    let connect = "1018 0004 4d515454 05 02 0000 06 15 0003 73756d 0005 6175746830";
    for (answer, code) in
        [("f00c180a1500 0373756d 160001 32", "00"), ("f00c180a1500 0373756d 160001 33", "87")]
    {
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_hex(connect);
        assert_eq!(client.next_hex(), "f00e180c15000373756d160003312b31");
        client.send_hex(answer);
        let connack = client.next_hex();
        assert!(
            connack.starts_with("20") && connack[4..].starts_with(&format!("00{code}")),
            "{connack}"
        );
    }
    let mut client = gateway.dial();
    client.speak(V5);
    client.send_hex(connect);
    let _challenge = client.next_hex();
    client.send_hex("c000");
    let connack = client.next_hex();
    assert!(connack[4..].starts_with("0082"), "another packet than AUTH: {connack}");
}

#[test]
fn fresh_instances_forget_and_warm_ones_are_recycled() {
    let policy = |text: &str| format!("[instances]\n{text}");
    for (manifest, expected) in [
        (policy("policy = \"fresh\""), ["1 1", "1 2", "1 3", "1 4", "1 5"]),
        (
            policy("policy = \"warm\"\ninstances = 1\ncalls = 3"),
            ["1 1", "2 2", "3 3", "1 4", "2 5"],
        ),
    ] {
        let gateway = gateway("counter", &manifest);
        let mut client = gateway.client(V5, "client");
        client.subscribe("bad", 0);
        for expected in expected {
            client.publish("bad", "x");
            assert_eq!(client.next_publish().text(), expected, "{manifest}");
        }
    }
}

#[test]
fn a_parser_is_told_who_published_what() {
    let gateway = TestGateway::verified_by("plugin:scripted")
        .with_plugin("scripted", "")
        .with_plugin("echo", "")
        .with_binding("echo", "in/+", "may_publish = [\"in/told\"]\ndirection = \"down\"")
        .start();
    let (mut client, code) = scripted(&gateway, "attribute site 7\nproduct meters");
    assert_eq!(code, 0);
    client.subscribe("in/told", 0);
    let properties = [
        portreeve_mqtt::Property::UserProperty(("a", "b")),
        portreeve_mqtt::Property::ResponseTopic("answers"),
        portreeve_mqtt::Property::MessageExpiryInterval(9),
    ];
    client.publish_with("in/1", b"\x00\xff", 0, false, None, &properties.into_iter().collect());
    let told = client.next_publish().text();
    for part in [
        "direction: Down",
        "name: \"device-1\"",
        "product: \"meters\"",
        "client_id: \"c\"",
        "attributes: [(\"site\", \"7\")]",
        "gateway: \"test\"",
        "received_at: 1 ",
        "topic: \"in/1\"",
        "payload: [0, 255]",
        "response_topic: Some(\"answers\")",
        "message_expiry_interval: Some(9)",
        "user_properties: [(\"a\", \"b\")]",
    ] {
        assert!(told.contains(part), "{part} not in {told}");
    }
}
