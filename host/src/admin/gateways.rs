//! Gateways: what they are, their bindings and limits; and the end of their service.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use portreeve_mqtt::ReasonCode;
use portreeve_plugin::contract::Direction;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Json, Path, Problem, ProblemBody};
use super::{Admin, Caller};
use crate::broker::{Broker, Drain};
use crate::gateway::{Binding, Gateway, GatewayLimits, OnError, Verification};
use crate::session::QueuePolicy;

/// A gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GatewayBody {
    name: String,
    product: String,
    /// `open`, `one-party` or `plugin:NAME`.
    verification: String,
    has_tls: bool,
    /// Connections that are open.
    connections: usize,
    /// In their order: the first one that matches a topic counts.
    bindings: Vec<BindingBody>,
    limits: LimitsBody,
}

/// A parser for the messages of a topic filter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BindingBody {
    topic: String,
    /// `up` or `down`.
    direction: &'static str,
    plugin: String,
    may_publish: Vec<String>,
    /// `reject`, `drop`, `pass` or `dead-letter:TOPIC`.
    on_error: String,
}

/// Bounds of a gateway, as they hold now; `[gateway.limits]` of the configuration says what each is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitsBody {
    connections_max: usize,
    connections_per_address_max: usize,
    connection_rate_max: u32,
    verification_rate_max: u32,
    verdicts_max: usize,
    publish_rate_max: u32,
    handshakes_max: usize,
    connect_timeout_ms: u64,
    connect_packet_bytes_max: u32,
    packet_bytes_max: u32,
    user_properties_max: u16,
    filters_max: u16,
    topic_alias_maximum: u16,
    topic_bytes_max: usize,
    topic_levels_max: usize,
    /// Seconds.
    keep_alive_max: u16,
    /// Seconds.
    session_expiry_max: u32,
    write_stall_timeout_ms: u64,
    mailbox_bytes_max: usize,
    queued_messages_max: usize,
    queued_bytes_max: usize,
    /// `drop-oldest` or `drop-newest`.
    queue_policy: &'static str,
    in_flight_max: u16,
    subscriptions_max: usize,
}

/// Every gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Gateways {
    gateways: Vec<GatewayBody>,
}

impl GatewayBody {
    fn of(gateway: &Gateway) -> Self {
        let rules = gateway.rules();
        Self {
            name: gateway.name.to_string(),
            product: gateway.product.to_string(),
            verification: match &rules.verification {
                Verification::Open => "open".to_owned(),
                Verification::OneParty => "one-party".to_owned(),
                Verification::Plugin(plugin) => format!("plugin:{}", plugin.name()),
            },
            has_tls: gateway.tls.is_some(),
            connections: gateway.connections.load(Ordering::Relaxed),
            bindings: rules.bindings.iter().map(|binding| BindingBody::of(binding)).collect(),
            limits: LimitsBody::of(&gateway.limits),
        }
    }
}

impl LimitsBody {
    fn of(limits: &GatewayLimits) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let session = &limits.session;
        Self {
            connections_max: limits.connections_max,
            connections_per_address_max: limits.connections_per_address_max,
            connection_rate_max: limits.connection_rate_max,
            verification_rate_max: limits.verification_rate_max,
            verdicts_max: limits.verdicts_max,
            publish_rate_max: limits.publish_rate_max,
            handshakes_max: limits.handshakes_max,
            connect_timeout_ms: ms(limits.connect_timeout),
            connect_packet_bytes_max: limits.connect_packet.packet_bytes_max,
            packet_bytes_max: limits.packet.packet_bytes_max,
            user_properties_max: limits.packet.user_properties_max,
            filters_max: limits.packet.filters_max,
            topic_alias_maximum: limits.topic_alias_maximum,
            topic_bytes_max: limits.topic_bytes_max,
            topic_levels_max: limits.topic_levels_max,
            keep_alive_max: limits.keep_alive_max,
            session_expiry_max: limits.session_expiry_max,
            write_stall_timeout_ms: ms(limits.write_stall_timeout),
            mailbox_bytes_max: session.mailbox_bytes_max,
            queued_messages_max: session.queued_messages_max,
            queued_bytes_max: session.queued_bytes_max,
            queue_policy: match session.queue_policy {
                QueuePolicy::DropOldest => "drop-oldest",
                QueuePolicy::DropNewest => "drop-newest",
            },
            in_flight_max: session.in_flight_max,
            subscriptions_max: session.subscriptions_max,
        }
    }
}

impl BindingBody {
    fn of(binding: &Binding) -> Self {
        Self {
            topic: binding.filter.to_string(),
            direction: match binding.direction {
                Direction::Up => "up",
                Direction::Down => "down",
            },
            plugin: binding.plugin.name().to_owned(),
            may_publish: binding.may_publish.iter().map(ToString::to_string).collect(),
            on_error: match &binding.on_error {
                OnError::Reject => "reject".to_owned(),
                OnError::Drop => "drop".to_owned(),
                OnError::Pass => "pass".to_owned(),
                OnError::DeadLetter(topic) => format!("dead-letter:{topic}"),
            },
        }
    }
}

