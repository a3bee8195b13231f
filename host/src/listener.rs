//! A listener: accepts, within the gateway's limits, and spawns. Nothing a peer does is awaited
//! here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ListenerKind;
use crate::connection::{self, Arrival, Place};
use crate::gateway::Gateway;

/// How long accepting pauses when there is no file descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound address of a gateway.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) kind: ListenerKind,
    /// Where connections come from a proxy: those that are believed.
    pub(crate) trusted_proxies: Option<Vec<IpNet>>,
    pub(crate) gateway: Arc<Gateway>,
    /// Places for handshakes, shared by the listeners of a gateway.
    pub(crate) handshakes: Arc<Semaphore>,
}

/// Accepts until `shutdown`. Every connection is a task on `tasks`.
pub(crate) async fn accept(listener: Listener, tasks: TaskTracker, shutdown: CancellationToken) {
    let Listener { gateway, kind, trusted_proxies, .. } = &listener;
    let metrics = &gateway.broker.metrics;
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener) => accepted,
            () = shutdown.cancelled() => return,
        };
        let (stream, peer, handshake) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: accepting again at once would spin.
                metrics.accept_pauses.add(1);
                tracing::warn!(gateway = %gateway.name, %error, "accepting pauses");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        metrics.connections_accepted.add(1);
        let is_trusted =
            |networks: &Vec<IpNet>| networks.iter().any(|net| net.contains(&peer.ip()));
        if trusted_proxies.as_ref().is_some_and(|networks| !is_trusted(networks)) {
            metrics.connections_refused.add(1);
            tracing::warn!(%peer, gateway = %gateway.name, "connection refused: only trusted_proxies may connect here");
            continue;
        }
        let place = match Place::take(gateway) {
            Ok(place) => place,
            Err(limit) => {
                metrics.connections_refused.add(1);
                tracing::warn!(%peer, gateway = %gateway.name, limit, "connection refused: so many are open");
                continue;
            }
        };
        tasks.spawn(connection::serve(Box::new(Arrival {
            stream,
            peer,
            kind: *kind,
            is_behind_proxy: trusted_proxies.is_some(),
            place,
            handshake,
            shutdown: shutdown.clone(),
        })));
    }
}

async fn next(listener: &Listener) -> io::Result<(TcpStream, SocketAddr, connection::Handshakes)> {
    let Listener { gateway, handshakes, .. } = listener;
    let metrics = &gateway.broker.metrics;
    // Admission before work: without a place the connection waits in the listen queue.
    let handshake = match Arc::clone(handshakes).try_acquire_owned() {
        Ok(handshake) => handshake,
        Err(_) => {
            metrics.handshakes_waited.add(1);
            Arc::clone(handshakes).acquire_owned().await.map_err(io::Error::other)?
        }
    };
    let (stream, peer) = listener.socket.accept().await?;
    // An IPv4 peer of an IPv6 socket is the IPv4 peer that it is.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if let Some(rate) = &gateway.connection_rate {
        while let Err(wait) = rate.take(Instant::now()) {
            metrics.connections_delayed.add(1);
            tokio::time::sleep(wait).await;
        }
    }
    // A CONNACK must not wait for the acknowledgement of what was sent before it.
    stream.set_nodelay(true)?;
    Ok((stream, peer, handshake))
}
