//! `portreeve pki serve`: OCSP over HTTP (RFC 6960 §A), CRLs and the issuers' certificates.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use portreeve_tls::material::{crls, read_certificates, read_file};
use portreeve_tls::now;
use portreeve_tls::pki::{AuthorityName, Pki, REQUEST_BYTES_MAX, Responder};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::{Directory, said};
use crate::cli::run;

mod listener;

use listener::{BoundedListener, Client};

/// Longest time that a response says it is good for: a week.
const MINUTES_MAX: u64 = 7 * 24 * 60;
/// Bytes of a CRL.
const CRL_BYTES_MAX: u64 = 64 << 20;

/// Answer OCSP, and serve CRLs and the issuers' certificates.
#[derive(Debug, Args)]
#[command(after_help = "It serves
  /ocsp                 OCSP, by GET and POST
  /int.crl /root.crl    CRLs (DER)
  /int.crt /root.crt    the issuers' certificates (DER)
and says in one line what was asked for. What is revoked while it runs is revoked at once.")]
pub(crate) struct Serve {
    /// Address to listen on. Left out: this machine alone, with the port of the URL that was given
    /// to `portreeve pki init`.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// How long an OCSP response says that it is good for.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MINUTES_MAX))]
    minutes: u64,
    #[command(flatten)]
    directory: Directory,
}

/// What the handlers work with.
#[derive(Debug)]
struct Served {
    responder: Responder,
    directory: PathBuf,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), String> {
        run::log_to_stderr("info")?;
        // Opened for a moment only: others are to issue and revoke while this runs.
        let url = Pki::open(&self.directory.dir).map_err(said)?.url().to_owned();
        let validity = Duration::from_secs(self.minutes.saturating_mul(60));
        let responder = Responder::open(&self.directory.dir, validity).map_err(said)?;
        let served = Arc::new(Served { responder, directory: self.directory.dir.clone() });
        let address = self.listen.unwrap_or_else(|| address_of(&url));
        let bound = tokio::net::TcpListener::bind(address).await;
        let listener =
            bound.map_err(|error| format!("{address} cannot be listened on: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| format!("signals cannot be received: {error}"))?;
        tracing::info!(%address, "serving OCSP and CRLs for development; ctrl-c ends it");
        if Url::parse(&url).ok().and_then(|url| url.port_or_known_default()) != Some(address.port())
        {
            tracing::warn!("certificates say {url}: nobody who goes by them comes to this port");
        }
        let service = router(served).into_make_service_with_connect_info::<Client>();
        tokio::select! {
            ended = axum::serve(BoundedListener::new(listener), service).into_future() => {
                ended.map_err(|error| error.to_string())
            }
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    }
}

fn address_of(url: &str) -> SocketAddr {
    let port = Url::parse(url).ok().and_then(|url| url.port_or_known_default());
    (Ipv4Addr::LOCALHOST, port.unwrap_or_default()).into()
}

fn router(served: Arc<Served>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/ocsp", post(posted).get(nothing_asked))
        .route("/ocsp/", post(posted).get(nothing_asked))
        .route("/ocsp/{*request}", get(asked))
        .route("/int.crl", get(|state, from| crl(state, from, AuthorityName::Intermediate)))
        .route("/root.crl", get(|state, from| crl(state, from, AuthorityName::Root)))
        .route("/int.crt", get(|state, from| certificate(state, from, AuthorityName::Intermediate)))
        .route("/root.crt", get(|state, from| certificate(state, from, AuthorityName::Root)))
        .fallback(nothing_there)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(served)
}

type From = ConnectInfo<Client>;
type ServedState = State<Arc<Served>>;

async fn index() -> &'static str {
    "An authority for development: /ocsp /int.crl /root.crl /int.crt /root.crt\n"
}

async fn nothing_there(ConnectInfo(Client(from)): From, uri: Uri) -> StatusCode {
    tracing::info!("{from} {:?}: there is no such thing", uri.path());
    StatusCode::NOT_FOUND
}

async fn posted(
    state: ServedState,
    from: From,
    request: Result<Bytes, BytesRejection>,
) -> Response {
    // What is too long is no request: it is answered like one.
    answer(&state, from, &Method::POST, &request.unwrap_or_default())
}

async fn nothing_asked(state: ServedState, from: From) -> Response {
    answer(&state, from, &Method::GET, &[])
}

/// RFC 6960 §A.1: base64 in the path, in which some clients leave `/` and `+` as they are.
async fn asked(state: ServedState, from: From, Path(request): Path<String>) -> Response {
    // What is no base64 is no request: it is answered like one.
    let request = STANDARD.decode(request.trim_start_matches('/')).unwrap_or_default();
    answer(&state, from, &Method::GET, &request)
}

fn answer(
    served: &Served,
    ConnectInfo(Client(from)): From,
    method: &Method,
    request: &[u8],
) -> Response {
    // Files may be read for it.
    let answer = tokio::task::block_in_place(|| served.responder.answer(request, now()));
    let said: Vec<String> =
        answer.said.iter().map(|(serial, answered)| format!("{serial} {answered}")).collect();
    let said = answer.fault.map_or_else(|| said.join(", "), str::to_owned);
    tracing::info!("{from} OCSP {method}: {said}");
    ([(header::CONTENT_TYPE, "application/ocsp-response")], answer.der).into_response()
}

async fn crl(state: ServedState, from: From, name: AuthorityName) -> Response {
    let path = state.directory.join(name.crl_file());
    let read = || {
        let bytes = read_file(&path, CRL_BYTES_MAX)?;
        crls(&path, &bytes).map(|found| found.into_iter().next().unwrap_or_default())
    };
    let read = tokio::task::block_in_place(read);
    file(from, name.crl_file(), "application/pkix-crl", read.map_err(|error| error.to_string()))
}

async fn certificate(state: ServedState, from: From, name: AuthorityName) -> Response {
    let path = state.directory.join(name.certificate_file());
    let read = tokio::task::block_in_place(|| read_certificates(&path));
    let read =
        read.map(|found| found.first().map(|first| first.der().to_vec()).unwrap_or_default());
    let read = read.map_err(|error| error.to_string());
    file(from, name.certificate_file(), "application/pkix-cert", read)
}

fn file(
    ConnectInfo(Client(from)): From,
    name: &str,
    kind: &'static str,
    read: Result<Vec<u8>, String>,
) -> Response {
    match read {
        Ok(bytes) => {
            tracing::info!("{from} {name}: {} bytes", bytes.len());
            ([(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
        Err(error) => {
            tracing::error!("{from} {name}: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
