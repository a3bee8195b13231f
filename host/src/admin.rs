//! The admin API: HTTP on a Unix socket that only the gateway's user may open. `portreeve plugin`
//! and its like speak it; so can `curl --unix-socket`.
//!
//! Errors are problems as RFC 9457 has them.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use serde_json::json;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixSocket};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::gateway::Gateway;
use crate::reload::Reloader;
use crate::reload::set::View;

mod plugins;
mod tls;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) reloader: Reloader,
    pub(crate) view: Arc<View>,
    pub(crate) gateways: Arc<[Arc<Gateway>]>,
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

/// Bytes that the path of a Unix socket may have (`sun_path` without its end).
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Requests that wait to be accepted.
const LISTEN_QUEUE: u32 = 64;

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// Its file, which is taken away with it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have put its own socket there.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn identity(path: &Path) -> Option<(u64, u64)> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && Self::identity(&self.path) == self.identity {
            // One that stays is taken away at the next start.
            let _is_gone = std::fs::remove_file(&self.path);
        }
    }
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
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = SocketFile { path: path.to_owned(), identity: SocketFile::identity(path) };
        // Nobody can connect before it is listened on, and then only this user.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener: socket.listen(LISTEN_QUEUE)?, file })
    }

    /// Answers requests until the gateway stops.
    pub(crate) async fn serve(self, admin: Admin) {
        let Self { listener, file } = self;
        let shutdown = admin.shutdown.clone();
        let router = router(admin).into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(listener, router).with_graceful_shutdown(async move {
            shutdown.cancelled().await;
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin socket");
        }
        drop(file);
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
        .route("/v1/certificates", get(tls::list))
        .route("/metrics", get(plugins::metrics))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is no such resource; /v1/plugins is one")
        })
        .with_state(admin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_there(path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    #[tokio::test]
    async fn a_socket_is_its_users_and_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let socket = Socket::bind(&path).unwrap();
        let mode = path.symlink_metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Socket::bind(&path).unwrap_err().to_string().contains("another gateway"));
        drop(socket);
        assert!(!is_there(&path), "a start that failed leaves nothing behind");
    }

    #[tokio::test]
    async fn a_socket_of_another_process_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = Socket::bind(&path).unwrap();
        std::fs::rename(&path, folder.path().join("old.sock")).unwrap();
        let second = Socket::bind(&path).unwrap();
        drop(first);
        assert!(is_there(&path));
        drop(second);
        assert!(!is_there(&path));
    }
}
