//! Why a device's certificate is refused: for the log in words, for the device as an alert.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::CertificateError as Alert;

use super::VerifiedPeer;
use crate::certificate::{Certificate, CertificateError};

/// A certificate that was refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct PeerRefusal {
    /// Whose it is, as far as that could be read.
    pub subject: Option<String>,
    /// What is wrong, in words.
    pub why: String,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// What rustls makes its alert of.
    pub(super) alert: Alert,
}

thread_local! {
    /// What was refused in this thread and not asked for yet: rustls passes no words on.
    static NOTED: RefCell<Option<PeerRefusal>> = const { RefCell::new(None) };
}

/// Keeps a refusal for [`take_refusal`].
pub(super) fn note(refusal: PeerRefusal) {
    NOTED.with_borrow_mut(|noted| *noted = Some(refusal));
}

/// What was refused by the call of rustls that has just returned in this thread.
pub(crate) fn take_refusal() -> Option<PeerRefusal> {
    NOTED.with_borrow_mut(Option::take)
}

impl PeerRefusal {
    pub(super) const fn of_nobody(why: String) -> Self {
        Self { subject: None, why, is_revoked: false, alert: Alert::BadEncoding }
    }

    pub(super) fn unreadable(error: &CertificateError) -> Self {
        Self::of_nobody(format!("its certificate: {error}"))
    }

    pub(super) fn of(certificate: &Certificate, why: String) -> Self {
        let subject = Some(certificate.subject.clone());
        Self { subject, why, is_revoked: false, alert: Alert::BadEncoding }
    }

    pub(super) fn revoked(peer: &VerifiedPeer, why: &str) -> Self {
        Self {
            subject: peer.end_entity().map(|certificate| certificate.subject.clone()),
            why: why.to_owned(),
            is_revoked: true,
            alert: Alert::Revoked,
        }
    }

    pub(super) fn by_webpki(certificate: &Arc<Certificate>, error: &webpki::Error) -> Self {
        use webpki::Error as Webpki;
        let (alert, why) = match error {
            Webpki::CertExpired { .. } => {
                (Alert::Expired, "the certificate has expired".to_owned())
            }
            Webpki::CertNotValidYet { .. } => {
                (Alert::NotValidYet, "the certificate is not valid yet".to_owned())
            }
            Webpki::UnknownIssuer => (
                Alert::UnknownIssuer,
                format!(
                    "no trust anchor has issued it: its issuer is {}; are its intermediates sent, or in trust_anchors?",
                    certificate.issuer
                ),
            ),
            Webpki::RequiredEkuNotFoundContext(_) => (
                Alert::InvalidPurpose,
                "the certificate is not for client authentication (extended key usage)".to_owned(),
            ),
            Webpki::CaUsedAsEndEntity => (
                Alert::InvalidPurpose,
                "it is the certificate of an authority, not of a device".to_owned(),
            ),
            Webpki::UnsupportedSignatureAlgorithmContext(_)
            | Webpki::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => (
                Alert::BadSignature,
                format!(
                    "it is signed in a way that is not accepted (SHA-1, or RSA below 2048 bits): {error}"
                ),
            ),
            Webpki::InvalidSignatureForPublicKey => {
                (Alert::UnknownIssuer, "its signature is not that of its issuer".to_owned())
            }
            other => (Alert::BadEncoding, format!("the certificate is refused: {other}")),
        };
        Self { subject: Some(certificate.subject.clone()), why, is_revoked: false, alert }
    }
}
