//! What guests see, and what is believed of what they answer. A security boundary: everything
//! that goes to a guest is made here, and everything that comes back is checked here.

use std::sync::Arc;
use std::time::SystemTime;

use portreeve_mqtt::{
    Connect, PropertiesBuf, Property, ProtocolVersion, QoS, TopicFilter, TopicName,
};
use portreeve_plugin::contract::{
    Action as GuestAction, Admission, Certificate as GuestCertificate, Connect as GuestConnect,
    Connection, Context, Device as GuestDevice, Direction, MessageParam, MessageResult,
    PayloadFormat, Permission as GuestPermission, Protocol, Qos, Refusal as GuestRefusal,
    RefusalReason, Revocation, Tls as GuestTls,
};
use portreeve_plugin::{ConnectLists, ConnectQuestion, Pairs, PublishQuestion};

use crate::devices::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, Device, DeviceName, PERMISSIONS_MAX, PRODUCT_BYTES_MAX,
};
use crate::gateway::Gateway;
use crate::leading_slash::LeadingSlash;
use crate::message::MessageRef;
use crate::peer::{Peer, PeerTls, RevocationState};
use crate::permissions::{Action, Grant};
use crate::reason::{self, Refusal};
use crate::verdicts::CheckedAdmission;

/// Characters of a refusal's text.
const MESSAGE_CHARS_MAX: usize = 512;
/// Messages of one outcome.
pub(crate) const MESSAGES_MAX: usize = 64;

/// What a verifier is asked: who is this? A copy of what the CONNECT says.
pub(crate) struct WhoIsThis {
    gateway: Arc<Gateway>,
    connection_id: u64,
    peer_address: String,
    tls: Option<Arc<PeerTls>>,
    protocol: Protocol,
    client_id: Box<str>,
    user_name: Option<Box<str>>,
    password: Option<Box<[u8]>>,
    clean_start: bool,
    keep_alive: u16,
    authentication_method: Option<Box<str>>,
    authentication_data: Option<Vec<u8>>,
    properties: PropertiesBuf,
}

impl WhoIsThis {
    /// `authentication_data` is that of the latest step.
    pub(crate) fn new(
        gateway: &Arc<Gateway>,
        connect: &Connect<'_>,
        connection_id: u64,
        peer: &Peer,
        authentication_data: Option<Vec<u8>>,
    ) -> Self {
        let is_user_property =
            |property: &Property<'_>| matches!(property, Property::UserProperty(_));
        Self {
            gateway: Arc::clone(gateway),
            connection_id,
            peer_address: peer.address.to_string(),
            tls: peer.tls.clone(),
            protocol: protocol(connect.protocol_version),
            client_id: connect.client_id.into(),
            user_name: connect.user_name.map(Into::into),
            password: connect.password.map(Into::into),
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            authentication_method: connect.authentication_method().map(Into::into),
            authentication_data,
            properties: connect.properties.iter().filter(is_user_property).collect(),
        }
    }
}

impl WhoIsThis {
    /// Whether it has an authentication method, so that a challenge can be sent.
    pub(crate) const fn has_method(&self) -> bool {
        self.authentication_method.is_some()
    }

    /// The password, where it is text: what no line may show.
    pub(crate) fn password_text(&self) -> Option<String> {
        std::str::from_utf8(self.password.as_deref()?).ok().map(str::to_owned)
    }

    /// Everything that the verifier is told but the connection's number and the peer's port: what
    /// two questions have in common that are the same one.
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>) {
        let address = self.peer_address.rsplit_once(':').map_or("", |(address, _)| address);
        let tls = self.tls.as_deref();
        let certificate = tls.map_or("", |tls| tls.fingerprint.as_str());
        let revocation = tls.map(|tls| [tls.revocation() as u8]);
        let keep_alive = self.keep_alive.to_be_bytes();
        let flags = [self.protocol as u8, u8::from(self.clean_start)];
        let parts: [Option<&[u8]>; 14] = [
            Some(self.gateway.name.as_bytes()),
            Some(address.as_bytes()),
            Some(&flags),
            Some(&keep_alive),
            Some(self.client_id.as_bytes()),
            self.user_name.as_deref().map(str::as_bytes),
            self.password.as_deref(),
            self.authentication_method.as_deref().map(str::as_bytes),
            self.authentication_data.as_deref(),
            Some(self.properties.as_bytes()),
            tls.map(|tls| tls.version.as_bytes()),
            tls.map(|tls| tls.cipher_suite.as_bytes()),
            tls.and_then(|tls| tls.server_name.as_deref()).map(str::as_bytes),
            tls.map(|_| certificate.as_bytes()),
        ];
        for part in parts.into_iter().chain([revocation.as_ref().map(<[u8; 1]>::as_slice)]) {
            // What is absent is something else than what is empty.
            bytes.push(u8::from(part.is_some()));
            append(bytes, part.unwrap_or_default());
        }
    }
}

