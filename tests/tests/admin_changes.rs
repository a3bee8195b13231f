//! What an operator changes through the admin API stands in the gateway's files, and what cannot be used
//! leaves them as they are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use portreeve_tests::api::{Api, admin_section};
use portreeve_tests::binary::{Process, binary, free_address};
use portreeve_tests::openssl::shown;
use portreeve_tests::pki::{Certificate, named};
use portreeve_tests::plugins::{manifest, variant};
use portreeve_tests::tls_gateway::{RunningTls, TlsGateway};
use portreeve_tests::{RunningGateway, TestGateway, V5};
use serde_json::{Value, json};

const LIMITS: &str = "/v1/gateways/test/limits";
const BINDINGS: &str = "/v1/gateways/test/bindings";

fn started(gateway: TestGateway) -> (RunningGateway, Api) {
    let gateway = gateway.with(&admin_section()).with_a_file().start();
    let api = Api::of(&gateway);
    (gateway, api)
}

fn text(gateway: &RunningGateway) -> String {
    fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap()
}

/// Has something done that is refused: with this status, and a reason that holds `why`. The file is what it
/// was.
fn refused(gateway: &RunningGateway, api: &Api, order: (&str, &str, Value), expected: (u16, &str)) {
    let (method, path, body) = order;
    let (status, why) = expected;
    let before = text(gateway);
    let (answered, problem) = api.ask(method, path, &body);
    assert_eq!(answered, status, "{body}: {problem}");
    assert!(problem["detail"].as_str().unwrap().contains(why), "{body}: {problem}");
    assert_eq!(text(gateway), before, "{body}");
}

