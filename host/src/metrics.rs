//! What the gateway counts. Each number is one atomic, added to once for each batch of packets.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident)*) => {
        /// Counts since the start.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])* pub $name: Counter,)*
            /// Connections that are open.
            pub connections: AtomicI64,
        }

        impl Metrics {
            /// Every counter with its name, in the order of their declaration.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.value()),)*].into_iter()
            }

            /// What each of them counts, in the same order.
            pub fn descriptions() -> impl Iterator<Item = (&'static str, &'static str)> {
                [$((stringify!($name), concat!($($doc),*).trim_ascii()),)*].into_iter()
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The sum so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Connections accepted by a listener.
    connections_accepted
    /// Connections turned away before CONNECT: over a limit, or too slow.
    connections_refused
    /// Connections turned away since their address had too many.
    connections_refused_address
    /// Connections that waited, since more came in a second than may.
    connections_delayed
    /// Times that accepting waited for a place among the handshakes.
    handshakes_waited
    /// Connections without a whole CONNECT in time.
    connect_timeouts
    /// Times that accepting paused, since the system had no file descriptor or memory left.
    accept_pauses
    /// Packets larger than the gateway takes.
    packets_too_large
    /// Packets with more filters or properties than the gateway takes, and clients that exceed the
    /// receive maximum.
    quotas_exceeded
    /// Topics and filters that are too long or have too many levels.
    topics_refused
    /// Subscriptions beyond the bound of their session.
    subscriptions_refused
    /// Subscriptions that their device may not make.
    subscriptions_denied
    /// PUBLISH packets beyond the rate of their device.
    publishes_over_rate
    /// Messages whose payload says that it is text and is not.
    payloads_not_text
    /// CONNECTs that were let in.
    connects_admitted
    /// CONNECTs that were refused.
    connects_refused
    /// Connections that ended by a fault of the peer's: malformed packets, protocol errors.
    protocol_faults
    /// Connections that ended since nothing came within 1.5 times the keep alive.
    keep_alive_timeouts
    /// PUBLISH packets received.
    messages_received
    /// PUBLISH packets put into mailboxes.
    messages_delivered
    /// Messages for QoS 0 subscribers whose mailbox was full.
    messages_dropped_mailbox
    /// PUBLISH, SUBSCRIBE and releases that were refused, since the store could not take them.
    not_stored
    /// Messages whose expiry interval was over before they could be sent.
    messages_expired
    /// Messages of shared subscriptions that another member got, since the first one left.
    messages_redistributed
    /// Messages that were not retained: a limit was reached.
    retained_refused
    /// Wills that were published.
    wills_published
    /// Sessions whose expiry interval was over.
    sessions_expired
    /// Messages for sessions whose queue was full.
    messages_dropped_queue
    /// Messages larger than the subscriber takes.
    messages_dropped_too_large
    /// PUBLISH packets that their publisher was not allowed to send.
    publishes_denied
    /// Messages that a parser rejected.
    messages_rejected
    /// Calls of a parser that gave no answer.
    parser_faults
    /// Calls of a verifier that gave no answer.
    verifier_faults
    /// CONNECTs that were not looked at, since so many had failed.
    connects_locked_out
    /// CONNECTs whose password was not checked: too many waited for it.
    passwords_not_checked
    /// CONNECTs that were let in by a verdict that was given before (cache-for).
    verdicts_reused
    /// CONNECTs that waited for the verdict about another one that was the same.
    verdicts_shared
    /// CONNECTs that were told to come back: more than are verified in a second.
    verifications_over_rate
    /// Devices that were created when a verifier admitted them.
    devices_created
    /// Connections that ended since their device was disabled, deleted, changed or kicked.
    sessions_ended_by_operator
    /// Bytes received.
    bytes_received
    /// Bytes sent.
    bytes_sent
}
