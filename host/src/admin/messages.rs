//! Messages: publish, look at what is retained, take it away.
#![expect(unused_qualifications, reason = "the macro that describes parameters writes them")]

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portreeve_mqtt::{PropertiesBuf, Property, QoS, TopicFilter, TopicName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::devices::to_its_end;
use super::problem::{Json, Path, Problem, ProblemBody, Query};
use super::{Admin, Caller};
use crate::gateway::Gateway;
use crate::message::{Message, MessageRef, expiry};
use crate::operator::{self, NotPublished};
use crate::permissions::fill_in;

/// User properties of a message.
const USER_PROPERTIES_MAX: usize = 64;
/// Retained messages of one answer.
const RETAINED_MAX: usize = 1_000;
/// Bytes of a payload that are shown in a list.
const SHOWN_BYTES_MAX: usize = 1_024;

/// A message that is to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// A topic name; `%d` stands for the name of `device`.
    topic: String,
    /// The device whose name stands for `%d`; it has to be registered.
    device: Option<String>,
    /// The payload, as text.
    payload: Option<String>,
    /// The payload in base64, in place of `payload`.
    payload_base64: Option<String>,
    /// 0, 1 or 2; 0 where it is absent.
    #[schema(minimum = 0, maximum = 2)]
    qos: Option<u8>,
    /// Whether it is retained.
    #[serde(default)]
    retain: bool,
    content_type: Option<String>,
    /// A topic name.
    response_topic: Option<String>,
    correlation_data_base64: Option<String>,
    /// Seconds.
    message_expiry_interval: Option<u32>,
    /// Whether the payload is said to be text.
    payload_is_text: Option<bool>,
    /// At most 64.
    #[serde(default)]
    #[schema(max_items = 64)]
    user_properties: Vec<(String, String)>,
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PublishedBody {
    /// Messages that were delivered: a parser may make several of one, or none.
    messages: usize,
    /// Whether anybody subscribes to one of them.
    is_received: bool,
    /// The parser that was asked.
    parser: Option<String>,
}

/// Publish a message, as a device of the gateway would
#[utoipa::path(post, path = "/v1/gateways/{gateway}/publish", tag = "messages",
    params(("gateway" = String, Path)), request_body = NewMessage, responses(
    (status = 200, body = PublishedBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn publish(
    State(admin): State<Admin>,
    caller: Caller,
    Path(gateway): Path<String>,
    Json(new): Json<NewMessage>,
) -> Result<Json<PublishedBody>, Problem> {
    let gateway = find(&admin, &gateway)?;
    let topic = topic(&admin, gateway, &new)?;
    let payload = match (&new.payload, &new.payload_base64) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("payload goes without payload_base64"));
        }
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(text)) => decoded("payload_base64", text)?,
        (None, None) => Vec::new(),
    };
    let properties = properties(&new)?;
    let qos = QoS::from_bits(new.qos.unwrap_or(0));
    let qos = qos.ok_or_else(|| Problem::bad_request("qos is 0, 1 or 2"))?;
    let name = TopicName::parse(&topic)
        .map_err(|error| Problem::bad_request(format!("topic {topic:?}: {error}")))?;
    let message = MessageRef {
        topic: gateway.leading_slash.known_name(name),
        payload: &payload,
        qos,
        retain: new.retain,
        properties: properties.as_properties(),
        expires_at: expiry(properties.as_properties(), Instant::now()),
    };
    check(gateway, &message, properties.as_bytes().len())?;
    let message = message.to_message();
    let (gateway, retain) = (Arc::clone(gateway), new.retain);
    let published = to_its_end(&admin, async move {
        let properties = message.properties_at(Instant::now());
        let Some(borrowed) = message.borrowed(retain, &properties) else {
            return Err(Problem::bad_request("the topic is none"));
        };
        let published = operator::publish(&gateway, &borrowed).await.map_err(|error| {
            let status = match &error {
                NotPublished::Rejected(..) => StatusCode::UNPROCESSABLE_ENTITY,
                NotPublished::Failed(..) => StatusCode::BAD_GATEWAY,
                NotPublished::NotStored(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            Problem::new(status, error.to_string())
        })?;
        let (topic, bytes) = (message.topic(), message.payload().len());
        caller.did("publish", &format!("topic {topic}"), &format!("{bytes} bytes"));
        Ok(published)
    });
    let published = published.await?;
    let operator::Published { messages, is_received, parser } = published;
    Ok(Json(PublishedBody { messages, is_received, parser }))
}

fn find<'a>(admin: &'a Admin, name: &str) -> Result<&'a Arc<Gateway>, Problem> {
    let found = admin.gateways.iter().find(|gateway| &*gateway.name == name);
    found.ok_or_else(|| Problem::not_found(format!("there is no gateway {name:?}")))
}

/// The topic with the device's name put in.
fn topic(admin: &Admin, gateway: &Gateway, new: &NewMessage) -> Result<String, Problem> {
    let Some(name) = &new.device else {
        if new.topic.contains("%d") {
            return Err(Problem::bad_request("%d stands for a device; say device"));
        }
        return Ok(new.topic.clone());
    };
    if admin.broker.registry.find(&gateway.product, name).is_none() {
        let detail = format!("there is no device {name:?} in product {:?}", gateway.product);
        return Err(Problem::not_found(detail));
    }
    let filled = fill_in(&new.topic, name, "", None);
    filled.map(String::from).ok_or_else(|| {
        Problem::bad_request(format!("topic {:?}: %d alone stands for something", new.topic))
    })
}

