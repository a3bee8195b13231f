//! Says what TLS of a gateway would do, step by step: whether its own files fit together, and
//! whether a device with this certificate would be let in.

use std::sync::Arc;

use portreeve_tls::Certificate;
use portreeve_tls::peer::PeerVerifier;
use portreeve_tls::revocation::{Decision, Standing};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::config::{Config, GatewayConfig, VerificationConfig};
use crate::credentials::Credentials;
use crate::devices::{Certified, Registry};
use crate::peer::{Peer, PeerTls};
use crate::tls::{Current, Tls};

/// Days before its end at which a certificate is worth a word.
const SOON_DAYS: i64 = 30;

/// How a step came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Good.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What is looked at.
    pub what: String,
    /// How it came out.
    pub result: Outcome,
    /// In words.
    pub why: String,
}

/// The steps of one gateway.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its name.
    pub gateway: String,
    /// In order.
    pub steps: Vec<Step>,
}

impl Report {
    fn step(&mut self, what: &str, result: Outcome, why: impl Into<String>) {
        self.steps.push(Step { what: what.to_owned(), result, why: why.into() });
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.steps.iter().all(|step| step.result != Outcome::Failed)
    }
}

/// The gateways with TLS, or the one of this name.
fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<&'a GatewayConfig>, String> {
    let has_tls = |gateway: &&GatewayConfig| gateway.tls.is_some();
    let is_it = |gateway: &&GatewayConfig| name.is_none_or(|name| gateway.name == name);
    let found: Vec<_> = config.gateways.iter().filter(has_tls).filter(is_it).collect();
    match (found.is_empty(), name) {
        (false, _) => Ok(found),
        (true, Some(name)) => Err(format!("there is no gateway {name:?} with [gateway.tls]")),
        (true, None) => Err("no gateway has [gateway.tls]".to_owned()),
    }
}

/// A configuration with this gateway alone.
fn alone(config: &Config, gateway: &GatewayConfig) -> Config {
    let mut config = config.clone();
    config.gateways = vec![gateway.clone()];
    config
}

/// Loads TLS of one gateway; what is wrong becomes steps.
async fn load(config: &Config, gateway: &GatewayConfig, report: &mut Report) -> Option<Arc<Tls>> {
    match Credentials::start(&alone(config, gateway), TaskTracker::new()).await {
        Ok((_, tls)) => tls.into_values().next(),
        Err(mistakes) => {
            for mistake in mistakes {
                report.step("files", Outcome::Failed, mistake);
            }
            None
        }
    }
}

