//! The records, as they are written. Fields are only ever appended, and only with a new format
//! number: the encoding has no names.

use serde::{Deserialize, Serialize};

/// A session, by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Product of its device.
    pub product: String,
    /// Client identifier, unique within the product.
    pub client_id: String,
    /// Name of the device whose session it is.
    pub device_name: String,
    /// The gateway whose limits it has.
    pub gateway: String,
    /// Seconds that it outlives its connection; `u32::MAX` does not end.
    pub expiry_seconds: u32,
    /// When its connection was lost, in milliseconds since 1970; `None` while it has one.
    pub detached_at_ms: Option<u64>,
    /// The last message that was sent to that connection.
    pub last_sent: u64,
    /// What is published when the session stays away.
    pub will: Option<WillRecord>,
}

/// A will that was not published yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WillRecord {
    /// Will delay interval in seconds.
    pub delay_seconds: u32,
    /// Message expiry interval in seconds, counted from its publication.
    pub expiry_interval: Option<u32>,
    /// Whether it is to be retained.
    pub retain: bool,
    /// The encoded [`MessageRecord`].
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
}

/// An application message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord<'a> {
    /// The topic that it was published to.
    pub topic: &'a str,
    /// Its payload.
    #[serde(with = "serde_bytes")]
    pub payload: &'a [u8],
    /// Quality of service that it was published with: 0, 1 or 2.
    pub qos: u8,
    /// Properties as MQTT 5 encodes them, without message expiry interval.
    #[serde(with = "serde_bytes")]
    pub properties: &'a [u8],
    /// When it expires, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
}

impl MessageRecord<'_> {
    /// The bytes of the record.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

impl<'a> MessageRecord<'a> {
    /// Reads what [`Self::to_bytes`] wrote; `None` for other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Where the message of an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<'a> {
    /// Here: nobody else keeps it.
    #[serde(borrow)]
    Inline(#[serde(with = "serde_bytes")] &'a [u8]),
    /// Among the bodies that several entries share.
    Shared(u64),
}

/// A message for one session, by the session's number and the entry's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryRecord<'a> {
    /// It waits, or was sent and not acknowledged.
    Message {
        /// Quality of service for this session.
        qos: u8,
        /// Retain flag for this session.
        retain: bool,
        /// Subscription identifiers.
        identifiers: Vec<u32>,
        /// The shared subscription that it came by, as its whole topic filter.
        share: Option<&'a str>,
        /// The message.
        #[serde(borrow)]
        body: Body<'a>,
    },
    /// PUBREC came for it: PUBREL is to be answered [MQTT-4.3.3-8].
    Released,
}

impl<'a> EntryRecord<'a> {
    /// Reads what the store gave; `None` for other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// A subscription of a session, by the session's number and the filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    /// The topic filter.
    pub filter: String,
    /// Subscription options as SUBSCRIBE carries them (MQTT 5 §3.8.3.1).
    pub options: u8,
    /// Subscription identifier.
    pub identifier: Option<u32>,
}

/// A device, by product and name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its product.
    pub product: String,
    /// Its name.
    pub name: String,
    /// Given to parsers.
    pub attributes: Vec<(String, String)>,
    /// Whether it may connect.
    pub enabled: bool,
    /// Whether it was imported; otherwise a verifier admitted it.
    pub is_imported: bool,
    /// Its serial number.
    pub serial_number: Option<String>,
    /// Its MQTT user name.
    pub user_name: Option<String>,
    /// The hash of its password, as text that begins with `$`.
    pub password_hash: Option<String>,
    /// The certificate that it has to have.
    pub certificate: Option<CertificateRecord>,
    /// Topic filters that it may use and what for: 1 publish, 2 subscribe, 3 both; `None` where the
    /// gateway's rules hold.
    pub permissions: Option<Vec<(u8, String)>>,
    /// Seconds since 1970.
    pub created_at: u64,
}

// A hash is no secret of the same rank as the password; in a log it is one too many.
impl std::fmt::Debug for DeviceRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceRecord")
            .field("product", &self.product)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a device's certificate has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateRecord {
    /// SHA-256 of its DER.
    Fingerprint([u8; 32]),
    /// The common name of its subject.
    CommonName(String),
}

/// A device as it is written. A later shape is another variant behind these.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StoredDevice<T> {
    V1(T),
}

/// A device of format 1.
#[derive(Debug, Deserialize)]
pub(crate) struct OldDeviceRecord {
    product: String,
    name: String,
    attributes: Vec<(String, String)>,
    enabled: bool,
}

impl From<OldDeviceRecord> for DeviceRecord {
    fn from(old: OldDeviceRecord) -> Self {
        let OldDeviceRecord { product, name, attributes, enabled } = old;
        Self {
            product,
            name,
            attributes,
            enabled,
            is_imported: false,
            serial_number: None,
            user_name: None,
            password_hash: None,
            certificate: None,
            permissions: None,
            created_at: 0,
        }
    }
}

/// A retained message, by its topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RetainedRecord<'a> {
    #[serde(borrow)]
    pub(crate) body: Body<'a>,
}

/// Encodes a record. Records have no part that cannot be encoded.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_stdvec(record).unwrap_or_default()
}
