//! Changes of the directory: each is checked before it is written, and seen whole.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portreeve_tls::Certificate;
use portreeve_tls::crl::{CrlRules, UnverifiedCrl};
use portreeve_tls::generation::provider;
use portreeve_tls::identity::Identity;
use portreeve_tls::material::{self, read_certificates, read_file, read_key};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::{Certificates, CertificatesError, Denied, checked};
use crate::files;

/// Hex digits of a fingerprint that name a version.
const VERSION_DIGITS: usize = 16;
/// With fewer digits none is meant.
const VERSION_DIGITS_MIN: usize = 4;
/// Bytes of a CRL that is imported; a gateway takes `bytes_max` of its configuration.
const CRL_BYTES_MAX: u64 = 64 << 20;
/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// Everything that the directory holds.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Own certificates, by name.
    pub servers: Vec<ServerEntry>,
    /// Authorities.
    pub authorities: Vec<(String, Vec<Arc<Certificate>>)>,
    /// Names of CRLs, with the number of lists in each.
    pub crls: Vec<(String, usize)>,
    /// Certificates that are not let in.
    pub denied: Vec<Denied>,
    /// Files that cannot be read.
    pub problems: Vec<String>,
}

/// An own certificate with its versions.
#[derive(Debug, Clone)]
pub struct ServerEntry {
    /// Its name.
    pub name: String,
    /// The version that serves.
    pub active: Option<String>,
    /// Every version with its chain, end entity first.
    pub versions: Vec<(String, Vec<Arc<Certificate>>)>,
}

/// What was imported.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The version of an own certificate; empty for other things.
    pub version: String,
    /// The certificates.
    pub certificates: Vec<Arc<Certificate>>,
    /// Whether it serves from now on.
    pub is_active: bool,
}

impl Certificates {
    /// Imports a certificate of the gateway's own. The first version of a name serves at once, others
    /// with `activates`.
    ///
    /// # Errors
    /// [`CertificatesError`]; then nothing has changed.
    pub fn import_server(
        &self,
        name: &str,
        chain: &Path,
        key: &Path,
        password: Option<&[u8]>,
        activates: bool,
    ) -> Result<Imported, CertificatesError> {
        let certificates = read_certificates(chain)?;
        let key = read_key(key, password)?;
        let unusable = |why| CertificatesError::Unusable(chain.display().to_string(), why);
        check_identity(&certificates, &key).map_err(unusable)?;
        self.put_server(name, certificates, &key, activates)
    }

    /// The same with chain and key that were checked.
    ///
    /// # Errors
    /// [`CertificatesError`]; then another version serves as before.
    pub(crate) fn put_server(
        &self,
        name: &str,
        certificates: Vec<Arc<Certificate>>,
        key: &PrivateKeyDer<'_>,
        activates: bool,
    ) -> Result<Imported, CertificatesError> {
        let fingerprint = certificates.first().map(|one| one.fingerprint_hex()).unwrap_or_default();
        let version: String = fingerprint.chars().take(VERSION_DIGITS).collect();
        let folder = self.directory.join("server").join(checked(name)?);
        let target = folder.join(&version);
        make_folder(&target)?;
        // The key goes first: a chain without its key could be named by hand.
        write_whole(&target.join("key.pem"), 0o600, &key_pem(key))?;
        write_whole(&target.join("chain.pem"), 0o644, chain_pem(&certificates).as_bytes())?;
        let is_first = !folder.join("active").exists();
        if is_first || activates {
            write_whole(&folder.join("active"), 0o644, format!("{version}\n").as_bytes())?;
        }
        Ok(Imported { version, certificates, is_active: is_first || activates })
    }

    /// Imports certificates of authorities.
    ///
    /// # Errors
    /// [`CertificatesError`]; then nothing has changed.
    pub fn import_authority(&self, name: &str, path: &Path) -> Result<Imported, CertificatesError> {
        let certificates = read_certificates(path)?;
        if let Some(other) = certificates.iter().find(|one| !one.is_authority) {
            let why = format!("{} is no authority (basic constraints)", other.subject);
            return Err(CertificatesError::Unusable(path.display().to_string(), why));
        }
        let folder = self.directory.join("ca");
        make_folder(&folder)?;
        let target = folder.join(format!("{}.pem", checked(name)?));
        write_whole(&target, 0o644, chain_pem(&certificates).as_bytes())?;
        Ok(Imported { version: String::new(), certificates, is_active: true })
    }

