//! What comes before MQTT: a place, whose connection it is, the opening of a WebSocket, CONNECT.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use portreeve_mqtt::ReasonCode;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::transport::{self, Transport};
use super::{Connection, Deadlines, Handshakes, handshake, proxy};
use crate::config::ListenerKind;
use crate::connect::Accepted;
use crate::gateway::Gateway;

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
    /// Where connections are counted by address.
    address: Option<Box<IpAddr>>,
}

impl Place {
    /// Takes a place.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    pub(crate) fn take(gateway: &Arc<Gateway>) -> Result<Self, &'static str> {
        let broker = &gateway.broker;
        // Given back by the drop, also when there is no room.
        let place = Self { gateway: Arc::clone(gateway), address: None };
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
        self.address = Some(Box::new(address));
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.broker.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        self.gateway.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address.take() {
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
    let packet_bytes_max = gateway.limits.connect_packet.packet_bytes_max;
    let opening = open(stream, peer, kind, is_behind_proxy, packet_bytes_max);
    let opened = timeout_at(deadline, opening).await;
    let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (stream, peer) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let metrics = &gateway.broker.metrics;
            metrics.connections_refused.add(1);
            metrics.connect_timeouts.add(u64::from(error.kind() == io::ErrorKind::TimedOut));
            tracing::debug!(%peer, gateway = %gateway.name, %error, "connection not opened");
            return None;
        }
    };
    if !place.take_address(peer.ip()) {
        gateway.broker.metrics.connections_refused_address.add(1);
        tracing::warn!(%peer, gateway = %gateway.name, limit = "connections_per_address_max", "connection refused: so many are open from its address");
        return None;
    }
    let (mut stream, accepted, rest) =
        handshake::accept(stream, peer, &gateway, handshake, deadline).await?;
    stream.allow_packets(gateway.limits.packet.packet_bytes_max);
    let Accepted { client, connack, will, keep_alive, expires_at, .. } = accepted;
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
        peer,
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

/// What comes before MQTT: whose connection it is, and the opening of a WebSocket.
async fn open(
    mut stream: TcpStream,
    peer: SocketAddr,
    kind: ListenerKind,
    is_behind_proxy: bool,
    packet_bytes_max: u32,
) -> io::Result<(Transport, SocketAddr)> {
    let told = if is_behind_proxy { proxy::read_header(&mut stream).await? } else { None };
    let stream = match kind {
        ListenerKind::Tcp => Transport::Tcp(stream),
        ListenerKind::WebSocket => transport::accept_web_socket(stream, packet_bytes_max).await?,
    };
    Ok((stream, told.unwrap_or(peer)))
}
