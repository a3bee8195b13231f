//! `portreeve device`, `session`, `explain`, `admin` and `probe`: the real binary, as a user types it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use portreeve_tests::binary::{Process, binary, free_address};
use portreeve_tests::client::connect;
use portreeve_tests::{Client, V5};
use serde_json::Value;
use tempfile::TempDir;

/// A gateway for imported devices, in a process of its own.
struct Gateway {
    folder: TempDir,
    address: SocketAddr,
    process: Option<Process>,
}

/// What a command came to.
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Gateway {
    fn start(more: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = format!(
            "[data]\ndirectory = \"data\"\n{more}[[gateway]]\nname = \"main\"\nverification = \"one-party\"\n\
             [[gateway.listener]]\naddress = \"{address}\"\n"
        );
        std::fs::write(folder.path().join("gateway.toml"), config).unwrap();
        let mut gateway = Self { folder, address, process: None };
        gateway.run();
        gateway
    }

    fn run(&mut self) {
        self.process = None;
        let config = self.folder.path().join("gateway.toml");
        self.process = Some(Process::start(&["--config", config.to_str().unwrap()]).unwrap());
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn says(&self, arguments: &[&str], input: &str) -> Said {
        let data = self.folder.path().join("data");
        let mut arguments = arguments.to_vec();
        arguments.extend(["--data", data.to_str().unwrap()]);
        run(&arguments, &[], input)
    }

    fn does(&self, arguments: &[&str]) -> String {
        let said = self.says(arguments, "");
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.error);
        said.out
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(arguments)).unwrap()
    }

    fn code(&self, user_name: &str, password: &str) -> u8 {
        let mut login = connect(V5, user_name);
        (login.user_name, login.password) = (Some(user_name), Some(password.as_bytes()));
        Client::dial(self.address).connect_code(&login)
    }
}

fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Said {
    let mut command = Command::new(binary());
    command.args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

const CHEAP: &str = "[passwords]\nmemory = \"64KiB\"\npasses = 1\n";

#[test]
fn a_file_of_the_replaced_product_is_imported_and_bad_lines_keep_no_good_one_away() {
    let mut gateway = Gateway::start(CHEAP);
    let mut text = "SN,MQTT UserName,MQTT Password\n".to_owned();
    for number in 0..2_500 {
        let _infallible = writeln!(text, "SN_{number},user-{number},secret-{number}");
    }
    text.push_str("SN 7,x,y\nSN_9000,user-9000\nSN_9001,user-5,other\n");
    let file = gateway.file("devices.csv", &text);
    let report = gateway.folder.path().join("report.jsonl");
    let file = file.to_str().unwrap();
    let dry = gateway.says(&["device", "import", file, "--dry-run"], "");
    assert!(dry.out.contains("2500 would be created"), "{} {}", dry.out, dry.error);
    assert_eq!(gateway.json(&["device", "list", "--json"])["devices"].as_array().unwrap().len(), 0);
    let report_path = report.to_str().unwrap();
    let said = gateway.says(&["device", "import", file, "--report", report_path], "");
    assert_eq!(said.code, Some(1), "some were refused");
    assert!(said.out.contains("2500 created, 0 updated, 0 unchanged, 3 refused"), "{}", said.out);
    for line in
        ["line 2502: \"SN 7\"", "line 2503: it has 2 fields", "line 2504: user name \"user-5\""]
    {
        assert!(said.error.contains(line), "{}", said.error);
    }
    assert_eq!(std::fs::read_to_string(&report).unwrap().lines().count(), 3);
    let again = gateway.says(&["device", "import", file, "--json"], "");
    let again: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&again["unchanged"], &again["created"]), (&Value::from(2_500), &Value::from(0)));
    assert_eq!(gateway.code("user-2499", "secret-2499"), 0);
    assert_eq!(gateway.code("user-2499", "secret-2498"), 0x86);
    gateway.run();
    assert_eq!(gateway.code("user-2499", "secret-2499"), 0, "after SIGKILL and a restart");
    assert_eq!(gateway.code("user-5", "other"), 0x86);
}

#[test]
fn what_is_exported_is_imported_elsewhere_with_its_passwords() {
    let one = Gateway::start(CHEAP);
    let lines = "{\"name\":\"device-1\",\"user_name\":\"u,1\",\"password\":\"secret\",\"attributes\":{\"site\":\"7\"},\
                 \"permissions\":[{\"action\":\"both\",\"topic_filter\":\"a/#\"}]}\n\
                 {\"name\":\"device-2\",\"certificate_common_name\":\"two\",\"enabled\":false}\n";
    let file = one.file("devices.jsonl", lines);
    one.does(&["device", "import", file.to_str().unwrap()]);
    for name in ["out.jsonl", "out.csv"] {
        let out = one.folder.path().join(name);
        one.does(&["device", "export", out.to_str().unwrap()]);
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(text.contains("$argon2id$") && !text.contains("secret"), "{text}");
        let other = Gateway::start(CHEAP);
        other.does(&["device", "import", out.to_str().unwrap()]);
        assert_eq!(other.code("u,1", "secret"), 0, "{name}");
        let shown = other.json(&["device", "show", "device-2", "--json"]);
        assert_eq!(
            (&shown["enabled"], &shown["certificate_common_name"]),
            (&false.into(), &"two".into())
        );
        let again = other.does(&["device", "import", out.to_str().unwrap()]);
        assert!(again.contains("2 unchanged"), "{again}");
    }
}

