//! What bounds a session, and what its connection takes.

use portreeve_mqtt::ProtocolVersion;

/// Bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    /// Bytes that wait to be sent to a connection.
    pub(crate) mailbox_bytes_max: usize,
    /// QoS 1 and 2 messages that wait for room in the mailbox, or for a connection.
    pub(crate) queued_messages_max: usize,
    /// Bytes of those messages.
    pub(crate) queued_bytes_max: usize,
    /// QoS 1 and 2 messages that are sent and not yet acknowledged, in each direction.
    pub(crate) in_flight_max: u16,
    /// Which message gives way when the queue is full.
    pub(crate) queue_policy: QueuePolicy,
    /// Subscriptions of one session.
    pub(crate) subscriptions_max: usize,
}

/// Which message gives way when a session's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueuePolicy {
    /// The one that waits longest.
    DropOldest,
    /// The one that comes.
    DropNewest,
}

/// What a session needs to know of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) version: ProtocolVersion,
    /// Messages that it takes at a time.
    pub(crate) receive_maximum: u16,
    /// Bytes of one packet that it takes.
    pub(crate) packet_bytes_max: usize,
    /// Topic aliases that it takes (§3.1.2.11.5).
    pub(crate) topic_alias_maximum: u16,
    /// Whether it is told topics with a slash in front, as it subscribed.
    pub(crate) has_slash: bool,
}
