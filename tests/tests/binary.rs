//! The real binary, driven by mosquitto clients, and its command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use portreeve_tests::binary::binary;
use portreeve_tests::guests;
use tempfile::TempDir;

fn plugins(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::copy(guests::component(name), folder.path().join(format!("{name}.wasm"))).unwrap();
        std::fs::write(folder.path().join(format!("{name}.toml")), guests::manifest(name)).unwrap();
    }
    folder
}

struct Running {
    child: Child,
    port: u16,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(plugins: &Path) -> Self {
        let mut child = Command::new(binary())
            .args(["run", "--listen", "127.0.0.1:0", "--plugins"])
            .arg(plugins)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the gateway ended");
            if let Some((_, rest)) = line.split_once("address=127.0.0.1:") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        Self { child, port, log }
    }

    fn publish(
        &self,
        version: &str,
        user: &str,
        password: &str,
        topic: &str,
        payload: &str,
    ) -> Output {
        Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-V", version, "-q", "1"])
            .args(["-u", user, "-P", password, "-t", topic, "-m", payload])
            .output()
            .expect("mosquitto_pub is installed by `make setup`")
    }

    fn subscribe(&self, version: &str, user: &str, topic: &str) -> Child {
        // Line by line: its standard output is a pipe.
        Command::new("stdbuf")
            .args([
                "-oL",
                "mosquitto_sub",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-V",
                version,
                "-C",
                "1",
                "-W",
                "10",
            ])
            .args(["-u", user, "-P", "demo", "-t", topic, "-d"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub is installed by `make setup`")
    }

    /// Ends it as a service manager does; exit code and the rest of its log.
    fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a failed assertion it still runs.
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Waits for the subscription, so that nothing is published too early.
fn subscribed(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("SUBACK") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "mosquitto_sub ended");
    }
    output
}

#[test]
fn mosquitto_clients_of_both_versions_do_the_main_job() {
    let folder = plugins(&["allow-list", "json-to-fields"]);
    let gateway = Running::start(folder.path());
    for (subscriber, publisher) in [("5", "311"), ("311", "5")] {
        let mut child = gateway.subscribe(subscriber, "app", "fields/+/t");
        let mut output = subscribed(&mut child);
        let sent = gateway.publish(publisher, "device-1", "demo", "fields/d", r#"{"t":21.5}"#);
        assert!(sent.status.success(), "{sent:?}");
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(rest.lines().any(|line| line == "21.5"), "{rest}");
        assert!(child.wait().unwrap().success());
    }
    let refused = gateway.publish("311", "device-1", "wrong", "t", "x");
    assert_eq!(refused.status.code(), Some(5));
    let refused = gateway.publish("5", "device-1", "wrong", "t", "x");
    assert_eq!(refused.status.code(), Some(0x86));
    let (code, log) = gateway.terminate();
    assert_eq!(code, Some(0), "{log}");
    let line = log.lines().find(|line| line.contains("CONNECT refused")).unwrap();
    for part in ["user_name=\"device-1\"", "peer=127.0.0.1:", "bad user name or password"] {
        assert!(line.contains(part), "{part} not in {line}");
    }
}

fn portreeve(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_says_everything_that_is_wrong_and_its_exit_code() {
    let folder = plugins(&["allow-list", "sensor-frame"]);
    let plugins = folder.path().to_str().unwrap();
    let (code, said, _) = portreeve(&["check", "--plugins", plugins]);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "ok: 1 gateway(s), plugins: allow-list, sensor-frame\n")
    );
    std::fs::write(folder.path().join("broken.wasm"), "no component").unwrap();
    std::fs::write(
        folder.path().join("sensor-frame.toml"),
        "setings = 1\n[limits]\nmemory = \"1GiB\"",
    )
    .unwrap();
    let (code, _, wrong) =
        portreeve(&["check", "--plugins", plugins, "--verification", "plugin:nobody"]);
    assert_eq!(code, Some(1));
    for part in [
        "broken.wasm: not a valid WebAssembly component",
        "sensor-frame.toml:1: setings: is not known; did you mean \"settings\"?",
        "sensor-frame.toml:3: limits.memory: is no size in its range",
        "there is no plugin \"nobody\"",
    ] {
        assert!(wrong.contains(part), "{part} not in {wrong}");
    }
    let (code, json, _) = portreeve(&["check", "--plugins", plugins, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["ok"].as_bool()), (Some(1), Some(false)));
}

#[test]
fn without_verification_nobody_is_let_in_and_the_gateway_does_not_start() {
    let (code, _, wrong) = portreeve(&["run", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(wrong.contains("has no verification") && wrong.contains("--verification"), "{wrong}");
}

#[test]
fn plugin_check_and_call_answer_in_json() {
    let folder = plugins(&["allow-list", "sensor-frame"]);
    let sensor = folder.path().join("sensor-frame.wasm");
    let sensor = sensor.to_str().unwrap();
    let (code, said, _) = portreeve(&["plugin", "check", sensor, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["roles"][0]), (Some(0), &serde_json::json!("parser")));
    let question = r#"{"topic":"devices/d/raw","payload_hex":"086611c60ce4"}"#;
    let (code, said, _) = portreeve(&["plugin", "call", sensor, question]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &json["messages"][0]["payload"]["temperature"]),
        (Some(0), &serde_json::json!(21.5))
    );
    let allow = folder.path().join("allow-list.wasm");
    let question = r#"{"user_name":"device-1","password":"demo"}"#;
    let (_, said, _) = portreeve(&["plugin", "call", allow.to_str().unwrap(), question]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&json["verdict"], &json["device_name"]),
        (&serde_json::json!("admit"), &serde_json::json!("device-1"))
    );
    let (code, _, wrong) = portreeve(&["plugin", "call", sensor, r#"{"topc":"x"}"#]);
    assert!(code == Some(1) && wrong.contains("unknown field `topc`"), "{wrong}");
    let (code, _, wrong) =
        portreeve(&["plugin", "check", guests::component("wrong-world").to_str().unwrap()]);
    assert!(code == Some(1) && wrong.contains("exports neither"), "{wrong}");
    assert_eq!(portreeve(&["plugin", "chek"]).0, Some(2));
}