#[test]
fn a_limit_is_another_in_the_file_and_needs_a_restart_until_it_is_back() {
    let gateway = TestGateway::open()
        .with_limit("connections_max", "50 # as many as the line carries")
        .with_limit("# the next one was measured\nin_flight_max", "10")
        .with_limit("filters_max", "7");
    let (gateway, api) = started(gateway);
    let path = gateway.folder().join("gateway.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let before = text(&gateway);
    let order = json!({ "connections_max": 60, "filters_max": null, "in_flight_max": 10 });
    let changed = api.does("PATCH", LIMITS, &order);
    let restart = "the limits of gateway \"test\"";
    let expected = json!({
        "changed": ["connections_max", "filters_max"], "live": false, "needs_restart": [restart],
        "detail": "",
    });
    assert_eq!(changed, expected);
    let expected = before.replace("connections_max = 50 #", "connections_max = 60 #");
    let expected = expected.replace("filters_max = 7\n", "");
    assert_eq!(text(&gateway), expected, "all else is what it was");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(api.get("/v1/gateways/test")["limits"]["connections_max"], 50);
    // Somebody changes it by hand meanwhile, and does not lose it.
    gateway.configure(|text| text.replace("was measured", "was estimated"));
    let back = json!({ "connections_max": 50, "filters_max": 7 });
    let changed = api.does("PATCH", LIMITS, &back);
    assert_eq!((&changed["live"], &changed["needs_restart"]), (&json!(true), &json!([])));
    assert!(text(&gateway).contains("# the next one was estimated"));
    let same = api.does("PATCH", LIMITS, &back);
    assert_eq!((&same["changed"], &same["live"]), (&json!([]), &json!(true)));
    let audit = api.get("/v1/audit");
    let changes = audit["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "what changes nothing is no change: {audit}");
    let first = &changes[0];
    assert_eq!((&first["by"], &first["action"]), (&json!("token admin"), &json!("change")));
    assert_eq!(first["what"], "limits of gateway test");
    assert_eq!(first["detail"], "connections_max=60 filters_max=default in_flight_max=10");
}

#[test]
fn a_limit_that_cannot_be_used_leaves_the_file_as_it_is() {
    let (gateway, api) = started(TestGateway::open().with_limit("filters_max", "7 # few"));
    for (path, body, status, why) in [
        (LIMITS, json!({ "filters_max": 0 }), 422, "gateway[0].limits.filters_max"),
        (LIMITS, json!({ "filters_max": "many" }), 422, "filters_max"),
        (LIMITS, json!({ "connections_mx": 1 }), 422, "connections_max"),
        (LIMITS, json!({ "filters_max": 8, "in_flight_max": 0 }), 422, "in_flight_max"),
        (LIMITS, json!({ "filters_max": [1] }), 400, "whole number"),
        (LIMITS, json!({ "filters_max": 1.5 }), 400, "whole number"),
        (LIMITS, json!([]), 400, ""),
        ("/v1/gateways/none/limits", json!({ "filters_max": 8 }), 404, "none"),
    ] {
        refused(&gateway, &api, ("PATCH", path, body), (status, why));
    }
    assert_eq!(api.ask("GET", "/v1/gateways/none", &Value::Null).0, 404);
    assert_eq!(api.get("/v1/audit")["changes"], json!([]));
    // A mistake that somebody makes by hand is told, and not written over.
    gateway.configure(|text| text.replace("filters_max = 7", "filters_max = -7"));
    refused(&gateway, &api, ("PATCH", LIMITS, json!({ "in_flight_max": 9 })), (422, "filters_max"));
    gateway.configure(|text| text.replace("filters_max = -7", "filters_max = "));
    refused(
        &gateway,
        &api,
        ("PATCH", LIMITS, json!({ "in_flight_max": 9 })),
        (409, "cannot be read"),
    );
}

#[test]
fn only_an_admin_changes_files_and_only_where_there_are_some() {
    let (gateway, api) = started(TestGateway::open());
    for (method, path) in
        [("PATCH", LIMITS), ("PUT", BINDINGS), ("PUT", "/v1/gateways/test/certificates/gw")]
    {
        for (token, status) in
            [(Some("read-token"), 403), (Some("operate-token"), 403), (None, 401)]
        {
            let by = api.by(token);
            refused(&gateway, &by, (method, path, json!({ "filters_max": 8 })), (status, ""));
        }
    }
    let without = TestGateway::open().with(&admin_section()).start();
    let api = Api::of(&without);
    let pem = json!({ "chain": "", "key": "" });
    for (method, path, body) in [
        ("PATCH", LIMITS, json!({ "filters_max": 8 })),
        ("PUT", BINDINGS, json!({ "bindings": [] })),
        ("PUT", "/v1/gateways/test/certificates/gw", pem),
    ] {
        let (status, problem) = api.ask(method, path, &body);
        assert_eq!(status, 409, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("--config FILE"), "{problem}");
    }
}

#[test]
fn bindings_are_others_while_a_client_is_connected() {
    let gateway = TestGateway::open().with_plugin("versioned", &manifest("1", "")).with_binding(
        "versioned",
        "a/in",
        "may_publish = [\"a/out\"] # nowhere else",
    );
    let (gateway, api) = started(gateway);
    let mut client = gateway.client(V5, "client-1");
    client.subscribe("+/in", 0);
    client.subscribe("+/out", 0);
    let mut answer = |topic: &str| {
        assert!(client.publish_at_least_once(topic, "x") < 0x80);
        client.next_publish().text()
    };
    assert_eq!((answer("a/in"), answer("b/in")), ("1:x".to_owned(), "x".to_owned()));
    let first = json!({ "topic": "a/in", "plugin": "versioned", "may_publish": ["a/out"] });
    let second = json!({
        "topic": "b/in", "plugin": "versioned", "direction": "up", "may_publish": ["b/out"],
        "on_error": "drop",
    });
    let changed = api.does("PUT", BINDINGS, &json!({ "bindings": [first, second] }));
    let expected =
        json!({ "changed": ["bindings"], "live": true, "needs_restart": [], "detail": "" });
    assert_eq!(changed, expected);
    assert_eq!((answer("a/in"), answer("b/in")), ("1:x".to_owned(), "1:x".to_owned()));
    assert!(text(&gateway).contains("may_publish = [\"a/out\"] # nowhere else\n"));
    assert_eq!(api.get("/v1/gateways/test")["bindings"][1]["on_error"], "drop");
    let none = json!({ "topic": "a/in", "plugin": "none" });
    for (bindings, status, why) in [
        (json!([none]), 422, "none"),
        (json!([{ "topic": "a/#/b", "plugin": "versioned" }]), 422, "a/#/b"),
        (json!([{ "topic": "a/in", "plugin": "versioned", "on_error": "cry" }]), 422, "cry"),
        (json!([{ "topic": "a/in", "plugin": "versioned", "colour": "red" }]), 400, "colour"),
        (json!([{ "topic": "a/in" }]), 400, "plugin"),
    ] {
        let body = json!({ "bindings": bindings });
        refused(&gateway, &api, ("PUT", BINDINGS, body), (status, why));
    }
    api.does("PUT", BINDINGS, &json!({ "bindings": [] }));
    assert!(!text(&gateway).contains("binding"), "{}", text(&gateway));
    assert_eq!((answer("a/in"), answer("b/in")), ("x".to_owned(), "x".to_owned()));
    let audit = api.get("/v1/audit").to_string();
    assert!(audit.contains("a/in=versioned b/in=versioned"), "{audit}");
}

/// What is to be the certificate `gw` of the gateway `main`: a chain below `int` and a key.
fn rotate(gateway: &RunningTls, certificate: &Certificate, key: &Certificate) -> (u16, Value) {
    let read = |path: &std::path::Path| fs::read_to_string(path).unwrap();
    let chain = format!("{}{}", read(&certificate.crt), read(&named("int").crt));
    let body = json!({ "chain": chain, "key": read(&key.key) }).to_string();
    let (status, answer) = gateway.admin_with("PUT", "/v1/gateways/main/certificates/gw", &body);
    let said = format!("{answer}{}", gateway.log());
    let secret = read(&key.key).lines().nth(1).unwrap().to_owned();
    assert!(!said.contains(&secret) && !said.contains("PRIVATE KEY"), "{said}");
    (status, serde_json::from_str(&answer).unwrap())
}

fn serial(gateway: &RunningTls) -> String {
    let said = gateway.client("main").with("-servername").with("gw.test").inspect();
    let begin = said.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{said}"));
    let pem = &said.as_bytes()[begin..];
    let out = portreeve_tests::pki::openssl(&["x509", "-noout", "-serial"], pem);
    let out = String::from_utf8(out).unwrap();
    shown(&out, "serial=").unwrap().to_owned()
}

#[test]
fn a_certificate_is_rotated_and_what_cannot_serve_is_not_taken() {
    let gateway = TlsGateway::new().server_only("main").start();
    let files = || ["gw.pem", "gw.key"].map(|name| fs::read(gateway.lab().file(name)).unwrap());
    assert_eq!(serial(&gateway), named("gw").serial);
    let (status, changed) = rotate(&gateway, named("gw_next"), named("gw_next"));
    assert_eq!((status, &changed["live"]), (200, &json!(true)), "{changed}");
    assert_eq!(changed["changed"], json!(["certificate gw"]));
    assert_eq!(serial(&gateway), named("gw_next").serial);
    let mode = |name: &str| fs::metadata(gateway.lab().file(name)).unwrap().permissions().mode();
    assert_eq!(mode("gw.key") & 0o777, 0o600);
    let before = files();
    assert_eq!(before[1], fs::read(&named("gw_next").key).unwrap());
    for (certificate, key, why) in [
        (named("gw"), named("gw_next"), "does not belong"),
        (named("gw_exp"), named("gw_exp"), "has expired"),
        (named("dev_early"), named("dev_early"), "is not valid yet"),
    ] {
        let (status, problem) = rotate(&gateway, certificate, key);
        assert_eq!(status, 422, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
        assert!(files() == before, "{why}: files are what they were");
    }
    let put = |path: &str, body: &str| gateway.admin_with("PUT", path, body);
    for (path, body, status) in [
        ("/v1/gateways/main/certificates/gw", r#"{"chain":"x","key":"y"}"#, 422),
        ("/v1/gateways/main/certificates/gw", r#""BEGIN of a key that is secret""#, 400),
        ("/v1/gateways/main/certificates/none", r#"{"chain":"x","key":"y"}"#, 404),
        ("/v1/gateways/none/certificates/gw", r#"{"chain":"x","key":"y"}"#, 404),
    ] {
        let (answered, problem) = put(path, body);
        assert!(answered == status && !problem.contains("is secret"), "{path}: {problem}");
    }
    assert!(files() == before);
    assert_eq!(serial(&gateway), named("gw_next").serial);
    let (_, audit) = gateway.admin("GET", "/v1/audit");
    let audit: Value = serde_json::from_str(&audit).unwrap();
    assert_eq!(audit["changes"].as_array().unwrap().len(), 1, "{audit}");
    let change = &audit["changes"][0];
    assert_eq!(change["what"], "certificate gw of gateway main");
    assert!(change["detail"].as_str().unwrap().contains("SHA-256"), "{audit}");
}

#[test]
fn the_command_line_changes_limits_under_flags_and_a_restart_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let (config, address) = (path.to_str().unwrap(), free_address().to_string());
    let lines = "[data]\ndirectory = \"data\"\n[[gateway]] # mine\nname = \"main\"\n\
                 [[gateway.listener]]\naddress = \"127.0.0.1:1\"\n";
    fs::write(&path, lines).unwrap();
    // The file alone would not do: nobody is let in without a verification.
    let start = || {
        let flags = ["--config", config, "--listen", &address, "--verification", "open"];
        Process::start(&flags).unwrap()
    };
    let portreeve = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        let output = command.args(arguments).args(["--config", config]).output().unwrap();
        let (out, error) = (output.stdout, output.stderr);
        let said = String::from_utf8([out, error].concat()).unwrap();
        (output.status.code(), said)
    };
    let process = start();
    let (code, said) =
        portreeve(&["gateway", "limits", "main", "filters_max=9", "connect_timeout=7s"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("changed: connect_timeout, filters_max; in the file"), "{said}");
    assert!(said.contains("with a restart: the limits of gateway \"main\""), "{said}");
    let added = "\n[gateway.limits]\nconnect_timeout = \"7s\"\nfilters_max = 9\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{lines}{added}"));
    let (code, said) = portreeve(&["gateway", "limits", "main", "filters_max=0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("filters_max"), "{said}");
    let shown =
        || -> Value { serde_json::from_str(&portreeve(&["gateway", "show", "main"]).1).unwrap() };
    assert_ne!(shown()["limits"]["filters_max"], 9);
    assert_eq!(process.terminate(), Some(0));
    let _process = start();
    assert_eq!(shown()["limits"]["filters_max"], 9);
    assert_eq!(shown()["limits"]["connect_timeout_ms"], 7_000);
    assert!(portreeve(&["gateway", "list"]).1.contains("main"));
}

fn put_component(api: &Api, plugin: &str, bytes: &[u8]) -> (u16, Value) {
    let path = format!("/v1/plugins/{plugin}/component");
    let (status, _, body) = api.raw("PUT", &path, "application/wasm", bytes);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[test]
fn a_component_is_live_or_on_its_way_and_one_that_is_refused_is_taken_back() {
    let gateway = TestGateway::open()
        .with_plugin("versioned", &manifest("1", ""))
        .with_binding("versioned", "a/in", "may_publish = [\"a/out\"]")
        .with("[data]\ndirectory = \"data\"");
    let (gateway, api) = started(gateway);
    let file = |name: &str| fs::read(gateway.folder().join(name));
    let (status, changed) = put_component(&api, "versioned", &variant("versioned", 1));
    assert_eq!((status, &changed["live"]), (200, &json!(true)), "{changed}");
    assert_eq!(changed["changed"], json!(["component"]));
    assert_eq!(file("versioned.wasm").unwrap(), variant("versioned", 1));
    // No component at all; one that is no parser, which the binding needs; a name that is a path.
    for (plugin, bytes, status, why) in [
        ("versioned", b"\0asm junk".to_vec(), 422, ""),
        ("versioned", variant("scripted", 1), 422, "no parser"),
        ("new", b"junk".to_vec(), 422, ""),
        ("..%2Fnew", variant("versioned", 2), 422, "name"),
    ] {
        let (answered, problem) = put_component(&api, plugin, &bytes);
        assert_eq!(answered, status, "{plugin}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{plugin}: {problem}");
        assert_eq!(file("versioned.wasm").unwrap(), variant("versioned", 1));
        assert!(file("new.wasm").is_err());
    }
    let path = "/v1/plugins/versioned/component";
    assert_eq!(api.raw("PUT", path, "text/plain", b"x").0, 415);
    let mut client = gateway.client(V5, "client-1");
    client.subscribe("a/out", 0);
    assert!(client.publish_at_least_once("a/in", "x") < 0x80);
    assert_eq!(client.next_publish().text(), "1:x", "the version before goes on");
    assert_eq!(put_component(&api, "other", &variant("versioned", 3)).0, 200);
    // The next version is tried first.
    let rollout = "/v1/plugins/versioned/rollout";
    let changed = api.does("PUT", rollout, &json!({ "canary": "50%", "canary_calls": 100 }));
    assert_eq!(
        (&changed["changed"], &changed["live"]),
        (&json!(["canary", "canary_calls"]), &json!(false))
    );
    assert!(changed["detail"].as_str().unwrap().contains("canary"), "{changed}");
    let manifest = String::from_utf8(file("versioned.toml").unwrap()).unwrap();
    assert!(
        manifest.contains("canary = \"50%\"\n") && manifest.contains("version = \"1\""),
        "{manifest}"
    );
    let (status, problem) = api.ask("PUT", rollout, &json!({ "canary": "lots" }));
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("lots"), "{problem}");
    assert_eq!(file("versioned.toml").unwrap(), manifest.as_bytes());
    assert_eq!(api.ask("PUT", "/v1/plugins/none/rollout", &json!({})).0, 404);
    let back = api.does("PUT", rollout, &json!({}));
    assert_eq!(back["live"], true, "the live version is there again: {back}");
    let operator = api.by(Some("operate-token"));
    assert_eq!(operator.ask("PUT", rollout, &json!({})).0, 403);
    assert_eq!(put_component(&operator, "versioned", b"x").0, 403);
    let audit = api.get("/v1/audit").to_string();
    assert!(audit.contains("component of plugin versioned"), "{audit}");
    assert!(audit.contains("rollout of plugin versioned"), "{audit}");
}

#[test]
fn the_command_line_puts_components_and_rollouts_where_its_arguments_say() {
    let gateway = TestGateway::open()
        .with_plugin("versioned", &manifest("1", ""))
        .with_binding("versioned", "a/in", "may_publish = [\"a/out\"]")
        .with("[data]\ndirectory = \"data\"");
    let (gateway, _api) = started(gateway);
    let component = gateway.folder().join("next.wasm");
    fs::write(&component, variant("versioned", 1)).unwrap();
    let (component, data) = (component.to_str().unwrap(), gateway.folder().join("data"));
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(binary());
        let output = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let data = data.to_str().unwrap();
    let put = ["plugin", "put", component, "--name", "versioned", "--data", data];
    // What is typed counts more than what was exported.
    let nowhere = [("PORTREEVE_URL", "http://127.0.0.1:1"), ("PORTREEVE_ADMIN", "/nowhere")];
    let (code, said) = run(&put, &nowhere);
    assert!(code == Some(0) && said.contains("changed: component; live\n"), "{said}");
    assert!(said.contains(" serves"), "{said}");
    let (code, said) = run(&put[..5], &nowhere);
    assert!(code == Some(1) && said.contains("unset one"), "{said}");
    let socket = format!("{data}/admin.sock");
    let (code, said) = run(&put[..5], &[("PORTREEVE_ADMIN", &socket)]);
    assert!(code == Some(0) && said.contains("nothing is another; live"), "{said}");
    let rollout = |settings: &[&str]| {
        let plain = ["plugin", "rollout", "versioned", "--data", data];
        run(&[&plain, settings].concat(), &[])
    };
    let (code, said) = rollout(&["canary=50%", "canary_calls=100"]);
    assert!(
        code == Some(0) && said.contains("changed: canary, canary_calls; in the file"),
        "{said}"
    );
    let manifest = fs::read_to_string(gateway.folder().join("versioned.toml")).unwrap();
    assert!(manifest.contains("canary_calls = 100\n"), "{manifest}");
    for (settings, why) in [("canary=lots", "lots"), ("canary", "NAME=VALUE"), ("other=1", "other")]
    {
        let (code, said) = rollout(&[settings]);
        assert!(code == Some(1) && said.contains(why), "{said}");
    }
    fs::write(component, "junk").unwrap();
    let (code, said) = run(&put, &[]);
    assert!(code == Some(1) && said.contains("WebAssembly"), "{said}");
}
