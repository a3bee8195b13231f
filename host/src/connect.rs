//! CONNECT: the checks in the order of the standard, verification, the session, CONNACK.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portreeve_mqtt::{
    Auth, Connack, Connect, Packet, PropertiesBuf, Property, ProtocolVersion, ReasonCode,
};
use portreeve_store::{Changes, NotStored};
use portreeve_tls::peer::ClientCertificates;
use portreeve_tls::revocation::{Decision, Standing};
use tokio::time::Instant;

use crate::attempts::Trail;
use crate::broker::Batch;
use crate::client::{EstablishedClient, RetainedMessages, Ways};
use crate::gateway::Gateway;
use crate::guest_view::WhoIsThis;
use crate::message::Message;
use crate::peer::{Peer, PeerTls, RevocationState};
use crate::permissions::fill_in;
use crate::reason::Refusal;
use crate::session::{Attachment, Client, SessionKey, Wanted, Will};
use crate::tls::Identity;
use crate::uncommitted::Uncommitted;
use crate::verification::{self, Admission, Claim, Step};

/// Bytes of a client identifier; the standard asks for 23 at least [MQTT-3.1.3-5].
const CLIENT_ID_BYTES_MAX: usize = 1024;
/// AUTH packets of one CONNECT.
const CHALLENGES_MAX: usize = 8;

/// A connection that was let in.
pub(crate) struct Accepted {
    pub(crate) client: EstablishedClient,
    /// CONNACK, encoded.
    pub(crate) connack: Vec<u8>,
    pub(crate) will: Option<Box<Will>>,
    /// `None` when it is off.
    pub(crate) keep_alive: Option<Duration>,
    /// When the device has to be verified again.
    pub(crate) expires_at: Option<Instant>,
    pub(crate) connection_id: u64,
}

/// The peer's side of an authentication exchange: sends AUTH and waits for the answer.
pub(crate) trait Exchange {
    /// The authentication data of the peer's next AUTH.
    async fn challenge(&mut self, auth: &[u8], method: &str) -> Result<Vec<u8>, Refusal>;
}

/// Decides about a CONNECT.
///
/// # Errors
/// [`Refusal`] for the first check that fails.
pub(crate) async fn handle(
    gateway: &Arc<Gateway>,
    connect: &Connect<'_>,
    peer: &Peer,
    exchange: &mut impl Exchange,
    trail: &mut Trail,
) -> Result<Accepted, Refusal> {
    check_drain(gateway).inspect_err(|refusal| trail.refused("limits", refusal.message.clone()))?;
    let open = gateway.connections.load(Ordering::Relaxed);
    trail.passed("limits", format!("connection {open} of {}", gateway.limits.connections_max));
    let connection_id = gateway.next_connection_id();
    let identity = identified(gateway, peer, trail).await?;
    let connect = &named(connect, &identity);
    let assigned = assigned_client_id(connect, connection_id)?;
    let client_id = assigned.as_deref().unwrap_or(connect.client_id);
    let claim = Claim { gateway, connect, client_id, peer };
    let mut admission = verified(claim, connection_id, exchange, trail).await?;
    store_entry(gateway, &mut admission).await?;
    let mut connect = *connect;
    connect.client_id = client_id;
    let will = will(gateway, &connect, &admission).inspect_err(|refusal| {
        trail.refused("permissions", refusal.message.clone());
    })?;
    trail.passed("permissions", admission.permissions.to_string());
    let now = Instant::now();
    let expiry_seconds = session_expiry(gateway, &connect);
    let keep_alive = keep_alive(gateway, &connect);
    let wanted = wanted(gateway, &connect, &admission, expiry_seconds, will.clone());
    let attachment = attach(gateway, &admission, &wanted, now).await.inspect_err(|refusal| {
        trail.refused("session", refusal.message.clone());
    })?;
    trail.passed("session", if attachment.session_present { "resumed" } else { "new" });
    let told = Told {
        assigned: assigned.as_deref(),
        expiry_seconds,
        keep_alive,
        session_present: attachment.session_present,
    };
    let connack = connack(gateway, &connect, &admission, &told);
    let fits = connack.as_ref().is_some_and(|bytes| bytes.len() <= wanted.client.packet_bytes_max);
    let Some(bytes) = connack.filter(|_| fits) else {
        // It may not be sent [MQTT-3.1.2-24], and without it the client would not know its limits.
        gateway.broker.disconnected(&attachment.session, attachment.generation, None, now);
        let message = "the client's maximum packet size is too small for CONNACK";
        return Err(Refusal::new(ReasonCode::PacketTooLarge, message));
    };
    let per_second = gateway.limits.publish_rate_max;
    let publish_rate = gateway.broker.publish_rates.of(&admission.device, per_second, now);
    let client = EstablishedClient {
        publish_rate,
        gateway: Arc::clone(gateway),
        session: attachment.session,
        generation: attachment.generation,
        version: connect.protocol_version,
        device: admission.device,
        permissions: admission.permissions,
        wants_problem_information: connect.request_problem_information(),
        packet_bytes_max: connect.maximum_packet_size().unwrap_or(u32::MAX),
        authentication: None,
        ways: Ways::default(),
        batch: Batch::default(),
        uncommitted: Uncommitted::default(),
        retained: RetainedMessages::default(),
    };
    // Disabled or changed since it was verified: whoever did that has looked for sessions already, or
    // finds this one.
    if admission.entry.is_some_and(|entry| entry.standing.is_over()) {
        client.session.close_connection(client.generation, ReasonCode::AdministrativeAction);
    }
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    Ok(Accepted {
        client,
        connack: bytes,
        will,
        keep_alive: (keep_alive > 0).then(|| seconds(u32::from(keep_alive))),
        expires_at: admission.expires_in.map(|expires_in| now + seconds(expires_in)),
        connection_id,
    })
}

