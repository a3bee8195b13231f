//! Plugins change while the gateway runs: what is live, what is refused, and that nobody notices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portreeve_plugin::{
    Budget, Engine, Manifest, Observer, Plugin, Stage, Version, load_component,
};
use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::plugins::{manifest, put, variant};
use portreeve_tests::{Client, TestGateway, V5};

/// How long a change may take where other tests want every core: components are compiled in
/// threads that stand back. How long it does take is measured by `portreeve-load swaps`.
const LIVE_WITHIN: Duration = Duration::from_secs(20);

fn versioned(more: &str) -> TestGateway {
    TestGateway::open()
        .with_plugin("versioned", &manifest("1", more))
        .with_binding("versioned", "+/in", "may_publish = [\"+/out\"]")
        .with("[data]\ndirectory = \"data\"")
}

/// Which version answers a client.
fn answers(client: &mut Client, payload: &str) -> String {
    let code = client.publish_at_least_once("a/in", payload);
    assert_eq!(code, 0, "the message was not taken");
    String::from_utf8(client.next_publish().payload).unwrap()
}

fn subscriber(gateway: &RunningGateway, name: &str) -> Client {
    let mut client = gateway.client(V5, name);
    client.subscribe("a/out", 0);
    client
}

/// Waits until a version answers.
fn wait_for(client: &mut Client, version: &str) {
    let begin = Instant::now();
    while answers(client, "x") != format!("{version}:x") {
        assert!(begin.elapsed() < LIVE_WITHIN, "version {version} is not live in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Gives a change time, and wants `version` to answer all the same.
fn still(client: &mut Client, version: &str) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(700) {
        assert_eq!(answers(client, "x"), format!("{version}:x"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_component_and_a_manifest_are_live_when_they_are_moved_into_place() {
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    wait_for(&mut client, "1");
    put(gateway.folder(), "versioned.toml", manifest("2", ""));
    wait_for(&mut client, "2");
    put(gateway.folder(), "versioned.wasm", variant("versioned", 1));
    still(&mut client, "2");
}

#[test]
fn a_file_that_is_written_in_place_is_live_when_it_is_whole() {
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    let bytes = variant("versioned", 2);
    let path = gateway.folder().join("versioned.wasm");
    // As `cp` over a slow network does it.
    let mut file = std::fs::File::create(&path).unwrap();
    for chunk in bytes.chunks(bytes.len() / 5) {
        std::io::Write::write_all(&mut file, chunk).unwrap();
        assert_eq!(answers(&mut client, "x"), "1:x");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(file);
    std::fs::write(gateway.folder().join("versioned.toml"), manifest("2", "")).unwrap();
    wait_for(&mut client, "2");
}

#[test]
fn what_cannot_be_used_leaves_the_old_version_serving() {
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    let good = variant("versioned", 3);
    let cases: [(&str, Vec<u8>); 6] = [
        ("versioned.wasm", b"not a component".to_vec()),
        ("versioned.wasm", good[..good.len() / 2].to_vec()),
        ("versioned.wasm", Vec::new()),
        ("versioned.wasm", variant("sockets", 1)),
        // A verifier only: the gateway needs a parser.
        ("versioned.wasm", variant("scripted", 1)),
        ("versioned.toml", b"[settings\nversion = \"9\"".to_vec()),
    ];
    for (name, bytes) in cases {
        put(gateway.folder(), name, bytes);
        still(&mut client, "1");
    }
    put(gateway.folder(), "versioned.wasm", &good);
    put(gateway.folder(), "versioned.toml", manifest("2", ""));
    wait_for(&mut client, "2");
}

#[test]
fn a_plugin_that_is_needed_cannot_be_taken_away() {
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    let file = gateway.folder().join("versioned.wasm");
    std::fs::rename(&file, gateway.folder().join("other.wasm")).unwrap();
    still(&mut client, "1");
}

#[test]
fn a_plugin_that_binds_itself_comes_and_goes() {
    let gateway = versioned("").start();
    let mut client = gateway.client(V5, "client");
    client.subscribe("b/c/#", 0);
    let own = "[[binding]]\ntopic = \"b/c/in\"\nmay_publish = [\"b/c/out\"]";
    put(gateway.folder(), "own.toml", format!("[settings]\nversion = \"own\"\n{own}"));
    put(gateway.folder(), "own.wasm", variant("versioned", 4));
    let mut ask = |wanted: &str| {
        let begin = Instant::now();
        loop {
            client.publish_at_least_once("b/c/in", "x");
            if client.next_publish().payload == wanted.as_bytes() {
                return;
            }
            assert!(begin.elapsed() < LIVE_WITHIN, "not in time: {wanted}");
        }
    };
    ask("own:x");
    std::fs::remove_file(gateway.folder().join("own.wasm")).unwrap();
    ask("x");
}

#[test]
fn links_are_swapped_as_kubernetes_does_it() {
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    let folder = gateway.folder();
    for version in ["2", "3"] {
        let data = folder.join(format!("..v{version}"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("versioned.wasm"), variant("versioned", 5)).unwrap();
        std::fs::write(data.join("versioned.toml"), manifest(version, "")).unwrap();
        let link = folder.join("..data_tmp");
        std::os::unix::fs::symlink(&data, &link).unwrap();
        std::fs::rename(&link, folder.join("..data")).unwrap();
        if version == "2" {
            for name in ["versioned.toml", "versioned.wasm"] {
                let link = folder.join(".link");
                std::os::unix::fs::symlink(format!("..data/{name}"), &link).unwrap();
                std::fs::rename(&link, folder.join(name)).unwrap();
            }
        }
        wait_for(&mut client, version);
    }
}

#[test]
fn files_are_looked_at_where_the_system_tells_of_nothing() {
    let gateway = TestGateway::open()
        .with_plugin("versioned", &manifest("1", ""))
        .with_binding("versioned", "+/in", "may_publish = [\"+/out\"]")
        .with_plugins_line("watch = \"poll\"\npoll_interval = \"100ms\"")
        .start();
    let mut client = subscriber(&gateway, "client");
    put(gateway.folder(), "versioned.toml", manifest("2", ""));
    wait_for(&mut client, "2");
}

/// Has threads stop when it is dropped.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Clients publish and connect at full speed while versions are swapped: each message is parsed
/// once, by a version that was live, and nobody is turned away.
#[test]
fn swaps_under_load_lose_and_mix_nothing() {
    let swaps = std::env::var("PORTREEVE_SWAPS").map_or(40, |swaps| swaps.parse().unwrap());
    let gateway = TestGateway::verified_by("plugin:versioned")
        .with_plugin("versioned", &manifest("0", ""))
        .with_binding("versioned", "+/in", "may_publish = [\"+/out\"]")
        .start();
    let stop = AtomicBool::new(false);
    let (messages, connects) = (AtomicU64::new(0), AtomicU64::new(0));
    let (gateway, stop, messages, connects) = (&gateway, &stop, &messages, &connects);
    std::thread::scope(|scope| {
        // Also when an assertion fails: the others would go on for ever.
        let _stops = StopAtEnd(stop);
        for publisher in 0..8 {
            scope.spawn(move || {
                let name = format!("publisher-{publisher}");
                let mut client = gateway.client(V5, &name);
                client.subscribe(&format!("{name}/out"), 0);
                let mut last = 0;
                for number in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let payload = format!("{number}.");
                    assert_eq!(client.publish_at_least_once(&format!("{name}/in"), &payload), 0);
                    let answer = String::from_utf8(client.next_publish().payload).unwrap();
                    let (version, rest) = answer.split_once(':').unwrap();
                    assert_eq!(rest, payload, "another message, or one that was not parsed");
                    let version: u32 = version.parse().unwrap();
                    assert!(version >= last, "version {version} after {last}");
                    last = version;
                    messages.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                gateway.client(V5, "visitor").disconnect();
                connects.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut watcher = subscriber(gateway, "watcher");
        for version in 1..=swaps {
            put(gateway.folder(), "versioned.toml", manifest(&version.to_string(), ""));
            wait_for(&mut watcher, &version.to_string());
        }
    });
    assert_eq!(gateway.count("parser_faults"), 0);
    assert_eq!(gateway.count("connects_refused"), 0);
    assert!(messages.load(Ordering::Relaxed) > 100 && connects.load(Ordering::Relaxed) > 10);
}

#[test]
fn a_rollout_is_ended_for_the_version_that_is_on_its_way_and_for_no_other() {
    let engine = Engine::new().unwrap();
    let (concluded, _concluded) = tokio::sync::mpsc::channel(8);
    let (differences, _differences) = tokio::sync::mpsc::channel(8);
    let observer = Observer { concluded, differences, differences_bytes: Budget::of(0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let version = |digest: &str| {
        let loaded =
            load_component(&engine, &variant("versioned", 0), &Default::default(), None).unwrap();
        let started = Version::start(&engine, "versioned", digest, loaded, Manifest::default());
        runtime.block_on(started).unwrap()
    };
    let [first, second, third] = ["1", "2", "3"].map(version);
    let plugin = Plugin::new(first, observer);
    assert!(!plugin.abort(&second) && !plugin.promote(&second), "none is on its way");
    plugin.begin(second.clone(), Stage::Canary);
    // What was seen before the third one came is not done to it.
    plugin.begin(third.clone(), Stage::Canary);
    assert!(!plugin.abort(&second) && !plugin.promote(&second));
    assert_eq!(plugin.live().digest(), "1");
    assert!(plugin.promote(&third) && !plugin.abort(&third), "it is live");
    assert_eq!(plugin.live().digest(), "3");
}

#[test]
fn a_canary_that_traps_is_taken_back_before_it_hurts() {
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    assert_eq!(answers(&mut client, "1"), "1:1");
    let trap = "canary = \"100%\"\ncanary_calls = 1000000";
    let text = format!("{}trap_every = \"50\"\n", manifest("2", trap));
    put(gateway.folder(), "versioned.toml", text);
    wait_for(&mut client, "2");
    for number in 1..50 {
        assert_eq!(answers(&mut client, &number.to_string()), format!("2:{number}"));
    }
    // The device does not suffer: the old version answers in its place.
    assert_eq!(answers(&mut client, "50"), "1:50");
    still(&mut client, "1");
    assert_eq!(gateway.count("parser_faults"), 0);
}

#[test]
fn a_canary_that_traps_on_two_percent_answers_few_devices_until_it_is_taken_back() {
    // Not a multiple of 50: each device comes to trap.
    const DEVICES: u64 = 307;
    let gateway = versioned("").start();
    let canary = "canary = \"20%\"\ncanary_calls = 1000000";
    let text = format!("{}trap_every = \"50\"\n", manifest("2", canary));
    put(gateway.folder(), "versioned.toml", text);
    let is_on_its_way = || {
        let history = gateway.history();
        (history.contains("\"canary\""), history.contains("\"rolled-back\""))
    };
    let begin = Instant::now();
    while !is_on_its_way().0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", gateway.history());
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut answered_by_it = BTreeSet::new();
    let mut calls = 0_u64;
    while !is_on_its_way().1 {
        calls += 1;
        assert!(calls < 100 * DEVICES, "it is taken back: {}", gateway.history());
        let device = format!("device-{}", calls % DEVICES);
        let mut client = subscriber(&gateway, &device);
        let answer = answers(&mut client, &calls.to_string());
        match answer.split_once(':').unwrap() {
            ("2", _) => drop(answered_by_it.insert(device)),
            (version, payload) => assert_eq!((version, payload), ("1", &*calls.to_string())),
        }
        client.disconnect();
    }
    println!(
        "canary that traps on 2 %: taken back after {calls} calls, had answered {} devices",
        answered_by_it.len()
    );
    assert!(answered_by_it.len() <= 50);
    assert_eq!(gateway.count("parser_faults"), 0, "no device suffered");
}

#[test]
fn a_canary_answers_few_devices_always_the_same_and_is_promoted() {
    let gateway = versioned("").start();
    let mut clients: Vec<Client> =
        (0..40).map(|number| gateway.client(V5, &format!("device-{number}"))).collect();
    let mut ask_all = |round: u32| -> Vec<bool> {
        let ask = |(number, client): (usize, &mut Client)| {
            let topic = format!("{number}/out");
            if round == 0 {
                client.subscribe(&topic, 0);
            }
            client.publish_at_least_once(&format!("{number}/in"), "x");
            client.next_publish().payload == b"2:x"
        };
        clients.iter_mut().enumerate().map(ask).collect()
    };
    assert!(!ask_all(0).contains(&true));
    let policy = "canary = \"50%\"\ncanary_calls = 60\ncanary_devices = 5";
    put(gateway.folder(), "versioned.toml", manifest("2", policy));
    let begin = Instant::now();
    let chosen = loop {
        let answered = ask_all(1);
        if answered.iter().filter(|is_new| **is_new).count() == 5 {
            break answered;
        }
        assert!(begin.elapsed() < LIVE_WITHIN, "{answered:?}");
    };
    for _ in 0..5 {
        assert_eq!(ask_all(1), chosen, "other devices");
    }
    while !ask_all(1).iter().all(|is_new| *is_new) {
        assert!(begin.elapsed() < LIVE_WITHIN * 5, "it is not promoted");
    }
}

#[test]
fn a_canary_that_refuses_more_is_taken_back() {
    let gateway = versioned("").start();
    let mut clients: Vec<Client> =
        (0..20).map(|number| gateway.client(V5, &format!("device-{number}"))).collect();
    let mut ask_all = || -> usize {
        let ask = |client: &mut Client| client.publish_at_least_once("t/in", "x") == 0x99;
        clients.iter_mut().map(ask).filter(|is_refused| *is_refused).count()
    };
    for _ in 0..5 {
        assert_eq!(ask_all(), 0);
    }
    let refuse = "canary = \"50%\"\ncanary_calls = 1000000";
    put(gateway.folder(), "versioned.toml", format!("{}refuse = \"yes\"\n", manifest("2", refuse)));
    let begin = Instant::now();
    let mut refused = 0;
    loop {
        let now = ask_all();
        refused += now;
        if refused > 0 && now == 0 {
            break;
        }
        assert!(begin.elapsed() < LIVE_WITHIN * 3, "it is not taken back");
    }
    assert!(refused < 100, "{refused} messages were refused");
}

#[test]
fn a_shadow_answers_nobody_and_its_differences_are_written() {
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    put(gateway.folder(), "versioned.toml", manifest("2", "shadow = \"100%\""));
    still(&mut client, "1");
    let path = gateway.folder().join("data/plugins/versioned/differences.jsonl");
    gateway.wait_until("differences are written", |_| path.exists());
    let text = std::fs::read_to_string(path).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["input"]["topic"], "a/in");
    assert!(first["at"].as_str().unwrap().starts_with("20"), "{first}");
    assert_ne!(first["live_version"], first["candidate_version"]);
    assert_eq!(first["live"]["messages"][0]["payload"], "1:x");
    assert_eq!(first["candidate"]["messages"][0]["payload"], "2:x");
}

#[test]
fn a_shadow_that_differs_all_the_time_does_not_keep_files_from_being_looked_at() {
    let gateway = TestGateway::open()
        .with_plugin("versioned", &manifest("1", ""))
        .with_binding("versioned", "+/in", "may_publish = [\"+/out\"]")
        .with_plugins_line("watch = \"poll\"\npoll_interval = \"200ms\"")
        .start();
    let mut client = subscriber(&gateway, "client");
    put(gateway.folder(), "versioned.toml", manifest("2", "shadow = \"100%\""));
    std::thread::sleep(Duration::from_secs(1));
    put(gateway.folder(), "versioned.toml", manifest("3", ""));
    wait_for(&mut client, "3");
}

#[test]
fn a_canary_that_runs_over_its_time_is_taken_back_and_does_not_close_the_old_version() {
    let gateway = TestGateway::open()
        .with_plugin("echo", "[limits]\ndeadline = \"100ms\"\n[breaker]\nfaults = 3\ndevices = 1")
        .with_binding("echo", "in", "may_publish = [\"#\"]")
        .with("[data]\ndirectory = \"data\"")
        .start();
    let mut clients: Vec<Client> =
        (0..10).map(|number| gateway.client(V5, &format!("device-{number}"))).collect();
    let spins =
        "canary = \"100%\"\n[limits]\ndeadline = \"100ms\"\n[breaker]\nfaults = 3\ndevices = 1";
    put(gateway.folder(), "echo.toml", spins);
    put(gateway.folder(), "echo.wasm", variant("spin", 1));
    let begin = Instant::now();
    while !gateway.history().contains("rolled-back") {
        assert!(begin.elapsed() < LIVE_WITHIN * 5, "it is not taken back");
        std::thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || {
                    let code = client.publish_at_least_once("in", "x");
                    assert_ne!(code, 0x83, "the old version did not answer in its place");
                });
            }
        });
    }
    assert_ne!(clients[0].publish_at_least_once("in", "x"), 0x83, "the old version is not asked");
    assert_eq!(gateway.count("parser_faults"), 0);
}

#[test]
fn a_message_on_which_both_versions_trap_takes_nothing_back() {
    let trap =
        |version: &str, more: &str| format!("{}trap_every = \"50\"\n", manifest(version, more));
    let gateway = versioned("").start();
    let mut client = subscriber(&gateway, "client");
    put(gateway.folder(), "versioned.toml", trap("2", ""));
    wait_for(&mut client, "2");
    let canary = "canary = \"100%\"\ncanary_calls = 100";
    put(gateway.folder(), "versioned.toml", trap("3", canary));
    wait_for(&mut client, "3");
    for _ in 0..5 {
        assert_eq!(client.publish_at_least_once("a/in", "50"), 0x83, "there is no answer");
    }
    for _ in 0..100 {
        assert_eq!(answers(&mut client, "x"), "3:x");
    }
    gateway.wait_until("it is promoted", |gateway| gateway.history().contains("promoted"));
}

#[test]
fn a_shadow_that_is_busy_is_not_asked_and_differs_in_nothing() {
    // Every call runs over its time.
    let slow = |more: &str, instances: u32| {
        format!(
            "{more}\n[limits]\ndeadline = \"100ms\"\nwaiting_calls = 0\n[breaker]\nfaults = 0\n\
             [instances]\npolicy = \"warm\"\ninstances = {instances}\n"
        )
    };
    let gateway = TestGateway::open()
        .with_plugin("slow", &slow("", 8))
        .with_binding("slow", "in", "")
        .with("[data]\ndirectory = \"data\"")
        .start();
    put(gateway.folder(), "slow.toml", slow("shadow = \"100%\"", 1));
    gateway.wait_until("it is tried", |gateway| gateway.history().contains("shadow"));
    std::thread::scope(|scope| {
        for publisher in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.client(V5, &format!("publisher-{publisher}"));
                for _ in 0..5 {
                    assert_eq!(client.publish_at_least_once("in", "x"), 0x83);
                }
            });
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    let differences = gateway.folder().join("data/plugins/slow/differences.jsonl");
    assert_eq!(std::fs::read_to_string(differences).unwrap_or_default(), "");
    assert!(!gateway.history().contains("rolled-back"));
}

#[test]
fn a_plugin_that_fails_for_everybody_is_not_asked_for_a_while() {
    let breaker = "[breaker]\nfaults = 10\ndevices = 3\nopen = \"1s\"";
    let failing = format!("{}fail = \"yes\"\n{breaker}", manifest("1", ""));
    let gateway =
        TestGateway::verified_by("plugin:versioned").with_plugin("versioned", &failing).start();
    let refusal = |name: &str| {
        let mut client = gateway.dial();
        client.speak(V5);
        client.send_packet(&portreeve_mqtt::Packet::Connect(portreeve_tests::client::connect(
            V5, name,
        )));
        client.next_hex()
    };
    // A number of seconds stands behind the name of the property and the two bytes of its length.
    let retry_after = |refused: &str| -> u32 {
        let (_, behind) = refused.split_once(&hex::encode("retry-after")).unwrap();
        let digits = hex::decode(&behind[4..]).unwrap();
        std::str::from_utf8(&digits).unwrap().parse().unwrap()
    };
    for number in 0..10 {
        let refused = refusal(&format!("device-{number}"));
        assert!(refused.contains("88") && retry_after(&refused) >= 5, "{refused}");
    }
    assert!(retry_after(&refusal("device-x")) <= 2, "the breaker is open, for a second");
    // It recovers by itself.
    put(gateway.folder(), "versioned.toml", manifest("2", breaker));
    gateway.wait_until("the new version lets devices in", |gateway| {
        let mut client = gateway.dial();
        client.try_connect(V5, "device-y")
    });
}
