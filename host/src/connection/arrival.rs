//! What comes before MQTT: a place, whose connection it is, the opening of a WebSocket, CONNECT.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use portreeve_mqtt::ReasonCode;
use portreeve_tls::stream::{HandshakeError, HandshakeFault, TlsStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::transport::{self, Socket, Transport};
use super::{Connection, Deadlines, Handshakes, farewell, handshake, proxy};
use crate::attempts::{Trail, Who};
use crate::config::ListenerKind;
use crate::connect::Accepted;
use crate::gateway::Gateway;
use crate::peer::{Peer, PeerTls};
use crate::tls::{LiveGuard, Tls};

/// A connection that was accepted by a listener.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) kind: ListenerKind,
    /// A header in front of everything tells whose connection it is.
    pub(crate) is_behind_proxy: bool,
    pub(crate) place: Place,
    pub(crate) handshake: Handshakes,
    pub(crate) shutdown: CancellationToken,
}

/// A place among the connections of a gateway, counted for as long as it lives.
pub(crate) struct Place {
    gateway: Arc<Gateway>,
    /// What most connections do not have.
    more: Option<Box<More>>,
}

/// More that is counted for a connection.
#[derive(Default)]
struct More {
    /// Where connections are counted by address.
    address: Option<IpAddr>,
    /// Where the device has a certificate.
    live: Option<LiveGuard>,
}

