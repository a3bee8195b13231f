//! What can be asked about certificates, and what is counted of TLS.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use portreeve_tls::Certificate;
use portreeve_tls::crl::Crl;
use portreeve_tls::identity::Identity;
use portreeve_tls::revocation::RevocationMetrics;
use portreeve_tls::revocation::metrics::LATENCY_BUCKETS_MS;
use serde_json::{Value, json};

use super::Admin;
use super::problem::{Json, ProblemBody};
use crate::gateway::Gateway;
use crate::tls::{Current, Tls};

/// List certificates of every gateway: those that it shows, those that it trusts, its CRLs
#[utoipa::path(get, path = "/v1/certificates", tag = "certificates", responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Json<Value> {
    let gateways = with_tls(&admin.gateways).map(|(gateway, tls)| {
        let current = tls.current();
        let verifier = current.generation.verifier();
        let anchors = verifier.into_iter().flat_map(|verifier| verifier.trust().anchors());
        let now = portreeve_tls::now();
        let lists = verifier.map(|verifier| verifier.revocation().lists());
        let lists = lists.iter().flat_map(|lists| lists.iter());
        json!({
            "gateway": &*gateway.name,
            "certificates": identities(&current),
            "trust_anchors": anchors.map(|anchor| describe(anchor)).collect::<Vec<_>>(),
            "crls": lists.map(|list| describe_list(list, now)).collect::<Vec<_>>(),
            "denied": verifier.map_or(0, |verifier| verifier.revocation().denied().len()),
            "live_sessions": tls.live_count(),
            "problems": tls.problems(),
        })
    });
    Json(json!({ "gateways": gateways.collect::<Vec<_>>() }))
}

fn identities(current: &Current) -> Vec<Value> {
    let staple_of = |identity: &Arc<Identity>| {
        let is_its = |one: &&Arc<_>| -> bool {
            let one: &Arc<portreeve_tls::stapling::Stapling> = one;
            Arc::ptr_eq(one.identity(), identity)
        };
        current.staplings.iter().find(is_its).map(|stapling| stapling.state())
    };
    let identity = |identity: &Arc<Identity>| {
        let mut value = identity.end_entity().map_or_else(|| json!({}), |one| describe(one));
        let chain: Vec<&str> = identity.chain.iter().map(|one| one.subject.as_str()).collect();
        if let Some(object) = value.as_object_mut() {
            object.insert("name".to_owned(), json!(identity.name));
            object.insert("chain".to_owned(), json!(chain));
            object.insert("must_staple".to_owned(), json!(identity.must_staple()));
            let staple = staple_of(identity).map(|state| {
                json!({
                    "this_update": state.this_update.map(time),
                    "usable_until": state.usable_until.map(time),
                    "is_revoked": state.is_revoked,
                })
            });
            object.insert("staple".to_owned(), json!(staple));
        }
        value
    };
    current.generation.identities().iter().map(identity).collect()
}

/// A certificate for those who look: never its key.
pub(super) fn describe(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "dns_names": certificate.dns_names,
        "serial_number": certificate.serial_hex(),
        "fingerprint": certificate.fingerprint_hex(),
        "not_before": time(certificate.not_before),
        "not_after": time(certificate.not_after),
        "days_left": (certificate.not_after - portreeve_tls::now()).div_euclid(86_400),
    })
}

fn describe_list(list: &Crl, now: i64) -> Value {
    json!({
        "issuer": list.issuer(),
        "number": list.number(),
        "this_update": time(list.this_update()),
        "next_update": time(list.next_update()),
        "is_expired": list.is_expired_at(now),
        "revoked": list.len(),
    })
}

/// Seconds since the Unix epoch as RFC 3339.
fn time(seconds: i64) -> String {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

fn with_tls(gateways: &[Arc<Gateway>]) -> impl Iterator<Item = (&Arc<Gateway>, &Arc<Tls>)> {
    gateways.iter().filter_map(|gateway| Some((gateway, gateway.tls.as_ref()?)))
}

/// Lines of one metric.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn begin(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Self { text, name }
    }

    fn line(&mut self, labels: &str, value: impl std::fmt::Display) {
        let _infallible = writeln!(self.text, "{}{{{labels}}} {value}", self.name);
    }
}