fn decoded(what: &str, text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(text).map_err(|error| Problem::bad_request(format!("{what}: {error}")))
}

/// What a device of the gateway could not send either.
fn check(
    gateway: &Gateway,
    message: &MessageRef<'_>,
    properties_bytes: usize,
) -> Result<(), Problem> {
    let limits = &gateway.limits;
    let topic = message.topic.as_str();
    if topic == "$SYS" || topic.starts_with("$SYS/") {
        return Err(Problem::bad_request("$SYS is the gateway's own"));
    }
    if topic.len() > limits.topic_bytes_max || topic.split('/').count() > limits.topic_levels_max {
        let (bytes, levels) = (limits.topic_bytes_max, limits.topic_levels_max);
        let detail = format!("the topic has more than {bytes} bytes or {levels} levels");
        return Err(Problem::bad_request(detail));
    }
    let bytes = topic.len() + message.payload.len() + properties_bytes;
    let max = usize::try_from(limits.packet.packet_bytes_max).unwrap_or(usize::MAX);
    if bytes > max {
        let detail = format!("{bytes} bytes; a packet of this gateway has at most {max}");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(())
}

fn properties(new: &NewMessage) -> Result<PropertiesBuf, Problem> {
    if new.user_properties.len() > USER_PROPERTIES_MAX {
        let detail = format!("there are more than {USER_PROPERTIES_MAX} user properties");
        return Err(Problem::bad_request(detail));
    }
    if let Some(topic) = &new.response_topic {
        TopicName::parse(topic)
            .map_err(|error| Problem::bad_request(format!("response_topic {topic:?}: {error}")))?;
    }
    let correlation = new.correlation_data_base64.as_deref();
    let correlation = correlation.map(|text| decoded("correlation_data_base64", text));
    let correlation = correlation.transpose()?;
    let single = [
        new.payload_is_text.map(|is_text| Property::PayloadFormatIndicator(u8::from(is_text))),
        new.message_expiry_interval.map(Property::MessageExpiryInterval),
        new.content_type.as_deref().map(Property::ContentType),
        new.response_topic.as_deref().map(Property::ResponseTopic),
        correlation.as_deref().map(Property::CorrelationData),
    ];
    let user = new.user_properties.iter();
    let user = user.map(|(name, value)| Some(Property::UserProperty((name, value))));
    let mut properties = PropertiesBuf::new();
    for property in single.into_iter().chain(user).flatten() {
        properties.push(property).map_err(|error| Problem::bad_request(error.to_string()))?;
    }
    Ok(properties)
}

/// Which retained messages are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RetainedQuery {
    /// Those of topics that match this filter; `#` where it is absent.
    filter: Option<String>,
}

/// A retained message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetainedBody {
    topic: String,
    qos: u8,
    /// Bytes of the payload.
    bytes: usize,
    /// The beginning of the payload, at most 1024 bytes of it.
    payload_base64: String,
    /// Seconds until it expires.
    expires_in: Option<u64>,
}

/// Retained messages, at most 1000.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetainedList {
    messages: Vec<RetainedBody>,
}

/// List retained messages
#[utoipa::path(get, path = "/v1/retained", tag = "messages", params(RetainedQuery), responses(
    (status = 200, body = RetainedList),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn retained(
    State(admin): State<Admin>,
    Query(query): Query<RetainedQuery>,
) -> Result<Json<RetainedList>, Problem> {
    let filter = query.filter.as_deref().unwrap_or("#");
    TopicFilter::parse(filter)
        .map_err(|error| Problem::bad_request(format!("filter {filter:?}: {error}")))?;
    let now = Instant::now();
    let found = admin.broker.topics.retained(filter, now, RETAINED_MAX);
    let body = |message: &Arc<Message>| {
        let payload = message.payload();
        let shown = payload.get(..SHOWN_BYTES_MAX.min(payload.len())).unwrap_or_default();
        RetainedBody {
            topic: message.topic().to_owned(),
            qos: message.qos as u8,
            bytes: payload.len(),
            payload_base64: STANDARD.encode(shown),
            expires_in: message.expires_at().map(|at| at.saturating_duration_since(now).as_secs()),
        }
    };
    Ok(Json(RetainedList { messages: found.iter().map(body).collect() }))
}

/// Take a retained message away
#[utoipa::path(delete, path = "/v1/retained/{topic}", tag = "messages",
    params(("topic" = String, Path)), responses(
    (status = 204),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn remove_retained(
    State(admin): State<Admin>,
    caller: Caller,
    Path(topic): Path<String>,
) -> Result<StatusCode, Problem> {
    let name = TopicName::parse(&topic)
        .map_err(|error| Problem::bad_request(format!("topic {topic:?}: {error}")))?;
    let found = admin.broker.topics.retained(name.as_str(), Instant::now(), 1);
    if found.is_empty() {
        return Err(Problem::not_found(format!("topic {topic:?} has no retained message")));
    }
    let (broker, topic) = (Arc::clone(&admin.broker), name.as_str().to_owned());
    to_its_end(&admin, async move {
        let unavailable = |why: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
        let name = TopicName::parse(&topic).map_err(|error| unavailable(error.to_string()))?;
        let removed = operator::unretain(&broker, name).await;
        removed.map_err(|error| unavailable(error.to_string()))?;
        caller.did("remove", &format!("retained message of {topic}"), "");
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