/// Whether devices are let in at present.
fn check_drain(gateway: &Gateway) -> Result<(), Refusal> {
    let drain = gateway.broker.drain.load();
    let Some(drain) = drain.as_ref() else { return Ok(()) };
    let (code, message) = match &drain.server_reference {
        Some(_) => (ReasonCode::UseAnotherServer, "use another server"),
        None => (ReasonCode::ServerUnavailable, "the gateway lets nobody in at present"),
    };
    let server_reference = drain.server_reference.clone();
    Err(Refusal { server_reference, ..Refusal::new(code, message) })
}

/// Whether the device's certificate is still good: what TLS could not know when it looked.
async fn check_certificate(gateway: &Gateway, session: &PeerTls) -> Result<(), Refusal> {
    let Some(tls) = &gateway.tls else { return Ok(()) };
    let refused = |why: String| {
        tls.metrics.connects_refused.add(1);
        Refusal::new(ReasonCode::NotAuthorized, why)
    };
    if let Some(why) = &session.refused {
        return Err(refused(why.clone()));
    }
    // What holds may be another generation than the one of the handshake.
    let current = tls.current();
    let Some(verifier) = current.generation.verifier() else { return Ok(()) };
    let Some(verified) = &session.verified else {
        return match verifier.demand() {
            ClientCertificates::Optional => Ok(()),
            ClientCertificates::Required => {
                Err(refused("the device has no certificate".to_owned()))
            }
        };
    };
    if !verifier.trusts(verified) {
        return Err(refused("its trust anchor is not trusted any more".to_owned()));
    }
    let revocation = verifier.revocation();
    match revocation.decide(&verified.path).await {
        Decision::Admit { status, .. } => {
            session.set_revocation(match status {
                Standing::NotChecked => RevocationState::NotChecked,
                Standing::Good(_) => RevocationState::Good,
                Standing::Unknown | Standing::SoftFailed(_) => RevocationState::Unknown,
            });
            Ok(())
        }
        Decision::Refuse(why) => Err(refused(why.to_string())),
    }
}

/// The names that the device's certificate stands for, if it is still good.
async fn identified(
    gateway: &Gateway,
    peer: &Peer,
    trail: &mut Trail,
) -> Result<Identity, Refusal> {
    if let Some(tls) = &peer.tls {
        trail.passed("tls", format!("TLS {}, {}", tls.version, tls.cipher_suite));
        let checked = check_certificate(gateway, tls).await;
        checked.inspect_err(|refusal| trail.refused("certificate", refusal.message.clone()))?;
        match peer.certificate() {
            Some(one) => {
                let revocation = tls.revocation().name();
                let why = format!("{}: trusted, revocation: {revocation}", one.subject);
                trail.passed("certificate", why);
            }
            None => trail.note("certificate", "the device has none"),
        }
    }
    let identity = identity(gateway, peer)
        .inspect_err(|refusal| trail.refused("certificate", refusal.message.clone()))?;
    let names = [("user name", &identity.user_name), ("client identifier", &identity.client_id)];
    for (what, name) in names {
        if let Some(name) = name {
            trail.note("certificate", format!("the {what} is {name:?}, by the certificate"));
        }
    }
    Ok(identity)
}

