//! Questions and answers of a plugin as JSON: what `portreeve plugin call` takes and prints, what
//! cases and recordings hold, and what a trace shows.

use std::sync::Arc;
use std::time::SystemTime;

use portreeve_plugin::contract::{
    self, Action, Connection, Context, Device, Direction, MessageParam, MessageResult, Outcome,
    PayloadFormat, Protocol, Qos, RefusalReason, Verdict,
};
use portreeve_plugin::{
    Answered, Asked, CallError, ConnectLists, ConnectQuestion, PublishQuestion, Role, Version,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::guest_view::{certificate_lists, tls_record};
use crate::peer::PeerTls;

mod tls;

use tls::TlsCase;

/// Pairs keep their order and may repeat a name.
type Pairs = Vec<(String, String)>;

fn pairs(pairs: &Pairs) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn hex_or(
    hex: Option<&String>,
    text: Option<Vec<u8>>,
    name: &str,
) -> Result<Option<Vec<u8>>, String> {
    match hex {
        None => Ok(text),
        Some(hex) => hex::decode(hex).map(Some).map_err(|error| format!("{name}_hex: {error}")),
    }
}

/// A CONNECT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connect {
    client_id: String,
    user_name: Option<String>,
    password: Option<String>,
    password_hex: Option<String>,
    peer_address: String,
    protocol: String,
    clean_start: bool,
    keep_alive: u16,
    gateway: String,
    user_properties: Pairs,
    authentication_method: Option<String>,
    authentication_data_hex: Option<String>,
    tls: Option<TlsCase>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            client_id: "client-1".to_owned(),
            user_name: None,
            password: None,
            password_hex: None,
            peer_address: "127.0.0.1:50000".to_owned(),
            protocol: "5.0".to_owned(),
            clean_start: true,
            keep_alive: 60,
            gateway: "development".to_owned(),
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data_hex: None,
            tls: None,
        }
    }
}

impl Connect {
    /// The question that it is.
    ///
    /// # Errors
    /// What is wrong with it.
    fn question(self) -> Result<AskedConnect, String> {
        let text = self.password.as_ref().map(|text| text.clone().into_bytes());
        Ok(AskedConnect {
            password: hex_or(self.password_hex.as_ref(), text, "password")?,
            data: hex_or(self.authentication_data_hex.as_ref(), None, "authentication_data")?,
            protocol: match self.protocol.as_str() {
                "3.1" => Protocol::Mqtt31,
                "3.1.1" => Protocol::Mqtt311,
                "5.0" => Protocol::Mqtt5,
                other => return Err(format!("protocol {other:?} is not 3.1, 3.1.1 or 5.0")),
            },
            tls: self.tls.as_ref().map(TlsCase::peer).transpose()?,
            connect: self,
        })
    }
}

/// A CONNECT that holds what it must.
struct AskedConnect {
    connect: Connect,
    password: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
    protocol: Protocol,
    tls: Option<PeerTls>,
}

impl ConnectQuestion for AskedConnect {
    fn device(&self) -> &str {
        &self.connect.client_id
    }

    fn lists(&self) -> ConnectLists<'_> {
        ConnectLists {
            user_properties: pairs(&self.connect.user_properties),
            ..certificate_lists(self.tls.as_ref())
        }
    }

    fn connect<'a>(&'a self, lists: &'a ConnectLists<'a>) -> contract::Connect<'a> {
        let connect = &self.connect;
        contract::Connect {
            connection: Connection {
                id: 1,
                gateway: &connect.gateway,
                peer_address: &connect.peer_address,
                protocol: self.protocol,
                tls: self.tls.as_ref().map(|tls| tls_record(tls, lists)),
            },
            client_id: &connect.client_id,
            user_name: connect.user_name.as_deref(),
            password: self.password.as_deref(),
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            authentication_method: connect.authentication_method.as_deref(),
            authentication_data: self.data.as_deref(),
            user_properties: &lists.user_properties,
        }
    }
}

