//! What a parser is told, and what it answers.

/// An application message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// A topic name, without wildcards.
    pub topic: String,
    /// The application's bytes.
    pub payload: Vec<u8>,
    /// What the sender says the payload is.
    pub payload_format: Option<PayloadFormat>,
    /// Quality of service.
    pub qos: QoS,
    /// Keep it for later subscribers.
    pub retain: bool,
    /// MIME type, by convention.
    pub content_type: Option<String>,
    /// Where an answer goes.
    pub response_topic: Option<String>,
    /// What an answer carries back.
    pub correlation_data: Option<Vec<u8>>,
    /// Seconds that remain.
    pub message_expiry_interval: Option<u32>,
    /// MQTT 5 user properties.
    pub user_properties: Vec<(String, String)>,
}

impl Message {
    /// The levels of the topic.
    pub fn topic_levels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.topic.split('/')
    }

    /// The topic with `level` in place of its last level.
    #[must_use]
    pub fn sibling_topic(&self, level: &str) -> String {
        match self.topic.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{level}"),
            None => level.to_owned(),
        }
    }

    /// The same message to another topic, with another payload. Payload format and content type
    /// described the old payload and are cleared.
    #[must_use]
    pub fn with(self, topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            payload_format: None,
            content_type: None,
            ..self
        }
    }

    /// Marks the payload as JSON: UTF-8, `application/json`.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.payload_format = Some(PayloadFormat::Utf8);
        self.content_type = Some("application/json".to_owned());
        self
    }
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum QoS {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

/// MQTT 5 payload format indicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum PayloadFormat {
    Unspecified,
    Utf8,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a device to the platform.
    Up,
    /// From the platform to a device.
    Down,
}

/// A registered device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The product that it belongs to.
    pub product: String,
    /// Client identifier of its session.
    pub client_id: String,
    /// Attributes of its registry entry.
    pub attributes: Vec<(String, String)>,
}

/// Under which circumstances a message came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// A property of the binding.
    pub direction: Direction,
    /// The publisher.
    pub device: Device,
    /// Name of the gateway in the configuration.
    pub gateway: String,
    /// Milliseconds since the Unix epoch.
    pub received_at: u64,
}

/// The answer of a parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Deliver the message as it came.
    Pass,
    /// Deliver these instead, in their order.
    Replace(Vec<Message>),
    /// Acknowledge and deliver nothing.
    Drop,
    /// The payload is not what it should be.
    Reject(String),
}

impl From<Message> for Outcome {
    fn from(message: Message) -> Self {
        Self::Replace(vec![message])
    }
}
