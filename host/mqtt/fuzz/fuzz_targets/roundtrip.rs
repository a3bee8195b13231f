//! What is accepted is the same after it was encoded and decoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portreeve_mqtt::{Limits, ProtocolVersion, decode};

fuzz_target!(|bytes: &[u8]| {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
        let Ok(Some((packet, _))) = decode(bytes, version, &Limits::STANDARD) else { continue };
        let mut written = Vec::new();
        packet.encode(version, &mut written).expect("what was decoded can be encoded");
        let (again, taken) = decode(&written, version, &Limits::STANDARD)
            .expect("what was encoded can be decoded")
            .expect("and is whole");
        assert_eq!(taken, written.len());
        assert_eq!(again, packet);
    }
});
