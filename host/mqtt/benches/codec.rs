//! Thread-CPU nanoseconds of the codec's hot paths, medians of several rounds, with the number
//! of heap allocations of one operation.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::allow_attributes,
    reason = "a benchmark prints its table"
)]

use std::hint::black_box;
use std::num::NonZeroU16;

use cpu_time::ThreadTime;
use portreeve_mqtt::{
    EncodedPublish, Limits, Packet, Properties, ProtocolVersion, Publish, QoS, TopicName, decode,
};

const ROUNDS: usize = 21;
const OPERATIONS: u32 = 100_000;

fn measure(name: &str, target_ns: f64, mut operation: impl FnMut()) {
    operation();
    let allocations = allocation_counter::measure(&mut operation).count_total;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = ThreadTime::now();
            for _ in 0..OPERATIONS {
                operation();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(OPERATIONS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or(f64::NAN);
    println!("{name:<44} {median:>7.1} ns  target {target_ns:>5.0} ns  {allocations} allocations");
}

fn main() {
    let topic = TopicName::parse("devices/device-0001/telemetry/").expect("a topic");
    let payload = [0x5a; 64];
    let publish = |qos, version: &str| {
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: Some(topic),
            packet_id: (qos != QoS::AtMostOnce).then_some(NonZeroU16::MIN),
            properties: Properties::NONE,
            payload: &payload,
        };
        (format!("PUBLISH {version} QoS {}", qos as u8), publish)
    };
    println!("codec, {}-byte topic, {}-byte payload", topic.as_str().len(), payload.len());
    for (version, label) in [(ProtocolVersion::V311, "3.1.1"), (ProtocolVersion::V5, "5.0")] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let (name, packet) = publish(qos, label);
            let mut bytes = Vec::with_capacity(256);
            Packet::Publish(packet).encode(version, &mut bytes).expect("encodes");
            measure(&format!("decode {name}"), 60.0, || {
                let decoded = decode(black_box(&bytes), version, &Limits::STANDARD);
                let _packet = black_box(decoded);
            });
            let mut out = Vec::with_capacity(256);
            measure(&format!("encode {name}"), 40.0, || {
                out.clear();
                let _result =
                    black_box(Packet::Publish(black_box(packet)).encode(version, &mut out));
                black_box(&out);
            });
            let once = EncodedPublish::new(&packet, version).expect("encodes");
            let id = NonZeroU16::new(77);
            measure(&format!("re-send {name}, other packet id"), 10.0, || {
                out.clear();
                once.append(&mut out, false, qos, false, black_box(id));
                black_box(&out);
            });
        }
    }
}
