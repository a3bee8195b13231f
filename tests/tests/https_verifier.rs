//! The ready plugin `https-verifier`, with a real service over HTTPS behind it: each preset, and what becomes of a
//! CONNECT when the service refuses, is away, is slow, is another one, or talks nonsense.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use portreeve_tests::binary::free_address;
use portreeve_tests::client::connect;
use portreeve_tests::https_gateway::{HttpsGateway, call, manifest, trusting};
use portreeve_tests::https_service::{Answer, HttpsService, Question};
use portreeve_tests::pki::{bundle, named, openssl};
use portreeve_tests::{Client, V5, V311};
use serde_json::json;

/// MQTT 5.0 §3.2.2.2.
const ACCEPTED: u8 = 0;
const SERVER_UNAVAILABLE: u8 = 0x88;
const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;

/// Whether a question in JSON is about `device-1` with its password.
fn knows(question: &Question, user: &str, password: &str) -> bool {
    let body = question.json();
    body[user] == "device-1" && body[password] == "demo"
}

#[test]
fn portreeves_own_contract_admits_and_refuses() {
    let service = HttpsService::start(|question| match question.json()["userName"].as_str() {
        Some("device-1") if knows(question, "userName", "password") => Answer::json(json!({
            "result": "accept", "deviceName": "pump-1", "attributes": {"site": "north"},
            "permissions": [{"action": "publish", "topicFilter": "d/%d/#"}], "expiresIn": 3600,
        })),
        Some("stolen") => Answer::json(json!({"result": "reject", "reason": "banned"})),
        Some("busy") => Answer::status(429),
        Some("moved") => Answer::json(json!({
            "result": "reject", "reason": "use-another-server", "serverReference": "gw2:1883",
        })),
        _ => Answer::json(json!({"result": "reject", "message": "who are you?"})),
    });
    let gateway = HttpsGateway::asking(&service, "product = \"pumps\"");
    let (mut device, code) = gateway.connect(V5, "device-1", b"demo");
    assert_eq!(code, ACCEPTED);
    assert_eq!(device.publish_at_least_once("d/pump-1/x", "1"), 0x10, "nobody subscribes");
    assert_eq!(device.publish_at_least_once("d/pump-2/x", "1"), NOT_AUTHORIZED);
    let question = service.questions().remove(0);
    assert_eq!((question.method.as_str(), question.target.as_str()), ("POST", "/verify"));
    assert_eq!(question.header("content-type"), "application/json");
    let mut body = question.json();
    let peer = body["peerAddress"].take();
    assert!(peer.as_str().unwrap().starts_with("127.0.0.1:"), "{peer}");
    let expected = json!({
        "clientId": "c-device-1", "userName": "device-1", "password": "demo", "certificate": null,
        "peerAddress": null, "gateway": "main", "product": "pumps",
    });
    assert_eq!(body, expected);
    assert_eq!(gateway.code("device-1", "wrong"), NOT_AUTHORIZED);
    let line = gateway.process.wait_for_log("CONNECT refused");
    assert!(line.contains("who are you?"), "{line}");
    let codes = ["stolen", "busy", "moved"].map(|user| gateway.code(user, ""));
    assert_eq!(codes, [0x8A, 0x89, 0x9C]);
    assert_eq!(gateway.connect(V311, "device-1", b"demo").1, ACCEPTED);
    assert_eq!(gateway.connect(V311, "nobody", b"").1, 5);
    let verdict =
        call(&manifest(&service.url("/verify"), "", &trusting("root")), "device-1", "demo");
    assert_eq!(verdict["verdict"], "admit");
    assert_eq!(verdict["device_name"], "pump-1");
    assert_eq!(verdict["expires_in"], 3600);
    assert!(verdict["attributes"].to_string().contains("north"), "{verdict}");
}

