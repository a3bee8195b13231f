//! Devices that were imported: user name and password, a certificate, or both.
//!
//! An unknown device takes as long as a wrong password, and is told the same.

use std::sync::Arc;

use portreeve_mqtt::ReasonCode;

use super::{Admission, Claim, STAGE, check_lockout, permissions};
use crate::attempts::Trail;
use crate::devices::password::HasherBusy;
use crate::devices::{Candidate, Certified, Entry, Origin};
use crate::reason::Refusal;

/// Decides about a CONNECT.
pub(super) async fn verify(claim: Claim<'_>, trail: &mut Trail) -> Result<Admission, Refusal> {
    let broker = &claim.gateway.broker;
    let shown = claim.peer.certificate().map(|certificate| Certified {
        fingerprint: certificate.fingerprint,
        common_name: certificate.common_name.as_deref(),
    });
    let registry = &broker.registry;
    let candidate = registry.candidate(&claim.gateway.product, claim.user_name(), shown);
    if let Some(Candidate { entry, is_certified: true }) = &candidate
        && !entry.needs_password()
    {
        // There is nothing to guess, so there is nothing to lock out of.
        trail.passed(STAGE, format!("its certificate is that of {}", entry.device.name));
        return admitted(claim, Arc::clone(entry));
    }
    let attempt = claim.attempt();
    check_lockout(claim, attempt)?;
    let is_right = has_password(claim, candidate.as_ref(), trail).await?;
    let proven = candidate.filter(|_| is_right).map(|candidate| candidate.entry);
    let Some(entry) = proven else {
        broker.lockout.failed(attempt, tokio::time::Instant::now());
        let message = match shown {
            None => "unknown device or wrong password",
            Some(_) => "unknown device, wrong password or another device's certificate",
        };
        return Err(Refusal::new(ReasonCode::BadUserNameOrPassword, message));
    };
    broker.lockout.succeeded(attempt);
    admitted(claim, entry)
}

/// The device of an entry that was proven.
fn admitted(claim: Claim<'_>, entry: Arc<Entry>) -> Result<Admission, Refusal> {
    if !entry.device.enabled {
        let message = format!("device {} is disabled", entry.device.name);
        return Err(Refusal::new(ReasonCode::NotAuthorized, message));
    }
    // A certificate proves the user name of its device, and none that CONNECT makes up.
    let permissions = permissions(claim, &entry.device, entry.credentials.user_name.as_deref());
    Ok(Admission::for_ever(entry.device.clone(), Some(entry), permissions))
}

/// Whether the password is the candidate's. Takes as long where there is none.
async fn has_password(
    claim: Claim<'_>,
    candidate: Option<&Candidate>,
    trail: &mut Trail,
) -> Result<bool, Refusal> {
    let broker = &claim.gateway.broker;
    let password = claim.connect.password.unwrap_or_default();
    let key = broker.registry.key();
    // A certificate is of the device whose user name it is sent with.
    let candidate = candidate.filter(|candidate| {
        !candidate.is_certified
            || candidate.entry.credentials.user_name.as_deref() == Some(claim.user_name())
    });
    let standing = candidate.map(|candidate| &candidate.entry.standing);
    if let Some(proof) = standing.and_then(|standing| standing.proof())
        && key.is_of(&proof, password)
    {
        trail.passed(STAGE, "the password is right, as it was before");
        return Ok(true);
    }
    let hash = candidate.and_then(|candidate| candidate.entry.credentials.password.clone());
    let is_own = hash.as_ref().is_none_or(|hash| broker.hasher.is_own(hash));
    let busy = |HasherBusy { retry_after }| {
        broker.metrics.passwords_not_checked.add(1);
        let message = "too many devices connect at once";
        Refusal::new(ReasonCode::ServerBusy, message).retry_after(retry_after)
    };
    let is_right = broker.hasher.is_of(hash, password).await.map_err(busy)?;
    if !is_right && !is_own {
        // Hashes that came from elsewhere may be cheaper; the time is not to tell of them.
        let _never = broker.hasher.is_of(None, password).await.map_err(busy)?;
    }
    match candidate {
        Some(candidate) if is_right => {
            candidate.entry.standing.prove(key.proof(password));
            trail.passed(STAGE, "the password is right");
        }
        Some(candidate) => {
            let (name, origin) = (&candidate.entry.device.name, candidate.entry.device.origin);
            let why = match origin {
                Origin::AutoCreated => "it has no password: a verifier made it",
                Origin::Configured | Origin::Imported => "its password is another",
            };
            trail.note(STAGE, format!("device {name} is meant; {why}"));
        }
        None => {
            trail.note(STAGE, "no device of this product has this user name (and certificate)");
        }
    }
    Ok(is_right)
}
