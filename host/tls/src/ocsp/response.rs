//! The checks of an OCSP response (RFC 6960 §3.2): what it must be before anything is believed.

use std::time::Duration;

use crate::Certificate;
use crate::clock::whole_seconds;
use crate::ocsp::outcome::{Invalid, Unavailable};
use crate::revocation::Revoked;

mod signer;
mod wire;

use wire::{Basic, Outer, Single, SingleStatus};

/// Bytes of a response; usual ones have less than three thousand.
pub const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The certificate that issued the one in question, from the verified path.
    pub issuer: &'a Certificate,
    /// The serial number in question, big-endian without leading zero bytes.
    pub serial: &'a [u8],
    /// The nonce, if one was sent.
    pub nonce: Option<&'a [u8]>,
}

/// What is accepted where the standard leaves a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How far the responder's clock may be off.
    pub clock_skew: Duration,
    /// How long a response without `nextUpdate` is used.
    pub without_next_update: Duration,
    /// Whether a delegate's certificate without `id-pkix-ocsp-nocheck` is accepted. With it, whether
    /// the delegate itself is revoked need not be asked (RFC 6960 §4.2.2.2.1); nobody asks here.
    pub accept_delegate_without_nocheck: bool,
    /// Whether a nonce that was sent must come back. One that comes back must always be that one.
    pub is_nonce_required: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            clock_skew: Duration::from_mins(5),
            without_next_update: Duration::from_hours(1),
            accept_delegate_without_nocheck: true,
            is_nonce_required: false,
        }
    }
}

/// What a response that can be believed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedResponse {
    /// Of the certificate in question.
    pub status: CheckedStatus,
    /// When it was known to be so; seconds since the Unix epoch.
    pub this_update: i64,
    /// When there will be newer information at the latest.
    pub next_update: Option<i64>,
    /// Until when the response may be used: `next_update`, or [`Rules::without_next_update`] after
    /// `this_update`.
    pub usable_until: i64,
}

/// The CertStatus of a checked response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckedStatus {
    /// Not revoked.
    Good,
    /// Revoked, maybe only for now ([`CertificateHold`](crate::RevocationReason::CertificateHold)).
    Revoked(Revoked),
    /// The responder does not know the certificate.
    Unknown,
}

/// Why a response says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseFault {
    /// The responder has no answer, and says so.
    #[error("{0}")]
    Status(Unavailable),
    /// More bytes than any response has.
    #[error("it has {0} bytes, more than {RESPONSE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not DER of a response.
    #[error("it is malformed: {0}")]
    Malformed(der::Error),
    /// No BasicOCSPResponse.
    #[error("its type is not id-pkix-ocsp-basic")]
    Type,
    /// `nextUpdate` comes before `thisUpdate`.
    #[error("its nextUpdate comes before its thisUpdate")]
    TimeOrder,
    /// A critical extension that is not known here.
    #[error("its critical extension {0} is not known")]
    CriticalExtension(String),
    /// Neither the issuer nor a certificate in it is who it says that signed it.
    #[error("neither the issuer nor a certificate in it is the responder that it names")]
    NoSigner,
    /// The delegate's certificate is not accepted.
    #[error("the certificate of its delegate is not accepted: {0}")]
    Delegate(String),
    /// The delegate's certificate has no `id-pkix-ocsp-nocheck`.
    #[error("the certificate of its delegate has no id-pkix-ocsp-nocheck")]
    DelegateWithoutNocheck,
    /// The signature is not that of the key, or that of an RSA key of less than 2048 bits.
    #[error("its signature is wrong, or of an RSA key of less than 2048 bits")]
    Signature,
    /// SHA-1, and what nobody knows.
    #[error("its signature algorithm, or the key for it, is not accepted")]
    Algorithm,
    /// It is about other certificates.
    #[error("it is about another certificate")]
    OtherCertificate,
    /// Another nonce than the one that was sent.
    #[error("its nonce is not the one that was sent")]
    Nonce,
    /// It has none.
    #[error("it has no nonce although one was sent and is required back")]
    NonceMissing,
    /// `thisUpdate` or `producedAt` is in the future.
    #[error("it is {0} s in the future")]
    NotYet(i64),
    /// `nextUpdate` is in the past, or it is too old.
    #[error("it ended {0} s ago")]
    Stale(i64),
}

impl From<der::Error> for ResponseFault {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error)
    }
}

