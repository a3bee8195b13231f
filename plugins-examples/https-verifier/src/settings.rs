//! The settings, checked: what is wrong with them is told at the first CONNECT, and nobody is let
//! in before it is mended.

use std::time::Duration;

use portreeve_guest::Error;
use serde_json::Value;

use crate::body::{Absent, JsonTemplate, form};
use crate::decision::{Decision, Results, Status};
use crate::placeholder::Placeholder;
use crate::pointers::Pointers;
use crate::sign::Signer;
use crate::source::{Source, wrong};
use crate::target::Target;
use crate::template::{Names, Template};

/// Retries of one question: those who wait are many when a service is in trouble.
const RETRIES_MAX: u32 = 5;
/// Longer than any device waits for its CONNACK.
const RETRY_WITHIN_MAX: Duration = Duration::from_secs(60);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);
/// A verdict that is older than a day is none.
const CACHE_FOR_MAX: Duration = Duration::from_secs(86_400);
/// Headers that belong to the connection; the gateway writes them itself.
const HEADERS_OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Headers of a signed request.
pub(crate) const SIGNATURE_HEADERS: [&str; 3] =
    ["webhook-id", "webhook-timestamp", "webhook-signature"];
/// Every setting that all presets have.
const KEYS: [&str; 21] = [
    "absent",
    "body",
    "cache_for",
    "device_name",
    "headers",
    "method",
    "preset",
    "product",
    "required",
    "response",
    "response_format",
    "results",
    "retries",
    "retry_delay",
    "sign_secret",
    "sign_secret_previous",
    "status",
    "superusers",
    "retry_within",
    "unsupported_acl",
    "url",
];

/// How the body of a response is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Form,
    /// The whole body is the result.
    Text,
    /// JSON or a form, as the response says.
    ContentType,
}

/// What requests carry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    None,
    Json(JsonTemplate),
    Form(Vec<(String, Template)>),
    /// A form that is written as text.
    FormText(Template),
}

/// Everything that the manifest says.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) method: String,
    pub(crate) target: Target,
    pub(crate) headers: Vec<(String, Template)>,
    pub(crate) body: Body,
    pub(crate) absent: Absent,
    pub(crate) required: Vec<(String, Placeholder)>,
    pub(crate) device_name: Template,
    pub(crate) product: String,
    pub(crate) cache_for: Duration,
    pub(crate) format: Format,
    pub(crate) pointers: Pointers,
    pub(crate) status: Status,
    pub(crate) results: Results,
    pub(crate) superusers: bool,
    /// Whether entries of an `acl` that cannot be expressed are left out instead of refused.
    pub(crate) leaves_out_acl: bool,
    pub(crate) retries: u32,
    pub(crate) retry_delay: Duration,
    pub(crate) retry_within: Duration,
    pub(crate) signer: Option<Signer>,
}

impl Settings {
    /// Reads and checks the manifest's settings.
    ///
    /// # Errors
    /// The first thing that is wrong: which setting, and what to write.
    pub(crate) fn new(own: Vec<(String, String)>) -> Result<Self, Error> {
        let source = Source::new(own)?;
        let lookup = |key: &str| source.own(key);
        let names = Names { setting: &lookup, is_emqx: source.preset == "emqx" };
        unknown_keys(&source)?;
        let method = method(&source)?;
        let (body, fields) = body(&source, &names, &method)?;
        let settings = Self {
            target: Target::parse(&source.text("url")?, fields, &names)?,
            headers: headers(&source, &names, &method)?,
            absent: source.choice(
                "absent",
                &[("null", Absent::Null), ("empty", Absent::Empty), ("omit", Absent::Omit)],
            )?,
            required: required(&source)?,
            device_name: device_name(&source, &names)?,
            product: source.text("product")?,
            cache_for: source.duration("cache_for", CACHE_FOR_MAX)?,
            format: source.choice(
                "response_format",
                &[
                    ("json", Format::Json),
                    ("form", Format::Form),
                    ("text", Format::Text),
                    ("content-type", Format::ContentType),
                ],
            )?,
            pointers: Pointers::new(&source.value("response"))?,
            status: Status::new(source.table("status")?)?,
            results: Results::new(source.table("results")?)?,
            superusers: source.boolean("superusers")?,
            leaves_out_acl: source
                .choice("unsupported_acl", &[("refuse", false), ("leave-out", true)])?,
            retries: source.number("retries", RETRIES_MAX)?,
            retry_delay: source.duration("retry_delay", RETRY_DELAY_MAX)?,
            retry_within: source.duration("retry_within", RETRY_WITHIN_MAX)?,
            signer: signer(&source, &body)?,
            method,
            body,
        };
        settings.check()?;
        Ok(settings)
    }

