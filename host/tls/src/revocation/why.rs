//! Why a device is not let in, or was let in although nobody could say.

use std::fmt;

use super::Revoked;
use crate::Certificate;
use crate::ocsp::{Invalid, Unavailable};

/// Where a status comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The issuer's responder.
    Ocsp,
    /// The issuer's list.
    Crl,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ocsp => "OCSP",
            Self::Crl => "CRL",
        })
    }
}

/// What speaks against a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// It is on the operator's list.
    #[error("it is denied")]
    Denied,
    /// It is revoked.
    #[error("it is revoked ({by}: {})", .revoked.reason)]
    Revoked {
        /// Who says so.
        by: Source,
        /// Since when, and why.
        revoked: Revoked,
    },
    /// The responder does not know it.
    #[error("the OCSP responder does not know it")]
    Unknown,
    /// There was a wrong answer.
    #[error("OCSP: {0}")]
    Invalid(Invalid),
    /// There was no answer.
    #[error("OCSP: {0}")]
    Unavailable(Unavailable),
    /// No list is about it.
    #[error("there is no CRL for it")]
    NoCrl,
    /// The list is too old.
    #[error("the CRL for it is too old")]
    CrlExpired,
    /// The path has no issuer for it.
    #[error("its issuer is not in the verified path")]
    NoIssuer,
}

impl Cause {
    /// Its name in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Revoked { .. } => "revoked",
            Self::Unknown => "unknown",
            Self::Invalid(_) => "ocsp_invalid",
            Self::Unavailable(_) => "ocsp_unavailable",
            Self::NoCrl => "no_crl",
            Self::CrlExpired => "crl_expired",
            Self::NoIssuer => "no_issuer",
        }
    }
}

/// Which certificate of the path it is about, and what speaks against it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate {subject:?} (serial number {serial}): {cause}")]
pub struct Why {
    /// Its subject as RFC 4514 has it.
    pub subject: String,
    /// Its serial number in hex.
    pub serial: String,
    /// What speaks against it.
    pub cause: Cause,
}

impl Why {
    pub(super) fn new(certificate: &Certificate, cause: Cause) -> Self {
        Self { subject: certificate.subject.clone(), serial: certificate.serial_hex(), cause }
    }

    /// It is known to be revoked, or denied: a live session ends. Other causes say that nobody knows.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        matches!(self.cause, Cause::Denied | Cause::Revoked { .. })
    }
}