    /// Imports a CRL. Whether an authority has signed it is checked by the gateway that uses it,
    /// which knows the authorities.
    ///
    /// # Errors
    /// [`CertificatesError`]; then nothing has changed.
    pub fn import_crl(&self, name: &str, path: &Path) -> Result<usize, CertificatesError> {
        let bytes = read_file(path, CRL_BYTES_MAX)?;
        let lists = material::crls(path, &bytes)?;
        let bytes_max = usize::try_from(CRL_BYTES_MAX).unwrap_or(usize::MAX);
        let rules = CrlRules { bytes_max, ..CrlRules::default() };
        for list in &lists {
            UnverifiedCrl::read(list, portreeve_tls::now(), &rules).map_err(|fault| {
                CertificatesError::Unusable(path.display().to_string(), fault.to_string())
            })?;
        }
        let folder = self.directory.join("crl");
        make_folder(&folder)?;
        write_whole(&folder.join(format!("{}.crl", checked(name)?)), 0o644, &bytes)?;
        Ok(lists.len())
    }

    /// From now on this version serves.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn activate(&self, name: &str, version: &str) -> Result<String, CertificatesError> {
        let entry = self.server_entry(name)?;
        let known = entry.version(version)?;
        let folder = self.directory.join("server").join(checked(name)?);
        // What is damaged does not serve.
        self.load(&folder.join(known))?;
        write_whole(&folder.join("active"), 0o644, format!("{known}\n").as_bytes())?;
        Ok(known.to_owned())
    }

    fn load(&self, folder: &Path) -> Result<(), CertificatesError> {
        let chain = read_certificates(&folder.join("chain.pem"))?;
        let key = read_key(&folder.join("key.pem"), None)?;
        let identity = Identity::new("", chain, key, &provider());
        let wrong = |error: portreeve_tls::identity::IdentityError| {
            CertificatesError::Unusable(folder.display().to_string(), error.to_string())
        };
        identity.map(drop).map_err(wrong)
    }

    /// Removes a version of an own certificate that does not serve, or with `version` left out all
    /// of it.
    ///
    /// # Errors
    /// [`CertificatesError`]; for the version that serves, too.
    pub fn remove_server(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(), CertificatesError> {
        let entry = self.server_entry(name)?;
        let folder = self.directory.join("server").join(checked(name)?);
        let Some(version) = version else { return remove_folder(&folder) };
        let known = entry.version(version)?;
        if entry.active.as_deref() == Some(known) {
            let why = format!("{known} serves; activate another version first");
            return Err(CertificatesError::Unusable(name.to_owned(), why));
        }
        remove_folder(&folder.join(checked(known)?))
    }

    /// Removes an authority.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn remove_authority(&self, name: &str) -> Result<(), CertificatesError> {
        remove_file(&self.authority(name)?)
    }

    /// Removes a CRL.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn remove_crl(&self, name: &str) -> Result<(), CertificatesError> {
        remove_file(&self.crl(name)?)
    }

    /// Adds a certificate to those that are not let in. Says whether it was not among them.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn deny(&self, denied: Denied) -> Result<bool, CertificatesError> {
        denied.deny(&mut portreeve_tls::revocation::DenyList::default())?;
        let mut all = self.denied()?;
        if all.iter().any(|known| known.is_same(&denied)) {
            return Ok(false);
        }
        all.push(denied);
        self.write_denied(&all)?;
        Ok(true)
    }

    /// Takes a certificate from those that are not let in. Says whether it was among them.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn allow(&self, denied: &Denied) -> Result<bool, CertificatesError> {
        let mut all = self.denied()?;
        let before = all.len();
        all.retain(|known| !known.is_same(denied));
        let is_changed = all.len() < before;
        if is_changed {
            self.write_denied(&all)?;
        }
        Ok(is_changed)
    }

    fn write_denied(&self, all: &[Denied]) -> Result<(), CertificatesError> {
        make_folder(&self.directory)?;
        let path = self.denied_file();
        let text =
            serde_json::to_string_pretty(all).map_err(|error| failed(&path, error.into()))?;
        write_whole(&path, 0o644, format!("{text}\n").as_bytes())
    }

    /// Everything that there is.
    #[must_use]
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        for name in names(&self.directory.join("server"), "") {
            match self.server_entry(&name) {
                Ok(entry) => listing.servers.push(entry),
                Err(error) => listing.problems.push(error.to_string()),
            }
        }
        for name in names(&self.directory.join("ca"), ".pem") {
            let path = self.directory.join("ca").join(format!("{name}.pem"));
            match read_certificates(&path) {
                Ok(certificates) => listing.authorities.push((name, certificates)),
                Err(error) => listing.problems.push(error.to_string()),
            }
        }
        for name in names(&self.directory.join("crl"), ".crl") {
            let path = self.directory.join("crl").join(format!("{name}.crl"));
            let lists =
                read_file(&path, CRL_BYTES_MAX).and_then(|bytes| material::crls(&path, &bytes));
            match lists {
                Ok(lists) => listing.crls.push((name, lists.len())),
                Err(error) => listing.problems.push(error.to_string()),
            }
        }
        match self.denied() {
            Ok(denied) => listing.denied = denied,
            Err(error) => listing.problems.push(error.to_string()),
        }
        listing
    }

    fn server_entry(&self, name: &str) -> Result<ServerEntry, CertificatesError> {
        let folder = self.directory.join("server").join(checked(name)?);
        if !folder.is_dir() {
            return Err(self.unknown("server", name));
        }
        let active = fs::read_to_string(folder.join("active")).ok();
        let mut versions = Vec::new();
        for version in names(&folder, "").into_iter().filter(|name| name != "active") {
            let chain = read_certificates(&folder.join(&version).join("chain.pem"))?;
            versions.push((version, chain));
        }
        versions.sort_by_key(|(_, chain)| chain.first().map(|one| one.not_before));
        let active = active.map(|active| active.trim().to_owned());
        Ok(ServerEntry { name: name.to_owned(), active, versions })
    }
}

