//! The registry: who is let in, what an operator changes, what a restart keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use portreeve_mqtt::{Connect, Packet};
use portreeve_tests::api::{Api, admin_section};
use portreeve_tests::client::connect;
use portreeve_tests::{Client, RunningGateway, TestGateway, V5, V311};
use serde_json::{Value, json};

const NOT_AUTHORIZED: u8 = 0x87;
const BAD_CREDENTIALS: u8 = 0x86;
const QUOTA_EXCEEDED: u8 = 0x97;
const ADMINISTRATIVE_ACTION: &str = "e00198";

fn one_party(more: &str) -> (RunningGateway, Api) {
    let gateway = TestGateway::verified_by("one-party").with(&admin_section()).with(more).start();
    let api = Api::of(&gateway);
    (gateway, api)
}

fn add(api: &Api, name: &str, password: &str) -> Value {
    let device = json!({ "name": name, "user_name": name, "password": password });
    api.does("POST", "/v1/devices", &device)
}

fn device(name: &str) -> String {
    format!("/v1/products/default/devices/{name}")
}

fn login<'a>(client_id: &'a str, user_name: &'a str, password: &'a str) -> Connect<'a> {
    let mut connect = connect(V5, client_id);
    connect.user_name = Some(user_name);
    connect.password = Some(password.as_bytes());
    connect
}

fn code(gateway: &RunningGateway, user_name: &str, password: &str) -> u8 {
    gateway.dial().connect_code(&login(user_name, user_name, password))
}

fn connected(gateway: &RunningGateway, name: &str, password: &str) -> Client {
    let mut client = gateway.dial();
    assert_eq!(client.connect_code(&login(name, name, password)), 0);
    client
}

#[test]
fn an_added_device_is_let_in_with_its_password_and_nothing_else_is_told() {
    let (gateway, api) = one_party("");
    let added = add(&api, "device-1", "secret");
    assert_eq!((&added["has_password"], &added["origin"]), (&json!(true), &json!("imported")));
    assert!(!added.to_string().contains("secret") && !added.to_string().contains("argon2"));
    for _ in 0..2 {
        assert_eq!(code(&gateway, "device-1", "secret"), 0, "also with the password known already");
    }
    let answer = |user_name: &str, password: &str| {
        let mut client = gateway.dial();
        client.send_packet(&Packet::Connect(login("any", user_name, password)));
        client.expect_close()
    };
    let wrong = answer("device-1", "Secret");
    assert!(wrong[4..].starts_with("0086"), "{wrong}");
    assert_eq!(wrong, answer("device-2", "secret"), "an unknown device is told the same");
    let mut old = gateway.dial();
    let mut connect = login("any", "device-1", "wrong");
    connect.protocol_version = V311;
    assert_eq!(old.connect_code(&connect), 5);
    let shown = api.get(&device("device-1"));
    assert!(shown["last_seen_at"].is_string() && shown["created_at"].is_string(), "{shown}");
}

#[test]
fn a_live_session_ends_when_its_device_is_changed_disabled_kicked_or_deleted() {
    let (gateway, api) = one_party("");
    let change = |what: &str, method: &str, path: &str, body: Value| {
        let mut client = connected(&gateway, "device-1", "secret");
        let begin = Instant::now();
        api.does(method, path, &body);
        assert_eq!(client.expect_close(), ADMINISTRATIVE_ACTION, "{what}");
        assert!(begin.elapsed() < Duration::from_secs(1), "{what}: {:?}", begin.elapsed());
    };
    add(&api, "device-1", "secret");
    let path = device("device-1");
    change("kick", "POST", &format!("{path}/kick"), Value::Null);
    change("disable", "PATCH", &path, json!({ "enabled": false }));
    assert_eq!(code(&gateway, "device-1", "secret"), NOT_AUTHORIZED);
    assert_eq!(
        code(&gateway, "device-1", "wrong"),
        BAD_CREDENTIALS,
        "who knows nothing learns nothing"
    );
    api.does("PATCH", &path, &json!({ "enabled": true }));
    change("permissions", "PATCH", &path, json!({ "permissions": [] }));
    api.does("PATCH", &path, &json!({ "default_permissions": true }));
    change("password", "PATCH", &path, json!({ "password": "other" }));
    assert_eq!(code(&gateway, "device-1", "secret"), BAD_CREDENTIALS);
    api.does("PATCH", &path, &json!({ "password": "secret" }));
    change("delete", "DELETE", &path, Value::Null);
    assert_eq!(code(&gateway, "device-1", "secret"), BAD_CREDENTIALS);
    assert_eq!(api.ask("GET", &path, &Value::Null).0, 404);
    assert_eq!(gateway.count("sessions_ended_by_operator"), 5);
}

