//! `portreeve session`: the sessions of a running gateway.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::admin::{Gateway, escaped};
use super::output;

/// Work with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions.
    List(List),
    /// End a session: its connection, its subscriptions and what waits for it.
    End(End),
}

/// List sessions.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    gateway: Gateway,
    /// Those of this product.
    #[arg(long)]
    product: Option<String>,
    /// Those of this device.
    #[arg(long)]
    device: Option<String>,
    /// Those whose client identifier begins so.
    #[arg(long)]
    prefix: Option<String>,
    /// Those that have a connection.
    #[arg(long)]
    connected: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// End a session.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// Its client identifier.
    client_id: String,
    /// The product of its device.
    #[arg(long, default_value = "default")]
    product: String,
    #[command(flatten)]
    gateway: Gateway,
}

impl SessionCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        let done = match self {
            Self::List(list) => list.execute().await,
            Self::End(end) => end.execute().await,
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    }
}

impl List {
    async fn execute(self) -> Result<(), String> {
        let parts = [
            ("product", self.product.as_deref()),
            ("device", self.device.as_deref()),
            ("prefix", self.prefix.as_deref()),
            ("connected", self.connected.then_some("true")),
        ];
        let parts =
            parts.iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped((*value)?))));
        let query = parts.collect::<Vec<_>>().join("&");
        let answer = self.gateway.ask(&format!("/v1/sessions?{query}")).await?;
        if self.json {
            output::json(&answer);
            return Ok(());
        }
        let sessions = answer.get("sessions").and_then(Value::as_array);
        let heading = ["PRODUCT", "CLIENT", "DEVICE", "STATE", "SUBSCRIPTIONS", "QUEUED"];
        let rows = sessions.into_iter().flatten().map(row);
        output::table(std::iter::once(heading.map(str::to_owned)).chain(rows).collect());
        if answer.get("next").is_some_and(|next| !next.is_null()) {
            output::say("There are more: --prefix, --device");
        }
        Ok(())
    }
}

fn row(session: &Value) -> [String; 6] {
    let text = |key: &str| session.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let is_connected = session.get("is_connected").and_then(Value::as_bool).unwrap_or(false);
    let subscriptions = session.get("subscriptions").and_then(Value::as_array).map_or(0, Vec::len);
    let queued = session.get("queued_messages").and_then(Value::as_u64).unwrap_or_default();
    [
        text("product"),
        text("client_id"),
        text("device"),
        if is_connected { "connected" } else { "away" }.to_owned(),
        subscriptions.to_string(),
        queued.to_string(),
    ]
}

impl End {
    async fn execute(self) -> Result<(), String> {
        let (product, client_id) = (escaped(&self.product), escaped(&self.client_id));
        let path = format!("/v1/products/{product}/sessions/{client_id}");
        self.gateway.request(Method::DELETE, &path, None).await?;
        output::say(&format!("{}: ended", self.client_id));
        Ok(())
    }
}
