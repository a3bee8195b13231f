//! A gateway: listeners with one product, one way of verification, their parser bindings and
//! their limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use portreeve_mqtt::{Limits as PacketLimits, matches};
use portreeve_plugin::Plugin;
use portreeve_plugin::contract::Direction;

use tokio::time::Instant;

use crate::broker::Broker;
use crate::leading_slash::LeadingSlash;
use crate::permissions::{Action, Permissions, Rule, fill_in};
use crate::rate::Bucket;
use crate::session::SessionLimits;
use crate::tls::Tls;
use crate::verdicts::Verdicts;

/// Lines about failed handshakes in a second.
const HANDSHAKE_LINES_MAX: u32 = 10;

/// Everything that a connection of this gateway needs to know.
pub(crate) struct Gateway {
    pub(crate) name: Arc<str>,
    pub(crate) product: Arc<str>,
    pub(crate) leading_slash: LeadingSlash,
    pub(crate) limits: GatewayLimits,
    /// Where it has listeners with TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Lines about handshakes that failed, in a second: anybody can make them.
    handshake_lines: Option<Bucket>,
    rules: ArcSwap<Rules>,
    /// Counted up when the rules change.
    rules_generation: AtomicU64,
    /// Connections that are open.
    pub(crate) connections: AtomicUsize,
    /// Connections by address, where their number is bounded.
    pub(crate) by_address: Mutex<HashMap<IpAddr, usize>>,
    /// Connections that may be accepted in a second.
    pub(crate) connection_rate: Option<Bucket>,
    /// Devices that its verifier may be asked about in a second.
    pub(crate) verification_rate: Option<Bucket>,
    /// What its verifier said and may be used again.
    pub(crate) verdicts: Verdicts,
    /// Whether its verifier ever let a verdict be used again.
    pub(crate) keeps_verdicts: AtomicBool,
    pub(crate) broker: Arc<Broker>,
    pub(crate) connection_ids: Arc<AtomicU64>,
}

/// What of a gateway holds until a restart.
pub(crate) struct Fixed {
    pub(crate) name: Arc<str>,
    pub(crate) product: Arc<str>,
    pub(crate) leading_slash: LeadingSlash,
    pub(crate) limits: GatewayLimits,
    /// Where it has listeners with TLS.
    pub(crate) tls: Option<Arc<Tls>>,
}

/// What changes while the gateway runs; published whole.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) verification: Verification,
    /// Whether a verifier may take the name of an imported device.
    pub(crate) admits_taken_names: bool,
    /// Whether a verifier enables a device that was disabled.
    pub(crate) enables_disabled: bool,
    /// In the order of the configuration: the first one that matches a topic counts.
    pub(crate) bindings: Vec<Arc<Binding>>,
    /// What devices may do whose verifier gives no permissions; the first rule counts.
    pub(crate) topic_rules: TopicRules,
    /// Whether a payload that says it is text has to be UTF-8 (§3.3.2.3.2).
    pub(crate) checks_payload_format: bool,
    /// Told to clients that ask for it, with `%d`, `%c`, `%u` put in (§3.2.2.3.15).
    pub(crate) response_information: Option<String>,
    /// Device names that may read `$SYS/#`.
    pub(crate) sys_readers: Vec<String>,
}

/// Rules about topics, as the configuration has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRules {
    pub(crate) rules: Vec<TopicRule>,
    /// What holds for topics that no rule is about.
    pub(crate) otherwise: bool,
}

