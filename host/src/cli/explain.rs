//! `portreeve explain`: the last attempts of a device to connect, step by step.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin::{Gateway, escaped};
use super::output;

/// Say why a device was let in or not.
#[derive(Debug, Args)]
#[group(id = "who", required = true, multiple = true, args = ["client_id", "device", "user_name", "certificate", "peer"])]
pub(crate) struct Explain {
    /// Its client identifier.
    #[arg(long)]
    client_id: Option<String>,
    /// The name of the device.
    #[arg(long)]
    device: Option<String>,
    /// Its user name.
    #[arg(long)]
    user_name: Option<String>,
    /// A part of the subject of its certificate.
    #[arg(long)]
    certificate: Option<String>,
    /// The address that it comes from.
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<std::net::IpAddr>,
    /// At most so many attempts.
    #[arg(long, default_value_t = 3)]
    limit: u32,
    #[command(flatten)]
    gateway: Gateway,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) async fn execute(self) -> ExitCode {
        let peer = self.peer.map(|peer| peer.to_string());
        let parts = [
            ("client_id", &self.client_id),
            ("device", &self.device),
            ("user_name", &self.user_name),
            ("certificate", &self.certificate),
            ("peer", &peer),
        ];
        let parts = parts
            .iter()
            .filter_map(|(key, value)| Some(format!("&{key}={}", escaped(value.as_deref()?))));
        let path = format!("/v1/attempts?limit={}{}", self.limit, parts.collect::<String>());
        let answer = match self.gateway.ask(&path).await {
            Ok(answer) => answer,
            Err(error) => return output::fail(&error),
        };
        if self.json {
            output::json(&answer);
            return ExitCode::SUCCESS;
        }
        let attempts = answer.get("attempts").and_then(Value::as_array);
        let attempts = attempts.map(Vec::as_slice).unwrap_or_default();
        if attempts.is_empty() {
            return output::fail(
                "no attempt is known: the gateway keeps the last 5 of each of the last 5,000 devices, since its start",
            );
        }
        for attempt in attempts {
            tell(attempt);
        }
        ExitCode::SUCCESS
    }
}

fn tell(attempt: &Value) {
    let text = |key: &str| attempt.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let is_admitted = attempt.get("is_admitted").and_then(Value::as_bool).unwrap_or(false);
    let took = attempt.get("took_us").and_then(Value::as_u64).unwrap_or_default();
    let outcome = if is_admitted { "let in" } else { "refused" };
    let (at, peer) = (text("at").unwrap_or_default(), text("peer").unwrap_or_default());
    let gateway = text("gateway").unwrap_or_default();
    output::say(&format!("{at}  {outcome} after {took} us: {peer} at gateway {gateway}"));
    for (name, key) in [
        ("client identifier", "client_id"),
        ("user name", "user_name"),
        ("certificate", "certificate"),
        ("device", "device"),
    ] {
        if let Some(value) = text(key) {
            output::say(&format!("  {name}: {value}"));
        }
    }
    for step in attempt.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        let at_us = step.get("at_us").and_then(Value::as_u64).unwrap_or_default();
        let (outcome, stage) = (text("outcome"), text("stage"));
        output::say(&format!("  {at_us:>9} us  {outcome:<8} {stage:<13} {}", text("why")));
    }
    output::say("");
}
