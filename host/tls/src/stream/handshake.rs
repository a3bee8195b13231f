//! The handshake: drives rustls until both sides have finished, then verifies the device's
//! certificate again, since a resumed session brings an old one.

use std::io;
use std::sync::Arc;

use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::{AlertDescription, CertificateError, Error, HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;

use super::TlsStream;
use crate::clock::now;
use crate::generation::Generation;
use crate::peer::{ClientCertificates, PeerRefusal, VerifiedPeer, take_refusal};
use crate::resolver::take_asked;

/// The content type of a handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The alert `unrecognized_name` (RFC 6066 §3): fatal, before anything is encrypted.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// What rustls says where no certificate was chosen; it has no variant of its own.
const NONE_CHOSEN: &str = "no server certificate chain resolved";

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream,
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The IANA name of the cipher suite.
    pub cipher_suite: &'static str,
    /// What the client asked for, lower case.
    pub server_name: Option<String>,
    /// Whether it goes on with an earlier session's keys.
    pub is_resumed: bool,
    /// The device's certificate, if it has one. One that was good when its session began and is not
    /// any more is a refusal, which the caller tells the device in its own protocol.
    pub peer: Result<Option<Arc<VerifiedPeer>>, PeerRefusal>,
}

/// What kind of thing was wrong, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeFault {
    /// The peer went away.
    Closed,
    /// It does not speak TLS.
    NotTls,
    /// No version or cipher suite in common.
    NothingInCommon,
    /// It asked for a name that nobody has.
    UnknownName,
    /// It asked for another protocol than MQTT (ALPN).
    UnknownProtocol,
    /// It has no certificate.
    NoCertificate,
    /// Its certificate is not good.
    BadCertificate,
    /// Its certificate was revoked.
    Revoked,
    /// The peer refuses us; most often it does not trust our certificate.
    RefusedByPeer,
    /// Anything else that is not TLS as the standard has it.
    Protocol,
}

impl HandshakeFault {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Closed,
        Self::NotTls,
        Self::NothingInCommon,
        Self::UnknownName,
        Self::UnknownProtocol,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::Revoked,
        Self::RefusedByPeer,
        Self::Protocol,
    ];

    /// A word for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::NothingInCommon => "nothing_in_common",
            Self::UnknownName => "unknown_name",
            Self::UnknownProtocol => "unknown_protocol",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::Revoked => "revoked",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Protocol => "protocol",
        }
    }
}

/// A handshake that failed.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct HandshakeError {
    /// What kind of thing was wrong.
    pub fault: HandshakeFault,
    /// In words.
    pub why: String,
    /// The subject of the device's certificate, where that was the reason.
    pub subject: Option<String>,
}

impl HandshakeError {
    fn new(fault: HandshakeFault, why: impl Into<String>) -> Self {
        Self { fault, why: why.into(), subject: None }
    }

    fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let refusal = take_refusal();
        let Some(tls) = tls else { return Self::new(HandshakeFault::Closed, error.to_string()) };
        match (tls, refusal) {
            (Error::InvalidCertificate(_), Some(refusal)) => {
                let fault = match refusal.is_revoked {
                    true => HandshakeFault::Revoked,
                    false => HandshakeFault::BadCertificate,
                };
                Self { fault, why: refusal.why, subject: refusal.subject }
            }
            (Error::InvalidCertificate(CertificateError::BadSignature), None) => Self::new(
                HandshakeFault::BadCertificate,
                "the device does not have the key of its certificate",
            ),
            (Error::NoCertificatesPresented, _) => {
                Self::new(HandshakeFault::NoCertificate, "the device has no certificate")
            }
            (Error::AlertReceived(alert), _) => Self::by_alert(*alert),
            (Error::NoApplicationProtocol, _) => Self::new(
                HandshakeFault::UnknownProtocol,
                "the client offers protocols (ALPN), and none of the gateway's",
            ),
            (Error::General(text), _) if text == NONE_CHOSEN => Self::new(
                HandshakeFault::UnknownName,
                "no certificate is for the server name that the client asks for",
            ),
            (Error::PeerIncompatible(why), _) => {
                Self::new(HandshakeFault::NothingInCommon, format!("nothing in common: {why:?}"))
            }
            (other, _) => Self::new(HandshakeFault::Protocol, other.to_string()),
        }
    }

    fn by_alert(alert: AlertDescription) -> Self {
        let hint = match alert {
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired => {
                "; does it trust the authority of the gateway's certificate, and is the name right?"
            }
            _ => "",
        };
        Self::new(HandshakeFault::RefusedByPeer, format!("the client says {alert:?}{hint}"))
    }
}

/// Does the handshake of a connection that was accepted. Waits without end: the caller has a
/// deadline.
///
/// # Errors
/// [`HandshakeError`] with the socket, to which an alert was written; a close that lets it arrive is
/// the caller's.
pub async fn accept(
    socket: TcpStream,
    generation: &Generation,
) -> Result<Box<Accepted>, Box<(HandshakeError, TcpStream)>> {
    let connection = match UnbufferedServerConnection::new(Arc::clone(generation.config())) {
        Ok(connection) => connection,
        Err(error) => {
            let error = HandshakeError::new(HandshakeFault::Protocol, error.to_string());
            return Err(Box::new((error, socket)));
        }
    };
    let mut stream = TlsStream::new(socket, connection);
    match stream.shake_hands(generation).await {
        Ok(session) => Ok(Box::new(session.with(stream))),
        Err(error) => Err(Box::new((error, stream.socket))),
    }
}

