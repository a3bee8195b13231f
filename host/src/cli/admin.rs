//! Speaks with a running gateway through its admin socket.

use std::path::PathBuf;

use clap::Args;
use portreeve::config::{ADMIN_SOCKET, Config};
use serde_json::Value;

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
}

impl Gateway {
    /// That of a data directory or configuration file, if either is given.
    pub(crate) fn of(data: Option<PathBuf>, config: Option<PathBuf>) -> Option<Self> {
        let is_given = data.is_some() || config.is_some();
        is_given.then_some(Self { admin: None, data, config })
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
        let (client, socket) = self.client()?;
        answer(client.get(url(path)).send().await, &socket).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(crate) async fn order(&self, path: &str, body: &Value) -> Result<Value, String> {
        let (client, socket) = self.client()?;
        answer(client.post(url(path)).json(body).send().await, &socket).await
    }

    /// A resource that comes line by line.
    ///
    /// # Errors
    /// As [`Gateway::ask`].
    pub(crate) async fn stream(&self, path: &str) -> Result<reqwest::Response, String> {
        let (client, socket) = self.client()?;
        let response = client.get(url(path)).send().await;
        let response = response.map_err(|error| unreachable(&socket, &error))?;
        if response.status().is_success() { Ok(response) } else { Err(problem(response).await) }
    }

    fn client(&self) -> Result<(reqwest::Client, PathBuf), String> {
        let socket = self.socket()?;
        let client = reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().build();
        Ok((client.map_err(|error| error.to_string())?, socket))
    }

    fn socket(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.admin {
            return Ok(socket.clone());
        }
        if let Some(data) = &self.data {
            return Ok(data.join(ADMIN_SOCKET));
        }
        let Some(path) = &self.config else {
            return Err("where is the gateway? Say --data DIR as it was started with, or --admin SOCKET, or \
                        --config FILE"
                .to_owned());
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

/// The host does not matter on a socket of this machine.
fn url(path: &str) -> String {
    format!("http://gateway{path}")
}

async fn answer(
    response: Result<reqwest::Response, reqwest::Error>,
    socket: &std::path::Path,
) -> Result<Value, String> {
    let response = response.map_err(|error| unreachable(socket, &error))?;
    if !response.status().is_success() {
        return Err(problem(response).await);
    }
    response.json().await.map_err(|error| format!("the gateway's answer cannot be read: {error}"))
}

fn unreachable(socket: &std::path::Path, error: &reqwest::Error) -> String {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    format!("no gateway answers on {}: {why}", socket.display())
}

/// What a problem says (RFC 9457).
async fn problem(response: reqwest::Response) -> String {
    let status = response.status();
    let problem: Option<Value> = response.json().await.ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    detail.map_or_else(|| format!("the gateway answers {status}"), str::to_owned)
}
