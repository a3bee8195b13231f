//! Any bytes, read as a stream: no panic, no packet longer than what was given, and progress.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portreeve_mqtt::{Limits, Packet, ProtocolVersion, decode, decode_first};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { packet_bytes_max: 1 << 16, user_properties_max: 64, filters_max: 64 };
    let _first = decode_first(bytes, &limits);
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let mut rest = bytes;
        while let Ok(Some((packet, taken))) = decode(rest, version, &limits) {
            assert!(taken >= 2 && taken <= rest.len());
            if let Packet::Subscribe(subscribe) = packet {
                assert!(subscribe.entries.iter().count() > 0);
            }
            rest = &rest[taken..];
        }
    }
});
