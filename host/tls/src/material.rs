//! Files to certificates, keys and CRLs: PEM or DER, whatever tools of others write.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pkcs8::EncryptedPrivateKeyInfo;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::certificate::{Certificate, CertificateError};

/// Bytes of a file of certificates or of a key; CRLs have their own bound.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Certificates of one file.
const CERTIFICATES_MAX: usize = 1_000;
/// What nobody but the owner may do with a key; its group may read it, as service managers set it up.
const MODE_FORBIDDEN: u32 = 0o037;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It holds nothing of what is wanted.
    #[error("{path} holds no {wanted}{hint}")]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What to do.
        hint: String,
    },
    /// One of its certificates.
    #[error("{path}, certificate {number}: {error}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// A part of it is damaged.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        why: String,
    },
    /// An encrypted key.
    #[error("{path} is encrypted and {why}")]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// Why it cannot be opened.
        why: String,
    },
    /// A key that everybody reads.
    #[error(
        "{path} can be read or changed by others (mode {mode:03o}); say: chmod 600 {path}",
        path = path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl MaterialError {
    /// In words: rustls has the end that is missing as numbers.
    fn of_pem(path: &Path, error: &pem::Error) -> Self {
        let why = match error {
            pem::Error::MissingSectionEnd { end_marker } => {
                let label = String::from_utf8_lossy(end_marker);
                format!("its end is missing (-----END {label}-----); was it copied whole?")
            }
            other => other.to_string(),
        };
        Self::Damaged { path: path.to_owned(), why }
    }
}

/// Bytes of a file that may hold a secret.
type Bytes = Zeroizing<Vec<u8>>;

/// Reads a plain file of at most so many bytes. A pipe or a device would keep everything waiting.
///
/// # Errors
/// [`MaterialError::Unreadable`].
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, MaterialError> {
    read_open(path, bytes_max).map(|(bytes, _)| bytes)
}

fn read_open(path: &Path, bytes_max: u64) -> Result<(Bytes, std::fs::Metadata), MaterialError> {
    let unreadable = |error| MaterialError::Unreadable { path: path.to_owned(), error };
    let other = |text: String| unreadable(std::io::Error::other(text));
    // Opened once, so that what is looked at is what is read; a pipe is opened without waiting.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(other("it is no plain file".to_owned()));
    }
    if metadata.len() > bytes_max {
        return Err(other(format!("{} bytes are more than {bytes_max}", metadata.len())));
    }
    // With room for all of it, so that no part of a key stays behind in a buffer that was outgrown.
    let room = usize::try_from(metadata.len()).unwrap_or(0).saturating_add(64);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.is_empty() {
        return Err(other("it is empty".to_owned()));
    }
    Ok((bytes, metadata))
}

/// The certificates of a file, in their order.
///
/// # Errors
/// [`MaterialError`]; a file without certificates is one.
pub fn read_certificates(path: &Path) -> Result<Vec<Arc<Certificate>>, MaterialError> {
    let bytes = read_file(path, FILE_BYTES_MAX)?;
    certificates(path, &bytes)
}

/// The certificates of these bytes of the file `path`.
///
/// # Errors
/// As [`read_certificates`].
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<Arc<Certificate>>, MaterialError> {
    let found = if is_der(bytes) {
        vec![CertificateDer::from(bytes.to_vec())]
    } else {
        let damaged = |error| MaterialError::of_pem(path, &error);
        let parts = CertificateDer::pem_slice_iter(bytes).take(CERTIFICATES_MAX + 1);
        parts.collect::<Result<Vec<_>, _>>().map_err(damaged)?
    };
    if found.is_empty() {
        return Err(MaterialError::Nothing {
            path: path.to_owned(),
            wanted: "certificate",
            hint: what_it_is(bytes),
        });
    }
    if found.len() > CERTIFICATES_MAX {
        let why = format!("it holds more than {CERTIFICATES_MAX} certificates");
        return Err(MaterialError::Damaged { path: path.to_owned(), why });
    }
    let parsed = found.into_iter().enumerate().map(|(index, der)| {
        Certificate::parse(der).map(Arc::new).map_err(|error| MaterialError::Certificate {
            path: path.to_owned(),
            number: index + 1,
            error,
        })
    });
    parsed.collect()
}

