//! Certificates of devices, good and damaged, as guests are told of them. A stranger writes them; webpki has verified
//! the real ones, which is not asked for here: whatever can be read may be told.

use std::process::Command;
use std::sync::Arc;

use portreeve_tls::Certificate;
use portreeve_tls::certificate::CERTIFICATE_BYTES_MAX;
use portreeve_tls::peer::VerifiedPeer;
use rustls::pki_types::CertificateDer;

use super::{certificate_lists, tls_record};
use crate::peer::PeerTls;

/// Names of a list; one certificate has no more.
const NAMES_MAX: usize = 256;
/// Characters of a text for each byte of the certificate that it comes from: `#` and hex, escapes, the numbers of a
/// type.
const CHARACTERS_OF_A_BYTE: usize = 4;
/// Certificates with more than one byte changed.
const ROUNDS: u32 = 20_000;

const NAMES: &str = "subjectAltName=DNS:seven.test,URI:urn:dev:7,email:seven@dev.test,IP:127.0.0.1,otherName:1.2.3.4;UTF8:x";
const SUBJECT: &str = "/C=DE/O=Müller, Söhne/CN=sensor 7/emailAddress=a@b.test/UID=7";

/// A certificate with everything that is told, made by OpenSSL.
fn certificate() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-utf8", "-nodes", "-newkey", "ec", "-pkeyopt"]);
    command.args(["ec_paramgen_curve:P-256", "-subj", SUBJECT, "-days", "30", "-addext", NAMES]);
    command.args(["-addext", "authorityInfoAccess=OCSP;URI:http://127.0.0.1:9/"]);
    let output = command.args(["-outform", "DER", "-keyout"]).arg(key).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Whether it can be read; what would be told of it is text, and has bounds.
fn is_told(der: &[u8]) -> bool {
    let Ok(parsed) = Certificate::parse(CertificateDer::from(der.to_vec())) else { return false };
    let parsed = Arc::new(parsed);
    let path = vec![Arc::clone(&parsed), parsed];
    let name = Some("gw.test".to_owned());
    let peer = PeerTls::new("1.3", "suite", name, Some(Arc::new(VerifiedPeer { path })));
    let lists = certificate_lists(Some(&peer));
    let told = tls_record(&peer, &lists).certificate.unwrap();
    assert_eq!((told.der, told.chain), (der, &[der][..]));
    let names = [told.dns_names, told.uris, told.email_addresses];
    assert!(names.iter().map(|names| names.len()).sum::<usize>() <= NAMES_MAX);
    let texts = [told.subject, told.issuer, told.serial_number, told.fingerprint];
    let texts = texts.into_iter().chain(told.common_name);
    for text in texts.chain(names.into_iter().flatten().copied()) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.chars().count() <= CHARACTERS_OF_A_BYTE * der.len(), "{text:?}");
    }
    assert_eq!(told.fingerprint.len(), 64);
    assert!(told.serial_number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    assert!(der.len() <= CERTIFICATE_BYTES_MAX);
    true
}

#[test]
fn every_bit_of_a_certificate_may_be_another() {
    let good = certificate();
    assert!(is_told(&good));
    let mut read = 0;
    for bit in 0..8 * good.len() {
        let mut der = good.clone();
        der[bit / 8] ^= 1 << (bit % 8);
        read += u32::from(is_told(&der));
    }
    // In keys, signatures and names: they are told as they are.
    assert!(read > 1_000, "{read}");
    for length in 0..good.len() {
        assert!(!is_told(&good[..length]), "{length}");
    }
    assert!(!is_told(&[&good[..], b"0"].concat()));
}

#[test]
fn texts_of_a_certificate_may_hold_any_bytes() {
    let good = certificate();
    for text in [&b"sensor 7"[..], b"seven.test", b"urn:dev:7", b"seven@dev.test", b"Example"] {
        let Some(place) = good.windows(text.len()).position(|window| window == text) else {
            continue;
        };
        for byte in 0..=u8::MAX {
            for offset in 0..text.len() {
                let mut der = good.clone();
                der[place + offset] = byte;
                let is_text = is_told(&der);
                assert!(!is_text || !(byte < 32 || byte == 127), "{byte} is no text");
            }
        }
    }
}

#[test]
fn several_bytes_of_a_certificate_may_be_others() {
    let good = certificate();
    // xorshift; the same numbers in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % below
    };
    for _ in 0..ROUNDS {
        let mut der = good.clone();
        for _ in 0..=next(4) {
            let place = next(der.len());
            match next(4) {
                0 => der[place] = u8::try_from(next(256)).unwrap(),
                1 => der[place] = [0, 0x30, 0x0c, 0x1e, 0x80, 0xff][next(6)],
                2 => {
                    der.remove(place);
                }
                _ => der.insert(place, u8::try_from(next(256)).unwrap()),
            }
        }
        is_told(&der);
    }
}
