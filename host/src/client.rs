//! A client that was let in: what its connection knows between packets. The handlers of packets
//! work on it; none of them holds the socket.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use portreeve_mqtt::{ProtocolVersion, QoS, ReasonCode};

use crate::broker::Batch;
use crate::devices::Device;
use crate::gateway::{Binding, Gateway};
use crate::message::Message;
use crate::peer::Peer;
use crate::permissions::Permissions;
use crate::rate::Bucket;
use crate::reason::Close;
use crate::session::Session;
use crate::topics::Route;
use crate::uncommitted::{Owner, Uncommitted};

/// Topics whose way is remembered; a device publishes to few.
const CACHED_TOPICS_MAX: usize = 64;

pub(crate) struct EstablishedClient {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) session: Arc<Session>,
    /// The number of this connection in its session.
    pub(crate) generation: u64,
    pub(crate) version: ProtocolVersion,
    pub(crate) device: Arc<Device>,
    pub(crate) permissions: Permissions,
    /// Whether reason strings may be sent with every packet (§3.1.2.11.7).
    pub(crate) wants_problem_information: bool,
    /// Bytes of one packet that it takes [MQTT-3.1.2-24].
    pub(crate) packet_bytes_max: u32,
    /// Where the device may publish so much in a second only.
    pub(crate) publish_rate: Option<Arc<Bucket>>,
    /// Of a client that may authenticate again.
    pub(crate) authentication: Option<Box<Authentication>>,
    pub(crate) ways: Ways,
    pub(crate) batch: Batch,
    pub(crate) uncommitted: Uncommitted,
    pub(crate) retained: RetainedMessages,
}

/// Retained messages that subscriptions asked for and that there was no room for yet.
#[expect(clippy::box_collection, reason = "nearly every connection has none, and many are idle")]
#[derive(Default)]
pub(crate) struct RetainedMessages(Option<Box<VecDeque<RetainedMessage>>>);

/// A retained message for a new subscription.
pub(crate) struct RetainedMessage {
    pub(crate) message: Arc<Message>,
    /// What the subscription asks for.
    pub(crate) qos: QoS,
    pub(crate) identifier: Option<u32>,
}

impl RetainedMessages {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.len())
    }

    pub(crate) fn add(&mut self, messages: Vec<Arc<Message>>, qos: QoS, identifier: Option<u32>) {
        if !messages.is_empty() {
            let waiting = self.0.get_or_insert_default();
            let of = |message| RetainedMessage { message, qos, identifier };
            waiting.extend(messages.into_iter().map(of));
        }
    }

    /// The next one, if the session has room for it.
    pub(crate) fn next(&mut self, session: &Session) -> Option<RetainedMessage> {
        let waiting = self.0.as_mut()?;
        let first = waiting.front()?;
        if !session.has_spare_room(first.message.qos.min(first.qos)) {
            return None;
        }
        let next = waiting.pop_front();
        self.0.take_if(|waiting| waiting.is_empty());
        next
    }
}

/// What a message to a topic needs, looked up once.
pub(crate) struct Way {
    pub(crate) may_publish: bool,
    pub(crate) binding: Option<Arc<Binding>>,
    pub(crate) route: Route,
    generation: u64,
    rules_generation: u64,
}

/// What is known of the topics that were published to. A connection that publishes nothing has no
/// room for it.
#[derive(Default)]
pub(crate) struct Ways(Option<Box<Known>>);

#[derive(Default)]
struct Known {
    /// The ways of the last topics.
    by_topic: HashMap<Box<str>, Arc<Way>>,
    aliases: HashMap<NonZeroU16, Arc<str>>,
}

impl Ways {
    /// What was looked up with other permissions does not hold any more.
    pub(crate) fn forget(&mut self) {
        if let Some(known) = &mut self.0 {
            known.by_topic.clear();
        }
    }
}

