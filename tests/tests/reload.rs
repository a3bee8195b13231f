//! What is refused is tried again when the rest changes, and what goes well is not held up by it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::plugins::{manifest, put, variant};
use portreeve_tests::{Client, TestGateway, V5};

/// How long a change may take; one of the plugin directory's removals waits for a second first.
const LIVE_WITHIN: Duration = Duration::from_secs(4);

fn versioned() -> TestGateway {
    TestGateway::open()
        .with_plugin("versioned", &manifest("1", ""))
        .with_binding("versioned", "a/in", "may_publish = [\"a/out\"]")
        .with("[data]\ndirectory = \"data\"")
}

/// A client that hears of everything under `a/` and `b/`.
fn listener(gateway: &RunningGateway) -> Client {
    let mut client = gateway.client(V5, "listener");
    client.subscribe("a/#", 0);
    client.subscribe("b/#", 0);
    client
}

fn answer(client: &mut Client, topic: &str) -> String {
    let code = client.publish_at_least_once(topic, "x");
    assert!(code < 0x80, "a message was refused meanwhile: {code:#x}");
    String::from_utf8(client.next_publish().payload).unwrap()
}

fn wait_for(client: &mut Client, topic: &str, wanted: &str) {
    let begin = Instant::now();
    loop {
        let answer = answer(client, topic);
        if answer == wanted {
            return;
        }
        assert!(begin.elapsed() < LIVE_WITHIN, "{answer} and not {wanted}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn still(client: &mut Client, topic: &str, wanted: &str, time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        assert_eq!(answer(client, topic), wanted);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A manifest that binds its plugin to `b/in`.
fn own(version: &str, more: &str) -> String {
    let binding = "[[binding]]\ntopic = \"b/in\"\nmay_publish = [\"b/out\"]";
    format!("{}{binding}\n", manifest(version, more))
}

#[test]
fn a_removal_that_was_refused_is_made_when_the_configuration_allows_it() {
    let gateway = versioned().with_a_file().start();
    let mut client = listener(&gateway);
    std::fs::remove_file(gateway.folder().join("versioned.wasm")).unwrap();
    gateway.wait_until("it is refused", |gateway| gateway.history().contains("still needed"));
    assert_eq!(answer(&mut client, "a/in"), "1:x");
    gateway.configure(|text| text.replace("a/in", "other/in").replace("versioned", "other"));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(answer(&mut client, "a/in"), "1:x", "there is no plugin \"other\"");
    gateway.configure(|text| {
        let (before, rest) = text.split_once("[[gateway.binding]]").unwrap();
        format!("{before}{}", &rest[rest.find("[gateway.limits]").unwrap()..])
    });
    wait_for(&mut client, "a/in", "x");
    gateway.wait_until("it is removed", |gateway| gateway.history().contains("\"removed\""));
}

#[test]
fn a_version_that_was_refused_is_live_when_the_configuration_allows_it() {
    let gateway = versioned().with_a_file().start();
    let mut client = listener(&gateway);
    // A verifier only.
    put(gateway.folder(), "versioned.wasm", variant("scripted", 1));
    gateway.wait_until("it is refused", |gateway| gateway.history().contains("is no parser"));
    assert_eq!(answer(&mut client, "a/in"), "1:x");
    gateway.configure(|text| {
        let (before, rest) = text.split_once("[[gateway.binding]]").unwrap();
        format!("{before}{}", &rest[rest.find("[gateway.limits]").unwrap()..])
    });
    wait_for(&mut client, "a/in", "x");
    let is_live = |gateway: &RunningGateway| gateway.history().matches("\"live\"").count() == 2;
    gateway.wait_until("it is live", is_live);
}

#[test]
fn a_configuration_that_was_refused_is_live_when_the_plugin_is_there() {
    let gateway = versioned().with_a_file().start();
    let mut client = listener(&gateway);
    gateway.configure(|text| text.replace("plugin = \"versioned\"", "plugin = \"other\""));
    still(&mut client, "a/in", "1:x", Duration::from_millis(700));
    put(gateway.folder(), "other.toml", manifest("other", ""));
    put(gateway.folder(), "other.wasm", variant("versioned", 7));
    wait_for(&mut client, "a/in", "other:x");
}

#[test]
fn a_bad_plugin_does_not_hold_up_good_ones_of_the_same_look() {
    let gateway = versioned().with_plugins_line("watch = \"off\"").start();
    let mut client = listener(&gateway);
    // It binds itself as a parser, which it is not.
    put(gateway.folder(), "bad.toml", own("1", ""));
    put(gateway.folder(), "bad.wasm", variant("scripted", 1));
    put(gateway.folder(), "good.toml", own("good", ""));
    put(gateway.folder(), "good.wasm", variant("versioned", 1));
    put(gateway.folder(), "versioned.toml", manifest("2", ""));
    let summary = gateway.reload().unwrap();
    assert!(summary.contains("refused: bad"), "{summary}");
    assert_eq!(answer(&mut client, "a/in"), "2:x");
    assert_eq!(answer(&mut client, "b/in"), "good:x");
}

#[test]
fn a_reload_tells_and_tries_everything_again_that_was_refused() {
    let gateway = versioned().start();
    let mut client = listener(&gateway);
    let folder = gateway.folder();
    put(folder, "versioned.toml", "[settings]\nversion = { file = \"secrets/version\" }");
    gateway.wait_until("it is refused", |gateway| gateway.history().contains("cannot be read"));
    let refused = |gateway: &RunningGateway| gateway.history().matches("\"refused\"").count();
    assert_eq!(refused(&gateway), 1);
    assert!(gateway.reload().unwrap().contains("refused: versioned"));
    assert_eq!(refused(&gateway), 2, "it is told again");
    std::fs::create_dir(folder.join("secrets")).unwrap();
    std::fs::write(folder.join("secrets/version"), "2").unwrap();
    assert!(!gateway.reload().unwrap().contains("refused"));
    assert_eq!(answer(&mut client, "a/in"), "2:x");
}

#[test]
fn a_file_that_is_removed_and_copied_again_is_the_same_plugin() {
    for pause in [300, 1700] {
        let gateway = versioned().start();
        let mut client = listener(&gateway);
        put(gateway.folder(), "own.toml", own("1", ""));
        put(gateway.folder(), "own.wasm", variant("versioned", 1));
        wait_for(&mut client, "b/in", "1:x");
        std::fs::remove_file(gateway.folder().join("own.wasm")).unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        assert_eq!(answer(&mut client, "b/in"), if pause < 1000 { "1:x" } else { "x" });
        // So small a share that it is nobody's.
        put(gateway.folder(), "own.toml", own("2", "canary = \"0.0001%\""));
        put(gateway.folder(), "own.wasm", variant("versioned", 2));
        gateway.wait_until("it is tried", |gateway| gateway.history().contains("\"canary\""));
        still(&mut client, "b/in", "1:x", Duration::from_millis(300));
    }
}

#[test]
fn what_a_plugin_keeps_is_there_when_its_files_are_removed_and_copied_again() {
    let gateway = versioned().start();
    let mut client = listener(&gateway);
    let binding = "[[binding]]\ntopic = \"b/in\"\nmay_publish = [\"b/in\"]\n";
    put(gateway.folder(), "counter.toml", binding);
    put(gateway.folder(), "counter.wasm", variant("counter", 1));
    let begin = Instant::now();
    let counts = |client: &mut Client| answer(client, "b/in").contains(' ');
    while !counts(&mut client) {
        assert!(begin.elapsed() < LIVE_WITHIN, "it is not live");
    }
    std::fs::remove_file(gateway.folder().join("counter.wasm")).unwrap();
    while counts(&mut client) {
        assert!(begin.elapsed() < LIVE_WITHIN * 2, "it is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    put(gateway.folder(), "counter.wasm", variant("counter", 2));
    let answered = loop {
        let answered = answer(&mut client, "b/in");
        if let Some((_, kept)) = answered.split_once(' ') {
            break kept.parse::<u32>().unwrap();
        }
        assert!(begin.elapsed() < LIVE_WITHIN * 3, "it is not live again");
    };
    assert!(answered > 1, "it begins with nothing");
}

#[test]
fn a_secret_that_is_a_pipe_is_refused_and_holds_up_nobody() {
    let gateway = versioned().start();
    let mut client = listener(&gateway);
    let secret = gateway.folder().join("secret");
    assert!(std::process::Command::new("mkfifo").arg(&secret).status().unwrap().success());
    put(gateway.folder(), "own.toml", "[settings]\nkey = { file = \"secret\" }");
    put(gateway.folder(), "own.wasm", variant("versioned", 1));
    std::thread::sleep(Duration::from_millis(200));
    put(gateway.folder(), "versioned.toml", manifest("2", ""));
    wait_for(&mut client, "a/in", "2:x");
    let history = gateway.history();
    assert!(history.contains("no plain file"), "{history}");
}

#[test]
fn a_role_that_nobody_uses_may_be_lost() {
    let gateway = versioned().start();
    let mut client = listener(&gateway);
    wait_for(&mut client, "a/in", "1:x");
    // It verifies nobody here, and the relay could not.
    put(gateway.folder(), "versioned.wasm", variant("relay", 1));
    wait_for(&mut client, "a/in", "x");
    assert!(!gateway.history().contains("refused"));
}

#[test]
fn a_canary_whose_manifest_does_not_fit_any_more_is_taken_back_and_not_served() {
    let gateway = versioned().with_a_file().start();
    let mut client = listener(&gateway);
    put(gateway.folder(), "scripted.toml", "verifies = [\"test\"]");
    put(gateway.folder(), "scripted.wasm", variant("scripted", 1));
    let policy = "verifies = [\"test\"]\ncanary = \"100%\"\ncanary_calls = 50";
    put(gateway.folder(), "versioned.toml", manifest("2", policy));
    wait_for(&mut client, "a/in", "2:x");
    // From now on the manifest says who verifies: that of the canary says the same.
    gateway.configure(|text| text.replace("verification = \"open\"\n", ""));
    let begin = Instant::now();
    while answer(&mut client, "a/in") != "1:x" {
        assert!(begin.elapsed() < LIVE_WITHIN, "it is not taken back");
        std::thread::sleep(Duration::from_millis(50));
    }
    still(&mut client, "a/in", "1:x", Duration::from_millis(500));
    let history = gateway.history();
    assert!(history.contains("rolled-back") && history.contains("both say"), "{history}");
    assert!(!history.contains("\"promoted\""), "{history}");
}
