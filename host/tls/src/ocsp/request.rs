//! A request for the status of one certificate (RFC 6960 §4.1), and how it travels.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::default_provider;
use sha2::Digest;
use url::Url;

use crate::Certificate;
use crate::asn1::field;

/// Bytes of a nonce (RFC 9654 §2.1).
const NONCE_BYTES: usize = 32;
/// Bytes of an encoded request that is asked with GET; longer ones are posted (RFC 5019 §5).
const GET_BYTES_MAX: usize = 255;
/// Bytes of a serial number that is asked for; the standard has 20 (RFC 5280 §4.1.2.2).
const SERIAL_BYTES_MAX: usize = 64;

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 4;
const INTEGER: u8 = 2;
/// `[2]` EXPLICIT, of requestExtensions.
const REQUEST_EXTENSIONS: u8 = 0xa2;
/// AlgorithmIdentifier of SHA-1 with NULL.
const SHA_1: &[u8] = &[SEQUENCE, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0];
/// AlgorithmIdentifier of SHA-256 with NULL.
const SHA_256: &[u8] = &[SEQUENCE, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0];
/// `id-pkix-ocsp-nonce` with its tag.
const ID_NONCE: &[u8] = &[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];

/// How the issuer is named in a request. It proves nothing, so that SHA-1 does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateIdHash {
    /// What every responder knows (RFC 5019 §2.1.1).
    #[default]
    Sha1,
    /// For responders that want it.
    Sha256,
}

impl CertificateIdHash {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => <sha1::Sha1 as sha1::Digest>::digest(bytes).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        }
    }
}

/// Why there is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No random numbers for the nonce.
    #[error("there are no random numbers")]
    NoRandom,
    /// Too long for anything.
    #[error("the serial number has more than {SERIAL_BYTES_MAX} bytes")]
    Serial,
}

/// An encoded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    der: Vec<u8>,
    nonce: Option<[u8; NONCE_BYTES]>,
}

impl Request {
    /// Asks for a certificate of `issuer`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn new(
        issuer: &Certificate,
        certificate: &Certificate,
        hash: CertificateIdHash,
        with_nonce: bool,
    ) -> Result<Self, RequestError> {
        let nonce = with_nonce.then(random).transpose()?;
        let der = encode(issuer, &certificate.serial, hash, nonce.as_ref())?;
        Ok(Self { der, nonce })
    }

    /// DER of the OCSPRequest.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The nonce in it.
    #[must_use]
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_ref().map(<[u8; NONCE_BYTES]>::as_slice)
    }

    /// Where to get the response (RFC 6960 §A.1): base64 with `+`, `/` and `=` escaped, after the
    /// responder's path. `None` where it is too long, or where the URL has a query that it would
    /// tear apart.
    #[must_use]
    pub fn get_url(&self, responder: &Url) -> Option<Url> {
        let mut escaped = String::with_capacity(GET_BYTES_MAX);
        for character in STANDARD.encode(&self.der).chars() {
            match character {
                '+' => escaped.push_str("%2B"),
                '/' => escaped.push_str("%2F"),
                '=' => escaped.push_str("%3D"),
                other => escaped.push(other),
            }
        }
        if escaped.len() > GET_BYTES_MAX || responder.query().is_some() {
            return None;
        }
        let mut url = responder.clone();
        url.set_fragment(None);
        url.set_path(&format!("{}/{escaped}", responder.path().trim_end_matches('/')));
        Some(url)
    }
}

fn random() -> Result<[u8; NONCE_BYTES], RequestError> {
    let mut nonce = [0; NONCE_BYTES];
    let random = default_provider().secure_random;
    random.fill(&mut nonce).map_err(|_| RequestError::NoRandom)?;
    Ok(nonce)
}

fn encode(
    issuer: &Certificate,
    serial: &[u8],
    hash: CertificateIdHash,
    nonce: Option<&[u8; NONCE_BYTES]>,
) -> Result<Vec<u8>, RequestError> {
    if serial.len() > SERIAL_BYTES_MAX {
        return Err(RequestError::Serial);
    }
    let algorithm = match hash {
        CertificateIdHash::Sha1 => SHA_1,
        CertificateIdHash::Sha256 => SHA_256,
    };
    // Positive: a first bit of one gets a zero byte before it. Zero is one zero byte.
    let is_padded = serial.first().is_none_or(|byte| byte & 0x80 != 0);
    let padding: &[u8] = if is_padded { &[0] } else { &[] };
    let id = field(
        SEQUENCE,
        &[
            algorithm,
            &field(OCTET_STRING, &[&hash.digest(&issuer.subject_der)]),
            &field(OCTET_STRING, &[&hash.digest(&issuer.public_key)]),
            &field(INTEGER, &[padding, serial]),
        ],
    );
    let list = field(SEQUENCE, &[&field(SEQUENCE, &[&id])]);
    let extensions = nonce.map_or_else(Vec::new, |nonce| {
        let value = field(OCTET_STRING, &[&field(OCTET_STRING, &[nonce])]);
        let extension = field(SEQUENCE, &[ID_NONCE, &value]);
        field(REQUEST_EXTENSIONS, &[&field(SEQUENCE, &[&extension])])
    });
    Ok(field(SEQUENCE, &[&field(SEQUENCE, &[&list, &extensions])]))
}