/// The key of a file that nobody but its owner (and, for reading, its group) can read or change.
///
/// # Errors
/// [`MaterialError`].
pub fn read_key(
    path: &Path,
    password: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let (bytes, metadata) = read_open(path, FILE_BYTES_MAX)?;
    let mode = metadata.mode() & 0o777;
    if mode & MODE_FORBIDDEN != 0 {
        return Err(MaterialError::Open { path: path.to_owned(), mode });
    }
    key(path, &bytes, password)
}

/// The key of these bytes of the file `path`: PKCS#8, PKCS#1 or SEC1, in PEM or DER.
///
/// # Errors
/// [`MaterialError`].
pub fn key(
    path: &Path,
    bytes: &[u8],
    password: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let damaged = |why: &str| MaterialError::Damaged { path: path.to_owned(), why: why.to_owned() };
    if is_der(bytes) {
        if EncryptedPrivateKeyInfo::try_from(bytes).is_ok() {
            return decrypted(path, bytes, password);
        }
        let der = Zeroizing::new(bytes.to_vec());
        return PrivateKeyDer::try_from(der.as_slice())
            .map(|key| key.clone_key())
            .map_err(|_unknown| damaged("it is DER, and no private key"));
    }
    if contains(bytes, b"Proc-Type: 4,ENCRYPTED") {
        let why = "in a way of its own that nobody should use any more; say: openssl pkcs8 -topk8 -in OLD -out NEW";
        return Err(MaterialError::Encrypted { path: path.to_owned(), why: why.to_owned() });
    }
    if let Some(der) = encrypted_section(bytes) {
        return decrypted(path, &der, password);
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(MaterialError::Nothing {
            path: path.to_owned(),
            wanted: "private key",
            hint: what_it_is(bytes),
        }),
        Err(error) => Err(MaterialError::of_pem(path, &error)),
    }
}

/// The DER of an `ENCRYPTED PRIVATE KEY`, which is no secret by itself.
fn encrypted_section(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let begin = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----")?;
    let (label, document) = pkcs8::SecretDocument::from_pem(text.get(begin..)?.trim()).ok()?;
    (label == "ENCRYPTED PRIVATE KEY").then(|| document.as_bytes().to_vec())
}

fn decrypted(
    path: &Path,
    der: &[u8],
    password: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let failed = |why: String| MaterialError::Encrypted { path: path.to_owned(), why };
    let password = password.ok_or_else(|| {
        failed("there is no password for it; name a file with it in key_password_file".to_owned())
    })?;
    let info = EncryptedPrivateKeyInfo::try_from(der)
        .map_err(|error| failed(format!("damaged: {error}")))?;
    let opened = info.decrypt(password).map_err(|_wrong| {
        failed(
            "cannot be opened: the password is wrong, or it is encrypted in another way than PBES2"
                .to_owned(),
        )
    })?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec())))
}

/// Whether these bytes are DER rather than PEM: a SEQUENCE of some length.
#[must_use]
pub fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x80..=0x84, ..] => true,
        // 0x30 is also the digit 0. Keys of elliptic curves are short.
        [0x30, length, rest @ ..] => usize::from(*length) == rest.len(),
        _ => false,
    }
}

/// What a file holds instead.
fn what_it_is(bytes: &[u8]) -> String {
    let kinds = [
        (&b"-----BEGIN CERTIFICATE-----"[..], "a certificate"),
        (b"PRIVATE KEY-----", "a private key"),
        (b"-----BEGIN X509 CRL-----", "a CRL"),
        (b"-----BEGIN CERTIFICATE REQUEST-----", "a request for a certificate"),
        (b"-----BEGIN PKCS7-----", "PKCS#7; say: openssl pkcs7 -print_certs"),
    ];
    let found = kinds.iter().find(|(sign, _)| contains(bytes, sign));
    found.map_or_else(String::new, |(_, kind)| format!("; it holds {kind}"))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The DER of the CRLs in these bytes.
///
/// # Errors
/// [`MaterialError`].
pub fn crls(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u8>>, MaterialError> {
    if is_der(bytes) {
        return Ok(vec![bytes.to_vec()]);
    }
    let parts = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes);
    let parts = parts.collect::<Result<Vec<_>, _>>();
    let parts = parts.map_err(|error| MaterialError::of_pem(path, &error))?;
    let found: Vec<Vec<u8>> = parts
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Crl)
        .map(|(_, der)| der)
        .collect();
    if found.is_empty() {
        return Err(MaterialError::Nothing {
            path: path.to_owned(),
            wanted: "CRL",
            hint: what_it_is(bytes),
        });
    }
    Ok(found)
}
