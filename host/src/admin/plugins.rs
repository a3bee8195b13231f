//! What can be asked about plugins and done with them.
#![expect(unused_qualifications, reason = "the macro that describes parameters writes them")]

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use portreeve_mqtt::TopicFilter;
use portreeve_plugin::{
    BreakerState, Plugin, Role, RolloutStatus, StatisticsSnapshot, Times, Traced, Version,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Json, Path, Problem, ProblemBody, Query};
use super::{Admin, Caller};
use crate::plugin_json;
use crate::plugins::short;
use crate::reload::Command;
use crate::reload::set::EntryView;
use crate::tap::Shown;

/// Calls that were traced and not sent yet; those beyond are left out.
const TRACED_MAX: usize = 256;

type Answer = Result<Json<Value>, Problem>;

/// List plugins
#[utoipa::path(get, path = "/v1/plugins", tag = "plugins", responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(admin): State<Admin>) -> Json<Value> {
    let entries = admin.view.entries();
    let plugins = entries.iter().map(|(name, entry)| describe(&admin, name, entry));
    Json(json!({ "plugins": plugins.collect::<Vec<_>>() }))
}

/// Show a plugin: versions, counts, times
#[utoipa::path(get, path = "/v1/plugins/{name}", tag = "plugins", params(("name" = String, Path)), responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Answer {
    let entries = admin.view.entries();
    let entry = entries.get(&name).ok_or_else(|| not_found(&name))?;
    Ok(Json(describe(&admin, &name, entry)))
}

/// List what happened to plugins
#[utoipa::path(get, path = "/v1/history", tag = "plugins", responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn history_of_all(State(admin): State<Admin>) -> Json<Value> {
    Json(json!({ "events": admin.view.events(None) }))
}

/// List what happened to a plugin
#[utoipa::path(get, path = "/v1/plugins/{name}/history", tag = "plugins", params(("name" = String, Path)), responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn history(State(admin): State<Admin>, Path(name): Path<String>) -> Answer {
    let events = admin.view.events(Some(&name));
    if events.is_empty() && admin.view.plugin(&name).is_none() {
        return Err(not_found(&name));
    }
    Ok(Json(json!({ "events": events })))
}

/// Look at configuration and plugins again
#[utoipa::path(post, path = "/v1/reload", tag = "plugins", responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn reload(State(admin): State<Admin>, caller: Caller) -> Answer {
    let done = done(admin.reloader.order(Command::Reload, caller.name()).await)?;
    caller.did("reload", "configuration and plugins", "");
    Ok(done)
}

/// Where to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// The first digits of a version; the one before the live one where it is left out.
    #[serde(default)]
    to: Option<String>,
}

/// Go back to an earlier version, or stop the one on its way
#[utoipa::path(post, path = "/v1/plugins/{name}/rollback", tag = "plugins", params(("name" = String, Path)), request_body = Target, responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn roll_back(
    State(admin): State<Admin>,
    caller: Caller,
    Path(plugin): Path<String>,
    body: Bytes,
) -> Answer {
    let target: Target = match body.is_empty() {
        true => Target::default(),
        false => serde_json::from_slice(&body).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the request's body: {error}"))
        })?,
    };
    let saw = on_its_way(&admin, &plugin);
    let what = format!("plugin {plugin}");
    let command = Command::RollBack { plugin, to: target.to, saw };
    let done = done(admin.reloader.order(command, caller.name()).await)?;
    caller.did("roll back", &what, "");
    Ok(done)
}

/// Let the version on its way take its next step
#[utoipa::path(post, path = "/v1/plugins/{name}/promote", tag = "plugins", params(("name" = String, Path)), responses(
    (status = 200, body = serde_json::Value),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn promote(
    State(admin): State<Admin>,
    caller: Caller,
    Path(plugin): Path<String>,
) -> Answer {
    let saw = on_its_way(&admin, &plugin);
    let what = format!("plugin {plugin}");
    let order = Command::Promote { plugin, saw };
    let done = done(admin.reloader.order(order, caller.name()).await)?;
    caller.did("promote", &what, "");
    Ok(done)
}

