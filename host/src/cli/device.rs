//! `portreeve device`: the registry of a running gateway.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{Gateway, escaped};
use super::output;

mod import;

/// Work with devices.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List devices.
    List(List),
    /// Show a device.
    Show(One),
    /// Add a device.
    Add(Add),
    /// Change a device: what is not given stays, an empty text takes something away.
    Set(Set),
    /// Import devices from a CSV file (SN, MQTT UserName, MQTT Password, ...) or JSON lines.
    Import(import::Import),
    /// Write all devices as CSV or JSON lines, which import reads, with the hashes of passwords.
    Export(import::Export),
    /// Let a device connect again.
    Enable(Several),
    /// Let a device not connect any more, and end its connections.
    Disable(Several),
    /// Give a device another password, which is read from standard input, and end its connections.
    SetPassword(One),
    /// Delete devices, and end their sessions.
    Delete(Several),
    /// End the connections of devices.
    Kick(Several),
}

/// Which device.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its name.
    name: String,
    #[command(flatten)]
    of: Of,
}

/// Which devices.
#[derive(Debug, Args)]
pub(crate) struct Several {
    /// Their names.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    of: Of,
}

/// Of which product of which gateway.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The product; the only one where it is left out.
    #[arg(long)]
    product: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Of {
    /// The product that is given, or the only one that there is.
    async fn product(&self) -> Result<String, String> {
        if let Some(product) = &self.product {
            return Ok(product.clone());
        }
        let answer = self.gateway.ask("/v1/products").await?;
        let products = answer.get("products").and_then(Value::as_array);
        let name = |product: &Value| product.get("name").and_then(Value::as_str).map(str::to_owned);
        let names: Vec<String> = products.into_iter().flatten().filter_map(name).collect();
        match names.as_slice() {
            [one] => Ok(one.clone()),
            several => {
                Err(format!("which product? There are {}; say --product", several.join(", ")))
            }
        }
    }

    async fn path(&self, name: &str) -> Result<String, String> {
        let product = self.product().await?;
        Ok(format!("/v1/products/{}/devices/{}", escaped(&product), escaped(name)))
    }
}

/// List devices.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    of: Of,
    /// Those whose name begins so.
    #[arg(long)]
    prefix: Option<String>,
    /// Those that may not connect.
    #[arg(long, conflicts_with = "enabled")]
    disabled: bool,
    /// Those that may connect.
    #[arg(long)]
    enabled: bool,
    /// Those that came into the registry so.
    #[arg(long, value_parser = ["configured", "imported", "auto-created"])]
    origin: Option<String>,
    /// The one with this user name.
    #[arg(long)]
    user_name: Option<String>,
    /// The one with this serial number.
    #[arg(long)]
    serial_number: Option<String>,
    /// At most so many; 0 for all.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// What is said of a device.
#[derive(Debug, Args)]
pub(crate) struct Said {
    /// Its serial number.
    #[arg(long)]
    serial_number: Option<String>,
    /// Its MQTT user name.
    #[arg(long)]
    user_name: Option<String>,
    /// The hash of its password, in place of it.
    #[arg(long)]
    password_hash: Option<String>,
    /// SHA-256 of the certificate that it has to have.
    #[arg(long)]
    certificate_fingerprint: Option<String>,
    /// The common name of the certificate that it has to have.
    #[arg(long)]
    certificate_common_name: Option<String>,
    /// An attribute; with this all of them are replaced.
    #[arg(long, value_name = "NAME=VALUE")]
    attribute: Vec<String>,
    /// A permission: publish:FILTER, subscribe:FILTER or both:FILTER; with this all are replaced.
    #[arg(long, value_name = "ACTION:FILTER")]
    permission: Vec<String>,
}

impl Said {
    /// The device as the API takes it.
    fn spec(self) -> Result<Map<String, Value>, String> {
        let mut spec = Map::new();
        for (key, text) in [
            ("serial_number", self.serial_number),
            ("user_name", self.user_name),
            ("password_hash", self.password_hash),
            ("certificate_fingerprint", self.certificate_fingerprint),
            ("certificate_common_name", self.certificate_common_name),
        ] {
            if let Some(text) = text {
                spec.insert(key.to_owned(), text.into());
            }
        }
        let mut attributes = BTreeMap::new();
        for text in &self.attribute {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| format!("{text:?} is no attribute: write NAME=VALUE"))?;
            attributes.insert(name, value);
        }
        if !attributes.is_empty() {
            spec.insert("attributes".to_owned(), json!(attributes));
        }
        let mut permissions = Vec::new();
        for text in &self.permission {
            let (action, filter) = text
                .split_once(':')
                .ok_or_else(|| format!("{text:?} is no permission: write publish:a/b/#"))?;
            permissions.push(json!({ "action": action, "topic_filter": filter }));
        }
        if !permissions.is_empty() {
            spec.insert("permissions".to_owned(), permissions.into());
        }
        Ok(spec)
    }
}

/// Add a device.
#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    said: Said,
    /// Read its password from standard input.
    #[arg(long)]
    password_stdin: bool,
}

/// Change a device.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    said: Said,
}

