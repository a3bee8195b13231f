//! No responder answers: one refuses connections, one takes them and is silent. Devices come that nobody has seen
//! before.

use std::time::Duration;

use super::super::traffic::spawn;
use super::client::{Identity, Refused, TlsClient, Took};
use super::devices::Devices;
use super::pace::paced;
use super::{Line, percentile, us};
use crate::binary::free_address;
use crate::pki::named;
use crate::responder::silent;
use crate::tls_gateway::{RunningTls, TlsGateway};

/// Devices a second at each listener that asks.
const STRANGERS: u32 = 5;
/// Connections a second at each listener that does not.
const OTHERS: u32 = 20;
/// Listeners that ask, and whether one that nobody knows about is let in.
const ASKING: [(&str, bool); 4] = [
    ("soft-refused", true),
    ("hard-refused", false),
    ("soft-silent", true),
    ("hard-silent", false),
];
/// What 99 of a hundred others wait at most, in ms: a small part of a responder's time-out of 2 s.
const OTHERS_P99_MAX: f64 = 100.0;
const OTHER: [&str; 2] = ["no-ocsp", "crl"];

fn start() -> RunningTls {
    let (refused, silent) =
        (format!("http://{}/", free_address()), format!("http://{}/", silent()));
    let gateway = TlsGateway::new();
    let _crl = gateway.lab().crl("int.crl", named("int"), &[]);
    gateway
        .ocsp("soft-refused", "soft", &refused, "")
        .ocsp("hard-refused", "hard", &refused, "")
        .ocsp("soft-silent", "soft", &silent, "")
        .ocsp("hard-silent", "hard", &silent, "")
        .mutual("no-ocsp", "")
        .mutual("crl", "[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"int.crl\"]\n")
        .start()
}

/// Devices that are new each time, for a while.
async fn strangers(
    gateway: &RunningTls,
    section: &str,
    duration: Duration,
) -> Vec<Result<Took, Refused>> {
    let devices = Devices::default();
    let count = u64::from(STRANGERS) * duration.as_secs();
    let mut tasks = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / STRANGERS);
    for number in 0..count {
        ticks.tick().await;
        let client = TlsClient::new(gateway.at(section), Some(&devices.next()));
        let id = format!("{section}-{number}");
        tasks.push(spawn(async move { client.once(&id).await }));
    }
    let mut taken = Vec::new();
    for task in tasks {
        taken.push(task.await.expect("it ends"));
    }
    taken
}

/// What clients of the listeners that ask nobody saw: refused, of so many, and p99 in ms.
async fn others(gateway: &RunningTls, duration: Duration) -> Vec<(usize, usize, f64)> {
    let device = Identity::device(named("dev_ec"));
    let runs: Vec<_> = OTHER
        .iter()
        .map(|section| {
            let client = TlsClient::new(gateway.at(section), Some(&device));
            spawn(async move { paced(&client, section, OTHERS, duration).await })
        })
        .collect();
    let mut seen = Vec::new();
    for run in runs {
        let taken = run.await.expect("it ends");
        let times: Vec<Duration> = taken.iter().flatten().map(|one| one.all).collect();
        let p99 = us(percentile(&times, 99)) / 1000.0;
        seen.push((taken.len() - times.len(), taken.len(), p99));
    }
    seen
}

/// For `duration`, and as long before without anybody who has to be asked about.
///
/// # Panics
/// When the gateway does not start.
pub async fn run(duration: Duration, mut tell: impl FnMut(&str)) -> Vec<Line> {
    let gateway = start();
    let alone = others(&gateway, duration).await;
    let asking = ASKING.iter().map(|(section, _)| strangers(&gateway, section, duration));
    let (asked, beside) =
        tokio::join!(futures_util::future::join_all(asking), others(&gateway, duration));
    let mut lines = Vec::new();
    for ((section, lets_in), taken) in ASKING.iter().zip(&asked) {
        let wrong = taken.iter().filter(|one| one.is_ok() != *lets_in).count();
        let what = if *lets_in { "good devices refused" } else { "unknown devices accepted" };
        lines.push(Line::none(format!("{section}: {what}"), wrong, taken.len()));
        if let Some(Err(error)) = taken.first() {
            tell(&format!("{section}: the first one was told: {error}"));
        }
        let times: Vec<Duration> = taken.iter().flatten().map(|one| one.all).collect();
        if !times.is_empty() {
            let (p50, most) = (percentile(&times, 50), percentile(&times, 100));
            let text = format!("{} / {} ms", p50.as_millis(), most.as_millis());
            lines.push(Line::plain(format!("{section}: waited, median / max"), text));
        }
    }
    for ((section, (_, _, before)), (refused, all, p99)) in OTHER.iter().zip(alone).zip(beside) {
        lines.push(Line::none(format!("{section}: refused"), refused, all));
        lines.push(Line::plain(format!("{section}: p99 alone"), format!("{before:.1} ms")));
        let name = format!("{section}: p99 during the outage");
        lines.push(Line::at_most(name, p99, OTHERS_P99_MAX, "ms"));
    }
    let soft = ASKING.iter().zip(&asked).filter(|((_, lets_in), _)| *lets_in);
    let let_in: usize = soft.map(|(_, taken)| taken.iter().flatten().count()).sum();
    let counted = gateway.metric("soft_fails_total", &[]);
    lines.push(Line::at_least("soft fails that the gateway counted", counted, let_in as f64));
    lines
}