#[test]
fn an_emqx_service_is_understood() {
    let service = HttpsService::start(|question| match question.json()["username"].as_str() {
        Some("root-1") => Answer::json(json!({"result": "allow", "is_superuser": true})),
        Some("device-1") if knows(question, "username", "password") => Answer::json(json!({
            "result": "allow", "client_attrs": {"role": "sensor"}, "expire_at": 4_000_000_000_u32,
            "acl": [
                {"permission": "allow", "action": "all", "topic": "d/${clientid}/#"},
                {"permission": "deny", "action": "all", "topic": "#"},
            ],
        })),
        Some("plain-1") => Answer::status(204),
        Some("form-1") => Answer::text("application/x-www-form-urlencoded", "result=allow"),
        Some("mixed-1") => Answer::json(json!({"result": "allow", "acl": [
            {"permission": "deny", "action": "all", "topic": "d/secret"},
            {"permission": "allow", "action": "all", "topic": "#"},
        ]})),
        Some("else-1") => Answer::json(json!({"result": "ignore"})),
        Some("html-1") => Answer::text("text/html", "<html>"),
        _ => Answer::json(json!({"result": "deny"})),
    });
    let gateway = HttpsGateway::asking(&service, "preset = \"emqx\"");
    let (mut device, code) = gateway.connect(V5, "device-1", b"demo");
    assert_eq!(code, ACCEPTED);
    assert_eq!(device.publish_at_least_once("d/c-device-1/x", "1"), 0x10);
    assert_eq!(device.publish_at_least_once("other", "1"), NOT_AUTHORIZED);
    let expected = json!({"clientid": "c-device-1", "username": "device-1", "password": "demo"});
    assert_eq!(service.questions()[0].json(), expected);
    let (mut root, code) = gateway.connect(V5, "root-1", b"x");
    assert_eq!((code, root.subscribe("#", 0)), (ACCEPTED, 0));
    let codes = ["plain-1", "form-1"].map(|user| gateway.code(user, "x"));
    assert_eq!(codes, [ACCEPTED; 2]);
    let codes = ["nobody", "else-1", "mixed-1"].map(|user| gateway.code(user, "x"));
    assert_eq!(codes, [NOT_AUTHORIZED; 3]);
    assert_eq!(gateway.code("html-1", "x"), SERVER_UNAVAILABLE);
    let emqx = manifest(&service.url("/verify"), "preset = \"emqx\"", &trusting("root"));
    let verdict = call(&emqx, "device-1", "demo");
    assert!(verdict["attributes"].to_string().contains("sensor"), "{verdict}");
    assert!(verdict["expires_in"].as_u64().unwrap() > 1_000_000, "{verdict}");
    assert!(verdict["permissions"].to_string().contains("d/%c/#"), "{verdict}");
}

#[test]
fn a_webhook_of_azure_event_grid_is_understood() {
    let service = HttpsService::start(|question| match question.json()["password"].as_str() {
        // base64 of "demo"
        Some("ZGVtbw==") => Answer::json(json!({
            "decision": "allow", "clientAuthenticationName": "device-1.example",
            "attributes": {"floor": 3, "rooms": ["a", "b"]}, "expiration": 4_000_000_000_u32,
        })),
        Some(_) => Answer::json(json!({"decision": "deny", "errorReason": "not in the list"})),
        None => Answer::json(json!({"decision": "allow"})),
    });
    let gateway = HttpsGateway::asking(&service, "preset = \"azure-event-grid\"");
    assert_eq!(gateway.code("device-1", "demo"), ACCEPTED);
    let expected =
        json!({"clientId": "c-device-1", "userName": "device-1", "password": "ZGVtbw=="});
    assert_eq!(service.questions()[0].json(), expected);
    assert_eq!(gateway.code("device-1", "wrong"), NOT_AUTHORIZED);
    let line = gateway.process.wait_for_log("not in the list");
    assert!(line.contains("plugin=\"https-verifier\""), "{line}");
    let mut nameless = Client::dial(gateway.address);
    assert_eq!(nameless.connect_code(&connect(V5, "client-1")), SERVER_UNAVAILABLE);
    let line = gateway.process.wait_for_log("no verdict");
    assert!(line.contains("/clientAuthenticationName"), "{line}");
}

#[test]
fn a_backend_of_mosquitto_go_auth_is_understood_in_each_mode() {
    let service = HttpsService::start(|question| {
        let is_known = match question.header("content-type") {
            "application/json" => knows(question, "username", "password"),
            _ => question.text() == "username=device-1&password=demo&clientid=c-device-1",
        };
        match question.target.as_str() {
            "/verify/json" => Answer::json(json!({"Ok": is_known, "Error": "wrong password"})),
            "/verify/text" => Answer::text("text/plain", if is_known { "ok" } else { "no" }),
            _ => Answer::status(if is_known { 200 } else { 401 }),
        }
    });
    for (path, modes) in [
        ("/verify", ""),
        ("/verify", "params_mode = \"form\""),
        ("/verify/json", "response_mode = \"json\""),
        ("/verify/text", "response_mode = \"text\"\nparams_mode = \"form\""),
    ] {
        let settings = format!("preset = \"mosquitto-go-auth\"\n{modes}");
        let manifest = manifest(&service.url(path), &settings, &trusting("root"));
        let gateway = HttpsGateway::start(&manifest);
        assert_eq!(gateway.code("device-1", "demo"), ACCEPTED, "{path} {modes}");
        assert_eq!(gateway.code("device-1", "no"), BAD_USER_NAME_OR_PASSWORD, "{path} {modes}");
        let asked = service.questions().len();
        let mut nobody = Client::dial(gateway.address);
        assert_eq!(nobody.connect_code(&connect(V5, "c")), BAD_USER_NAME_OR_PASSWORD);
        assert_eq!(service.questions().len(), asked, "nobody was asked about");
    }
}

