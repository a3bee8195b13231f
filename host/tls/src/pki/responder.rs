//! OCSP responses of the authority (RFC 6960 §4.2): bytes of a request in, bytes of a response out.
//! Signatures of requests are not looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use der::asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::SigningKey;
use sha2::Digest;
use spki::AlgorithmIdentifierOwned;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::CrlReason;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse,
    ResponderId, ResponseData, RevokedInfo, SingleResponse, Version,
};

use super::PkiError;
use super::authority::AuthorityName;
use super::database::{self, Database};
use crate::Certificate;
use crate::asn1::magnitude;
use crate::material::{read_certificates, read_key};
use crate::revocation::{RevocationReason, Revoked};

/// Bytes of a request; usual ones have a hundred.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Certificates that one request asks for.
const CERTIFICATES_MAX: usize = 16;
/// Bytes of a nonce (RFC 9654 §2.1).
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 1..=128;

/// `id-pkix-ocsp-nonce`.
const ID_NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
/// `ecdsa-with-SHA256`, which has no parameters (RFC 5758 §3.2).
const ECDSA_WITH_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// Answers for both authorities of a directory.
#[derive(Debug)]
pub struct Responder {
    directory: PathBuf,
    signers: [Signer; 2],
    validity: Duration,
    known: Mutex<Known>,
}

/// The database, and when its file was written.
#[derive(Debug)]
struct Known {
    database: Arc<Database>,
    stamp: Option<(SystemTime, u64)>,
}

/// Who signs what an authority says.
#[derive(Debug)]
struct Signer {
    authority: AuthorityName,
    issuer: Arc<Certificate>,
    certificate: x509_cert::Certificate,
    /// The delegate's, as a responder is named (RFC 6960 §4.2.1).
    key_hash: OctetString,
    key: Arc<dyn SigningKey>,
}

/// A response, and what it says for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// DER of the OCSPResponse.
    pub der: Vec<u8>,
    /// Serial numbers (lower-case hex) and what is said of them; empty where nothing is.
    pub said: Vec<(String, Answered)>,
    /// Why there is no more than a code.
    pub fault: Option<&'static str>,
}

/// What is said of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// Issued, and not revoked.
    Good,
    /// Revoked.
    Revoked(Revoked),
    /// Never issued here.
    Unknown,
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Revoked(revoked) => write!(f, "revoked ({})", revoked.reason),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Why a request is not answered (RFC 6960 §2.3).
enum Fault {
    Malformed,
    Unauthorized,
    Internal(PkiError),
}

impl From<der::Error> for Fault {
    fn from(error: der::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl Responder {
    /// Reads the keys and the database of a directory. What it says is good for `validity`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn open(directory: &Path, validity: Duration) -> Result<Self, PkiError> {
        if !directory.join(database::FILE).is_file() {
            return Err(PkiError::Absent(directory.display().to_string()));
        }
        let signers = [
            Signer::read(directory, AuthorityName::Intermediate)?,
            Signer::read(directory, AuthorityName::Root)?,
        ];
        let stamp = stamp(directory);
        let database = Arc::new(Database::read(directory)?);
        let known = Mutex::new(Known { database, stamp });
        Ok(Self { directory: directory.to_owned(), signers, validity, known })
    }

    /// Answers a request.
    pub fn answer(&self, request: &[u8], now: i64) -> Answer {
        let only = |response: OcspResponse, fault: &'static str| Answer {
            der: response.to_der().unwrap_or_default(),
            said: Vec::new(),
            fault: Some(fault),
        };
        match self.answered(request, now) {
            Ok(answer) => answer,
            Err(Fault::Malformed) => only(OcspResponse::malformed_request(), "malformedRequest"),
            Err(Fault::Unauthorized) => only(OcspResponse::unauthorized(), "unauthorized"),
            Err(Fault::Internal(error)) => {
                tracing::error!("{error}");
                only(OcspResponse::internal_error(), "internalError")
            }
        }
    }

