//! The task of one connection: reads, hands packets to their handlers, writes. The only place
//! that holds the socket.
//!
//! One poll reads what there is, handles every packet of it, and flushes once. While nothing
//! happens the task keeps no buffer but a packet's unfinished beginning.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use portreeve_mqtt::{
    Acknowledgement, Auth, Disconnect, Packet, PropertiesBuf, Property, ReasonCode, decode,
};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

use crate::client::EstablishedClient;
use crate::publish::{Handled, Waits};
use crate::reason::Close;
use crate::reauthenticate::{self, Renewed};
use crate::session::{Mail, Parting, Pumped, Settled, Will, append_acknowledgement};
use crate::uncommitted::Promise;
use crate::{publish, subscribe};

mod arrival;
mod farewell;
mod handshake;
mod proxy;
mod scratch;
mod transport;

use arrival::arrive;
pub(crate) use arrival::{Arrival, Place};
pub(crate) use handshake::Handshakes;
use scratch::Scratch;
use transport::Transport;

/// Replies that may wait while the peer does not read; then nothing more is read from it.
const REPLIES_BYTES_MAX: usize = 256 << 10;

/// A connection whose CONNECT was accepted.
struct Connection {
    stream: Transport,
    peer: SocketAddr,
    /// Held until the end.
    place: Place,
    client: EstablishedClient,
    /// What is published when the connection ends without DISCONNECT.
    will: Option<Box<Will>>,
    /// The beginning of a packet whose rest has not come yet.
    partial: Vec<u8>,
    /// Answers to what was read in this poll.
    replies: Vec<u8>,
    /// What is being written, and how much of it was.
    unsent: Vec<u8>,
    sent: usize,
    timer: Pin<Box<Sleep>>,
    deadlines: Deadlines,
}

/// What the connection's one timer watches.
struct Deadlines {
    /// 1.5 times the keep alive [MQTT-3.1.2-22].
    keep_alive: Option<Duration>,
    last_packet: Instant,
    expires_at: Option<Instant>,
    /// The peer takes nothing of what is written; until when it has to.
    stalled_until: Option<Instant>,
    /// The device published too much; what it sent is looked at again then.
    reads_again_at: Option<Instant>,
}