/// One of them; its filter may hold `%d`, `%c` and `%u`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRule {
    pub(crate) allows: bool,
    pub(crate) action: Action,
    pub(crate) filter: String,
    /// Names of the devices that it is for; `None` for all.
    pub(crate) devices: Option<Vec<String>>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayLimits {
    /// Connections at a time, on all listeners.
    pub(crate) connections_max: usize,
    /// Connections at a time from one address; 0 for no bound of its own.
    pub(crate) connections_per_address_max: usize,
    /// Connections accepted in a second, the others wait in the listen queue; 0 for no bound.
    pub(crate) connection_rate_max: u32,
    /// Calls of the verifier in a second, the others are told to come back; 0 for no bound.
    pub(crate) verification_rate_max: u32,
    /// Verdicts that are kept to be used again.
    pub(crate) verdicts_max: usize,
    /// Messages that one device may publish in a second; 0 for no bound.
    pub(crate) publish_rate_max: u32,
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
    /// Bytes of a topic name or topic filter.
    pub(crate) topic_bytes_max: usize,
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
    pub(crate) fn new(
        fixed: Fixed,
        rules: Rules,
        broker: Arc<Broker>,
        connection_ids: Arc<AtomicU64>,
    ) -> Self {
        let Fixed { name, product, leading_slash, limits, tls } = fixed;
        Self {
            name,
            product,
            leading_slash,
            connections: AtomicUsize::new(0),
            by_address: Mutex::default(),
            connection_rate: Bucket::new(limits.connection_rate_max, Instant::now()),
            verification_rate: Bucket::new(limits.verification_rate_max, Instant::now()),
            verdicts: Verdicts::new(limits.verdicts_max),
            keeps_verdicts: AtomicBool::new(false),
            limits,
            tls,
            handshake_lines: Bucket::new(HANDSHAKE_LINES_MAX, Instant::now()),
            rules: ArcSwap::from_pointee(rules.of_known_topics(leading_slash)),
            rules_generation: AtomicU64::new(0),
            broker,
            connection_ids,
        }
    }

    /// Whether one more line about a failed handshake may be written.
    pub(crate) fn may_log_handshake(&self) -> bool {
        self.handshake_lines.as_ref().is_none_or(|lines| lines.take(Instant::now()).is_ok())
    }

    /// What holds at present.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// From now on these hold.
    pub(crate) fn publish(&self, rules: Rules) {
        self.rules.store(Arc::new(rules.of_known_topics(self.leading_slash)));
        self.rules_generation.fetch_add(1, Ordering::Release);
    }

    /// Another number whenever the rules are others.
    pub(crate) fn rules_generation(&self) -> u64 {
        self.rules_generation.load(Ordering::Acquire)
    }

    /// Whether payloads that say they are text are looked at.
    pub(crate) fn checks_payload_format(&self) -> bool {
        self.rules.load().checks_payload_format
    }

    /// The binding of a topic, if it has one.
    pub(crate) fn binding(&self, topic: &str) -> Option<Arc<Binding>> {
        let rules = self.rules.load();
        rules.bindings.iter().find(|binding| matches(&binding.filter, topic)).cloned()
    }

    /// A number for a connection, unique in this process.
    pub(crate) fn next_connection_id(&self) -> u64 {
        self.connection_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// What a device may do whose verifier gives no permissions.
    pub(crate) fn permissions(
        &self,
        device_name: &str,
        client_id: &str,
        user_name: Option<&str>,
    ) -> Permissions {
        let current = self.rules.load();
        let TopicRules { rules, otherwise } = &current.topic_rules;
        let is_for = |rule: &&TopicRule| {
            rule.devices.as_ref().is_none_or(|names| names.iter().any(|name| name == device_name))
        };
        let filled = rules.iter().filter(is_for).filter_map(|rule| {
            let filled = fill_in(&rule.filter, device_name, client_id, user_name);
            // Names that a filter cannot hold permit nothing, and do not open what is denied.
            let filter = if rule.allows { filled? } else { filled.unwrap_or_else(|| "#".into()) };
            Some(Rule { allows: rule.allows, action: rule.action, filter })
        });
        let permissions =
            Permissions::new(filled.collect(), *otherwise, self.reads_sys(device_name));
        permissions.of_known_topics(self.leading_slash)
    }

    pub(crate) fn reads_sys(&self, device_name: &str) -> bool {
        self.rules.load().sys_readers.iter().any(|reader| reader == device_name)
    }
}

impl Rules {
    /// The same with bindings of topics as the gateway knows them.
    fn of_known_topics(mut self, slash: LeadingSlash) -> Self {
        for binding in self.bindings.iter_mut().map(Arc::make_mut) {
            slash.know(&mut binding.filter);
            binding.may_publish.iter_mut().for_each(|filter| slash.know(filter));
            if let OnError::DeadLetter(topic) = &mut binding.on_error {
                slash.know(topic);
            }
        }
        self
    }
}

impl Binding {
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        self.may_publish.iter().any(|filter| matches(filter, topic))
    }
}
