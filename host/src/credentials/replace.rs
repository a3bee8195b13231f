//! Puts another certificate in the place of one that a gateway serves: checked before it is written, and
//! taken back where it is not served in the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portreeve_tls::Certificate;
use portreeve_tls::material::{self, MaterialError, read_file};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::Credentials;
use crate::certificates::{Certificates, CertificatesError, check_identity};
use crate::config::Config;
use crate::config::tls::{OwnCertificate, OwnSource};
use crate::files;
use crate::plugins::scan::Trust;

/// Who may do what with a key.
const KEY_MODE: u32 = 0o600;

/// A chain and its key as texts in PEM.
pub(crate) struct NewIdentity {
    pub(crate) chain: String,
    pub(crate) key: Zeroizing<String>,
}

impl std::fmt::Debug for NewIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewIdentity").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// What is served now.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// Whether it is another certificate than before.
    pub(crate) is_other: bool,
    pub(crate) detail: String,
}

/// Why the certificate before goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReplaced {
    #[error("there is no gateway {0:?} with TLS")]
    NoTls(String),
    #[error("gateway {gateway:?} has no certificate {name:?}; it has {known}")]
    Unknown { gateway: String, name: String, known: String },
    /// It is configured in a way that is not changed.
    #[error("{0}")]
    Impossible(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0} cannot be written: {1}")]
    File(String, std::io::Error),
}