/// Whether chain, key, staple, CRLs and trust of the gateways fit together.
///
/// # Errors
/// Where there is no such gateway.
pub async fn check(config: &Config, name: Option<&str>) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    for gateway in chosen(config, name)? {
        let mut report = Report { gateway: gateway.name.clone(), steps: Vec::new() };
        if let Some(tls) = load(config, gateway, &mut report).await {
            let current = tls.current();
            own(&mut report, &current);
            match current.generation.verifier() {
                Some(verifier) => clients(&mut report, verifier),
                None => report.step("devices", Outcome::Ok, "are not asked for certificates"),
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

fn own(report: &mut Report, current: &Current) {
    let now = portreeve_tls::now();
    let anchors: Vec<Arc<Certificate>> = current
        .generation
        .verifier()
        .map(|verifier| verifier.trust().issuers().cloned().collect())
        .unwrap_or_default();
    for identity in current.generation.identities() {
        let what = format!("certificate {}", identity.name);
        report.step(&what, Outcome::Ok, "its key belongs to it");
        // It is chosen by its common name, too; clients do not look at that (RFC 9525 §2).
        let names = identity.end_entity().map(|one| one.dns_names.as_slice()).unwrap_or_default();
        match names.is_empty() {
            true => report.step(
                &what,
                Outcome::Warning,
                "it has no DNS name: clients that check names refuse it",
            ),
            false => report.step(&what, Outcome::Ok, format!("for {}", names.join(", "))),
        }
        match identity.check_chain(&anchors, now) {
            Ok(()) => report.step(
                &what,
                Outcome::Ok,
                format!("chain of {}, each issued the one before", identity.chain.len()),
            ),
            Err(why) => report.step(&what, Outcome::Warning, format!("chain: {why}")),
        }
        for one in &identity.chain {
            validity(report, &what, one, now);
        }
        let stapling = current.staplings.iter().find(|one| Arc::ptr_eq(one.identity(), identity));
        match stapling.map(|stapling| stapling.state()) {
            None => report.step(
                &what,
                Outcome::Ok,
                "it has no staple: no responder is named, or stapling is off",
            ),
            Some(state) if state.is_revoked => {
                report.step(&what, Outcome::Failed, "its authority has revoked it");
            }
            Some(state) => match state.usable_until {
                Some(until) => report.step(
                    &what,
                    Outcome::Ok,
                    format!("its staple is good for {} s", until - now),
                ),
                None => report.step(
                    &what,
                    Outcome::Warning,
                    "its staple cannot be fetched; see the log of the gateway",
                ),
            },
        }
    }
}

fn validity(report: &mut Report, what: &str, one: &Certificate, now: i64) {
    let days = (one.not_after - now).div_euclid(86_400);
    let subject = &one.subject;
    let (result, why) = match days {
        ..0 => (Outcome::Failed, format!("{subject} has expired {} days ago", -days)),
        _ if one.not_before > now => (Outcome::Failed, format!("{subject} is not valid yet")),
        0..SOON_DAYS => (Outcome::Warning, format!("{subject} expires in {days} days")),
        _ => (Outcome::Ok, format!("{subject} is valid for {days} days")),
    };
    report.step(what, result, why);
}

fn clients(report: &mut Report, verifier: &PeerVerifier) {
    let now = portreeve_tls::now();
    let lists = verifier.revocation().lists();
    for anchor in verifier.trust().anchors() {
        validity(report, "trust anchor", anchor, now);
    }
    for list in lists.iter() {
        let (issuer, left) = (list.issuer(), list.next_update() - now);
        match left {
            ..0 => report.step(
                "CRL",
                Outcome::Failed,
                format!("of {issuer} has expired {} s ago", -left),
            ),
            _ => report.step(
                "CRL",
                Outcome::Ok,
                format!("of {issuer}: {} revoked, good for {left} s", list.len()),
            ),
        }
    }
    if lists.iter().next().is_some() {
        for issuer in verifier.trust().issuers().filter(|issuer| !lists.has_list_of(issuer)) {
            report.step("CRL", Outcome::Warning, format!("there is none of {}", issuer.subject));
        }
    }
}

/// Whether a device with this certificate, end entity first, would be let in here, and why not.
///
/// # Errors
/// Where there is no such gateway.
pub async fn explain(
    config: &Config,
    name: Option<&str>,
    sent: &[Arc<Certificate>],
) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    for gateway in chosen(config, name)? {
        let mut report = Report { gateway: gateway.name.clone(), steps: Vec::new() };
        if let Some(tls) = load(config, gateway, &mut report).await {
            explain_one(&mut report, config, gateway, &tls, sent).await;
        }
        reports.push(report);
    }
    Ok(reports)
}

async fn explain_one(
    report: &mut Report,
    config: &Config,
    gateway: &GatewayConfig,
    tls: &Tls,
    sent: &[Arc<Certificate>],
) {
    if let Some(first) = sent.first() {
        let why = format!(
            "{}, serial number {}, SHA-256 {}",
            first.subject,
            first.serial_hex(),
            first.fingerprint_hex()
        );
        report.step("certificate", Outcome::Ok, why);
    }
    let current = tls.current();
    let Some(verifier) = current.generation.verifier() else {
        report.step(
            "handshake",
            Outcome::Ok,
            "devices are not asked for certificates; this one is not looked at",
        );
        return;
    };
    let der: Vec<CertificateDer<'_>> = sent.iter().map(|one| one.der().clone()).collect();
    let verified = match verifier.verify(&der, portreeve_tls::now()) {
        Ok(verified) => verified,
        Err(refusal) => {
            report.step("handshake", Outcome::Failed, refusal.why);
            return;
        }
    };
    let path: Vec<&str> = verified.path.iter().map(|one| one.subject.as_str()).collect();
    report.step("handshake", Outcome::Ok, format!("path {}", path.join(" <- ")));
    match verifier.revocation().decide(&verified.path).await {
        Decision::Refuse(why) => {
            report.step("revocation", Outcome::Failed, why.to_string());
            return;
        }
        Decision::Admit { status, .. } => revocation(report, status),
    }
    let session = PeerTls::new("1.3", "", None, Some(Arc::clone(&verified)));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let peer = Peer { address, tls: Some(Arc::new(session)) };
    let identity = match tls.identity(&peer) {
        Ok(identity) => identity,
        Err(refusal) => {
            report.step("identity", Outcome::Failed, refusal.message);
            return;
        }
    };
    let told = |name: &Option<String>| name.clone().unwrap_or_else(|| "as CONNECT says".to_owned());
    let (user_name, client_id) = (told(&identity.user_name), told(&identity.client_id));
    report.step(
        "identity",
        Outcome::Ok,
        format!("user name: {user_name}; client identifier: {client_id}"),
    );
    if let Some(certificate) = peer.certificate() {
        verification(report, config, gateway, certificate, identity.user_name.as_deref());
    }
}

fn revocation(report: &mut Report, status: Standing) {
    let (result, why) = match status {
        Standing::NotChecked => (Outcome::Warning, "is not checked".to_owned()),
        Standing::Good(source) => (Outcome::Ok, format!("it is good, says {source}")),
        Standing::Unknown => {
            (Outcome::Warning, "its responder does not know it; it is let in".to_owned())
        }
        Standing::SoftFailed(cause) => {
            (Outcome::Warning, format!("nobody knows ({cause}); it is let in"))
        }
    };
    report.step("revocation", result, why);
}

/// What comes after TLS, as far as it can be said without a CONNECT.
fn verification(
    report: &mut Report,
    config: &Config,
    gateway: &GatewayConfig,
    certificate: &Certificate,
    user_name: Option<&str>,
) {
    let (result, why) = match &gateway.verification {
        Some(VerificationConfig::Open) => (Outcome::Ok, "everybody is let in".to_owned()),
        Some(VerificationConfig::Plugin(name)) => {
            (Outcome::Ok, format!("the plugin {name} decides; it is told of the certificate"))
        }
        None => (Outcome::Ok, "a plugin decides; it is told of the certificate".to_owned()),
        Some(VerificationConfig::OneParty) => {
            let registry = Registry::new(config.limits.devices_max, None);
            for device in &config.devices {
                // One that has no room is told of at the start.
                let _full = registry.configure(device);
            }
            let shown = Certified {
                fingerprint: certificate.fingerprint,
                common_name: certificate.common_name.as_deref(),
            };
            let user_name = user_name.unwrap_or_default();
            let candidate = registry.candidate(&gateway.product, user_name, Some(shown));
            let certified = candidate.filter(|candidate| candidate.is_certified);
            let device = certified.map(|candidate| Arc::clone(&candidate.entry.device));
            match device {
                Some(device) => (Outcome::Ok, format!("it is the device {}", device.name)),
                None => (
                    Outcome::Warning,
                    "no device has this certificate: user name and password decide".to_owned(),
                ),
            }
        }
    };
    report.step("verification", result, why);
}
