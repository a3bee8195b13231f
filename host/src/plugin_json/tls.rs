//! TLS of a connection as JSON: what a verifier is told of a device's certificate.

use std::path::Path;
use std::sync::Arc;

use portreeve_plugin::contract::{Revocation, Tls};
use portreeve_tls::material::certificates;
use portreeve_tls::peer::VerifiedPeer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::peer::{PeerTls, RevocationState};

/// `"tls": { "certificate": { "pem": "…" } }` of a CONNECT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsCase {
    version: String,
    cipher_suite: String,
    server_name: Option<String>,
    certificate: Option<CertificateCase>,
}

/// The certificate is what counts; its fields are read out of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CertificateCase {
    /// The device's certificate, and those above it.
    pem: Option<String>,
    der_hex: Option<String>,
    chain_der_hex: Vec<String>,
    revocation: Option<String>,
}

impl Default for TlsCase {
    fn default() -> Self {
        Self {
            version: "1.3".to_owned(),
            cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
            server_name: None,
            certificate: None,
        }
    }
}

/// Cipher suites of a case; others are not told apart.
const CIPHER_SUITES: [&str; 9] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

impl TlsCase {
    /// What it says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn peer(&self) -> Result<PeerTls, String> {
        let version = match self.version.as_str() {
            "1.2" => "1.2",
            "1.3" => "1.3",
            other => return Err(format!("tls.version {other:?} is not 1.2 or 1.3")),
        };
        let suite = CIPHER_SUITES.iter().find(|suite| **suite == self.cipher_suite);
        let suite = suite.ok_or_else(|| {
            format!(
                "tls.cipher_suite {:?} is none of {}",
                self.cipher_suite,
                CIPHER_SUITES.join(", ")
            )
        })?;
        let verified = self.certificate.as_ref().map(CertificateCase::path).transpose()?;
        let name = self.server_name.as_deref().map(str::to_ascii_lowercase);
        let peer = PeerTls::new(version, suite, name, verified.map(Arc::new));
        let told = self.certificate.as_ref().and_then(|one| one.revocation.as_deref());
        peer.set_revocation(match told {
            None | Some("not-checked") => RevocationState::NotChecked,
            Some("good") => RevocationState::Good,
            Some("revoked") => RevocationState::Revoked,
            Some("unknown") => RevocationState::Unknown,
            Some(other) => {
                return Err(format!(
                    "tls.certificate.revocation {other:?} is not good, revoked, unknown or not-checked"
                ));
            }
        });
        Ok(peer)
    }
}

impl CertificateCase {
    fn path(&self) -> Result<VerifiedPeer, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("tls.certificate: {error}");
        let path = Path::new("pem");
        let mut found = Vec::new();
        if let Some(pem) = &self.pem {
            found = certificates(path, pem.as_bytes()).map_err(|error| wrong(&error))?;
        }
        for hex in self.der_hex.iter().chain(&self.chain_der_hex) {
            let der = hex::decode(hex).map_err(|error| wrong(&error))?;
            found.extend(certificates(Path::new("der_hex"), &der).map_err(|error| wrong(&error))?);
        }
        if found.is_empty() {
            return Err("tls.certificate has neither pem nor der_hex".to_owned());
        }
        Ok(VerifiedPeer { path: found })
    }
}

/// What a guest is told.
pub(super) fn tls(tls: &Tls<'_>) -> Value {
    let mut value = json!({ "version": tls.version, "cipher_suite": tls.cipher_suite });
    let Some(object) = value.as_object_mut() else { return value };
    if let Some(name) = tls.server_name {
        object.insert("server_name".to_owned(), name.into());
    }
    if let Some(certificate) = &tls.certificate {
        let chain: Vec<String> = certificate.chain.iter().map(hex::encode).collect();
        let told = json!({
            "subject": certificate.subject,
            "common_name": certificate.common_name,
            "dns_names": certificate.dns_names,
            "uris": certificate.uris,
            "email_addresses": certificate.email_addresses,
            "issuer": certificate.issuer,
            "serial_number": certificate.serial_number,
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
            "fingerprint": certificate.fingerprint,
            "revocation": match certificate.revocation {
                Revocation::Good => "good",
                Revocation::Revoked => "revoked",
                Revocation::Unknown => "unknown",
                Revocation::NotChecked => "not-checked",
            },
            "der_hex": hex::encode(certificate.der),
            "chain_der_hex": chain,
        });
        object.insert("certificate".to_owned(), told);
    }
    value
}