#[test]
fn a_service_that_is_away_slow_or_talks_nonsense_lets_nobody_in() {
    let nobody_listens = format!("https://{}/verify", free_address());
    let gateway = HttpsGateway::start(&manifest(&nobody_listens, "", &trusting("root")));
    assert_eq!(gateway.code("device-1", "demo"), SERVER_UNAVAILABLE);
    assert_eq!(gateway.connect(V311, "device-1", b"demo").1, 3);
    let line = gateway.process.wait_for_log("no verdict");
    assert!(line.contains("cannot be reached"), "{line}");

    let accept = json!({"result": "accept", "deviceName": "device-1"});
    let service =
        HttpsService::start(move |question| match question.json()["userName"].as_str().unwrap() {
            "slow" => Answer::json(&accept).after(Duration::from_secs(5)),
            "html" => Answer::text("text/html", "<html>welcome</html>"),
            "empty" => Answer::json(""),
            "twice" => Answer::json(r#"{"result":"reject","result":"accept"}"#),
            "long" => Answer::json(format!("{accept}{}", " ".repeat(100_000))),
            "deep" => Answer::json("[".repeat(50_000)),
            "nameless" => Answer::json(json!({"result": "accept", "deviceName": "a b"})),
            "teapot" => Answer::status(418),
            "moved" => Answer::status(302),
            "failed" => Answer::status(500),
            other => panic!("{other}"),
        });
    let gateway = HttpsGateway::start(&manifest(
        &service.url("/verify"),
        "retries = 0",
        &format!("{}\n", trusting("root")),
    ));
    let begin = Instant::now();
    assert_eq!(gateway.code("slow", "x"), SERVER_UNAVAILABLE);
    assert!(begin.elapsed() < Duration::from_secs(4), "its time is that of http_client.timeout");
    for user in ["html", "empty", "twice", "long", "deep", "nameless", "teapot", "moved", "failed"]
    {
        assert_eq!(gateway.code(user, "x"), SERVER_UNAVAILABLE, "{user}");
    }
}

#[test]
fn what_passes_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let service = HttpsService::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => Answer::status(503),
        _ => Answer::json(json!({"result": "accept"})),
    });
    let gateway = HttpsGateway::asking(&service, "");
    assert_eq!(gateway.code("device-1", "demo"), ACCEPTED);
    assert_eq!(service.questions().len(), 2);
    let without = manifest(&service.url("/verify"), "retries = 0", &trusting("root"));
    let gateway = HttpsGateway::start(&without);
    assert_eq!(gateway.code("device-1", "demo"), SERVER_UNAVAILABLE);
    assert_eq!(service.questions().len(), 3);
}

#[test]
fn only_a_service_that_can_be_trusted_is_asked() {
    let service = HttpsService::start(|_| Answer::json(json!({"result": "accept"})));
    let url = service.url("/verify");
    for http_client in [String::new(), trusting("root2")] {
        let gateway = HttpsGateway::start(&manifest(&url, "", &http_client));
        assert_eq!(gateway.code("device-1", "demo"), SERVER_UNAVAILABLE, "{http_client}");
        let line = gateway.process.wait_for_log("HTTP failed");
        assert!(line.contains("certificate"), "{line}");
    }
    assert_eq!(service.questions(), [], "no password was sent to it");
}

#[test]
fn the_gateway_shows_its_certificate_to_a_service_that_demands_one() {
    let service = HttpsService::mutual(named("root"), |question| {
        assert!(question.has_certificate);
        Answer::json(json!({"result": "accept"}))
    });
    let url = service.url("/verify");
    let gateway = HttpsGateway::start(&manifest(&url, "", &trusting("root")));
    assert_eq!(gateway.code("device-1", "demo"), SERVER_UNAVAILABLE);
    let folder = tempfile::tempdir().unwrap();
    let identity = named("dev_ec");
    let chain = bundle(folder.path(), "gateway.pem", &[identity, named("int")]);
    let http_client = format!(
        "{}\nclient_certificate = {chain:?}\nclient_key = {:?}",
        trusting("root"),
        identity.key
    );
    let gateway = HttpsGateway::start(&manifest(&url, "", &http_client));
    assert_eq!(gateway.code("device-1", "demo"), ACCEPTED);
}

