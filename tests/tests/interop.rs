//! Clients that nobody here wrote: mosquitto's (Debian), Paho (PyPI), MQTT.js (npm), rumqttc (the
//! crate registry). Their checks are in `tests/interop`; here they are installed below `target`
//! and run against the real binary with a store, over TCP and WebSocket.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use portreeve_tests::binary::{Process, free_address};
use portreeve_tests::guests::workspace;
use tempfile::TempDir;

struct Gateway {
    _process: Process,
    _data: TempDir,
    arguments: [String; 3],
}

fn gateway() -> Gateway {
    let data = tempfile::tempdir().unwrap();
    let (tcp, web_socket) = (free_address(), free_address());
    let config = format!(
        "[data]\ndirectory = \"data\"\n[[gateway]]\nname = \"main\"\nverification = \"open\"\n\
         [[gateway.listener]]\naddress = \"{tcp}\"\n\
         [[gateway.listener]]\naddress = \"{web_socket}\"\nkind = \"ws\"\n"
    );
    let file = data.path().join("gateway.toml");
    std::fs::write(&file, config).unwrap();
    let process = Process::start(&["--config", file.to_str().unwrap()]);
    let process = process.unwrap_or_else(|said| panic!("the gateway ended: {said}"));
    process.wait_for_log("kind=\"ws\"");
    let ports = [tcp.port().to_string(), web_socket.port().to_string()];
    let [port, web_socket_port] = ports;
    let arguments = ["127.0.0.1".to_owned(), port, web_socket_port];
    Gateway { _process: process, _data: data, arguments }
}

fn checks() -> PathBuf {
    workspace().join("tests/interop")
}

/// A folder below `target` for what a client needs.
fn installed(name: &str) -> PathBuf {
    let folder = workspace().join("target/interop").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}\n{errors}");
    if let Some(tally) = text.lines().rev().find(|line| line.contains(" passed, ")) {
        println!("{tally}");
    }
}

fn copy(name: &str, to: &Path) {
    std::fs::copy(checks().join(name), to.join(name)).unwrap();
}

#[test]
fn mosquittos_clients() {
    let gateway = gateway();
    run(Command::new(checks().join("mosquitto.sh")).args(&gateway.arguments));
}

#[test]
fn paho_for_python() {
    let packages = installed("paho");
    run(Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--root-user-action", "ignore", "--upgrade", "--target"])
        .arg(&packages)
        .arg("-r")
        .arg(checks().join("requirements.txt")));
    let gateway = gateway();
    run(Command::new("python3")
        .env("PYTHONPATH", packages)
        .arg(checks().join("paho_checks.py"))
        .args(&gateway.arguments));
}

#[test]
fn mqtt_js() {
    let folder = installed("mqttjs");
    for name in ["package.json", "package-lock.json", "mqttjs.mjs"] {
        copy(name, &folder);
    }
    run(Command::new("npm")
        .args(["ci", "--silent", "--no-audit", "--no-fund"])
        .current_dir(&folder));
    let gateway = gateway();
    run(Command::new("node").arg("mqttjs.mjs").args(&gateway.arguments).current_dir(&folder));
}

#[test]
fn rumqttc() {
    let target = installed("rumqttc");
    run(Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(checks().join("rumqttc")));
    let gateway = gateway();
    run(Command::new(target.join("debug/rumqttc-interop")).args(&gateway.arguments));
}
