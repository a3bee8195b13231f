//! A gateway: listeners with one product, one way of verification, their parser bindings and
//! their limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portreeve_mqtt::{Limits as PacketLimits, matches};
use portreeve_plugin::Plugin;
use portreeve_plugin::contract::Direction;

use crate::broker::Broker;
use crate::session::SessionLimits;

/// Everything that a connection of this gateway needs to know.
pub(crate) struct Gateway {
    pub(crate) name: Arc<str>,
    pub(crate) product: Arc<str>,
    pub(crate) verification: Verification,
    /// In the order of the configuration: the first one that matches a topic counts.
    pub(crate) bindings: Vec<Binding>,
    pub(crate) limits: GatewayLimits,
    /// Device names that may read `$SYS/#`.
    pub(crate) sys_readers: Vec<String>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) connection_ids: Arc<AtomicU64>,
}

/// How a CONNECT is verified.
#[derive(Debug, Clone)]
pub(crate) enum Verification {
    /// Everybody is let in.
    Open,
    /// Imported devices, by user name and password.
    OneParty,
    /// A plugin decides.
    Plugin(Arc<Plugin>),
}

/// A parser for the messages of a topic filter.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) filter: Box<str>,
    pub(crate) direction: Direction,
    pub(crate) plugin: Arc<Plugin>,
    /// Filters that the topics of its messages must match.
    pub(crate) may_publish: Vec<Box<str>>,
    pub(crate) on_error: OnError,
}

/// What becomes of a message whose parser failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OnError {
    /// It is refused: PUBACK 0x83 on MQTT 5.
    Reject,
    /// It is acknowledged and dropped.
    Drop,
    /// It is delivered as it came.
    Pass,
    /// It is delivered as it came, to this topic.
    DeadLetter(Box<str>),
}

/// Bounds of a gateway's connections.
#[derive(Debug, Clone)]
pub(crate) struct GatewayLimits {
    /// Connections at a time, on all listeners.
    pub(crate) connections_max: usize,
    /// From accept to CONNACK; more connections wait in the listen queue.
    pub(crate) handshakes_max: usize,
    /// Time from accept to a whole CONNECT.
    pub(crate) connect_timeout: Duration,
    /// A packet before CONNECT was accepted.
    pub(crate) connect_packet: PacketLimits,
    /// A packet after it.
    pub(crate) packet: PacketLimits,
    /// Topic aliases that a client may use.
    pub(crate) topic_alias_maximum: u16,
    /// Levels of a topic name or topic filter.
    pub(crate) topic_levels_max: usize,
    /// Longest keep alive in seconds; a client that asks for more, or for none, gets this one.
    /// 0 leaves it to the client.
    pub(crate) keep_alive_max: u16,
    /// Longest session expiry in seconds.
    pub(crate) session_expiry_max: u32,
    /// Time in which a peer must take some of what is sent to it.
    pub(crate) write_stall_timeout: Duration,
    pub(crate) session: Arc<SessionLimits>,
}

impl Gateway {
    /// The binding of a topic, if it has one.
    pub(crate) fn binding(&self, topic: &str) -> Option<usize> {
        self.bindings.iter().position(|binding| matches(&binding.filter, topic))
    }

    /// A number for a connection, unique in this process.
    pub(crate) fn next_connection_id(&self) -> u64 {
        self.connection_ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn reads_sys(&self, device_name: &str) -> bool {
        self.sys_readers.iter().any(|reader| reader == device_name)
    }
}

impl Binding {
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        self.may_publish.iter().any(|filter| matches(filter, topic))
    }
}
