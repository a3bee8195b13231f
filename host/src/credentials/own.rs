//! Reads what a gateway's TLS is made of: its own certificates, trust anchors, CRLs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portreeve_tls::Certificate;
use portreeve_tls::identity::Identity;
use portreeve_tls::material::{self, MaterialError, read_certificates, read_file, read_key};
use portreeve_tls::peer::Trust;
use portreeve_tls::revocation::DenyList;
use rustls::crypto::CryptoProvider;
use url::Url;
use zeroize::Zeroizing;

use super::Stamps;
use crate::certificates::{Certificates, CertificatesError};
use crate::config::tls::{ClientConfig, FileSource, OwnCertificate, OwnSource, TlsConfig};
use crate::plugins::scan::stamp;

/// Bytes of a file with a password.
const PASSWORD_BYTES_MAX: u64 = 4 << 10;

/// Everything that was read for one gateway.
#[derive(Debug, Default)]
pub(super) struct Material {
    pub(super) identities: Vec<Arc<Identity>>,
    pub(super) trust: Option<Trust>,
    /// Authorities with a responder of their own.
    pub(super) issuers: Vec<(Arc<Certificate>, Url)>,
    /// CRLs as DER, with the file that each is in.
    pub(super) crls: Vec<(PathBuf, Vec<u8>)>,
    /// `None` where it cannot be read.
    pub(super) denied: Option<DenyList>,
}