/// A verdict.
#[must_use]
pub fn verdict(verdict: Verdict) -> Value {
    match verdict {
        Verdict::Admit(admission) => json!({
            "verdict": "admit",
            "device_name": admission.device_name,
            "product": admission.product,
            "attributes": admission.attributes,
            "permissions": admission.permissions.map(|permissions| {
                permissions.into_iter().map(permission_as_json).collect::<Vec<_>>()
            }),
            "expires_in": admission.expires_in,
            "cache_for": admission.cache_for,
            "authentication_data_hex": admission.authentication_data.map(hex::encode),
        }),
        Verdict::Refuse(refusal) => json!({
            "verdict": "refuse",
            "reason": match refusal.reason {
                RefusalReason::BadUserNameOrPassword => "bad-user-name-or-password",
                RefusalReason::NotAuthorized => "not-authorized",
                RefusalReason::Banned => "banned",
                RefusalReason::ServerBusy => "server-busy",
                RefusalReason::QuotaExceeded => "quota-exceeded",
                RefusalReason::UseAnotherServer => "use-another-server",
            },
            "message": refusal.message,
            "server_reference": refusal.server_reference,
        }),
        Verdict::Challenge(data) => {
            json!({ "verdict": "challenge", "authentication_data_hex": hex::encode(data) })
        }
    }
}

fn permission_as_json(permission: contract::Permission) -> Value {
    let action = match permission.action {
        Action::Publish => "publish",
        Action::Subscribe => "subscribe",
        Action::Both => "both",
    };
    json!({ "action": action, "topic_filter": permission.topic_filter })
}

/// A message with its circumstances.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    topic: String,
    payload: Option<Value>,
    payload_hex: Option<String>,
    #[serde(default)]
    direction: Way,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    #[serde(default = "device_name")]
    device: String,
    #[serde(default = "product")]
    product: String,
    #[serde(default = "device_name")]
    client_id: String,
    #[serde(default)]
    attributes: Pairs,
    #[serde(default = "gateway")]
    gateway: String,
    /// Milliseconds since the Unix epoch; now, where it is left out.
    received_at: Option<u64>,
    payload_format: Option<Format>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data_hex: Option<String>,
    message_expiry_interval: Option<u32>,
    #[serde(default)]
    user_properties: Pairs,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Unspecified,
    Utf8,
}

const fn format_name(format: PayloadFormat) -> &'static str {
    match format {
        PayloadFormat::Unspecified => "unspecified",
        PayloadFormat::Utf8 => "utf8",
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    #[default]
    Up,
    Down,
}

fn device_name() -> String {
    "device-1".to_owned()
}

fn product() -> String {
    "default".to_owned()
}

fn gateway() -> String {
    "development".to_owned()
}

impl Message {
    /// The question that it is.
    ///
    /// # Errors
    /// What is wrong with it.
    fn question(self) -> Result<AskedMessage, String> {
        let given = self.payload.as_ref().map(|payload| match payload {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        });
        Ok(AskedMessage {
            payload: hex_or(self.payload_hex.as_ref(), given, "payload")?.unwrap_or_default(),
            correlation: hex_or(self.correlation_data_hex.as_ref(), None, "correlation_data")?,
            received_at: self.received_at.unwrap_or_else(now_ms),
            qos: match self.qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                2 => Qos::ExactlyOnce,
                other => return Err(format!("qos {other} is not 0, 1 or 2")),
            },
            message: self,
        })
    }
}

/// A message that holds what it must.
struct AskedMessage {
    message: Message,
    payload: Vec<u8>,
    correlation: Option<Vec<u8>>,
    received_at: u64,
    qos: Qos,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl PublishQuestion for AskedMessage {
    fn device(&self) -> &str {
        &self.message.device
    }

    fn attributes(&self) -> portreeve_plugin::Pairs<'_> {
        pairs(&self.message.attributes)
    }