/// The version on its way, so that a command is about no other one that comes meanwhile.
fn on_its_way(admin: &Admin, plugin: &str) -> Option<String> {
    let status = admin.view.plugin(plugin)?.rollout()?;
    Some(status.candidate.digest().to_owned())
}

fn done(result: Result<String, String>) -> Answer {
    match result {
        Ok(message) => Ok(Json(json!({ "message": message }))),
        Err(detail) => Err(Problem::new(StatusCode::CONFLICT, detail)),
    }
}

fn not_found(name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no plugin {name:?}"))
}

/// Watch the calls of a plugin: a JSON object a line for each, until the asker goes away
#[utoipa::path(get, path = "/v1/plugins/{name}/trace", tag = "plugins", params(("name" = String, Path)), responses(
    (status = 200, body = String, content_type = "application/x-ndjson"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn trace(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let plugin = admin.view.plugin(&name).ok_or_else(|| not_found(&name))?;
    let traced = plugin.trace(TRACED_MAX).ok_or_else(|| {
        let detail = "as many watch this plugin as may at a time; end another `portreeve plugin trace` first";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
    })?;
    let lines = futures_util::stream::unfold((traced, admin.shutdown), next_line);
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// What is recorded.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Recording {
    /// A topic filter.
    topic: String,
}

/// Watch messages: a JSON object a line for each, until the asker goes away
#[utoipa::path(get, path = "/v1/record", tag = "plugins", params(Recording), responses(
    (status = 200, body = String, content_type = "application/x-ndjson"),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn record(
    State(admin): State<Admin>,
    Query(recording): Query<Recording>,
) -> Result<Response, Problem> {
    let topic = recording.topic;
    if let Err(error) = TopicFilter::parse(&topic) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("topic {topic:?}: {error}")));
    }
    let messages = admin.broker.tap.open(&topic).ok_or_else(|| {
        let detail = "as many record as may at a time; end another `portreeve plugin record` first";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
    })?;
    let lines = futures_util::stream::unfold((messages, admin.shutdown), next_message);
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

type Messages = (mpsc::Receiver<Shown>, CancellationToken);

async fn next_message(
    (mut messages, shutdown): Messages,
) -> Option<(Result<String, std::convert::Infallible>, Messages)> {
    let shown = tokio::select! {
        shown = messages.recv() => shown?,
        () = shutdown.cancelled() => return None,
    };
    Some((Ok(format!("{}\n", shown.line)), (messages, shutdown)))
}

type Tracing = (mpsc::Receiver<Arc<Traced>>, CancellationToken);

async fn next_line(
    (mut traced, shutdown): Tracing,
) -> Option<(Result<String, std::convert::Infallible>, Tracing)> {
    let next = tokio::select! {
        next = traced.recv() => next?,
        () = shutdown.cancelled() => return None,
    };
    let mut line = traced_as_json(&next).to_string();
    line.push('\n');
    Some((Ok(line), (traced, shutdown)))
}

fn traced_as_json(traced: &Traced) -> Value {
    json!({
        "at": humantime::format_rfc3339_millis(traced.at).to_string(),
        "version": short(&traced.digest),
        "input": plugin_json::asked(&traced.asked),
        "output": plugin_json::answered_masked(traced.answer.clone()),
        "log": traced.log,
        "took_us": microseconds(traced.took),
    })
}

fn microseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn describe(admin: &Admin, name: &str, entry: &EntryView) -> Value {
    let mut value = json!({ "name": name, "refused": entry.refused });
    if let (Some(plugin), Some(object)) = (&entry.plugin, value.as_object_mut()) {
        let live = plugin.live();
        let earlier = admin.view.earlier(name);
        object.insert("roles".to_owned(), roles(&live).into());
        object.insert("breaker".to_owned(), breaker(plugin.breaker()));
        object.insert("live".to_owned(), version(&live));
        object.insert("rollout".to_owned(), plugin.rollout().map_or(Value::Null, rollout));
        object.insert(
            "earlier".to_owned(),
            earlier.iter().map(|digest| short(digest)).collect::<Vec<_>>().into(),
        );
    }
    value
}

