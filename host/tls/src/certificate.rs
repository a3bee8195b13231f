//! The fields of a certificate (RFC 5280) that the gateway looks at, read once. What they say is
//! proven by whoever verifies the certificate, not here.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS, OID_PKIX_ACCESS_DESCRIPTOR_OCSP,
};
use x509_parser::prelude::FromDer;

mod name;

pub use name::NameError;
use name::{common_name, rfc4514};

/// Bytes of a certificate; those of devices have one or two thousand.
pub const CERTIFICATE_BYTES_MAX: usize = 64 << 10;
/// Names, or URLs of one kind, of a certificate.
const NAMES_MAX: usize = 256;
/// `id-pe-tlsfeature` (RFC 7633).
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// `status_request` among the TLS features, as DER: SEQUENCE of INTEGER 5.
const STATUS_REQUEST: [u8; 3] = [2, 1, 5];

/// SHA-256 of the subject and the public key of an authority.
pub type AuthorityId = [u8; 32];

/// A certificate and its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// SHA-256 of the DER encoding.
    pub fingerprint: [u8; 32],
    /// The subject as RFC 4514 has it.
    pub subject: String,
    /// The one common name of the subject.
    pub common_name: Option<String>,
    /// DNS names of the subject alternative name, in their order.
    pub dns_names: Vec<String>,
    /// Its URIs.
    pub uris: Vec<String>,
    /// Its email addresses.
    pub email_addresses: Vec<String>,
    /// The issuer as RFC 4514 has it.
    pub issuer: String,
    /// Big-endian, without leading zero bytes.
    pub serial: Box<[u8]>,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    /// DER of the subject, with its tag.
    pub subject_der: Box<[u8]>,
    /// DER of the issuer, with its tag.
    pub issuer_der: Box<[u8]>,
    /// DER of the subject public key info, with its tag.
    pub spki_der: Box<[u8]>,
    /// The content of the subject public key's BIT STRING: what OCSP hashes (RFC 6960 §4.1.1).
    pub public_key: Box<[u8]>,
    /// Responders that the certificate names (RFC 5280 §4.2.2.1), in their order.
    pub ocsp_urls: Vec<String>,
    /// Where the issuer's certificate is.
    pub issuer_urls: Vec<String>,
    /// CRL distribution points that are URLs (RFC 5280 §4.2.1.13).
    pub crl_urls: Vec<String>,
    /// A staple is demanded of whoever serves it (RFC 7633).
    pub must_staple: bool,
    /// May issue certificates (basic constraints).
    pub is_authority: bool,
    /// May sign CRLs: its key usage says so, or it has none (RFC 5280 §4.2.1.3).
    pub may_sign_crls: bool,
}

/// Why something is no certificate that the gateway works with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not DER of a certificate.
    #[error("it is no certificate: {0}")]
    Malformed(String),
    /// Larger than anything that a device has.
    #[error("it has {0} bytes, more than {CERTIFICATE_BYTES_MAX}")]
    TooLarge(usize),
    /// Something follows it.
    #[error("{0} bytes follow it")]
    Trailing(usize),
    /// A name that two readers would read differently.
    #[error(transparent)]
    Name(#[from] NameError),
    /// More names than anybody needs.
    #[error("it has more than {NAMES_MAX} names")]
    TooManyNames,
}

