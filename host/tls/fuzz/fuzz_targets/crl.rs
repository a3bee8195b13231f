//! Any bytes as a revocation list: no panic, and only what its issuer signed is used.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portreeve_tls::Certificate;
use portreeve_tls::crl::{Crl, CrlRules};
use rustls_pki_types::CertificateDer;

static ISSUERS: LazyLock<[Arc<Certificate>; 1]> = LazyLock::new(|| {
    let der = CertificateDer::from(include_bytes!("../issuer.der").to_vec());
    [Arc::new(Certificate::parse(der).expect("it is a certificate"))]
});
/// When the seeds were made.
const NOW: i64 = include!("../now");

fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = Crl::read(bytes, &*ISSUERS, NOW, &CrlRules::default()) else { return };
    // Text around PEM may be anything; the list in it may not.
    assert_eq!((list.len(), list.issuer()), (1, "CN=int"));
});
