//! From accept to CONNACK: CONNECT under a deadline, and the answer that the standard demands.

use std::sync::Arc;

use portreeve_mqtt::{
    Connack, Connect, DecodeError, Fault, Packet, Properties, PropertiesBuf, Property,
    ProtocolVersion, ReasonCode, decode, decode_first,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{Transport, farewell};
use crate::attempts::{Trail, Who};
use crate::client::Authentication;
use crate::connect::{self, Accepted, Exchange};
use crate::gateway::Gateway;
use crate::peer::Peer;
use crate::reason::Refusal;

/// A place among the handshakes of a gateway; given back when CONNECT is decided.
pub(crate) type Handshakes = OwnedSemaphorePermit;

const NOT_IN_TIME: &str = "not in time";
/// Set in the protocol level of a mosquitto bridge's first attempt.
const BRIDGE_BIT: u8 = 0x80;
/// Bytes read at a time before CONNECT is accepted.
const READ_BYTES: usize = 2048;

/// The connection while it has no client yet.
struct Unverified<'a> {
    stream: Transport,
    /// Bytes that were read and not used.
    buffer: Vec<u8>,
    gateway: &'a Gateway,
    deadline: Instant,
}

/// Why no packet came.
enum NoPacket {
    /// The peer closed, or said nothing in time.
    Gone(&'static str),
    Fault(DecodeError),
}

/// Reads CONNECT and decides about it. Returns the connection with what came behind CONNECT, or
/// nothing when it was turned away.
pub(super) async fn accept(
    stream: Transport,
    peer: &Peer,
    gateway: &Arc<Gateway>,
    place: Handshakes,
    deadline: Instant,
) -> Option<(Transport, Accepted, Vec<u8>)> {
    let address = peer.address;
    let mut unverified = Unverified { stream, buffer: Vec::new(), gateway, deadline };
    let metrics = &gateway.broker.metrics;
    let bytes = match unverified.connect_bytes().await {
        Ok(bytes) => bytes,
        Err(NoPacket::Gone(why)) => {
            metrics.connections_refused.add(1);
            metrics.connect_timeouts.add(u64::from(why == NOT_IN_TIME));
            tracing::debug!(peer = %address, gateway = %gateway.name, why, "no CONNECT");
            return None;
        }
        Err(NoPacket::Fault(error)) => {
            metrics.protocol_faults.add(1);
            metrics.packets_too_large.add(u64::from(error.fault == Fault::PacketTooLarge));
            tracing::debug!(peer = %address, gateway = %gateway.name, %error, "no valid CONNECT");
            let mut trail = Trail::begin();
            trail.refused("packet", error.to_string());
            gateway.broker.attempts.keep(nobody(peer, gateway), trail, false);
            let answer = answer_to_fault(&unverified.buffer, &error);
            drop(place);
            farewell::say(unverified.stream, &answer).await;
            return None;
        }
    };
    // It was decoded once already, so both are there.
    let (connect, _) = decode_first(&bytes, &gateway.limits.connect_packet).ok()??;
    let mut trail = Trail::begin();
    // What is logged meanwhile, by plugins, too, tells whose it is.
    let span = tracing::warn_span!(
        "connection",
        gateway = %gateway.name,
        peer = %address,
        client_id = connect.client_id,
    );
    let handled = connect::handle(gateway, &connect, peer, &mut unverified, &mut trail)
        .instrument(span.clone())
        .await;
    note(gateway, who(&connect, peer, gateway), connect.properties, trail, handled.as_ref().err());
    match handled {
        Ok(mut accepted) => {
            if connect.authentication_method().is_some() {
                let (connect, connection_id) = (bytes.clone(), accepted.connection_id);
                let peer = peer.clone();
                let authentication =
                    Authentication { connect, connection_id, peer, is_challenged: false };
                accepted.client.authentication = Some(Box::new(authentication));
            }
            metrics.connects_admitted.add(1);
            let device = accepted.client.device.name.as_str();
            span.in_scope(|| tracing::debug!(device, "connected"));
            Some((unverified.stream, accepted, unverified.buffer))
        }
        Err(refusal) => {
            metrics.connects_refused.add(1);
            span.in_scope(|| log_refusal(&connect, peer, &refusal));
            let packet_bytes_max = connect::packet_bytes_max(&connect);
            let answer = match refusal.is_silent {
                true => Vec::new(),
                false => connack(connect.protocol_version, &refusal, packet_bytes_max),
            };
            drop(place);
            farewell::say(unverified.stream, &answer).await;
            None
        }
    }
}

/// Keeps an attempt for those who ask, and traces it.
fn note(
    gateway: &Gateway,
    who: Who<'_>,
    properties: Properties<'_>,
    mut trail: Trail,
    refusal: Option<&Refusal>,
) {
    let broker = &gateway.broker;
    let mut reason = (ReasonCode::Success, "");
    if let Some(Refusal { reason_code, message, .. }) = refusal {
        trail.refused_at_last("connect", format!("{}: {message}", reason_code.name()));
        reason = (*reason_code, message);
    }
    broker.telemetry.connect(&who, properties, &trail, reason);
    broker.attempts.keep(who, trail, refusal.is_none());
}

/// A peer whose CONNECT cannot be read: only its address tells who it is.
fn nobody<'a>(peer: &'a Peer, gateway: &'a Gateway) -> Who<'a> {
    Who {
        gateway: &gateway.name,
        peer: peer.address,
        client_id: "",
        user_name: None,
        certificate: peer.certificate().map(|certificate| certificate.subject.as_str()),
    }
}

fn who<'a>(connect: &Connect<'a>, peer: &'a Peer, gateway: &'a Gateway) -> Who<'a> {
    Who { client_id: connect.client_id, user_name: connect.user_name, ..nobody(peer, gateway) }
}

