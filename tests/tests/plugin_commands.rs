//! `portreeve plugin` and a running gateway: the real binary, its admin socket, its signals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portreeve_tests::binary::{Process, binary, free_address};
use portreeve_tests::plugins::{manifest, put, variant};
use portreeve_tests::{Client, V5};
use serde_json::Value;
use tempfile::TempDir;

/// A gateway with the plugin `versioned`, in a process of its own.
struct Gateway {
    folder: TempDir,
    address: SocketAddr,
    process: Option<Process>,
}

impl Gateway {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        std::fs::create_dir(folder.path().join("plugins")).unwrap();
        let mut gateway = Self { folder, address, process: None };
        gateway.put("versioned.toml", manifest("1", ""));
        gateway.put("versioned.wasm", variant("versioned", 0));
        gateway.configure("a/in");
        gateway.run();
        gateway
    }

    fn configure(&self, topic: &str) {
        let text = format!(
            "[plugins]\ndirectory = \"plugins\"\n[data]\ndirectory = \"data\"\n[[gateway]]\nname = \"test\"\n\
             verification = \"open\"\n[[gateway.listener]]\naddress = \"{}\"\n\
             [[gateway.binding]]\nplugin = \"versioned\"\ntopic = {topic:?}\nmay_publish = [\"a/out\"]\n",
            self.address
        );
        put(self.folder.path(), "gateway.toml", text);
    }

    fn run(&mut self) {
        self.process = None;
        let config = self.folder.path().join("gateway.toml");
        self.process = Some(Process::start(&["--config", config.to_str().unwrap()]).unwrap());
    }

    fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    fn plugins(&self) -> std::path::PathBuf {
        self.folder.path().join("plugins")
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        put(&self.plugins(), name, bytes);
    }

    /// What a command prints, and whether it was content.
    fn command(&self, arguments: &[&str]) -> (bool, String) {
        let data = self.folder.path().join("data");
        let mut command = Command::new(binary());
        command.arg("plugin").args(arguments).args(["--data", data.to_str().unwrap()]);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn said(&self, arguments: &[&str]) -> String {
        let (is_content, said) = self.command(arguments);
        assert!(is_content, "{said}");
        said
    }

    fn show(&self) -> Value {
        serde_json::from_str(&self.said(&["show", "versioned"])).unwrap()
    }

    fn client(&self) -> Client {
        let mut client = Client::dial(self.address);
        client.connect(V5, "client");
        client.subscribe("a/out", 0);
        client
    }

    fn answer(client: &mut Client) -> String {
        client.publish_at_least_once("a/in", "x");
        String::from_utf8(client.next_publish().payload).unwrap()
    }

    fn wait_for(client: &mut Client, wanted: &str) {
        let begin = Instant::now();
        while Self::answer(client) != wanted {
            assert!(begin.elapsed() < Duration::from_secs(3), "not in time: {wanted}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn versions_are_listed_taken_back_and_remembered_over_a_restart() {
    let mut gateway = Gateway::start();
    let mut client = gateway.client();
    Gateway::wait_for(&mut client, "1:x");
    let first = gateway.show()["live"]["version"].as_str().unwrap().to_owned();
    gateway.put("versioned.toml", manifest("2", ""));
    Gateway::wait_for(&mut client, "2:x");

    let list = gateway.said(&["list"]);
    assert!(list.contains("versioned") && list.contains("serves"), "{list}");
    let shown = gateway.show();
    assert_eq!(shown["earlier"][0], first.as_str());
    assert!(shown["live"]["calls"].as_u64().unwrap() > 0, "{shown}");

    let said = gateway.said(&["rollback", "versioned"]);
    assert!(said.contains(&first), "{said}");
    assert_eq!(Gateway::answer(&mut client), "1:x");
    let history = gateway.said(&["history", "versioned"]);
    assert!(history.contains("rolled-back by admin (uid"), "{history}");

    // The directory still holds the version that was taken back.
    gateway.run();
    let mut client = gateway.client();
    assert_eq!(Gateway::answer(&mut client), "1:x");
    // A broken file leaves the last good version, also at a start.
    gateway.put("versioned.wasm", "broken");
    gateway.run();
    let mut client = gateway.client();
    assert_eq!(Gateway::answer(&mut client), "1:x");
    assert!(gateway.said(&["list"]).contains("refused"));

    gateway.put("versioned.wasm", variant("versioned", 1));
    Gateway::wait_for(&mut client, "2:x");
    let (is_content, said) = gateway.command(&["rollback", "versioned", "--to", "abcdef"]);
    assert!(!is_content && said.contains("there are"), "{said}");
    let (is_content, said) = gateway.command(&["rollback", "other"]);
    assert!(!is_content && said.contains("there is no plugin \"other\""), "{said}");
}

#[test]
fn a_version_that_does_not_fit_at_the_start_waits_behind_the_one_before_it() {
    let mut gateway = Gateway::start();
    Gateway::wait_for(&mut gateway.client(), "1:x");
    // A verifier only, where the configuration needs a parser.
    gateway.put("versioned.wasm", variant("scripted", 1));
    gateway.run();
    let mut client = gateway.client();
    assert_eq!(Gateway::answer(&mut client), "1:x");
    let list = gateway.said(&["list"]);
    assert!(list.contains("is no parser"), "{list}");
    let (is_content, said) = gateway.command(&["rollback", "versioned", "--to", ""]);
    assert!(!is_content && said.contains("first digits"), "{said}");
    client.subscribe("a/in", 0);
    let path = gateway.folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let (without, _) = text.split_once("[[gateway.binding]]").unwrap();
    put(gateway.folder.path(), "gateway.toml", without);
    Gateway::wait_for(&mut client, "x");
    let begin = Instant::now();
    while gateway.show()["roles"] != serde_json::json!(["verifier"]) {
        assert!(begin.elapsed() < Duration::from_secs(3), "it still waits");
    }
}

#[test]
fn a_version_that_is_tried_goes_on_by_command() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    Gateway::wait_for(&mut client, "1:x");
    let (is_content, said) = gateway.command(&["promote", "versioned"]);
    assert!(!is_content && said.contains("on its way"), "{said}");
    let policy = "shadow = \"100%\"\ncanary = \"100%\"";
    gateway.put("versioned.toml", manifest("2", policy));
    let begin = Instant::now();
    while gateway.show()["rollout"]["stage"] != "shadow" {
        assert!(begin.elapsed() < Duration::from_secs(3));
    }
    assert_eq!(Gateway::answer(&mut client), "1:x");
    assert!(gateway.said(&["promote", "versioned"]).contains("canary"));
    assert_eq!(Gateway::answer(&mut client), "2:x");
    assert!(gateway.said(&["promote", "versioned"]).contains("serves"));
    assert_eq!(gateway.show()["rollout"], Value::Null);
    assert_eq!(Gateway::answer(&mut client), "2:x");
}

#[test]
fn the_configuration_is_read_again_when_it_changes_and_on_sighup() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    Gateway::wait_for(&mut client, "1:x");
    client.subscribe("a/in", 0);
    // Not bound any more: it passes as it is.
    gateway.configure("other/in");
    Gateway::wait_for(&mut client, "x");
    std::fs::write(gateway.folder.path().join("gateway.toml"), "[[gateway]]\nname = 7").unwrap();
    gateway.process().wait_for_log("configuration refused");
    assert_eq!(Gateway::answer(&mut client), "x");
    let pid = gateway.process().pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    gateway.process().wait_for_log("by=\"SIGHUP\"");
    gateway.configure("a/in");
    Gateway::wait_for(&mut client, "1:x");
    assert!(gateway.said(&["reload"]).contains("1 plugin(s) serve"));
}

#[test]
fn what_needs_a_restart_is_told_until_there_is_one() {
    let gateway = Gateway::start();
    let path = gateway.folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let with_limits = format!("[limits]\nsessions_max = 1000\n{text}");
    put(gateway.folder.path(), "gateway.toml", &with_limits);
    let told = "takes effect with a restart: [limits]";
    gateway.process().wait_for_log(told);
    put(gateway.folder.path(), "gateway.toml", with_limits.replace("a/in", "b/in"));
    gateway.process().wait_for_log(told);
}

#[test]
fn a_stop_does_not_wait_for_a_reload() {
    let mut gateway = Gateway::start();
    // A secret that nobody writes, as on a network file system that does not answer.
    let secret = gateway.plugins().join("secret");
    assert!(Command::new("mkfifo").arg(&secret).status().unwrap().success());
    gateway.put("versioned.toml", "[settings]\nversion = { file = \"secret\" }");
    let pid = gateway.process().pid().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status().unwrap().success();
    assert!(signal("-HUP"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(signal("-TERM"));
    let begin = Instant::now();
    while gateway.process.as_mut().unwrap().is_alive() {
        assert!(begin.elapsed() < Duration::from_secs(8), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_long_path_costs_the_admin_socket_and_not_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("d".repeat(120));
    let address = free_address().to_string();
    let process = Process::start(&[
        "--listen",
        &address,
        "--verification",
        "open",
        "--data",
        data.to_str().unwrap(),
    ]);
    process.unwrap();
}

#[test]
fn a_configuration_that_is_half_written_is_not_live() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    Gateway::wait_for(&mut client, "1:x");
    client.subscribe("a/in", 0);
    let path = gateway.folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // What stands in front of the binding is a configuration, too.
    let (begin, rest) = text.split_at(text.find("[[gateway.binding]]").unwrap());
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, begin.as_bytes()).unwrap();
    let paused = Instant::now();
    while paused.elapsed() < Duration::from_millis(1500) {
        assert_eq!(Gateway::answer(&mut client), "1:x", "the binding is gone");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::io::Write::write_all(&mut file, rest.replace("a/in", "other/in").as_bytes()).unwrap();
    drop(file);
    Gateway::wait_for(&mut client, "x");
}

#[test]
fn calls_are_traced_with_what_the_guest_logs_less_its_secrets() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    gateway.put("token", "s3cret-token\n");
    gateway.put("versioned.toml", manifest("2", "") + "token = { file = \"token\" }\n");
    Gateway::wait_for(&mut client, "2:x");
    let data = gateway.folder.path().join("data");
    let mut trace = Command::new(binary())
        .args(["plugin", "trace", "versioned", "--count", "2", "--data", data.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(trace.stdout.take().unwrap()).lines();
    let traced = std::thread::spawn(move || {
        lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).collect::<Vec<_>>()
    });
    let begin = Instant::now();
    while !traced.is_finished() {
        assert_eq!(Gateway::answer(&mut client), "2:x");
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(trace.wait().unwrap().success());
    let traced = traced.join().unwrap();
    assert_eq!(traced.len(), 2);
    assert_eq!(traced[0]["input"]["topic"], "a/in");
    assert_eq!(traced[0]["output"]["messages"][0]["payload"], "2:x");
    assert_eq!(traced[0]["log"][0], "debug: the token is (masked)");
}

#[test]
fn what_is_counted_is_told_in_prometheus_words() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(Gateway::answer(&mut client), "1:x");
    }
    let socket = gateway.folder.path().join("data/admin.sock");
    let text = get(&socket, "/metrics");
    let line = text.lines().find(|line| line.contains("answers_total") && line.contains("replace"));
    assert!(line.is_some_and(|line| line.ends_with(" 3")), "{text}");
    assert!(
        text.contains("portreeve_plugin_call_seconds_bucket") && text.contains("le=\"+Inf\"} 3")
    );
    let problem = get(&socket, "/v1/nothing");
    assert!(problem.contains("there is no such resource"), "{problem}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&socket.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "for the gateway's user alone");
}

#[test]
fn a_gateway_that_is_not_there_is_told_plainly() {
    let output = Command::new(binary()).args(["plugin", "list", "--data", "nowhere"]).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains("no gateway answers on nowhere/admin.sock"), "{said}");
    let output = Command::new(binary()).args(["plugin", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// A resource of the admin API, with a client that is not ours.
fn get(socket: &Path, path: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer
}

#[test]
fn messages_are_recorded_with_secrets_masked() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    let out = gateway.folder.path().join("recording.jsonl");
    let data = gateway.folder.path().join("data");
    let mut record = Command::new(binary())
        .args(["plugin", "record", "a/+", "--count", "2", "--mask", "token", "--anonymous"])
        .args(["--out", out.to_str().unwrap(), "--data", data.to_str().unwrap()])
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while record.try_wait().unwrap().is_none() {
        client.publish_at_least_once("a/in", "{\"token\":\"secret\",\"t\":1}");
        client.next_publish();
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = std::fs::read_to_string(&out).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let payload = hex::decode(first["input"]["payload_hex"].as_str().unwrap()).unwrap();
    assert_eq!(payload, br#"{"token":"(masked)","t":1}"#);
    assert_eq!(first["input"]["device"], "device-1");
    // What was recorded is what a replay takes.
    let component = gateway.plugins().join("versioned.wasm");
    let arguments = [out.to_str().unwrap(), component.to_str().unwrap()];
    let replay = Command::new(binary()).args(["plugin", "replay"]).args(arguments).output();
    let said = String::from_utf8(replay.unwrap().stdout).unwrap();
    assert!(said.contains("2 asked, 0 differ, 0 without an answer"), "{said}");
}
