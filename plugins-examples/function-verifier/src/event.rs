//! What the function is told of a device.

use std::borrow::Cow;

use portreeve_guest::{Connect, Protocol};
use portreeve_script::{Encoding, ScriptError, Template};
use serde_json::{Map, Value, json};

/// The shape of the event.
#[derive(Debug)]
pub(crate) enum Event {
    /// The contract of ours.
    Portreeve,
    /// AWS IoT Core's custom authorizers.
    Lambda {
        /// The parameter of the user name that holds the token.
        token_key: Option<String>,
    },
    /// The setting `event`.
    Template(JsonTemplate),
}

/// A password that is no UTF-8, where a text is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoText;

/// A JSON value whose texts hold placeholders.
#[derive(Debug)]
pub(crate) enum JsonTemplate {
    Literal(Value),
    /// A text that is one placeholder, and null where there is no value.
    Whole(String),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// The placeholders of templates.
pub(crate) const PLACEHOLDERS: [&str; 13] = [
    "client_id",
    "user_name",
    "password",
    "password_base64",
    "cert_common_name",
    "cert_subject",
    "cert_fingerprint",
    "cert_serial_number",
    "cert_pem",
    "peer_address",
    "gateway",
    "protocol",
    "server_name",
];

/// Reads the setting `event`.
pub(crate) fn parse(text: &str) -> Result<JsonTemplate, ScriptError> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        ScriptError::of_settings(format!(
            "`event` is no JSON ({error}); write a table of TOML, or JSON in quotes"
        ))
    })?;
    JsonTemplate::of(value)
}

impl JsonTemplate {
    fn of(value: Value) -> Result<Self, ScriptError> {
        Ok(match value {
            Value::String(text) => {
                let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
                match name.filter(|name| PLACEHOLDERS.contains(name)) {
                    Some(name) => Self::Whole(name.to_owned()),
                    None => Self::Text(Template::parse("event", &text, &PLACEHOLDERS)?),
                }
            }
            Value::Array(items) => {
                Self::List(items.into_iter().map(Self::of).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| Ok((name, Self::of(value)?)));
                Self::Object(members.collect::<Result<_, ScriptError>>()?)
            }
            other => Self::Literal(other),
        })
    }

    fn fill(&self, request: &Connect) -> Result<Value, NoText> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Whole(name) => placeholder(request, name)?.into(),
            Self::Text(template) => {
                let mut is_text = Ok(());
                let text = template.fill(|name| {
                    let value = placeholder(request, name).unwrap_or_else(|error| {
                        is_text = Err(error);
                        None
                    });
                    Some(Cow::Owned(value.unwrap_or_default()))
                });
                is_text?;
                text.into()
            }
            Self::List(items) => {
                items.iter().map(|item| item.fill(request)).collect::<Result<Vec<_>, _>>()?.into()
            }
            Self::Object(members) => {
                let members =
                    members.iter().map(|(name, member)| Ok((name.clone(), member.fill(request)?)));
                Value::Object(members.collect::<Result<Map<_, _>, NoText>>()?)
            }
        })
    }
}

impl Event {
    pub(crate) fn json(&self, request: &Connect) -> Result<Value, NoText> {
        match self {
            Self::Portreeve => portreeve(request),
            Self::Lambda { token_key } => Ok(lambda(request, token_key.as_deref())),
            Self::Template(template) => template.fill(request),
        }
    }
}

