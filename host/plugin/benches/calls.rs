//! Thread-CPU time of every step of a plugin's life, medians: load, load from the code cache,
//! start, a fresh call, a warm call, and a native function that does the same work.
//!
//! The component is the example `sensor-frame` of `make guests`.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a benchmark prints its table"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cpu_time::ThreadTime;
use portreeve_plugin::contract::{
    Connect, Connection, Context, Device, Direction, MessageParam, Outcome, Protocol, Qos, Verdict,
};
use portreeve_plugin::{
    CodeCache, ConnectLists, ConnectQuestion, Engine, InstancePolicy, Manifest, Pairs,
    PublishQuestion, Version, load_component,
};

const FRAME: &[u8] = b"\x08\x66\x11\xc6\x0c\xe4";
const TOPIC: &str = "devices/device-1/raw";

fn median(mut rounds: Vec<Duration>) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2].as_secs_f64() * 1e6
}

/// Median microseconds of one operation, of `rounds` rounds of `operations`.
fn measure(rounds: u32, operations: u32, mut operation: impl FnMut()) -> f64 {
    operation();
    let rounds = (0..rounds).map(|_| {
        let begin = ThreadTime::now();
        for _ in 0..operations {
            operation();
        }
        begin.elapsed() / operations
    });
    median(rounds.collect())
}

fn say(step: &str, us: f64, note: &str) {
    println!("{step:<44} {us:>12.2} us  {note}");
}

/// What the guest does, as a native function: the same types, the same copies.
fn native(topic: &str, payload: &[u8]) -> Option<(String, Vec<u8>)> {
    let message = (topic.to_owned(), payload.to_vec());
    let [t0, t1, h0, h1, b0, b1] = *message.1.as_slice() else { return None };
    let temperature = f64::from(i16::from_be_bytes([t0, t1])) / 100.0;
    let humidity = f64::from(u16::from_be_bytes([h0, h1])) / 100.0;
    let battery = f64::from(u16::from_be_bytes([b0, b1])) / 1000.0;
    let json =
        format!(r#"{{"temperature":{temperature},"humidity":{humidity},"battery":{battery}}}"#);
    let (parent, _) = message.0.rsplit_once('/')?;
    Some((format!("{parent}/telemetry"), json.into_bytes()))
}

struct Question;

impl PublishQuestion for Question {
    fn device(&self) -> &str {
        "device-1"
    }

    fn attributes(&self) -> Pairs<'_> {
        Vec::new()
    }

    fn user_properties(&self) -> Pairs<'_> {
        Vec::new()
    }

    fn context<'a>(&'a self, _attributes: &'a [(&'a str, &'a str)]) -> Context<'a> {
        context()
    }

    fn message<'a>(&'a self, _user_properties: &'a [(&'a str, &'a str)]) -> MessageParam<'a> {
        message()
    }
}

impl ConnectQuestion for Question {
    fn device(&self) -> &str {
        "device-1"
    }

    fn lists(&self) -> ConnectLists<'_> {
        ConnectLists::default()
    }

    fn connect<'a>(&'a self, _lists: &'a ConnectLists<'a>) -> Connect<'a> {
        connect()
    }
}

fn context() -> Context<'static> {
    let device =
        Device { name: "device-1", product: "default", client_id: "client-1", attributes: &[] };
    Context { direction: Direction::Up, device, gateway: "bench", received_at: 1 }
}

fn message() -> MessageParam<'static> {
    MessageParam {
        topic: TOPIC,
        payload: FRAME,
        payload_format: None,
        qos: Qos::AtMostOnce,
        retain: false,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        message_expiry_interval: None,
        user_properties: &[],
    }
}

fn connect() -> Connect<'static> {
    Connect {
        connection: Connection {
            id: 1,
            gateway: "bench",
            peer_address: "127.0.0.1:50000",
            protocol: Protocol::Mqtt5,
            tls: None,
        },
        client_id: "client-1",
        user_name: Some("device-1"),
        password: Some(b"demo"),
        clean_start: true,
        keep_alive: 60,
        authentication_method: None,
        authentication_data: None,
        user_properties: &[],
    }
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins");
    let read = |name: &str| {
        std::fs::read(folder.join(name))
            .unwrap_or_else(|error| panic!("make guests first: {error}"))
    };
    let (parser, verifier) = (read("sensor-frame.wasm"), read("allow-list.wasm"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = Engine::new().unwrap();
    println!("pooled instances: {}, component of {} bytes", engine.is_pooling(), parser.len());

    let compile = measure(5, 1, || {
        drop(black_box(load_component(&engine, &parser, &Default::default(), None).unwrap()))
    });
    say("load (compile)", compile, "on all cores; this thread's part");
    let cache_folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(&cache_folder.path().join("code")).unwrap();
    let cached = measure(11, 10, || {
        drop(black_box(
            load_component(&engine, &parser, &Default::default(), Some(&cache)).unwrap(),
        ));
    });
    say("load (code cache, digests checked)", cached, "");
    let start = |bytes: &[u8], policy: InstancePolicy| -> Arc<Version> {
        let loaded = load_component(&engine, bytes, &Default::default(), Some(&cache)).unwrap();
        let mut settings = std::collections::BTreeMap::new();
        settings.insert("user.device-1".to_owned(), "demo".to_owned());
        let manifest = Manifest { instances: Some(policy), settings, ..Manifest::default() };
        runtime.block_on(Version::start(&engine, "bench", "", loaded, manifest)).unwrap()
    };
    let started = measure(11, 100, || {
        drop(black_box(start(&parser, InstancePolicy::Fresh)));
    });
    say("start (first instance)", started - cached, "beyond the load");

    let baseline =
        measure(21, 10_000, || drop(black_box(native(black_box(TOPIC), black_box(FRAME)))));
    say("native function, same work", baseline, "");
    let warm = start(
        &parser,
        InstancePolicy::Warm { instances: 1, calls: u32::MAX, memory_bytes_mark: None },
    );
    // Many calls for each entry into the runtime, as a connection's task makes them.
    let ask = |plugin: &Arc<Version>, calls: u32| {
        runtime.block_on(async {
            for _ in 0..calls {
                let outcome = plugin.parse(Question).await.unwrap();
                assert!(matches!(outcome, Outcome::Replace(ref messages) if messages.len() == 1));
            }
        });
    };
    let warm_us = measure(21, 1, || ask(&warm, 10_000)) / 10_000.0;
    let budget = format!("{:.2} beyond native; budget 1.5", warm_us - baseline);
    say("warm call of a parser, all in", warm_us, &budget);
    let fresh = start(&parser, InstancePolicy::Fresh);
    say("fresh call of a parser, all in", measure(21, 1, || ask(&fresh, 500)) / 500.0, "");
    let fresh = start(&verifier, InstancePolicy::Fresh);
    let verify = measure(21, 500, || {
        let verdict = runtime.block_on(fresh.verify(Question)).unwrap();
        assert!(matches!(verdict, Verdict::Admit(_)));
    });
    say("fresh call of a verifier, all in", verify, "budget 40");
}