impl Deadlines {
    /// The first instant at which something may be over.
    fn next(&self) -> Option<Instant> {
        [
            self.keep_alive.map(|keep_alive| self.last_packet + keep_alive),
            self.expires_at,
            self.stalled_until,
            self.reads_again_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is over at `now`.
    fn over(&self, now: Instant) -> Option<Close> {
        if self.keep_alive.is_some_and(|keep_alive| self.last_packet + keep_alive <= now) {
            let message = "nothing came within 1.5 times the keep alive (MQTT-3.1.2-22)";
            return Some(Close::new(ReasonCode::KeepAliveTimeout, message));
        }
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            let message = "the time of the verifier's admission is over";
            return Some(Close::new(ReasonCode::MaximumConnectTime, message));
        }
        if self.stalled_until.is_some_and(|until| until <= now) {
            return Some(Close::new(ReasonCode::UnspecifiedError, "the peer does not read"));
        }
        None
    }
}

/// How far the packets of one read are handled.
#[derive(Default)]
struct Read {
    /// Bytes of them.
    used: usize,
    publishes: u64,
    has_waited: bool,
}

/// Why handling packets pauses.
enum Pause<'a> {
    /// What was handled has to be stored first.
    Store,
    /// A PUBLISH may have to wait.
    Publish(Waits<'a>),
    /// The verifier is asked again.
    Verifier(Auth<'a>),
}

/// Whether everything in front of a packet has to be stored before it is handled.
const fn is_settled_first(packet: &Packet<'_>) -> bool {
    matches!(
        packet,
        Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Disconnect(_) | Packet::Auth(_)
    )
}

/// What a poll found.
struct Ready {
    read: Option<io::Result<(Scratch, usize)>>,
    is_timer_over: bool,
}

/// Serves one connection from accept to its end.
///
/// What comes before the connection, and its end, are futures of their own in boxes: the task
/// that waits for packets has no room for them.
pub(crate) async fn serve(arrival: Box<Arrival>) {
    let Some(mut connection) = Box::pin(arrive(arrival)).await else { return };
    let close = match AssertUnwindSafe(connection.run()).catch_unwind().await {
        Ok(close) => close,
        // A mistake of ours while packets were handled, which was printed. The session must not stay
        // attached to nobody.
        Err(_panic) => Close::Lost,
    };
    Box::pin(connection.end(close)).await;
}

impl Connection {
    async fn run(&mut self) -> Close {
        // What came behind CONNECT in one segment is handled first.
        let pipelined = std::mem::take(&mut self.partial);
        let now = Instant::now();
        let result = Box::pin(self.handle(pipelined, now)).await;
        self.client.batch.finish(&self.client.gateway.broker);
        if let Err(close) = result.and_then(|()| self.flush(now)) {
            return close;
        }
        // Many devices say nothing for long after their CONNECT.
        self.replies.shrink_to_fit();
        self.unsent.shrink_to_fit();
        self.set_timer();
        loop {
            let ready = poll_fn(|cx| self.poll_ready(cx)).await;
            let now = Instant::now();
            let read = match ready.read {
                None if self.deadlines.reads_again_at.is_some_and(|at| at <= now) => {
                    self.deadlines.reads_again_at = None;
                    let waiting = std::mem::take(&mut self.partial);
                    Box::pin(self.handle(waiting, now)).await
                }
                None => Ok(()),
                Some(Ok((scratch, bytes))) => self.read(scratch.filled(bytes), now).await,
                Some(Err(_)) => Err(Close::Lost),
            };
            // What lay in the socket may have been the sign of life, so it was looked at first.
            let read = match ready.is_timer_over {
                true => read.and_then(|()| self.deadlines.over(now).map_or(Ok(()), Err)),
                false => read,
            };
            self.client.batch.finish(&self.client.gateway.broker);
            if let Err(close) = read.and_then(|()| self.flush(now)) {
                return close;
            }
            self.set_timer();
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Ready> {
        let mut is_ready = false;
        if self.unsent.is_empty() {
            is_ready |= !self.replies.is_empty();
            is_ready |= self.client.session.poll_mail(self.client.generation, cx).is_ready();
        } else {
            is_ready |= self.stream.poll_write_ready(cx).is_ready();
            is_ready |= self.client.session.poll_close(self.client.generation, cx).is_ready();
        }
        let reads =
            self.replies.len() < REPLIES_BYTES_MAX && self.deadlines.reads_again_at.is_none();
        let read = if reads { self.poll_read(cx) } else { None };
        let has_deadline = self.deadlines.next().is_some();
        let is_timer_over = has_deadline && self.timer.as_mut().poll(cx).is_ready();
        if is_ready || read.is_some() || is_timer_over {
            Poll::Ready(Ready { read, is_timer_over })
        } else {
            Poll::Pending
        }
    }

    /// Reads what there is into a buffer of this thread.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Option<io::Result<(Scratch, usize)>> {
        let mut scratch = Scratch::take();
        let mut buffer = ReadBuf::new(scratch.as_mut());
        match self.stream.poll_read(cx, &mut buffer) {
            Poll::Pending => None,
            Poll::Ready(Err(error)) => Some(Err(error)),
            Poll::Ready(Ok(())) => {
                let bytes = buffer.filled().len();
                Some(if bytes == 0 {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok((scratch, bytes))
                })
            }
        }
    }

    /// Only moved when it must be: packets just note their time.
    fn set_timer(&mut self) {
        if let Some(next) = self.deadlines.next()
            && (next < self.timer.deadline() || self.timer.is_elapsed())
        {
            self.timer.as_mut().reset(next);
        }
    }

    /// Handles what was read.
    async fn read(&mut self, bytes: &[u8], now: Instant) -> Result<(), Close> {
        let metrics = &self.client.gateway.broker.metrics;
        metrics.bytes_received.add(u64::try_from(bytes.len()).unwrap_or(0));
        if self.partial.is_empty() {
            let used = self.handle_all(bytes, now).await?;
            self.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        // Boxed, so that the task has no room for it while it waits.
        Box::pin(self.handle(joined, now)).await
    }

    /// Handles owned bytes and keeps what is no whole packet yet.
    async fn handle(&mut self, bytes: Vec<u8>, now: Instant) -> Result<(), Close> {
        let used = self.handle_all(&bytes, now).await?;
        if used == 0 {
            self.partial = bytes;
        } else {
            self.partial = bytes.get(used..).unwrap_or_default().to_vec();
        }
        Ok(())
    }

    /// Handles the whole packets at the front of `bytes`. Returns how many bytes they took.
    async fn handle_all(&mut self, bytes: &[u8], now: Instant) -> Result<usize, Close> {
        let mut read = Read::default();
        let result = loop {
            // Boxed, and before it waits, so that the task has no room for the message.
            let wait = match self.handle_some(bytes, &mut read, now) {
                Ok(None) => break Ok(read.used),
                Ok(Some(pause)) => Box::pin(self.wait(pause, now)),
                Err(close) => break Err(close),
            };
            read.has_waited = true;
            if let Err(close) = wait.await {
                break Err(close);
            }
        };
        if read.used > 0 {
            // Not `now` after a parser: it may have taken its time.
            self.deadlines.last_packet = if read.has_waited { Instant::now() } else { now };
        }
        self.client.gateway.broker.metrics.messages_received.add(read.publishes);
        if self.client.uncommitted.is_empty() {
            return result;
        }
        // What was read in front of a fault counts, too. Boxed with the result, so that the task has
        // no room for it while it waits elsewhere.
        Box::pin(self.stored(result)).await
    }

    /// Has everything stored that was handled, then says how that came out.
    async fn stored(&mut self, handled: Result<usize, Close>) -> Result<usize, Close> {
        let stored = self.client.commit(&mut self.replies).await;
        self.deadlines.last_packet = Instant::now();
        handled.and_then(|used| stored.map(|()| used))
    }

    /// Does what cannot be done at once.
    async fn wait(&mut self, pause: Pause<'_>, now: Instant) -> Result<(), Close> {
        let (client, replies) = (&mut self.client, &mut self.replies);
        match pause {
            Pause::Store => client.commit(replies).await,
            Pause::Publish(waits) => publish::wait(client, waits, now, replies).await,
            Pause::Verifier(auth) => {
                client.batch.finish(&client.gateway.broker);
                let renewed = reauthenticate::handle(client, auth, replies).await?;
                if let Renewed::ExpiresAt(expires_at) = renewed {
                    self.deadlines.expires_at = expires_at;
                }
                Ok(())
            }
        }
    }

    /// Handles whole packets up to one that may have to wait.
    fn handle_some<'a>(
        &mut self,
        bytes: &'a [u8],
        read: &mut Read,
        now: Instant,
    ) -> Result<Option<Pause<'a>>, Close> {
        let limits = self.client.gateway.limits.packet;
        loop {
            let rest = bytes.get(read.used..).unwrap_or_default();
            let Some((packet, taken)) = decode(rest, self.client.version, &limits)? else {
                return Ok(None);
            };
            if self.client.uncommitted.is_much()
                || !self.client.uncommitted.is_empty() && is_settled_first(&packet)
            {
                return Ok(Some(Pause::Store));
            }
            read.used += taken;
            let publish = match packet {
                Packet::Publish(publish) => publish,
                Packet::Auth(auth) => return Ok(Some(Pause::Verifier(auth))),
                other => {
                    self.handle_packet(&other, now)?;
                    continue;
                }
            };
            read.publishes += 1;
            match publish::handle(&mut self.client, publish, now, &mut self.replies)? {
                Handled::Done => {}
                Handled::Waits(waits) => return Ok(Some(Pause::Publish(waits))),
                Handled::TooEarly(wait) => {
                    // It stays among what was read, and nothing more is read meanwhile.
                    read.used -= taken;
                    read.publishes -= 1;
                    self.deadlines.reads_again_at = Some(now + wait);
                    return Ok(None);
                }
            }
        }
    }

    /// Every packet that is handled at once.
    fn handle_packet(&mut self, packet: &Packet<'_>, now: Instant) -> Result<(), Close> {
        match packet {
            Packet::Acknowledgement(packet) => {
                self.acknowledged(packet, now);
                Ok(())
            }
            Packet::Subscribe(packet) => {
                subscribe::subscribe(&mut self.client, packet, now, &mut self.replies)
            }
            Packet::Unsubscribe(packet) => {
                subscribe::unsubscribe(&mut self.client, packet, &mut self.replies)
            }
            Packet::Pingreq => {
                // A peer that pings has nothing else to say: a good moment to give memory back.
                self.client.shrink();
                self.replies.shrink_to_fit();
                self.unsent.shrink_to_fit();
                let _fits = Packet::Pingresp.encode(self.client.version, &mut self.replies);
                Ok(())
            }
            Packet::Disconnect(packet) => Err(self.disconnect(packet)),
            Packet::Connect(_) => Err(Close::protocol("a second CONNECT", "MQTT-3.1.0-2")),
            Packet::Publish(_)
            | Packet::Auth(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Pingresp => Err(Close::protocol("a packet that only a server sends", "4.13")),
        }
    }

    fn acknowledged(&mut self, packet: &Acknowledgement<'_>, now: Instant) {
        let client = &mut self.client;
        let mut settled = Settled::default();
        client.session.acknowledged(client.generation, packet, now, &mut settled);
        let Settled { answer, changes, waits, pumped } = settled;
        client.batch.count(pumped);
        if waits {
            client.uncommitted.append(changes);
        } else {
            client.batch.note(changes);
        }
        if let Some((kind, packet_id, is_known)) = answer {
            let (version, answers) = (client.version, client.answers(&mut self.replies));
            let begin = answers.len();
            append_acknowledgement(answers, version, kind, packet_id, is_known);
            if waits {
                client.uncommitted.promise(Promise::Release, begin);
            }
        }
    }

    fn disconnect(&self, packet: &Disconnect<'_>) -> Close {
        if let Some(seconds) = packet.session_expiry_interval() {
            if self.client.session.expiry_seconds() == 0 && seconds > 0 {
                return Close::protocol(
                    "session expiry interval of a session that ends with its connection",
                    "3.14.2.2.2",
                );
            }
            let max = self.client.gateway.limits.session_expiry_max;
            self.client.session.set_expiry(self.client.generation, seconds.min(max));
        }
        if packet.reason_code == ReasonCode::Success { Close::Normal } else { Close::WithWill }
    }

    /// Writes what there is to write, as far as the socket takes it.
    fn flush(&mut self, now: Instant) -> Result<(), Close> {
        loop {
            if self.unsent.is_empty() {
                if !self.client.retained.is_empty() {
                    subscribe::send_retained(&mut self.client, now);
                }
                let generation = self.client.generation;
                let mut pumped = Pumped::default();
                let unsent = &mut self.unsent;
                let mail = self.client.session.take_mail(generation, unsent, now, &mut pumped);
                self.client.batch.count(pumped);
                if !self.replies.is_empty() {
                    self.replies.append(&mut self.unsent);
                    std::mem::swap(&mut self.replies, &mut self.unsent);
                }
                if let Mail::Close(reason_code) = mail {
                    return Err(Close::new(reason_code, reason_code.name()));
                }
                if self.unsent.is_empty() {
                    return Ok(());
                }
            }
            let unsent = self.unsent.get(self.sent..).unwrap_or_default();
            match self.stream.try_write(unsent) {
                Ok(written) => {
                    let metrics = &self.client.gateway.broker.metrics;
                    metrics.bytes_sent.add(u64::try_from(written).unwrap_or(0));
                    self.sent += written;
                    self.deadlines.stalled_until = None;
                    if self.sent >= self.unsent.len() {
                        self.unsent.clear();
                        self.sent = 0;
                        // What came meanwhile is the next poll's; retained messages do not come.
                        if self.client.retained.is_empty() {
                            return Ok(());
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let timeout = self.client.gateway.limits.write_stall_timeout;
                    self.deadlines.stalled_until.get_or_insert(now + timeout);
                    return match self.client.session.must_close(self.client.generation) {
                        Some(reason_code) => Err(Close::new(reason_code, reason_code.name())),
                        None => Ok(()),
                    };
                }
                Err(_) => return Err(Close::Lost),
            }
        }
    }

    /// Says why, leaves the session and publishes the will.
    async fn end(mut self: Box<Self>, close: Close) {
        self.client.batch.finish(&self.client.gateway.broker);
        let now = Instant::now();
        subscribe::keep_retained(&mut self.client, now);
        let EstablishedClient { gateway, session, generation, .. } = &self.client;
        let will = self.will.take().filter(|_| close != Close::Normal);
        if close.defers_will() && session.is_stored() {
            session.detach(*generation, will, Parting::ForRestart, now);
        } else {
            gateway.broker.disconnected(session, *generation, will, now);
        }
        log_end(&self.client, &close, self.peer);
        if matches!(close, Close::Lost) {
            return;
        }
        let mut last = self.unsent.split_off(self.sent.min(self.unsent.len()));
        last.append(&mut self.replies);
        if let Close::ByServer { reason_code, .. } = &close
            && self.client.version.is_v5()
            && reason_code.allowed_in(portreeve_mqtt::PacketType::Disconnect)
        {
            let drain = self.client.gateway.broker.drain.load();
            let reference = drain.as_ref().and_then(|drain| drain.server_reference.as_deref());
            let reference = reference.filter(|_| *reason_code == ReasonCode::UseAnotherServer);
            let properties: PropertiesBuf =
                reference.map(Property::ServerReference).into_iter().collect();
            let properties = properties.as_properties();
            let packet = Disconnect { reason_code: *reason_code, properties };
            let _fits = Packet::Disconnect(packet).encode(self.client.version, &mut last);
        }
        farewell::say(self.stream, &last).await;
        drop(self.place);
    }
}

fn log_end(client: &EstablishedClient, close: &Close, peer: SocketAddr) {
    let metrics = &client.gateway.broker.metrics;
    let span = client.span();
    let _entered = span.enter();
    match close {
        Close::ByServer { reason_code, message } => {
            match reason_code {
                ReasonCode::KeepAliveTimeout => metrics.keep_alive_timeouts.add(1),
                ReasonCode::PacketTooLarge => metrics.packets_too_large.add(1),
                ReasonCode::QuotaExceeded | ReasonCode::ReceiveMaximumExceeded => {
                    metrics.quotas_exceeded.add(1);
                }
                ReasonCode::TopicNameInvalid => metrics.topics_refused.add(1),
                ReasonCode::SessionTakenOver
                | ReasonCode::ServerShuttingDown
                | ReasonCode::AdministrativeAction
                | ReasonCode::UseAnotherServer
                | ReasonCode::MaximumConnectTime => {}
                _ => metrics.protocol_faults.add(1),
            }
            tracing::debug!(%peer, reason = reason_code.name(), why = message, "connection closed");
        }
        Close::Normal | Close::WithWill => tracing::debug!(%peer, "disconnected"),
        Close::Lost => tracing::debug!(%peer, "connection lost"),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::{Connection, serve};
    use crate::session::Session;

    fn future_bytes<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections hold this ten thousand times (DESIGN: 2,000 bytes in all).
    #[test]
    fn what_an_idle_connection_holds_stays_small() {
        assert!(future_bytes(serve) <= 328);
        assert!(size_of::<Connection>() <= 376);
        assert!(size_of::<Session>() <= 344);
    }
}
