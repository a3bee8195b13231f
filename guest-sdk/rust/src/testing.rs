//! Builders for native unit tests of plugins.
//!
//! ```
//! use portreeve_guest::testing;
//!
//! testing::settings([("password", "demo")]);
//! let request = testing::connect("client-1").user_name("device-1").password("demo").build();
//! assert_eq!(request.user_name.as_deref(), Some("device-1"));
//! ```

use crate::http::{HttpError, Request, Response};
use crate::native::{SERVICE, SETTINGS, STATE};
use crate::{
    Connect, Connection, Context, Device, Direction, Message, Outcome, Protocol, QoS, Tls,
};

/// Replaces the settings of this thread.
pub fn settings<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let owned = settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    SETTINGS.replace(owned.collect());
}

/// Removes every entry of this thread's state.
pub fn clear_state() {
    STATE.replace(std::collections::BTreeMap::new());
}

/// From now on this answers the requests that plugins of this thread make.
///
/// ```
/// use portreeve_guest::http::{Request, Response};
/// use portreeve_guest::testing;
///
/// testing::http(|request| Ok(Response::new(200, request.url)));
/// let response = Request::get("https://auth.example.com/verify").send()?;
/// assert_eq!(response.body, b"https://auth.example.com/verify");
/// # Ok::<(), portreeve_guest::http::HttpError>(())
/// ```
pub fn http(service: impl FnMut(Request) -> Result<Response, HttpError> + 'static) {
    SERVICE.replace(Some(Box::new(service)));
}

/// A CONNECT of this client identifier over a plain MQTT 5 connection.
#[must_use]
pub fn connect(client_id: &str) -> ConnectBuilder {
    ConnectBuilder(Connect {
        connection: Connection {
            id: 1,
            gateway: "test".to_owned(),
            peer_address: "192.0.2.1:50000".to_owned(),
            protocol: Protocol::Mqtt5,
            tls: None,
        },
        client_id: client_id.to_owned(),
        user_name: None,
        password: None,
        clean_start: true,
        keep_alive: 60,
        authentication_method: None,
        authentication_data: None,
        user_properties: Vec::new(),
    })
}

/// A CONNECT in the making.
#[derive(Debug, Clone)]
pub struct ConnectBuilder(Connect);

impl ConnectBuilder {
    /// With a user name.
    #[must_use]
    pub fn user_name(mut self, user_name: &str) -> Self {
        self.0.user_name = Some(user_name.to_owned());
        self
    }

    /// With a password.
    #[must_use]
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.0.password = Some(password.as_ref().to_vec());
        self
    }

    /// Over TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.0.connection.tls = Some(tls);
        self
    }

    /// The CONNECT.
    #[must_use]
    pub fn build(self) -> Connect {
        self.0
    }
}

/// A message with QoS 0.
#[must_use]
pub fn message(topic: &str, payload: impl AsRef<[u8]>) -> Message {
    Message {
        topic: topic.to_owned(),
        payload: payload.as_ref().to_vec(),
        payload_format: None,
        qos: QoS::AtMostOnce,
        retain: false,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        message_expiry_interval: None,
        user_properties: Vec::new(),
    }
}

/// A context with the device `device-1`.
#[must_use]
pub fn context(direction: Direction) -> Context {
    Context {
        direction,
        device: Device {
            name: "device-1".to_owned(),
            product: "test".to_owned(),
            client_id: "client-1".to_owned(),
            attributes: Vec::new(),
        },
        gateway: "test".to_owned(),
        received_at: 0,
    }
}

/// Topic and payload, as text, of the messages that replace another.
///
/// # Panics
/// When the outcome is another, with the outcome.
#[must_use]
#[expect(clippy::panic, reason = "an assertion for tests")]
pub fn replaced(outcome: &Outcome) -> Vec<(&str, String)> {
    let Outcome::Replace(messages) = outcome else { panic!("not replaced: {outcome:?}") };
    let text = |message: &Message| String::from_utf8_lossy(&message.payload).into_owned();
    messages.iter().map(|message| (message.topic.as_str(), text(message))).collect()
}
