//! Certificates of servers and devices, and what all certificates have in common.

use std::net::IpAddr;

use pkcs8::{LineEnding, PrivateKeyInfo, SecretDocument};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, RsaKeySize, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, DnsName};
use time::OffsetDateTime;
use url::Url;
use zeroize::Zeroizing;

use super::authority::{Authority, AuthorityName, add_sources};
use super::database::{Database, Entry, Kind};
use super::{DAY, DAYS_MAX, PkiError, random_serial};
use crate::asn1::field;
use crate::{Certificate, CertificateError};

/// The clocks of those that verify may be behind by this much.
const BACKDATED_SECONDS: i64 = 300;
/// Names of one certificate; the gateway reads no more.
const NAMES_MAX: usize = 100;

/// `id-pe-authorityInfoAccess` (RFC 5280 §4.2.2.1).
const ID_AUTHORITY_INFO_ACCESS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
/// `id-ad-ocsp` and `id-ad-caIssuers` with their tags.
const ID_AD_OCSP: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];
const ID_AD_CA_ISSUERS: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2];
/// `id-pe-tlsfeature` (RFC 7633), and the feature `status_request` as its value.
const ID_TLS_FEATURE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
const STATUS_REQUEST: [u8; 5] = [SEQUENCE, 3, 2, 1, 5];
const SEQUENCE: u8 = 0x30;
/// uniformResourceIdentifier of GeneralName.
const URI: u8 = 0x86;

/// What is to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The common name, and the name of the files.
    pub name: String,
    /// [`Kind::Server`] or [`Kind::Device`].
    pub kind: Kind,
    /// The subject alternative name.
    pub names: Vec<AlternativeName>,
    /// How long it lives.
    pub days: u32,
    /// The kind of its key.
    pub key: KeyKind,
    /// Whoever serves it must staple (RFC 7633).
    pub must_staple: bool,
}

/// A part of the subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlternativeName {
    /// A host name; `*.` may stand before it.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A URI.
    Uri(String),
    /// An email address.
    Email(String),
}

impl AlternativeName {
    fn encoded(&self) -> Result<SanType, PkiError> {
        let is_word =
            |text: &str| text.is_ascii() && !text.contains(|c: char| c <= ' ' || c == '\x7f');
        let (kind, text) = match self {
            Self::Ip(address) => return Ok(SanType::IpAddress(*address)),
            Self::Dns(name) => ("host name", name),
            Self::Uri(uri) => ("URI", uri),
            Self::Email(address) => ("email address", address),
        };
        let is_right = is_word(text)
            && match self {
                Self::Uri(uri) => Url::parse(uri).is_ok(),
                Self::Email(address) => matches!(
                    address.split_once('@'),
                    Some((user, host)) if !user.is_empty() && DnsName::try_from(host).is_ok()
                ),
                _ => DnsName::try_from(text.strip_prefix("*.").unwrap_or(text)).is_ok(),
            };
        if !is_right {
            return Err(PkiError::AlternativeName(kind, text.clone()));
        }
        let text = text.as_str().try_into()?;
        Ok(match self {
            Self::Uri(_) => SanType::URI(text),
            Self::Email(_) => SanType::Rfc822Name(text),
            _ => SanType::DnsName(text),
        })
    }
}

impl std::fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(text) | Self::Uri(text) | Self::Email(text) => f.write_str(text),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// RSA of 2048 bits.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    pub(super) fn generate(self) -> Result<KeyPair, PkiError> {
        Ok(match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        }?)
    }
}

/// From when until when; seconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    not_before: i64,
    not_after: i64,
}

impl Life {
    pub(super) fn from(now: i64, days: u32) -> Self {
        let not_after = now.saturating_add(i64::from(days).saturating_mul(DAY));
        Self { not_before: now.saturating_sub(BACKDATED_SECONDS), not_after }
    }

    /// It ends with `other` at the latest.
    pub(super) fn within(self, other: Self) -> Self {
        Self { not_after: self.not_after.min(other.not_after), ..self }
    }
}

/// What was made.
pub(super) struct Made {
    pub(super) entry: Entry,
    pub(super) pem: String,
    pub(super) key: Zeroizing<String>,
    pub(super) names: Vec<String>,
}

