//! PUBLISH: alias, permission, QoS state, parser, delivery, acknowledgement.

use std::future::poll_fn;
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Packet, Properties, PropertiesBuf, Property, Publish,
    QoS, ReasonCode, TopicName,
};
use portreeve_plugin::contract::{Direction, Outcome};
use portreeve_plugin::{Asked, CallError};
use portreeve_store::Changes;
use tokio::time::Instant;

use crate::client::{EstablishedClient, Way};
use crate::gateway::{Binding, Gateway, OnError};
use crate::guest_view::{self, CheckedMessage, WhatIsMeant};
use crate::message::{MessageRef, expiry};
use crate::plugin_json;
use crate::reason::Close;
use crate::session::Received;
use crate::telemetry::{PublishSpan, Publisher};
use crate::uncommitted::Promise;

/// What the publisher is told.
struct Answer {
    reason_code: ReasonCode,
    reason_string: Option<String>,
    /// The message was taken before, so nothing that fails now takes it back.
    repeats: bool,
}

impl Answer {
    const fn of(reason_code: ReasonCode) -> Self {
        Self { reason_code, reason_string: None, repeats: false }
    }

    /// MQTT 5 tells a publisher that nobody subscribes (§3.4.2.1).
    const fn delivered(is_received: bool) -> Self {
        Self::of(if is_received { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers })
    }
}

/// What handling a PUBLISH came to.
pub(crate) enum Handled<'a> {
    /// It is done.
    Done,
    /// It goes on with [`wait`].
    Waits(Waits<'a>),
    /// Its device published too much; it is to be handled again after this time.
    TooEarly(Duration),
}

/// A PUBLISH that may have to wait.
pub(crate) enum Waits<'a> {
    /// The parser of this binding is asked.
    Parser {
        publish: Publish<'a>,
        message: MessageRef<'a>,
        binding: Arc<Binding>,
        span: Option<Box<PublishSpan>>,
    },
    /// Its topic alias has to be resolved.
    Topic(Publish<'a>),
}

/// Handles a PUBLISH; its acknowledgement is appended to `replies`.
///
/// # Errors
/// [`Close`] for what ends the connection.
pub(crate) fn handle<'a>(
    client: &mut EstablishedClient,
    publish: Publish<'a>,
    now: Instant,
    replies: &mut Vec<u8>,
) -> Result<Handled<'a>, Close> {
    if let Some(over) = over_rate(client, &publish, now, replies) {
        return Ok(over);
    }
    if publish.topic_alias().is_some() {
        return Ok(Handled::Waits(Waits::Topic(publish)));
    }
    let Some(topic) = publish.topic else {
        return Err(Close::protocol("topic name is empty", "MQTT-4.7.3-1"));
    };
    with_topic(client, publish, topic, publish.properties, now, replies)
}

/// The rest of a PUBLISH that could not be handled at once.
///
/// # Errors
/// [`Close`] for what ends the connection.
pub(crate) async fn wait(
    client: &mut EstablishedClient,
    waits: Waits<'_>,
    now: Instant,
    replies: &mut Vec<u8>,
) -> Result<(), Close> {
    match waits {
        Waits::Topic(publish) => with_alias(client, publish, now, replies).await,
        parser @ Waits::Parser { .. } => parsed(client, parser, now, replies).await,
    }
}

async fn with_alias(
    client: &mut EstablishedClient,
    publish: Publish<'_>,
    now: Instant,
    replies: &mut Vec<u8>,
) -> Result<(), Close> {
    let Some(alias) = publish.topic_alias() else { return Ok(()) };
    let resolved = client.resolve_alias(alias, publish.topic.map(|topic| topic.as_str()))?;
    let Ok(topic) = TopicName::parse(&resolved) else {
        return Err(Close::protocol("topic alias stands for no topic", "3.3.2.3.4"));
    };
    // The alias is this connection's alone [MQTT-3.3.2-7].
    let is_forwarded = |property: &Property<'_>| !matches!(property, Property::TopicAlias(_));
    let properties: PropertiesBuf = publish.properties.iter().filter(is_forwarded).collect();
    let handled = with_topic(client, publish, topic, properties.as_properties(), now, replies)?;
    if let Handled::Waits(parser) = handled {
        parsed(client, parser, now, replies).await?;
    }
    Ok(())
}

