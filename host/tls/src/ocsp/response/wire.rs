//! A response as it is encoded (RFC 6960 §4.2.1), read without judging what it says. Strictly DER,
//! with one exception: a `version` that is the default may be written out, as OpenSSL accepts it.
//! The signature is verified over the bytes as they are, so that nothing depends on how they would
//! be encoded again.

use der::{Tag, TagNumber};
use sha2::Digest;

use super::{Question, ResponseFault};
use crate::asn1::{Extension, Fields, constructed, magnitude, primitive};
use crate::ocsp::outcome::Unavailable;
use crate::revocation::{RevocationReason, Revoked};
use crate::signature::Signed;

/// Answers in one response.
const RESPONSES_MAX: usize = 1024;
/// Certificates in one response: delegates, and what some responders add to them.
const CERTIFICATES_MAX: usize = 8;

/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1.
const ID_BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// `id-pkix-ocsp-nonce`, …48.1.2.
const ID_NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
/// `id-pkix-ocsp-crl`, …48.1.3: where the answer comes from.
const ID_CRL: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 3];
/// `id-pkix-ocsp-archive-cutoff`, …48.1.6: how far back it goes.
const ID_ARCHIVE_CUTOFF: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 6];
/// `id-pkix-ocsp-extended-revoke`, …48.1.9: certificates that were never issued are revoked.
const ID_EXTENDED_REVOKE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 9];

const SHA_1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const SHA_384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
const SHA_512: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];

/// OCSPResponse.
#[derive(Debug)]
pub(super) enum Outer<'a> {
    Unsuccessful(Unavailable),
    /// DER of the BasicOCSPResponse.
    Successful(&'a [u8]),
}

impl<'a> Outer<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ResponseFault> {
        let mut fields = Fields::of(bytes)?;
        let unsuccessful = match fields.enumerated()? {
            0 => None,
            1 => Some(Unavailable::MalformedRequest),
            2 => Some(Unavailable::InternalError),
            3 => Some(Unavailable::TryLater),
            5 => Some(Unavailable::SigRequired),
            6 => Some(Unavailable::Unauthorized),
            _ => return Err(Tag::Enumerated.value_error().into()),
        };
        let response_bytes = fields.optional(constructed(TagNumber::N0))?;
        fields.end()?;
        match (unsuccessful, response_bytes) {
            // §4.2.1: with an error there are no responseBytes.
            (Some(status), None) => Ok(Self::Unsuccessful(status)),
            (Some(_), Some(_)) | (None, None) => Err(Tag::Enumerated.value_error().into()),
            (None, Some(response_bytes)) => {
                let mut fields = Fields::of(response_bytes)?;
                let kind = fields.value(Tag::ObjectIdentifier)?;
                let response = fields.value(Tag::OctetString)?;
                fields.end()?;
                if kind == ID_BASIC {
                    Ok(Self::Successful(response))
                } else {
                    Err(ResponseFault::Type)
                }
            }
        }
    }
}

/// BasicOCSPResponse.
#[derive(Debug)]
pub(super) struct Basic<'a> {
    pub(super) signed: Signed<'a>,
    /// Those that came with it, each with its tag.
    pub(super) certificates: Vec<&'a [u8]>,
    pub(super) responder: ResponderId<'a>,
    pub(super) produced_at: i64,
    pub(super) responses: Vec<Single<'a>>,
    pub(super) nonce: Option<&'a [u8]>,
}

