//! `$SYS`: what the gateway tells of itself, as retained messages. The names are those that
//! mosquitto's users know, where there is one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portreeve_mqtt::{Properties, QoS, TopicName};
use portreeve_store::StoreCounts;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::message::MessageRef;

/// Publishes every `interval`, until the task is dropped.
pub(crate) async fn publish(broker: Arc<Broker>, interval: Duration) {
    let begin = Instant::now();
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        for (topic, text) in values(&broker, begin.elapsed()) {
            publish_one(&broker, topic, &text);
        }
        for (name, count) in broker.metrics.counters() {
            let topic = format!("$SYS/broker/counters/{name}");
            publish_one(&broker, &topic, &count.to_string());
        }
        if let Some(store) = &broker.store {
            let StoreCounts { commits, failures, refused, is_failing, waiting_bytes } =
                store.counts();
            let values = [
                ("commits", commits.to_string()),
                ("failures", failures.to_string()),
                ("refused", refused.to_string()),
                ("failing", u8::from(is_failing).to_string()),
                ("waiting_bytes", waiting_bytes.to_string()),
            ];
            for (name, text) in values {
                publish_one(&broker, &format!("$SYS/broker/store/{name}"), &text);
            }
        }
    }
}

fn publish_one(broker: &Broker, topic: &str, text: &str) {
    let Ok(topic) = TopicName::parse(topic) else { return };
    let message = MessageRef {
        topic,
        payload: text.as_bytes(),
        qos: QoS::AtMostOnce,
        retain: true,
        properties: Properties::NONE,
        expires_at: None,
    };
    broker.publish_uncached(message);
}

fn values(broker: &Broker, up: Duration) -> Vec<(&'static str, String)> {
    let Broker { topics, sessions, registry, metrics, .. } = broker;
    let dropped = metrics.messages_dropped_mailbox.value()
        + metrics.messages_dropped_queue.value()
        + metrics.messages_dropped_too_large.value();
    let number = |n: usize| n.to_string();
    vec![
        ("$SYS/broker/version", format!("portreeve {}", env!("CARGO_PKG_VERSION"))),
        ("$SYS/broker/uptime", format!("{} seconds", up.as_secs())),
        ("$SYS/broker/clients/connected", metrics.connections.load(Ordering::Relaxed).to_string()),
        ("$SYS/broker/clients/total", number(sessions.count())),
        ("$SYS/broker/subscriptions/count", number(topics.subscription_count())),
        ("$SYS/broker/retained messages/count", number(topics.retained_count())),
        ("$SYS/broker/publish/messages/received", metrics.messages_received.value().to_string()),
        ("$SYS/broker/publish/messages/sent", metrics.messages_delivered.value().to_string()),
        ("$SYS/broker/publish/messages/dropped", dropped.to_string()),
        ("$SYS/broker/bytes/received", metrics.bytes_received.value().to_string()),
        ("$SYS/broker/bytes/sent", metrics.bytes_sent.value().to_string()),
        ("$SYS/broker/devices/count", number(registry.count())),
        ("$SYS/broker/connects/refused", metrics.connects_refused.value().to_string()),
        (
            "$SYS/broker/plugins/faults",
            (metrics.parser_faults.value() + metrics.verifier_faults.value()).to_string(),
        ),
    ]
}
