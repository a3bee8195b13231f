//! A CRL of 100,000 entries is read again: how long that takes, and what a connected client notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::median;
use super::super::traffic::spawn;
use super::client::{Identity, Opened, TlsClient};
use super::setup::{Servers, large_crl};
use super::{Line, us};
use crate::pki::{Lab, named};

/// Between two pings.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the client is watched while nothing is read.
const WATCHED: Duration = Duration::from_secs(2);

/// Pings until it is told to stop; the longest time that one took.
async fn pinger(mut client: Opened, stop: Arc<AtomicBool>) -> (Opened, Duration) {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        longest = longest.max(client.ping().await.expect("it stays connected"));
        tokio::time::sleep(PAUSE).await;
    }
    (client, longest)
}

/// The longest ping while `work` runs, which blocks this thread.
async fn beside<T>(client: Opened, work: impl FnOnce() -> T) -> (Opened, Duration, T) {
    let stop = Arc::new(AtomicBool::new(false));
    let pinging = spawn(pinger(client, Arc::clone(&stop)));
    let result = tokio::task::block_in_place(work);
    stop.store(true, Ordering::Relaxed);
    let (client, longest) = pinging.await.expect("it stays connected");
    (client, longest, result)
}

/// Reads two lists in turn, `reloads` times.
///
/// # Panics
/// When a list is refused, or the client is disconnected.
pub async fn reload(servers: &Servers, reloads: u32) -> Vec<Line> {
    let device = Identity::device(named("dev_ec"));
    let lab = Lab::new();
    let lists = [1, 2].map(|more| {
        let path = large_crl(&lab, &format!("{more}.crl"), more);
        std::fs::read(path).expect("it was made")
    });
    let client = TlsClient::new(servers.gateway.at("crl"), Some(&device));
    let client = client.open("pings").await.expect("it is let in");
    let (mut client, idle, ()) = beside(client, || std::thread::sleep(WATCHED)).await;
    let (mut took, mut gaps) = (Vec::new(), Vec::new());
    for turn in 0..reloads {
        let list = &lists[usize::from(turn % 2 == 1)];
        let read = || {
            servers.gateway.put("large.crl", list);
            let begin = Instant::now();
            let (is_content, said) = servers.gateway.reload();
            assert!(is_content, "{said}");
            begin.elapsed()
        };
        let (next, gap, time) = beside(client, read).await;
        client = next;
        took.push(time.as_secs_f64());
        gaps.push(us(gap) / 1000.0);
    }
    client.leave().await;
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    vec![
        Line::at_most(
            format!("reload of a CRL of 100,000, {reloads} times"),
            median(took),
            1.0,
            "s",
        ),
        Line::plain("longest ping while nothing is read", format!("{:.2} ms", us(idle) / 1000.0)),
        Line::plain("longest ping during a reload, median", format!("{:.2} ms", median(gaps))),
        Line::at_most("longest ping during any reload", longest, 50.0, "ms"),
    ]
}
