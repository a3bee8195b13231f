//! The packet table: every case has the verdict that the standard demands.
//!
//! `data/packets.jsonl` holds one case a line: `{"id", "version": 4|5, "spec", "expect":
//! "accept"|"reject"|"either", "hex"}`. Files named in the environment variable
//! `PORTREEVE_PACKETS` (separated by `:`) are run as well.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_mqtt::{DecodeError, Limits, Packet, ProtocolVersion, decode, decode_first};
use serde_json::Value;

struct Case {
    id: String,
    version: ProtocolVersion,
    expect: String,
    bytes: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let mut text = include_str!("data/packets.jsonl").to_owned();
    if let Ok(files) = std::env::var("PORTREEVE_PACKETS") {
        for file in files.split(':').filter(|file| !file.is_empty()) {
            let more = std::fs::read_to_string(file)
                .unwrap_or_else(|error| panic!("PORTREEVE_PACKETS names {file}: {error}"));
            text.push('\n');
            text.push_str(&more);
        }
    }
    text.lines().filter(|line| !line.trim().is_empty()).map(case).collect()
}

fn case(line: &str) -> Case {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |key: &str| value[key].as_str().unwrap_or_else(|| panic!("{line}: no {key}"));
    Case {
        id: text("id").to_owned(),
        version: match value["version"].as_u64() {
            Some(5) => ProtocolVersion::V5,
            Some(4) => ProtocolVersion::V311,
            other => panic!("{line}: version {other:?}"),
        },
        expect: text("expect").to_owned(),
        bytes: hex::decode(text("hex")).unwrap(),
    }
}

type Decoded<'a> = Result<Option<(Packet<'a>, usize)>, DecodeError>;

fn decode_standard(bytes: &[u8], version: ProtocolVersion) -> Decoded<'_> {
    decode(bytes, version, &Limits::STANDARD)
}

/// Why a valid packet was not read and written as it should be.
fn fault_of_valid(case: &Case) -> Option<String> {
    let (packet, taken) = match decode_standard(&case.bytes, case.version) {
        Ok(Some(decoded)) => decoded,
        other => return Some(format!("not accepted: {other:?}")),
    };
    if taken != case.bytes.len() {
        return Some(format!("took {taken} of {} bytes", case.bytes.len()));
    }
    let mut written = Vec::new();
    if let Err(error) = packet.encode(case.version, &mut written) {
        return Some(format!("not encoded: {error}"));
    }
    if written == case.bytes {
        return None;
    }
    // An acknowledgement may be written in a shorter form that says the same (§3.4.2.1).
    match decode_standard(&written, case.version) {
        Ok(Some((again, _))) if again == packet && written.len() < case.bytes.len() => None,
        _ => Some(format!("written as {}", hex::encode(written))),
    }
}

#[test]
fn packets() {
    let cases = cases();
    let mut faults = Vec::new();
    for case in &cases {
        let fault = match case.expect.as_str() {
            "accept" => fault_of_valid(case),
            "reject" => match decode_standard(&case.bytes, case.version) {
                Ok(Some((packet, _))) => Some(format!("accepted as {packet:?}")),
                Ok(None) => Some("taken for the beginning of a packet".to_owned()),
                Err(_) => None,
            },
            "either" => decode_standard(&case.bytes, case.version)
                .is_ok_and(|decoded| decoded.is_none())
                .then(|| "taken for the beginning of a packet".to_owned()),
            other => Some(format!("unknown expectation {other:?}")),
        };
        faults.extend(fault.map(|fault| format!("{}: {fault}", case.id)));
    }
    println!("{} packets, {} as expected", cases.len(), cases.len() - faults.len());
    assert!(cases.len() >= 406, "the table has {} cases", cases.len());
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn a_packet_cut_short_is_never_accepted() {
    for case in cases() {
        for length in 0..case.bytes.len() {
            // The longest cases differ in nothing but the length of their topic.
            if length > 512 && length + 512 < case.bytes.len() && length % 97 != 0 {
                continue;
            }
            let part = &case.bytes[..length];
            let decoded = decode_standard(part, case.version);
            if case.expect == "accept" {
                assert_eq!(decoded, Ok(None), "{} cut at {length}", case.id);
            } else if let Ok(Some((packet, taken))) = decoded {
                assert!(taken <= length, "{} cut at {length}: {packet:?}", case.id);
            }
        }
    }
}

#[test]
fn a_second_packet_is_left_alone() {
    let second = [0xc0, 0x00];
    for case in cases().iter().filter(|case| case.expect == "accept") {
        let joined = [case.bytes.as_slice(), &second].concat();
        let (packet, taken) = decode_standard(&joined, case.version).unwrap().unwrap();
        assert_eq!(taken, case.bytes.len(), "{}", case.id);
        let (alone, _) = decode_standard(&case.bytes, case.version).unwrap().unwrap();
        assert_eq!(packet, alone, "{}", case.id);
        let (ping, _) = decode_standard(&joined[taken..], case.version).unwrap().unwrap();
        assert_eq!(ping, Packet::Pingreq, "{}", case.id);
    }
}

#[test]
fn a_second_packet_does_not_heal_a_bad_one() {
    for case in cases().iter().filter(|case| case.expect == "reject") {
        let joined = [case.bytes.as_slice(), &[0xc0, 0x00]].concat();
        assert!(decode_standard(&joined, case.version).is_err(), "{}", case.id);
    }
}

#[test]
fn the_first_packet_must_be_connect_mqtt_3_1_0_1() {
    for case in cases().iter().filter(|case| case.expect == "accept") {
        let first = decode_first(&case.bytes, &Limits::STANDARD);
        let is_connect = case.bytes.first() == Some(&0x10);
        assert_eq!(first.is_ok(), is_connect, "{}", case.id);
    }
}
