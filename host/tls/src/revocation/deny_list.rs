//! Certificates that the operator does not let in, whatever their issuer says.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::Certificate;
use crate::asn1::magnitude;

/// Denied certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    fingerprints: HashSet<[u8; 32]>,
    /// Hashes of issuer and serial number.
    serials: HashSet<[u8; 32]>,
}

impl DenyList {
    /// Denies the certificate with this SHA-256.
    pub fn deny_fingerprint(&mut self, fingerprint: [u8; 32]) {
        self.fingerprints.insert(fingerprint);
    }

    /// Denies the certificate with this serial number (big-endian) of the issuer with this name (DER,
    /// with its tag). Every authority of that name is meant.
    pub fn deny_serial(&mut self, issuer_der: &[u8], serial: &[u8]) {
        self.serials.insert(id(issuer_der, magnitude(serial)));
    }

    /// Whether this certificate is denied.
    #[must_use]
    pub fn denies(&self, certificate: &Certificate) -> bool {
        self.fingerprints.contains(&certificate.fingerprint)
            || (!self.serials.is_empty()
                && self.serials.contains(&id(&certificate.issuer_der, &certificate.serial)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fingerprints.len().saturating_add(self.serials.len())
    }

    /// Whether nobody is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The name says how long it is.
fn id(issuer_der: &[u8], serial: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(issuer_der);
    hash.update(serial);
    hash.finalize().into()
}
