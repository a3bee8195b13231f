//! What was issued and revoked: one JSON file, replaced whole.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PkiError;
use super::authority::{AuthorityName, AuthoritySettings};
use super::files::replace;
use crate::Certificate;
use crate::material::read_file;
use crate::revocation::{RevocationReason, Revoked};

/// Its name.
pub(super) const FILE: &str = "database.json";
/// Bytes of it: some hundred thousand certificates.
const BYTES_MAX: u64 = 128 << 20;
/// Codes of RFC 5280 §5.3.1.
const REASON_CODES: std::ops::RangeInclusive<u8> = 0..=10;

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    /// What the authority is called.
    pub(super) name: String,
    /// Where OCSP and CRLs are served.
    pub(super) url: String,
    /// The number of the CRLs that were written last (RFC 5280 §5.2.3).
    pub(super) crl_number: u64,
    pub(super) certificates: Vec<Entry>,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Lower-case hex.
    pub serial: String,
    /// The name of its files.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Who issued it.
    pub issuer: AuthorityName,
    /// As RFC 4514 has it.
    pub subject: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    /// That it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "revoked")]
    pub revoked: Option<Revoked>,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The trust anchor.
    Root,
    /// Issues the others.
    Intermediate,
    /// Signs OCSP responses.
    Responder,
    /// Serves TLS.
    Server,
    /// Connects to servers.
    Device,
}

impl Kind {
    /// As the database has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
            Self::Responder => "responder",
            Self::Server => "server",
            Self::Device => "device",
        }
    }
}

/// How a certificate stands at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryStatus {
    /// It can be used.
    Good,
    /// It was revoked.
    Revoked(Revoked),
    /// Its time is over.
    Expired,
}

impl Entry {
    pub(super) fn of(
        certificate: &Certificate,
        name: &str,
        kind: Kind,
        issuer: AuthorityName,
    ) -> Self {
        Self {
            serial: certificate.serial_hex(),
            name: name.to_owned(),
            kind,
            issuer,
            subject: certificate.subject.clone(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            revoked: None,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self, now: i64) -> EntryStatus {
        match self.revoked {
            Some(revoked) => EntryStatus::Revoked(revoked),
            None if now > self.not_after => EntryStatus::Expired,
            None => EntryStatus::Good,
        }
    }

    fn is(&self, which: &str) -> bool {
        let serial = which.replace(':', "").to_ascii_lowercase();
        self.name == which || self.serial == serial.trim_start_matches("0x")
    }

    fn is_held(&self) -> bool {
        self.revoked.is_some_and(|revoked| revoked.reason == RevocationReason::CertificateHold)
    }
}

impl Database {
    pub(super) fn new(settings: &AuthoritySettings, certificates: Vec<Entry>) -> Self {
        Self { name: settings.name.clone(), url: settings.url.clone(), crl_number: 0, certificates }
    }

    pub(super) fn read(directory: &Path) -> Result<Self, PkiError> {
        let path = directory.join(FILE);
        let bytes = read_file(&path, BYTES_MAX)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| PkiError::Damaged(path.display().to_string(), error.to_string()))
    }

    pub(super) fn to_json(&self) -> Result<String, PkiError> {
        let json = serde_json::to_string_pretty(self);
        json.map(|json| json + "\n")
            .map_err(|error| PkiError::Damaged(FILE.to_owned(), error.to_string()))
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), PkiError> {
        replace(&directory.join(FILE), self.to_json()?.as_bytes())
    }

    /// The one certificate of this name or serial number that can be revoked: also from a hold, which
    /// then does not end any more.
    pub(super) fn find_revocable(&mut self, which: &str) -> Result<&mut Entry, PkiError> {
        let is_known = self.certificates.iter().any(|entry| entry.is(which));
        let none = if is_known { PkiError::Revoked } else { PkiError::Unknown };
        self.find(which, |entry| entry.revoked.is_none() || entry.is_held(), none)
    }

    /// The one certificate of this name or serial number that is on hold.
    pub(super) fn find_held(&mut self, which: &str) -> Result<&mut Entry, PkiError> {
        let is_known = self.certificates.iter().any(|entry| entry.is(which));
        let none = if is_known { PkiError::NotHeld } else { PkiError::Unknown };
        self.find(which, Entry::is_held, none)
    }

    fn find(
        &mut self,
        which: &str,
        is_wanted: impl Fn(&Entry) -> bool,
        none: impl FnOnce(String) -> PkiError,
    ) -> Result<&mut Entry, PkiError> {
        let found =
            self.certificates.iter_mut().filter(|entry| entry.is(which) && is_wanted(entry));
        let mut found: Vec<&mut Entry> = found.collect();
        match (found.pop(), found.as_slice()) {
            (None, _) => Err(none(which.to_owned())),
            (Some(entry), []) => Ok(entry),
            (Some(last), others) => {
                let mut serials: Vec<&str> =
                    others.iter().map(|entry| entry.serial.as_str()).collect();
                serials.push(&last.serial);
                let serials = serials.join(", ");
                Err(PkiError::Several { name: which.to_owned(), serials })
            }
        }
    }
}

/// The reason of this name (RFC 5280 §5.3.1), in capitals or not.
#[must_use]
pub fn reason_named(name: &str) -> Option<RevocationReason> {
    let mut reasons = REASON_CODES.map(RevocationReason::from_code);
    reasons.find(|reason| reason.name().eq_ignore_ascii_case(name))
}

/// [`Revoked`] in JSON, with the name of the reason.
mod revoked {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Revoked, reason_named};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        at: i64,
        reason: String,
    }

    pub(super) fn serialize<S: Serializer>(
        revoked: &Option<Revoked>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let written = revoked
            .map(|revoked| Written { at: revoked.since, reason: revoked.reason.name().to_owned() });
        written.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Revoked>, D::Error> {
        let Some(written) = Option::<Written>::deserialize(deserializer)? else { return Ok(None) };
        let reason = reason_named(&written.reason)
            .ok_or_else(|| D::Error::custom(format!("{:?} is no reason", written.reason)))?;
        Ok(Some(Revoked { since: written.at, reason }))
    }
}
