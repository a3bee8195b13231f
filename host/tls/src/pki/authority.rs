//! The two authorities, root and intermediate, and those that sign OCSP responses for them.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CrlDistributionPoint,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use url::Url;

use super::database::{Entry, Kind};
use super::files::NewFile;
use super::issue::{self, KeyKind, Life};
use super::{DAYS_MAX, PkiError};
use crate::Certificate;
use crate::material::{FILE_BYTES_MAX, certificates, read_file, read_key};

/// Characters of an authority's name: with what is added, 64 (RFC 5280 §A.1).
const NAME_CHARS_MAX: usize = 32;
/// What nobody else is called.
const RESERVED: [&str; 4] = ["root", "int", "root-ocsp", "ocsp"];
/// `id-pkix-ocsp-nocheck` (RFC 6960 §4.2.2.2.1).
const ID_NO_CHECK: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 5];
/// DER of NULL.
const NULL: [u8; 2] = [5, 0];

/// What an authority is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// The organization of all certificates.
    pub name: String,
    /// Where OCSP and CRLs will be served, as [`url_of`] has it.
    pub url: String,
    /// How long the root lives.
    pub root_days: u32,
    /// How long the intermediate lives.
    pub intermediate_days: u32,
}

impl AuthoritySettings {
    pub(super) fn check(&self) -> Result<(), PkiError> {
        let characters = self.name.chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&characters) || self.name.contains(char::is_control) {
            return Err(PkiError::AuthorityName(self.name.clone()));
        }
        for days in [self.root_days, self.intermediate_days] {
            if !(1..=DAYS_MAX).contains(&days) {
                return Err(PkiError::DayCount(days));
            }
        }
        url_of(&self.url).map(drop)
    }
}

/// `http://HOST:PORT`, and nothing else: OCSP and CRLs are signed, and TLS for them would need them.
///
/// # Errors
/// [`PkiError::Url`].
pub fn url_of(text: &str) -> Result<String, PkiError> {
    let wrong = || PkiError::Url(text.to_owned());
    let url = Url::parse(text).map_err(|_| wrong())?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let is_http = url.scheme() == "http" && url.has_host();
    if is_http && is_bare && is_anonymous {
        Ok(url.origin().ascii_serialization())
    } else {
        Err(wrong())
    }
}

/// One of the authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthorityName {
    /// The trust anchor.
    #[serde(rename = "root")]
    Root,
    /// The one that issues what is used.
    #[serde(rename = "int")]
    Intermediate,
}

impl AuthorityName {
    /// As files and the database have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "int",
        }
    }

    /// Its CRL.
    #[must_use]
    pub const fn crl_file(self) -> &'static str {
        match self {
            Self::Root => "root.crl",
            Self::Intermediate => "int.crl",
        }
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate_file(self) -> &'static str {
        match self {
            Self::Root => "root.crt",
            Self::Intermediate => "int.crt",
        }
    }

    const fn key_file(self) -> &'static str {
        match self {
            Self::Root => "root.key",
            Self::Intermediate => "int.key",
        }
    }

    /// The one that signs OCSP responses for it.
    pub(super) const fn responder(self) -> &'static str {
        match self {
            Self::Root => "root-ocsp",
            Self::Intermediate => "ocsp",
        }
    }

    /// Whether a name belongs to a part of the authority.
    pub(super) fn is_reserved(name: &str) -> bool {
        RESERVED.contains(&name)
    }
}

/// An authority that can sign.
pub(super) struct Authority {
    pub(super) name: AuthorityName,
    pub(super) certificate: Arc<Certificate>,
    pub(super) pem: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn read(directory: &Path, name: AuthorityName) -> Result<Self, PkiError> {
        let path = directory.join(name.certificate_file());
        let bytes = read_file(&path, FILE_BYTES_MAX)?;
        let damaged = |why: &str| PkiError::Damaged(path.display().to_string(), why.to_owned());
        let mut found = certificates(&path, &bytes)?;
        let (Some(certificate), true) = (found.pop(), found.is_empty()) else {
            return Err(damaged("it holds more than one certificate"));
        };
        let pem = String::from_utf8(bytes.to_vec()).map_err(|_| damaged("it is not PEM"))?;
        let key = read_key(&directory.join(name.key_file()), None)?;
        let key = KeyPair::try_from(&key)?;
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key)?;
        Ok(Self { name, certificate, pem, issuer })
    }
}