impl Place {
    /// Takes a place.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    pub(crate) fn take(gateway: &Arc<Gateway>) -> Result<Self, &'static str> {
        let broker = &gateway.broker;
        // Given back by the drop, also when there is no room.
        let place = Self { gateway: Arc::clone(gateway), more: None };
        let of_all = broker.metrics.connections.fetch_add(1, Ordering::Relaxed);
        let of_gateway = gateway.connections.fetch_add(1, Ordering::Relaxed);
        if of_gateway >= gateway.limits.connections_max {
            return Err("gateway.limits.connections_max");
        }
        if usize::try_from(of_all).is_ok_and(|open| open >= broker.connections_max) {
            return Err("limits.connections_max");
        }
        Ok(place)
    }

    /// Counts the connection for its address; whether there is room for it.
    fn take_address(&mut self, address: IpAddr) -> bool {
        let max = self.gateway.limits.connections_per_address_max;
        if max == 0 {
            return true;
        }
        let mut by_address = self.gateway.by_address.lock();
        let open = by_address.entry(address).or_default();
        if *open >= max {
            return false;
        }
        *open += 1;
        self.more.get_or_insert_default().address = Some(address);
        true
    }

    /// Keeps the session among those whose certificates are looked at again.
    fn set_live(&mut self, live: Option<LiveGuard>) {
        if live.is_some() {
            self.more.get_or_insert_default().live = live;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.broker.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        self.gateway.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.more.take().and_then(|more| more.address) {
            let mut by_address = self.gateway.by_address.lock();
            if let Some(open) = by_address.get_mut(&address) {
                *open -= 1;
                if *open == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

pub(super) async fn arrive(arrival: Box<Arrival>) -> Option<Box<Connection>> {
    let shutdown = arrival.shutdown.clone();
    let connection = tokio::select! {
        established = establish(arrival) => established?,
        () = shutdown.cancelled() => return None,
    };
    if shutdown.is_cancelled() {
        // Let in after everybody was told.
        connection.client.session.close(ReasonCode::ServerShuttingDown);
    }
    Some(connection)
}

/// A connection that was let in; CONNACK is its first reply.
async fn establish(arrival: Box<Arrival>) -> Option<Box<Connection>> {
    let Arrival { stream, peer, kind, is_behind_proxy, mut place, handshake, .. } = *arrival;
    let gateway = Arc::clone(&place.gateway);
    let deadline = Instant::now() + gateway.limits.connect_timeout;
    let opening = open(stream, peer, kind, is_behind_proxy, &gateway);
    let opened = timeout_at(deadline, opening).await;
    let opened = opened.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
    let (stream, peer) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            drop(handshake);
            not_opened(error, peer, &gateway).await;
            return None;
        }
    };
    if !place.take_address(peer.address.ip()) {
        gateway.broker.metrics.connections_refused_address.add(1);
        let peer = peer.address;
        tracing::warn!(%peer, gateway = %gateway.name, limit = "connections_per_address_max", "connection refused: so many are open from its address");
        return None;
    }
    let (mut stream, accepted, mut rest) =
        handshake::accept(stream, &peer, &gateway, handshake, deadline).await?;
    stream.allow_packets(gateway.limits.packet.packet_bytes_max);
    let Accepted { client, connack, will, keep_alive, expires_at, .. } = accepted;
    if let (Some(tls), Some(session)) = (&gateway.tls, &peer.tls) {
        place.set_live(tls.enter(session, &client.session, client.generation));
    }
    // Revoked or disabled since it was looked at: nothing that it sent behind CONNECT is done.
    if client.session.must_close(client.generation).is_some() {
        rest.clear();
    }
    let now = Instant::now();
    let deadlines = Deadlines {
        keep_alive: keep_alive.map(|keep_alive| keep_alive * 3 / 2),
        last_packet: now,
        expires_at,
        stalled_until: None,
        reads_again_at: None,
    };
    let timer = Box::pin(sleep_until(deadlines.next().unwrap_or(now)));
    Some(Box::new(Connection {
        stream,
        peer: peer.address,
        place,
        client,
        will,
        partial: rest,
        replies: connack,
        unsent: Vec::new(),
        sent: 0,
        timer,
        deadlines,
    }))
}

/// Why a connection was not opened.
enum NotOpened {
    Io(io::Error),
    /// Its TLS handshake failed; the socket is there to be closed in order.
    Tls(Box<(HandshakeError, TcpStream)>),
}

impl From<io::Error> for NotOpened {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn not_opened(why: NotOpened, peer: SocketAddr, gateway: &Gateway) {
    let metrics = &gateway.broker.metrics;
    metrics.connections_refused.add(1);
    match why {
        NotOpened::Io(error) => {
            metrics.connect_timeouts.add(u64::from(error.kind() == io::ErrorKind::TimedOut));
            tracing::debug!(%peer, gateway = %gateway.name, %error, "connection not opened");
        }
        NotOpened::Tls(failed) => {
            let (error, socket) = *failed;
            let subject = error.subject.as_deref().unwrap_or_default();
            let (kind, reason) = (error.fault.name(), &error.why);
            if error.fault != HandshakeFault::Closed {
                let mut trail = Trail::begin();
                trail.refused("tls", format!("{kind}: {reason}"));
                let certificate = error.subject.as_deref();
                let (gateway_name, client_id, user_name) = (&gateway.name, "", None);
                let who = Who { gateway: gateway_name, peer, client_id, user_name, certificate };
                gateway.broker.attempts.keep(who, trail, false);
            }
            // Health checks connect and go away.
            if error.fault == HandshakeFault::Closed {
                tracing::debug!(%peer, gateway = %gateway.name, reason, "no TLS handshake");
            } else if gateway.may_log_handshake() {
                tracing::info!(%peer, gateway = %gateway.name, kind, subject, reason, "TLS handshake refused");
            }
            // The alert is to arrive.
            farewell::say(Transport::Tcp(socket), &[]).await;
        }
    }
}

/// What comes before MQTT: whose connection it is, TLS, and the opening of a WebSocket.
async fn open(
    mut stream: TcpStream,
    peer: SocketAddr,
    kind: ListenerKind,
    is_behind_proxy: bool,
    gateway: &Gateway,
) -> Result<(Transport, Peer), NotOpened> {
    let told = if is_behind_proxy { proxy::read_header(&mut stream).await? } else { None };
    let mut peer = Peer { address: told.unwrap_or(peer), tls: None };
    let socket = match (kind.is_tls(), &gateway.tls) {
        (false, _) => Socket::Tcp(stream),
        (true, Some(tls)) => {
            let (stream, session) = Box::pin(secure(stream, tls)).await?;
            peer.tls = Some(Arc::new(session));
            Socket::Tls(Box::new(stream))
        }
        (true, None) => return Err(io::Error::other("the gateway has no TLS").into()),
    };
    let stream = match (kind, socket) {
        (ListenerKind::WebSocket | ListenerKind::WebSocketTls, socket) => {
            let packet_bytes_max = gateway.limits.connect_packet.packet_bytes_max;
            transport::accept_web_socket(socket, packet_bytes_max).await?
        }
        (_, Socket::Tcp(stream)) => Transport::Tcp(stream),
        (_, Socket::Tls(stream)) => Transport::Tls(stream),
    };
    Ok((stream, peer))
}

/// The TLS handshake.
async fn secure(stream: TcpStream, tls: &Tls) -> Result<(TlsStream, PeerTls), NotOpened> {
    let current = tls.current();
    let accepting = portreeve_tls::stream::accept(stream, &current.generation);
    let accepted = match timeout(current.handshake_timeout, accepting).await {
        Err(_) => {
            tls.metrics.timed_out();
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        Ok(Err(failed)) => {
            tls.metrics.failed(failed.0.fault);
            return Err(NotOpened::Tls(failed));
        }
        Ok(Ok(accepted)) => accepted,
    };
    tls.metrics.accepted(&accepted);
    let portreeve_tls::stream::Accepted {
        stream, version, cipher_suite, server_name, peer, ..
    } = *accepted;
    let (verified, refused) = match peer {
        Ok(verified) => (verified, None),
        Err(refusal) => (None, Some(refusal.why)),
    };
    let mut session = PeerTls::new(version, cipher_suite, server_name, verified);
    session.refused = refused;
    Ok((stream, session))
}