/// Appends a part with its length in front, so that no two lists of parts look alike.
pub(crate) fn append(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}

impl ConnectQuestion for WhoIsThis {
    /// Many devices may share a user name, and not a client identifier.
    fn device(&self) -> &str {
        let given = [Some(&*self.client_id), self.user_name.as_deref()];
        let mut given = given.into_iter().flatten().filter(|name| !name.is_empty());
        given.next().unwrap_or(&self.peer_address)
    }

    /// Verifiers name devices by their user name, or by their client identifier where they have
    /// none. A client that makes up an identifier each time is the same device by its user name.
    fn known_as(&self) -> &str {
        let user_name = self.user_name.as_deref().filter(|name| !name.is_empty());
        user_name.unwrap_or(&self.client_id)
    }

    fn lists(&self) -> ConnectLists<'_> {
        ConnectLists {
            user_properties: self.properties.as_properties().user_properties().collect(),
            ..certificate_lists(self.tls.as_deref())
        }
    }

    fn connect<'a>(&'a self, lists: &'a ConnectLists<'a>) -> GuestConnect<'a> {
        GuestConnect {
            connection: Connection {
                id: self.connection_id,
                gateway: &self.gateway.name,
                peer_address: &self.peer_address,
                protocol: self.protocol,
                tls: self.tls.as_deref().map(|tls| tls_record(tls, lists)),
            },
            client_id: &self.client_id,
            user_name: self.user_name.as_deref(),
            password: self.password.as_deref(),
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            authentication_method: self.authentication_method.as_deref(),
            authentication_data: self.authentication_data.as_deref(),
            user_properties: &lists.user_properties,
        }
    }
}

/// The lists of a device's certificate; empty where it has none.
pub(crate) fn certificate_lists(tls: Option<&PeerTls>) -> ConnectLists<'_> {
    let Some((end_entity, chain)) = tls.and_then(PeerTls::certificates) else {
        return ConnectLists::default();
    };
    ConnectLists {
        user_properties: Pairs::new(),
        dns_names: end_entity.dns_names.iter().map(String::as_str).collect(),
        uris: end_entity.uris.iter().map(String::as_str).collect(),
        email_addresses: end_entity.email_addresses.iter().map(String::as_str).collect(),
        chain: chain.iter().map(|certificate| certificate.der().as_ref()).collect(),
    }
}

/// What a guest is told of TLS.
pub(crate) fn tls_record<'a>(tls: &'a PeerTls, lists: &'a ConnectLists<'a>) -> GuestTls<'a> {
    let certificate = tls.certificates().map(|(end_entity, _)| GuestCertificate {
        subject: &end_entity.subject,
        common_name: end_entity.common_name.as_deref(),
        dns_names: &lists.dns_names,
        uris: &lists.uris,
        email_addresses: &lists.email_addresses,
        issuer: &end_entity.issuer,
        serial_number: &tls.serial_number,
        not_before: end_entity.not_before,
        not_after: end_entity.not_after,
        fingerprint: &tls.fingerprint,
        revocation: match tls.revocation() {
            RevocationState::NotChecked => Revocation::NotChecked,
            RevocationState::Good => Revocation::Good,
            RevocationState::Revoked => Revocation::Revoked,
            RevocationState::Unknown => Revocation::Unknown,
        },
        der: end_entity.der(),
        chain: &lists.chain,
    });
    GuestTls {
        version: tls.version,
        cipher_suite: tls.cipher_suite,
        server_name: tls.server_name.as_deref(),
        certificate,
    }
}

const fn protocol(version: ProtocolVersion) -> Protocol {
    match version {
        ProtocolVersion::V31 => Protocol::Mqtt31,
        ProtocolVersion::V311 => Protocol::Mqtt311,
        ProtocolVersion::V5 => Protocol::Mqtt5,
    }
}