#[test]
fn a_change_of_attributes_ends_nothing_and_a_deleted_device_leaves_no_session() {
    let (gateway, api) = one_party("");
    add(&api, "device-1", "secret");
    let mut client = gateway.dial();
    let mut connect = login("client-1", "device-1", "secret");
    connect.protocol_version = V311;
    connect.clean_start = false;
    assert_eq!(client.connect_code(&connect), 0);
    client.subscribe("a", 1);
    api.does("PATCH", &device("device-1"), &json!({ "attributes": { "site": "7" } }));
    client.ping();
    let sessions = api.get("/v1/sessions?device=device-1");
    assert_eq!(sessions["sessions"][0]["subscriptions"], json!(["a"]), "{sessions}");
    client.disconnect();
    assert_eq!(gateway.server().session_count(), 1);
    api.does("DELETE", &device("device-1"), &Value::Null);
    assert_eq!(gateway.server().session_count(), 0);
}

#[test]
fn a_session_is_ended_by_its_client_identifier() {
    let (gateway, api) = one_party("");
    add(&api, "device-1", "secret");
    let mut client = gateway.dial();
    assert_eq!(client.connect_code(&login("a/b c", "device-1", "secret")), 0);
    let path = "/v1/products/default/sessions/a%2Fb%20c";
    assert_eq!(api.get(path)["device"], "device-1");
    api.does("DELETE", path, &Value::Null);
    assert_eq!(client.expect_close(), ADMINISTRATIVE_ACTION);
    assert_eq!(api.ask("GET", path, &Value::Null).0, 404);
}

#[test]
fn who_fails_often_has_to_wait_and_others_do_not() {
    let more = "[lockout]\ndevice_failures = 3\nback_off = \"60s\"\n[[device]]\nname = \"device-2\"\n\
                user_name = \"device-2\"\npassword = \"secret\"\n";
    let (gateway, api) = one_party(more);
    add(&api, "device-1", "secret");
    for _ in 0..3 {
        assert_eq!(code(&gateway, "device-1", "wrong"), BAD_CREDENTIALS);
        assert_eq!(code(&gateway, "nobody", "wrong"), BAD_CREDENTIALS);
    }
    assert_eq!(
        code(&gateway, "device-1", "secret"),
        QUOTA_EXCEEDED,
        "also with the right password"
    );
    assert_eq!(code(&gateway, "nobody", "wrong"), QUOTA_EXCEEDED, "also a name that nobody has");
    assert_eq!(code(&gateway, "device-2", "secret"), 0);
    assert_eq!(gateway.count("connects_locked_out"), 2);
}

#[test]
fn a_device_has_permissions_of_its_own() {
    let (gateway, api) = one_party("");
    let device = json!({
        "name": "device-1", "user_name": "u", "password": "secret",
        "permissions": [{ "action": "publish", "topic_filter": "up/%d/#" },
                        { "action": "subscribe", "topic_filter": "down/%d" }],
    });
    api.does("POST", "/v1/devices", &device);
    let mut client = gateway.dial();
    assert_eq!(client.connect_code(&login("c", "u", "secret")), 0);
    assert_eq!(client.publish_at_least_once("up/device-1/x", "1"), 0x10);
    assert_eq!(client.publish_at_least_once("up/device-2/x", "1"), NOT_AUTHORIZED);
    assert_eq!(client.subscribe("down/device-1", 0), 0);
    assert_eq!(client.subscribe("down/#", 0), NOT_AUTHORIZED);
}

