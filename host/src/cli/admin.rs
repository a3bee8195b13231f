//! Speaks with a running gateway: through its admin socket, or over the network with a token.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use portreeve::access::{Scope, Token};
use portreeve::config::{ADMIN_SOCKET, Config};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

use super::output;

/// Where the gateway is.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// The gateway's admin socket.
    #[arg(long, value_name = "SOCKET", env = "PORTREEVE_ADMIN")]
    admin: Option<PathBuf>,
    /// The gateway's data directory, in which its admin socket is.
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    data: Option<PathBuf>,
    /// The gateway's configuration file, which names either.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "data"])]
    config: Option<PathBuf>,
    /// The gateway's admin API on the network; the token stands in PORTREEVE_TOKEN.
    #[arg(long, value_name = "URL", env = "PORTREEVE_URL", conflicts_with_all = ["admin", "data", "config"])]
    url: Option<String>,
    /// Authorities of the certificate that the API shows, in PEM, beside those of the system.
    #[arg(long, value_name = "FILE", requires = "url")]
    url_ca: Option<PathBuf>,
}

/// The token for the network; no argument, since those are seen by everybody on the machine.
const TOKEN: &str = "PORTREEVE_TOKEN";

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
        self.socket().is_ok_and(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok())
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
        let response = way.send(request).await?;
        let bytes = response.bytes().await;
        let unreadable =
            |error: &dyn std::fmt::Display| format!("the gateway's answer cannot be read: {error}");
        let bytes = bytes.map_err(|error| unreadable(&error))?;
        match bytes.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&bytes).map_err(|error| unreadable(&error)),
        }
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
        let (builder, base, place) = match &self.url {
            Some(url) => {
                let base = url.trim_end_matches('/').to_owned();
                let builder = match &self.url_ca {
                    Some(path) => with_authorities(builder, path)?,
                    None => builder,
                };
                (builder, base.clone(), base)
            }
            None => {
                let socket = self.socket()?;
                let place = socket.display().to_string();
                // The host does not matter on a socket of this machine.
                (builder.unix_socket(socket), "http://gateway".to_owned(), place)
            }
        };
        let client = builder.build().map_err(|error| error.to_string())?;
        let token = self.url.as_ref().and_then(|_| std::env::var(TOKEN).ok());
        Ok(Way { client, base, token, place })
    }

    fn socket(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.admin {
            return Ok(socket.clone());
        }
        if let Some(data) = &self.data {
            return Ok(data.join(ADMIN_SOCKET));
        }
        let Some(path) = &self.config else {
            return Err(
                "where is the gateway? Say --data DIR as it was started with, or --admin SOCKET, \
                        --config FILE, or --url URL"
                    .to_owned(),
            );
        };
        let config = Config::read(path).map_err(|error| error.to_string())?;
        config.admin_socket().ok_or_else(|| {
            format!(
                "{}: the gateway has neither [admin] socket nor [data] directory",
                path.display()
            )
        })
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
