//! The API on an address: over TLS, or on this machine alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::access::NetworkConfig;

/// Time that a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at a time; others wait to be accepted.
const HANDSHAKES_MAX: usize = 64;
/// Connections at a time; descriptors belong to devices.
const CONNECTIONS_MAX: usize = 256;
/// Connections that are through and wait for a place.
const READY_MAX: usize = 16;
/// How long accepting pauses when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

/// A connection with its place among those that may be open.
pub(super) struct Held {
    stream: Box<dyn Stream>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connections that are ready for HTTP.
pub(super) struct Network {
    address: SocketAddr,
    ready: mpsc::Receiver<(Held, SocketAddr)>,
    /// Ends with it.
    _tasks: JoinSet<()>,
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
        let (sender, ready) = mpsc::channel(READY_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, tls, sender));
        Ok(Self { address, ready, _tasks: tasks })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listener for Network {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The task that accepts has ended, which it does not.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    mut tls: Option<Identity>,
    ready: mpsc::Sender<(Held, SocketAddr)>,
) {
    let mut handshakes = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while handshakes.len() >= HANDSHAKES_MAX {
            handshakes.join_next().await;
        }
        while handshakes.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let acceptor = tls.as_mut().map(Identity::acceptor);
        let ready = ready.clone();
        handshakes.spawn(async move {
            if let Some(stream) = secured(stream, acceptor, peer).await {
                // Nobody waits for it when the gateway ends.
                let _is_taken = ready.send((Held { stream, _place: place }, peer)).await;
            }
        });
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