fn roles(version: &Version) -> Vec<&'static str> {
    Role::ALL.into_iter().filter(|role| version.is(*role)).map(Role::name).collect()
}

fn breaker(state: BreakerState) -> Value {
    match state {
        BreakerState::Closed => json!({ "state": "closed" }),
        BreakerState::HalfOpen => json!({ "state": "half-open" }),
        BreakerState::Open(left) => {
            json!({ "state": "open", "left_ms": u64::try_from(left.as_millis()).unwrap_or(u64::MAX) })
        }
    }
}

fn rollout(status: RolloutStatus) -> Value {
    json!({
        "stage": status.stage.name(),
        "candidate": version(&status.candidate),
        "devices": status.devices,
        "compared": status.compared,
        "differences": status.differences,
        "skipped": status.skipped,
    })
}

fn version(version: &Version) -> Value {
    let statistics = version.statistics();
    let counts = |counts: Vec<(&'static str, u64)>| -> Value {
        let some = counts.into_iter().filter(|(_, count)| *count > 0);
        some.map(|(name, count)| (name.to_owned(), Value::from(count)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "version": short(version.digest()),
        "digest": version.digest(),
        "calls": statistics.calls(),
        "answers": counts(statistics.answers.iter().map(|(kind, n)| (kind.name(), *n)).collect()),
        "faults": counts(statistics.faults.iter().map(|(kind, n)| (kind.name(), *n)).collect()),
        "latency_us": times(&statistics.latency),
        "queue_wait_us": times(&statistics.queue_wait),
        "busy_ms": u64::try_from(statistics.busy.as_millis()).unwrap_or(u64::MAX),
        "instance_starts": statistics.instance_starts,
        "instances_recycled": statistics.instances_recycled,
        "memory_bytes": statistics.memory_bytes,
        "log_lines_dropped": statistics.log_lines_dropped,
        "http": {
            "requests": statistics.http_requests,
            "refused": statistics.http_refused,
            "failed": statistics.http_failed,
        },
    })
}

/// As exact as the histogram's buckets: powers of two.
fn times(times: &Times) -> Value {
    json!({
        "count": times.count(),
        "p50": microseconds(times.quantile(0.5)),
        "p99": microseconds(times.quantile(0.99)),
        "max": microseconds(times.quantile(1.0)),
    })
}

/// What is counted of plugins.
pub(super) fn exposition(admin: &Admin) -> String {
    let mut versions = Vec::new();
    for (name, entry) in admin.view.entries() {
        let Some(plugin) = entry.plugin else { continue };
        let mut add = |version: &Version, stage: &str| {
            let labels =
                format!("plugin={name:?},version={:?},stage={stage:?}", short(version.digest()));
            versions.push((labels, version.statistics(), open(&plugin)));
        };
        add(&plugin.live(), "live");
        if let Some(status) = plugin.rollout() {
            add(&status.candidate, status.stage.name());
        }
    }
    as_text(&versions)
}

fn open(plugin: &Plugin) -> bool {
    plugin.breaker() != BreakerState::Closed
}

/// Labels, counts, and whether the breaker is open.
type Labelled = (String, StatisticsSnapshot, bool);

fn as_text(versions: &[Labelled]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: &dyn Fn(&Labelled) -> String| {
        let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        versions.iter().for_each(|version| text.push_str(&lines(version)));
    };
    let by_kind = |name: &'static str, labels: &str, counts: Vec<(&'static str, u64)>| {
        counts.into_iter().fold(String::new(), |mut lines, (kind, count)| {
            let _infallible = writeln!(lines, "{name}{{{labels},kind={kind:?}}} {count}");
            lines
        })
    };
    family("portreeve_plugin_answers_total", "counter", "Answers of guests, by kind.", &|(
        labels,
        statistics,
        _,
    )| {
        let counts = statistics.answers.iter().map(|(kind, n)| (kind.name(), *n)).collect();
        by_kind("portreeve_plugin_answers_total", labels, counts)
    });
    family(
        "portreeve_plugin_faults_total",
        "counter",
        "Calls without an answer, by kind.",
        &|(labels, statistics, _)| {
            let counts = statistics.faults.iter().map(|(kind, n)| (kind.name(), *n)).collect();
            by_kind("portreeve_plugin_faults_total", labels, counts)
        },
    );
    for (name, help, of) in [
        (
            "portreeve_plugin_call_seconds",
            "Time of calls, waiting and instance starts included.",
            (|statistics| &statistics.latency) as fn(&StatisticsSnapshot) -> &Times,
        ),
        (
            "portreeve_plugin_queue_wait_seconds",
            "Time of calls that waited for an instance.",
            |statistics| &statistics.queue_wait,
        ),
    ] {
        family(name, "histogram", help, &|(labels, statistics, _)| {
            histogram(name, labels, of(statistics))
        });
    }
    for (name, kind, help, of) in numbers() {
        family(name, kind, help, &|labelled @ (labels, ..)| {
            format!("{name}{{{labels}}} {}\n", of(labelled))
        });
    }
    text
}