/// The names that the device's certificate stands for.
pub(crate) fn identity(gateway: &Gateway, peer: &Peer) -> Result<Identity, Refusal> {
    gateway.tls.as_ref().map_or_else(|| Ok(Identity::default()), |tls| tls.identity(peer))
}

/// The CONNECT with names of the certificate in place of those that the device may choose.
pub(crate) fn named<'a>(connect: &Connect<'a>, identity: &'a Identity) -> Connect<'a> {
    let mut connect = *connect;
    if let Some(user_name) = &identity.user_name {
        connect.user_name = Some(user_name);
    }
    if let Some(client_id) = &identity.client_id {
        connect.client_id = client_id;
    }
    connect
}

/// The client identifier that the gateway assigns to a client without one.
fn assigned_client_id(
    connect: &Connect<'_>,
    connection_id: u64,
) -> Result<Option<String>, Refusal> {
    let client_id = connect.client_id;
    if client_id.len() > CLIENT_ID_BYTES_MAX {
        let message = format!("client identifier is longer than {CLIENT_ID_BYTES_MAX} bytes");
        return Err(Refusal::new(ReasonCode::ClientIdentifierNotValid, message));
    }
    if !client_id.is_empty() {
        return Ok(None);
    }
    if !connect.protocol_version.is_v5() && !connect.clean_start {
        let message = "client identifier is empty without clean session (MQTT-3.1.3-8)";
        return Err(Refusal::new(ReasonCode::ClientIdentifierNotValid, message));
    }
    // Not to be guessed: whoever knows it could take the session over.
    let random = RandomState::new().hash_one(connection_id);
    Ok(Some(format!("auto-{connection_id}-{random:016x}")))
}

/// Asks the verification until it decides.
async fn verified(
    claim: Claim<'_>,
    connection_id: u64,
    exchange: &mut impl Exchange,
    trail: &mut Trail,
) -> Result<Admission, Refusal> {
    let Claim { gateway, connect, peer, .. } = claim;
    let mut data = connect.authentication_data().map(<[u8]>::to_vec);
    for _ in 0..=CHALLENGES_MAX {
        let step = data.take();
        let question = || WhoIsThis::new(gateway, connect, connection_id, peer, step);
        match verification::verify(claim, question, trail).await? {
            Step::Admitted(admission) => return Ok(admission),
            Step::Challenge(challenge) => {
                let method = connect.authentication_method().unwrap_or_default();
                let auth = auth_packet(ReasonCode::ContinueAuthentication, method, &challenge)?;
                data = Some(exchange.challenge(&auth, method).await?);
            }
        }
    }
    let message = format!("the verifier did not decide within {CHALLENGES_MAX} challenges");
    Err(Refusal::new(ReasonCode::NotAuthorized, message))
}

/// AUTH with this reason, method and data.
pub(crate) fn auth_packet(
    reason_code: ReasonCode,
    method: &str,
    data: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let unusable = |error| Refusal::new(ReasonCode::UnspecifiedError, format!("AUTH: {error}"));
    let mut properties = PropertiesBuf::new();
    properties.push(Property::AuthenticationMethod(method)).map_err(unusable)?;
    if !data.is_empty() {
        properties.push(Property::AuthenticationData(data)).map_err(unusable)?;
    }
    let auth = Auth { reason_code, properties: properties.as_properties() };
    let mut bytes = Vec::new();
    Packet::Auth(auth).encode(ProtocolVersion::V5, &mut bytes).map_err(unusable)?;
    Ok(bytes)
}

