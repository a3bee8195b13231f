//! What guests see, and what is believed of what they answer. A security boundary: everything
//! that goes to a guest is made here, and everything that comes back is checked here.

use std::time::SystemTime;

use portreeve_mqtt::{
    Connect, PropertiesBuf, Property, ProtocolVersion, QoS, TopicFilter, TopicName,
};
use portreeve_plugin::contract::{
    Action as GuestAction, Admission, Connect as GuestConnect, Connection, Context,
    Device as GuestDevice, Direction, MessageParam, MessageResult, PayloadFormat,
    Permission as GuestPermission, Protocol, Qos, Refusal as GuestRefusal,
};

use crate::devices::{Device, DeviceName};
use crate::gateway::Gateway;
use crate::message::MessageRef;
use crate::permissions::{Action, Permission, Permissions, fill_in};
use crate::reason::{self, Refusal};

/// Attributes of one admission.
const ATTRIBUTES_MAX: usize = 64;
/// Name and value of one attribute.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Permissions of one admission.
const PERMISSIONS_MAX: usize = 1024;
/// Characters of a refusal's text.
const MESSAGE_CHARS_MAX: usize = 512;
/// Messages of one outcome.
pub(crate) const MESSAGES_MAX: usize = 64;

/// The parts of a CONNECT's view that have no place to be borrowed from.
pub(crate) struct ConnectView<'a> {
    pub(crate) connection_id: u64,
    pub(crate) gateway: &'a str,
    pub(crate) peer_address: String,
    user_properties: Vec<(&'a str, &'a str)>,
}

impl<'a> ConnectView<'a> {
    pub(crate) fn new(
        connect: &Connect<'a>,
        connection_id: u64,
        gateway: &'a str,
        peer_address: String,
    ) -> Self {
        let user_properties = connect.properties.user_properties().collect();
        Self { connection_id, gateway, peer_address, user_properties }
    }

    /// What a verifier is told. `authentication_data` is that of the latest step.
    pub(crate) fn request<'b>(
        &'b self,
        connect: &Connect<'b>,
        authentication_data: Option<&'b [u8]>,
    ) -> GuestConnect<'b> {
        GuestConnect {
            connection: Connection {
                id: self.connection_id,
                gateway: self.gateway,
                peer_address: &self.peer_address,
                protocol: protocol(connect.protocol_version),
                tls: None,
            },
            client_id: connect.client_id,
            user_name: connect.user_name,
            password: connect.password,
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            authentication_method: connect.authentication_method(),
            authentication_data,
            user_properties: &self.user_properties,
        }
    }
}

const fn protocol(version: ProtocolVersion) -> Protocol {
    match version {
        ProtocolVersion::V31 => Protocol::Mqtt31,
        ProtocolVersion::V311 => Protocol::Mqtt311,
        ProtocolVersion::V5 => Protocol::Mqtt5,
    }
}

/// A verifier's admission that holds what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedAdmission {
    pub(crate) device_name: DeviceName,
    pub(crate) product: Option<String>,
    pub(crate) attributes: Vec<(String, String)>,
    permissions: Option<Vec<GuestFilter>>,
    pub(crate) expires_in: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct GuestFilter {
    action: Action,
    filter: String,
}

impl CheckedAdmission {
    /// The permissions of this device on this connection.
    pub(crate) fn permissions(
        &self,
        gateway: &Gateway,
        client_id: &str,
        user_name: Option<&str>,
    ) -> Permissions {
        let device_name = self.device_name.as_str();
        let reads_sys = gateway.reads_sys(device_name);
        let Some(list) = &self.permissions else { return Permissions::everything(reads_sys) };
        let filled = list.iter().filter_map(|permission| {
            let filter = fill_in(&permission.filter, device_name, client_id, user_name)?;
            Some(Permission { action: permission.action, filter })
        });
        Permissions::only(filled.collect(), reads_sys)
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
        && (product.is_empty()
            || product.len() > DEVICE_PRODUCT_BYTES_MAX
            || product.contains('\0'))
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
    Ok(CheckedAdmission {
        device_name,
        product: admission.product,
        attributes: admission.attributes,
        permissions: admission.permissions.map(permissions).transpose()?,
        expires_in: admission.expires_in,
    })
}

const DEVICE_PRODUCT_BYTES_MAX: usize = 64;

fn permissions(permissions: Vec<GuestPermission>) -> Result<Vec<GuestFilter>, String> {
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
        Ok(GuestFilter { action, filter })
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
        server_reference: refusal.server_reference.as_deref().map(text),
    }
}

/// The parts of a PUBLISH's view that have no place to be borrowed from.
pub(crate) struct PublishView<'a> {
    attributes: Vec<(&'a str, &'a str)>,
    user_properties: Vec<(&'a str, &'a str)>,
}

impl<'a> PublishView<'a> {
    pub(crate) fn new(device: &'a Device, message: &MessageRef<'a>) -> Self {
        let pair = |(name, value): &'a (String, String)| (name.as_str(), value.as_str());
        Self {
            attributes: device.attributes.iter().map(pair).collect(),
            user_properties: message.properties.user_properties().collect(),
        }
    }

    /// The circumstances that a parser is told.
    pub(crate) fn context<'b>(
        &'b self,
        direction: Direction,
        device: &'b Device,
        client_id: &'b str,
        gateway: &'b str,
    ) -> Context<'b> {
        let device = GuestDevice {
            name: device.name.as_str(),
            product: &device.product,
            client_id,
            attributes: &self.attributes,
        };
        Context { direction, device, gateway, received_at: unix_milliseconds() }
    }

    /// The message that a parser is told.
    pub(crate) fn message<'b>(&'b self, message: &MessageRef<'b>) -> MessageParam<'b> {
        let mut view = MessageParam {
            topic: message.topic.as_str(),
            payload: message.payload,
            payload_format: None,
            qos: match message.qos {
                QoS::AtMostOnce => Qos::AtMostOnce,
                QoS::AtLeastOnce => Qos::AtLeastOnce,
                QoS::ExactlyOnce => Qos::ExactlyOnce,
            },
            retain: message.retain,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            message_expiry_interval: None,
            user_properties: &self.user_properties,
        };
        for property in message.properties {
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
