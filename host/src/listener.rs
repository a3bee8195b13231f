//! A listener: accepts, within the gateway's limits, and spawns. Nothing a peer does is awaited
//! here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{self, Arrival, Place};
use crate::gateway::Gateway;

/// How long accepting pauses when there is no file descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(100);

/// Places for connections and handshakes, shared by the listeners of a gateway.
#[derive(Clone)]
pub(crate) struct Places {
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) handshakes: Arc<Semaphore>,
}

/// Accepts until `shutdown`. Every connection is a task on `tasks`.
pub(crate) async fn accept(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    places: Places,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &places) => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer, handshake)) => {
                let metrics = &gateway.broker.metrics;
                metrics.connections_accepted.add(1);
                let Ok(place) = Arc::clone(&places.connections).try_acquire_owned() else {
                    metrics.connections_refused.add(1);
                    tracing::warn!(%peer, gateway = %gateway.name, "connection refused: connections_max are open");
                    continue;
                };
                tasks.spawn(connection::serve(Box::new(Arrival {
                    stream,
                    peer,
                    place: Place::new(Arc::clone(&gateway), place),
                    handshake,
                    shutdown: shutdown.clone(),
                })));
            }
            Err(error) => {
                // Out of file descriptors, most likely: accepting again at once would spin.
                tracing::warn!(gateway = %gateway.name, %error, "accepting pauses");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn next(
    listener: &TcpListener,
    places: &Places,
) -> io::Result<(TcpStream, SocketAddr, connection::Handshakes)> {
    // Admission before work: without a place the connection waits in the listen queue.
    let handshake =
        Arc::clone(&places.handshakes).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // A CONNACK must not wait for the acknowledgement of what was sent before it.
    stream.set_nodelay(true)?;
    Ok((stream, peer, handshake))
}
