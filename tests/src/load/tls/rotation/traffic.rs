//! Who is connected and who comes while files change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::load::tls::client::TlsClient;
use crate::load::tls::failures::Failures;
use crate::load::traffic::spawn;

/// Between two pings of a client that is connected.
const PING: Duration = Duration::from_secs(5);
/// Connections that have begun and not ended: more would measure this process and not the gateway.
const UNDER_WAY_MAX: usize = 64;

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) held: AtomicUsize,
    pub(super) lost: Failures,
    pub(super) served: AtomicUsize,
    pub(super) resumed: AtomicUsize,
    pub(super) failed: Failures,
    under_way: AtomicUsize,
    stop: AtomicBool,
}

impl Traffic {
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Connects so many clients, one after the other, which stay and ping.
pub(super) async fn hold(traffic: &Arc<Traffic>, client: &TlsClient, count: usize) {
    for number in 0..count {
        let opened = client.open(&format!("held-{number}")).await;
        let mut opened = opened.expect("it is let in");
        traffic.held.fetch_add(1, Ordering::Relaxed);
        let traffic = Arc::clone(traffic);
        drop(spawn(async move {
            while traffic.goes_on() {
                tokio::time::sleep(PING).await;
                if let Err(error) = opened.ping().await {
                    traffic.lost.add(error.to_string());
                    return;
                }
            }
        }));
    }
}

/// Connects at a pace until it is told to stop, with each of some clients in turn.
pub(super) async fn come(traffic: Arc<Traffic>, clients: [TlsClient; 4], each_second: u32) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / each_second);
    let begin = Instant::now();
    let mut number = 0;
    while traffic.goes_on() {
        ticks.tick().await;
        if traffic.under_way.load(Ordering::Relaxed) >= UNDER_WAY_MAX {
            continue;
        }
        number += 1;
        let (client, traffic) = (clients[number % clients.len()].clone(), Arc::clone(&traffic));
        traffic.under_way.fetch_add(1, Ordering::Relaxed);
        drop(spawn(async move {
            match client.open(&format!("comer-{number}")).await {
                Ok(opened) => {
                    traffic.resumed.fetch_add(usize::from(opened.is_resumed), Ordering::Relaxed);
                    opened.leave().await;
                    traffic.served.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let after = begin.elapsed().as_secs_f64();
                    traffic.failed.add(format!("after {after:.1} s: {error}"));
                }
            }
            traffic.under_way.fetch_sub(1, Ordering::Relaxed);
        }));
    }
}