fn log_refusal(connect: &Connect<'_>, peer: &Peer, refusal: &Refusal) {
    let certificate = peer.certificate().map(|certificate| certificate.subject.as_str());
    tracing::info!(
        user_name = connect.user_name.unwrap_or_default(),
        certificate,
        reason = refusal.reason_code.name(),
        why = refusal.message,
        "CONNECT refused"
    );
}

impl Unverified<'_> {
    /// The bytes of a whole, valid CONNECT; what came behind it stays in the buffer.
    async fn connect_bytes(&mut self) -> Result<Vec<u8>, NoPacket> {
        loop {
            let decoded = decode_first(&self.buffer, &self.gateway.limits.connect_packet);
            if let Some((_, taken)) = decoded.map_err(NoPacket::Fault)? {
                let rest = self.buffer.split_off(taken);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.read().await.map_err(NoPacket::Gone)?;
        }
    }

    /// Reads something, before the deadline.
    async fn read(&mut self) -> Result<(), &'static str> {
        let mut chunk = [0; READ_BYTES];
        match timeout_at(self.deadline, self.stream.read(&mut chunk)).await {
            Err(_) => Err(NOT_IN_TIME),
            Ok(Ok(0)) => Err("the peer closed"),
            Ok(Err(_)) => Err("the connection was lost"),
            Ok(Ok(read)) => {
                self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
                self.gateway.broker.metrics.bytes_received.add(u64::try_from(read).unwrap_or(0));
                Ok(())
            }
        }
    }
}

