//! Signatures of OCSP responses and CRLs, verified by the provider of rustls. What it has no
//! algorithm for is refused: SHA-1, MD5, RSA of less than 2048 bits.

use std::sync::LazyLock;

use der::Tag;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;

use crate::asn1::Fields;

static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| default_provider().signature_verification_algorithms);

/// The algorithms of the provider.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    *ALGORITHMS
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureFault {
    /// Algorithm or kind of key that is not worked with.
    Unsupported,
    /// Made by another key, or over something else.
    Wrong,
}

/// Something that is signed, as certificates, OCSP responses and CRLs have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// What is signed, with its tag.
    pub(crate) message: &'a [u8],
    /// The content of the AlgorithmIdentifier.
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// The next three fields.
    pub(crate) fn read(fields: &mut Fields<'a>) -> der::Result<Self> {
        Ok(Self {
            message: fields.whole(Tag::Sequence)?,
            algorithm: fields.value(Tag::Sequence)?,
            signature: fields.bits()?,
        })
    }

    /// Verifies it with the key of a SubjectPublicKeyInfo.
    pub(crate) fn verify(&self, spki_der: &[u8]) -> Result<(), SignatureFault> {
        let (key_algorithm, key) = read_spki(spki_der).map_err(|_| SignatureFault::Unsupported)?;
        let mut fault = SignatureFault::Unsupported;
        for algorithm in algorithms().all {
            if algorithm.signature_alg_id().as_ref() != self.algorithm
                || algorithm.public_key_alg_id().as_ref() != key_algorithm
            {
                continue;
            }
            match algorithm.verify_signature(key, self.message, self.signature) {
                Ok(()) => return Ok(()),
                Err(_) => fault = SignatureFault::Wrong,
            }
        }
        Err(fault)
    }
}

fn read_spki(spki_der: &[u8]) -> der::Result<(&[u8], &[u8])> {
    let mut fields = Fields::of(spki_der)?;
    let algorithm = fields.value(Tag::Sequence)?;
    let key = fields.bits()?;
    fields.end()?;
    Ok((algorithm, key))
}