/// Checks what a verifier admits.
///
/// # Errors
/// What is wrong with it, for the log; the CONNECT is then refused.
pub(crate) fn admission(admission: Admission) -> Result<CheckedAdmission, String> {
    let device_name = DeviceName::parse(&admission.device_name)
        .map_err(|error| format!("the verifier's {error}"))?;
    if let Some(product) = &admission.product
        && (product.is_empty() || product.len() > PRODUCT_BYTES_MAX || product.contains('\0'))
    {
        return Err(format!("the verifier's product {product:?} is not 1 to 64 bytes"));
    }
    if admission.attributes.len() > ATTRIBUTES_MAX
        || admission
            .attributes
            .iter()
            .any(|(name, value)| name.len() + value.len() > ATTRIBUTE_BYTES_MAX)
    {
        return Err(format!(
            "the verifier's attributes are more than {ATTRIBUTES_MAX} or above {ATTRIBUTE_BYTES_MAX} bytes"
        ));
    }
    if admission.expires_in == Some(0) {
        return Err("the verifier's admission expires in 0 seconds".to_owned());
    }
    let data_bytes = admission.authentication_data.as_ref().map_or(0, Vec::len);
    if data_bytes > AUTHENTICATION_DATA_BYTES_MAX {
        return Err(format!(
            "the verifier's authentication data of {data_bytes} bytes is above {AUTHENTICATION_DATA_BYTES_MAX}"
        ));
    }
    Ok(CheckedAdmission {
        device_name,
        product: admission.product,
        attributes: admission.attributes,
        permissions: admission.permissions.map(permissions).transpose()?,
        expires_in: admission.expires_in,
        cache_for: admission.cache_for,
        authentication_data: admission.authentication_data,
    })
}

/// Binary data of MQTT (§1.5.6).
const AUTHENTICATION_DATA_BYTES_MAX: usize = 65_535;

fn permissions(permissions: Vec<GuestPermission>) -> Result<Box<[Grant]>, String> {
    if permissions.len() > PERMISSIONS_MAX {
        return Err(format!("the verifier gives more than {PERMISSIONS_MAX} permissions"));
    }
    let check = |permission: GuestPermission| {
        let filter = permission.topic_filter;
        TopicFilter::parse(&filter)
            .map_err(|error| format!("the verifier's permission {filter:?}: {error}"))?;
        let action = match permission.action {
            GuestAction::Publish => Action::Publish,
            GuestAction::Subscribe => Action::Subscribe,
            GuestAction::Both => Action::Both,
        };
        Ok(Grant { action, filter: filter.into() })
    };
    permissions.into_iter().map(check).collect()
}

/// A guest's text as it may go to a peer or into the log: short, without control characters.
pub(crate) fn text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

/// What a verifier's refusal says to the peer.
pub(crate) fn refusal(refusal: GuestRefusal) -> Refusal {
    Refusal {
        reason_code: reason::of_refusal(refusal.reason),
        message: text(&refusal.message),
        // Only where another server is to be used (§3.2.2.3.16).
        server_reference: refusal
            .server_reference
            .as_deref()
            .filter(|_| refusal.reason == RefusalReason::UseAnotherServer)
            .map(text),
        retry_after: None,
        is_silent: false,
    }
}

/// What a parser is asked: what does this message mean? A copy of the message.
pub(crate) struct WhatIsMeant {
    gateway: Arc<Gateway>,
    device: Arc<Device>,
    client_id: Arc<str>,
    direction: Direction,
    topic: Box<str>,
    payload: Box<[u8]>,
    qos: Qos,
    retain: bool,
    properties: PropertiesBuf,
}

impl WhatIsMeant {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        device: Arc<Device>,
        client_id: Arc<str>,
        direction: Direction,
        message: &MessageRef<'_>,
    ) -> Self {
        Self {
            gateway,
            device,
            client_id,
            direction,
            topic: message.topic.as_str().into(),
            payload: message.payload.into(),
            qos: match message.qos {
                QoS::AtMostOnce => Qos::AtMostOnce,
                QoS::AtLeastOnce => Qos::AtLeastOnce,
                QoS::ExactlyOnce => Qos::ExactlyOnce,
            },
            retain: message.retain,
            properties: message.properties.iter().collect(),
        }
    }
}

impl PublishQuestion for WhatIsMeant {
    fn device(&self) -> &str {
        self.device.name.as_str()
    }