/// Makes root, intermediate and their responders: what the database says of them, and their files.
pub(super) fn make(
    settings: &AuthoritySettings,
    now: i64,
) -> Result<(Vec<Entry>, Vec<NewFile>), PkiError> {
    let root_life = Life::from(now, settings.root_days);
    let root_key = KeyKind::P256.generate()?;
    let params = authority_params(settings, "root", 1, root_life)?;
    let root = CertifiedIssuer::self_signed(params, root_key)?;
    // Nothing may live longer than what it is issued by.
    let life = Life::from(now, settings.intermediate_days).within(root_life);
    let mut params = authority_params(settings, "intermediate", 0, life)?;
    params.use_authority_key_identifier_extension = true;
    add_sources(&mut params, AuthorityName::Root, &settings.url);
    let intermediate = CertifiedIssuer::signed_by(params, KeyKind::P256.generate()?, &root)?;

    let mut entries = Vec::new();
    let mut new = Vec::new();
    for (name, kind, authority) in [
        (AuthorityName::Root, Kind::Root, &root),
        (AuthorityName::Intermediate, Kind::Intermediate, &intermediate),
    ] {
        let certificate = issue::parsed(authority.der())?;
        entries.push(Entry::of(&certificate, name.name(), kind, AuthorityName::Root));
        new.push(NewFile::open(name.certificate_file(), authority.pem()));
        new.push(NewFile::secret(name.key_file(), issue::key_pem(authority.key())?));
    }
    for (name, life, issuer) in [
        (AuthorityName::Root, root_life, &*root),
        (AuthorityName::Intermediate, life, &*intermediate),
    ] {
        let (entry, files) = responder(settings, name, life, issuer)?;
        entries.push(entry);
        new.extend(files);
    }
    let trust = format!("{}{}", intermediate.pem(), root.pem());
    new.push(NewFile::open("trust.crt", trust));
    Ok((entries, new))
}

/// The profile of authorities (RFC 5280 §4.2.1.3 and §4.2.1.9).
fn authority_params(
    settings: &AuthoritySettings,
    role: &str,
    path_length: u8,
    life: Life,
) -> Result<CertificateParams, PkiError> {
    let common_name = format!("{} development {role}", settings.name);
    let mut params = issue::params(&settings.name, &common_name, life)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A delegate that signs OCSP responses (RFC 6960 §4.2.2.2). It lives as long as its issuer, and
/// nobody has to ask whether it is revoked: here it is as safe as the issuer's key beside it.
fn responder(
    settings: &AuthoritySettings,
    issuer_name: AuthorityName,
    life: Life,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(Entry, [NewFile; 2]), PkiError> {
    let name = issuer_name.responder();
    let common_name = format!("{} OCSP {}", settings.name, issuer_name.name());
    let mut params = issue::params(&settings.name, &common_name, life)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    params
        .custom_extensions
        .push(rcgen::CustomExtension::from_oid_content(ID_NO_CHECK, NULL.to_vec()));
    add_crl(&mut params, issuer_name, &settings.url);
    let key = KeyKind::P256.generate()?;
    let made = params.signed_by(&key, issuer)?;
    let certificate = issue::parsed(made.der())?;
    let entry = Entry::of(&certificate, name, Kind::Responder, issuer_name);
    let files = [
        NewFile::open(&format!("{name}.crt"), made.pem()),
        NewFile::secret(&format!("{name}.key"), issue::key_pem(&key)?),
    ];
    Ok((entry, files))
}

/// Says where the status of what `issuer` issues can be learnt.
pub(super) fn add_sources(params: &mut CertificateParams, issuer: AuthorityName, url: &str) {
    params.custom_extensions.push(issue::authority_information_access(issuer, url));
    add_crl(params, issuer, url);
}

fn add_crl(params: &mut CertificateParams, issuer: AuthorityName, url: &str) {
    let uris = vec![format!("{url}/{}", issuer.crl_file())];
    params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
}
