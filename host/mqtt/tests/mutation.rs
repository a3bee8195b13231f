//! Deterministic mutation: flipped, replaced, removed and inserted bytes of the packet table.
//! Whatever is accepted must survive being encoded and decoded again, and nothing may panic.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_mqtt::{FixedHeader, Limits, ProtocolVersion, decode, decode_first};

const MUTATIONS_FOR_EACH_PACKET: u32 = 2_000;

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.byte(),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            3 => bytes.insert(at, random.byte()),
            _ => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        }
    }
    // Half of the time the length is made to fit, so that the mutation reaches the content.
    if random.below(2) == 0 && bytes.len() > 2 && bytes.len() < 130 {
        bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
    }
}

fn check(bytes: &[u8], version: ProtocolVersion, limits: &Limits) -> bool {
    let _first = decode_first(bytes, limits);
    let Ok(Some((packet, taken))) = decode(bytes, version, limits) else { return false };
    assert!(taken <= bytes.len());
    assert_eq!(FixedHeader::parse(bytes, limits).unwrap().unwrap().packet_bytes(), taken);
    let mut written = Vec::new();
    packet.encode(version, &mut written).unwrap();
    let (again, all) = decode(&written, version, limits).unwrap().unwrap();
    assert_eq!((again, all), (packet, written.len()), "{}", hex::encode(bytes));
    true
}

#[test]
fn mutated_packets_never_panic_and_what_is_accepted_comes_back_the_same() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut inputs, mut accepted) = (0_u32, 0_u32);
    for line in include_str!("data/packets.jsonl").lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = hex::decode(case["hex"].as_str().unwrap()).unwrap();
        if bytes.len() > 4096 {
            continue;
        }
        for _ in 0..MUTATIONS_FOR_EACH_PACKET {
            let mut mutated = bytes.clone();
            mutate(&mut mutated, &mut random);
            for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
                inputs += 1;
                accepted += u32::from(check(&mutated, version, &Limits::STANDARD));
            }
        }
    }
    println!("{inputs} inputs, {accepted} accepted, 0 findings");
    assert!(inputs > 1_000_000 && accepted > 50_000, "{inputs} inputs, {accepted} accepted");
}

#[test]
fn limits_are_checked_before_the_content() {
    let limits = Limits { packet_bytes_max: 16, user_properties_max: 1, filters_max: 1 };
    let too_large = [0x30, 0x0f];
    let error = decode(&too_large, ProtocolVersion::V5, &limits).unwrap_err();
    assert_eq!(error.fault, portreeve_mqtt::Fault::PacketTooLarge);
    let two_filters = hex::decode("8209000100016100000162").unwrap();
    let _incomplete_or_error = decode(&two_filters, ProtocolVersion::V311, &limits);
    let two_filters = hex::decode("820a00010001610000016200").unwrap();
    let error = decode(&two_filters, ProtocolVersion::V311, &limits).unwrap_err();
    assert_eq!(error.fault, portreeve_mqtt::Fault::QuotaExceeded);
    let two_user_properties = hex::decode("400e0007000a26000000002600000000").unwrap();
    let error = decode(&two_user_properties, ProtocolVersion::V5, &limits).unwrap_err();
    assert_eq!(error.fault, portreeve_mqtt::Fault::QuotaExceeded);
}
