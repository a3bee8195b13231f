//! Changes of what the gateway's files say: limits, bindings, certificates, plugins. The files are the
//! truth: what is changed here stands there, and holds after a restart.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::problem::{Json, Path, Problem, ProblemBody};
use super::{Admin, Caller};
use crate::config::edit::{self, BindingText, Settings};
use crate::credentials::NewIdentity;
use crate::reload::change::{Change, Changed, NotChanged};
use crate::signature::SIGNATURE_HEADER;

/// Keys that one request sets.
const SETTINGS_MAX: usize = 256;
/// Bindings of one gateway.
const BINDINGS_MAX: usize = 10_000;

/// Bytes of a component that is sent; a larger one is copied into the plugin directory.
pub(super) const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// What a change came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedBody {
    /// What is another in the file than before.
    changed: Vec<String>,
    /// Whether it holds now.
    live: bool,
    /// What the configuration file says and only a restart does, of this change and of earlier ones.
    needs_restart: Vec<String>,
    /// More about it, and what else was found on the way; may be empty.
    detail: String,
}

/// A parser for the messages of a topic filter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BindingOrder {
    /// A topic filter.
    topic: String,
    /// The parser's name.
    plugin: String,
    /// `up`, where it is left out, or `down`.
    direction: Option<String>,
    /// Filters that the topics of its messages match; the binding's own where it is left out.
    may_publish: Option<Vec<String>>,
    /// `reject`, where it is left out, `drop`, `pass` or `dead-letter:TOPIC`.
    on_error: Option<String>,
}

/// In their order: the first one that matches a topic counts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BindingsOrder {
    bindings: Vec<BindingOrder>,
}

/// A certificate with its key, in PEM.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateOrder {
    /// The gateway's own certificate first, then those of its issuers.
    chain: String,
    /// Is written to the gateway's files, and never told again.
    key: String,
}

/// How the versions of a plugin take over, as its manifest has it; what is left out is not in it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutOrder {
    /// Share of devices that a new version answers first: `5%`.
    canary: Option<String>,
    /// Share of devices whose questions it is asked beside the old version: `100%`.
    shadow: Option<String>,
    /// Good calls after which it answers all devices.
    canary_calls: Option<u32>,
    /// Devices that it answers at a time before that.
    canary_devices: Option<u32>,
}

