//! CRLs of the authorities (RFC 5280 §5): all that they revoked, whether its time is over or not.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};

use super::authority::Authority;
use super::database::{Database, Entry};
use super::issue::time_of;
use super::{DAY, PkiError};
use crate::revocation::RevocationReason;

/// The CRL of an authority in PEM.
pub(super) fn signed(
    authority: &Authority,
    database: &Database,
    days: u32,
    now: i64,
) -> Result<String, PkiError> {
    let issued = database.certificates.iter().filter(|entry| entry.issuer == authority.name);
    let params = CertificateRevocationListParams {
        this_update: time_of(now)?,
        next_update: time_of(now.saturating_add(i64::from(days).saturating_mul(DAY)))?,
        crl_number: SerialNumber::from(database.crl_number),
        issuing_distribution_point: None,
        revoked_certs: issued
            .filter_map(|entry| entry_of(entry).transpose())
            .collect::<Result<_, _>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(&authority.issuer)?.pem()?)
}

fn entry_of(entry: &Entry) -> Result<Option<RevokedCertParams>, PkiError> {
    let Some(revoked) = entry.revoked else { return Ok(None) };
    let serial = hex::decode(&entry.serial)
        .map_err(|error| PkiError::Damaged(entry.serial.clone(), error.to_string()))?;
    Ok(Some(RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial),
        revocation_time: time_of(revoked.since)?,
        reason_code: Some(reason(revoked.reason)),
        invalidity_date: None,
    }))
}

/// The reason as the library of certificates has it.
const fn reason(reason: RevocationReason) -> rcgen::RevocationReason {
    use rcgen::RevocationReason as Written;
    match reason {
        RevocationReason::Unspecified => Written::Unspecified,
        RevocationReason::KeyCompromise => Written::KeyCompromise,
        RevocationReason::CaCompromise => Written::CaCompromise,
        RevocationReason::AffiliationChanged => Written::AffiliationChanged,
        RevocationReason::Superseded => Written::Superseded,
        RevocationReason::CessationOfOperation => Written::CessationOfOperation,
        RevocationReason::CertificateHold => Written::CertificateHold,
        RevocationReason::RemoveFromCrl => Written::RemoveFromCrl,
        RevocationReason::PrivilegeWithdrawn => Written::PrivilegeWithdrawn,
        RevocationReason::AaCompromise => Written::AaCompromise,
    }
}
