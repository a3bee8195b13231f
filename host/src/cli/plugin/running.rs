//! Commands about the plugins of a running gateway.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use futures_util::StreamExt;
use portreeve::plugin_json::MASK;
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
        output::table(std::iter::once(heading.map(str::to_owned)).chain(rows).collect());
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
        let say = |line: &str| {
            output::say(line);
            Ok(())
        };
        match lines(&self.gateway, &path, self.count.unwrap_or(u64::MAX), say).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    }
}

/// Record messages of a topic until ctrl-c, as devices publish them: a file for
/// `portreeve plugin replay`.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// The topic filter.
    topic: String,
    /// The file, which must not be there yet; standard output where it is left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End after so many messages.
    #[arg(long, value_name = "MESSAGES")]
    count: Option<u64>,
    /// Mask fields of this name in payloads that are JSON; may be given more than once.
    #[arg(long, value_name = "FIELD")]
    mask: Vec<String>,
    /// Put numbers in the place of device names and client identifiers, the same for the same.
    #[arg(long)]
    anonymous: bool,
    #[command(flatten)]
    gateway: Gateway,
}

impl Record {
    pub(crate) async fn execute(self) -> ExitCode {
        match self.run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    }

    async fn run(self) -> Result<(), String> {
        let mut file = match &self.out {
            None => None,
            Some(path) => {
                let mut options = std::fs::OpenOptions::new();
                // What devices send is nobody else's business.
                let created = options.write(true).create_new(true).mode(0o600).open(path);
                Some(created.map_err(|error| format!("{}: {error}", path.display()))?)
            }
        };
        let mut names = HashMap::new();
        let mut unmasked = 0_u64;
        let write = |line: &str| {
            let mut recorded: Value = serde_json::from_str(line)
                .map_err(|error| format!("the gateway's line cannot be read: {error}"))?;
            if let Some(input) = recorded.get_mut("input") {
                unmasked += u64::from(!mask(input, &self.mask));
                if self.anonymous {
                    anonymize(input, &mut names);
                }
            }
            match &mut file {
                None => output::say(&recorded.to_string()),
                Some(file) => writeln!(file, "{recorded}").map_err(|error| error.to_string())?,
            }
            Ok(())
        };
        let topic: String = url::form_urlencoded::byte_serialize(self.topic.as_bytes()).collect();
        let path = format!("/v1/record?topic={topic}");
        lines(&self.gateway, &path, self.count.unwrap_or(u64::MAX), write).await?;
        if unmasked > 0 {
            let _code = output::fail(&format!(
                "{unmasked} message(s) are not JSON: nothing was masked in them; look at them before you pass them on"
            ));
        }
        Ok(())
    }
}

/// Masks fields of a payload that is JSON; other payloads stay as they are. Says whether that was
/// possible.
fn mask(input: &mut Value, fields: &[String]) -> bool {
    if fields.is_empty() {
        return true;
    }
    let payload =
        input.get("payload_hex").and_then(Value::as_str).and_then(|h| hex::decode(h).ok());
    let Some(mut json) = payload.and_then(|bytes| serde_json::from_slice(&bytes).ok()) else {
        return false;
    };
    mask_fields(&mut json, fields);
    if let Some(object) = input.as_object_mut() {
        object.insert("payload_hex".to_owned(), hex::encode(json.to_string()).into());
    }
    true
}

fn mask_fields(value: &mut Value, fields: &[String]) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if fields.contains(key) {
                    *value = MASK.into();
                } else {
                    mask_fields(value, fields);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_fields(item, fields)),
        _ => {}
    }
}

/// Names become numbers, also as levels of the topic.
fn anonymize(input: &mut Value, names: &mut HashMap<String, String>) {
    let Some(object) = input.as_object_mut() else { return };
    let mut replaced = Vec::new();
    for key in ["device", "client_id"] {
        let Some(Value::String(name)) = object.get_mut(key) else { continue };
        let number = names.len() + 1;
        let other = names.entry(name.clone()).or_insert_with(|| format!("device-{number}"));
        replaced.push((std::mem::replace(name, other.clone()), other.clone()));
    }
    if let Some(Value::String(topic)) = object.get_mut("topic") {
        let level = |level: &str| {
            let found = replaced.iter().find(|(name, _)| name == level);
            found.map_or_else(|| level.to_owned(), |(_, other)| other.clone())
        };
        *topic = topic.split('/').map(level).collect::<Vec<_>>().join("/");
    }
}

/// Takes lines of a resource as they come, at most `max` of them.
async fn lines(
    gateway: &Gateway,
    path: &str,
    max: u64,
    mut take: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let mut bytes = gateway.stream(path).await?.bytes_stream();
    let (mut left, mut partial) = (max, Vec::new());
    while left > 0 {
        let Some(chunk) = bytes.next().await else { break };
        partial.extend_from_slice(&chunk.map_err(|error| format!("the gateway: {error}"))?);
        while let Some(end) = partial.iter().position(|&byte| byte == b'\n')
            && left > 0
        {
            let line: Vec<u8> = partial.drain(..=end).collect();
            take(String::from_utf8_lossy(&line).trim_end())?;
            left -= 1;
        }
    }
    Ok(())
}
