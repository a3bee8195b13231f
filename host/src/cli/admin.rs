//! Speaks with a running gateway: through its admin socket, or over the network with a token.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use portreeve::access::{Scope, Token};
use portreeve::config::{ADMIN_SOCKET, Config};
use portreeve::signature::SIGNATURE_HEADER;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::process::ExitCode;

use super::output;

/// Where the gateway is.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// The gateway's admin socket; else PORTREEVE_ADMIN names it.
    #[arg(long, value_name = "SOCKET")]
    admin: Option<PathBuf>,
    /// The gateway's data directory, in which its admin socket is.
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    data: Option<PathBuf>,
    /// The gateway's configuration file, which names either.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "data"])]
    config: Option<PathBuf>,
    /// The gateway's admin API on the network; else PORTREEVE_URL names it. The token stands in
    /// PORTREEVE_TOKEN.
    #[arg(long, value_name = "URL", conflicts_with_all = ["admin", "data", "config"])]
    url: Option<String>,
    /// Authorities of the certificate that the API shows, in PEM, beside those of the system.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "data", "config"])]
    url_ca: Option<PathBuf>,
}

/// The token for the network; no argument, since those are seen by everybody on the machine.
const TOKEN: &str = "PORTREEVE_TOKEN";

/// Where the gateway is when no argument says it: what is typed counts more than what was exported.
const ADMIN: &str = "PORTREEVE_ADMIN";
const URL: &str = "PORTREEVE_URL";

/// Where the API is.
enum Place {
    Socket(PathBuf),
    Url(String),
}

/// A way to the API.
struct Way {
    client: reqwest::Client,
    /// What stands in front of paths.
    base: String,
    token: Option<String>,
    /// For messages.
    place: String,
}

impl Gateway {
    /// That of a data directory or configuration file, if either is given.
    pub(crate) fn of(data: Option<PathBuf>, config: Option<PathBuf>) -> Option<Self> {
        let is_given = data.is_some() || config.is_some();
        is_given.then_some(Self { admin: None, data, config, url: None, url_ca: None })
    }

    /// Whether one listens.
    pub(crate) fn is_there(&self) -> bool {
        let Ok(Place::Socket(socket)) = self.place() else { return false };
        std::os::unix::net::UnixStream::connect(socket).is_ok()
    }

    /// Asks for a resource.
    ///
    /// # Errors
    /// What the gateway says, or why it cannot be asked.
    pub(crate) async fn ask(&self, path: &str) -> Result<Value, String> {
        self.request(Method::GET, path, None).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(crate) async fn order(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.request(Method::POST, path, Some(body)).await
    }

    /// Any request; what has no content is null.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let way = self.way()?;
        let request = way.request(method, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        content(way.send(request).await?).await
    }

    /// Puts a component into the place of a plugin's; the signature in Base64.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(crate) async fn put_component(
        &self,
        path: &str,
        component: Vec<u8>,
        signature: Option<String>,
    ) -> Result<Value, String> {
        let way = self.way()?;
        let request = way.request(Method::PUT, path);
        let request = request.header(CONTENT_TYPE, "application/wasm").body(component);
        let request = match signature {
            Some(signature) => request.header(SIGNATURE_HEADER, signature),
            None => request,
        };
        content(way.send(request).await?).await
    }

    /// A resource that comes line by line.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(crate) async fn stream(&self, path: &str) -> Result<reqwest::Response, String> {
        let way = self.way()?;
        let request = way.request(Method::GET, path);
        way.send(request).await
    }

    fn way(&self) -> Result<Way, String> {
        let builder = reqwest::Client::builder().no_proxy();
        let place = self.place()?;
        let token = matches!(place, Place::Url(_)).then(|| std::env::var(TOKEN).ok()).flatten();
        let (builder, base, place) = match place {
            Place::Url(url) => {
                let base = url.trim_end_matches('/').to_owned();
                let builder = match &self.url_ca {
                    Some(path) => with_authorities(builder, path)?,
                    None => builder,
                };
                (builder, base.clone(), base)
            }
            Place::Socket(socket) => {
                let place = socket.display().to_string();
                // The host does not matter on a socket of this machine.
                (builder.unix_socket(socket), "http://gateway".to_owned(), place)
            }
        };
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(Way { client, base, token, place })
    }

    fn place(&self) -> Result<Place, String> {
        if let Some(url) = &self.url {
            return Ok(Place::Url(url.clone()));
        }
        if let Some(socket) = &self.admin {
            return Ok(Place::Socket(socket.clone()));
        }
        if let Some(data) = &self.data {
            return Ok(Place::Socket(data.join(ADMIN_SOCKET)));
        }
        let Some(path) = &self.config else {
            let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
            return exported(named(ADMIN), named(URL));
        };
        let config = Config::read(path).map_err(|error| error.to_string())?;
        config.admin_socket().map(Place::Socket).ok_or_else(|| {
            format!(
                "{}: the gateway has neither [admin] socket nor [data] directory",
                path.display()
            )
        })
    }
}