    /// What fits together only as a whole.
    fn check(&self) -> Result<(), Error> {
        let asks_the_body = self.status.decisions().any(|decision| decision == Decision::Body);
        let names_a_result = self.format == Format::Text || !self.pointers.result.is_empty();
        if asks_the_body && (!names_a_result || self.results.is_empty()) {
            return Err(wrong(
                "response.result",
                "is missing, or `results` is: the status says that the body decides",
                "write result = \"/result\" into [settings.response] and what its values mean \
                 into [settings.results]",
            ));
        }
        if self.device_name.is_empty() && self.pointers.device_name.is_empty() {
            return Err(wrong(
                "device_name",
                "is empty, and `response.device_name` too",
                "write \"${user_name}\", \"${client_id}\" or \"${cert_common_name}\"",
            ));
        }
        Ok(())
    }

    /// Whether the service is told of enhanced authentication, without which it cannot judge it.
    pub(crate) fn tells_authentication_data(&self) -> bool {
        let data = Placeholder::AuthenticationDataBase64;
        self.target.uses(data)
            || self.headers.iter().any(|(_, template)| template.uses(data))
            || match &self.body {
                Body::None => false,
                Body::Json(template) => template.uses(data),
                Body::Form(fields) => fields.iter().any(|(_, template)| template.uses(data)),
                Body::FormText(template) => template.uses(data),
            }
    }
}

/// A key that nothing knows is a mistake, unless a template uses it by `${setting.NAME}`.
fn unknown_keys(source: &Source) -> Result<(), Error> {
    let is_used = |key: &str| {
        let name = format!("${{setting.{key}}}");
        source.own_keys().any(|other| source.own(other).is_some_and(|text| text.contains(&name)))
    };
    for key in source.own_keys() {
        if !(KEYS.contains(&key) || source.knows_mode(key) || is_used(key)) {
            let fix = match key {
                "timeout" => "write timeout into [http_client]",
                "response_mode" | "params_mode" => "it belongs to preset = \"mosquitto-go-auth\"",
                _ => "the plugin's README lists the settings; ${setting.NAME} uses one of your own",
            };
            return Err(wrong(key, "is unknown", fix));
        }
    }
    Ok(())
}

fn is_token(text: &str) -> bool {
    let is_token_char =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_char)
}

/// In capitals: EMQX writes `post`.
fn method(source: &Source) -> Result<String, Error> {
    let method = source.text("method")?.to_ascii_uppercase();
    match is_token(&method) && method != "CONNECT" {
        true => Ok(method),
        false => Err(wrong("method", format!("is {method:?}"), "write POST, PUT or GET")),
    }
}

