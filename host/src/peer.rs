//! The far end of a connection: its address, and what TLS has proven of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use portreeve_tls::Certificate;
use portreeve_tls::peer::VerifiedPeer;

/// The far end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// `None` on a plain connection.
    pub(crate) tls: Option<Arc<PeerTls>>,
}

impl Peer {
    /// The device's certificate, if it has one.
    pub(crate) fn certificate(&self) -> Option<&Arc<Certificate>> {
        self.tls.as_ref()?.verified.as_ref()?.end_entity()
    }
}

/// The TLS session of a connection.
#[derive(Debug)]
pub(crate) struct PeerTls {
    /// `1.2` or `1.3`.
    pub(crate) version: &'static str,
    /// The IANA name.
    pub(crate) cipher_suite: &'static str,
    /// What the peer asked for, lower case.
    pub(crate) server_name: Option<String>,
    /// The device's certificate with its path.
    pub(crate) verified: Option<Arc<VerifiedPeer>>,
    /// Lower-case hex; empty without a certificate.
    pub(crate) serial_number: String,
    pub(crate) fingerprint: String,
    /// Why the certificate of a resumed session is not good any more.
    pub(crate) refused: Option<String>,
    revocation: AtomicU8,
}

/// What is known of the revocation of a device's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RevocationState {
    NotChecked,
    Good,
    Revoked,
    Unknown,
}

impl RevocationState {
    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NotChecked => "not checked",
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

impl PeerTls {
    pub(crate) fn new(
        version: &'static str,
        cipher_suite: &'static str,
        server_name: Option<String>,
        verified: Option<Arc<VerifiedPeer>>,
    ) -> Self {
        let end_entity = verified.as_ref().and_then(|verified| verified.end_entity());
        Self {
            version,
            cipher_suite,
            server_name,
            serial_number: end_entity.map(|one| one.serial_hex()).unwrap_or_default(),
            fingerprint: end_entity.map(|one| one.fingerprint_hex()).unwrap_or_default(),
            verified,
            refused: None,
            revocation: AtomicU8::new(RevocationState::NotChecked as u8),
        }
    }

    /// The device's certificate, and those above it.
    pub(crate) fn certificates(&self) -> Option<(&Arc<Certificate>, &[Arc<Certificate>])> {
        self.verified.as_ref()?.path.split_first()
    }

    pub(crate) fn revocation(&self) -> RevocationState {
        match self.revocation.load(Ordering::Relaxed) {
            1 => RevocationState::Good,
            2 => RevocationState::Revoked,
            3 => RevocationState::Unknown,
            _ => RevocationState::NotChecked,
        }
    }

    pub(crate) fn set_revocation(&self, state: RevocationState) {
        self.revocation.store(state as u8, Ordering::Relaxed);
    }
}

/// What of a certificate stands for a user name or a client identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateField {
    CommonName,
    DnsName,
    Uri,
    EmailAddress,
    SerialNumber,
    Fingerprint,
    Subject,
}

impl CertificateField {
    /// Its value.
    ///
    /// # Errors
    /// Where the certificate has none, or more than one: which device would that be?
    pub(crate) fn of(self, certificate: &Certificate) -> Result<String, String> {
        let one = |what: &str, values: &[String]| match values {
            [value] => Ok(value.clone()),
            [] => Err(format!("the certificate has no {what}")),
            more => {
                Err(format!("the certificate has {} of {what}: which one is meant?", more.len()))
            }
        };
        match self {
            Self::CommonName => one("common name", certificate.common_name.as_slice()),
            Self::DnsName => one("DNS name", &certificate.dns_names),
            Self::Uri => one("URI", &certificate.uris),
            Self::EmailAddress => one("email address", &certificate.email_addresses),
            Self::SerialNumber => Ok(certificate.serial_hex()),
            Self::Fingerprint => Ok(certificate.fingerprint_hex()),
            Self::Subject => Ok(certificate.subject.clone()),
        }
    }
}