/// The place that the environment names.
fn exported(admin: Option<OsString>, url: Option<OsString>) -> Result<Place, String> {
    match (admin, url.map(OsString::into_string)) {
        (Some(_), Some(_)) => Err(format!(
            "both {ADMIN} and {URL} are set: unset one, or say --admin SOCKET or --url URL"
        )),
        (Some(socket), None) => Ok(Place::Socket(socket.into())),
        (None, Some(Ok(url))) => Ok(Place::Url(url)),
        (None, Some(Err(_))) => Err(format!("{URL} is no text")),
        (None, None) => {
            Err("where is the gateway? Say --data DIR as it was started with, or --admin SOCKET, \
             --config FILE, or --url URL"
                .to_owned())
        }
    }
}

fn with_authorities(
    mut builder: reqwest::ClientBuilder,
    path: &Path,
) -> Result<reqwest::ClientBuilder, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = std::fs::read(path).map_err(|error| unusable(&error))?;
    let authorities =
        reqwest::Certificate::from_pem_bundle(&bytes).map_err(|error| unusable(&error))?;
    for authority in authorities {
        builder = builder.add_root_certificate(authority);
    }
    Ok(builder)
}

impl Way {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, String> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(problem(response).await) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> String {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            why = cause.to_string();
            source = cause.source();
        }
        format!("no gateway answers on {}: {why}", self.place)
    }
}

/// What is in an answer; null where there is nothing.
async fn content(response: reqwest::Response) -> Result<Value, String> {
    let unreadable =
        |error: &dyn std::fmt::Display| format!("the gateway's answer cannot be read: {error}");
    let bytes = response.bytes().await.map_err(|error| unreadable(&error))?;
    match bytes.is_empty() {
        true => Ok(Value::Null),
        false => serde_json::from_slice(&bytes).map_err(|error| unreadable(&error)),
    }
}

/// What a problem says (RFC 9457).
async fn problem(response: reqwest::Response) -> String {
    let status = response.status();
    let problem: Option<Value> = response.json().await.ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    let said = detail.map_or_else(|| format!("the gateway answers {status}"), str::to_owned);
    match status {
        reqwest::StatusCode::UNAUTHORIZED => format!("{said}; for this command: {TOKEN}=TOKEN"),
        _ => said,
    }
}

/// A part of a path or of a query.
pub(crate) fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Work with the admin API.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Make a token for the API on the network.
    Token(MakeToken),
    /// Print the OpenAPI document of the API.
    Openapi,
    /// Show what was changed through the API, and by whom.
    Audit(ShowAudit),
}

/// Make a token for the API on the network.
#[derive(Debug, Args)]
pub(crate) struct MakeToken {
    /// Whose it is, for the audit log.
    #[arg(long)]
    name: String,
    /// What it opens.
    #[arg(long, value_parser = ["read", "operate", "admin"], default_value = "read")]
    scope: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Show what was changed through the API, and by whom.
#[derive(Debug, Args)]
pub(crate) struct ShowAudit {
    #[command(flatten)]
    gateway: Gateway,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl AdminCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        match self {
            Self::Token(token) => token.execute(),
            Self::Openapi => match serde_json::to_value(portreeve::admin_api()) {
                Ok(document) => {
                    output::json(&document);
                    ExitCode::SUCCESS
                }
                Err(error) => output::fail(&error.to_string()),
            },
            Self::Audit(show) => show.execute().await,
        }
    }
}

impl MakeToken {
    fn execute(self) -> ExitCode {
        let mut random = [0; 32];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            return output::fail("there are no random numbers");
        }
        let token = format!("prt_{}", hex::encode(random));
        let digest = hex::encode(Token::digest_of(&token));
        let Self { name, scope, json } = self;
        if json {
            output::json(
                &json!({ "token": token, "name": name, "scope": scope, "sha256": digest }),
            );
            return ExitCode::SUCCESS;
        }
        let known = Scope::ALL.iter().any(|(word, _)| *word == scope);
        if !known || name.contains(['"', '\\', '\n']) {
            return output::fail("the name holds a character that TOML quotes");
        }
        output::say("The token, which is shown this once:");
        output::say(&format!("  {token}"));
        output::say("For the gateway's configuration (a restart takes it):");
        output::say("  [[admin.token]]");
        output::say(&format!("  name = \"{name}\""));
        output::say(&format!("  scope = \"{scope}\""));
        output::say(&format!("  sha256 = \"{digest}\""));
        ExitCode::SUCCESS
    }
}

impl ShowAudit {
    async fn execute(self) -> ExitCode {
        let answer = match self.gateway.ask("/v1/audit").await {
            Ok(answer) => answer,
            Err(error) => return output::fail(&error),
        };
        if self.json {
            output::json(&answer);
            return ExitCode::SUCCESS;
        }
        let changes = answer.get("changes").and_then(Value::as_array);
        for change in changes.into_iter().flatten() {
            let text = |key: &str| change.get(key).and_then(Value::as_str).unwrap_or_default();
            let (at, by, action) = (text("at"), text("by"), text("action"));
            output::say(&format!("{at}  {by}: {action} {} {}", text("what"), text("detail")));
        }
        ExitCode::SUCCESS
    }
}
