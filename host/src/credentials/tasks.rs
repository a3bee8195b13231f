//! What goes on by itself for TLS of one gateway: staples and lists are kept fresh, live sessions
//! looked at again, and certificates that expire are told of.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use portreeve_tls::Clock;
use portreeve_tls::crl::CrlFetcher;
use portreeve_tls::stapling::Stapling;
use tokio::time::{Instant, sleep};
use url::Url;

use super::SharedLists;
use super::revocation::{FETCHED_BYTES_MAX, Lists};
use crate::tls::{Current, Tls};

/// All of one fetch of a list.
const FETCH_TIME_MAX: Duration = Duration::from_secs(30);
/// How soon a fetch that failed is tried again at the latest.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// How often staples are looked at where none is due.
const STAPLES_LOOK_MAX: Duration = Duration::from_secs(1);
/// How often it is looked whether certificates expire.
const EXPIRY_INTERVAL: Duration = Duration::from_hours(1);
/// Days before its end at which a certificate is told of.
const EXPIRY_DAYS: [i64; 3] = [1, 7, 30];

/// Runs everything of one gateway, without end.
pub(crate) async fn keep(tls: Arc<Tls>, lists: SharedLists) {
    let watched = Arc::clone(&tls).watch();
    tokio::join!(watched, staples(&tls), expiries(&tls), fetches(&tls, &lists));
}

async fn staples(tls: &Tls) {
    let clock = Clock::default();
    loop {
        let current = tls.current();
        let now = clock.now();
        let mut next = now + i64::try_from(STAPLES_LOOK_MAX.as_secs()).unwrap_or(1);
        // Those whose time is over wait for nobody's responder.
        for stapling in current.staplings.iter().filter(|stapling| stapling.expire()) {
            let name = stapling.identity().name.as_str();
            tracing::error!(
                certificate = name,
                "ALARM: the staple's time is over and there is no other: none is served"
            );
        }
        let due = current.staplings.iter().filter(|stapling| stapling.next() <= now);
        join_all(due.map(|stapling| refresh(stapling))).await;
        for stapling in &current.staplings {
            next = next.min(stapling.next());
        }
        let wait = u64::try_from(next - clock.now()).unwrap_or(0);
        sleep(Duration::from_secs(wait).clamp(Duration::from_millis(200), STAPLES_LOOK_MAX)).await;
    }
}

async fn refresh(stapling: &Stapling) {
    let name = stapling.identity().name.as_str();
    match stapling.refresh().await {
        Ok(()) => tracing::debug!(certificate = name, "another staple is served"),
        Err(error) if stapling.state().is_revoked => {
            tracing::error!(certificate = name, "ALARM: {error}");
        }
        Err(error) => {
            tracing::warn!(
                certificate = name,
                %error,
                "the staple cannot be refreshed; it is tried again"
            );
        }
    }
}

/// Tells of own certificates that will expire, once for each mark that they pass.
async fn expiries(tls: &Tls) {
    let mut told: Vec<([u8; 32], i64)> = Vec::new();
    loop {
        let current = tls.current();
        told.retain(|(known, _)| ends(&current).any(|(_, fingerprint, _)| fingerprint == *known));
        for (name, fingerprint, not_after) in ends(&current) {
            let left = not_after - portreeve_tls::now();
            let mark = EXPIRY_DAYS.into_iter().find(|days| left <= days * 86_400);
            let Some(mark) = mark else { continue };
            if told.contains(&(fingerprint, mark)) {
                continue;
            }
            told.push((fingerprint, mark));
            let days = left / 86_400;
            match left {
                ..=0 => tracing::error!(certificate = name, "ALARM: the certificate has expired"),
                _ => tracing::warn!(certificate = name, days, "the certificate expires soon"),
            }
        }
        // Another generation may have others; the first look of it is soon.
        let begin = Instant::now();
        while begin.elapsed() < EXPIRY_INTERVAL && Arc::ptr_eq(&tls.current(), &current) {
            sleep(STAPLES_LOOK_MAX).await;
        }
    }
}

/// Name, fingerprint and end of every own certificate.
fn ends(current: &Current) -> impl Iterator<Item = (&str, [u8; 32], i64)> {
    current.generation.identities().iter().flat_map(|identity| {
        let of = |one: &Arc<portreeve_tls::Certificate>| {
            (identity.name.as_str(), one.fingerprint, one.not_after)
        };
        identity.chain.iter().map(of).collect::<Vec<_>>()
    })
}

/// Fetches lists again and again.
async fn fetches(tls: &Tls, shared: &SharedLists) {
    loop {
        let current = shared.load_full();
        let wait = match &current {
            Some(lists) => fetch_all(tls, lists).await,
            None => RETRY_MAX,
        };
        let begin = Instant::now();
        while begin.elapsed() < wait && is_same(&shared.load_full(), &current) {
            sleep(STAPLES_LOOK_MAX.min(wait)).await;
        }
    }
}

fn is_same(one: &Option<Arc<Lists>>, other: &Option<Arc<Lists>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// Reads a list in a thread that may block: a hundred thousand entries take a while.
async fn publish(lists: &Arc<Lists>, url: &Url, bytes: Vec<u8>) -> Result<(), String> {
    let (lists, url) = (Arc::clone(lists), url.clone());
    let published = tokio::task::spawn_blocking(move || lists.publish_fetched(&url, &bytes));
    published.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Fetches each list once. Gives the time after which to do it again.
async fn fetch_all(tls: &Tls, lists: &Arc<Lists>) -> Duration {
    let wants_tls = lists.urls().iter().any(|url| url.scheme() == "https");
    let client = match CrlFetcher::new(FETCHED_BYTES_MAX, FETCH_TIME_MAX, wants_tls) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "CRLs cannot be fetched");
            return RETRY_MAX;
        }
    };
    let mut is_whole = true;
    for url in lists.urls() {
        let published = match client.fetch(url).await {
            Ok(bytes) => publish(lists, url, bytes).await,
            Err(error) => Err(error.to_string()),
        };
        match published {
            Ok(()) => tls.look_again(),
            Err(why) => {
                is_whole = false;
                tls.metrics.crl_fetches_failed.add(1);
                tracing::warn!(%url, why, "the CRL cannot be fetched; the last one goes on");
            }
        }
    }
    if is_whole { lists.refresh() } else { lists.refresh().min(RETRY_MAX) }
}
