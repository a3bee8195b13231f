//! The API on an address: over TLS, or on this machine alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access::NetworkConfig;

/// Time that a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that the head of a request may take, and that a connection may rest between two: who holds
/// places without a token must not keep others out.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at a time; descriptors belong to devices.
const CONNECTIONS_MAX: usize = 256;
/// How long accepting pauses when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An address that is listened on.
pub(super) struct Network {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Identity>,
}

impl Network {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the certificate cannot be used.
    pub(super) async fn listen(config: &NetworkConfig) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.address).await?;
        let address = listener.local_addr()?;
        let tls = config.identity.clone().map(Identity::read).transpose()?;
        Ok(Self { listener, address, tls })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the gateway stops; those that are being answered then are finished.
    pub(super) async fn serve(mut self, router: Router, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                self.listener.accept().await.map(|(stream, peer)| (stream, peer, place))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer, place)) => {
                    let acceptor = self.tls.as_mut().map(Identity::acceptor);
                    let (router, shutdown) = (router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        let _place = place;
                        if let Some(stream) = secured(stream, acceptor, peer).await {
                            answer(stream, peer, router, shutdown).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

/// Answers the requests of one connection.
async fn answer(
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection of the admin listener ended");
    }
}

async fn secured(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    peer: SocketAddr,
) -> Option<Box<dyn Stream>> {
    let Some(acceptor) = acceptor else { return Some(Box::new(stream)) };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "no TLS on the admin listener");
            None
        }
        Err(_) => None,
    }
}

/// Certificate and key; read again when their files change.
struct Identity {
    files: (PathBuf, PathBuf),
    as_of: Option<[std::time::SystemTime; 2]>,
    looked_at: std::time::Instant,
    acceptor: TlsAcceptor,
}

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

impl Identity {
    fn read(files: (PathBuf, PathBuf)) -> std::io::Result<Self> {
        let as_of = modified(&files);
        let acceptor = acceptor(&files)?;
        Ok(Self { files, as_of, looked_at: std::time::Instant::now(), acceptor })
    }

    /// What holds now: the files are another pair, or are kept until they are a good one.
    fn acceptor(&mut self) -> TlsAcceptor {
        if self.looked_at.elapsed() >= LOOK_INTERVAL {
            self.looked_at = std::time::Instant::now();
            let as_of = modified(&self.files);
            if as_of != self.as_of {
                match acceptor(&self.files) {
                    Ok(acceptor) => {
                        tracing::info!("the admin listener has another certificate");
                        (self.acceptor, self.as_of) = (acceptor, as_of);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the admin listener keeps its certificate")
                    }
                }
            }
        }
        self.acceptor.clone()
    }
}

fn modified((certificate, key): &(PathBuf, PathBuf)) -> Option<[std::time::SystemTime; 2]> {
    let of = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    Some([of(certificate)?, of(key)?])
}

fn acceptor((certificate, key): &(PathBuf, PathBuf)) -> std::io::Result<TlsAcceptor> {
    let unusable = |path: &PathBuf, why: String| {
        std::io::Error::other(format!("{} cannot be used: {why}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "there is no certificate in it".to_owned()));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(certificate, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| unusable(certificate, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