/// The value of a placeholder, `None` where the CONNECT has none.
pub(crate) fn placeholder(request: &Connect, name: &str) -> Result<Option<String>, NoText> {
    let connection = &request.connection;
    let tls = connection.tls.as_ref();
    let certificate = tls.and_then(|tls| tls.certificate.as_ref());
    Ok(match name {
        "client_id" => Some(request.client_id.clone()),
        "user_name" => request.user_name.clone(),
        "password" => password(request)?,
        "password_base64" => {
            request.password.as_deref().map(|bytes| Encoding::Base64.encode(bytes))
        }
        "cert_common_name" => certificate.and_then(|certificate| certificate.common_name.clone()),
        "cert_subject" => certificate.map(|certificate| certificate.subject.clone()),
        "cert_fingerprint" => certificate.map(|certificate| certificate.fingerprint.clone()),
        "cert_serial_number" => certificate.map(|certificate| certificate.serial_number.clone()),
        "cert_pem" => certificate.map(|certificate| pem(&certificate.der)),
        "peer_address" => Some(connection.peer_address.clone()),
        "gateway" => Some(connection.gateway.clone()),
        "protocol" => Some(protocol(connection.protocol).to_owned()),
        "server_name" => tls.and_then(|tls| tls.server_name.clone()),
        _ => None,
    })
}

fn password(request: &Connect) -> Result<Option<String>, NoText> {
    match &request.password {
        None => Ok(None),
        Some(bytes) => String::from_utf8(bytes.clone()).map(Some).map_err(|_| NoText),
    }
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Mqtt31 => "3.1",
        Protocol::Mqtt311 => "3.1.1",
        Protocol::Mqtt5 => "5.0",
    }
}

/// RFC 7468: lines of 64 characters.
fn pem(der: &[u8]) -> String {
    let base64 = Encoding::Base64.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in base64.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The event of the preset `portreeve`: the request of https-verifier's contract, and more.
fn portreeve(request: &Connect) -> Result<Value, NoText> {
    let connection = &request.connection;
    let tls = connection.tls.as_ref();
    let certificate = tls.and_then(|tls| tls.certificate.as_ref()).map(|certificate| {
        json!({
            "commonName": certificate.common_name,
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "serialNumber": certificate.serial_number,
            "fingerprint": certificate.fingerprint,
            "notBefore": certificate.not_before,
            "notAfter": certificate.not_after,
            "dnsNames": certificate.dns_names,
            "uris": certificate.uris,
            "emailAddresses": certificate.email_addresses,
            "pem": pem(&certificate.der),
        })
    });
    Ok(json!({
        "clientId": request.client_id,
        "userName": request.user_name,
        "password": password(request)?,
        "certificate": certificate,
        "peerAddress": connection.peer_address,
        "gateway": connection.gateway,
        "protocol": protocol(connection.protocol),
        "serverName": tls.and_then(|tls| tls.server_name.as_deref()),
        "userProperties": request.user_properties,
    }))
}

/// The event of AWS IoT Core. What it has not is left out there, too.
fn lambda(request: &Connect, token_key: Option<&str>) -> Value {
    let connection = &request.connection;
    let mut mqtt = Map::new();
    if let Some(name) = &request.user_name {
        mqtt.insert("username".to_owned(), name.as_str().into());
    }
    if let Some(password) = &request.password {
        mqtt.insert("password".to_owned(), Encoding::Base64.encode(password).into());
    }
    mqtt.insert("clientId".to_owned(), request.client_id.as_str().into());
    let mut data = Map::new();
    let mut protocols = vec!["mqtt"];
    if let Some(tls) = &connection.tls {
        protocols.insert(0, "tls");
        data.insert("tls".to_owned(), json!({ "serverName": tls.server_name }));
    }
    data.insert("mqtt".to_owned(), Value::Object(mqtt));
    let mut event = json!({
        // Signatures of tokens are for the function to verify.
        "signatureVerified": false,
        "protocols": protocols,
        "protocolData": data,
        "connectionMetadata": { "id": connection.id.to_string() },
    });
    let token = token_key.and_then(|key| parameter(request.user_name.as_deref()?, key));
    if let (Some(token), Value::Object(event)) = (token, &mut event) {
        event.insert("token".to_owned(), token.into());
    }
    event
}

/// A parameter of a user name such as `name?x-amz-customauthorizer-name=a&token=b`.
fn parameter(user_name: &str, key: &str) -> Option<String> {
    let (_, query) = user_name.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == key)?;
    percent_decoded(value)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes().iter();
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'%' => (digit(rest.next()?)? << 4) | digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}