#[test]
fn a_device_is_added_changed_and_removed_by_commands() {
    let gateway = Gateway::start(CHEAP);
    let add = [
        "device",
        "add",
        "device-1",
        "--user-name",
        "u",
        "--password-stdin",
        "--permission",
        "both:a/#",
    ];
    let said = gateway.says(&add, "secret\n");
    assert_eq!(said.code, Some(0), "{}", said.error);
    assert!(!said.out.contains("secret") && said.out.contains("imported"), "{}", said.out);
    assert_eq!(gateway.code("u", "secret"), 0);
    let mut client = Client::dial(gateway.address);
    let mut login = connect(V5, "live");
    (login.user_name, login.password) = (Some("u"), Some(&b"secret"[..]));
    assert_eq!(client.connect_code(&login), 0);
    let sessions = gateway.does(&["session", "list"]);
    assert!(sessions.contains("live") && sessions.contains("connected"), "{sessions}");
    assert_eq!(gateway.says(&["device", "set-password", "device-1"], "other\n").code, Some(0));
    assert_eq!(client.expect_close(), "e00198");
    assert_eq!((gateway.code("u", "secret"), gateway.code("u", "other")), (0x86, 0));
    gateway.does(&[
        "device",
        "set",
        "device-1",
        "--attribute",
        "site=7",
        "--serial-number",
        "SN_1",
    ]);
    let listed = gateway.does(&["device", "list", "--serial-number", "SN_1"]);
    assert!(listed.contains("device-1") && listed.contains("SN_1"), "{listed}");
    let told = gateway.does(&["explain", "--device", "device-1"]);
    assert!(told.contains("let in") && told.contains("the password is right"), "{told}");
    assert!(gateway.does(&["admin", "audit"]).contains("change device default/device-1"));
    gateway.does(&["device", "disable", "device-1"]);
    assert_eq!(gateway.code("u", "other"), 0x87);
    gateway.does(&["device", "delete", "device-1"]);
    for gone in [["device", "show", "device-1"], ["device", "kick", "device-1"]] {
        let said = gateway.says(&gone, "");
        assert_eq!(said.code, Some(1));
        assert!(said.error.contains("no device"), "{}", said.error);
    }
}

#[test]
fn a_token_that_was_made_opens_the_api_on_the_network() {
    let made = run(&["admin", "token", "--name", "ops", "--scope", "operate", "--json"], &[], "");
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let (listen, digest) = (free_address(), made["sha256"].as_str().unwrap());
    let more = format!(
        "{CHEAP}[admin]\nlisten = \"{listen}\"\n[[admin.token]]\nname = \"ops\"\nscope = \"operate\"\nsha256 = \"{digest}\"\n"
    );
    let gateway = Gateway::start(&more);
    let url = format!("http://{listen}");
    let with =
        |token: &str| run(&["device", "list", "--url", &url], &[("PORTREEVE_TOKEN", token)], "");
    assert_eq!(with(made["token"].as_str().unwrap()).code, Some(0));
    let refused = with("prt_other");
    assert!(
        refused.code == Some(1) && refused.error.contains("PORTREEVE_TOKEN"),
        "{}",
        refused.error
    );
    drop(gateway);
}

#[test]
fn a_probe_says_whether_devices_are_let_in() {
    let gateway = Gateway::start(CHEAP);
    let add = ["device", "add", "probe", "--user-name", "probe", "--password-stdin"];
    assert_eq!(gateway.says(&add, "secret\n").code, Some(0));
    let address = gateway.address.to_string();
    let probe = |more: &[&str], password: &str| {
        let mut arguments = vec!["probe", &address];
        arguments.extend(more);
        run(&arguments, &[("PORTREEVE_PROBE_PASSWORD", password)], "")
    };
    let good = probe(&["--user-name", "probe"], "secret");
    assert_eq!(good.code, Some(0), "{}", good.error);
    assert!(good.out.contains("Success"), "{}", good.out);
    let refused = probe(&["--user-name", "probe"], "wrong");
    assert!(
        refused.code == Some(1) && refused.error.contains("NotAuthorized"),
        "{}",
        refused.error
    );
    assert_eq!(probe(&["--accept-refusal"], "").code, Some(0));
    let json: Value =
        serde_json::from_str(&probe(&["--user-name", "probe", "--json"], "secret").out).unwrap();
    assert!(json["ok"] == true && json["pingresp_us"].is_u64(), "{json}");
    drop(gateway);
    let gone = run(&["probe", &address, "--timeout", "2s"], &[], "");
    assert!(gone.code == Some(1) && gone.error.contains("cannot be reached"), "{}", gone.error);
}
