//! The main job: a device connects, a plugin verifies it, a plugin parses what it sends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_mqtt::{Connect, ProtocolVersion};
use portreeve_tests::client::connect;
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::{Client, TestGateway, V5, V311};

fn gateway() -> RunningGateway {
    TestGateway::verified_by("plugin:allow-list")
        .with_example("allow-list")
        .with_example("sensor-frame")
        .with_example("json-to-fields")
        .with_gateway_line("sys_readers = [\"application\"]")
        .start()
}

fn login<'a>(
    version: ProtocolVersion,
    client_id: &'a str,
    user: &'a str,
    password: &'a str,
) -> Connect<'a> {
    Connect {
        user_name: Some(user),
        password: Some(password.as_bytes()),
        ..connect(version, client_id)
    }
}

fn client(gateway: &RunningGateway, version: ProtocolVersion, user: &str) -> Client {
    let mut client = gateway.dial();
    client.connect_with(&login(version, user, user, "demo"));
    client
}

#[test]
fn a_frame_becomes_json_in_both_versions() {
    let gateway = gateway();
    for (device, application) in [(V311, V5), (V5, V311)] {
        let mut application = client(&gateway, application, "app");
        assert_eq!(application.subscribe("devices/+/telemetry", 1), 1);
        let mut device = client(&gateway, device, "device-1");
        device.publish_at_least_once("devices/device-1/raw", b"\x08\x66\x11\xc6\x0c\xe4");
        let message = application.next_publish();
        assert_eq!(message.topic, "devices/device-1/telemetry");
        assert_eq!(message.text(), r#"{"temperature":21.5,"humidity":45.5,"battery":3.3}"#);
        application.disconnect();
        device.disconnect();
    }
    // The application and the device; both were created under the names that were returned.
    assert_eq!(gateway.server().device_count(), 2);
}

#[test]
fn a_command_reaches_the_device_as_bytes() {
    let gateway = gateway();
    let mut device = client(&gateway, V311, "device-1");
    device.subscribe("devices/device-1/down", 1);
    let mut application = client(&gateway, V5, "app");
    application.publish_at_least_once("devices/device-1/set", r#"{"report_interval":60}"#);
    let message = device.next_publish();
    assert_eq!(
        (message.topic.as_str(), message.payload.as_slice()),
        ("devices/device-1/down", [0, 60].as_slice())
    );
}

#[test]
fn a_wrong_password_gets_connack_5_or_0x86() {
    let gateway = gateway();
    for (version, code) in [(V311, 5), (V5, 0x86)] {
        for (user, password) in [("device-1", "wrong"), ("device-2", "demo"), ("", "")] {
            let mut client = gateway.dial();
            assert_eq!(client.connect_code(&login(version, "c", user, password)), code, "{user}");
            assert_eq!(client.expect_close(), "");
        }
        let mut without = gateway.dial();
        assert_eq!(without.connect_code(&connect(version, "c")), code);
    }
    assert_eq!(gateway.server().device_count(), 0);
    assert_eq!(gateway.count("connects_refused"), 8);
}

#[test]
fn one_message_becomes_many_in_their_order() {
    let gateway = gateway();
    let mut application = client(&gateway, V5, "app");
    application.subscribe("fields/#", 0);
    let mut device = client(&gateway, V5, "device-1");
    assert_eq!(device.publish_at_least_once("fields/d", r#"{"a":1,"b":"x"}"#), 0);
    let (a, b) = (application.next_publish(), application.next_publish());
    assert_eq!((a.topic.as_str(), a.text().as_str()), ("fields/d/a", "1"));
    assert_eq!((b.topic.as_str(), b.text().as_str()), ("fields/d/b", "\"x\""));
    assert!(a.properties.contains(&"ContentType(\"application/json\")".to_owned()), "{a:?}");
}

#[test]
fn a_payload_that_the_parser_rejects_gets_0x99_with_its_reason() {
    let gateway = gateway();
    let mut device = client(&gateway, V5, "device-1");
    // PUBLISH, QoS 1, identifier 7, two bytes of payload.
    device.send_hex("321b 0014 646576696365732f6465766963652d312f726177 0007 00 0866");
    let answer = device.next_hex();
    // PUBACK 7, 0x99, reason string.
    assert!(answer.starts_with("40") && answer[4..].starts_with("000799"), "{answer}");
    let mut old = client(&gateway, V311, "app");
    assert_eq!(old.publish_at_least_once("devices/device-1/raw", "x"), 0);
    assert_eq!(gateway.count("messages_rejected"), 2);
}

#[test]
fn a_verifier_whose_password_is_an_hmac() {
    let gateway =
        TestGateway::verified_by("plugin:hmac-password").with_example("hmac-password").start();
    let password = "6ed0f0cb5ae9bb4d9cd7b2e0a9ad7dbd";
    let mut client = gateway.dial();
    assert_eq!(client.connect_code(&login(V5, "client-1", "device-1", password)), 0x86);
    let output = std::process::Command::new("sh")
        .args(["-c", "printf 'client-1&device-1' | openssl dgst -sha256 -hmac s3cret"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let password = text.trim().rsplit(' ').next().unwrap().to_owned();
    for (client_id, code) in [("client-1", 0), ("client-2", 0x86)] {
        let mut client = gateway.dial();
        assert_eq!(client.connect_code(&login(V5, client_id, "device-1", &password)), code);
    }
}

#[test]
fn devices_of_the_configuration_need_no_plugin() {
    let gateway = TestGateway::verified_by("one-party")
        .with("[[device]]\nname = \"meter-1\"\nuser_name = \"u1\"\npassword = \"p1\"\nserial_number = \"SN1\"")
        .start();
    for (user, password, code) in
        [("u1", "p1", 0), ("u1", "p2", 0x86), ("u2", "p1", 0x86), ("u1", "", 0x86)]
    {
        let mut client = gateway.dial();
        assert_eq!(client.connect_code(&login(V5, "c", user, password)), code, "{user} {password}");
    }
}

#[test]
fn sys_is_for_its_readers_only() {
    let gateway = gateway();
    let mut application = client(&gateway, V5, "app");
    assert_eq!(application.subscribe("$SYS/broker/version", 0), 0);
    assert!(application.next_publish().text().starts_with("portreeve "));
    let mut device = client(&gateway, V5, "device-1");
    assert_eq!(device.subscribe("$SYS/#", 0), 0x87);
    assert_eq!(device.publish_at_least_once("$SYS/broker/version", "x"), 0x87);
    let mut old = gateway.dial();
    old.connect_with(&login(V311, "old", "device-1", "demo"));
    assert_eq!(old.subscribe("$SYS/#", 0), 0x80);
}
