//! `portreeve gateway`: the gateways of a running process, and what its configuration file says of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::admin::{Gateway, escaped};
use super::order::{Order, settings};
use super::output;

/// Work with gateways.
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// List gateways.
    List(List),
    /// Show a gateway with its bindings and limits.
    Show(Show),
    /// Change limits in the configuration file.
    Limits(Limits),
    /// Put other bindings in the place of those of the configuration file.
    Bindings(Bindings),
    /// Put another chain and key in the place of a certificate's files.
    Certificate(Certificate),
}

/// List gateways.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    gateway: Gateway,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show a gateway with its bindings and limits.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name.
    name: String,
    #[command(flatten)]
    gateway: Gateway,
}

/// Change limits in the configuration file.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// The gateway's name.
    name: String,
    /// Limits of [gateway.limits]: `connections_max=5000`, `connect_timeout=5s`; nothing after = is the
    /// default.
    #[arg(required = true, value_name = "LIMIT=VALUE")]
    limits: Vec<String>,
    #[command(flatten)]
    order: Order,
}

/// Put other bindings in the place of those of the configuration file.
#[derive(Debug, Args)]
pub(crate) struct Bindings {
    /// The gateway's name.
    name: String,
    /// JSON: {"bindings": [{"topic": "devices/+/raw", "plugin": "sensor-frame"}]}, with `direction`,
    /// `may_publish` and `on_error` where they are wanted.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    order: Order,
}

/// Put another chain and key in the place of a certificate's files.
#[derive(Debug, Args)]
pub(crate) struct Certificate {
    /// The gateway's name.
    name: String,
    /// The certificate's name: of a managed one, or of its chain's file without the ending.
    certificate: String,
    /// PEM: the gateway's own certificate first.
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    order: Order,
}

impl GatewayCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        output::code(match self {
            Self::List(list) => list.execute().await,
            Self::Show(show) => show.execute().await,
            Self::Limits(limits) => limits.execute().await,
            Self::Bindings(bindings) => bindings.execute().await,
            Self::Certificate(certificate) => certificate.execute().await,
        })
    }
}

impl List {
    async fn execute(self) -> Result<(), String> {
        let answer = self.gateway.ask("/v1/gateways").await?;
        if self.json {
            output::json(&answer);
            return Ok(());
        }
        let gateways = answer.get("gateways").and_then(Value::as_array);
        let heading = ["NAME", "PRODUCT", "VERIFICATION", "CONNECTIONS", "BINDINGS"];
        let rows = gateways.into_iter().flatten().map(row);
        output::table(std::iter::once(heading.map(str::to_owned)).chain(rows).collect());
        Ok(())
    }
}

fn row(gateway: &Value) -> [String; 5] {
    let text = |key: &str| gateway.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let connections = gateway.get("connections").and_then(Value::as_u64).unwrap_or_default();
    let bindings = gateway.get("bindings").and_then(Value::as_array).map_or(0, Vec::len);
    [
        text("name"),
        text("product"),
        text("verification"),
        connections.to_string(),
        bindings.to_string(),
    ]
}

impl Show {
    async fn execute(self) -> Result<(), String> {
        let path = format!("/v1/gateways/{}", escaped(&self.name));
        output::json(&self.gateway.ask(&path).await?);
        Ok(())
    }
}

impl Limits {
    async fn execute(self) -> Result<(), String> {
        let body = settings(&self.limits)?;
        let path = format!("/v1/gateways/{}/limits", escaped(&self.name));
        self.order.give(Method::PATCH, &path, &body).await
    }
}

impl Bindings {
    async fn execute(self) -> Result<(), String> {
        let text = read(&self.file)?;
        let body: Value = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}", self.file.display()))?;
        let path = format!("/v1/gateways/{}/bindings", escaped(&self.name));
        self.order.give(Method::PUT, &path, &body).await
    }
}

impl Certificate {
    async fn execute(self) -> Result<(), String> {
        let key = Zeroizing::new(read(&self.key)?);
        let body = json!({ "chain": read(&self.chain)?, "key": key.as_str() });
        let (name, certificate) = (escaped(&self.name), escaped(&self.certificate));
        let path = format!("/v1/gateways/{name}/certificates/{certificate}");
        self.order.give(Method::PUT, &path, &body).await
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
