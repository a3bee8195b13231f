//! Certificate revocation lists (RFC 5280 §5): verified once, when they are read, and kept as a set
//! of serial numbers. What is signed stays what it was; whether a list is too old is asked whenever
//! it is used.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use crate::Certificate;
use crate::asn1::{Fields, magnitude};
use crate::certificate::AuthorityId;
use crate::clock::whole_seconds;
use crate::revocation::Revoked;
use crate::signature::{SignatureFault, Signed};

mod entries;
mod extensions;
mod fetch;
mod set;

use entries::Entries;
use extensions::{Extensions, Scope};
pub use fetch::{CrlFetchError, CrlFetcher};
pub use set::{CrlSet, CrlStatus};

/// `Version` v2 (RFC 5280 §5.1.2.1).
const V2: [u8; 1] = [1];

/// What is accepted where the standard leaves a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlRules {
    /// How far the issuer's clock may be ahead.
    pub clock_skew: Duration,
    /// Bytes of one list, as DER.
    pub bytes_max: usize,
}

impl Default for CrlRules {
    fn default() -> Self {
        Self { clock_skew: Duration::from_mins(5), bytes_max: 16 << 20 }
    }
}

/// A list that its issuer signed.
#[derive(Debug, PartialEq, Eq)]
pub struct Crl {
    authority: AuthorityId,
    issuer: String,
    contents: Contents,
}

/// A list whose signature was not looked at: nothing that it says counts.
#[derive(Debug)]
pub struct UnverifiedCrl {
    /// What is signed, with its signature.
    der: Vec<u8>,
    contents: Contents,
}

/// What a list says.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    /// Big-endian, without leading zero bytes.
    number: Option<Box<[u8]>>,
    this_update: i64,
    next_update: i64,
    scope: Scope,
    entries: Entries,
}

/// Why a list is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlFault {
    /// Larger than what is allowed.
    #[error("it has {bytes} bytes, more than {max}")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        max: usize,
    },
    /// Neither DER nor PEM of one list.
    #[error("it holds {0} lists in PEM, and not one")]
    NotOne(usize),
    /// Not DER of a list.
    #[error("it is malformed: {0}")]
    Malformed(der::Error),
    /// Neither v2, nor v1 without extensions.
    #[error("its version is neither v2 nor, without extensions, v1")]
    Version,
    /// The two fields that name the signature's algorithm differ.
    #[error("it names two signature algorithms")]
    TwoAlgorithms,
    /// Nobody with this name is known.
    #[error("its issuer is not among the certificates that are known: {0}")]
    UnknownIssuer(String),
    /// The signature is not that of the issuer with this name.
    #[error(
        "it is not signed by the key of {0:?}: it is damaged, or another authority of the same name made it"
    )]
    Signature(String),
    /// The issuer's key usage has no cRLSign.
    #[error("the certificate of {0:?} does not allow it to sign revocation lists")]
    MayNotSign(String),
    /// SHA-1, and what nobody knows.
    #[error("its signature algorithm, or the key for it, is not accepted")]
    Algorithm,
    /// A critical extension that is not known here.
    #[error("its critical extension {0} is not known")]
    CriticalExtension(String),
    /// It only says what changed since another one.
    #[error("it is a delta list, which is not supported: use the complete one")]
    Delta,
    /// It lists certificates of other issuers.
    #[error("it is an indirect list, which is not supported")]
    Indirect,
    /// It lists what was revoked for some reasons only.
    #[error("it is for some reasons only, which is not supported")]
    SomeReasons,
    /// It lists attribute certificates.
    #[error("it is for attribute certificates only")]
    AttributeCertificates,
    /// RFC 5280 §5.1.2.5 demands it.
    #[error("it does not say when the next one comes (nextUpdate)")]
    NoNextUpdate,
    /// `nextUpdate` comes before `thisUpdate`.
    #[error("its nextUpdate comes before its thisUpdate")]
    TimeOrder,
    /// `thisUpdate` is in the future.
    #[error("it is {0} s in the future")]
    NotYet(i64),
}

impl From<der::Error> for CrlFault {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error)
    }
}