/// What becomes of a PUBLISH whose parser is asked.
async fn parsed(
    client: &mut EstablishedClient,
    waits: Waits<'_>,
    now: Instant,
    replies: &mut Vec<u8>,
) -> Result<(), Close> {
    let Waits::Parser { publish, message, binding, mut span } = waits else { return Ok(()) };
    let answer = parse(client, &message, binding, now, replies, span.as_deref_mut()).await?;
    acknowledge(client, &publish, &answer, replies);
    traced(client, span, &answer);
    Ok(())
}

fn publisher(client: &EstablishedClient) -> Publisher<'_> {
    Publisher {
        gateway: &client.gateway.name,
        client_id: &client.session.key.client_id,
        device: &client.device,
    }
}

/// Ends the trace of a PUBLISH that is traced.
fn traced(client: &EstablishedClient, span: Option<Box<PublishSpan>>, answer: &Answer) {
    if let Some(span) = span {
        let why = answer.reason_string.as_deref().unwrap_or_default();
        client.gateway.broker.telemetry.published(*span, answer.reason_code, why);
    }
}

/// What becomes of a PUBLISH of a device that published too much in this second. On MQTT 5 it is
/// refused with 0x97; QoS 0 is dropped. MQTT 3.1.1 has no word for it, so the message waits, and
/// with it whatever the device sends behind it.
fn over_rate<'a>(
    client: &mut EstablishedClient,
    publish: &Publish<'a>,
    now: Instant,
    replies: &mut Vec<u8>,
) -> Option<Handled<'a>> {
    let rate = client.publish_rate.as_ref()?;
    // What was taken before is not published again.
    let repeats =
        |id: NonZeroU16| publish.qos == QoS::ExactlyOnce && client.session.has_received(id);
    if publish.packet_id.is_some_and(repeats) {
        return None;
    }
    let wait = rate.take(now).err()?;
    client.gateway.broker.metrics.publishes_over_rate.add(1);
    if publish.qos != QoS::AtMostOnce && !client.version.is_v5() {
        return Some(Handled::TooEarly(wait));
    }
    // The alias that a dropped message tells is told all the same.
    if let Some((alias, topic)) = publish.topic_alias().zip(publish.topic) {
        let _is_above_maximum = client.resolve_alias(alias, Some(topic.as_str()));
    }
    acknowledge(client, publish, &Answer::of(ReasonCode::QuotaExceeded), replies);
    Some(Handled::Done)
}

fn with_topic<'a>(
    client: &mut EstablishedClient,
    publish: Publish<'a>,
    topic: TopicName<'a>,
    properties: Properties<'a>,
    now: Instant,
    replies: &mut Vec<u8>,
) -> Result<Handled<'a>, Close> {
    check(client, &publish, topic)?;
    let topic = client.gateway.leading_slash.known_name(topic);
    if let Some(packet_id) = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce) {
        let mut changes = Changes::default();
        match client.session.received(client.generation, packet_id, &mut changes) {
            Received::New => client.uncommitted.append(changes),
            Received::TakenOver => {
                let reason_code = ReasonCode::SessionTakenOver;
                return Err(Close::new(reason_code, reason_code.name()));
            }
            Received::Again => {
                let answer = Answer { repeats: true, ..Answer::of(ReasonCode::Success) };
                acknowledge(client, &publish, &answer, replies);
                return Ok(Handled::Done);
            }
            Received::TooMany => {
                let message = "more QoS 2 messages than the receive maximum (MQTT-3.3.4-7)";
                return Err(Close::new(ReasonCode::ReceiveMaximumExceeded, message));
            }
        }
    }
    let way = client.way(topic.as_str());
    let message = MessageRef {
        topic,
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        properties,
        expires_at: if properties.is_empty() { None } else { expiry(properties, now) },
    };
    let span = client.gateway.broker.telemetry.publish(publisher(client), &message);
    if client.gateway.broker.tap.is_open() {
        let direction = way.binding.as_ref().map_or(Direction::Up, |binding| binding.direction);
        client.gateway.broker.tap.show(topic.as_str(), || recorded(client, &message, direction));
    }
    let answer = if client.gateway.checks_payload_format() && !is_what_it_says(&message) {
        client.gateway.broker.metrics.payloads_not_text.add(1);
        Answer::of(ReasonCode::PayloadFormatInvalid)
    } else if !way.may_publish {
        client.gateway.broker.metrics.publishes_denied.add(1);
        client.span().in_scope(|| tracing::debug!(%topic, "may not publish"));
        Answer::of(ReasonCode::NotAuthorized)
    } else if let Some(binding) = way.binding.clone() {
        return Ok(Handled::Waits(Waits::Parser { publish, message, binding, span }));
    } else {
        Answer::delivered(deliver(client, message, &way))
    };
    acknowledge(client, &publish, &answer, replies);
    traced(client, span, &answer);
    Ok(Handled::Done)
}