    fn user_properties(&self) -> portreeve_plugin::Pairs<'_> {
        pairs(&self.message.user_properties)
    }

    fn context<'a>(&'a self, attributes: &'a [(&'a str, &'a str)]) -> Context<'a> {
        let message = &self.message;
        Context {
            direction: match message.direction {
                Way::Up => Direction::Up,
                Way::Down => Direction::Down,
            },
            device: Device {
                name: &message.device,
                product: &message.product,
                client_id: &message.client_id,
                attributes,
            },
            gateway: &message.gateway,
            received_at: self.received_at,
        }
    }

    fn message<'a>(&'a self, user_properties: &'a [(&'a str, &'a str)]) -> MessageParam<'a> {
        let message = &self.message;
        MessageParam {
            topic: &message.topic,
            payload: &self.payload,
            payload_format: message.payload_format.map(|format| match format {
                Format::Unspecified => PayloadFormat::Unspecified,
                Format::Utf8 => PayloadFormat::Utf8,
            }),
            qos: self.qos,
            retain: message.retain,
            content_type: message.content_type.as_deref(),
            response_topic: message.response_topic.as_deref(),
            correlation_data: self.correlation.as_deref(),
            message_expiry_interval: message.message_expiry_interval,
            user_properties,
        }
    }
}

/// An outcome.
#[must_use]
pub fn outcome(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Pass => json!({ "outcome": "pass" }),
        Outcome::Drop => json!({ "outcome": "drop" }),
        Outcome::Reject(reason) => json!({ "outcome": "reject", "reason": reason }),
        Outcome::Replace(messages) => {
            let messages: Vec<Value> = messages.into_iter().map(message_as_json).collect();
            json!({ "outcome": "replace", "messages": messages })
        }
    }
}

/// The payload as hex always, and as text or JSON where it is one.
fn message_as_json(message: MessageResult) -> Value {
    let text = String::from_utf8(message.payload.clone()).ok();
    let payload = text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
    json!({
        "topic": message.topic,
        "payload": payload,
        "payload_hex": hex::encode(&message.payload),
        "qos": match message.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
            Qos::ExactlyOnce => 2,
        },
        "retain": message.retain,
        "payload_format": message.payload_format.map(format_name),
        "content_type": message.content_type,
        "response_topic": message.response_topic,
        "correlation_data_hex": message.correlation_data.map(hex::encode),
        "message_expiry_interval": message.message_expiry_interval,
        "user_properties": message.user_properties,
    })
}

/// What a guest answered, for those who look on: what goes to the device to prove something is masked.
#[must_use]
pub fn answered_masked(answer: Result<Answered, String>) -> Value {
    let mut value = answered(answer);
    if let Some(data) = value.get_mut("authentication_data_hex").filter(|data| !data.is_null()) {
        *data = MASK.into();
    }
    value
}

/// What a guest answered.
#[must_use]
pub fn answered(answer: Result<Answered, String>) -> Value {
    match answer {
        Ok(Answered::Verdict(verdict)) => self::verdict(verdict),
        Ok(Answered::Outcome(outcome)) => self::outcome(outcome),
        Err(error) => json!({ "error": error }),
    }
}

/// What was asked, as `portreeve plugin call` takes it. Passwords and authentication data are
/// masked.
#[must_use]
pub fn asked(asked: &Asked) -> Value {
    match asked {
        Asked::Connect(question) => {
            let lists = question.lists();
            connect(&question.connect(&lists))
        }
        Asked::Publish(question) => {
            let (attributes, user_properties) = (question.attributes(), question.user_properties());
            message(&question.context(&attributes), &question.message(&user_properties))
        }
    }
}

/// A line of a recording.
#[must_use]
pub fn recorded(question: &Asked) -> String {
    json!({ "input": asked(question) }).to_string()
}

/// What stands for a secret.
pub const MASK: &str = "(masked)";

fn connect(connect: &contract::Connect<'_>) -> Value {
    let mut value = json!({
        "client_id": connect.client_id,
        "peer_address": connect.connection.peer_address,
        "protocol": match connect.connection.protocol {
            Protocol::Mqtt31 => "3.1",
            Protocol::Mqtt311 => "3.1.1",
            Protocol::Mqtt5 => "5.0",
        },
        "clean_start": connect.clean_start,
        "keep_alive": connect.keep_alive,
        "gateway": connect.connection.gateway,
        "user_properties": connect.user_properties,
    });
    let optional = [
        ("user_name", connect.user_name),
        ("password", connect.password.map(|_| MASK)),
        ("authentication_method", connect.authentication_method),
        ("authentication_data_hex", connect.authentication_data.map(|_| "")),
    ];
    put_optional(&mut value, optional);
    if let (Some(told), Some(object)) = (&connect.connection.tls, value.as_object_mut()) {
        object.insert("tls".to_owned(), tls::tls(told));
    }
    value
}

