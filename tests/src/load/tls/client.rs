//! An MQTT client over rustls, many of which fit into one process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portreeve_mqtt::{Packet, ProtocolVersion};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, RootCertStore, SupportedCipherSuite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{V5, V311, connect};
use crate::pki::{Certificate, named};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sessions that a client remembers.
const SESSIONS: usize = 4;

/// Versions of TLS that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// 1.3.
    Tls13,
    /// 1.2.
    Tls12,
}

/// A chain, end entity first, with its key.
#[derive(Debug)]
pub struct Identity {
    /// DER of each.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the end entity.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Identity {
    /// A certificate that OpenSSL made, with what issued it.
    #[must_use]
    pub fn of(certificate: &Certificate, issuer: &Certificate) -> Self {
        let chain = [certificate, issuer].map(|one| CertificateDer::from(one.der()));
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
        Self { chain: chain.to_vec(), key }
    }

    /// A device of `int`.
    #[must_use]
    pub fn device(certificate: &Certificate) -> Self {
        Self::of(certificate, named("int"))
    }
}

/// A client in the making; it offers X25519 and makes full handshakes unless it is told to resume.
#[derive(Debug, Clone)]
pub struct TlsClient {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    version: ProtocolVersion,
}

/// Why a client was not let in, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The connection or its handshake.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// CONNACK with this code.
    #[error("CONNACK {0:#04x}")]
    Connack(u8),
    /// Nothing came in time.
    #[error("nothing came in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

impl TlsClient {
    /// One for TLS 1.3 that trusts `root`.
    #[must_use]
    pub fn new(address: SocketAddr, identity: Option<&Identity>) -> Self {
        Self::with(address, identity, Offered::Tls13, false)
    }

    /// One that resumes its session when it comes again.
    #[must_use]
    pub fn resuming(address: SocketAddr, identity: &Identity, offered: Offered) -> Self {
        Self::with(address, Some(identity), offered, true)
    }

    fn with(
        address: SocketAddr,
        identity: Option<&Identity>,
        offered: Offered,
        resumes: bool,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(named("root").der())).expect("a root");
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let version = if offered == Offered::Tls13 { &TLS13 } else { &TLS12 };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots);
        let mut config = match identity.cloned() {
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain, key).expect("a certificate with its key")
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption =
            if resumes { Resumption::in_memory_sessions(SESSIONS) } else { Resumption::disabled() };
        Self { address, config: Arc::new(config), version: V311 }
    }

    /// The same with MQTT 5 instead of 3.1.1.
    #[must_use]
    pub fn mqtt_5(self) -> Self {
        Self { version: V5, ..self }
    }

    /// The same with ChaCha20 before AES.
    #[must_use]
    pub fn chacha_first(self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        let mut provider = CryptoProvider::clone(config.crypto_provider());
        let is_chacha = |suite: &SupportedCipherSuite| {
            suite.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        };
        provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(named("root").der())).expect("a root");
        config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config), ..self }
    }

    /// What it offers.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn handshake(&self) -> Result<TlsStream<TcpStream>, Refused> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("gw.test").expect("a name");
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(timeout(PATIENCE, connector.connect(name, socket)).await??)
    }

    /// Is let in.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn open(&self, client_id: &str) -> Result<Opened, Refused> {
        let begin = Instant::now();
        let mut stream = self.handshake().await?;
        let mut bytes = Vec::new();
        let connect = Packet::Connect(connect(self.version, client_id));
        connect.encode(self.version, &mut bytes).expect("it is short");
        let sent = Instant::now();
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        let connack = timeout(PATIENCE, packet(&mut stream)).await??;
        let (connack_after, all) = (sent.elapsed(), begin.elapsed());
        let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        match (connack.first(), connack.get(3)) {
            (Some(0x20), Some(0)) => Ok(Opened { stream, connack_after, all, is_resumed }),
            (Some(0x20), Some(code)) => Err(Refused::Connack(*code)),
            _ => Err(io::Error::other(format!("no CONNACK: {}", hex::encode(connack))).into()),
        }
    }

    /// Handshake, CONNECT, CONNACK, DISCONNECT, and the server's close.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn once(&self, client_id: &str) -> Result<Took, Refused> {
        let opened = self.open(client_id).await?;
        let took = Took { connack_after: opened.connack_after, all: opened.all };
        opened.leave().await;
        Ok(took)
    }
}

/// How long a client waited.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From CONNECT to CONNACK.
    pub connack_after: Duration,
    /// From the first byte of TCP to CONNACK.
    pub all: Duration,
}

/// A client that was let in.
#[derive(Debug)]
pub struct Opened {
    stream: TlsStream<TcpStream>,
    /// From CONNECT to CONNACK.
    pub connack_after: Duration,
    /// From the first byte of TCP to CONNACK.
    pub all: Duration,
    /// The session went on with an earlier one's keys.
    pub is_resumed: bool,
}

impl Opened {
    /// The server's certificate, as DER.
    #[must_use]
    pub fn server_certificate(&self) -> Vec<u8> {
        let certificates = self.stream.get_ref().1.peer_certificates();
        certificates.and_then(|chain| chain.first()).map(|one| one.to_vec()).unwrap_or_default()
    }

    /// The cipher suite that was agreed on.
    #[must_use]
    pub fn cipher_suite(&self) -> String {
        let suite = self.stream.get_ref().1.negotiated_cipher_suite();
        suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default()
    }

    /// PINGREQ and its answer; how long that took.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn ping(&mut self) -> Result<Duration, Refused> {
        let begin = Instant::now();
        self.stream.write_all(&[0xc0, 0]).await?;
        self.stream.flush().await?;
        let answer = timeout(PATIENCE, packet(&mut self.stream)).await??;
        match answer.first() {
            Some(0xd0) => Ok(begin.elapsed()),
            _ => {
                Err(io::Error::other(format!("instead of PINGRESP: {}", hex::encode(answer)))
                    .into())
            }
        }
    }

    /// Waits until the server ends it; what it said.
    ///
    /// # Errors
    /// [`Refused::Late`] where it goes on.
    pub async fn ended(&mut self, patience: Duration) -> Result<Vec<u8>, Refused> {
        let mut said = Vec::new();
        // However it ends: it has ended.
        let _end = timeout(patience, self.stream.read_to_end(&mut said)).await?;
        Ok(said)
    }

    /// DISCONNECT, and waits for the server's close.
    pub async fn leave(mut self) {
        let _gone = self.stream.write_all(&[0xe0, 0]).await;
        let _gone = self.stream.flush().await;
        let _end = self.ended(PATIENCE).await;
    }
}

/// Reads one packet whose remaining length has one byte.
async fn packet(stream: &mut TlsStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).await?;
    let length = usize::from(packet[1]);
    packet.resize(2 + length, 0);
    stream.read_exact(&mut packet[2..]).await?;
    Ok(packet)
}