/// A line of a recording.
fn recorded(client: &EstablishedClient, message: &MessageRef<'_>, direction: Direction) -> String {
    let (gateway, device) = (Arc::clone(&client.gateway), Arc::clone(&client.device));
    let client_id = Arc::clone(&client.session.key.client_id);
    let question = WhatIsMeant::new(gateway, device, client_id, direction, message);
    plugin_json::recorded(&Asked::Publish(Arc::new(question)))
}

/// Whether a payload that says it is text is UTF-8 (§3.3.2.3.2).
fn is_what_it_says(message: &MessageRef<'_>) -> bool {
    let says_text = message
        .properties
        .iter()
        .any(|property| matches!(property, Property::PayloadFormatIndicator(1)));
    !says_text || std::str::from_utf8(message.payload).is_ok()
}

fn check(
    client: &EstablishedClient,
    publish: &Publish<'_>,
    topic: TopicName<'_>,
) -> Result<(), Close> {
    let is_identifier = |property| matches!(property, Property::SubscriptionIdentifier(_));
    if !publish.properties.is_empty() && publish.properties.iter().any(is_identifier) {
        return Err(Close::protocol(
            "subscription identifier in a client's PUBLISH",
            "MQTT-3.3.4-6",
        ));
    }
    let topic_bytes_max = client.gateway.limits.topic_bytes_max;
    if topic.as_str().len() > topic_bytes_max {
        let message = format!("topic name has more than {topic_bytes_max} bytes");
        return Err(Close::new(ReasonCode::TopicNameInvalid, message));
    }
    let levels_max = client.gateway.limits.topic_levels_max;
    if topic.as_str().bytes().filter(|&byte| byte == b'/').count() >= levels_max {
        let message = format!("topic name has more than {levels_max} levels");
        return Err(Close::new(ReasonCode::TopicNameInvalid, message));
    }
    Ok(())
}

/// Delivers at once, or when the store has it. What is published behind a message that waits, waits
/// too, so that the order stays.
fn deliver(client: &mut EstablishedClient, message: MessageRef<'_>, way: &Way) -> bool {
    let EstablishedClient { gateway, session, batch, uncommitted, .. } = client;
    let broker = &gateway.broker;
    if uncommitted.is_empty() && !broker.must_store(&message, &way.route) {
        return broker.publish(message, Some(session), &way.route, batch);
    }
    let plan = broker.plan(&message, Some(session), &way.route, uncommitted.changes());
    let is_received = plan.is_received();
    uncommitted.deliver(plan);
    is_received
}

/// Delivers to another topic than the one that was published to.
fn deliver_to(client: &mut EstablishedClient, message: MessageRef<'_>) -> bool {
    let way = client.way(message.topic.as_str());
    deliver(client, message, &way)
}