/// Whether a fault may be forgiven (there is no answer) or not (there is a wrong one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no answer.
    Unavailable(Unavailable),
    /// There is a wrong one.
    Invalid(Invalid),
}

impl ResponseFault {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        FaultKind::Invalid(match self {
            Self::Status(status) => return FaultKind::Unavailable(*status),
            Self::TooLarge(_) => return FaultKind::Unavailable(Unavailable::TooLarge),
            Self::Malformed(_) | Self::Type | Self::TimeOrder => Invalid::Malformed,
            Self::CriticalExtension(_) => Invalid::CriticalExtension,
            Self::NoSigner => Invalid::Signer,
            Self::Delegate(_) | Self::DelegateWithoutNocheck => Invalid::Delegate,
            Self::Signature => Invalid::Signature,
            Self::Algorithm => Invalid::Algorithm,
            Self::OtherCertificate => Invalid::OtherCertificate,
            Self::Nonce => Invalid::Nonce,
            Self::NonceMissing => Invalid::NonceMissing,
            Self::NotYet(_) => Invalid::NotYet,
            Self::Stale(_) => Invalid::Stale,
        })
    }
}

/// Checks the response to a question.
///
/// # Errors
/// [`ResponseFault`] for everything that says nothing about the certificate in question, or that
/// cannot be believed.
pub fn check(
    bytes: &[u8],
    question: &Question<'_>,
    now: i64,
    rules: &Rules,
) -> Result<CheckedResponse, ResponseFault> {
    if bytes.len() > RESPONSE_BYTES_MAX {
        return Err(ResponseFault::TooLarge(bytes.len()));
    }
    let basic = match Outer::read(bytes)? {
        Outer::Unsuccessful(status) => return Err(ResponseFault::Status(status)),
        Outer::Successful(basic) => Basic::read(basic)?,
    };
    signer::verify(&basic, question.issuer, now, rules)?;
    check_nonce(basic.nonce, question.nonce, rules)?;
    let single = worst(&basic, question).ok_or(ResponseFault::OtherCertificate)?;
    check_time(basic.produced_at, single, now, rules)
}

/// RFC 9654 §2.1: a nonce that is there is the one that was sent.
fn check_nonce(
    received: Option<&[u8]>,
    sent: Option<&[u8]>,
    rules: &Rules,
) -> Result<(), ResponseFault> {
    match (sent, received) {
        (Some(sent), Some(received)) if sent != received => Err(ResponseFault::Nonce),
        (Some(_), None) if rules.is_nonce_required => Err(ResponseFault::NonceMissing),
        _ => Ok(()),
    }
}

/// The answer to the question. If there are several, the worst one: revoked before unknown before
/// good; among equal ones the newest.
fn worst<'r, 'a>(basic: &'r Basic<'a>, question: &Question<'_>) -> Option<&'r Single<'a>> {
    let badness = |single: &Single<'_>| match single.status {
        SingleStatus::Good => 0,
        SingleStatus::Unknown => 1,
        SingleStatus::Revoked(_) => 2,
    };
    let ours = basic.responses.iter().filter(|single| single.id.is_of(question));
    ours.max_by_key(|single| (badness(single), single.this_update))
}

/// RFC 6960 §4.2.2.1.
fn check_time(
    produced_at: i64,
    single: &Single<'_>,
    now: i64,
    rules: &Rules,
) -> Result<CheckedResponse, ResponseFault> {
    let skew = whole_seconds(rules.clock_skew);
    let latest = single.this_update.max(produced_at);
    if latest > now.saturating_add(skew) {
        return Err(ResponseFault::NotYet(latest.saturating_sub(now)));
    }
    if single.next_update.is_some_and(|next_update| next_update < single.this_update) {
        return Err(ResponseFault::TimeOrder);
    }
    let usable_until = single.next_update.unwrap_or_else(|| {
        single.this_update.saturating_add(whole_seconds(rules.without_next_update))
    });
    if usable_until.saturating_add(skew) < now {
        return Err(ResponseFault::Stale(now.saturating_sub(usable_until)));
    }
    let status = match single.status {
        SingleStatus::Good => CheckedStatus::Good,
        SingleStatus::Revoked(revoked) => CheckedStatus::Revoked(revoked),
        SingleStatus::Unknown => CheckedStatus::Unknown,
    };
    Ok(CheckedResponse {
        status,
        this_update: single.this_update,
        next_update: single.next_update,
        usable_until,
    })
}

#[cfg(test)]
mod tests;
