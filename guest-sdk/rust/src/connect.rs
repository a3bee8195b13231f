//! What a verifier is told, and what it answers.

/// What a peer said of itself in CONNECT. Nothing of it is proven but the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Where and how the peer connected.
    pub connection: Connection,
    /// Empty where the gateway is to assign one.
    pub client_id: String,
    /// User name.
    pub user_name: Option<String>,
    /// Password: binary data.
    pub password: Option<Vec<u8>>,
    /// MQTT 5 clean start, MQTT 3.1.1 clean session.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Method of MQTT 5 enhanced authentication.
    pub authentication_method: Option<String>,
    /// Data of the CONNECT, or of the latest AUTH.
    pub authentication_data: Option<Vec<u8>>,
    /// MQTT 5 user properties.
    pub user_properties: Vec<(String, String)>,
}

/// Where and how a peer connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Unique while the gateway runs; the same in every step of one CONNECT.
    pub id: u64,
    /// Name of the gateway in the configuration.
    pub gateway: String,
    /// Address and port of the peer.
    pub peer_address: String,
    /// Version of MQTT.
    pub protocol: Protocol,
    /// The TLS session, if there is one.
    pub tls: Option<Tls>,
}

/// The version that the peer asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Mqtt31,
    Mqtt311,
    Mqtt5,
}

/// A TLS session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `1.2` or `1.3`.
    pub version: String,
    /// IANA name of the cipher suite.
    pub cipher_suite: String,
    /// The server name that the peer asked for.
    pub server_name: Option<String>,
    /// The peer's certificate, on mutual TLS.
    pub certificate: Option<Certificate>,
}

/// A verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject as an RFC 4514 string.
    pub subject: String,
    /// The subject's most specific common name.
    pub common_name: Option<String>,
    /// DNS names of the subject alternative name.
    pub dns_names: Vec<String>,
    /// URIs of the subject alternative name.
    pub uris: Vec<String>,
    /// Email addresses of the subject alternative name.
    pub email_addresses: Vec<String>,
    /// The issuer as an RFC 4514 string.
    pub issuer: String,
    /// Lower-case hex.
    pub serial_number: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    /// SHA-256 of the DER encoding in lower-case hex.
    pub fingerprint: String,
    /// What the gateway knows of its revocation.
    pub revocation: Revocation,
    /// The DER encoding.
    pub der: Vec<u8>,
    /// The verified chain above it, trust anchor last.
    pub chain: Vec<Vec<u8>>,
}

/// Revocation as the gateway knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Revocation {
    Good,
    Revoked,
    Unknown,
    NotChecked,
}

/// The answer of a verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let the peer in.
    Admit(Admission),
    /// Turn it away.
    Refuse(Refusal),
    /// MQTT 5 enhanced authentication: send this data and ask again with the peer's answer.
    Challenge(Vec<u8>),
}

impl Verdict {
    /// Admits the device of this name, with the gateway's own rules.
    pub fn admit(device_name: impl Into<String>) -> Self {
        Self::Admit(Admission::new(device_name))
    }
}

impl From<Admission> for Verdict {
    fn from(admission: Admission) -> Self {
        Self::Admit(admission)
    }
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// Who the device is and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// 4 to 64 of `A-Z a-z 0-9 - _ @ . :`.
    pub device_name: String,
    /// `None` for the gateway's product.
    pub product: Option<String>,
    /// Kept in the registry and given to parsers.
    pub attributes: Vec<(String, String)>,
    /// `None` for the gateway's rules; an empty list permits nothing.
    pub permissions: Option<Vec<Permission>>,
    /// Seconds until the session ends or is verified again.
    pub expires_in: Option<u32>,
    /// Seconds for which the verdict may be reused.
    pub cache_for: Option<u32>,
    /// The last word of an enhanced authentication, sent with CONNACK.
    pub authentication_data: Option<Vec<u8>>,
}

impl Admission {
    /// Admits the device of this name, with the gateway's own rules.
    pub fn new(device_name: impl Into<String>) -> Self {
        Self {
            device_name: device_name.into(),
            product: None,
            attributes: Vec::new(),
            permissions: None,
            expires_in: None,
            cache_for: None,
            authentication_data: None,
        }
    }

    /// Under another product than the gateway's.
    #[must_use]
    pub fn product(mut self, product: impl Into<String>) -> Self {
        self.product = Some(product.into());
        self
    }

    /// With an attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// With this permission; with the first one, the gateway's own rules no longer count.
    /// `%d`, `%c` and `%u` stand for device name, client identifier and user name.
    #[must_use]
    pub fn permit(mut self, action: Action, topic_filter: impl Into<String>) -> Self {
        let permission = Permission { action, topic_filter: topic_filter.into() };
        self.permissions.get_or_insert_default().push(permission);
        self
    }

    /// For this many seconds.
    #[must_use]
    pub fn expires_in(mut self, seconds: u32) -> Self {
        self.expires_in = Some(seconds);
        self
    }

    /// Reusable for the same credentials for this many seconds.
    #[must_use]
    pub fn cache_for(mut self, seconds: u32) -> Self {
        self.cache_for = Some(seconds);
        self
    }

    /// With the last word of an enhanced authentication, sent with CONNACK.
    #[must_use]
    pub fn authentication_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.authentication_data = Some(data.into());
        self
    }
}

/// What a permission permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Action {
    Publish,
    Subscribe,
    Both,
}

/// A topic filter that the device may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// What for.
    pub action: Action,
    /// With `%d`, `%c`, `%u`.
    pub topic_filter: String,
}

/// Why the peer is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Decides the reason code.
    pub reason: RefusalReason,
    /// For the log and, on MQTT 5, the peer. No secrets.
    pub message: String,
    /// Where to go instead.
    pub server_reference: Option<String>,
}

impl Refusal {
    /// A refusal with a reason and a text.
    pub fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), server_reference: None }
    }

    /// The credentials are wrong.
    pub fn bad_user_name_or_password(message: impl Into<String>) -> Self {
        Self::new(RefusalReason::BadUserNameOrPassword, message)
    }

    /// The peer is known, but not allowed here or now.
    pub fn not_authorized(message: impl Into<String>) -> Self {
        Self::new(RefusalReason::NotAuthorized, message)
    }
}

/// The reason code of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum RefusalReason {
    BadUserNameOrPassword,
    NotAuthorized,
    Banned,
    ServerBusy,
    QuotaExceeded,
    UseAnotherServer,
}