/// Has a message translated and delivers what comes out.
async fn parse(
    client: &mut EstablishedClient,
    message: &MessageRef<'_>,
    binding: Arc<Binding>,
    now: Instant,
    replies: &mut Vec<u8>,
    span: Option<&mut PublishSpan>,
) -> Result<Answer, Close> {
    let gateway = Arc::clone(&client.gateway);
    let binding = &*binding;
    let device = Arc::clone(&client.device);
    let question = WhatIsMeant::new(
        Arc::clone(&gateway),
        Arc::clone(&device),
        Arc::clone(&client.session.key.client_id),
        binding.direction,
        message,
    );
    let since = span.as_ref().map(|_| SystemTime::now());
    let outcome = {
        let mut call = pin!(binding.plugin.parse(question));
        match poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                // Others do not wait for this parser: what was published before is theirs now.
                // A parser that answers at once leaves the batch whole: one wake for each
                // receiver.
                client.batch.finish(&gateway.broker);
                client.commit(replies).await?;
                call.await
            }
        }
    };
    if let Some((span, since)) = span.zip(since) {
        span.parsed(binding.plugin.name(), since, kind(&outcome));
    }
    Ok(match outcome {
        Ok(Outcome::Pass) => Answer::delivered(deliver_to(client, *message)),
        Ok(Outcome::Drop) => Answer::of(ReasonCode::Success),
        Ok(Outcome::Reject(reason)) => {
            let reason = guest_view::text(&reason);
            gateway.broker.metrics.messages_rejected.add(1);
            let plugin = binding.plugin.name();
            client.span().in_scope(
                || tracing::debug!(plugin, topic = %message.topic, reason, "message rejected"),
            );
            if let OnError::DeadLetter(topic) = &binding.on_error {
                dead_letter(client, message, topic, &reason);
            }
            let reason_code = ReasonCode::PayloadFormatInvalid;
            Answer { reason_string: Some(reason), ..Answer::of(reason_code) }
        }
        Ok(Outcome::Replace(messages)) => match checked(&gateway, binding, messages) {
            Ok(messages) => Answer::delivered(deliver_all(client, &messages, now)),
            Err(error) => failed(client, message, binding, &error),
        },
        Err(error) => failed(client, message, binding, &error.to_string()),
    })
}

const fn kind(outcome: &Result<Outcome, CallError>) -> &'static str {
    match outcome {
        Ok(Outcome::Pass) => "pass",
        Ok(Outcome::Drop) => "drop",
        Ok(Outcome::Reject(_)) => "reject",
        Ok(Outcome::Replace(_)) => "replace",
        Err(_) => "fault",
    }
}

/// All of a parser's messages may be published, or none is.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn checked(
    gateway: &Gateway,
    binding: &Binding,
    messages: Vec<portreeve_plugin::contract::MessageResult>,
) -> Result<Vec<CheckedMessage>, String> {
    let limits = &gateway.limits;
    let packet_bytes_max = usize::try_from(limits.packet.packet_bytes_max).unwrap_or(usize::MAX);
    let topic_levels_max = limits.topic_levels_max;
    if messages.len() > guest_view::MESSAGES_MAX {
        let max = guest_view::MESSAGES_MAX;
        return Err(format!(
            "the parser returned {} messages, at most {max} are allowed",
            messages.len()
        ));
    }
    let check = |message| {
        let message = guest_view::message(message, packet_bytes_max, topic_levels_max)?;
        let message = message.of_known_topic(gateway.leading_slash);
        if !binding.may_publish(message.topic()) {
            return Err(format!(
                "the parser's topic {:?} is not under the binding's may_publish",
                message.topic()
            ));
        }
        Ok(message)
    };
    messages.into_iter().map(check).collect()
}

fn deliver_all(client: &mut EstablishedClient, messages: &[CheckedMessage], now: Instant) -> bool {
    let mut first_is_received = None;
    for checked in messages {
        // Checked, so this is a topic name.
        let Ok(topic) = TopicName::parse(checked.topic()) else { continue };
        let properties = checked.properties.as_properties();
        let message = MessageRef {
            topic,
            payload: checked.payload(),
            qos: checked.qos(),
            retain: checked.retain(),
            properties,
            expires_at: expiry(properties, now),
        };
        let is_received = deliver_to(client, message);
        first_is_received.get_or_insert(is_received);
    }
    first_is_received.unwrap_or(true)
}

