//! The admin API: HTTP on a Unix socket that only the gateway's user may open, and on an address for
//! those who have a token. The command line speaks it; so can `curl --unix-socket`.
//!
//! Errors are problems as RFC 9457 has them; `/v1/openapi.json` describes everything.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::{UnixListener, UnixSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{NetworkConfig, Token};
use crate::broker::Broker;
use crate::gateway::Gateway;
use crate::reload::Reloader;
use crate::reload::set::View;

mod access;
mod changes;
pub(crate) mod devices;
mod gateways;
mod messages;
mod metrics;
mod network;
mod operation;
mod plugins;
mod problem;
mod sessions;
mod tls;

pub(crate) use access::Audit;
use access::{Caller, Doorkeeper};
use network::Network;
use problem::Problem;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) reloader: Reloader,
    pub(crate) view: Arc<View>,
    pub(crate) gateways: Arc<[Arc<Gateway>]>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) tasks: TaskTracker,
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
    async fn serve(self, front: Router, shutdown: CancellationToken) {
        let Self { listener, file } = self;
        let router = front.into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(listener, router).with_graceful_shutdown(async move {
            shutdown.cancelled().await;
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin socket");
        }
        drop(file);
    }
}

/// The API in front of a gateway that starts: it says so until there is one.
pub(crate) struct Front {
    ready: Arc<OnceLock<Router>>,
    audit: Arc<Audit>,
    shutdown: CancellationToken,
    /// Where it listens on the network.
    pub(crate) address: Option<SocketAddr>,
}

/// Where the API is to be.
pub(crate) struct Places<'a> {
    pub(crate) socket: Option<Socket>,
    pub(crate) network: Option<&'a NetworkConfig>,
    pub(crate) tokens: &'a [Token],
}

impl Front {
    /// Listens, and answers that the gateway starts.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub(crate) async fn open(
        places: Places<'_>,
        audit: Audit,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> std::io::Result<Self> {
        let audit = Arc::new(audit);
        let ready: Arc<OnceLock<Router>> = Arc::default();
        let front = || {
            let ready = Arc::clone(&ready);
            Router::new().fallback(move |request: Request| answer(Arc::clone(&ready), request))
        };
        let mut address = None;
        if let Some(network) = places.network {
            let listener = Network::listen(network).await?;
            address = Some(listener.address());
            let tokens = places.tokens.to_vec();
            let doorkeeper = Arc::new(Doorkeeper { tokens, audit: Arc::clone(&audit) });
            let router = front().layer(from_fn_with_state(doorkeeper, access::by_token));
            tasks.spawn(listener.serve(router, shutdown.clone()));
        }
        if let Some(socket) = places.socket {
            let router = front().layer(from_fn_with_state(Arc::clone(&audit), access::by_socket));
            tasks.spawn(socket.serve(router, shutdown.clone()));
        }
        Ok(Self { ready, audit, shutdown, address })
    }

    pub(crate) fn audit(&self) -> Arc<Audit> {
        Arc::clone(&self.audit)
    }

    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// From now on the gateway answers.
    pub(crate) fn ready(&self, admin: Admin) {
        // There is one start.
        let _is_first = self.ready.set(router(admin));
    }
}

async fn answer(ready: Arc<OnceLock<Router>>, request: Request) -> Response {
    match ready.get() {
        Some(router) => match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None if request.uri().path() == "/healthz" => operation::healthz().await.into_response(),
        None => {
            let detail = "the gateway starts: plugins and store are being read";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
        }
    }
}

/// Bytes of a request.
const BODY_BYTES_MAX: usize = 16 << 20;

/// The document that describes the API.
#[derive(OpenApi)]
#[openapi(info(
    title = "Portreeve admin API",
    description = "Devices, sessions, plugins and certificates of a running gateway.",
))]
struct Document;

fn documented() -> OpenApiRouter<Admin> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(of_operation())
        .merge(of_plugins())
        .routes(routes!(devices::products))
        .routes(routes!(devices::list, devices::add))
        .routes(routes!(devices::import))
        .routes(routes!(devices::show, devices::change, devices::delete))
        .routes(routes!(devices::kick))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show, sessions::end))
        .routes(routes!(sessions::attempts))
        .merge(of_gateways())
        .routes(routes!(messages::publish))
        .routes(routes!(messages::retained))
        .routes(routes!(messages::remove_retained))
}

fn of_gateways() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(gateways::list))
        .routes(routes!(gateways::show))
        .routes(routes!(changes::limits))
        .routes(routes!(changes::bindings))
        .routes(routes!(changes::certificate))
        .routes(routes!(changes::rollout))
        .merge(of_components())
}

/// A component is larger than any other body.
fn of_components() -> OpenApiRouter<Admin> {
    let limit = DefaultBodyLimit::max(changes::COMPONENT_BYTES_MAX);
    OpenApiRouter::new().routes(routes!(changes::component)).layer(limit)
}

fn of_operation() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(operation::healthz))
        .routes(routes!(operation::readyz))
        .routes(routes!(operation::metrics))
        .routes(routes!(operation::document))
        .routes(routes!(gateways::drain, gateways::draining, gateways::stop_drain))
        .routes(routes!(access::audit))
        .routes(routes!(tls::list))
}

fn of_plugins() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(plugins::reload))
        .routes(routes!(plugins::history_of_all))
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::show))
        .routes(routes!(plugins::history))
        .routes(routes!(plugins::roll_back))
        .routes(routes!(plugins::promote))
        .routes(routes!(plugins::trace))
        .routes(routes!(plugins::record))
}

/// The OpenAPI document of the admin API.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = documented().split_for_parts();
    operation::finish(&mut document);
    document
}

fn router(admin: Admin) -> Router {
    let (router, _) = documented().split_for_parts();
    router
        .fallback(|| async {
            Problem::not_found("there is no such resource; GET /v1/openapi.json lists them")
        })
        .method_not_allowed_fallback(|| async {
            let detail = "the resource does not have this method; GET /v1/openapi.json lists them";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
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
