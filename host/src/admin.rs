//! The admin API: HTTP on a Unix socket that only the gateway's user may open. `portreeve plugin`
//! and its like speak it; so can `curl --unix-socket`.
//!
//! Errors are problems as RFC 9457 has them.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use serde_json::json;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::reload::Reloader;
use crate::reload::set::View;

mod plugins;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) reloader: Reloader,
    pub(crate) view: Arc<View>,
    pub(crate) broker: Arc<Broker>,
    /// Ends streams when the gateway stops.
    pub(crate) shutdown: CancellationToken,
}

/// Who asks, by the socket's credentials.
#[derive(Debug, Clone)]
struct Peer {
    user: Option<u32>,
}

impl Peer {
    /// For the history.
    fn name(&self) -> String {
        match self.user {
            Some(user) => format!("admin (uid {user})"),
            None => "admin".to_owned(),
        }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { user: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

/// Why a request was not done.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let body = json!({ "title": title, "status": self.status.as_u16(), "detail": self.detail });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket; what a process that is gone has left behind is taken away.
    ///
    /// # Errors
    /// When another process listens there, or it cannot be bound.
    pub(crate) fn bind(path: &Path) -> std::io::Result<Self> {
        let is_socket =
            std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        if is_socket {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                let message = "another gateway listens on it";
                return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, message));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers requests until the gateway stops.
    pub(crate) async fn serve(self, admin: Admin) {
        let shutdown = admin.shutdown.clone();
        let router = router(admin).into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(self.listener, router).with_graceful_shutdown(async move {
            shutdown.cancelled().await;
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin socket");
        }
        // One that stays is taken away at the next start.
        let _is_gone = std::fs::remove_file(&self.path);
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/v1/reload", post(plugins::reload))
        .route("/v1/history", get(plugins::history_of_all))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/{name}", get(plugins::show))
        .route("/v1/plugins/{name}/history", get(plugins::history))
        .route("/v1/plugins/{name}/rollback", post(plugins::roll_back))
        .route("/v1/plugins/{name}/promote", post(plugins::promote))
        .route("/v1/plugins/{name}/trace", get(plugins::trace))
        .route("/v1/record", get(plugins::record))
        .route("/metrics", get(plugins::metrics))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is no such resource; /v1/plugins is one")
        })
        .with_state(admin)
}