/// What requests carry, and the fields that stand in the query instead.
fn body(
    source: &Source,
    names: &Names<'_>,
    method: &str,
) -> Result<(Body, Vec<(String, Template)>), Error> {
    let value = source.value("body");
    let is_get = matches!(method, "GET" | "HEAD");
    Ok(match (&value, content_type(source)?.as_str()) {
        (Value::Null, _) => (Body::None, Vec::new()),
        (Value::String(text), _) if text.is_empty() => (Body::None, Vec::new()),
        (Value::Object(fields), _) if is_get => (Body::None, form("body", fields, names)?),
        (_, _) if is_get => {
            let fix = "write a table, [settings.body], whose fields go into the query";
            return Err(wrong("body", "is a text, and a GET has no body", fix));
        }
        (Value::Object(_), "application/json") => {
            (Body::Json(JsonTemplate::parse("body", &value, names)?), Vec::new())
        }
        (Value::String(text), "application/json") => {
            let value = serde_json::from_str(text).map_err(|error| {
                wrong("body", format!("is no JSON: {error}"), "write a table or a JSON text")
            })?;
            (Body::Json(JsonTemplate::parse("body", &value, names)?), Vec::new())
        }
        (Value::Object(fields), "application/x-www-form-urlencoded") => {
            (Body::Form(form("body", fields, names)?), Vec::new())
        }
        (Value::String(text), "application/x-www-form-urlencoded") => {
            let template = Template::parse("body", text, names)?.text_only("body")?;
            (Body::FormText(template), Vec::new())
        }
        (_, other) => {
            let fix = "the body is application/json or application/x-www-form-urlencoded";
            return Err(wrong("headers.content-type", format!("is {other:?}"), fix));
        }
    })
}

/// Without parameters such as `charset`.
fn content_type(source: &Source) -> Result<String, Error> {
    let headers = source.table("headers")?;
    let header = headers.iter().rfind(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let value = header.map_or("application/json", |(_, value)| value);
    Ok(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Names in lower case; an empty value takes a header of the preset away.
fn headers(
    source: &Source,
    names: &Names<'_>,
    method: &str,
) -> Result<Vec<(String, Template)>, Error> {
    let mut headers: Vec<(String, Template)> = Vec::new();
    for (name, value) in source.table("headers")? {
        let key = format!("headers.{name}");
        let name = name.to_ascii_lowercase();
        if !is_token(&name) {
            return Err(wrong(&key, "is no name of a header", "write letters, digits and -"));
        }
        if HEADERS_OF_THE_CONNECTION.contains(&name.as_str())
            || SIGNATURE_HEADERS.contains(&name.as_str())
        {
            return Err(wrong(&key, "is written by the gateway", "take it out"));
        }
        if value.contains(|c: char| c.is_control()) {
            return Err(wrong(&key, "holds a control character", "take it out"));
        }
        let is_of_a_body = name == "content-type" && matches!(method, "GET" | "HEAD");
        headers.retain(|(other, _)| *other != name);
        if !value.is_empty() && !is_of_a_body {
            headers.push((name, Template::parse(&key, &value, names)?.text_only(&key)?));
        }
    }
    Ok(headers)
}

/// A device's name is shown, in logs and to the device.
fn device_name(source: &Source, names: &Names<'_>) -> Result<Template, Error> {
    let key = "device_name";
    let template = Template::parse(key, &source.text(key)?, names)?.text_only(key)?;
    let secrets =
        [Placeholder::Password, Placeholder::PasswordBase64, Placeholder::BasicCredentials];
    match secrets.iter().any(|secret| template.uses(*secret)) {
        true => Err(wrong(key, "holds the password", "write \"${user_name}\"")),
        false => Ok(template),
    }
}

fn required(source: &Source) -> Result<Vec<(String, Placeholder)>, Error> {
    let placeholder = |name: String| {
        let of = Placeholder::of(&name).filter(|placeholder| !placeholder.is_structured());
        let of = of.ok_or_else(|| {
            let fix = format!("write names of {}", Placeholder::names());
            wrong("required", format!("names {name:?}"), fix)
        })?;
        Ok((name, of))
    };
    source.texts("required")?.into_iter().map(placeholder).collect()
}

/// A signature covers the body: a request without one would be signed in vain.
fn signer(source: &Source, body: &Body) -> Result<Option<Signer>, Error> {
    let keys = ["sign_secret", "sign_secret_previous"];
    let secrets: Vec<(&str, String)> =
        keys.into_iter().filter_map(|key| Some((key, source.own(key)?))).collect();
    if secrets.is_empty() {
        return Ok(None);
    }
    if *body == Body::None {
        let what = "signs the body, and the request has none";
        return Err(wrong("sign_secret", what, "write method = \"POST\" and a body"));
    }
    Signer::new(&secrets).map(Some)
}
