//! The directory of managed certificates: what `portreeve cert` puts there, gateways name.
//!
//! ```text
//! server/NAME/VERSION/chain.pem   certificates of the gateway's own; a version is named by the
//! server/NAME/VERSION/key.pem     first digits of its fingerprint
//! server/NAME/active              the version that serves
//! ca/NAME.pem                     trust anchors and intermediates
//! crl/NAME.crl                    certificate revocation lists
//! denied.json                     certificates that are not let in whatever their authority says
//! ```

use std::path::{Path, PathBuf};

use portreeve_tls::material::MaterialError;
use portreeve_tls::revocation::DenyList;
use serde::{Deserialize, Serialize};

mod manage;

pub(crate) use manage::check_identity;
pub use manage::{Imported, Listing, ServerEntry};

/// The directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    directory: PathBuf,
}

/// Characters of a name.
const NAME_CHARS_MAX: usize = 64;

/// Why something in the directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// A name that could be a path, or anything else.
    #[error("{0:?} is no name: 1 to 64 of A-Z a-z 0-9 - _ .")]
    Name(String),
    /// There is nothing of that name.
    #[error("there is no {kind} {name:?} in {directory}; portreeve cert list shows what there is")]
    Unknown {
        /// `server`, `ca`, `crl`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        directory: String,
    },
    /// A file that holds something else, or something damaged.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// Something that does not fit.
    #[error("{0}: {1}")]
    Unusable(String, String),
    /// An entry of the list of those that are not let in.
    #[error(
        "denied.json: an entry is neither a fingerprint nor an issuer with a serial number: {0}"
    )]
    Denied(String),
    /// A file or folder.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

/// A certificate that is not let in, by its fingerprint, or by issuer and serial number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denied {
    /// SHA-256 of the certificate, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// DER of the issuer's name in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_der: Option<String>,
    /// Serial number in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Whose certificate it is, for people.
    #[serde(default)]
    pub subject: String,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// Since when (RFC 3339).
    #[serde(default)]
    pub at: String,
}

impl Denied {
    /// Adds it to a list.
    ///
    /// # Errors
    /// [`CertificatesError::Denied`] for one that names no certificate.
    pub fn deny(&self, list: &mut DenyList) -> Result<(), CertificatesError> {
        let wrong = || CertificatesError::Denied(format!("{self:?}"));
        let bytes = |text: &str| hex::decode(text).map_err(|_odd| wrong());
        match (&self.fingerprint, &self.issuer_der, &self.serial) {
            (Some(fingerprint), None, None) => {
                let fingerprint = bytes(fingerprint)?.try_into().map_err(|_short| wrong())?;
                list.deny_fingerprint(fingerprint);
            }
            (None, Some(issuer), Some(serial)) => {
                list.deny_serial(&bytes(issuer)?, &bytes(serial)?);
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

impl Certificates {
    /// The directory at this path; it need not exist.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Its path.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Chain and key of the active version of a certificate, and the file that says which one that
    /// is.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn server(&self, name: &str) -> Result<[PathBuf; 3], CertificatesError> {
        let folder = self.directory.join("server").join(checked(name)?);
        let active = folder.join("active");
        let version = match std::fs::read_to_string(&active) {
            Ok(version) => version,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(self.unknown("server", name));
            }
            Err(error) => {
                return Err(CertificatesError::File { path: active.display().to_string(), error });
            }
        };
        let folder = folder.join(checked(version.trim())?);
        Ok([folder.join("chain.pem"), folder.join("key.pem"), active])
    }

    /// The file of an authority's certificates.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn authority(&self, name: &str) -> Result<PathBuf, CertificatesError> {
        self.file("ca", name, "pem")
    }

    /// The file of a CRL.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn crl(&self, name: &str) -> Result<PathBuf, CertificatesError> {
        self.file("crl", name, "crl")
    }

    /// The file of certificates that are not let in.
    #[must_use]
    pub fn denied_file(&self) -> PathBuf {
        self.directory.join("denied.json")
    }

    /// The certificates that are not let in.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn denied(&self) -> Result<Vec<Denied>, CertificatesError> {
        let path = self.denied_file();
        let failed = |error| CertificatesError::File { path: path.display().to_string(), error };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    fn file(
        &self,
        kind: &'static str,
        name: &str,
        extension: &str,
    ) -> Result<PathBuf, CertificatesError> {
        let path = self.directory.join(kind).join(format!("{}.{extension}", checked(name)?));
        if path.exists() { Ok(path) } else { Err(self.unknown(kind, name)) }
    }

    fn unknown(&self, kind: &'static str, name: &str) -> CertificatesError {
        let directory = self.directory.display().to_string();
        CertificatesError::Unknown { kind, name: name.to_owned(), directory }
    }
}

/// A name that is one part of a path.
fn checked(name: &str) -> Result<&str, CertificatesError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('.');
    if is_name { Ok(name) } else { Err(CertificatesError::Name(name.to_owned())) }
}
