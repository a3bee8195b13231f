//! What the answer of the service comes to. Nothing but a clear acceptance admits.

use portreeve_guest::http::Response;
use portreeve_guest::{Action, Admission, Error, Permission, Refusal, RefusalReason, Verdict, log};
use serde_json::Value;

use crate::acl::acl;
use crate::ask::unix_seconds;
use crate::decision::{Decision, reason, reasons};
use crate::json;
use crate::permissions::permissions;
use crate::placeholder::{Peer, Placeholder};
use crate::pointers::{Field, find, logged, shown};
use crate::settings::{Format, Settings};
use crate::stop::Stop;

/// As many attributes as the gateway takes.
const ATTRIBUTES_MAX: usize = 64;
/// Bytes of an attribute, name and value.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
const PRODUCT_BYTES_MAX: usize = 64;
/// Characters of a device name.
const DEVICE_NAME_CHARS: std::ops::RangeInclusive<usize> = 4..=64;
const DEVICE_NAME_IS: &str = "a device name is 4 to 64 of A-Z a-z 0-9 - _ @ . :";

/// The verdict of a response.
///
/// # Errors
/// What makes it none.
pub(crate) fn verdict(
    settings: &Settings,
    peer: &Peer<'_>,
    response: &Response,
) -> Result<Verdict, Stop> {
    match settings.status.decision(response.status) {
        Decision::Accept => admit(settings, peer, &Value::Null),
        Decision::Refuse(reason) => {
            // A text for the device is welcome, and nothing that has to be there.
            let body = body(settings.format, response).unwrap_or_default();
            let refusal = refusal(settings, reason, &body);
            Ok(refusal.unwrap_or_else(|_| Refusal::new(reason, REFUSED)).into())
        }
        Decision::Body => by_body(settings, peer, &body(settings.format, response)?),
        Decision::Error => {
            let status = response.status;
            Err(Error::new(format!(
                "the service answers HTTP {status}, for which the setting `status` has no verdict"
            ))
            .into())
        }
    }
}

const REFUSED: &str = "the service refuses the device";

fn by_body(settings: &Settings, peer: &Peer<'_>, body: &Value) -> Result<Verdict, Stop> {
    let (place, result) = match (settings.format, body) {
        (Format::Text, Value::String(text)) => ("text".to_owned(), text.clone()),
        _ => {
            let result = find(body, &settings.pointers.result)?.ok_or_else(|| {
                let pointers = settings.pointers.result.join(", ");
                Error::new(format!("the response has no {pointers}"))
            })?;
            let text = result.scalar()?;
            (result.pointer, text)
        }
    };
    match settings.results.decision(&result) {
        Decision::Accept => admit(settings, peer, body),
        Decision::Refuse(reason) => Ok(refusal(settings, reason, body)?.into()),
        Decision::Body | Decision::Error => Err(Error::new(format!(
            "the response's {place} is {:?}, which the setting `results` does not name: {}",
            shown(&result),
            settings.results.names()
        ))
        .into()),
    }
}

/// The body as JSON; a text is a JSON text.
fn body(format: Format, response: &Response) -> Result<Value, Error> {
    let media = response.header("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let format = match (format, media.as_str()) {
        (Format::ContentType, "application/json") => Format::Json,
        (Format::ContentType, "application/x-www-form-urlencoded") => Format::Form,
        (Format::ContentType, other) => {
            return Err(Error::new(format!(
                "the response's content-type is {:?}: application/json or \
                 application/x-www-form-urlencoded is expected",
                shown(other)
            )));
        }
        (format, _) => format,
    };
    let unreadable = |why: String| Error::new(format!("the response cannot be read: {why}"));
    match format {
        Format::Text => match String::from_utf8(response.body.clone()) {
            Ok(text) => Ok(Value::String(text)),
            Err(_) => Err(unreadable("it is no UTF-8".to_owned())),
        },
        Format::Form => json::parse_form(&response.body).map_err(unreadable),
        Format::Json | Format::ContentType => {
            json::parse(&response.body).map_err(|error| unreadable(format!("no JSON: {error}")))
        }
    }
}

fn refusal(settings: &Settings, default: RefusalReason, body: &Value) -> Result<Refusal, Error> {
    let pointers = &settings.pointers;
    let mut refusal = Refusal::new(default, REFUSED);
    if let Some(field) = find(body, &pointers.reason)? {
        let name = field.text()?;
        match reason(name) {
            Some(reason) => refusal.reason = reason,
            // It is a refusal all the same.
            None => log::warn(&format!(
                "the response's {} is {:?}, none of {}",
                field.pointer,
                shown(name),
                reasons()
            )),
        }
    }
    if let Some(message) = find(body, &pointers.message)? {
        message.text()?.clone_into(&mut refusal.message);
    }
    if let Some(text) = find(body, &pointers.log)? {
        log::info(&format!("the service refuses a device: {:?}", logged(text.text()?)));
    }
    let reference = find(body, &pointers.server_reference)?;
    refusal.server_reference = match reference {
        Some(reference) => Some(reference.text()?.to_owned()),
        None => None,
    };
    Ok(refusal)
}