impl Exchange for Unverified<'_> {
    async fn challenge(&mut self, auth: &[u8], method: &str) -> Result<Vec<u8>, Refusal> {
        let gone = |why: &str| Refusal::new(ReasonCode::UnspecifiedError, format!("AUTH: {why}"));
        let written = timeout_at(self.deadline, self.stream.write_all(auth)).await;
        if !matches!(written, Ok(Ok(()))) {
            return Err(gone("it could not be sent"));
        }
        loop {
            let limits = &self.gateway.limits.connect_packet;
            let decoded = decode(&self.buffer, ProtocolVersion::V5, limits)
                .map_err(|error| Refusal::new(error.reason_code(), error.to_string()))?;
            let Some((packet, taken)) = decoded else {
                self.read().await.map_err(gone)?;
                continue;
            };
            if matches!(packet, Packet::Disconnect(_)) {
                return Err(Refusal::silent("the client gave up"));
            }
            // Between CONNECT and CONNACK the client sends AUTH or DISCONNECT [MQTT-3.1.2-30].
            let Packet::Auth(answer) = packet else {
                let message = "another packet than AUTH before CONNACK (MQTT-3.1.2-30)";
                return Err(Refusal::new(ReasonCode::ProtocolError, message));
            };
            if answer.reason_code != ReasonCode::ContinueAuthentication
                || answer.method() != Some(method)
            {
                let message = "AUTH with another reason or method (MQTT-4.12.0-3)";
                return Err(Refusal::new(ReasonCode::ProtocolError, message));
            }
            let data = answer.data().unwrap_or_default().to_vec();
            self.buffer.drain(..taken);
            return Ok(data);
        }
    }
}

/// A refusal with as much beside its reason code as the client takes [MQTT-3.2.2-19].
fn connack(version: ProtocolVersion, refusal: &Refusal, packet_bytes_max: usize) -> Vec<u8> {
    let reference = refusal.server_reference.as_deref().map(Property::ServerReference);
    let reason = (!refusal.message.is_empty()).then_some(Property::ReasonString(&refusal.message));
    // MQTT has no property for it; whole seconds, as in HTTP's header of that name. One that comes
    // back in the last fraction of a second would be refused again.
    let whole = |wait: std::time::Duration| wait.as_millis().div_ceil(1_000).max(1);
    let seconds = refusal.retry_after.map(|wait| whole(wait).to_string());
    let retry = seconds.as_deref().map(|text| Property::UserProperty(("retry-after", text)));
    let lists = [vec![reference, reason, retry], vec![reference], Vec::new()];
    for list in lists {
        let properties: PropertiesBuf = list.into_iter().flatten().collect();
        let packet = Connack::refusal(refusal.connack_code(version), properties.as_properties());
        let mut bytes = Vec::new();
        // A text of the gateway's own bounds always fits.
        let _fits = Packet::Connack(packet).encode(version, &mut bytes);
        if bytes.len() <= packet_bytes_max {
            return bytes;
        }
    }
    Vec::new()
}

/// What a peer is told whose first packet cannot be read: CONNACK where it asked for MQTT 5 or
/// for a version that is not offered [MQTT-3.1.2-2], nothing otherwise.
fn answer_to_fault(bytes: &[u8], error: &DecodeError) -> Vec<u8> {
    let is_connect = bytes.first() == Some(&0x10);
    let level = protocol_level(bytes);
    let refusal = Refusal::new(error.reason_code(), error.to_string());
    // Bridges of mosquitto set the highest bit, and ask again without it when they are refused in
    // the words of their own version.
    let level = level.map(|level| level & !BRIDGE_BIT);
    match (error.fault, level) {
        (Fault::UnsupportedProtocolVersion, Some(level)) if level >= 5 => {
            connack(ProtocolVersion::V5, &refusal, usize::MAX)
        }
        (Fault::UnsupportedProtocolVersion, Some(_)) => {
            connack(ProtocolVersion::V311, &refusal, usize::MAX)
        }
        (_, Some(5)) if is_connect => connack(ProtocolVersion::V5, &refusal, usize::MAX),
        _ => Vec::new(),
    }
}

/// The protocol level of what looks like a CONNECT of `MQTT`.
fn protocol_level(bytes: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"\0\x04MQTT";
    // The remaining length in front of the name takes one to four bytes.
    let at = bytes.windows(NAME.len()).take(6).position(|window| window == NAME)?;
    bytes.get(at + NAME.len()).copied()
}
