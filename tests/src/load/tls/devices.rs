//! Devices in numbers for which OpenSSL is too slow: issued by rcgen below `int`, all with one key.

use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::client::Identity;
use crate::pki::{Certificate, named};

/// Their serial numbers begin here; others of the tests are lower.
const SERIAL_FIRST: u32 = 0x7000_0000;

/// A CA's certificate and key for issuing.
#[derive(Debug)]
pub struct Devices {
    issuer: Issuer<'static, KeyPair>,
    issuer_der: CertificateDer<'static>,
    key: KeyPair,
}

impl Default for Devices {
    fn default() -> Self {
        Self::of(named("int"))
    }
}

impl Devices {
    /// Below a CA.
    ///
    /// # Panics
    /// When its files cannot be read.
    #[must_use]
    pub fn of(issuer: &Certificate) -> Self {
        let key = std::fs::read_to_string(&issuer.key).expect("it was issued");
        let pem = std::fs::read_to_string(&issuer.crt).expect("it was issued");
        let key = KeyPair::from_pem(&key).expect("a key");
        Self {
            issuer_der: CertificateDer::from(issuer.der()),
            issuer: Issuer::from_ca_cert_pem(&pem, key).expect("a CA"),
            key: KeyPair::generate().expect("a key"),
        }
    }

    /// A device that nobody has seen before.
    ///
    /// # Panics
    /// When it cannot be issued.
    #[must_use]
    pub fn next(&self) -> Identity {
        static NEXT: AtomicU32 = AtomicU32::new(SERIAL_FIRST);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("load-{serial:x}"));
        params.serial_number = Some(SerialNumber::from(u64::from(serial)));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(&self.key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        Identity { chain: vec![made.der().clone(), self.issuer_der.clone()], key }
    }
}