/// What a client that may authenticate again has to be asked with.
pub(crate) struct Authentication {
    /// Its CONNECT, as it came.
    pub(crate) connect: Vec<u8>,
    pub(crate) connection_id: u64,
    pub(crate) peer: Peer,
    /// A challenge was sent, and its answer is due.
    pub(crate) is_challenged: bool,
}

impl EstablishedClient {
    /// What log lines about this connection stand in. It is made where a line is written: one that
    /// is kept and entered would cost each packet.
    pub(crate) fn span(&self) -> tracing::Span {
        tracing::warn_span!(
            "connection",
            gateway = %self.gateway.name,
            client_id = &*self.session.key.client_id,
            device = self.device.name.as_str(),
        )
    }

    /// The way of a topic, from memory where it still holds.
    pub(crate) fn way(&mut self, topic: &str) -> Arc<Way> {
        let topics = &self.gateway.broker.topics;
        let ways = &mut self.ways.0.get_or_insert_default().by_topic;
        if let Some(way) = ways.get(topic)
            && way.generation == topics.generation()
            && way.rules_generation == self.gateway.rules_generation()
        {
            return Arc::clone(way);
        }
        // Before the rules are read: what was looked up in the old ones is looked up again.
        let rules_generation = self.gateway.rules_generation();
        let (generation, route) = topics.route(topic);
        let way = Arc::new(Way {
            may_publish: self.permissions.may_publish(topic),
            binding: self.gateway.binding(topic),
            route,
            generation,
            rules_generation,
        });
        if ways.len() >= CACHED_TOPICS_MAX {
            ways.clear();
        }
        ways.insert(topic.into(), Arc::clone(&way));
        way
    }

    /// The topic behind an alias, or the alias of a topic noted (§3.3.2.3.4).
    pub(crate) fn resolve_alias(
        &mut self,
        alias: NonZeroU16,
        topic: Option<&str>,
    ) -> Result<Arc<str>, Close> {
        if alias.get() > self.gateway.limits.topic_alias_maximum {
            let message = "topic alias is above the topic alias maximum (MQTT-3.3.2-9)";
            return Err(Close::new(ReasonCode::TopicAliasInvalid, message));
        }
        match topic {
            Some(topic) => {
                let topic: Arc<str> = topic.into();
                let known = self.ways.0.get_or_insert_default();
                known.aliases.insert(alias, Arc::clone(&topic));
                Ok(topic)
            }
            None => self
                .ways
                .0
                .as_ref()
                .and_then(|known| known.aliases.get(&alias))
                .map(Arc::clone)
                .ok_or_else(|| Close::protocol("topic alias stands for no topic", "3.3.2.3.4")),
        }
    }

    /// Has the store take what waits for it, then delivers and answers.
    ///
    /// # Errors
    /// [`Close`] when it cannot be stored and the peer cannot be told otherwise.
    pub(crate) async fn commit(&mut self, replies: &mut Vec<u8>) -> Result<(), Close> {
        let owner = Owner {
            broker: &self.gateway.broker,
            session: &self.session,
            generation: self.generation,
            version: self.version,
            batch: &mut self.batch,
        };
        self.uncommitted.commit(owner, replies).await
    }

    /// Where an answer goes: behind those that wait for the store, if any do.
    pub(crate) fn answers<'a>(&'a mut self, replies: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if self.uncommitted.is_empty() { replies } else { self.uncommitted.answers() }
    }

    /// Whether a packet of so many bytes may be sent to it [MQTT-3.1.2-24].
    pub(crate) fn takes(&self, packet_bytes: usize) -> bool {
        u32::try_from(packet_bytes).is_ok_and(|bytes| bytes <= self.packet_bytes_max)
    }

    /// Gives memory back while nothing happens.
    pub(crate) fn shrink(&mut self) {
        // The batch may hold wakers of what was published in front of this packet.
        self.batch.finish(&self.gateway.broker);
        self.batch = Batch::default();
        if let Some(known) = &mut self.ways.0 {
            known.by_topic = HashMap::new();
        }
        self.ways.0.take_if(|known| known.aliases.is_empty());
        self.session.shrink();
    }
}
