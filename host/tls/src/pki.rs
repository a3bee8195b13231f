//! A certification authority for development, in one directory: enough to see certificates, CRLs and
//! OCSP at work. It is no authority for production: keys lie in files, unencrypted, and nobody keeps
//! an account of who had what issued.
//!
//! ```text
//! root.crt root.key root.crl      the trust anchor
//! int.crt int.key int.crl         the intermediate, which issues everything
//! root-ocsp.crt root-ocsp.key     signs OCSP responses about what the root issued
//! ocsp.crt ocsp.key               signs OCSP responses about what the intermediate issued
//! trust.crt                       intermediate and root, for those that verify
//! issued/NAME.crt NAME.key        a certificate and its key
//! issued/NAME.chain.crt           the certificate and the intermediate, as it is presented
//! database.json                   what was issued and revoked
//! lock                            held by the command that works in the directory
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::material::MaterialError;
use crate::revocation::{RevocationReason, Revoked};

mod authority;
mod crl;
mod database;
mod files;
mod issue;
mod responder;

pub use authority::{AuthorityName, AuthoritySettings, url_of};
pub use database::{Entry, EntryStatus, Kind, reason_named};
pub use issue::{AlternativeName, KeyKind, Request};
pub use responder::{Answer, Answered, REQUEST_BYTES_MAX, Responder};

use authority::Authority;
use database::Database;
use files::{Lock, NewFile, replace, write_all_new};

/// How long a CRL is good if nothing else is said.
pub const CRL_DAYS: u32 = 7;
/// Longest life of anything that is made here.
pub const DAYS_MAX: u32 = 36_500;
/// Seconds of a day.
const DAY: i64 = 86_400;
/// The folder of what was issued.
const ISSUED: &str = "issued";

/// Why a command of the authority is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// There is no authority.
    #[error("{0} holds no authority; `portreeve pki init --dir {0}` makes one")]
    Absent(String),
    /// A file that would be overwritten.
    #[error("{0} exists, and nothing is overwritten; {1}")]
    Present(String, &'static str),
    /// A name that could be a path.
    #[error("{0:?} is no name: 1 to 64 of A-Z a-z 0-9 - _ . and neither - nor . first")]
    Name(String),
    /// The authority's name.
    #[error("{0:?} is no name for an authority: 1 to 32 characters that can be printed")]
    AuthorityName(String),
    /// Where OCSP and CRLs will be.
    #[error("{0:?} is not of the form http://HOST:PORT")]
    Url(String),
    /// A name for the subject alternative name.
    #[error("{1:?} is no {0}")]
    AlternativeName(&'static str, String),
    /// Too long a life.
    #[error("{days} days are too long: {issuer} ends in {left} days")]
    Days {
        /// What was asked for.
        days: u32,
        /// Who would issue it.
        issuer: String,
        /// How long the issuer lives.
        left: i64,
    },
    /// No days, or more than anybody lives.
    #[error("days are 1 to {DAYS_MAX}, not {0}")]
    DayCount(u32),
    /// Nothing of this name.
    #[error(
        "nothing of the name or serial number {0:?} was issued; `portreeve pki list` shows what was"
    )]
    Unknown(String),
    /// Several of this name.
    #[error(
        "there are several certificates of the name {name}; say the serial number of one: {serials}"
    )]
    Several {
        /// The name.
        name: String,
        /// Their serial numbers.
        serials: String,
    },
    /// It is revoked.
    #[error("{0} is already revoked")]
    Revoked(String),
    /// It is not on hold.
    #[error(
        "{0} is not on hold; only what was revoked with --reason certificateHold becomes good again"
    )]
    NotHeld(String),
    /// The root is trusted because somebody chose to.
    #[error("a root is not revoked by itself: take it out of the trust anchors instead")]
    Root,
    /// Another command works in the directory.
    #[error("another command works in {0}; wait until it is done, and try again")]
    Busy(String),
    /// The database cannot be read.
    #[error("{0} is damaged: {1}")]
    Damaged(String, String),
    /// A file.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// A certificate or a key of the authority.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// What is made cannot be made.
    #[error("it cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// There are no random numbers, or a key does not sign.
    #[error("it cannot be signed: {0}")]
    Sign(String),
    /// What is written cannot be encoded.
    #[error("it cannot be encoded: {0}")]
    Encode(#[from] der::Error),
}

impl PkiError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::File(path, error)
    }
}

/// The authority, which this process alone works with as long as it lives.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
    database: Database,
    _lock: Lock,
}

/// What was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// As the database has it.
    pub entry: Entry,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The certificate and the intermediate.
    pub chain: PathBuf,
    /// Names in it, for people.
    pub names: Vec<String>,
}