fn admit(settings: &Settings, peer: &Peer<'_>, body: &Value) -> Result<Verdict, Stop> {
    let pointers = &settings.pointers;
    let mut admission = Admission::new(device_name(settings, peer, body)?);
    if let Some(product) = find(body, &pointers.product)? {
        admission.product = Some(checked_product(&product)?);
    }
    if let Some(field) = find(body, &pointers.attributes)? {
        admission.attributes = attributes(&field)?;
    }
    admission.permissions = permitted(settings, peer, body, &admission.attributes)?;
    admission.expires_in = expiry(settings, body)?;
    let cache_for = match find(body, &pointers.cache_for)? {
        Some(field) => field.seconds()?,
        None => settings.cache_for.as_secs(),
    };
    let cache_for = u32::try_from(cache_for).unwrap_or(u32::MAX);
    // A verdict is not older than what it allows.
    let cache_for = cache_for.min(admission.expires_in.unwrap_or(u32::MAX));
    admission.cache_for = Some(cache_for).filter(|seconds| *seconds > 0);
    Ok(admission.into())
}

fn device_name(settings: &Settings, peer: &Peer<'_>, body: &Value) -> Result<String, Stop> {
    if let Some(field) = find(body, &settings.pointers.device_name)? {
        let name = field.text()?;
        return match is_device_name(name) {
            true => Ok(name.to_owned()),
            false => Err(field.wrong(format!("is {:?}: {DEVICE_NAME_IS}", shown(name))).into()),
        };
    }
    if settings.device_name.is_empty() {
        let pointers = settings.pointers.device_name.join(", ");
        return Err(Error::new(format!(
            "the response has no {pointers}, and the setting `device_name` is empty"
        ))
        .into());
    }
    let name = settings.device_name.fill_plain(peer)?;
    match is_device_name(&name) {
        true => Ok(name),
        false => Err(Refusal::not_authorized(format!(
            "{:?} is no device name: {DEVICE_NAME_IS}; the plugin's setting device_name makes it",
            shown(&name)
        ))
        .into()),
    }
}

fn is_device_name(name: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@.:".contains(&byte);
    DEVICE_NAME_CHARS.contains(&name.len()) && name.bytes().all(is_char)
}

fn checked_product(field: &Field<'_>) -> Result<String, Error> {
    let product = field.text()?;
    match !product.is_empty() && product.len() <= PRODUCT_BYTES_MAX && !product.contains('\0') {
        true => Ok(product.to_owned()),
        false => Err(field.wrong(format!("is not 1 to {PRODUCT_BYTES_MAX} bytes"))),
    }
}

/// The fields of an object; each item of a list is an attribute of the same name.
fn attributes(object: &Field<'_>) -> Result<Vec<(String, String)>, Error> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (name, field) in object.fields()? {
        let values = match field.value {
            Value::Null => Vec::new(),
            Value::Array(_) => field.items()?,
            _ => vec![field],
        };
        for field in values {
            let value = field.scalar()?;
            let bytes = name.len() + value.len();
            if bytes > ATTRIBUTE_BYTES_MAX || name.contains('\0') || value.contains('\0') {
                let what = format!("is above {ATTRIBUTE_BYTES_MAX} bytes, or holds U+0000");
                return Err(field.wrong(what));
            }
            attributes.push((name.to_owned(), value));
        }
    }
    match attributes.len() <= ATTRIBUTES_MAX {
        true => Ok(attributes),
        false => Err(object.wrong(format!("has more than {ATTRIBUTES_MAX} attributes"))),
    }
}

/// `None` for the gateway's own rules.
fn permitted(
    settings: &Settings,
    peer: &Peer<'_>,
    body: &Value,
    attributes: &[(String, String)],
) -> Result<Option<Vec<Permission>>, Stop> {
    let pointers = &settings.pointers;
    if let Some(superuser) = find(body, &pointers.superuser)?
        && superuser.boolean()?
    {
        if settings.superusers {
            let everything = Permission { action: Action::Both, topic_filter: "#".to_owned() };
            return Ok(Some(vec![everything]));
        }
        log::info("the service calls the device a superuser, and the setting superusers is false");
    }
    let list = find(body, &pointers.permissions)?.map(|field| permissions(&field)).transpose()?;
    let Some(field) = find(body, &pointers.acl)? else { return Ok(list) };
    if list.is_some() {
        let pointer = &field.pointer;
        let text = format!("the response has {pointer} and permissions: it needs one of them");
        return Err(Error::new(text).into());
    }
    let acl = acl(&field, |name| match name.strip_prefix("client_attrs.") {
        Some(name) => {
            attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        }
        None => peer.text(Placeholder::CertCommonName).ok().flatten().map(Into::into),
    })?;
    for unsupported in &acl.unsupported {
        let (pointer, why) = (&unsupported.pointer, unsupported.why);
        log::warn(&format!("the response's {pointer} cannot be a permission: {why}"));
    }
    if let Some(first) = acl.unsupported.first()
        && !settings.leaves_out_acl
    {
        let why = format!("the service's {} cannot be a permission here", first.pointer);
        return Err(Refusal::not_authorized(why).into());
    }
    Ok(Some(acl.permissions))
}

/// Seconds until the admission ends, the earlier of what the response says.
fn expiry(settings: &Settings, body: &Value) -> Result<Option<u32>, Stop> {
    let mut expiry: Option<u32> = None;
    if let Some(field) = find(body, &settings.pointers.expires_in)? {
        expiry = Some(u32::try_from(field.seconds()?).unwrap_or(u32::MAX));
    }
    if let Some(field) = find(body, &settings.pointers.expires_at)? {
        let left = field.seconds()?.saturating_sub(unix_seconds());
        // Milliseconds are the usual mistake, and would be an admission without end.
        let left = u32::try_from(left)
            .map_err(|_| field.wrong("is no time in seconds since 1970: it is too far away"))?;
        expiry = Some(left.min(expiry.unwrap_or(u32::MAX)));
    }
    match expiry {
        Some(0) => Err(Refusal::not_authorized("what the service allows has expired").into()),
        expiry => Ok(expiry),
    }
}
