//! What an operator publishes through the admin API: it takes the way of a device's message, binding
//! and store included, and nobody's permissions.

use std::sync::Arc;

use portreeve_mqtt::{PropertiesBuf, Property, TopicName};
use portreeve_plugin::contract::Outcome;
use portreeve_store::{Changes, NotStored};
use tokio::time::Instant;

use crate::broker::{Batch, Broker};
use crate::devices::{Device, DeviceName};
use crate::gateway::{Binding, Gateway, OnError};
use crate::guest_view::{self, WhatIsMeant};
use crate::message::{MessageRef, expiry};
use crate::publish;

/// What became of a message.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Messages that were delivered: a parser may make several of one, or none.
    pub(crate) messages: usize,
    /// Whether anybody subscribes to one of them.
    pub(crate) is_received: bool,
    /// The parser that was asked.
    pub(crate) parser: Option<String>,
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPublished {
    #[error("the parser {0} rejects it: {1}")]
    Rejected(String, String),
    #[error("the parser {0} fails: {1}")]
    Failed(String, String),
    #[error(transparent)]
    NotStored(#[from] NotStored),
}

/// The name that parsers are told as the publisher's.
const OPERATOR: &str = "operator";

/// Publishes a message.
///
/// # Errors
/// [`NotPublished`]; of several messages of a parser those before the failure are delivered.
pub(crate) async fn publish(
    gateway: &Arc<Gateway>,
    message: &MessageRef<'_>,
) -> Result<Published, NotPublished> {
    let broker = &gateway.broker;
    let Some(binding) = gateway.binding(message.topic.as_str()) else {
        let is_received = send(broker, message).await?;
        return Ok(Published { messages: 1, is_received, parser: None });
    };
    let parser = Some(binding.plugin.name().to_owned());
    let name = DeviceName::parse(OPERATOR).unwrap_or_else(|_| DeviceName::unnamed());
    let device = Arc::new(Device::unregistered(name, Arc::clone(&gateway.product)));
    let question =
        WhatIsMeant::new(Arc::clone(gateway), device, "".into(), binding.direction, message);
    let published = match binding.plugin.parse(question).await {
        Ok(Outcome::Pass) => all(broker, std::slice::from_ref(message)).await?,
        Ok(Outcome::Drop) => Published::default(),
        Ok(Outcome::Reject(reason)) => {
            broker.metrics.messages_rejected.add(1);
            let (plugin, reason) = (binding.plugin.name().to_owned(), guest_view::text(&reason));
            return Err(NotPublished::Rejected(plugin, reason));
        }
        Ok(Outcome::Replace(messages)) => {
            match publish::checked(gateway, &binding, messages) {
                Ok(checked) => {
                    let now = Instant::now();
                    let borrowed = checked.iter().filter_map(|checked| {
                        let properties = checked.properties.as_properties();
                        Some(MessageRef {
                            // Checked, so this is a topic name.
                            topic: TopicName::parse(checked.topic()).ok()?,
                            payload: checked.payload(),
                            qos: checked.qos(),
                            retain: checked.retain(),
                            properties,
                            expires_at: expiry(properties, now),
                        })
                    });
                    all(broker, &borrowed.collect::<Vec<_>>()).await?
                }
                Err(error) => failed(broker, &binding, message, error).await?,
            }
        }
        Err(error) => failed(broker, &binding, message, error.to_string()).await?,
    };
    Ok(Published { parser, ..published })
}

/// The parser gave no outcome that can be used: the binding says what becomes of the message.
async fn failed(
    broker: &Broker,
    binding: &Binding,
    message: &MessageRef<'_>,
    error: String,
) -> Result<Published, NotPublished> {
    broker.metrics.parser_faults.add(1);
    match &binding.on_error {
        OnError::Reject => Err(NotPublished::Failed(binding.plugin.name().to_owned(), error)),
        OnError::Drop => Ok(Published::default()),
        OnError::Pass => all(broker, std::slice::from_ref(message)).await,
        OnError::DeadLetter(topic) => {
            let Ok(topic) = TopicName::parse(topic) else { return Ok(Published::default()) };
            let about = [
                Property::UserProperty(("topic", message.topic.as_str())),
                Property::UserProperty(("device", OPERATOR)),
                Property::UserProperty(("error", &error)),
            ];
            let properties: PropertiesBuf = message.properties.iter().chain(about).collect();
            let properties = properties.as_properties();
            all(broker, &[MessageRef { topic, retain: false, properties, ..*message }]).await
        }
    }
}

/// Takes the retained message of a topic away.
///
/// # Errors
/// [`NotStored`]; then it is still there.
pub(crate) async fn unretain(broker: &Broker, topic: TopicName<'_>) -> Result<(), NotStored> {
    let mut order = 0;
    if let Some(store) = &broker.store {
        let mut changes = Changes::default();
        changes.unretain(topic.as_str());
        let submission = store.submit(changes)?;
        order = submission.order();
        submission.stored().await?;
    }
    broker.topics.remove_retained(topic.as_str(), order);
    Ok(())
}

async fn all(broker: &Broker, messages: &[MessageRef<'_>]) -> Result<Published, NotPublished> {
    let mut published = Published::default();
    for message in messages {
        published.is_received |= send(broker, message).await?;
        published.messages += 1;
    }
    Ok(published)
}

/// Delivers at once, or when the store has it. Returns whether anybody subscribes.
async fn send(broker: &Broker, message: &MessageRef<'_>) -> Result<bool, NotStored> {
    let (_, route) = broker.topics.route(message.topic.as_str());
    let mut batch = Batch::default();
    let store = broker.store.as_ref().filter(|_| broker.must_store(message, &route));
    let Some(store) = store else {
        let is_received = broker.publish(*message, None, &route, &mut batch);
        batch.finish(broker);
        return Ok(is_received);
    };
    let mut changes = Changes::default();
    let plan = broker.plan(message, None, &route, &mut changes);
    let is_received = plan.is_received();
    let submission = store.submit(changes)?;
    let order = submission.order();
    submission.stored().await?;
    broker.carry_out(plan, order, Instant::now(), &mut batch);
    batch.finish(broker);
    Ok(is_received)
}