    fn answered(&self, request: &[u8], now: i64) -> Result<Answer, Fault> {
        if request.len() > REQUEST_BYTES_MAX {
            return Err(Fault::Malformed);
        }
        let request = OcspRequest::from_der(request).map_err(|_| Fault::Malformed)?.tbs_request;
        let asked: Vec<CertId> =
            request.request_list.into_iter().map(|asked| asked.req_cert).collect();
        let Some(first) = asked.first() else { return Err(Fault::Malformed) };
        if asked.len() > CERTIFICATES_MAX {
            return Err(Fault::Malformed);
        }
        let nonce = nonce(request.request_extensions.unwrap_or_default())?;
        // One delegate signs the response, so that all must be of its authority.
        let signer = self.signers.iter().find(|signer| signer.is_for(first));
        let signer = signer.ok_or(Fault::Unauthorized)?;
        if !asked.iter().all(|id| signer.is_for(id)) {
            return Err(Fault::Unauthorized);
        }
        let database = self.database().map_err(Fault::Internal)?;
        let this_update = time(now)?;
        let until = now.saturating_add(crate::clock::whole_seconds(self.validity));
        let next_update = Some(time(until)?);
        let mut said = Vec::with_capacity(asked.len());
        let mut responses = Vec::with_capacity(asked.len());
        for cert_id in asked {
            let (serial, answered) = look_up(&database, signer.authority, &cert_id);
            responses.push(SingleResponse {
                cert_id,
                cert_status: status(answered)?,
                this_update,
                next_update,
                single_extensions: None,
            });
            said.push((serial, answered));
        }
        let data = ResponseData {
            version: Version::V1,
            responder_id: ResponderId::ByKey(signer.key_hash.clone()),
            produced_at: this_update,
            responses,
            response_extensions: nonce.map(|nonce| vec![nonce]),
        };
        Ok(Answer { der: signer.sign(data)?, said, fault: None })
    }

    /// The database as it is now. One that cannot be read stays unknown: what it was before may be
    /// milder.
    fn database(&self) -> Result<Arc<Database>, PkiError> {
        // Looked at first: a change while it is read is seen by the next request.
        let now = stamp(&self.directory);
        let mut known = self.known.lock();
        if now.is_none() || known.stamp != now {
            known.stamp = None;
            known.database = Arc::new(Database::read(&self.directory)?);
            known.stamp = now;
        }
        Ok(Arc::clone(&known.database))
    }
}

impl Signer {
    fn read(directory: &Path, authority: AuthorityName) -> Result<Self, PkiError> {
        let only = |name: &str| {
            let path = directory.join(name);
            let first = read_certificates(&path)?.into_iter().next();
            first.ok_or_else(|| {
                PkiError::Damaged(path.display().to_string(), "it is empty".to_owned())
            })
        };
        let issuer = only(authority.certificate_file())?;
        let name = authority.responder();
        let delegate = only(&format!("{name}.crt"))?;
        let key = read_key(&directory.join(format!("{name}.key")), None)?;
        let key = default_provider().key_provider.load_private_key(key);
        Ok(Self {
            authority,
            issuer,
            certificate: x509_cert::Certificate::from_der(delegate.der())?,
            key_hash: OctetString::new(sha1(&delegate.public_key))?,
            key: key.map_err(|error| PkiError::Sign(error.to_string()))?,
        })
    }

    /// Whether its authority is the one that a request names (RFC 6960 §4.1.1).
    fn is_for(&self, id: &CertId) -> bool {
        let is = |digest: &dyn Fn(&[u8]) -> Vec<u8>| {
            digest(&self.issuer.subject_der) == id.issuer_name_hash.as_bytes()
                && digest(&self.issuer.public_key) == id.issuer_key_hash.as_bytes()
        };
        match id.hash_algorithm.oid {
            SHA_1 => is(&sha1),
            SHA_256 => is(&|bytes| sha2::Sha256::digest(bytes).to_vec()),
            SHA_384 => is(&|bytes| sha2::Sha384::digest(bytes).to_vec()),
            SHA_512 => is(&|bytes| sha2::Sha512::digest(bytes).to_vec()),
            _ => false,
        }
    }

