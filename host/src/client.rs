//! A client that was let in: what its connection knows between packets. The handlers of packets
//! work on it; none of them holds the socket.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use portreeve_mqtt::{ProtocolVersion, ReasonCode};

use crate::broker::Batch;
use crate::devices::Device;
use crate::gateway::Gateway;
use crate::permissions::Permissions;
use crate::reason::Close;
use crate::session::Session;
use crate::topics::Route;

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
    pub(crate) ways: Ways,
    pub(crate) batch: Batch,
}

/// What a message to a topic needs, looked up once.
pub(crate) struct Way {
    pub(crate) may_publish: bool,
    /// Index among the gateway's bindings.
    pub(crate) binding: Option<usize>,
    pub(crate) route: Route,
    generation: u64,
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

impl EstablishedClient {
    /// The way of a topic, from memory where it still holds.
    pub(crate) fn way(&mut self, topic: &str) -> Arc<Way> {
        let topics = &self.gateway.broker.topics;
        let ways = &mut self.ways.0.get_or_insert_default().by_topic;
        if let Some(way) = ways.get(topic)
            && way.generation == topics.generation()
        {
            return Arc::clone(way);
        }
        let (generation, route) = topics.route(topic);
        let way = Arc::new(Way {
            may_publish: self.permissions.may_publish(topic),
            binding: self.gateway.binding(topic),
            route,
            generation,
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

    /// Gives memory back while nothing happens.
    pub(crate) fn shrink(&mut self) {
        // The batch may hold wakers of what was published in front of this packet.
        self.batch.finish(&self.gateway.broker.metrics);
        self.batch = Batch::default();
        if let Some(known) = &mut self.ways.0 {
            known.by_topic = HashMap::new();
        }
        self.ways.0.take_if(|known| known.aliases.is_empty());
        self.session.shrink();
    }
}