/// ResponderID.
#[derive(Debug, Clone, Copy)]
pub(super) enum ResponderId<'a> {
    /// DER of the name.
    ByName(&'a [u8]),
    /// SHA-1 of the public key.
    ByKey(&'a [u8]),
}

impl<'a> Basic<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ResponseFault> {
        let mut fields = Fields::of(bytes)?;
        let signed = Signed::read(&mut fields)?;
        let certificates = match fields.optional(constructed(TagNumber::N0))? {
            Some(list) => read_certificates(list)?,
            None => Vec::new(),
        };
        fields.end()?;

        let mut tbs = Fields::of(signed.message)?;
        if let Some(version) = tbs.optional(constructed(TagNumber::N0))? {
            read_version(version)?;
        }
        let responder = ResponderId::read(&mut tbs)?;
        let produced_at = tbs.generalized_time()?;
        let responses = read_responses(tbs.sequence()?)?;
        let extensions = match tbs.optional(constructed(TagNumber::N1))? {
            Some(extensions) => read_extensions(extensions)?,
            None => Vec::new(),
        };
        tbs.end()?;
        refuse_unknown_critical(&extensions, &[ID_NONCE, ID_EXTENDED_REVOKE])?;
        let nonce = extensions.iter().find(|extension| extension.id == ID_NONCE);
        let nonce = nonce.map(|extension| read_nonce(extension.value)).transpose()?;
        Ok(Self { signed, certificates, responder, produced_at, responses, nonce })
    }
}

fn read_certificates(list: &[u8]) -> Result<Vec<&[u8]>, ResponseFault> {
    let mut list = Fields::of(list)?;
    let mut certificates = Vec::new();
    while !list.is_empty() {
        if certificates.len() >= CERTIFICATES_MAX {
            return Err(Tag::Sequence.value_error().into());
        }
        certificates.push(list.whole(Tag::Sequence)?);
    }
    Ok(certificates)
}

/// v1 is the only version, and the default.
fn read_version(explicit: &[u8]) -> Result<(), ResponseFault> {
    let mut fields = Fields::new(explicit)?;
    let version = fields.integer()?;
    fields.end()?;
    if version == [0] { Ok(()) } else { Err(Tag::Integer.value_error().into()) }
}

fn read_nonce(value: &[u8]) -> Result<&[u8], ResponseFault> {
    let mut fields = Fields::new(value)?;
    let nonce = fields.value(Tag::OctetString)?;
    fields.end()?;
    Ok(nonce)
}

fn read_extensions(explicit: &[u8]) -> Result<Vec<Extension<'_>>, ResponseFault> {
    let mut fields = Fields::new(explicit)?;
    let extensions = fields.extensions()?;
    fields.end()?;
    Ok(extensions)
}

fn refuse_unknown_critical(
    extensions: &[Extension<'_>],
    known: &[&[u8]],
) -> Result<(), ResponseFault> {
    let unknown =
        |extension: &&Extension<'_>| extension.is_critical && !known.contains(&extension.id);
    match extensions.iter().find(unknown) {
        Some(extension) => Err(ResponseFault::CriticalExtension(extension.name())),
        None => Ok(()),
    }
}

impl<'a> ResponderId<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, ResponseFault> {
        if let Some(name) = fields.optional(constructed(TagNumber::N1))? {
            let mut one = Fields::new(name)?;
            let name = one.whole(Tag::Sequence)?;
            one.end()?;
            return Ok(Self::ByName(name));
        }
        let mut one = Fields::new(fields.value(constructed(TagNumber::N2))?)?;
        let hash = one.value(Tag::OctetString)?;
        one.end()?;
        Ok(Self::ByKey(hash))
    }

    /// Whether it means whoever has this name and this public key. Names are compared byte by byte:
    /// a responder copies its name from its certificate.
    pub(super) fn means(&self, name_der: &[u8], public_key: &[u8]) -> bool {
        match self {
            Self::ByName(name) => *name == name_der,
            Self::ByKey(hash) => *hash == sha1(public_key),
        }
    }
}

/// SHA-1, where the standard has it as a name for a key and not as a proof of anything.
fn sha1(bytes: &[u8]) -> Vec<u8> {
    <sha1::Sha1 as sha1::Digest>::digest(bytes).to_vec()
}