/// List gateways with their bindings and limits
#[utoipa::path(get, path = "/v1/gateways", tag = "gateways", responses(
    (status = 200, body = Gateways),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Json<Gateways> {
    let gateways = admin.gateways.iter().map(|gateway| GatewayBody::of(gateway)).collect();
    Json(Gateways { gateways })
}

/// Show a gateway with its bindings and limits
#[utoipa::path(get, path = "/v1/gateways/{gateway}", tag = "gateways", params(("gateway" = String, Path)), responses(
    (status = 200, body = GatewayBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<GatewayBody>, Problem> {
    let found = admin.gateways.iter().find(|gateway| *gateway.name == *name);
    let not_found = || Problem::not_found(format!("there is no gateway {name:?}"));
    found.map(|gateway| Json(GatewayBody::of(gateway))).ok_or_else(not_found)
}

/// How connections end.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainOrder {
    /// Seconds over which connections end, so that they do not all come back at once; 30 where it is
    /// absent.
    #[schema(maximum = 3600)]
    over_seconds: Option<u32>,
    /// `HOST:PORT` of another server, which clients with MQTT 5 are told.
    server_reference: Option<String>,
}

/// Whether a drain is under way.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DrainBody {
    is_draining: bool,
    /// Connections that are open.
    connections: i64,
}

/// Seconds over which connections end, at most.
const OVER_SECONDS_MAX: u32 = 3_600;
const OVER_SECONDS: u32 = 30;
/// Bytes of a server reference.
const REFERENCE_BYTES_MAX: usize = 1_024;
/// Connections that end at a time.
const STEPS_PER_SECOND: u32 = 10;

/// Let nobody in any more, and end all connections over a while
#[utoipa::path(post, path = "/v1/drain", tag = "operation", request_body = DrainOrder, responses(
    (status = 200, body = DrainBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn drain(
    State(admin): State<Admin>,
    caller: Caller,
    Json(order): Json<DrainOrder>,
) -> Result<Json<DrainBody>, Problem> {
    caller.must_be_admin("to drain")?;
    let over = order.over_seconds.unwrap_or(OVER_SECONDS);
    if over > OVER_SECONDS_MAX {
        let detail = format!("over_seconds is at most {OVER_SECONDS_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    if order.server_reference.as_ref().is_some_and(|text| text.len() > REFERENCE_BYTES_MAX) {
        return Err(Problem::bad_request("server_reference is longer than 1024 bytes"));
    }
    let drain = Arc::new(Drain { server_reference: order.server_reference });
    admin.broker.drain.store(Some(Arc::clone(&drain)));
    caller.did("drain", "the gateway", &format!("over {over} s"));
    admin.tasks.spawn(end_all(Arc::clone(&admin.broker), drain, over));
    Ok(Json(state(&admin)))
}

/// Ends connections, some at a time, until there are none or the drain is over.
async fn end_all(broker: Arc<Broker>, drain: Arc<Drain>, over_seconds: u32) {
    let steps = (over_seconds * STEPS_PER_SECOND).max(1);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / STEPS_PER_SECOND);
    for left in (1..=steps).rev() {
        ticks.tick().await;
        let is_current = broker.drain.load().as_ref().is_some_and(|one| Arc::ptr_eq(one, &drain));
        if !is_current {
            return;
        }
        let connected: Vec<_> =
            broker.sessions.all().into_iter().filter(|session| session.is_connected()).collect();
        let share = connected.len().div_ceil(usize::try_from(left).unwrap_or(usize::MAX));
        for session in connected.into_iter().take(share) {
            session.close(match &drain.server_reference {
                Some(_) => ReasonCode::UseAnotherServer,
                None => ReasonCode::AdministrativeAction,
            });
        }
    }
}

/// Say whether a drain is under way
#[utoipa::path(get, path = "/v1/drain", tag = "operation", responses(
    (status = 200, body = DrainBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn draining(State(admin): State<Admin>) -> Json<DrainBody> {
    Json(state(&admin))
}

fn state(admin: &Admin) -> DrainBody {
    DrainBody {
        is_draining: admin.broker.drain.load().is_some(),
        connections: admin.broker.metrics.connections.load(Ordering::Relaxed),
    }
}

/// Let devices in again
#[utoipa::path(delete, path = "/v1/drain", tag = "operation", responses(
    (status = 200, body = DrainBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn stop_drain(
    State(admin): State<Admin>,
    caller: Caller,
) -> Result<Json<DrainBody>, Problem> {
    caller.must_be_admin("to drain")?;
    admin.broker.drain.store(None);
    caller.did("stop draining", "the gateway", "");
    Ok(Json(state(&admin)))
}
