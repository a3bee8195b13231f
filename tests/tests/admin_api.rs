//! What an operator does with messages and gateways through the admin API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use portreeve_mqtt::Property;
use portreeve_tests::api::{Api, admin_section};
use portreeve_tests::client::connect;
use portreeve_tests::{RunningGateway, TestGateway, V5, V311};
use serde_json::{Value, json};

const PUBLISH: &str = "/v1/gateways/test/publish";

fn started(gateway: TestGateway) -> (RunningGateway, Api) {
    let gateway = gateway.with(&admin_section()).start();
    let api = Api::of(&gateway);
    (gateway, api)
}

#[test]
fn a_message_is_published_with_everything_that_mqtt_5_has() {
    let (gateway, api) = started(TestGateway::open());
    let mut client = gateway.client(V5, "client-1");
    client.subscribe("devices/#", 2);
    let message = json!({
        "topic": "devices/device-1/set", "payload_base64": "AAH/", "qos": 1, "content_type": "x/y",
        "response_topic": "answers", "correlation_data_base64": "Ag==",
        "message_expiry_interval": 60, "user_properties": [["a", "b"], ["a", "c"]],
    });
    let published = api.does("POST", PUBLISH, &message);
    assert_eq!(published, json!({ "messages": 1, "is_received": true, "parser": null }));
    let incoming = client.next_publish();
    assert_eq!(
        (incoming.topic.as_str(), &incoming.payload[..]),
        ("devices/device-1/set", &[0, 1, 255][..])
    );
    let properties = &incoming.properties;
    let has = |property: Property<'_>| properties.contains(&format!("{property:?}"));
    assert!(
        has(Property::ContentType("x/y")) && has(Property::CorrelationData(&[2])),
        "{properties:?}"
    );
    assert!(has(Property::UserProperty(("a", "c"))) && has(Property::ResponseTopic("answers")));
    for (message, status, why) in [
        (json!({ "topic": "a/+" }), 400, "a/+"),
        (json!({ "topic": "$SYS/x" }), 400, "$SYS"),
        (json!({ "topic": "a", "qos": 3 }), 400, "qos"),
        (json!({ "topic": "a", "payload": "x", "payload_base64": "eA==" }), 400, "without"),
        (json!({ "topic": "a", "payload_base64": "?" }), 400, "payload_base64"),
        (json!({ "topic": "to/%d" }), 400, "device"),
        (json!({ "topic": "to/%d", "device": "nobody" }), 404, "nobody"),
        (json!({ "topic": "a", "payload": "x".repeat(2 << 20) }), 413, "at most"),
    ] {
        let (answered, problem) = api.ask("POST", PUBLISH, &message);
        assert_eq!(answered, status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    }
    assert_eq!(api.ask("POST", "/v1/gateways/none/publish", &json!({ "topic": "a" })).0, 404);
    client.expect_silence();
}

#[test]
fn a_message_for_a_device_passes_its_parser() {
    let gateway = TestGateway::verified_by("plugin:allow-list")
        .with_example("allow-list")
        .with_example("sensor-frame")
        .with_binding(
            "sensor-frame",
            "devices/+/command",
            "direction = \"down\"\nmay_publish = [\"devices/#\"]",
        );
    let (gateway, api) = started(gateway);
    let mut client = gateway.dial();
    let mut login = connect(V5, "device-1");
    (login.user_name, login.password) = (Some("device-1"), Some(&b"demo"[..]));
    assert_eq!(client.connect_code(&login), 0);
    client.subscribe("devices/device-1/#", 1);
    let command = json!({ "topic": "devices/%d/command", "device": "device-1", "payload": "{\"report_interval\":60}", "qos": 1 });
    let (status, published) = api.ask("POST", PUBLISH, &command);
    assert_eq!(status, 200, "{published}");
    assert_eq!(published["parser"], "sensor-frame");
    assert_eq!(client.next_publish().payload, [0, 60]);
    let junk = json!({ "topic": "devices/device-1/command", "payload": "junk", "qos": 1 });
    let (status, problem) = api.ask("POST", PUBLISH, &junk);
    assert!(
        status == 422 && problem["detail"].as_str().unwrap().contains("sensor-frame"),
        "{problem}"
    );
}

#[test]
fn what_is_published_to_a_session_that_is_away_waits_for_it_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let more = format!("[data]\ndirectory = {data:?}\n");
    let (gateway, api) = started(TestGateway::open().with(&more));
    let mut login = connect(V311, "client-1");
    login.clean_start = false;
    let mut client = gateway.dial();
    client.connect_with(&login);
    client.subscribe("a/#", 1);
    client.disconnect();
    api.does("POST", PUBLISH, &json!({ "topic": "a/b", "payload": "waits", "qos": 1 }));
    api.does(
        "POST",
        PUBLISH,
        &json!({ "topic": "a/r", "payload": "stays", "qos": 1, "retain": true }),
    );
    let retained = api.get("/v1/retained?filter=a/%23");
    assert_eq!(retained["messages"][0]["payload_base64"], "c3RheXM=", "{retained}");
    assert!(gateway.shut_down());
    let (gateway, api) = started(TestGateway::open().with(&more));
    let mut client = gateway.dial();
    assert!(client.connect_with(&login));
    let texts = [client.next_publish().text(), client.next_publish().text()];
    assert_eq!(texts, ["waits", "stays"]);
    assert_eq!(api.get("/v1/retained")["messages"][0]["topic"], "a/r");
    api.does("DELETE", "/v1/retained/a%2Fr", &Value::Null);
    assert_eq!(api.ask("DELETE", "/v1/retained/a%2Fr", &Value::Null).0, 404);
    assert_eq!(api.get("/v1/retained")["messages"], json!([]));
}