/// Reads files, and remembers which, so that they can be watched, and what is wrong with them.
pub(super) struct Reader<'a> {
    managed: Option<&'a Certificates>,
    provider: &'a CryptoProvider,
    files: Stamps,
    pub(super) mistakes: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(
        managed: Option<&'a Certificates>,
        provider: &'a CryptoProvider,
    ) -> Self {
        Self { managed, provider, files: Stamps::new(), mistakes: Vec::new() }
    }

    /// Reads everything that `tls` names.
    pub(super) fn material(&mut self, tls: &TlsConfig) -> Material {
        let mut material = Material::default();
        for certificate in &tls.certificates {
            material.identities.extend(self.identity(certificate, tls.refuses_expired));
        }
        if let Some(client) = &tls.client {
            material.trust = self.trust(client);
            for (path, url) in &client.revocation.ocsp.issuers {
                let found = self.certificates(path).unwrap_or_default();
                let first = found.into_iter().next();
                material.issuers.extend(first.map(|certificate| (certificate, url.clone())));
            }
            material.denied = self.denied();
            for source in &client.revocation.crl.files {
                material.crls.extend(self.crls(source, client.revocation.crl.bytes_max));
            }
        }
        material
    }

    fn identity(&mut self, own: &OwnCertificate, refuses_expired: bool) -> Option<Arc<Identity>> {
        let (name, chain, key, password) = match &own.source {
            OwnSource::Files { chain, key, password } => {
                (own.name(), chain.clone(), key.clone(), password.clone())
            }
            OwnSource::Managed(name) => {
                self.managed_file(&["server", name, "active"]);
                let [chain, key, _] = self.managed(name, Certificates::server)?;
                (name.clone(), chain, key, None)
            }
        };
        let certificates = self.certificates(&chain);
        let password = password.map(|path| self.password(&path));
        self.file(&key);
        let key = read_key(&key, password.flatten().as_ref().map(|text| text.as_slice()));
        let key = self.noted(key)?;
        let identity = Identity::new(&name, certificates?, key, self.provider);
        let identity = self.noted_at(&chain, identity)?;
        if let Some(end_entity) = identity.end_entity() {
            let now = portreeve_tls::now();
            if end_entity.not_after < now {
                let since = days_or_hours(now - end_entity.not_after);
                let what = format!("{}: it has expired {since} ago", chain.display());
                if refuses_expired {
                    self.mistakes.push(what);
                    return None;
                }
                tracing::error!(certificate = name, "ALARM: {what}, and is served all the same");
            }
        }
        Some(Arc::new(identity))
    }

    fn trust(&mut self, client: &ClientConfig) -> Option<Trust> {
        let mut certificates = Vec::new();
        let mut paths = Vec::new();
        let mut is_whole = true;
        for source in &client.trust_anchors {
            let path = self.path(source, Certificates::authority);
            paths.extend(path.iter().map(|path| path.display().to_string()));
            match path.and_then(|path| self.certificates(&path)) {
                Some(found) => certificates.extend(found),
                None => is_whole = false,
            }
        }
        if !is_whole {
            return None;
        }
        let trust = Trust::new(certificates, client.partial_chain)
            .map_err(|error| format!("trust_anchors ({}): {error}", paths.join(", ")));
        self.noted(trust)
    }

    fn crls(&mut self, source: &FileSource, bytes_max: u64) -> Vec<(PathBuf, Vec<u8>)> {
        let Some(path) = self.path(source, Certificates::crl) else { return Vec::new() };
        self.file(&path);
        let read = read_file(&path, bytes_max).and_then(|bytes| material::crls(&path, &bytes));
        let found = self.noted(read).unwrap_or_default();
        found.into_iter().map(|der| (path.clone(), der)).collect()
    }

    fn certificates(&mut self, path: &Path) -> Option<Vec<Arc<Certificate>>> {
        self.file(path);
        self.noted(read_certificates(path))
    }

    fn password(&mut self, path: &Path) -> Option<Zeroizing<Vec<u8>>> {
        self.file(path);
        self.noted(password(path))
    }

    /// The same of one in the directory of managed certificates, which may come later.
    fn managed_file(&mut self, parts: &[&str]) {
        if let Some(managed) = self.managed {
            let path =
                parts.iter().fold(managed.directory().to_owned(), |path, part| path.join(part));
            self.file(&path);
        }
    }

    /// Notes a file that is about to be read: what changes meanwhile is read again.
    fn file(&mut self, path: &Path) {
        self.files.insert(path.to_owned(), stamp(path));
    }

    /// The files that were read, as they were.
    pub(super) fn stamps(&mut self) -> Stamps {
        std::mem::take(&mut self.files)
    }

    fn denied(&mut self) -> Option<DenyList> {
        let Some(managed) = self.managed else { return Some(DenyList::default()) };
        self.file(&managed.denied_file());
        let read = managed.denied().and_then(|denied| {
            let mut list = DenyList::default();
            denied.iter().try_for_each(|one| one.deny(&mut list))?;
            Ok(list)
        });
        self.noted(read)
    }

    fn path(
        &mut self,
        source: &FileSource,
        find: impl FnOnce(&Certificates, &str) -> Result<PathBuf, CertificatesError>,
    ) -> Option<PathBuf> {
        match source {
            FileSource::File(path) => Some(path.clone()),
            FileSource::Managed(name) => {
                self.managed_file(&["ca", &format!("{name}.pem")]);
                self.managed_file(&["crl", &format!("{name}.crl")]);
                self.managed(name, find)
            }
        }
    }

    fn managed<T>(
        &mut self,
        name: &str,
        find: impl FnOnce(&Certificates, &str) -> Result<T, CertificatesError>,
    ) -> Option<T> {
        let Some(managed) = self.managed else {
            self.mistakes.push(format!(
                "certificate {name:?}: there is no directory of managed certificates; say [certificates] directory, or [data] directory"
            ));
            return None;
        };
        let found = find(managed, name);
        self.noted(found)
    }

    fn noted<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.mistakes.push(error.to_string())).ok()
    }

    fn noted_at<T, E: std::fmt::Display>(
        &mut self,
        path: &Path,
        result: Result<T, E>,
    ) -> Option<T> {
        self.noted(result.map_err(|error| format!("{}: {error}", path.display())))
    }
}

/// The password in a file.
pub(super) fn password(path: &Path) -> Result<Zeroizing<Vec<u8>>, MaterialError> {
    let mut password = read_file(path, PASSWORD_BYTES_MAX)?;
    // An editor ends the last line.
    while password.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        password.pop();
    }
    Ok(password)
}

/// A time in the larger of the two units.
fn days_or_hours(seconds: i64) -> String {
    let hours = seconds / 3_600;
    match (hours / 24, hours % 24) {
        (0, hours) => format!("{hours} h"),
        (days, _) => format!("{days} days"),
    }
}
