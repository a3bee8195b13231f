//! Whether the gateway is there and ready, what it counts, and how the API is described.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

use super::problem::{Json, Problem, ProblemBody};
use super::{Admin, document as the_document, metrics as counted};

/// How the gateway is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

/// Say that the process is there
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()), responses(
    (status = 200, body = Health),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Say that devices are let in: plugins and store are read, the store takes what is to be stored
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()), responses(
    (status = 200, body = Health),
    (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn readyz(State(admin): State<Admin>) -> Result<Json<Health>, Problem> {
    let not_ready = |why: &str| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
    if admin.shutdown.is_cancelled() {
        return not_ready("the gateway ends");
    }
    if admin.broker.drain.load().is_some() {
        return not_ready("the gateway lets nobody in: it is drained");
    }
    if admin.broker.store.as_ref().is_some_and(|store| store.counts().is_failing) {
        return not_ready("the store cannot write");
    }
    Ok(Json(Health { status: "ok" }))
}

/// What is counted, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, body = String, content_type = "text/plain; version=0.0.4"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, counted::exposition(&admin)).into_response()
}

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operation", responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn document() -> Json<OpenApi> {
    Json(the_document())
}

/// Says how callers prove themselves.
pub(super) fn finish(document: &mut OpenApi) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of [[admin.token]]; not needed on the Unix socket."));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
}