impl ServerEntry {
    /// The one version that begins so.
    fn version(&self, begin: &str) -> Result<&str, CertificatesError> {
        let is_it = |known: &str| begin.len() >= VERSION_DIGITS_MIN && known.starts_with(begin);
        let mut found = self.versions.iter().filter(|(known, _)| is_it(known));
        if let (Some((known, _)), None) = (found.next(), found.next()) {
            return Ok(known);
        }
        let known: Vec<&str> = self.versions.iter().map(|(known, _)| known.as_str()).collect();
        let why = format!("{begin:?} is not one of its versions: {}", known.join(", "));
        Err(CertificatesError::Unusable(self.name.clone(), why))
    }
}

impl Denied {
    fn is_same(&self, other: &Self) -> bool {
        (&self.fingerprint, &self.issuer_der, &self.serial)
            == (&other.fingerprint, &other.issuer_der, &other.serial)
    }
}

/// Whether a chain and its key can serve, now or at a later time.
///
/// # Errors
/// Why not.
pub(crate) fn check_identity(
    chain: &[Arc<Certificate>],
    key: &PrivateKeyDer<'_>,
) -> Result<(), String> {
    let now = portreeve_tls::now();
    if let Some(ended) = chain.first().filter(|one| one.not_after < now) {
        return Err(format!("{} has expired", ended.subject));
    }
    let identity = Identity::new("", chain.to_vec(), key.clone_key(), &provider());
    identity.map(drop).map_err(|error| error.to_string())
}

/// Names in a folder, without their end.
fn names(folder: &Path, end: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(end).map(str::to_owned))
        .filter(|name| checked(name).is_ok())
        .collect();
    names.sort();
    names
}

fn failed(path: &Path, error: std::io::Error) -> CertificatesError {
    CertificatesError::File { path: path.display().to_string(), error }
}

fn make_folder(path: &Path) -> Result<(), CertificatesError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed(path, error))
}

fn remove_folder(path: &Path) -> Result<(), CertificatesError> {
    fs::remove_dir_all(path).map_err(|error| failed(path, error))
}

fn remove_file(path: &Path) -> Result<(), CertificatesError> {
    fs::remove_file(path).map_err(|error| failed(path, error))
}

/// Writes a file that is seen whole or not at all.
fn write_whole(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), CertificatesError> {
    files::replace(path, Some(mode), bytes).map_err(|error| failed(path, error))
}

fn chain_pem(certificates: &[Arc<Certificate>]) -> String {
    certificates.iter().map(|one| pem("CERTIFICATE", one.der())).collect()
}

/// The key without password: its file is the owner's alone.
fn key_pem(key: &PrivateKeyDer<'_>) -> Zeroizing<Vec<u8>> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    Zeroizing::new(pem(label, key.secret_der()).into_bytes())
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    // With room for all of it, so that no part of a key stays behind in a buffer that was outgrown.
    let mut text = String::with_capacity(encoded.len() + encoded.len() / PEM_LINE + 128);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in encoded.as_bytes().chunks(PEM_LINE) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
