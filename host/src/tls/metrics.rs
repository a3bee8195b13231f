//! What is counted of TLS.

use portreeve_tls::stream::{Accepted, HandshakeFault};

use crate::metrics::Counter;

/// Counts of one gateway.
#[derive(Debug, Default)]
pub(crate) struct TlsMetrics {
    full: Counter,
    resumed: Counter,
    timeouts: Counter,
    failed: [Counter; HandshakeFault::ALL.len()],
    /// Certificates that were refused after the handshake, by CONNACK.
    pub(crate) connects_refused: Counter,
    /// Changes of files or configuration that were not taken.
    pub(crate) reloads_refused: Counter,
    /// CRLs that could not be fetched, or were not good.
    pub(crate) crl_fetches_failed: Counter,
    /// Live sessions that were ended, since their certificate was not good any more.
    pub(crate) sessions_ended: Counter,
}

impl TlsMetrics {
    pub(crate) fn accepted(&self, accepted: &Accepted) {
        match accepted.is_resumed {
            true => self.resumed.add(1),
            false => self.full.add(1),
        }
    }

    pub(crate) fn failed(&self, fault: HandshakeFault) {
        let position = HandshakeFault::ALL.iter().position(|one| *one == fault);
        if let Some(counter) = position.and_then(|position| self.failed.get(position)) {
            counter.add(1);
        }
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.add(1);
    }

    /// Handshakes by result.
    pub(crate) fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let good = [
            ("full", self.full.value()),
            ("resumed", self.resumed.value()),
            ("timeout", self.timeouts.value()),
        ];
        let failed = HandshakeFault::ALL.iter().zip(&self.failed);
        good.into_iter().chain(failed.map(|(fault, counter)| (fault.name(), counter.value())))
    }
}
