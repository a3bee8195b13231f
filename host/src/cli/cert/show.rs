//! `portreeve cert list` and `show`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use portreeve::certificates::{Listing, ServerEntry};
use portreeve_tls::Certificate;
use serde_json::{Value, json};

use super::Place;
use crate::cli::output;

/// List what there is.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn execute(self) -> ExitCode {
        let listing = match self.place.certificates() {
            Ok(certificates) => certificates.list(),
            Err(error) => return output::fail(&error),
        };
        let serving = match self.place.gateway() {
            Some(gateway) => gateway.ask("/v1/certificates").await.ok(),
            None => None,
        };
        if self.json {
            let mut value = as_json(&listing);
            if let (Some(object), Some(serving)) = (value.as_object_mut(), serving) {
                object.insert("serving".to_owned(), serving);
            }
            output::json(&value);
            return ExitCode::SUCCESS;
        }
        for line in lines(&listing) {
            output::say(&line);
        }
        for problem in serving.iter().flat_map(problems) {
            output::say(&format!("REFUSED  {problem}"));
        }
        ExitCode::SUCCESS
    }
}

/// What the running gateway does not take.
fn problems(serving: &Value) -> Vec<String> {
    let gateways = serving.get("gateways").and_then(Value::as_array).into_iter().flatten();
    let problems = gateways.filter_map(|gateway| gateway.get("problems")?.as_array()).flatten();
    problems.filter_map(|problem| problem.as_str().map(str::to_owned)).collect()
}

fn lines(listing: &Listing) -> Vec<String> {
    let mut lines = Vec::new();
    for ServerEntry { name, active, versions } in &listing.servers {
        for (version, chain) in versions {
            let is_active = active.as_ref() == Some(version);
            let serves = if is_active { "active" } else { "" };
            let told = chain.first().map(|one| told(one)).unwrap_or_default();
            lines.push(format!("server  {name:<20} {version}  {serves:<6}  {told}"));
        }
    }
    for (name, certificates) in &listing.authorities {
        for one in certificates {
            lines.push(format!("ca      {name:<20} {}", told(one)));
        }
    }
    for (name, lists) in &listing.crls {
        lines.push(format!("crl     {name:<20} {lists} list(s)"));
    }
    for denied in &listing.denied {
        let why = if denied.reason.is_empty() { "" } else { denied.reason.as_str() };
        lines.push(format!("denied  {} {} {why}", denied.subject, denied.at));
    }
    lines.extend(listing.problems.iter().map(|problem| format!("DAMAGED {problem}")));
    if lines.is_empty() {
        lines.push("there is nothing yet; portreeve cert import puts something there".to_owned());
    }
    lines
}

fn told(certificate: &Certificate) -> String {
    let days = (certificate.not_after - portreeve_tls::now()).div_euclid(86_400);
    match days {
        ..0 => format!("{}  EXPIRED {} days ago", certificate.subject, -days),
        0..30 => format!("{}  expires in {days} days", certificate.subject),
        _ => format!("{}  {days} days left", certificate.subject),
    }
}

fn describe(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "dns_names": certificate.dns_names,
        "uris": certificate.uris,
        "serial_number": certificate.serial_hex(),
        "fingerprint": certificate.fingerprint_hex(),
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "days_left": (certificate.not_after - portreeve_tls::now()).div_euclid(86_400),
        "must_staple": certificate.must_staple,
        "ocsp_urls": certificate.ocsp_urls,
        "crl_urls": certificate.crl_urls,
    })
}

fn describe_all(certificates: &[Arc<Certificate>]) -> Vec<Value> {
    certificates.iter().map(|one| describe(one)).collect()
}

fn server_as_json(entry: &ServerEntry) -> Value {
    let versions = entry.versions.iter().map(|(version, chain)| {
        json!({
            "version": version,
            "is_active": entry.active.as_ref() == Some(version),
            "chain": describe_all(chain),
        })
    });
    json!({ "name": entry.name, "versions": versions.collect::<Vec<_>>() })
}

fn as_json(listing: &Listing) -> Value {
    let authorities = listing.authorities.iter().map(
        |(name, certificates)| json!({ "name": name, "certificates": describe_all(certificates) }),
    );
    let crls = listing.crls.iter().map(|(name, lists)| json!({ "name": name, "lists": lists }));
    json!({
        "servers": listing.servers.iter().map(server_as_json).collect::<Vec<_>>(),
        "authorities": authorities.collect::<Vec<_>>(),
        "crls": crls.collect::<Vec<_>>(),
        "denied": listing.denied,
        "problems": listing.problems,
    })
}

/// Show one certificate.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name: of the gateway's own, or of an authority.
    name: String,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn execute(self) -> ExitCode {
        let listing = match self.place.certificates() {
            Ok(certificates) => certificates.list(),
            Err(error) => return output::fail(&error),
        };
        let server = listing.servers.iter().find(|entry| entry.name == self.name);
        let authority = listing.authorities.iter().find(|(name, _)| *name == self.name);
        let value = match (server, authority) {
            (Some(entry), _) => server_as_json(entry),
            (None, Some((name, certificates))) => {
                json!({ "name": name, "certificates": describe_all(certificates) })
            }
            (None, None) => {
                return output::fail(&format!(
                    "there is no certificate {:?}; portreeve cert list shows what there is",
                    self.name
                ));
            }
        };
        if self.json {
            output::json(&value);
            return ExitCode::SUCCESS;
        }
        if let Some(entry) = server {
            for (version, chain) in &entry.versions {
                let is_active = entry.active.as_ref() == Some(version);
                output::say(&format!("{version}{}", if is_active { "  active" } else { "" }));
                chain.iter().for_each(|one| say(one));
            }
        } else if let Some((_, certificates)) = authority {
            certificates.iter().for_each(|one| say(one));
        }
        ExitCode::SUCCESS
    }
}

fn say(certificate: &Certificate) {
    let time = |seconds: i64| {
        let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
    };
    let mut rows = vec![
        ("subject", certificate.subject.clone()),
        ("issuer", certificate.issuer.clone()),
        ("serial number", certificate.serial_hex()),
        ("valid", format!("{} to {}", time(certificate.not_before), time(certificate.not_after))),
        ("SHA-256", certificate.fingerprint_hex()),
    ];
    let lists = [
        ("DNS names", &certificate.dns_names),
        ("URIs", &certificate.uris),
        ("OCSP", &certificate.ocsp_urls),
        ("CRL", &certificate.crl_urls),
    ];
    rows.extend(
        lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| (name, list.join(", "))),
    );
    if certificate.must_staple {
        rows.push(("must staple", "yes".to_owned()));
    }
    for (name, value) in rows {
        output::say(&format!("  {name:<14} {value}"));
    }
    output::say("");
}