#[test]
fn what_is_wrong_with_a_request_is_a_problem_that_says_so() {
    let (_gateway, api) =
        one_party("[[device]]\nname = \"configured\"\nuser_name = \"c\"\npassword = \"secret\"\n");
    add(&api, "device-1", "secret");
    let path = device("device-1");
    for (method, path, body, status, why) in [
        ("POST", "/v1/devices", json!({ "name": "a b" }), 400, "no device name"),
        ("POST", "/v1/devices", json!({ "name": "device-1" }), 409, "already"),
        (
            "POST",
            "/v1/devices",
            json!({ "name": "device-2", "user_name": "device-1" }),
            409,
            "device-1",
        ),
        ("POST", "/v1/devices", json!({ "nam": "device-2" }), 400, "nam"),
        ("POST", "/v1/devices", json!([]), 400, ""),
        ("PATCH", &path, json!({ "name": "device-2" }), 400, "keeps its name"),
        ("PATCH", &path, json!({ "password_hash": "x" }), 400, "known formats"),
        ("DELETE", &device("configured"), Value::Null, 409, "configuration"),
        ("GET", "/v1/devices?limit=0", Value::Null, 400, "limit"),
        ("GET", "/v1/devices?colour=red", Value::Null, 400, "colour"),
        ("GET", "/v1/devices?after=x", Value::Null, 400, "after"),
        ("GET", "/v1/nothing", Value::Null, 404, "openapi"),
        ("PUT", "/v1/devices", Value::Null, 405, "method"),
    ] {
        let (answered, problem) = api.ask(method, path, &body);
        assert_eq!(answered, status, "{method} {path} {body}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{method} {path} {body}: {detail}");
        assert_eq!(problem["status"], status);
    }
    let (status, head, _) = api.raw("POST", "/v1/devices", "text/plain", b"{}");
    assert!(status == 415 && head.contains("application/problem+json"), "{head}");
}