/// The will, if the device may publish it.
fn will(
    gateway: &Gateway,
    connect: &Connect<'_>,
    admission: &Admission,
) -> Result<Option<Box<Will>>, Refusal> {
    let Some(will) = &connect.will else { return Ok(None) };
    if will.topic.as_str().len() > gateway.limits.topic_bytes_max {
        let max = gateway.limits.topic_bytes_max;
        let message = format!("the will's topic has more than {max} bytes");
        return Err(Refusal::new(ReasonCode::TopicNameInvalid, message));
    }
    if will.topic.as_str().split('/').count() > gateway.limits.topic_levels_max {
        let max = gateway.limits.topic_levels_max;
        let message = format!("the will's topic has more than {max} levels");
        return Err(Refusal::new(ReasonCode::TopicNameInvalid, message));
    }
    let topic = gateway.leading_slash.known_name(will.topic);
    if !admission.permissions.may_publish(topic.as_str()) {
        let message =
            format!("{} may not publish its will to {}", admission.device.name, will.topic);
        return Err(Refusal::new(ReasonCode::NotAuthorized, message));
    }
    let kept = |property: &Property<'_>| {
        !matches!(property, Property::WillDelayInterval(_) | Property::MessageExpiryInterval(_))
    };
    let properties = will.properties.iter().filter(kept).collect();
    let message = Message::new(topic, will.payload, will.qos, properties, None);
    let expiry_interval = will.properties.find(|property| match property {
        Property::MessageExpiryInterval(seconds) => Some(seconds),
        _ => None,
    });
    let delay = Duration::from_secs(u64::from(will.delay_interval()));
    let message = Arc::new(message);
    Ok(Some(Box::new(Will { message, retain: will.retain, delay, expiry_interval })))
}

/// Seconds that the session outlives the connection, within the gateway's bound.
fn session_expiry(gateway: &Gateway, connect: &Connect<'_>) -> u32 {
    let asked = match (connect.protocol_version, connect.clean_start) {
        (ProtocolVersion::V5, _) => connect.session_expiry_interval().unwrap_or(0),
        (_, true) => 0,
        (_, false) => u32::MAX,
    };
    asked.min(gateway.limits.session_expiry_max)
}

/// Seconds; on MQTT 3.1.1 the client cannot be told another value, so its own one holds.
fn keep_alive(gateway: &Gateway, connect: &Connect<'_>) -> u16 {
    let max = gateway.limits.keep_alive_max;
    match connect.keep_alive {
        asked if max == 0 || !connect.protocol_version.is_v5() => asked,
        0 => max,
        asked => asked.min(max),
    }
}

/// Bytes of the largest packet that the client takes [MQTT-3.1.2-24].
pub(crate) fn packet_bytes_max(connect: &Connect<'_>) -> usize {
    let bytes = connect.maximum_packet_size().and_then(|bytes| usize::try_from(bytes).ok());
    bytes.unwrap_or(usize::MAX)
}

fn wanted(
    gateway: &Gateway,
    connect: &Connect<'_>,
    admission: &Admission,
    expiry_seconds: u32,
    will: Option<Box<Will>>,
) -> Wanted {
    let key = SessionKey {
        product: admission.device.product.clone(),
        client_id: connect.client_id.into(),
    };
    let client = Client {
        version: connect.protocol_version,
        receive_maximum: connect.receive_maximum(),
        packet_bytes_max: packet_bytes_max(connect),
        topic_alias_maximum: connect.topic_alias_maximum(),
        has_slash: false,
    };
    Wanted {
        key,
        device: Arc::clone(&admission.device),
        client,
        clean_start: connect.clean_start,
        expiry_seconds,
        limits: Arc::clone(&gateway.limits.session),
        gateway: Arc::clone(&gateway.name),
        will,
    }
}

/// Takes over, resumes or creates the session, and has the store take what a restart must not
/// undo: that it exists, that the one before it does not, and its device.
async fn attach(
    gateway: &Gateway,
    admission: &Admission,
    wanted: &Wanted,
    now: Instant,
) -> Result<Attachment, Refusal> {
    let broker = &gateway.broker;
    let mut attachment = broker
        .sessions
        .attach(wanted, now)
        .map_err(|error| Refusal::new(error.reason_code(), error.to_string()))?;
    let mut changes = std::mem::take(&mut attachment.changes);
    if let Some((session, mut ended)) = attachment.replaced.take() {
        changes.append(std::mem::take(&mut ended.changes));
        broker.session_ended(&session, ended, now);
    }
    if attachment.session_present {
        let permissions = &admission.permissions;
        broker.drop_denied_subscriptions(&attachment.session, permissions, &mut changes);
    }
    let mut batch = Batch::default();
    batch.count(attachment.pumped);
    batch.finish(broker);
    if let Err(refusal) = stored(gateway, changes).await {
        broker.disconnected(&attachment.session, attachment.generation, None, now);
        if !attachment.session_present
            && let Some(ended) = broker.sessions.end(&attachment.session, attachment.generation)
        {
            broker.session_ended(&attachment.session, ended, now);
        }
        return Err(refusal);
    }
    Ok(attachment)
}