/// A certificate of a server or a device (RFC 5280 §4.2, RFC 5280 §4.2.1.12).
pub(super) fn end_entity(
    request: &Request,
    issuer: &Authority,
    database: &Database,
    now: i64,
) -> Result<Made, PkiError> {
    let mut params = params(&database.name, &request.name, life(request, issuer, now)?)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match request.kind {
        Kind::Device => ExtendedKeyUsagePurpose::ClientAuth,
        _ => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    if request.names.len() > NAMES_MAX {
        let what = format!("a list of {} names, more than {NAMES_MAX}", request.names.len());
        return Err(PkiError::AlternativeName("certificate's subject alternative name", what));
    }
    params.subject_alt_names =
        request.names.iter().map(AlternativeName::encoded).collect::<Result<_, _>>()?;
    add_sources(&mut params, issuer.name, &database.url);
    if request.must_staple {
        let feature = CustomExtension::from_oid_content(ID_TLS_FEATURE, STATUS_REQUEST.to_vec());
        params.custom_extensions.push(feature);
    }
    let key = request.key.generate()?;
    let made = params.signed_by(&key, &issuer.issuer)?;
    let certificate = parsed(made.der())?;
    Ok(Made {
        entry: Entry::of(&certificate, &request.name, request.kind, issuer.name),
        pem: made.pem(),
        key: key_pem(&key)?,
        names: request.names.iter().map(ToString::to_string).collect(),
    })
}

/// A certificate that outlives its issuer would say something that does not hold.
fn life(request: &Request, issuer: &Authority, now: i64) -> Result<Life, PkiError> {
    if !(1..=DAYS_MAX).contains(&request.days) {
        return Err(PkiError::DayCount(request.days));
    }
    let life = Life::from(now, request.days);
    if life.not_after > issuer.certificate.not_after {
        let left = issuer.certificate.not_after.saturating_sub(now) / DAY;
        let issuer = issuer.certificate.subject.clone();
        return Err(PkiError::Days { days: request.days, issuer, left });
    }
    Ok(life)
}

/// What all certificates have: a subject, a random serial number, and a life.
pub(super) fn params(
    organization: &str,
    common_name: &str,
    life: Life,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, organization);
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    params.not_before = time_of(life.not_before)?;
    params.not_after = time_of(life.not_after)?;
    Ok(params)
}

/// As the library of certificates has times.
pub(super) fn time_of(seconds: i64) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::Make(rcgen::Error::Time))
}

/// Where OCSP of what `issuer` issued is answered, and where its certificate is.
pub(super) fn authority_information_access(issuer: AuthorityName, url: &str) -> CustomExtension {
    let ocsp = format!("{url}/ocsp");
    let certificate = format!("{url}/{}", issuer.certificate_file());
    let ocsp = field(SEQUENCE, &[ID_AD_OCSP, &field(URI, &[ocsp.as_bytes()])]);
    let issuer = field(SEQUENCE, &[ID_AD_CA_ISSUERS, &field(URI, &[certificate.as_bytes()])]);
    CustomExtension::from_oid_content(ID_AUTHORITY_INFO_ACCESS, field(SEQUENCE, &[&ocsp, &issuer]))
}

/// What was made is read as the gateway reads it: what it would refuse is not issued.
pub(super) fn parsed(der: &CertificateDer<'static>) -> Result<Certificate, PkiError> {
    Certificate::parse(der.clone()).map_err(|error: CertificateError| {
        PkiError::Damaged("the new certificate".to_owned(), error.to_string())
    })
}

/// A key as PKCS#8 of version 1: OpenSSL 3.0 does not read version 2, in which Ed25519 keys come.
pub(super) fn key_pem(key: &KeyPair) -> Result<Zeroizing<String>, PkiError> {
    let unusable = |error: &dyn std::fmt::Display| PkiError::Sign(error.to_string());
    let info = PrivateKeyInfo::try_from(key.serialized_der()).map_err(|error| unusable(&error))?;
    let info = PrivateKeyInfo::new(info.algorithm, info.private_key);
    let document = SecretDocument::try_from(&info).map_err(|error| unusable(&error))?;
    Ok(document.to_pem("PRIVATE KEY", LineEnding::LF)?)
}
