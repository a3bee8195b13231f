//! The author's kit, as an author uses it: a new project in each language builds, passes its tests
//! and its cases, and answers a device.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portreeve_tests::binary::{binary, free_address};
use portreeve_tests::{Client, V5, guests};
use serde_json::Value;

/// Runs `portreeve plugin` in a folder; what it said, and whether it was content.
fn plugin(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary());
    let output = command.arg("plugin").args(arguments).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn said(folder: &Path, arguments: &[&str]) -> String {
    let (is_content, said) = plugin(folder, arguments);
    assert!(is_content, "portreeve plugin {}:\n{said}", arguments.join(" "));
    said
}

/// Makes a project, builds and tests it.
fn project(folder: &Path, language: &str, kind: &str) {
    said(folder, &["new", "mine", "--lang", language, "--kind", kind]);
    let folder = folder.join("mine");
    let built = said(&folder, &["build"]);
    assert!(built.contains(&format!("roles:\n    {kind}")), "{built}");
    let tested = said(&folder, &["test"]);
    assert!(tested.contains(" passed, 0 failed"), "{tested}");
}

/// Makes a project of this kind, and of both where `PORTREEVE_KINDS` says `all`, as the long runs do: toolchains take
/// half a minute for each.
fn projects(language: &str, kind: &str) {
    let all = std::env::var("PORTREEVE_KINDS").is_ok_and(|kinds| kinds == "all");
    for kind in ["parser", "verifier"].into_iter().filter(|one| all || *one == kind) {
        let folder = tempfile::tempdir().unwrap();
        project(folder.path(), language, kind);
    }
}

#[test]
fn a_project_in_rust() {
    projects("rust", "verifier");
}

#[test]
fn a_project_in_javascript() {
    projects("js", "parser");
}

#[test]
fn a_project_in_python() {
    projects("python", "verifier");
}

#[test]
fn a_project_in_c() {
    projects("c", "parser");
}

#[test]
fn a_project_in_zig() {
    projects("zig", "verifier");
}

#[test]
fn a_project_in_go() {
    projects("go", "parser");
}

#[test]
fn a_project_is_not_made_over_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let new =
        |name: &str| plugin(folder.path(), &["new", name, "--lang", "js", "--kind", "parser"]);
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    std::fs::write(folder.path().join("mine/notes"), "precious").unwrap();
    let (is_content, said) = new("mine");
    assert!(!is_content && said.contains("is not empty"), "{said}");
    let (is_content, said) = new("../mine");
    assert!(!is_content && said.contains("cannot be the name"), "{said}");
    let (is_content, said) = plugin(folder.path(), &["build"]);
    assert!(!is_content && said.contains("plugin.toml"), "{said}");
}

/// A folder that looks like the project of a built component.
fn built(name: &str, cases: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir_all(path.join("build")).unwrap();
    std::fs::create_dir_all(path.join("cases")).unwrap();
    std::fs::copy(guests::component(name), path.join("build").join(format!("{name}.wasm")))
        .unwrap();
    std::fs::write(path.join("cases/all.json"), cases).unwrap();
    let file = format!("[build]\ncommand = \"true\"\noutput = \"build/{name}.wasm\"\n");
    std::fs::write(path.join("plugin.toml"), file).unwrap();
    folder
}

const CASES: &str = r#"[
    {"name": "right", "input": {"topic": "a/in", "payload": "x"},
     "expect": {"outcome": "replace", "messages": [{"topic": "a/out", "payload": "x"}]}},
    {"name": "wrong", "input": {"topic": "a/in"}, "expect": {"outcome": "pass"}},
    {"name": "no error", "input": {"topic": "a/in"}, "error": "trapped"}
]"#;