impl Pki {
    /// Makes an authority.
    ///
    /// # Errors
    /// [`PkiError`]; also where there is one, or a part of one.
    pub fn init(
        directory: &Path,
        settings: &AuthoritySettings,
        now: i64,
    ) -> Result<Self, PkiError> {
        settings.check()?;
        let issued = directory.join(ISSUED);
        fs::create_dir_all(&issued).map_err(PkiError::file(&issued))?;
        let lock = Lock::take(directory)?;
        let (entries, mut new) = authority::make(settings, now)?;
        let database = Database::new(settings, entries);
        // Last: with it, there is an authority.
        new.push(NewFile::open(database::FILE, database.to_json()?));
        write_all_new(directory, &new, "name another directory with --dir")?;
        let mut pki = Self { directory: directory.to_owned(), database, _lock: lock };
        pki.write_crls(CRL_DAYS, now)?;
        Ok(pki)
    }

    /// Opens the authority of a directory.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        if !directory.join(database::FILE).is_file() {
            return Err(PkiError::Absent(directory.display().to_string()));
        }
        let lock = Lock::take(directory)?;
        let database = Database::read(directory)?;
        Ok(Self { directory: directory.to_owned(), database, _lock: lock })
    }

    /// Everything that was issued, the oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.database.certificates
    }

    /// The URL under which OCSP and CRLs are served, as certificates have it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.database.url
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue(&mut self, request: &Request, now: i64) -> Result<Issued, PkiError> {
        files::check_name(&request.name)?;
        let paths =
            ["crt", "key", "chain.crt"].map(|end| format!("{ISSUED}/{}.{end}", request.name));
        let next = "choose another name, or move issued/NAME.* away";
        files::check_absent(&self.directory, &paths, next)?;
        if AuthorityName::is_reserved(&request.name) {
            return Err(PkiError::Name(request.name.clone()));
        }
        let issuer = Authority::read(&self.directory, AuthorityName::Intermediate)?;
        let made = issue::end_entity(request, &issuer, &self.database, now)?;
        let chain = format!("{}{}", made.pem, issuer.pem);
        // Known before it exists: a certificate that nobody knows could not be revoked.
        self.database.certificates.push(made.entry.clone());
        self.database.write(&self.directory)?;
        let [certificate_path, key_path, chain_path] = paths;
        let new = [
            NewFile::secret(&key_path, made.key),
            NewFile::open(&certificate_path, made.pem),
            NewFile::open(&chain_path, chain),
        ];
        let written = write_all_new(&self.directory, &new, next);
        if let Err(error) = written {
            self.database.certificates.pop();
            self.database.write(&self.directory)?;
            return Err(error);
        }
        let path = |name: &str| self.directory.join(name);
        Ok(Issued {
            entry: made.entry,
            certificate: path(&certificate_path),
            key: path(&key_path),
            chain: path(&chain_path),
            names: made.names,
        })
    }

    /// Revokes a certificate by its name or serial number, and writes CRLs that say so.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn revoke(
        &mut self,
        which: &str,
        reason: RevocationReason,
        now: i64,
    ) -> Result<Entry, PkiError> {
        let entry = self.database.find_revocable(which)?;
        if entry.kind == Kind::Root {
            return Err(PkiError::Root);
        }
        entry.revoked = Some(Revoked { since: now, reason });
        let entry = entry.clone();
        self.write_crls(CRL_DAYS, now)?;
        Ok(entry)
    }

    /// Ends the hold of a certificate, and writes CRLs that no longer have it.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn unhold(&mut self, which: &str, now: i64) -> Result<Entry, PkiError> {
        let entry = self.database.find_held(which)?;
        entry.revoked = None;
        let entry = entry.clone();
        self.write_crls(CRL_DAYS, now)?;
        Ok(entry)
    }

    /// Writes new CRLs, of the intermediate and of the root, and the database with them.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn write_crls(&mut self, days: u32, now: i64) -> Result<[PathBuf; 2], PkiError> {
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(PkiError::DayCount(days));
        }
        // The database first: what the responder says must not be milder than the CRL.
        self.database.crl_number = self.database.crl_number.saturating_add(1);
        self.database.write(&self.directory)?;
        Ok([
            self.write_crl(AuthorityName::Intermediate, days, now)?,
            self.write_crl(AuthorityName::Root, days, now)?,
        ])
    }

    fn write_crl(&self, name: AuthorityName, days: u32, now: i64) -> Result<PathBuf, PkiError> {
        let authority = Authority::read(&self.directory, name)?;
        let crl = crl::signed(&authority, &self.database, days, now)?;
        let path = self.directory.join(name.crl_file());
        replace(&path, crl.as_bytes())?;
        Ok(path)
    }
}

/// A serial number: 16 random bytes, of which the first is neither negative nor zero.
fn random_serial() -> Result<[u8; 16], PkiError> {
    let mut serial = [0; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random
        .fill(&mut serial)
        .map_err(|_| PkiError::Sign("there are no random numbers".to_owned()))?;
    let [first, ..] = &mut serial;
    *first = (*first & 0x7f) | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests;
