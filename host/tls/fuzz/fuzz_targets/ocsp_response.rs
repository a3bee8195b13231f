//! Any bytes as an OCSP response: no panic, and only what its issuer signed is believed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portreeve_tls::Certificate;
use portreeve_tls::ocsp::{Question, Rules, check};
use rustls_pki_types::CertificateDer;

static ISSUER: LazyLock<Certificate> = LazyLock::new(|| read(include_bytes!("../issuer.der")));
const GOOD: &[u8] = include_bytes!("../seeds/ocsp_response/good");
/// When the seeds were made.
const NOW: i64 = include!("../now");

fn read(der: &[u8]) -> Certificate {
    Certificate::parse(CertificateDer::from(der.to_vec())).expect("it is a certificate")
}

fuzz_target!(|bytes: &[u8]| {
    let question = Question { issuer: &ISSUER, serial: &[0x10, 0x01], nonce: None };
    let checked = check(bytes, &question, NOW, &Rules::default());
    assert!(checked.is_err() || bytes == GOOD, "it was not signed");
});