    fn sign(&self, data: ResponseData) -> Result<Vec<u8>, Fault> {
        let failed = |why: String| Fault::Internal(PkiError::Sign(why));
        let signer = self
            .key
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])
            .ok_or_else(|| failed("the responder's key is not of P-256".to_owned()))?;
        let signature = signer.sign(&data.to_der()?).map_err(|error| failed(error.to_string()))?;
        let basic = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: AlgorithmIdentifierOwned {
                oid: ECDSA_WITH_SHA_256,
                parameters: None,
            },
            signature: BitString::from_bytes(&signature)?,
            certs: Some(vec![self.certificate.clone()]),
        };
        Ok(OcspResponse::successful(basic)?.to_der()?)
    }
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    <sha1::Sha1 as sha1::Digest>::digest(bytes).to_vec()
}

/// The nonce, which goes back as it came (RFC 9654 §2.1).
fn nonce(extensions: Vec<Extension>) -> Result<Option<Extension>, Fault> {
    let mut nonces = extensions.into_iter().filter(|extension| extension.extn_id == ID_NONCE);
    let Some(nonce) = nonces.next() else { return Ok(None) };
    let content = OctetString::from_der(nonce.extn_value.as_bytes());
    let is_right = content.is_ok_and(|content| NONCE_BYTES.contains(&content.as_bytes().len()));
    if is_right && nonces.next().is_none() { Ok(Some(nonce)) } else { Err(Fault::Malformed) }
}

fn look_up(database: &Database, authority: AuthorityName, id: &CertId) -> (String, Answered) {
    let serial = hex::encode(magnitude(id.serial_number.as_bytes()));
    let mut issued = database.certificates.iter().filter(|entry| entry.issuer == authority);
    let answered = match issued.find(|entry| entry.serial == serial) {
        None => Answered::Unknown,
        Some(entry) => entry.revoked.map_or(Answered::Good, Answered::Revoked),
    };
    (serial, answered)
}

fn status(answered: Answered) -> Result<CertStatus, Fault> {
    Ok(match answered {
        Answered::Good => CertStatus::good(),
        Answered::Unknown => CertStatus::unknown(),
        Answered::Revoked(revoked) => CertStatus::revoked(RevokedInfo {
            revocation_time: time(revoked.since)?,
            revocation_reason: reason(revoked.reason),
        }),
    })
}

/// The reason as the library of OCSP has it. One that says nothing is left out, as in CRLs (RFC 5280
/// §5.3.1).
const fn reason(reason: RevocationReason) -> Option<CrlReason> {
    Some(match reason {
        RevocationReason::Unspecified => return None,
        RevocationReason::KeyCompromise => CrlReason::KeyCompromise,
        RevocationReason::CaCompromise => CrlReason::CaCompromise,
        RevocationReason::AffiliationChanged => CrlReason::AffiliationChanged,
        RevocationReason::Superseded => CrlReason::Superseded,
        RevocationReason::CessationOfOperation => CrlReason::CessationOfOperation,
        RevocationReason::CertificateHold => CrlReason::CertificateHold,
        RevocationReason::RemoveFromCrl => CrlReason::RemoveFromCRL,
        RevocationReason::PrivilegeWithdrawn => CrlReason::PrivilegeWithdrawn,
        RevocationReason::AaCompromise => CrlReason::AaCompromise,
    })
}

fn time(seconds: i64) -> Result<OcspGeneralizedTime, der::Error> {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    GeneralizedTime::from_unix_duration(since).map(OcspGeneralizedTime)
}

/// What changes with the file of the database, which is always replaced.
fn stamp(directory: &Path) -> Option<(SystemTime, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = directory.join(database::FILE).metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.ino()))
}