#[test]
fn a_drain_lets_nobody_in_and_ends_connections() {
    let (gateway, api) = started(TestGateway::open());
    let mut clients: Vec<_> = (0..5).map(|n| gateway.client(V5, &format!("client-{n}"))).collect();
    let order = json!({ "over_seconds": 1, "server_reference": "other:1883" });
    assert_eq!(api.does("POST", "/v1/drain", &order)["is_draining"], true);
    assert_eq!(gateway.dial().connect_code(&connect(V5, "late")), 0x9C);
    assert_eq!(gateway.dial().connect_code(&connect(V311, "late")), 3);
    for client in &mut clients {
        let said = client.expect_close();
        // Use another server, with the reference.
        assert!(said.starts_with("e0") && said[4..].starts_with("9c"), "{said}");
        assert!(
            said.contains(
                &"other:1883".bytes().map(|byte| format!("{byte:02x}")).collect::<String>()
            )
        );
    }
    assert_eq!(api.ask("GET", "/readyz", &Value::Null).0, 503);
    assert_eq!(api.get("/healthz")["status"], "ok");
    api.does("DELETE", "/v1/drain", &Value::Null);
    assert_eq!(gateway.dial().connect_code(&connect(V5, "late")), 0);
    assert_eq!(api.get("/readyz")["status"], "ok");
}

#[test]
fn gateways_tell_what_they_are() {
    let gateway = TestGateway::open()
        .with_example("sensor-frame")
        .with_binding(
            "sensor-frame",
            "devices/+/raw",
            "may_publish = [\"devices/#\"]\non_error = \"dead-letter:dead\"",
        )
        .with_limit("connections_max", "77");
    let (_gateway, api) = started(gateway);
    let found = api.get("/v1/gateways");
    let gateway = &found["gateways"][0];
    assert_eq!((&gateway["name"], &gateway["verification"]), (&json!("test"), &json!("open")));
    assert_eq!(gateway["limits"]["connections_max"], 77);
    assert_eq!(gateway["bindings"][0]["on_error"], "dead-letter:dead", "{found}");
}

#[test]
fn connections_that_ask_nothing_do_not_stay() {
    let (_gateway, api) = started(TestGateway::open());
    let address = api.url().trim_start_matches("http://").to_owned();
    let mut silent: Vec<TcpStream> = (0..2)
        .map(|_| TcpStream::connect(&address).unwrap())
        .inspect(|stream| stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap())
        .collect();
    // One of them begins a request that it does not end.
    silent[1].write_all(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n").unwrap();
    for stream in &mut silent {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
    }
    assert_eq!(api.get("/healthz")["status"], "ok");
}