#[test]
fn pages_of_devices_hold_each_of_them_once() {
    let (_gateway, api) = one_party("");
    let devices: Vec<Value> = (0..57)
        .map(|number| json!({ "name": format!("device-{number:03}"), "enabled": number % 2 == 0 }))
        .collect();
    let imported = api.does("POST", "/v1/devices/import", &json!({ "devices": devices }));
    assert_eq!(imported["created"], 57);
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let page = api.get(&format!("/v1/devices?limit=10&enabled=true{after}"));
        names.extend(page["devices"].as_array().unwrap().iter().map(|one| one["name"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(names.len(), 29);
    assert!(names.is_sorted());
    assert_eq!(api.get("/v1/products")["products"][0]["devices"], 57);
}

#[test]
fn a_verified_device_is_created_once_and_an_operator_can_disable_it() {
    let gateway = TestGateway::verified_by("plugin:allow-list")
        .with_example("allow-list")
        .with(&admin_section())
        .start();
    let api = Api::of(&gateway);
    let client = connected(&gateway, "device-1", "demo");
    let shown = api.get(&device("device-1"));
    assert_eq!((&shown["origin"], &shown["enabled"]), (&json!("auto-created"), &json!(true)));
    assert_eq!((&shown["connections"], &shown["has_password"]), (&json!(1), &json!(false)));
    client.disconnect();
    assert_eq!((code(&gateway, "device-1", "demo"), gateway.count("devices_created")), (0, 1));
    let mut client = connected(&gateway, "device-1", "demo");
    api.does("PATCH", &device("device-1"), &json!({ "enabled": false }));
    assert_eq!(client.expect_close(), ADMINISTRATIVE_ACTION);
    assert_eq!(code(&gateway, "device-1", "demo"), NOT_AUTHORIZED);
    let attempts = api.get("/v1/attempts?device=device-1&limit=1");
    let last = api.get("/v1/attempts?user_name=device-1&limit=1");
    assert_eq!(attempts["attempts"][0]["is_admitted"], json!(true));
    assert!(last.to_string().contains("device device-1 is disabled"), "{last}");
    api.does("PATCH", &device("device-1"), &json!({ "enabled": true }));
    assert_eq!(code(&gateway, "device-1", "demo"), 0);
}

#[test]
fn a_verifier_takes_no_name_of_an_imported_device_unless_it_may() {
    let gateway = |line: &str| {
        let gateway = TestGateway::verified_by("plugin:allow-list")
            .with_example("allow-list")
            .with_gateway_line(line)
            .with(&admin_section())
            .start();
        let api = Api::of(&gateway);
        add(&api, "device-1", "other");
        api.does("POST", "/v1/devices", &json!({ "name": "application", "enabled": false }));
        gateway
    };
    let strict = gateway("");
    assert_eq!(code(&strict, "device-1", "demo"), NOT_AUTHORIZED);
    let lax = gateway("taken_names = \"admit\"\ndisabled_devices = \"enable\"");
    assert_eq!(code(&lax, "device-1", "demo"), 0);
    assert_eq!(code(&lax, "app", "demo"), 0);
}

#[test]
fn an_attempt_is_told_step_by_step_and_without_secrets() {
    let (gateway, api) = one_party("");
    add(&api, "device-1", "secret-word");
    assert_eq!(code(&gateway, "device-1", "wrong-word"), BAD_CREDENTIALS);
    assert_eq!(code(&gateway, "device-1", "secret-word"), 0);
    let found = api.get("/v1/attempts?client_id=device-1");
    let attempts = found["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{found}");
    let admitted = &attempts[0];
    assert_eq!((&admitted["is_admitted"], &admitted["device"]), (&json!(true), &json!("device-1")));
    let stages = |attempt: &Value| -> Vec<String> {
        let steps = attempt["steps"].as_array().unwrap();
        steps.iter().map(|step| format!("{}:{}", step["stage"], step["outcome"])).collect()
    };
    let all = ["limits", "verification", "permissions", "session"];
    let all = all.map(|stage| format!("{stage:?}:\"passed\""));
    assert_eq!(stages(admitted), all);
    assert_eq!(stages(&attempts[1]).last().unwrap(), r#""verification":"refused""#);
    assert!(attempts[1].to_string().contains("its password is another"), "{found}");
    assert!(!found.to_string().contains("-word"), "{found}");
    // A CONNECT that cannot be read: nothing but its address tells whose it is.
    let mut client = Client::dial(gateway.address());
    client.send_hex("10 02 00 04");
    client.expect_close();
    let found = api.get("/v1/attempts?peer=127.0.0.1");
    let unreadable = &found["attempts"][0];
    assert_eq!(stages(unreadable), [r#""packet":"refused""#], "{found}");
}

#[test]
fn nothing_is_read_or_changed_without_a_token_of_its_scope() {
    let (_gateway, api) = one_party("");
    add(&api, "device-1", "secret");
    let document = api.get("/v1/openapi.json");
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{product}", "default").replace("{name}", "device-1");
        let path = path.replace("{client_id}", "c");
        let is_open = path == "/healthz" || path == "/readyz";
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            for token in [None, Some("other-token"), Some("")] {
                let (status, _, body) =
                    api.by(token).raw(&method, &path, "application/json", b"{}");
                assert_eq!(status, if is_open { 200 } else { 401 }, "{method} {path}: {body}");
            }
            if method != "GET" {
                let reader = api.by(Some("read-token"));
                let (status, _, body) = reader.raw(&method, &path, "application/json", b"{}");
                assert_eq!(status, 403, "{method} {path}: {body}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count} operations");
    let reader = api.by(Some("read-token"));
    assert_eq!(reader.get("/v1/devices")["devices"][0]["name"], "device-1");
    let operator = api.by(Some("operate-token"));
    for path in ["/v1/audit", "/v1/devices?credentials=true"] {
        assert_eq!(operator.ask("GET", path, &Value::Null).0, 403, "{path}");
    }
    assert!(api.get("/v1/devices?credentials=true").to_string().contains("$argon2id$"));
    operator.does("POST", &format!("{}/kick", device("device-1")), &Value::Null);
    let audit = api.get("/v1/audit").to_string();
    assert!(audit.contains(r#""by":"token operate","action":"kick""#), "{audit}");
    assert!(audit.contains(r#""by":"token admin","action":"add""#), "{audit}");
}

#[test]
fn metrics_count_and_health_is_told() {
    let (gateway, api) = one_party("");
    assert_eq!(code(&gateway, "nobody", "x"), BAD_CREDENTIALS);
    let (status, head, text) = api.raw("GET", "/metrics", "text/plain", b"");
    assert!(status == 200 && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(text.contains("\nportreeve_connects_refused_total 1\n"), "{text}");
    assert!(text.contains("# HELP portreeve_connects_refused_total CONNECTs that were refused."));
    assert_eq!(api.get("/readyz")["status"], "ok");
}