fn read_responses(mut list: Fields<'_>) -> Result<Vec<Single<'_>>, ResponseFault> {
    let mut responses = Vec::new();
    while !list.is_empty() {
        if responses.len() >= RESPONSES_MAX {
            return Err(Tag::Sequence.value_error().into());
        }
        responses.push(Single::read(list.sequence()?)?);
    }
    Ok(responses)
}

/// SingleResponse.
#[derive(Debug)]
pub(super) struct Single<'a> {
    pub(super) id: CertificateId<'a>,
    pub(super) status: SingleStatus,
    pub(super) this_update: i64,
    pub(super) next_update: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum SingleStatus {
    Good,
    Revoked(Revoked),
    Unknown,
}

impl<'a> Single<'a> {
    fn read(mut fields: Fields<'a>) -> Result<Self, ResponseFault> {
        let id = CertificateId::read(fields.sequence()?)?;
        let status = SingleStatus::read(&mut fields)?;
        let this_update = fields.generalized_time()?;
        let next_update = match fields.optional(constructed(TagNumber::N0))? {
            Some(explicit) => {
                let mut one = Fields::new(explicit)?;
                let time = one.generalized_time()?;
                one.end()?;
                Some(time)
            }
            None => None,
        };
        if let Some(extensions) = fields.optional(constructed(TagNumber::N1))? {
            let extensions = read_extensions(extensions)?;
            refuse_unknown_critical(&extensions, &[ID_CRL, ID_ARCHIVE_CUTOFF])?;
        }
        fields.end()?;
        Ok(Self { id, status, this_update, next_update })
    }
}

impl SingleStatus {
    fn read(fields: &mut Fields<'_>) -> Result<Self, ResponseFault> {
        for (number, status) in [(TagNumber::N0, Self::Good), (TagNumber::N2, Self::Unknown)] {
            match fields.optional(primitive(number))? {
                // IMPLICIT NULL.
                Some([]) => return Ok(status),
                Some(_) => return Err(Tag::Null.value_error().into()),
                None => {}
            }
        }
        let mut revoked = Fields::new(fields.value(constructed(TagNumber::N1))?)?;
        let since = revoked.generalized_time()?;
        let reason = match revoked.optional(constructed(TagNumber::N0))? {
            Some(explicit) => {
                let mut one = Fields::new(explicit)?;
                let code = one.enumerated()?;
                one.end()?;
                RevocationReason::from_code(code)
            }
            None => RevocationReason::Unspecified,
        };
        revoked.end()?;
        Ok(Self::Revoked(Revoked { since, reason }))
    }
}

/// CertID.
#[derive(Debug)]
pub(super) struct CertificateId<'a> {
    /// The object identifier of the hash algorithm.
    hash: &'a [u8],
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    /// The content of the INTEGER.
    serial: &'a [u8],
}

impl<'a> CertificateId<'a> {
    fn read(mut fields: Fields<'a>) -> Result<Self, ResponseFault> {
        let mut algorithm = fields.sequence()?;
        let hash = algorithm.value(Tag::ObjectIdentifier)?;
        // Absent or NULL; both are used.
        if algorithm.optional(Tag::Null)?.is_some_and(|null| !null.is_empty()) {
            return Err(Tag::Null.value_error().into());
        }
        algorithm.end()?;
        let id = Self {
            hash,
            name_hash: fields.value(Tag::OctetString)?,
            key_hash: fields.value(Tag::OctetString)?,
            serial: fields.integer()?,
        };
        fields.end()?;
        Ok(id)
    }

    /// Whether it is about the certificate in question, computed anew with the hash that the
    /// responder uses, which need not be that of the request. A negative serial number is never
    /// asked for.
    pub(super) fn is_of(&self, question: &Question<'_>) -> bool {
        let is_negative = self.serial.first().is_some_and(|byte| byte & 0x80 != 0);
        if is_negative || magnitude(self.serial) != question.serial {
            return false;
        }
        let issuer = question.issuer;
        let matches = |digest: fn(&[u8]) -> Vec<u8>| {
            self.name_hash == digest(&issuer.subject_der)
                && self.key_hash == digest(&issuer.public_key)
        };
        match self.hash {
            SHA_1 => matches(sha1),
            SHA_256 => matches(|bytes| sha2::Sha256::digest(bytes).to_vec()),
            SHA_384 => matches(|bytes| sha2::Sha384::digest(bytes).to_vec()),
            SHA_512 => matches(|bytes| sha2::Sha512::digest(bytes).to_vec()),
            _ => false,
        }
    }
}
