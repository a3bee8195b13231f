//! Scripts of users: payload formats and functions that verify, from the file to the device.
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
use portreeve_tests::binary::Process;
use portreeve_tests::client::connect;
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::plugins::put;
use portreeve_tests::scripts::{component, example, manifest, with_script};
use portreeve_tests::{Client, TestGateway, V5};

/// How long a change may take where other tests want every core.
const LIVE_WITHIN: Duration = Duration::from_secs(20);
/// Ends a script that goes on and on soon, and leaves the others time on a busy machine.
const QUICK: &str = "[limits]\ndeadline = \"3s\"";
const REPORT: &str = "00002233441232013fa00000";
const REPORT_JSON: &str = r#"{"method":"thing.event.property.post","version":"1.0","id":"2241348","params":{"prop_int16":4658,"prop_bool":1,"prop_float":1.25}}"#;

/// A gateway whose topic `raw` goes up through the script, and `set` down.
fn parsing(preset: &str, settings: &str, script: &str) -> TestGateway {
    let manifest = manifest(preset, settings, QUICK);
    with_script(TestGateway::open(), "script-parser", &manifest, script)
        .with_binding("script-parser", "raw/#", "may_publish = [\"#\"]")
        .with_binding("script-parser", "set/#", "direction = \"down\"\nmay_publish = [\"#\"]")
        .with("[data]\ndirectory = \"data\"")
}

fn verifying(preset: &str, settings: &str, script: &str) -> TestGateway {
    let manifest = manifest(preset, settings, QUICK);
    let gateway = TestGateway::verified_by("plugin:function-verifier");
    with_script(gateway, "function-verifier", &manifest, script)
        .with("[data]\ndirectory = \"data\"")
}

fn login<'a>(client_id: &'a str, user: &'a str, password: &'a str) -> Connect<'a> {
    Connect { user_name: Some(user), password: Some(password.as_bytes()), ..connect(V5, client_id) }
}

/// The answer to a CONNECT.
fn code(gateway: &RunningGateway, user: &str, password: &str) -> u8 {
    gateway.dial().connect_code(&login("client-1", user, password))
}

#[test]
fn the_golden_vectors_both_ways() {
    let gateway = parsing("alibaba", "", &example("script-parser/scripts/alibaba.js")).start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("raw/#", 0);
    client.subscribe("set/#", 0);
    let report = hex::decode(REPORT).unwrap();
    assert_eq!(client.publish_at_least_once("raw/raw?_sn=default", &report), 0);
    let message = client.next_publish();
    assert_eq!((message.topic.as_str(), message.text().as_str()), ("raw/raw", REPORT_JSON));
    assert!(message.properties.contains(&"ContentType(\"application/json\")".to_owned()));
    let command = r#"{"method":"thing.service.property.set","id":"12345","version":"1.0","params":{"prop_float":123.452,"prop_int16":333,"prop_bool":1}}"#;
    assert_eq!(client.publish_at_least_once("set/d", command), 0);
    assert_eq!(hex::encode(client.next_publish().payload), "0100003039014d0142f6e76d");
    // Without the mark the bytes pass.
    assert_eq!(client.publish_at_least_once("raw/raw", &report), 0);
    assert_eq!(client.next_publish().payload, report);
}

/// A script that returns a number.
fn numbered(number: u32) -> String {
    format!("function decodeUplink(input) {{ return {{ data: {number} }}; }}")
}

/// What the script makes of a message.
fn answer(client: &mut Client) -> String {
    assert_eq!(client.publish_at_least_once("raw/d", "x"), 0, "the message was not taken");
    client.next_publish().text()
}