type Number = (&'static str, &'static str, &'static str, fn(&Labelled) -> f64);

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts with these numbers")]
fn numbers() -> [Number; 9] {
    [
        (
            "portreeve_plugin_busy_seconds_total",
            "counter",
            "Time for which guests computed.",
            |(_, statistics, _)| statistics.busy.as_secs_f64(),
        ),
        (
            "portreeve_plugin_instance_starts_total",
            "counter",
            "Instances that were started.",
            |(_, statistics, _)| statistics.instance_starts as f64,
        ),
        (
            "portreeve_plugin_instances_recycled_total",
            "counter",
            "Warm instances that were replaced after their calls or since they had grown.",
            |(_, statistics, _)| statistics.instances_recycled as f64,
        ),
        (
            "portreeve_plugin_memory_bytes",
            "gauge",
            "Linear memory of the instances that there are.",
            |(_, statistics, _)| statistics.memory_bytes as f64,
        ),
        (
            "portreeve_plugin_log_lines_dropped_total",
            "counter",
            "Log lines beyond the plugin's rate.",
            |(_, statistics, _)| statistics.log_lines_dropped as f64,
        ),
        (
            "portreeve_plugin_http_requests_total",
            "counter",
            "Requests over HTTP that guests asked for.",
            |(_, statistics, _)| statistics.http_requests as f64,
        ),
        (
            "portreeve_plugin_http_refused_total",
            "counter",
            "Requests that were not granted, or went over a limit.",
            |(_, statistics, _)| statistics.http_refused as f64,
        ),
        (
            "portreeve_plugin_http_failed_total",
            "counter",
            "Requests that got no whole response.",
            |(_, statistics, _)| statistics.http_failed as f64,
        ),
        (
            "portreeve_plugin_breaker_open",
            "gauge",
            "1 while the plugin is not asked since it failed too often.",
            |(_, _, is_open)| f64::from(u8::from(*is_open)),
        ),
    ]
}

fn histogram(name: &str, labels: &str, times: &Times) -> String {
    let mut lines = String::new();
    let mut below = 0;
    // The last bucket has no upper bound.
    let bounded = times.buckets.len().saturating_sub(1);
    for (bits, count) in (0_i32..).zip(times.buckets.iter().take(bounded)) {
        below += count;
        let seconds = 2_f64.powi(bits) / 1e6;
        let _infallible = writeln!(lines, "{name}_bucket{{{labels},le=\"{seconds}\"}} {below}");
    }
    let (sum, count) = (times.sum.as_secs_f64(), times.count());
    let _infallible = writeln!(
        lines,
        "{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}"
    );
    lines
}