/// One gateway with everything that is counted of it.
struct Counted {
    label: String,
    tls: Arc<Tls>,
    current: Arc<Current>,
}

impl Counted {
    fn revocation(&self) -> Option<&RevocationMetrics> {
        let verifier = self.current.generation.verifier()?;
        Some(verifier.revocation().metrics())
    }
}

/// Everything of TLS in Prometheus' text format.
pub(super) fn metrics(gateways: &[Arc<Gateway>]) -> String {
    let counted: Vec<Counted> = with_tls(gateways)
        .map(|(gateway, tls)| Counted {
            label: format!("gateway={:?}", &*gateway.name),
            tls: Arc::clone(tls),
            current: tls.current(),
        })
        .collect();
    let mut text = String::new();
    if counted.is_empty() {
        return text;
    }
    handshakes(&mut text, &counted);
    certificates(&mut text, &counted);
    crls(&mut text, &counted);
    ocsp(&mut text, &counted);
    text
}

fn handshakes(text: &mut String, counted: &[Counted]) {
    let name = "portreeve_tls_handshakes_total";
    let mut family = Family::begin(text, name, "counter", "TLS handshakes by result.");
    for Counted { label, tls, .. } in counted {
        for (result, count) in tls.metrics.handshakes() {
            family.line(&format!("{label},result={result:?}"), count);
        }
    }
    type Number = fn(&Tls) -> u64;
    let numbers: [(&str, &str, &str, Number); 5] = [
        (
            "portreeve_tls_connects_refused_total",
            "counter",
            "Certificates that were refused after the handshake, by CONNACK.",
            |tls| tls.metrics.connects_refused.value(),
        ),
        (
            "portreeve_tls_sessions_ended_total",
            "counter",
            "Live sessions that were ended since their certificate was not good any more.",
            |tls| tls.metrics.sessions_ended.value(),
        ),
        (
            "portreeve_tls_reloads_refused_total",
            "counter",
            "Changes of certificates, keys or CRLs that were not taken.",
            |tls| tls.metrics.reloads_refused.value(),
        ),
        (
            "portreeve_tls_crl_fetch_failures_total",
            "counter",
            "CRLs that could not be fetched, or were not good.",
            |tls| tls.metrics.crl_fetches_failed.value(),
        ),
        ("portreeve_tls_live_sessions", "gauge", "Sessions of devices with certificates.", |tls| {
            u64::try_from(tls.live_count()).unwrap_or(u64::MAX)
        }),
    ];
    for (name, kind, help, of) in numbers {
        let mut family = Family::begin(text, name, kind, help);
        for Counted { label, tls, .. } in counted {
            family.line(label, of(tls));
        }
    }
}

fn certificates(text: &mut String, counted: &[Counted]) {
    let name = "portreeve_tls_certificate_expires_seconds";
    let help = "Seconds until an own certificate expires; negative afterwards.";
    let now = portreeve_tls::now();
    let mut family = Family::begin(text, name, "gauge", help);
    for Counted { label, current, .. } in counted {
        for identity in current.generation.identities() {
            for (position, one) in identity.chain.iter().enumerate() {
                let labels = format!(
                    "{label},certificate={:?},position=\"{position}\",fingerprint={:?}",
                    identity.name,
                    one.fingerprint_hex()
                );
                family.line(&labels, one.not_after - now);
            }
        }
    }
    let name = "portreeve_tls_staple_age_seconds";
    let help =
        "Seconds since the responder made the staple that is served; -1 where there is none.";
    let mut family = Family::begin(text, name, "gauge", help);
    for Counted { label, current, .. } in counted {
        for stapling in &current.staplings {
            let age = stapling.state().this_update.map_or(-1, |this_update| now - this_update);
            family.line(&format!("{label},certificate={:?}", stapling.identity().name), age);
        }
    }
}

