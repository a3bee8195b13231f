//! Any bytes as a certificate: no panic, and what is read is what is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portreeve_tls::Certificate;
use rustls_pki_types::CertificateDer;

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificate) = Certificate::parse(CertificateDer::from(bytes.to_vec())) else { return };
    assert_eq!(certificate.der().as_ref(), bytes);
    assert!(certificate.serial.first() != Some(&0));
    let names = certificate.dns_names.iter().chain(&certificate.uris).chain(&certificate.common_name);
    for name in names.chain([&certificate.subject, &certificate.issuer]) {
        assert!(!name.chars().any(char::is_control), "{name:?}");
    }
});
