//! Who may sign a response (RFC 6960 §4.2.2.2): the issuer of the certificate in question, or
//! somebody to whom that issuer gave a certificate for it.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::asn1_rs::{Oid, oid};
use x509_parser::prelude::FromDer;

use super::wire::Basic;
use super::{ResponseFault, Rules};
use crate::Certificate;
use crate::signature::{SignatureFault, algorithms};

/// `id-kp-OCSPSigning`, 1.3.6.1.5.5.7.3.9.
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
/// `id-pkix-ocsp-nocheck`.
const NOCHECK: Oid<'static> = oid!(1.3.6.1.5.5.7.48.1.5);

/// Verifies that somebody signed the response who may.
pub(super) fn verify(
    basic: &Basic<'_>,
    issuer: &Certificate,
    now: i64,
    rules: &Rules,
) -> Result<(), ResponseFault> {
    let mut fault = ResponseFault::NoSigner;
    if basic.responder.means(&issuer.subject_der, &issuer.public_key) {
        match verify_signature(basic, &issuer.spki_der) {
            Ok(()) => return Ok(()),
            Err(error) => fault = error,
        }
    }
    for der in &basic.certificates {
        match verify_delegate(der, basic, issuer, now, rules) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

/// Whether this certificate is the responder that the response names, and signed it.
fn verify_delegate(
    der: &[u8],
    basic: &Basic<'_>,
    issuer: &Certificate,
    now: i64,
    rules: &Rules,
) -> Result<bool, ResponseFault> {
    // The issuer's own certificate came with it, as OpenSSL does: that key was tried.
    if der == issuer.der().as_ref() {
        return Ok(false);
    }
    let Ok(([], fields)) = X509Certificate::from_der(der) else { return Ok(false) };
    let spki = fields.public_key();
    if !basic.responder.means(fields.subject().as_raw(), &spki.subject_public_key.data) {
        return Ok(false);
    }
    verify_authority(der, issuer, now)?;
    let nocheck = fields
        .get_extension_unique(&NOCHECK)
        .map_err(|error| ResponseFault::Delegate(error.to_string()))?;
    if nocheck.is_none() && !rules.accept_delegate_without_nocheck {
        return Err(ResponseFault::DelegateWithoutNocheck);
    }
    verify_signature(basic, spki.raw)?;
    Ok(true)
}

/// The delegate's certificate is issued directly by the issuer, for OCSP, and valid now. The issuer
/// is the only anchor, and there are no intermediates: a sibling authority under the same root
/// cannot delegate.
fn verify_authority(der: &[u8], issuer: &Certificate, now: i64) -> Result<(), ResponseFault> {
    let refused = |error: webpki::Error| ResponseFault::Delegate(error.to_string());
    let der = CertificateDer::from(der);
    let delegate = EndEntityCert::try_from(&der).map_err(refused)?;
    let anchors = [anchor_from_trusted_cert(issuer.der()).map_err(refused)?];
    let since_epoch = Duration::from_secs(u64::try_from(now).unwrap_or(0));
    delegate
        .verify_for_usage(
            algorithms().all,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(since_epoch),
            KeyUsage::required(OCSP_SIGNING),
            None,
            None,
        )
        .map_err(refused)?;
    Ok(())
}

fn verify_signature(basic: &Basic<'_>, spki_der: &[u8]) -> Result<(), ResponseFault> {
    basic.signed.verify(spki_der).map_err(|fault| match fault {
        SignatureFault::Unsupported => ResponseFault::Algorithm,
        SignatureFault::Wrong => ResponseFault::Signature,
    })
}
