//! Commands about the plugins of a running gateway.

use std::process::ExitCode;

use clap::Args;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::cli::admin::Gateway;
use crate::cli::output;

/// List the plugins of a running gateway.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    gateway: Gateway,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) async fn execute(self) -> ExitCode {
        let found = match self.gateway.ask("/v1/plugins").await {
            Ok(found) => found,
            Err(error) => return output::fail(&error),
        };
        if self.json {
            output::json(&found);
            return ExitCode::SUCCESS;
        }
        let plugins = found.get("plugins").and_then(Value::as_array);
        let rows = plugins.into_iter().flatten().map(row);
        let heading = ["PLUGIN", "ROLES", "VERSION", "CALLS", "FAULTS", "P99 US", "STATE"];
        table(std::iter::once(heading.map(str::to_owned)).chain(rows).collect());
        ExitCode::SUCCESS
    }
}

fn row(plugin: &Value) -> [String; 7] {
    let at = |pointer: &str| plugin.pointer(pointer).cloned().unwrap_or_default();
    let roles = at("/roles").as_array().cloned().unwrap_or_default();
    let roles: Vec<&str> = roles.iter().filter_map(Value::as_str).collect();
    let faults = at("/live/faults").as_object().cloned().unwrap_or_default();
    let faults: u64 = faults.values().filter_map(Value::as_u64).sum();
    [
        text(&at("/name")),
        roles.join(", "),
        text(&at("/live/version")),
        text(&at("/live/calls")),
        faults.to_string(),
        text(&at("/live/latency_us/p99")),
        state(plugin),
    ]
}

fn state(plugin: &Value) -> String {
    let at = |pointer: &str| plugin.pointer(pointer).and_then(Value::as_str);
    let mut parts = Vec::new();
    match at("/breaker/state") {
        None => parts.push("does not serve".to_owned()),
        Some("closed") => parts.push("serves".to_owned()),
        Some(state) => parts.push(format!("fails, breaker {state}")),
    }
    if let Some((stage, version)) = at("/rollout/stage").zip(at("/rollout/candidate/version")) {
        parts.push(format!("{version} in {stage}"));
    }
    if let Some(why) = at("/refused") {
        parts.push(format!("refused: {}", why.lines().next().unwrap_or_default()));
    }
    parts.join("; ")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn table(rows: Vec<[String; 7]>) {
    let mut widths = [0_usize; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        output::say(cells.join("  ").trim_end());
    }
}

/// Show one of them: versions, counts, times.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The plugin.
    name: String,
    #[command(flatten)]
    gateway: Gateway,
}

impl Show {
    pub(crate) async fn execute(self) -> ExitCode {
        json_of(self.gateway.ask(&format!("/v1/plugins/{}", self.name)).await)
    }
}

fn json_of(result: Result<Value, String>) -> ExitCode {
    match result {
        Ok(value) => {
            output::json(&value);
            ExitCode::SUCCESS
        }
        Err(error) => output::fail(&error),
    }
}

/// Say what happened to its versions.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The plugin; all of them where it is left out.
    name: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl History {
    pub(crate) async fn execute(self) -> ExitCode {
        let path = match &self.name {
            Some(name) => format!("/v1/plugins/{name}/history"),
            None => "/v1/history".to_owned(),
        };
        let found = match self.gateway.ask(&path).await {
            Ok(found) => found,
            Err(error) => return output::fail(&error),
        };
        if self.json {
            output::json(&found);
            return ExitCode::SUCCESS;
        }
        for event in found.get("events").and_then(Value::as_array).into_iter().flatten() {
            let at = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
            let version = at("version").get(..12).unwrap_or("-");
            let line = format!(
                "{} {} {version} {} by {} {}",
                at("at"),
                at("plugin"),
                at("result"),
                at("by"),
                at("reason").replace('\n', "; ")
            );
            output::say(line.trim_end());
        }
        ExitCode::SUCCESS
    }
}

/// Go back to an earlier version, or stop the one on its way.
#[derive(Debug, Args)]
#[command(
    after_help = "The version that is taken back is not loaded again until its files change. \
Without --to a version on its way is stopped; where there is none, the version before the live one \
serves again."
)]
pub(crate) struct Rollback {
    /// The plugin.
    name: String,
    /// The version, by its first digits; `portreeve plugin show` lists them.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

impl Rollback {
    pub(crate) async fn execute(self) -> ExitCode {
        let path = format!("/v1/plugins/{}/rollback", self.name);
        message(self.gateway.order(&path, &json!({ "to": self.to })).await)
    }
}

/// Let the version on its way take its next step: a shadow to canary, a canary to live.
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// The plugin.
    name: String,
    #[command(flatten)]
    gateway: Gateway,
}

impl Promote {
    pub(crate) async fn execute(self) -> ExitCode {
        let path = format!("/v1/plugins/{}/promote", self.name);
        message(self.gateway.order(&path, &json!({})).await)
    }
}

/// Look at configuration and plugins again, as SIGHUP does.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    gateway: Gateway,
}

impl Reload {
    pub(crate) async fn execute(self) -> ExitCode {
        message(self.gateway.order("/v1/reload", &json!({})).await)
    }
}

fn message(result: Result<Value, String>) -> ExitCode {
    match result {
        Ok(answer) => {
            output::say(answer.get("message").and_then(Value::as_str).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(error) => output::fail(&error),
    }
}

/// Watch every call until ctrl-c: one JSON object a line.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The plugin.
    name: String,
    /// End after so many calls.
    #[arg(long, value_name = "CALLS")]
    count: Option<u64>,
    #[command(flatten)]
    gateway: Gateway,
}

impl Trace {
    pub(crate) async fn execute(self) -> ExitCode {
        let path = format!("/v1/plugins/{}/trace", self.name);
        let response = match self.gateway.stream(&path).await {
            Ok(response) => response,
            Err(error) => return output::fail(&error),
        };
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut bytes = response.bytes_stream();
        let mut partial = Vec::new();
        while left > 0 {
            let Some(chunk) = bytes.next().await else { break };
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return output::fail(&format!("the trace ended: {error}")),
            };
            partial.extend_from_slice(&chunk);
            while let Some(end) = partial.iter().position(|&byte| byte == b'\n')
                && left > 0
            {
                let line: Vec<u8> = partial.drain(..=end).collect();
                output::say(String::from_utf8_lossy(&line).trim_end());
                left -= 1;
            }
        }
        ExitCode::SUCCESS
    }
}