impl Crl {
    /// Reads a list, as DER or as PEM, that one of `issuers` signed.
    ///
    /// # Errors
    /// [`CrlFault`]. One that is too old is none: see [`CrlSet::status`].
    pub fn read(
        bytes: &[u8],
        issuers: &[Arc<Certificate>],
        now: i64,
        rules: &CrlRules,
    ) -> Result<Self, CrlFault> {
        let list = UnverifiedCrl::read(bytes, now, rules)?;
        let issuer = list.issuer(issuers)?;
        Ok(list.signed_by(&issuer))
    }
}

impl UnverifiedCrl {
    /// Reads a list, as DER or as PEM.
    ///
    /// # Errors
    /// [`CrlFault`]: whatever keeps it from being used, its signature aside.
    pub fn read(bytes: &[u8], now: i64, rules: &CrlRules) -> Result<Self, CrlFault> {
        // PEM is a third longer, and may have text before it.
        let max = rules.bytes_max;
        if bytes.len() > max.saturating_mul(2) {
            return Err(CrlFault::TooLarge { bytes: bytes.len(), max });
        }
        if bytes.first() == Some(&0x30) {
            return Self::read_der(bytes.to_vec(), now, rules);
        }
        let mut lists: Vec<_> =
            CertificateRevocationListDer::pem_slice_iter(bytes).flatten().take(2).collect();
        match (lists.pop(), lists.pop()) {
            (Some(list), None) => Self::read_der(list.to_vec(), now, rules),
            (None, _) => Err(CrlFault::NotOne(0)),
            (Some(_), Some(_)) => Err(CrlFault::NotOne(2)),
        }
    }

    fn read_der(der: Vec<u8>, now: i64, rules: &CrlRules) -> Result<Self, CrlFault> {
        if der.len() > rules.bytes_max {
            return Err(CrlFault::TooLarge { bytes: der.len(), max: rules.bytes_max });
        }
        let contents = Contents::read(&der, now, rules)?;
        Ok(Self { der, contents })
    }

    /// Who of `issuers` has signed it: found by name, and proven by its key. Another authority may
    /// have the same name.
    ///
    /// # Errors
    /// [`CrlFault`]; [`CrlFault::UnknownIssuer`] where none of them has its name.
    pub fn issuer(&self, issuers: &[Arc<Certificate>]) -> Result<Arc<Certificate>, CrlFault> {
        let (signed, mut tbs) = parts(&self.der)?;
        // Version and algorithm were looked at.
        if tbs.next_is(der::Tag::Integer) {
            tbs.integer()?;
        }
        tbs.value(der::Tag::Sequence)?;
        verify(&signed, tbs.whole(der::Tag::Sequence)?, issuers).map(Arc::clone)
    }

    /// The list, which [its issuer](Self::issuer) has signed.
    fn signed_by(self, issuer: &Certificate) -> Crl {
        Crl {
            authority: issuer.authority_id(),
            issuer: issuer.subject.clone(),
            contents: self.contents,
        }
    }

    /// The list, if one of `issuers` has signed it.
    ///
    /// # Errors
    /// The list itself, with why not.
    pub fn verified(self, issuers: &[Arc<Certificate>]) -> Result<Crl, Box<(Self, CrlFault)>> {
        match self.issuer(issuers) {
            Ok(issuer) => Ok(self.signed_by(&issuer)),
            Err(fault) => Err(Box::new((self, fault))),
        }
    }
}

/// What is signed, and its fields.
fn parts(der: &[u8]) -> Result<(Signed<'_>, Fields<'_>), CrlFault> {
    let mut fields = Fields::of(der)?;
    let signed = Signed::read(&mut fields)?;
    fields.end()?;
    let tbs = Fields::of(signed.message)?;
    Ok((signed, tbs))
}