    fn attributes(&self) -> Pairs<'_> {
        let attributes = self.device.attributes.iter();
        attributes.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn user_properties(&self) -> Pairs<'_> {
        self.properties.as_properties().user_properties().collect()
    }

    fn context<'a>(&'a self, attributes: &'a [(&'a str, &'a str)]) -> Context<'a> {
        let device = GuestDevice {
            name: self.device.name.as_str(),
            product: &self.device.product,
            client_id: &self.client_id,
            attributes,
        };
        let gateway = &self.gateway.name;
        Context { direction: self.direction, device, gateway, received_at: unix_milliseconds() }
    }

    fn message<'a>(&'a self, user_properties: &'a [(&'a str, &'a str)]) -> MessageParam<'a> {
        let mut view = MessageParam {
            topic: &self.topic,
            payload: &self.payload,
            payload_format: None,
            qos: self.qos,
            retain: self.retain,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            message_expiry_interval: None,
            user_properties,
        };
        for property in self.properties.as_properties() {
            match property {
                Property::PayloadFormatIndicator(0) => {
                    view.payload_format = Some(PayloadFormat::Unspecified);
                }
                Property::PayloadFormatIndicator(_) => {
                    view.payload_format = Some(PayloadFormat::Utf8)
                }
                Property::ContentType(text) => view.content_type = Some(text),
                Property::ResponseTopic(text) => view.response_topic = Some(text),
                Property::CorrelationData(data) => view.correlation_data = Some(data),
                Property::MessageExpiryInterval(seconds) => {
                    view.message_expiry_interval = Some(seconds)
                }
                _ => {}
            }
        }
        view
    }
}

fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A parser's message that may be published.
pub(crate) struct CheckedMessage {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    pub(crate) properties: PropertiesBuf,
}

impl CheckedMessage {
    /// The same to the topic as the gateway knows it.
    pub(crate) fn of_known_topic(mut self, slash: LeadingSlash) -> Self {
        let dropped = self.topic.len() - slash.known(&self.topic).len();
        self.topic.drain(..dropped);
        self
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) const fn qos(&self) -> QoS {
        self.qos
    }

    pub(crate) const fn retain(&self) -> bool {
        self.retain
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Checks what a parser wants to have published.
///
/// # Errors
/// What is wrong with it, for the log; nothing of the outcome is then delivered.
pub(crate) fn message(
    message: MessageResult,
    packet_bytes_max: usize,
    topic_levels_max: usize,
) -> Result<CheckedMessage, String> {
    let topic = &message.topic;
    TopicName::parse(topic).map_err(|error| format!("the parser's topic {topic:?}: {error}"))?;
    if topic.split('/').count() > topic_levels_max {
        return Err(format!("the parser's topic has more than {topic_levels_max} levels"));
    }
    if topic.len() + message.payload.len() > packet_bytes_max {
        let bytes = message.payload.len();
        return Err(format!("the parser's payload of {bytes} bytes is above the packet limit"));
    }
    if let Some(response_topic) = &message.response_topic {
        TopicName::parse(response_topic)
            .map_err(|error| format!("the parser's response topic {response_topic:?}: {error}"))?;
    }
    let properties = properties(&message)?;
    Ok(CheckedMessage {
        qos: match message.qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        },
        retain: message.retain,
        topic: message.topic,
        payload: message.payload,
        properties,
    })
}

fn properties(message: &MessageResult) -> Result<PropertiesBuf, String> {
    let mut properties = PropertiesBuf::new();
    let format = message.payload_format.map(|format| match format {
        PayloadFormat::Unspecified => Property::PayloadFormatIndicator(0),
        PayloadFormat::Utf8 => Property::PayloadFormatIndicator(1),
    });
    let single = [
        format,
        message.message_expiry_interval.map(Property::MessageExpiryInterval),
        message.content_type.as_deref().map(Property::ContentType),
        message.response_topic.as_deref().map(Property::ResponseTopic),
        message.correlation_data.as_deref().map(Property::CorrelationData),
    ];
    let pairs = message.user_properties.iter();
    let user = pairs.map(|(name, value)| Property::UserProperty((name, value)));
    for property in single.into_iter().flatten().chain(user) {
        let texts = match property {
            Property::ContentType(text) => [text, ""],
            Property::UserProperty((name, value)) => [name, value],
            _ => ["", ""],
        };
        if texts.iter().any(|text| text.contains('\0')) {
            return Err("a property of the parser's message holds U+0000".to_owned());
        }
        properties
            .push(property)
            .map_err(|error| format!("a property of the parser's message: {error}"))?;
    }
    Ok(properties)
}

#[cfg(test)]
mod tests;
