//! QoS 2 towards the gateway: which packet identifiers are in use (§4.3.3).

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use super::Received;

/// Packet identifiers of messages that were delivered and not yet released by PUBREL.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    unreleased: BTreeSet<NonZeroU16>,
    /// How many of them an earlier connection left; they do not count against this one's receive
    /// maximum (§4.9).
    left: usize,
}

impl Incoming {
    pub(super) fn received(&mut self, packet_id: NonZeroU16, max: usize) -> Received {
        if self.unreleased.contains(&packet_id) {
            return Received::Again;
        }
        if self.unreleased.len() - self.left >= max {
            return Received::TooMany;
        }
        self.unreleased.insert(packet_id);
        Received::New
    }

    /// Whether the identifier was in use.
    pub(super) fn released(&mut self, packet_id: NonZeroU16) -> bool {
        let was_used = self.unreleased.remove(&packet_id);
        self.left = self.left.min(self.unreleased.len());
        was_used
    }

    /// A new connection has the session.
    pub(super) fn attached(&mut self) {
        self.left = self.unreleased.len();
    }

    /// Puts back what the store had.
    pub(super) fn restore(&mut self, packet_ids: impl Iterator<Item = NonZeroU16>) {
        self.unreleased.extend(packet_ids);
    }

    /// The identifiers that were in use, at the end of the session.
    pub(super) fn end(&mut self) -> BTreeSet<NonZeroU16> {
        std::mem::take(self).unreleased
    }
}