impl Contents {
    fn read(der: &[u8], now: i64, rules: &CrlRules) -> Result<Self, CrlFault> {
        let (signed, mut tbs) = parts(der)?;
        let version = if tbs.next_is(der::Tag::Integer) { Some(tbs.integer()?) } else { None };
        if version.is_some_and(|version| version != V2) {
            return Err(CrlFault::Version);
        }
        if tbs.value(der::Tag::Sequence)? != signed.algorithm {
            return Err(CrlFault::TwoAlgorithms);
        }
        let _issuer = tbs.whole(der::Tag::Sequence)?;
        let this_update = tbs.time()?;
        let has_next = tbs.next_is(der::Tag::UtcTime) || tbs.next_is(der::Tag::GeneralizedTime);
        let next_update = if has_next { Some(tbs.time()?) } else { None };
        let (entries, has_entry_extensions) = match tbs.optional(der::Tag::Sequence)? {
            Some(list) => Entries::read(list)?,
            None => (Entries::default(), false),
        };
        let extensions = Extensions::read(&mut tbs)?;
        tbs.end()?;
        if version.is_none() && (extensions.is_some() || has_entry_extensions) {
            return Err(CrlFault::Version);
        }
        let extensions = extensions.unwrap_or_default();
        if this_update > now.saturating_add(whole_seconds(rules.clock_skew)) {
            return Err(CrlFault::NotYet(this_update.saturating_sub(now)));
        }
        let next_update = next_update.ok_or(CrlFault::NoNextUpdate)?;
        if next_update < this_update {
            return Err(CrlFault::TimeOrder);
        }
        Ok(Self {
            number: extensions.number.map(|number| magnitude(number).into()),
            this_update,
            next_update,
            scope: extensions.scope,
            entries,
        })
    }
}

impl Crl {
    /// The issuer's name as RFC 4514 has it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer's subject and public key; see [`Certificate::authority_id`].
    #[must_use]
    pub const fn authority(&self) -> &AuthorityId {
        &self.authority
    }

    /// The list's number in hex, if it has one.
    #[must_use]
    pub fn number(&self) -> Option<String> {
        self.contents.number.as_ref().map(hex::encode)
    }

    /// When it was made; seconds since the Unix epoch.
    #[must_use]
    pub const fn this_update(&self) -> i64 {
        self.contents.this_update
    }

    /// When the next one comes at the latest.
    #[must_use]
    pub const fn next_update(&self) -> i64 {
        self.contents.next_update
    }

    /// Whether the next one should be there.
    #[must_use]
    pub const fn is_expired_at(&self, now: i64) -> bool {
        self.contents.next_update < now
    }

    /// Seconds since it was made.
    #[must_use]
    pub fn age(&self, now: i64) -> i64 {
        now.saturating_sub(self.contents.this_update).max(0)
    }

    /// Revoked certificates in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.entries.len()
    }

    /// Whether it revokes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it says of a serial number (big-endian, without leading zero bytes).
    #[must_use]
    pub fn revoked(&self, serial: &[u8]) -> Option<Revoked> {
        self.contents.entries.find(serial)
    }

    const fn scope(&self) -> &Scope {
        &self.contents.scope
    }

    /// Newer than another one of the same issuer and scope: by number (RFC 5280 §5.2.3) where both
    /// have one, and by time.
    fn age_order(&self, other: &Self) -> Ordering {
        let by_number = match (&self.contents.number, &other.contents.number) {
            (Some(ours), Some(theirs)) => (ours.len(), ours).cmp(&(theirs.len(), theirs)),
            _ => Ordering::Equal,
        };
        by_number.then(self.this_update().cmp(&other.this_update()))
    }
}

/// The issuer that signed it: found by name, and proven by its key. Another authority may have the
/// same name.
fn verify<'c>(
    signed: &Signed<'_>,
    name_der: &[u8],
    issuers: &'c [Arc<Certificate>],
) -> Result<&'c Arc<Certificate>, CrlFault> {
    let mut fault = None;
    for issuer in issuers.iter().filter(|issuer| *issuer.subject_der == *name_der) {
        match signed.verify(&issuer.spki_der) {
            // RFC 5280 §6.3.3 (f).
            Ok(()) if !issuer.may_sign_crls => {
                fault = Some(CrlFault::MayNotSign(issuer.subject.clone()));
            }
            Ok(()) => return Ok(issuer),
            Err(SignatureFault::Unsupported) if fault.is_none() => {
                fault = Some(CrlFault::Algorithm)
            }
            Err(SignatureFault::Unsupported) => {}
            Err(SignatureFault::Wrong) => {
                fault = Some(CrlFault::Signature(issuer.subject.clone()));
            }
        }
    }
    Err(fault.unwrap_or_else(|| CrlFault::UnknownIssuer(readable(name_der))))
}

/// The printable parts of a name, for people who look for a certificate.
fn readable(name_der: &[u8]) -> String {
    use x509_parser::prelude::FromDer;
    x509_parser::x509::X509Name::from_der(name_der)
        .map_or_else(|_| hex::encode(name_der), |(_, name)| name.to_string())
}

#[cfg(test)]
mod tests;