fn wait_for(client: &mut Client, wanted: &str) {
    let begin = Instant::now();
    while answer(client) != wanted {
        assert!(begin.elapsed() < LIVE_WITHIN, "the script is not live in time: {wanted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_script_is_live_when_its_file_is_saved_and_a_broken_one_never() {
    let gateway = parsing("tts", "", &numbered(1)).start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("raw/#", 0);
    assert_eq!(answer(&mut client), "1");
    put(gateway.folder(), "a.js", numbered(2));
    wait_for(&mut client, "2");
    for (broken, why) in [
        ("function decodeUplink(input) { return {; }", "a.js:1:40: SyntaxError"),
        ("throw new Error('no');", "a.js:1:11: Error: no"),
        ("var x = 1;", "it has no function `decodeUplink`"),
    ] {
        put(gateway.folder(), "a.js", broken);
        let begin = Instant::now();
        while !gateway.history().contains(why) && begin.elapsed() < Duration::from_secs(10) {
            assert_eq!(answer(&mut client), "2", "{broken}");
        }
        assert_eq!(answer(&mut client), "2", "{broken}");
        let history = gateway.history();
        assert!(history.contains("it does not start") && history.contains(why), "{why}: {history}");
    }
    put(gateway.folder(), "a.js", numbered(3));
    wait_for(&mut client, "3");
}

#[test]
fn a_script_of_256_kib_is_taken() {
    let mut script = numbered(7);
    while script.len() < (256 << 10) - 64 {
        script.push_str("\n// A script may have 256 KiB.");
    }
    let gateway = parsing("tts", "", &script).start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("raw/#", 0);
    assert_eq!(answer(&mut client), "7");
}

#[test]
fn a_script_that_misbehaves_harms_its_own_call_only() {
    let script = "const kept = [];
        function decodeUplink(input) {
          const text = String.fromCharCode.apply(null, input.bytes);
          if (text === 'throw') { throw new Error('thrown'); }
          if (text === 'errors') { return { errors: ['listed'] }; }
          if (text === 'junk') { return 'junk'; }
          if (text === 'recursion') { return (function again() { return again() + 1; })(); }
          if (text === 'loop') { for (;;) {} }
          if (text === 'promises') { return (async () => { for (;;) { await null; } })(); }
          if (text === 'memory') { for (;;) { kept.push(new Array(1000).fill(0)); } }
          return { data: { kept: kept.length } };
        }";
    let gateway = parsing("tts", "", script).start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("raw/#", 0);
    // What the payload is to blame for is 0x99, what the script is, 0x83.
    for (payload, wanted) in [
        ("throw", 0x99),
        ("errors", 0x99),
        ("junk", 0x99),
        ("recursion", 0x99),
        ("loop", 0x83),
        ("promises", 0x83),
        ("memory", 0x83),
    ] {
        assert_eq!(client.publish_at_least_once("raw/d", payload), wanted, "{payload}");
        assert_eq!(client.publish_at_least_once("raw/d", "good"), 0, "after {payload}");
        assert_eq!(client.next_publish().text(), r#"{"kept":0}"#, "after {payload}");
    }
    assert_eq!(gateway.count("messages_rejected"), 4);
    assert_eq!(gateway.count("parser_faults"), 3);
}

#[test]
fn a_function_admits_whom_it_knows_and_says_what_they_may_do() {
    let script = example("function-verifier/scripts/handler.js");
    let gateway = verifying("portreeve", "", &script).start();
    for (user, password, wanted) in
        [("device-1", "demo", 0), ("device-1", "demO", 0x86), ("device-2", "demo", 0x86)]
    {
        assert_eq!(code(&gateway, user, password), wanted, "{user} {password}");
    }
    let mut device = gateway.dial();
    device.connect_with(&login("client-1", "device-1", "demo"));
    // Nobody subscribes: 0x10 is a success.
    assert!(device.publish_at_least_once("devices/device-1/telemetry", "x") < 0x80);
    assert_eq!(device.publish_at_least_once("devices/device-2/telemetry", "x"), 0x87);
    assert_eq!(device.subscribe("devices/device-1/down", 0), 0);
    assert_eq!(device.subscribe("devices/#", 0), 0x87);
}

#[test]
fn a_custom_authorizer_brings_its_policy() {
    let script = example("function-verifier/scripts/lambda.js");
    let gateway = verifying("lambda", "", &script).start();
    assert_eq!(code(&gateway, "user-1", "wrong"), 0x86);
    let mut device = gateway.dial();
    device.connect_with(&login("client-1", "user-1", "demo"));
    assert!(device.publish_at_least_once("devices/client-1/a/b", "x") < 0x80);
    assert_eq!(device.publish_at_least_once("devices/client-1", "x"), 0x87);
    assert_eq!(device.publish_at_least_once("devices/client-2/a", "x"), 0x87);
    assert_eq!(device.subscribe("devices/client-1/down", 0), 0);
    assert_eq!(device.subscribe("devices/client-1/#", 0), 0x87);
}

#[test]
fn a_function_that_fails_admits_nobody() {
    let script = "exports.handler = async (event) => {
          switch (event.userName) {
            case 'throw': throw new Error('accept');
            case 'junk': return 'accept';
            case 'true': return true;
            case 'nothing': return undefined;
            case 'never': return new Promise(() => {});
            case 'loop': for (;;) {}
            case 'memory': { const kept = []; for (;;) { kept.push(new Array(1000).fill(0)); } }
            default: return { result: 'accept' };
          }
        };";
    let gateway = verifying("portreeve", "", script).start();
    for user in ["throw", "junk", "true", "nothing", "never"] {
        assert_eq!(code(&gateway, user, "x"), 0x87, "{user}");
    }
    for user in ["loop", "memory"] {
        assert_eq!(code(&gateway, user, "x"), 0x88, "{user}");
    }
    assert_eq!(code(&gateway, "device-1", "x"), 0);
    assert_eq!(gateway.server().device_count(), 1);
}

#[test]
fn a_function_is_live_when_its_file_is_saved() {
    let function = |user: &str| {
        format!(
            "exports.handler = (event, context, callback) =>
               callback(null, {{ result: event.userName === '{user}' ? 'accept' : 'reject' }});"
        )
    };
    let gateway = verifying("portreeve", "", &function("device-1")).start();
    assert_eq!(code(&gateway, "device-1", "x"), 0);
    assert_eq!(code(&gateway, "device-2", "x"), 0x87);
    put(gateway.folder(), "a.js", function("device-2"));
    gateway.wait_until("the new function answers", |gateway| code(gateway, "device-2", "x") == 0);
    assert_eq!(code(&gateway, "device-1", "x"), 0x87);
}

#[test]
fn what_a_script_writes_to_its_console_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("function-verifier.wasm"), component("function-verifier")).unwrap();
    let manifest = manifest("portreeve", "", "verifies = [\"development\"]");
    std::fs::write(path("function-verifier.toml"), manifest).unwrap();
    let script = "exports.handler = async (event) => {
          console.log('hello %s', event.userName, { a: [1] });
          console.error(new TypeError('broken'));
          return { result: 'accept' };
        };";
    std::fs::write(path("a.js"), script).unwrap();
    let plugins = folder.path().display().to_string();
    let process = Process::start(&["--listen", "127.0.0.1:0", "--plugins", &plugins]).unwrap();
    let mut client = Client::dial(process.address);
    client.connect_with(&login("client-1", "device-1", "x"));
    let line = process.wait_for_log("hello");
    assert!(line.contains("INFO") && line.contains(r#"hello device-1 {"a":[1]}"#), "{line}");
    assert!(line.contains("plugin=\"function-verifier\""), "{line}");
    let line = process.wait_for_log("broken");
    assert!(line.contains("ERROR") && line.contains("a.js:3"), "{line}");
}