impl DeviceCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        let done = match self {
            Self::List(list) => list.execute().await,
            Self::Show(one) => show(one).await,
            Self::Add(add) => add.execute().await,
            Self::Set(set) => set.execute().await,
            Self::Import(import) => return import.execute().await,
            Self::Export(export) => export.execute().await,
            Self::Enable(several) => {
                each(several, Method::PATCH, "", &json!({ "enabled": true })).await
            }
            Self::Disable(several) => {
                each(several, Method::PATCH, "", &json!({ "enabled": false })).await
            }
            Self::SetPassword(one) => set_password(one).await,
            Self::Delete(several) => each(several, Method::DELETE, "", &Value::Null).await,
            Self::Kick(several) => each(several, Method::POST, "/kick", &Value::Null).await,
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    }
}

impl List {
    fn query(&self, product: Option<&str>) -> String {
        let enabled = if self.disabled { Some("false") } else { self.enabled.then_some("true") };
        let parts = [
            ("product", product),
            ("prefix", self.prefix.as_deref()),
            ("enabled", enabled),
            ("origin", self.origin.as_deref()),
            ("user_name", self.user_name.as_deref()),
            ("serial_number", self.serial_number.as_deref()),
        ];
        let parts = parts.iter().filter_map(|(key, value)| Some((key, (*value)?)));
        parts.fold(String::new(), |query, (key, value)| format!("{query}&{key}={}", escaped(value)))
    }

    async fn execute(self) -> Result<(), String> {
        let query = self.query(self.of.product.as_deref());
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut devices = Vec::new();
        let mut has_more = false;
        let mut after = String::new();
        while devices.len() < limit {
            let page = limit.saturating_sub(devices.len()).min(PAGE);
            let path = format!("/v1/devices?limit={page}{query}{after}");
            let mut answer = self.of.gateway.ask(&path).await?;
            if let Some(Value::Array(found)) = answer.get_mut("devices").map(Value::take) {
                devices.extend(found);
            }
            let next = answer.get("next").and_then(Value::as_str).map(escaped);
            has_more = next.is_some();
            let Some(next) = next else { break };
            after = format!("&after={next}");
        }
        if self.of.json {
            output::json(&json!({ "devices": devices, "has_more": has_more }));
            return Ok(());
        }
        let heading =
            ["PRODUCT", "DEVICE", "USER NAME", "SERIAL NUMBER", "STATE", "ORIGIN", "LAST SEEN"];
        let rows = devices.iter().map(row);
        output::table(std::iter::once(heading.map(str::to_owned)).chain(rows).collect());
        if has_more {
            output::say("There are more: --limit, --prefix");
        }
        Ok(())
    }
}

/// Devices that are asked for at a time.
const PAGE: usize = 1_000;

fn row(device: &Value) -> [String; 7] {
    let text = |key: &str| device.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let is_enabled = device.get("enabled").and_then(Value::as_bool).unwrap_or(false);
    let state = if is_enabled { "enabled" } else { "disabled" };
    [
        text("product"),
        text("name"),
        text("user_name"),
        text("serial_number"),
        state.to_owned(),
        text("origin"),
        text("last_seen_at"),
    ]
}

async fn show(one: One) -> Result<(), String> {
    let path = one.of.path(&one.name).await?;
    let device = one.of.gateway.ask(&path).await?;
    said(&device, one.of.json);
    Ok(())
}

/// A device, for people or for machines.
fn said(device: &Value, as_json: bool) {
    let Some(fields) = device.as_object().filter(|_| !as_json) else { return output::json(device) };
    for (key, value) in fields {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        output::say(&format!("{:<24} {text}", key.replace('_', " ")));
    }
}

impl Add {
    async fn execute(self) -> Result<(), String> {
        let product = self.one.of.product().await?;
        let mut spec = self.said.spec()?;
        spec.insert("name".to_owned(), self.one.name.into());
        spec.insert("product".to_owned(), product.into());
        if self.password_stdin {
            spec.insert("password".to_owned(), password()?.into());
        }
        let device = self.one.of.gateway.order("/v1/devices", &spec.into()).await?;
        said(&device, self.one.of.json);
        Ok(())
    }
}

impl Set {
    async fn execute(self) -> Result<(), String> {
        let path = self.one.of.path(&self.one.name).await?;
        let spec = self.said.spec()?;
        if spec.is_empty() {
            return Err("nothing is to be changed: portreeve device set --help".to_owned());
        }
        let gateway = &self.one.of.gateway;
        let device = gateway.request(Method::PATCH, &path, Some(&spec.into())).await?;
        said(&device, self.one.of.json);
        Ok(())
    }
}

async fn set_password(one: One) -> Result<(), String> {
    let path = one.of.path(&one.name).await?;
    let spec = json!({ "password": password()? });
    let device = one.of.gateway.request(Method::PATCH, &path, Some(&spec)).await?;
    said(&device, one.of.json);
    Ok(())
}

/// The first line of standard input: an argument would be seen by everybody on the machine.
fn password() -> Result<String, String> {
    const BYTES_MAX: u64 = 4_096;
    let mut text = String::new();
    let read = std::io::stdin().take(BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| format!("standard input: {error}"))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err("the password is read from standard input, which is empty".to_owned()),
    }
}

/// The same for each of several devices; one that fails keeps no other one away.
async fn each(several: Several, method: Method, suffix: &str, body: &Value) -> Result<(), String> {
    let Several { names, of } = several;
    let mut failed = Vec::new();
    for name in &names {
        let path = of.path(name).await?;
        let body = (!body.is_null()).then_some(body);
        let done = of.gateway.request(method.clone(), &format!("{path}{suffix}"), body).await;
        match done {
            Ok(_) if !of.json => output::say(&format!("{name}: done")),
            Ok(answer) => output::json(&json!({ "device": name, "result": answer })),
            Err(error) => failed.push(error),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}