/// Waits until the registry's entry of the device is stored.
async fn store_entry(gateway: &Gateway, admission: &mut Admission) -> Result<(), Refusal> {
    let Some(pending) = admission.pending.take() else { return Ok(()) };
    let stored = pending.stored(&gateway.broker.registry).await;
    stored.map_err(|error| not_stored(gateway, error))
}

async fn stored(gateway: &Gateway, changes: Changes) -> Result<(), Refusal> {
    let Some(store) = gateway.broker.store.as_ref().filter(|_| !changes.is_empty()) else {
        return Ok(());
    };
    let outcome = match store.submit(changes) {
        Ok(submission) => submission.stored().await,
        Err(error) => Err(error),
    };
    outcome.map_err(|error| not_stored(gateway, error))
}

fn not_stored(gateway: &Gateway, error: NotStored) -> Refusal {
    gateway.broker.metrics.not_stored.add(1);
    Refusal::new(ReasonCode::ServerUnavailable, error.to_string())
}

/// Where answers to the client's requests may go, if it asks (§3.2.2.3.15).
fn response_information(
    gateway: &Gateway,
    connect: &Connect<'_>,
    admission: &Admission,
) -> Option<String> {
    let rules = gateway.rules();
    let template = rules.response_information.as_ref()?;
    let asks = |property: Property<'_>| match property {
        Property::RequestResponseInformation(1) => Some(()),
        _ => None,
    };
    connect.properties.find(asks)?;
    let device_name = admission.device.name.as_str();
    let filled = fill_in(template, device_name, connect.client_id, connect.user_name);
    filled.map(String::from)
}

/// What CONNACK tells beside what the gateway is.
struct Told<'a> {
    assigned: Option<&'a str>,
    expiry_seconds: u32,
    keep_alive: u16,
    session_present: bool,
}

/// CONNACK, encoded; `None` where it cannot be.
fn connack(
    gateway: &Gateway,
    connect: &Connect<'_>,
    admission: &Admission,
    told: &Told<'_>,
) -> Option<Vec<u8>> {
    let response_information = response_information(gateway, connect, admission);
    let mut properties = connack_properties(gateway, connect, told);
    if let Some(text) = &response_information {
        // A text of the configuration with names put in is short.
        let _fits = properties.push(Property::ResponseInformation(text));
    }
    if connect.authentication_method().is_some()
        && let Some(data) = &admission.authentication_data
    {
        // Its length was checked.
        let _fits = properties.push(Property::AuthenticationData(data));
    }
    let connack = Connack {
        // 3.1 has no such flag; the byte is reserved there.
        session_present: told.session_present && connect.protocol_version != ProtocolVersion::V31,
        reason_code: ReasonCode::Success,
        properties: properties.as_properties(),
    };
    let mut bytes = Vec::new();
    let encoded = Packet::Connack(connack).encode(connect.protocol_version, &mut bytes);
    encoded.is_ok().then_some(bytes)
}

/// What the client has to know of this gateway (§3.2.2.3). Empty on MQTT 3.1.1.
fn connack_properties(gateway: &Gateway, connect: &Connect<'_>, told: &Told<'_>) -> PropertiesBuf {
    let Told { assigned, expiry_seconds, keep_alive, .. } = *told;
    if !connect.protocol_version.is_v5() {
        return PropertiesBuf::new();
    }
    let limits = &gateway.limits;
    let asked_expiry = connect.session_expiry_interval().unwrap_or(0);
    let properties = [
        (expiry_seconds != asked_expiry).then_some(Property::SessionExpiryInterval(expiry_seconds)),
        Some(Property::ReceiveMaximum(limits.session.in_flight_max)),
        Some(Property::MaximumPacketSize(limits.packet.packet_bytes_max)),
        assigned.map(Property::AssignedClientIdentifier),
        (limits.topic_alias_maximum > 0)
            .then_some(Property::TopicAliasMaximum(limits.topic_alias_maximum)),
        (keep_alive != connect.keep_alive).then_some(Property::ServerKeepAlive(keep_alive)),
        connect.authentication_method().map(Property::AuthenticationMethod),
    ];
    properties.into_iter().flatten().collect()
}