fn message(context: &Context<'_>, message: &MessageParam<'_>) -> Value {
    let mut value = json!({
        "topic": message.topic,
        "payload_hex": hex::encode(message.payload),
        "direction": match context.direction {
            Direction::Up => "up",
            Direction::Down => "down",
        },
        "qos": match message.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
            Qos::ExactlyOnce => 2,
        },
        "retain": message.retain,
        "device": context.device.name,
        "product": context.device.product,
        "client_id": context.device.client_id,
        "attributes": context.device.attributes,
        "gateway": context.gateway,
        "received_at": context.received_at,
        "user_properties": message.user_properties,
    });
    let correlation = message.correlation_data.map(hex::encode);
    let optional = [
        ("payload_format", message.payload_format.map(format_name)),
        ("content_type", message.content_type),
        ("response_topic", message.response_topic),
        ("correlation_data_hex", correlation.as_deref()),
    ];
    put_optional(&mut value, optional);
    if let (Some(seconds), Some(object)) = (message.message_expiry_interval, value.as_object_mut())
    {
        object.insert("message_expiry_interval".to_owned(), seconds.into());
    }
    value
}

fn put_optional<const N: usize>(value: &mut Value, optional: [(&str, Option<&str>); N]) {
    let Some(object) = value.as_object_mut() else { return };
    for (name, text) in optional {
        if let Some(text) = text {
            object.insert(name.to_owned(), text.into());
        }
    }
}

/// A question and what the answer has to be: a case of `portreeve plugin test`, or a line of a
/// recording, which says nothing about the answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is about.
    #[serde(default)]
    pub name: Option<String>,
    /// What a plugin that is both is asked as.
    #[serde(default)]
    pub ask: Option<Question>,
    /// What is asked, as `portreeve plugin call` takes it.
    pub input: Value,
    /// What the answer has to hold.
    #[serde(default)]
    pub expect: Option<Value>,
    /// A text that the error has to hold, where there is to be one.
    #[serde(default)]
    pub error: Option<String>,
}

impl Case {
    /// The cases of a file: one, or a list.
    ///
    /// # Errors
    /// Where the text is none.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let cases = if value.is_array() { value } else { Value::Array(vec![value]) };
        serde_json::from_value(cases).map_err(|error| error.to_string())
    }

    /// Asks.
    ///
    /// # Errors
    /// What is wrong with the question, or why there is no answer.
    pub async fn ask(&self, version: &Arc<Version>) -> Result<Value, String> {
        ask(version, self.ask, &self.input).await
    }

    /// Whether the answer is what it has to be.
    ///
    /// # Errors
    /// What is different, and where.
    pub fn judge(&self, answer: &Result<Value, String>) -> Result<(), String> {
        match (answer, &self.expect, &self.error) {
            (Err(error), _, Some(text)) if error.contains(text) => Ok(()),
            (Err(error), _, Some(text)) => Err(format!("the error is {error:?}, without {text:?}")),
            (Err(error), ..) => Err(format!("there is no answer: {error}")),
            (Ok(answer), _, Some(_)) => Err(format!("there is an answer: {answer}")),
            (Ok(answer), Some(expected), None) => differs("", expected, answer).map_or(Ok(()), Err),
            (Ok(answer), None, None) => Err(format!(
                "the case does not say what the answer has to be; say it in \"expect\", or in \
                 \"error\" a text of the error that there has to be. The answer is {answer}"
            )),
        }
    }
}

/// Asks a plugin; the fields of the question tell which one it is.
///
/// # Errors
/// What is wrong with the question, or why there is no answer.
pub async fn ask(
    version: &Arc<Version>,
    role: Option<Question>,
    input: &Value,
) -> Result<Value, String> {
    let question = question(version, role, input)?;
    match ask_question(version, &question).await {
        Ok(answer) => Ok(answered(Ok(answer))),
        Err(error) => Err(error.to_string()),
    }
}

/// What a plugin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Who is this?
    Verify,
    /// What does this message mean?
    Parse,
}