impl From<MaterialError> for NotReplaced {
    fn from(error: MaterialError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<CertificatesError> for NotReplaced {
    fn from(error: CertificatesError) -> Self {
        match error {
            CertificatesError::File { path, error } => Self::File(path, error),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// What stood in the files, so that it can be put back.
enum Before {
    Files(Vec<(PathBuf, Option<Zeroizing<Vec<u8>>>)>),
    /// The version of a managed certificate.
    Managed(String),
}

impl Credentials {
    /// Replaces the certificate that a gateway has under this name: that of its managed certificate, or
    /// its chain's file without the ending.
    ///
    /// # Errors
    /// [`NotReplaced`]; then the files are what they were.
    pub(crate) async fn replace(
        &mut self,
        config: &Config,
        gateway: &str,
        name: &str,
        identity: NewIdentity,
        by: &str,
    ) -> Result<Replaced, NotReplaced> {
        let own = named(config, gateway, name)?;
        let (chain, key) = checked(own, &identity)?;
        let fingerprint =
            chain.first().map(|certificate| certificate.fingerprint_hex()).unwrap_or_default();
        let not_after = chain.first().map_or(0, |certificate| certificate.not_after);
        let is_other = !self.serves(gateway, &fingerprint);
        let before = self.write(own, &identity, chain, &key)?;
        let looked = self.look(config, Trust::AsItIs, by).await;
        let is_refused = self.loaded.get(gateway).is_none_or(|loaded| loaded.failed.is_some());
        if is_refused || !self.serves(gateway, &fingerprint) {
            let mut why = looked.mistakes.join("; ");
            if let Err(error) = self.put_back(own, before) {
                why.push_str(&format!("; and the files before could not be put back: {error}"));
            }
            self.look(config, Trust::AsItIs, by).await;
            return Err(NotReplaced::Refused(why));
        }
        let days = (not_after - portreeve_tls::now()).div_euclid(SECONDS_OF_A_DAY);
        let mut detail = format!("SHA-256 {fingerprint}, {days} days left");
        if !looked.mistakes.is_empty() {
            detail.push_str("; ");
            detail.push_str(&looked.mistakes.join("; "));
        }
        Ok(Replaced { is_other, detail })
    }

    fn serves(&self, gateway: &str, fingerprint: &str) -> bool {
        let Some(loaded) = self.loaded.get(gateway) else { return false };
        let current = loaded.tls.current();
        current.generation.identities().iter().any(|identity| {
            identity.end_entity().is_some_and(|one| one.fingerprint_hex() == fingerprint)
        })
    }

    fn write(
        &self,
        own: &OwnCertificate,
        identity: &NewIdentity,
        certificates: Vec<Arc<Certificate>>,
        new_key: &PrivateKeyDer<'_>,
    ) -> Result<Before, NotReplaced> {
        match &own.source {
            OwnSource::Managed(name) => {
                let managed = self.managed()?;
                let [_, _, active] = managed.server(name)?;
                let version = std::fs::read_to_string(&active)
                    .map_err(|error| NotReplaced::File(active.display().to_string(), error))?;
                managed.put_server(name, certificates, new_key, true)?;
                Ok(Before::Managed(version.trim().to_owned()))
            }
            OwnSource::Files { chain, key, .. } => {
                let read = |path: &Path| read_file(path, material::FILE_BYTES_MAX).ok();
                let before = vec![(key.clone(), read(key)), (chain.clone(), read(chain))];
                let parts = [
                    (key, Some(KEY_MODE), identity.key.as_bytes()),
                    (chain, None, identity.chain.as_bytes()),
                ];
                for (path, mode, bytes) in parts {
                    if let Err(error) = files::replace(path, mode, bytes) {
                        let _is_told = self.put_back(own, Before::Files(before));
                        return Err(NotReplaced::File(path.display().to_string(), error));
                    }
                }
                Ok(Before::Files(before))
            }
        }
    }

    fn put_back(&self, own: &OwnCertificate, before: Before) -> Result<(), NotReplaced> {
        match (before, &own.source) {
            (Before::Managed(version), OwnSource::Managed(name)) => {
                self.managed()?.activate(name, &version)?;
            }
            (Before::Managed(_), OwnSource::Files { .. }) => {}
            (Before::Files(files), _) => {
                for (path, bytes) in files {
                    let bytes = bytes.as_ref().map(|bytes| bytes.as_slice());
                    files::put_back(&path, bytes)
                        .map_err(|error| NotReplaced::File(path.display().to_string(), error))?;
                }
            }
        }
        Ok(())
    }

    fn managed(&self) -> Result<&Certificates, NotReplaced> {
        let none = || NotReplaced::Impossible("there is no directory of certificates".to_owned());
        self.managed.as_ref().ok_or_else(none)
    }
}

const SECONDS_OF_A_DAY: i64 = 86_400;

/// The one certificate of this name.
fn named<'a>(
    config: &'a Config,
    gateway: &str,
    name: &str,
) -> Result<&'a OwnCertificate, NotReplaced> {
    let found = config.gateways.iter().find(|one| one.name == gateway);
    let tls = found.and_then(|gateway| gateway.tls.as_ref());
    let tls = tls.ok_or_else(|| NotReplaced::NoTls(gateway.to_owned()))?;
    let names: Vec<String> = tls.certificates.iter().map(OwnCertificate::name).collect();
    let mut of_name = tls.certificates.iter().filter(|own| own.name() == name);
    match (of_name.next(), of_name.next()) {
        (Some(own), None) => match &own.source {
            OwnSource::Files { chain, key, .. } if chain == key => Err(NotReplaced::Impossible(
                format!("{} holds chain and key; give each a file of its own", chain.display()),
            )),
            _ => Ok(own),
        },
        (Some(_), Some(_)) => Err(NotReplaced::Impossible(format!(
            "gateway {gateway:?} has several certificates {name:?}; name their files apart"
        ))),
        (None, _) => Err(NotReplaced::Unknown {
            gateway: gateway.to_owned(),
            name: name.to_owned(),
            known: names.join(", "),
        }),
    }
}

/// Chain and key, which belong together and are valid now.
fn checked(
    own: &OwnCertificate,
    identity: &NewIdentity,
) -> Result<(Vec<Arc<Certificate>>, PrivateKeyDer<'static>), NotReplaced> {
    let chain = material::certificates(Path::new("chain"), identity.chain.as_bytes())?;
    let password = match &own.source {
        OwnSource::Files { password: Some(path), .. } => Some(super::own::password(path)?),
        _ => None,
    };
    let password = password.as_ref().map(|text| text.as_slice());
    let key = material::key(Path::new("key"), identity.key.as_bytes(), password)?;
    check_identity(&chain, &key).map_err(NotReplaced::Refused)?;
    let early = chain.first().filter(|one| one.not_before > portreeve_tls::now());
    match early {
        Some(early) => Err(NotReplaced::Refused(format!("{} is not valid yet", early.subject))),
        None => Ok((chain, key)),
    }
}