/// What a handshake has settled.
struct Session {
    version: &'static str,
    cipher_suite: &'static str,
    server_name: Option<String>,
    is_resumed: bool,
    peer: Result<Option<Arc<VerifiedPeer>>, PeerRefusal>,
}

impl Session {
    fn with(self, stream: TlsStream) -> Accepted {
        let Self { version, cipher_suite, server_name, is_resumed, peer } = self;
        Accepted { stream, version, cipher_suite, server_name, is_resumed, peer }
    }
}

impl TlsStream {
    async fn shake_hands(&mut self, generation: &Generation) -> Result<Session, HandshakeError> {
        let lost = |error: io::Error| HandshakeError::of(&error);
        self.expect_tls().await?;
        // What was read up to the end of ClientHello.
        let mut hello = Some(Vec::new());
        let mut server_name = None;
        while self.is_handshaking() {
            // One whose own is not taken is not read from: it may never read.
            if self.has_outgoing() {
                self.flush_all().await.map_err(lost)?;
            }
            self.socket.readable().await.map_err(lost)?;
            // Nothing waits from here to where the thread's notes are taken.
            let _stale = (take_refusal(), take_asked());
            let mut result = self.read_handshake(hello.as_mut());
            if let Some(asked) = take_asked() {
                server_name = server_name.or(asked.server_name);
                // A second ClientHello, after a HelloRetryRequest, is told of again.
                if let Some(begin) = hello.take()
                    && let Some(config) = generation.other_config(asked.peculiarity)
                {
                    result = self.begin_again(Arc::clone(config), begin);
                }
            }
            result.map_err(|error| self.refused(&error))?;
        }
        self.flush_all().await.map_err(lost)?;
        self.session(generation, server_name)
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Looks at the first byte: to a peer that speaks something else an alert says nothing.
    async fn expect_tls(&self) -> Result<(), HandshakeError> {
        let mut first = [0];
        let peeked = self.socket.peek(&mut first).await;
        match peeked {
            Ok(0) => Err(HandshakeError::new(HandshakeFault::Closed, "the peer closed")),
            Ok(_) if first == [HANDSHAKE] => Ok(()),
            Ok(_) => Err(HandshakeError::new(
                HandshakeFault::NotTls,
                "the peer does not speak TLS; this listener does",
            )),
            Err(error) => Err(HandshakeError::of(&error)),
        }
    }

    /// Goes on with another configuration, as if the client had not been answered yet; nothing was
    /// written to it.
    fn begin_again(&mut self, config: Arc<ServerConfig>, mut begin: Vec<u8>) -> io::Result<()> {
        self.connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        self.outgoing.clear();
        self.incoming.clear();
        self.is_broken = false;
        let result = self.decrypt(&mut begin);
        // It asks for the same again.
        let _noted = take_asked();
        result
    }

    /// Reads what there is; nothing where there is nothing. Adds it to `copy`.
    fn read_handshake(&mut self, copy: Option<&mut Vec<u8>>) -> io::Result<()> {
        let filled = self.fill(|socket, bytes| {
            let read = socket.try_read(bytes)?;
            if let Some(copy) = copy {
                copy.extend_from_slice(bytes.get(..read).unwrap_or_default());
            }
            Ok(read)
        });
        match filled {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(()) if self.is_ended && self.is_handshaking() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed"))
            }
            other => other,
        }
    }

    async fn flush_all(&mut self) -> io::Result<()> {
        loop {
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await?;
                }
                other => return other,
            }
        }
    }

    /// What a failed handshake was about; the peer is told, as far as the socket takes it.
    fn refused(&mut self, error: &io::Error) -> HandshakeError {
        let error = HandshakeError::of(error);
        match error.fault {
            // rustls has only `access_denied` for it.
            HandshakeFault::UnknownName => {
                let _as_far_as_it_goes = self.socket.try_write(&UNRECOGNIZED_NAME);
            }
            HandshakeFault::Closed => {}
            _ => self.drain_alert(),
        }
        error
    }

    fn session(
        &self,
        generation: &Generation,
        server_name: Option<String>,
    ) -> Result<Session, HandshakeError> {
        let connection = &self.connection;
        let suite = connection.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        Ok(Session {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            },
            cipher_suite: iana_name(suite),
            server_name,
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            peer: self.peer(generation)?,
        })
    }

    /// The device's certificate as it is now.
    fn peer(
        &self,
        generation: &Generation,
    ) -> Result<Result<Option<Arc<VerifiedPeer>>, PeerRefusal>, HandshakeError> {
        let Some(verifier) = generation.verifier() else { return Ok(Ok(None)) };
        let Some(sent) = self.connection.peer_certificates() else {
            return match verifier.demand() {
                ClientCertificates::Optional => Ok(Ok(None)),
                ClientCertificates::Required => Err(HandshakeError::new(
                    HandshakeFault::NoCertificate,
                    "the device has no certificate",
                )),
            };
        };
        Ok(verifier.verify_now(sent, now()).map(Some))
    }
}

/// rustls writes TLS 1.3's suites with `TLS13_`.
fn iana_name(name: &'static str) -> &'static str {
    match name {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}