/// The question in a JSON object. Where a plugin is both verifier and parser and nothing is said,
/// one with a topic is about a message.
///
/// # Errors
/// What is wrong with it.
pub fn question(version: &Version, role: Option<Question>, input: &Value) -> Result<Asked, String> {
    let faulty = |error: serde_json::Error| format!("the question cannot be read: {error}");
    let guessed = match input.get("topic").is_some() || !version.is(Role::Verifier) {
        true if version.is(Role::Parser) => Question::Parse,
        _ => Question::Verify,
    };
    if role.unwrap_or(guessed) == Question::Parse {
        let message: Message = serde_json::from_value(input.clone()).map_err(faulty)?;
        return Ok(Asked::Publish(Arc::new(message.question()?)));
    }
    let connect: Connect = serde_json::from_value(input.clone()).map_err(faulty)?;
    Ok(Asked::Connect(Arc::new(connect.question()?)))
}

/// Asks a version.
///
/// # Errors
/// [`CallError`] when it gives no answer.
pub async fn ask_question(version: &Arc<Version>, question: &Asked) -> Result<Answered, CallError> {
    match question {
        Asked::Connect(question) => {
            version.verify(Arc::clone(question)).await.map(Answered::Verdict)
        }
        Asked::Publish(question) => {
            version.parse(Arc::clone(question)).await.map(Answered::Outcome)
        }
    }
}

/// Where an answer is not what was expected: fields of objects may be more, items of lists not.
fn differs(at: &str, expected: &Value, answer: &Value) -> Option<String> {
    match (expected, answer) {
        (Value::Object(expected), Value::Object(answer)) => {
            expected.iter().find_map(|(key, expected)| {
                let inner = format!("{at}/{key}");
                match answer.get(key) {
                    Some(answer) => differs(&inner, expected, answer),
                    None if expected.is_null() => None,
                    None => Some(format!("{inner} is not there, expected {expected}")),
                }
            })
        }
        (Value::Array(expected), Value::Array(answer)) if expected.len() == answer.len() => {
            let items = expected.iter().zip(answer).enumerate();
            items.into_iter().find_map(|(index, (expected, answer))| {
                differs(&format!("{at}/{index}"), expected, answer)
            })
        }
        // 21.5 and 21.50, 60 and 60.0.
        (Value::Number(expected), Value::Number(answer))
            if expected.as_f64() == answer.as_f64() =>
        {
            None
        }
        _ if expected == answer => None,
        _ => Some(format!("{at} is {answer}, expected {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(case: &Value, answer: Result<Value, String>) -> Result<(), String> {
        serde_json::from_value::<Case>(case.clone()).unwrap().judge(&answer)
    }

    #[test]
    fn an_answer_may_hold_more_fields_and_not_more_items() {
        let case = json!({ "input": {}, "expect": { "a": [{ "b": 1.0 }] } });
        assert_eq!(judge(&case, Ok(json!({ "a": [{ "b": 1, "c": 2 }], "d": 3 }))), Ok(()));
        let wrong = judge(&case, Ok(json!({ "a": [{ "b": 2 }] }))).unwrap_err();
        assert_eq!(wrong, "/a/0/b is 2, expected 1.0");
        assert!(judge(&case, Ok(json!({ "a": [{ "b": 1 }, {}] }))).is_err());
        assert!(judge(&case, Err("trapped".to_owned())).unwrap_err().contains("trapped"));
    }

    #[test]
    fn a_case_may_want_an_error() {
        let case = json!({ "input": {}, "error": "no password" });
        assert_eq!(judge(&case, Err("the guest reports: no password".to_owned())), Ok(()));
        assert!(judge(&case, Err("trapped".to_owned())).is_err());
        assert!(judge(&case, Ok(json!({}))).is_err());
    }

    #[test]
    fn a_case_that_wants_nothing_is_not_met() {
        let told = judge(&json!({ "input": {} }), Ok(json!({ "outcome": "pass" }))).unwrap_err();
        assert!(told.contains("\"expect\"") && told.contains("pass"), "{told}");
    }

    #[test]
    fn a_file_holds_one_case_or_a_list() {
        assert_eq!(Case::list(r#"{"input": {}}"#).unwrap().len(), 1);
        assert_eq!(Case::list(r#"[{"input": {}}, {"input": {}}]"#).unwrap().len(), 2);
        assert!(Case::list(r#"{"inputs": {}}"#).unwrap_err().contains("inputs"));
    }
}