impl From<NotChanged> for Problem {
    fn from(error: NotChanged) -> Self {
        let status = match error {
            NotChanged::Unknown(_) => StatusCode::NOT_FOUND,
            NotChanged::Impossible(_) => StatusCode::CONFLICT,
            NotChanged::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotChanged::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

/// Change limits of a gateway in the configuration file: names to values, null for the default
#[utoipa::path(patch, path = "/v1/gateways/{gateway}/limits", tag = "gateways",
    params(("gateway" = String, Path)), request_body = serde_json::Value, responses(
    (status = 200, body = ChangedBody),
    (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn limits(
    State(admin): State<Admin>,
    caller: Caller,
    Path(gateway): Path<String>,
    Json(order): Json<Map<String, Value>>,
) -> Result<Json<ChangedBody>, Problem> {
    let settings = settings(order)?;
    let what = format!("limits of gateway {gateway}");
    let detail = told(&settings);
    let change = Change::Limits { gateway, settings };
    made(admin, caller, change, what, detail).await
}

/// Put other bindings in the place of those of a gateway, in the configuration file
#[utoipa::path(put, path = "/v1/gateways/{gateway}/bindings", tag = "gateways",
    params(("gateway" = String, Path)), request_body = BindingsOrder, responses(
    (status = 200, body = ChangedBody),
    (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn bindings(
    State(admin): State<Admin>,
    caller: Caller,
    Path(gateway): Path<String>,
    Json(order): Json<BindingsOrder>,
) -> Result<Json<ChangedBody>, Problem> {
    if order.bindings.len() > BINDINGS_MAX {
        return Err(Problem::bad_request(format!("there are more than {BINDINGS_MAX} bindings")));
    }
    let bindings: Vec<BindingText> = order.bindings.into_iter().map(BindingText::from).collect();
    let what = format!("bindings of gateway {gateway}");
    let names = bindings.iter().map(|binding| format!("{}={}", binding.topic, binding.plugin));
    let detail = names.collect::<Vec<_>>().join(" ");
    let change = Change::Bindings { gateway, bindings };
    made(admin, caller, change, what, detail).await
}

/// Put another chain and key in the place of a certificate of a gateway, in the files that it is read from
#[utoipa::path(put, path = "/v1/gateways/{gateway}/certificates/{certificate}", tag = "certificates",
    params(("gateway" = String, Path), ("certificate" = String, Path)),
    request_body = CertificateOrder, responses(
    (status = 200, body = ChangedBody),
    (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn certificate(
    State(admin): State<Admin>,
    caller: Caller,
    Path((gateway, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<ChangedBody>, Problem> {
    // What is wrong is not told in the words of the parser, which may hold a part of the key.
    let order: CertificateOrder = serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::bad_request(format!(
            "the body is no JSON object of two texts, chain and key (line {line}, column {column})"
        ))
    })?;
    let what = format!("certificate {name} of gateway {gateway}");
    let identity = NewIdentity { chain: order.chain, key: Zeroizing::new(order.key) };
    let change = Change::Certificate { gateway, name, identity };
    made(admin, caller, change, what, String::new()).await
}

/// Set how versions of a plugin take over, in its manifest: canary, shadow
#[utoipa::path(put, path = "/v1/plugins/{name}/rollout", tag = "plugins",
    params(("name" = String, Path)), request_body = RolloutOrder, responses(
    (status = 200, body = ChangedBody),
    (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn rollout(
    State(admin): State<Admin>,
    caller: Caller,
    Path(plugin): Path<String>,
    Json(order): Json<RolloutOrder>,
) -> Result<Json<ChangedBody>, Problem> {
    let RolloutOrder { canary, shadow, canary_calls, canary_devices } = order;
    let text = |value: Option<String>| value.map(toml_edit::Value::from);
    let number = |value: Option<u32>| value.map(|value| i64::from(value).into());
    let keys = [
        ("canary", text(canary)),
        ("shadow", text(shadow)),
        ("canary_calls", number(canary_calls)),
        ("canary_devices", number(canary_devices)),
    ];
    let settings: Settings = keys.map(|(key, value)| (key.to_owned(), value)).into();
    let what = format!("rollout of plugin {plugin}");
    let detail = told(&settings);
    made(admin, caller, Change::Rollout { plugin, settings }, what, detail).await
}

/// Put another component in the place of a plugin's, or of none: its next version
#[utoipa::path(put, path = "/v1/plugins/{name}/component", tag = "plugins",
    params(("name" = String, Path), ("portreeve-signature" = Option<String>, Header,
        description = "Base64 of its signature's file, where components have to be signed")),
    request_body(content = Vec<u8>, content_type = "application/wasm"), responses(
    (status = 200, body = ChangedBody),
    (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    (status = 413, body = ProblemBody, content_type = "application/problem+json"),
    (status = 415, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn component(
    State(admin): State<Admin>,
    caller: Caller,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChangedBody>, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind != Some("application/wasm") {
        let detail = "a component is sent as Content-Type: application/wasm";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let signature = headers.get(SIGNATURE_HEADER).map(|value| {
        let text = STANDARD.decode(value.as_bytes()).ok();
        text.and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Problem::bad_request(format!("{SIGNATURE_HEADER} is no text in Base64")))
    });
    let signature = signature.transpose()?;
    let what = format!("component of plugin {plugin}");
    let change = Change::Component { plugin, component: body.to_vec(), signature };
    made(admin, caller, change, what, String::new()).await
}

/// Has a change made and noted, also when the one who asked does not wait for it.
async fn made(
    admin: Admin,
    caller: Caller,
    change: Change,
    what: String,
    detail: String,
) -> Result<Json<ChangedBody>, Problem> {
    caller.must_be_admin(&format!("to change {what}"))?;
    let reloader = admin.reloader.clone();
    let task = admin.tasks.spawn(async move {
        let made = reloader.change(change, caller.name()).await?;
        if !made.changed.is_empty() {
            let more = if detail.is_empty() { &made.detail } else { &detail };
            caller.did("change", &what, more);
        }
        Ok::<Changed, NotChanged>(made)
    });
    let made = task.await.map_err(|error| NotChanged::Failed(error.to_string()))??;
    let Changed { changed, live, needs_restart, detail } = made;
    Ok(Json(ChangedBody { changed, live, needs_restart, detail }))
}

/// Texts, whole numbers, yes or no, or null.
fn settings(order: Map<String, Value>) -> Result<Settings, Problem> {
    if order.len() > SETTINGS_MAX {
        return Err(Problem::bad_request(format!("there are more than {SETTINGS_MAX} keys")));
    }
    let setting = |(key, value): (String, Value)| match (edit::scalar(&value), value) {
        (None, Value::Null) => Ok((key, None)),
        (Some(value), _) => Ok((key, Some(value))),
        (None, other) => Err(Problem::bad_request(format!(
            "{key} is {other}; it is a whole number, a text such as \"64KiB\" or \"10s\", or null \
             for the default"
        ))),
    };
    order.into_iter().map(setting).collect()
}

/// For the audit log.
fn told(settings: &Settings) -> String {
    let one = |(key, value): (&String, &Option<toml_edit::Value>)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}=default"),
    };
    settings.iter().map(one).collect::<Vec<_>>().join(" ")
}

impl From<BindingOrder> for BindingText {
    fn from(order: BindingOrder) -> Self {
        let BindingOrder { topic, plugin, direction, may_publish, on_error } = order;
        Self { topic, plugin, direction, may_publish, on_error }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<String, String> {
        let object = value.as_object().cloned().unwrap();
        settings(object).map(|settings| told(&settings)).map_err(Problem::into_detail)
    }

    #[test]
    fn limits_are_numbers_texts_or_the_default() {
        let good = json!({ "connect_timeout": "5s", "filters_max": 7, "in_flight_max": null });
        let told = "connect_timeout=\"5s\" filters_max=7 in_flight_max=default";
        assert_eq!(read(good).unwrap(), told);
        for bad in [json!([1]), json!(1.5), json!({ "a": 1 }), json!(u64::MAX)] {
            assert!(read(json!({ "filters_max": bad })).unwrap_err().contains("filters_max is"));
        }
    }
}
