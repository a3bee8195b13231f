//! QoS 2 towards the gateway: which packet identifiers are in use (§4.3.3).

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use super::Received;

/// Packet identifiers of messages that were delivered and not yet released by PUBREL. A client
/// that publishes none has no room for it.
#[derive(Debug, Default)]
pub(super) struct Incoming(Option<Box<Receipts>>);

#[derive(Debug, Default)]
struct Receipts {
    unreleased: BTreeSet<NonZeroU16>,
    /// How many of them an earlier connection left; they do not count against this one's receive
    /// maximum (§4.9).
    left: usize,
}

impl Incoming {
    pub(super) fn received(&mut self, packet_id: NonZeroU16, max: usize) -> Received {
        let receipts = self.0.get_or_insert_default();
        if receipts.unreleased.contains(&packet_id) {
            return Received::Again;
        }
        if receipts.unreleased.len() - receipts.left >= max {
            return Received::TooMany;
        }
        receipts.unreleased.insert(packet_id);
        Received::New
    }

    pub(super) fn has(&self, packet_id: NonZeroU16) -> bool {
        self.0.as_ref().is_some_and(|receipts| receipts.unreleased.contains(&packet_id))
    }

    /// Whether the identifier was in use.
    pub(super) fn released(&mut self, packet_id: NonZeroU16) -> bool {
        let Some(receipts) = &mut self.0 else { return false };
        let was_used = receipts.unreleased.remove(&packet_id);
        receipts.left = receipts.left.min(receipts.unreleased.len());
        was_used
    }

    /// A new connection has the session.
    pub(super) fn attached(&mut self) {
        if let Some(receipts) = &mut self.0 {
            receipts.left = receipts.unreleased.len();
        }
    }

    /// Puts back what the store had.
    pub(super) fn restore(&mut self, packet_ids: impl Iterator<Item = NonZeroU16>) {
        let unreleased: BTreeSet<NonZeroU16> = packet_ids.collect();
        if !unreleased.is_empty() {
            self.0 = Some(Box::new(Receipts { unreleased, left: 0 }));
        }
    }

    /// The identifiers that were in use, at the end of the session.
    pub(super) fn end(&mut self) -> BTreeSet<NonZeroU16> {
        self.0.take().map(|receipts| receipts.unreleased).unwrap_or_default()
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self) {
        self.0.take_if(|receipts| receipts.unreleased.is_empty());
    }
}