/// Base64 of the bytes 0 to 31, with the prefix of Standard Webhooks.
const SIGN_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The signature that a question should have, made by OpenSSL.
fn signature(question: &Question) -> String {
    let hexkey: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let head =
        format!("{}.{}.", question.header("webhook-id"), question.header("webhook-timestamp"));
    let content = [head.as_bytes(), &question.body].concat();
    let macopt = format!("hexkey:{hexkey}");
    let mac = openssl(
        &["dgst", "-sha256", "-mac", "HMAC", "-macopt", macopt.as_str(), "-binary"],
        &content,
    );
    let base64 = openssl(&["base64", "-A"], &mac);
    format!("v1,{}", String::from_utf8(base64).unwrap().trim())
}

#[test]
fn the_service_can_verify_who_asks_and_no_secret_is_logged() {
    let service = HttpsService::start(|question| {
        let at: u64 = question.header("webhook-timestamp").parse().unwrap_or(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let is_signed = question.header("webhook-signature") == signature(question);
        match is_signed && now.abs_diff(at) < 60 {
            true => Answer::json(json!({"result": "accept"})),
            false => Answer::status(412),
        }
    });
    let url = service.url("/verify");
    let signed = format!(
        "sign_secret = {SIGN_SECRET:?}\ntoken = \"t0ken-0f-service\"\n\
         headers = {{ authorization = \"Bearer ${{setting.token}}\" }}"
    );
    let gateway = HttpsGateway::start(&manifest(&url, &signed, &trusting("root")));
    assert_eq!(gateway.code("device-1", "pa55word-of-device"), ACCEPTED);
    assert_eq!(gateway.code("device-1", "pa55word-of-device"), ACCEPTED);
    let questions = service.questions();
    assert_ne!(questions[0].header("webhook-id"), questions[1].header("webhook-id"));
    assert_eq!(questions[0].header("authorization"), "Bearer t0ken-0f-service");
    let log = gateway.process.log_lines().join("\n");
    for secret in ["pa55word-of-device", SIGN_SECRET, "t0ken-0f-service"] {
        assert!(!log.contains(secret), "{log}");
    }
    let unsigned = HttpsGateway::start(&manifest(&url, "", &trusting("root")));
    assert_eq!(unsigned.code("device-1", "demo"), SERVER_UNAVAILABLE);
}

#[test]
fn a_warm_instance_asks_as_often_as_it_is_wanted() {
    // Of everything that a request opens in the gateway, nothing is left open.
    const CONNECTS: usize = 400;
    let service = HttpsService::start(|_| Answer::json(json!({"result": "accept"})));
    let one = manifest(&service.url("/verify"), "", &trusting("root"))
        .replace("instances = 64", "instances = 1");
    let gateway = HttpsGateway::start(&one);
    for _ in 0..CONNECTS {
        assert_eq!(gateway.code("device-1", "demo"), ACCEPTED);
    }
    assert_eq!(gateway.show()["live"]["instance_starts"], 1, "in one instance");
    assert_eq!(service.questions().len(), CONNECTS);
}

#[test]
fn what_a_device_says_stays_in_its_place_and_is_no_fault_of_the_plugin() {
    let service = HttpsService::start(|_| Answer::json(json!({"result": "accept"})));
    let settings = "headers = { x-user = \"${user_name}\" }\ndevice_name = \"${client_id}\"";
    let gateway = HttpsGateway::asking(&service, settings);
    for user in ["a\r\nx-admin: 1", " device-1"] {
        assert_eq!(gateway.code(user, "demo"), BAD_USER_NAME_OR_PASSWORD, "{user:?}");
    }
    let code = gateway.connect(V5, "device-1", &[0xff, 0xfe]).1;
    assert_eq!(code, BAD_USER_NAME_OR_PASSWORD, "a password that is no text");
    assert_eq!(service.questions(), []);
    assert_eq!(gateway.code("\",\"userName\":\"admin", "demo"), ACCEPTED);
    let question = service.questions().remove(0);
    assert_eq!(question.json()["userName"], "\",\"userName\":\"admin");
    assert_eq!(gateway.show()["live"]["faults"], json!({}), "the breaker counts none of it");
}

#[test]
fn a_mistake_in_the_settings_is_named_and_lets_nobody_in() {
    let service = HttpsService::start(|_| Answer::json(json!({"result": "accept"})));
    for (settings, named) in [
        ("preset = \"aws\"", "`preset`"),
        ("statuss = {}", "`statuss`"),
        ("device_name = \"${user}\"", "`device_name`"),
    ] {
        let gateway = HttpsGateway::asking(&service, settings);
        assert_eq!(gateway.code("device-1", "demo"), SERVER_UNAVAILABLE, "{settings}");
        let line = gateway.process.wait_for_log("no verdict");
        assert!(line.contains(named), "{line}");
    }
    assert_eq!(service.questions(), []);
}
