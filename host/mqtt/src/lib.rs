//! MQTT 3.1.1 and 5.0 as values: bytes to packets and back, topic names and filters.
//!
//! There is no I/O, no clock and no state here, and no dependency. A decoded packet borrows the
//! bytes that it was read from; what is to be kept is copied by the caller. Everything that a
//! peer can get wrong within one packet is found by [`decode`]; what depends on the packets
//! before it (packet identifiers in use, topic aliases, the order of packets) is the caller's.
//!
//! Names and section numbers are those of the OASIS standards *MQTT Version 5.0* and
//! *MQTT Version 3.1.1*; a statement such as `MQTT-3.1.4-3` is one of their normative statements.

mod error;
mod fixed_header;
mod packet;
mod property;
mod reason_code;
mod topic;
mod wire;

pub use error::{DecodeError, EncodeError, Fault};
pub use fixed_header::{FixedHeader, PacketType, REMAINING_LENGTH_MAX};
pub use packet::acknowledgement::{Acknowledgement, AcknowledgementKind};
pub use packet::auth::Auth;
pub use packet::connack::Connack;
pub use packet::connect::{Connect, Will};
pub use packet::disconnect::Disconnect;
pub use packet::publish::{EncodedPublish, Publish, append_publish, expiry_interval_at};
pub use packet::suback::{Suback, SubackKind};
pub use packet::subscribe::{
    RetainHandling, Subscribe, SubscribeEntries, SubscribeEntriesBuf, SubscribeEntry,
    SubscriptionOptions,
};
pub use packet::unsubscribe::{Unsubscribe, UnsubscribeFilters, UnsubscribeFiltersBuf};
pub use packet::{Packet, ProtocolVersion, QoS, decode, decode_first};
pub use property::{Properties, PropertiesBuf, Property, PropertyIter};
pub use reason_code::{ReasonCode, connect_return_code};
pub use topic::{SharedFilter, TopicError, TopicFilter, TopicName, matches};

/// How much one packet may ask for. Every limit is checked before the packet is looked into
/// further, so a peer cannot make the reader work beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest whole packet in bytes, fixed header included.
    pub packet_bytes_max: u32,
    /// User properties in one property list.
    pub user_properties_max: u16,
    /// Topic filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_max: u16,
}

impl Limits {
    /// No limit beyond what the standard's encoding itself can hold.
    pub const STANDARD: Self =
        Self { packet_bytes_max: u32::MAX, user_properties_max: u16::MAX, filters_max: u16::MAX };
}
