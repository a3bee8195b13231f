//! Sessions: list, show, end; and the last attempts to connect.
#![expect(unused_qualifications, reason = "the macro that describes parameters writes them")]

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::devices::cursor;
use super::problem::{Json, Path, Problem, ProblemBody, Query, limit};
use super::{Admin, Caller};
use crate::attempts::{self, Wanted};
use crate::session::Session;

/// Sessions of one answer.
const SESSIONS_MAX: usize = 1_000;
/// Attempts of one answer.
const ATTEMPTS_MAX: usize = 100;
const ATTEMPTS: usize = 10;

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionBody {
    product: String,
    client_id: String,
    /// The device whose it is.
    device: String,
    is_connected: bool,
    /// Seconds that it outlives its connection; 4294967295 does not end.
    expiry_seconds: u32,
    subscriptions: Vec<String>,
    /// Messages that wait or are not acknowledged.
    queued_messages: usize,
}

impl SessionBody {
    fn of(session: &Session) -> Self {
        Self {
            product: session.key.product.to_string(),
            client_id: session.key.client_id.to_string(),
            device: session.device().name.to_string(),
            is_connected: session.is_connected(),
            expiry_seconds: session.expiry_seconds(),
            subscriptions: session.filters().iter().map(ToString::to_string).collect(),
            queued_messages: session.queued_count(),
        }
    }
}

/// Which sessions are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionQuery {
    /// Those of this product.
    product: Option<String>,
    /// Those of the device of this name.
    device: Option<String>,
    /// Those whose client identifier begins so.
    prefix: Option<String>,
    /// Those that have a connection, or none.
    connected: Option<bool>,
    /// `next` of the answer before.
    after: Option<String>,
}

/// Sessions in the order of client identifiers, at most 1000.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<SessionBody>,
    /// For `after` of the next answer; null where that were all.
    next: Option<String>,
}

/// List sessions
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", params(SessionQuery), responses(
    (status = 200, body = Sessions),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<SessionQuery>,
) -> Result<Json<Sessions>, Problem> {
    let after = query.after.as_deref().map(cursor).transpose()?;
    let mut found = admin.broker.sessions.all();
    found.retain(|session| {
        let key = &session.key;
        query.product.as_deref().is_none_or(|product| product == &*key.product)
            && query.prefix.as_deref().is_none_or(|prefix| key.client_id.starts_with(prefix))
            && after.as_ref().is_none_or(|(client_id, product)| {
                (&*key.client_id, &*key.product) > (client_id.as_str(), product.as_str())
            })
            && query.connected.is_none_or(|connected| connected == session.is_connected())
            && query.device.as_deref().is_none_or(|name| session.device().name.as_str() == name)
    });
    found.sort_by(|one, other| {
        (&one.key.client_id, &one.key.product).cmp(&(&other.key.client_id, &other.key.product))
    });
    let has_more = found.len() > SESSIONS_MAX;
    found.truncate(SESSIONS_MAX);
    let last = found.last().filter(|_| has_more);
    let next = last.map(|session| {
        let key = &session.key;
        URL_SAFE_NO_PAD.encode(format!("{}\0{}", key.client_id, key.product))
    });
    let sessions = found.iter().map(|one| SessionBody::of(one)).collect();
    Ok(Json(Sessions { sessions, next }))
}

fn find(admin: &Admin, product: &str, client_id: &str) -> Result<Arc<Session>, Problem> {
    admin.broker.sessions.find(product, client_id).ok_or_else(|| {
        Problem::not_found(format!("product {product:?} has no session {client_id:?}"))
    })
}

/// Show a session
#[utoipa::path(get, path = "/v1/products/{product}/sessions/{client_id}", tag = "sessions",
    params(("product" = String, Path), ("client_id" = String, Path)), responses(
    (status = 200, body = SessionBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    Path((product, client_id)): Path<(String, String)>,
) -> Result<Json<SessionBody>, Problem> {
    find(&admin, &product, &client_id).map(|session| Json(SessionBody::of(&session)))
}

/// End a session: its connection, its subscriptions and what waits for it
#[utoipa::path(delete, path = "/v1/products/{product}/sessions/{client_id}", tag = "sessions",
    params(("product" = String, Path), ("client_id" = String, Path)), responses(
    (status = 204),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn end(
    State(admin): State<Admin>,
    caller: Caller,
    Path((product, client_id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let session = find(&admin, &product, &client_id)?;
    admin.broker.end_session(&session, true);
    caller.did("end", &format!("session {product}/{client_id}"), "");
    Ok(StatusCode::NO_CONTENT)
}

/// Whose attempts are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AttemptQuery {
    /// Of this client identifier.
    client_id: Option<String>,
    /// Of this device.
    device: Option<String>,
    /// With this user name.
    user_name: Option<String>,
    /// With a certificate whose subject holds this.
    certificate: Option<String>,
    /// From this address.
    #[param(value_type = Option<String>)]
    peer: Option<IpAddr>,
    /// At most so many, 1 to 100; 10 where it is absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// What one stage decided.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StepBody {
    stage: &'static str,
    /// `passed`, `refused` or `note`.
    outcome: &'static str,
    why: String,
    /// Microseconds since the attempt began.
    at_us: u64,
}

/// An attempt to connect.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptBody {
    #[schema(format = DateTime)]
    at: String,
    gateway: String,
    peer: String,
    client_id: String,
    user_name: Option<String>,
    /// The subject of its certificate.
    certificate: Option<String>,
    /// The device that it turned out to be.
    device: Option<String>,
    is_admitted: bool,
    took_us: u64,
    steps: Vec<StepBody>,
}

impl AttemptBody {
    fn of(attempt: &attempts::Attempt) -> Self {
        let step = |step: &attempts::TrailStep| StepBody {
            stage: step.stage,
            outcome: step.outcome.name(),
            why: step.why.clone(),
            at_us: step.at_us,
        };
        Self {
            at: humantime::format_rfc3339_millis(attempt.at).to_string(),
            gateway: attempt.gateway.to_string(),
            peer: attempt.peer.to_string(),
            client_id: attempt.client_id.clone(),
            user_name: attempt.user_name.clone(),
            certificate: attempt.certificate.clone(),
            device: attempt.device.clone(),
            is_admitted: attempt.is_admitted,
            took_us: attempt.took_us,
            steps: attempt.steps.iter().map(step).collect(),
        }
    }
}

/// Attempts, the latest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptsBody {
    attempts: Vec<AttemptBody>,
}

/// List the last attempts to connect, step by step
#[utoipa::path(get, path = "/v1/attempts", tag = "sessions", params(AttemptQuery), responses(
    (status = 200, body = AttemptsBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn attempts(
    State(admin): State<Admin>,
    Query(query): Query<AttemptQuery>,
) -> Result<Json<AttemptsBody>, Problem> {
    let limit = limit(query.limit, ATTEMPTS, ATTEMPTS_MAX)?;
    let AttemptQuery { client_id, device, user_name, certificate, peer, .. } = query;
    let wanted = Wanted { client_id, device, user_name, certificate, peer };
    let found = admin.broker.attempts.find(&wanted, limit);
    Ok(Json(AttemptsBody { attempts: found.iter().map(|one| AttemptBody::of(one)).collect() }))
}
