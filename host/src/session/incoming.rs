//! QoS 2 towards the gateway: which packet identifiers are in use (§4.3.3).

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use super::Received;

/// Packet identifiers of messages that were delivered and not yet released by PUBREL.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    unreleased: BTreeSet<NonZeroU16>,
}

impl Incoming {
    pub(super) fn received(&mut self, packet_id: NonZeroU16, max: usize) -> Received {
        if self.unreleased.contains(&packet_id) {
            return Received::Again;
        }
        if self.unreleased.len() >= max {
            return Received::TooMany;
        }
        self.unreleased.insert(packet_id);
        Received::New
    }

    /// Whether the identifier was in use.
    pub(super) fn released(&mut self, packet_id: NonZeroU16) -> bool {
        self.unreleased.remove(&packet_id)
    }
}