impl Certificate {
    /// Reads the fields.
    ///
    /// # Errors
    /// [`CertificateError`]; also for a subject with two common names, and names with NUL: which
    /// device would that be?
    pub fn parse(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLarge(der.len()));
        }
        let malformed = |error: String| CertificateError::Malformed(error);
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CertificateError::Trailing(rest.len()));
        }
        let serial = parsed.raw_serial();
        let leading = serial.iter().take_while(|byte| **byte == 0).count();
        let mut certificate = Self {
            fingerprint: Sha256::digest(&der).into(),
            subject: rfc4514(parsed.subject())?,
            common_name: common_name(parsed.subject())?,
            dns_names: Vec::new(),
            uris: Vec::new(),
            email_addresses: Vec::new(),
            issuer: rfc4514(parsed.issuer())?,
            serial: serial.get(leading..).unwrap_or_default().into(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            subject_der: parsed.subject().as_raw().into(),
            issuer_der: parsed.issuer().as_raw().into(),
            spki_der: parsed.public_key().raw.into(),
            public_key: parsed.public_key().subject_public_key.data.as_ref().into(),
            ocsp_urls: Vec::new(),
            issuer_urls: Vec::new(),
            crl_urls: Vec::new(),
            must_staple: false,
            is_authority: false,
            may_sign_crls: true,
            der: CertificateDer::from(Vec::new()),
        };
        certificate.read_extensions(&parsed)?;
        drop(parsed);
        certificate.der = der;
        Ok(certificate)
    }

    fn read_extensions(&mut self, parsed: &X509Certificate<'_>) -> Result<(), CertificateError> {
        // A second extension of a kind would be read by one reader and not by the other.
        parsed.extensions_map().map_err(|error| CertificateError::Malformed(error.to_string()))?;
        for extension in parsed.iter_extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    self.read_names(&names.general_names)?;
                }
                ParsedExtension::AuthorityInfoAccess(access) => {
                    for description in access.iter() {
                        let list = if description.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP {
                            &mut self.ocsp_urls
                        } else if description.access_method == OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS
                        {
                            &mut self.issuer_urls
                        } else {
                            continue;
                        };
                        push_url(list, &description.access_location)?;
                    }
                }
                ParsedExtension::CRLDistributionPoints(points) => {
                    let names = points.iter().filter_map(|point| point.distribution_point.as_ref());
                    for name in names {
                        let DistributionPointName::FullName(names) = name else { continue };
                        for name in names {
                            push_url(&mut self.crl_urls, name)?;
                        }
                    }
                }
                ParsedExtension::BasicConstraints(constraints) => {
                    self.is_authority = constraints.ca;
                }
                ParsedExtension::KeyUsage(usage) => self.may_sign_crls = usage.crl_sign(),
                _ if extension.oid.to_id_string() == TLS_FEATURE => {
                    let features = extension.value.get(2..).unwrap_or_default();
                    self.must_staple = features.chunks(3).any(|feature| feature == STATUS_REQUEST);
                }
                ParsedExtension::ParseError { error } if extension.critical => {
                    let what = format!("extension {}: {error}", extension.oid.to_id_string());
                    return Err(CertificateError::Malformed(what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_names(&mut self, names: &[GeneralName<'_>]) -> Result<(), CertificateError> {
        if names.len() > NAMES_MAX {
            return Err(CertificateError::TooManyNames);
        }
        for general_name in names {
            let (list, text) = match general_name {
                GeneralName::DNSName(text) => (&mut self.dns_names, text),
                GeneralName::URI(text) => (&mut self.uris, text),
                GeneralName::RFC822Name(text) => (&mut self.email_addresses, text),
                GeneralName::Invalid(..) => {
                    return Err(NameError::NoText("subject alternative name").into());
                }
                _ => continue,
            };
            list.push(name::checked("subject alternative name", text)?.to_owned());
        }
        Ok(())
    }

    /// Names this authority, whichever of its certificates it is: SHA-256 of its subject and its
    /// public key.
    #[must_use]
    pub fn authority_id(&self) -> AuthorityId {
        self.issued_id(&[])
    }

    /// Names the certificate with this serial number that this authority issued. All parts but the
    /// last one say how long they are.
    pub(crate) fn issued_id(&self, serial: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(&self.subject_der);
        hash.update(&self.spki_der);
        hash.update(serial);
        hash.finalize().into()
    }

    /// The DER encoding.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The fingerprint as lower-case hex.
    #[must_use]
    pub fn fingerprint_hex(&self) -> String {
        hex::encode(self.fingerprint)
    }

    /// The serial number as lower-case hex without leading zero byte; `00` for zero.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        if self.serial.is_empty() { "00".to_owned() } else { hex::encode(&self.serial) }
    }

    /// Subject and issuer are the same name. Whether it is signed with its own key is not looked at.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// Whether it is valid at `now` (seconds since the Unix epoch).
    #[must_use]
    pub const fn is_valid_at(&self, now: i64) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

fn push_url(list: &mut Vec<String>, name: &GeneralName<'_>) -> Result<(), CertificateError> {
    let GeneralName::URI(url) = name else { return Ok(()) };
    if list.len() >= NAMES_MAX {
        return Err(CertificateError::TooManyNames);
    }
    list.push((*url).to_owned());
    Ok(())
}