#[test]
fn cases_that_fail_are_told_with_what_is_different() {
    let folder = built("relay", CASES);
    let (is_content, told) = plugin(folder.path(), &["test"]);
    assert!(!is_content, "{told}");
    assert!(told.contains("ok      right"), "{told}");
    assert!(told.contains("/outcome is \"replace\", expected \"pass\""), "{told}");
    assert!(told.contains("1 passed, 2 failed"), "{told}");
    let (is_content, told) = plugin(folder.path(), &["test", "--only", "right", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(is_content && told["ok"] == true && told["cases"].as_array().unwrap().len() == 1);
}

#[test]
fn a_test_that_tests_nothing_fails() {
    let nothing = r#"{"input": {"topic": "a/in"}}"#;
    let no_cases = built("relay", "[]");
    let no_folder = built("relay", nothing);
    std::fs::remove_dir_all(no_folder.path().join("cases")).unwrap();
    for (folder, more, wanted) in [
        (no_cases, &["test"][..], "there are no cases"),
        (no_folder, &["test"], "there are no cases"),
        (built("relay", nothing), &["test"], "does not say what the answer has to be"),
        (built("relay", CASES), &["test", "--only", "other"], "no case has \"other\""),
    ] {
        let (is_content, told) = plugin(folder.path(), more);
        assert!(!is_content && told.contains(wanted), "{told}");
    }
}

#[test]
fn a_component_is_measured_against_its_limits() {
    let folder = built("relay", CASES);
    let told = said(folder.path(), &["bench", ".", "--calls", "500", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((told["calls"].as_u64(), told["faults"].as_u64()), (Some(500), Some(0)));
    assert!(told["warm_call_us"].as_f64().unwrap() > 0.0);
    assert!(told["memory_bytes_last"].as_u64().unwrap() >= 65_536);
    let (is_content, told) = plugin(folder.path(), &["bench", "build/relay.wasm", "{\"topic\":7}"]);
    assert!(!is_content && told.contains("the question cannot be read"), "{told}");
}

#[test]
fn a_recording_shows_where_two_versions_differ() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording.jsonl");
    let lines = "{\"input\":{\"topic\":\"a/in\",\"payload_hex\":\"78\"}}\n\n{\"input\":{\"topic\":\"b\"}}\n";
    std::fs::write(&recording, lines).unwrap();
    for name in ["relay", "echo", "trap"] {
        let to = folder.path().join(format!("{name}.wasm"));
        std::fs::copy(guests::component(name), to).unwrap();
    }
    let same = said(folder.path(), &["replay", "recording.jsonl", "relay.wasm", "relay.wasm"]);
    assert!(same.contains("2 asked, 0 differ"), "{same}");
    let (is_content, told) =
        plugin(folder.path(), &["replay", "recording.jsonl", "relay.wasm", "trap.wasm"]);
    assert!(!is_content && told.contains("2 asked, 2 differ"), "{told}");
    assert!(told.contains("trapped"), "{told}");
}

#[test]
fn a_project_is_served_and_built_again_when_it_changes() {
    let folder = built("versioned", "[]");
    let path = folder.path();
    let manifest = versioned_manifest;
    std::fs::create_dir(path.join("src")).unwrap();
    std::fs::write(path.join("src/versioned.toml"), manifest("1")).unwrap();
    let file = "[build]\ncommand = \"cp src/versioned.toml build/\"\noutput = \"build/versioned.wasm\"\nwatch = [\"src\"]\n";
    std::fs::write(path.join("plugin.toml"), file).unwrap();
    let mut served = Served::start(path);
    served.wait_for("1:x");
    std::fs::write(path.join("src/versioned.toml"), manifest("2")).unwrap();
    served.wait_for("2:x");
}

/// Builds take up to minutes; who saves a file in the meantime wants it built, too.
#[test]
fn what_changes_while_a_project_is_built_for_the_first_time_is_built_again() {
    let folder = built("versioned", "[]");
    let path = folder.path();
    let manifest = versioned_manifest("1");
    std::fs::create_dir(path.join("src")).unwrap();
    std::fs::write(path.join("src/versioned.toml"), manifest).unwrap();
    // The first build takes the file, and then has it changed; those after it find the mark.
    let file = "[build]\ncommand = \"cp src/versioned.toml build/ && { [ -e mark ] || { touch mark; sed -i s/1/2/ src/versioned.toml; }; }\"\noutput = \"build/versioned.wasm\"\nwatch = [\"src\"]\n";
    std::fs::write(path.join("plugin.toml"), file).unwrap();
    Served::start(path).wait_for("2:x");
}

fn versioned_manifest(version: &str) -> String {
    format!(
        "[settings]\nversion = \"{version}\"\n[[binding]]\ntopic = \"a/in\"\nmay_publish = [\"a/out\"]\n"
    )
}

/// `portreeve plugin serve --watch` of a project, and a client of it.
struct Served {
    process: std::process::Child,
    client: Client,
}

impl Served {
    fn start(project: &Path) -> Self {
        let address = free_address();
        let process = Command::new(binary())
            .args(["plugin", "serve", "--watch", "--listen", &address.to_string()])
            .current_dir(project)
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut client = Client::dial(address);
        client.connect(V5, "client-1");
        client.subscribe("a/out", 0);
        Self { process, client }
    }

    /// Waits until the plugin answers so.
    fn wait_for(&mut self, wanted: &str) {
        let begin = Instant::now();
        loop {
            self.client.publish_at_least_once("a/in", "x");
            if self.client.next_publish().payload == wanted.as_bytes() {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "not in time: {wanted}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