/// The parser gave no outcome that can be used: the binding says what becomes of the message.
fn failed(
    client: &mut EstablishedClient,
    message: &MessageRef<'_>,
    binding: &Binding,
    error: &str,
) -> Answer {
    client.gateway.broker.metrics.parser_faults.add(1);
    let plugin = binding.plugin.name();
    if binding.plugin.may_log() {
        client
            .span()
            .in_scope(|| tracing::warn!(plugin, topic = %message.topic, error, "no outcome"));
    }
    match &binding.on_error {
        OnError::Reject => Answer::of(ReasonCode::ImplementationSpecificError),
        OnError::Drop => Answer::of(ReasonCode::Success),
        OnError::Pass => Answer::delivered(deliver_to(client, *message)),
        OnError::DeadLetter(topic) => {
            dead_letter(client, message, topic, error);
            Answer::of(ReasonCode::Success)
        }
    }
}

/// Publishes a message as it came to the dead letter topic, with topic and error beside it.
fn dead_letter(client: &mut EstablishedClient, message: &MessageRef<'_>, topic: &str, error: &str) {
    let Ok(dead_letter_topic) = TopicName::parse(topic) else { return };
    let about = [
        Property::UserProperty(("topic", message.topic.as_str())),
        Property::UserProperty(("device", client.device.name.as_str())),
        Property::UserProperty(("error", error)),
    ];
    let properties: PropertiesBuf = message.properties.iter().chain(about).collect();
    let dead = MessageRef {
        topic: dead_letter_topic,
        retain: false,
        properties: properties.as_properties(),
        ..*message
    };
    let _is_received = deliver_to(client, dead);
}

/// Appends PUBACK or PUBREC. MQTT 3.1.1 can only say yes.
fn acknowledge(
    client: &mut EstablishedClient,
    publish: &Publish<'_>,
    answer: &Answer,
    replies: &mut Vec<u8>,
) {
    let Some(packet_id) = publish.packet_id else { return };
    let kind = match publish.qos {
        QoS::AtMostOnce => return,
        QoS::AtLeastOnce => AcknowledgementKind::Puback,
        QoS::ExactlyOnce => AcknowledgementKind::Pubrec,
    };
    if kind == AcknowledgementKind::Pubrec
        && client.version.is_v5()
        && answer.reason_code.is_error()
    {
        let changes = client.session.refused(packet_id);
        client.uncommitted.append(changes);
    }
    let reason = answer.reason_string.as_deref().filter(|_| client.wants_problem_information);
    let properties: PropertiesBuf = reason.map(Property::ReasonString).into_iter().collect();
    let packet = Acknowledgement {
        kind,
        packet_id,
        reason_code: answer.reason_code,
        properties: properties.as_properties(),
    };
    let version = client.version;
    let packet_bytes_max = usize::try_from(client.packet_bytes_max).unwrap_or(usize::MAX);
    let answers = client.answers(replies);
    let begin = answers.len();
    // An identifier, a reason and a text below 64 KiB always fit.
    let _fits = Packet::Acknowledgement(packet).encode(version, answers);
    if reason.is_some() && answers.len() - begin > packet_bytes_max {
        // The text is left out for a client that does not take it [MQTT-3.4.2-2, MQTT-3.5.2-2].
        answers.truncate(begin);
        let packet = Acknowledgement { properties: Properties::NONE, ..packet };
        let _fits = Packet::Acknowledgement(packet).encode(version, answers);
    }
    if !client.uncommitted.is_empty() && !answer.reason_code.is_error() {
        let promise = match answer.repeats {
            true => Promise::Release,
            false => Promise::Message { kind, packet_id },
        };
        client.uncommitted.promise(promise, begin);
    }
}