fn crls(text: &mut String, counted: &[Counted]) {
    let now = portreeve_tls::now();
    type Number = fn(&Crl, i64) -> i64;
    let numbers: [(&str, &str, Number); 3] = [
        ("portreeve_tls_crl_age_seconds", "Seconds since a CRL was made.", |list, now| {
            list.age(now)
        }),
        (
            "portreeve_tls_crl_expires_seconds",
            "Seconds until a CRL expires; negative afterwards.",
            |list, now| list.next_update() - now,
        ),
        ("portreeve_tls_crl_revoked", "Certificates that a CRL revokes.", |list, _| {
            i64::try_from(list.len()).unwrap_or(i64::MAX)
        }),
    ];
    for (name, help, of) in numbers {
        let mut family = Family::begin(text, name, "gauge", help);
        for Counted { label, current, .. } in counted {
            let Some(verifier) = current.generation.verifier() else { continue };
            for list in verifier.revocation().lists().iter() {
                family.line(&format!("{label},issuer={:?}", list.issuer()), of(list, now));
            }
        }
    }
}

fn ocsp(text: &mut String, counted: &[Counted]) {
    let name = "portreeve_tls_ocsp_results_total";
    let mut family = Family::begin(text, name, "counter", "Answers of OCSP responders by kind.");
    for one in counted {
        let Some(metrics) = one.revocation() else { continue };
        let label = &one.label;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        family.line(&format!("{label},result=\"good\""), read(&metrics.ocsp_good));
        family.line(&format!("{label},result=\"revoked\""), read(&metrics.ocsp_revoked));
        family.line(&format!("{label},result=\"unknown\""), read(&metrics.ocsp_unknown));
        for (kind, count) in metrics.unavailable() {
            family.line(&format!("{label},result=\"unavailable_{}\"", kind.label()), count);
        }
        for (kind, count) in metrics.invalid() {
            family.line(&format!("{label},result=\"invalid_{}\"", kind.label()), count);
        }
    }
    type Number = fn(&RevocationMetrics) -> u64;
    let numbers: [(&str, &str, Number); 5] = [
        (
            "portreeve_tls_ocsp_cache_hits_total",
            "Statuses that were known without asking.",
            |metrics| metrics.cache_hits.load(Ordering::Relaxed),
        ),
        ("portreeve_tls_ocsp_cache_misses_total", "Statuses that were asked for.", |metrics| {
            metrics.cache_misses.load(Ordering::Relaxed)
        }),
        (
            "portreeve_tls_soft_fails_total",
            "Devices that were let in although nobody knows whether their certificate is revoked.",
            |metrics| metrics.soft_fails.load(Ordering::Relaxed),
        ),
        ("portreeve_tls_crl_good_total", "Certificates that a CRL does not name.", |metrics| {
            metrics.crl_good.load(Ordering::Relaxed)
        }),
        (
            "portreeve_tls_crl_revoked_total",
            "Certificates that a CRL revokes and that were shown.",
            |metrics| metrics.crl_revoked.load(Ordering::Relaxed),
        ),
    ];
    for (name, help, of) in numbers {
        let mut family = Family::begin(text, name, "counter", help);
        for one in counted {
            if let Some(metrics) = one.revocation() {
                family.line(&one.label, of(metrics));
            }
        }
    }
    latency(text, counted);
}

fn latency(text: &mut String, counted: &[Counted]) {
    let name = "portreeve_tls_ocsp_seconds";
    let _infallible =
        writeln!(text, "# HELP {name} Time that OCSP responders took.\n# TYPE {name} histogram");
    for one in counted {
        let Some(metrics) = one.revocation() else { continue };
        let (label, counts) = (&one.label, metrics.latency.counts());
        let mut below = 0;
        for (end, count) in LATENCY_BUCKETS_MS.iter().zip(&counts) {
            below += count;
            let (seconds, rest) = (end / 1_000, end % 1_000);
            let _infallible =
                writeln!(text, "{name}_bucket{{{label},le=\"{seconds}.{rest:03}\"}} {below}");
        }
        let total: u64 = counts.iter().sum();
        let sum = metrics.latency.sum().as_secs_f64();
        let _infallible = writeln!(
            text,
            "{name}_bucket{{{label},le=\"+Inf\"}} {total}\n{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {total}"
        );
    }
}
