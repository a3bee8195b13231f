//! The request that asks the service about a device.

use portreeve_guest::http::Request;
use portreeve_guest::{Error, Refusal};

use crate::ask::unix_seconds;
use crate::body::fill_form;
use crate::placeholder::Peer;
use crate::settings::{Body, SIGNATURE_HEADERS, Settings};
use crate::sign::{Signer, new_id};
use crate::stop::{Stop, bad_credentials};
use crate::template::{Template, percent_encoded};

/// Bytes of one header's value; servers take 8 KiB at most as a rule.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// The request about a device, less its signature.
///
/// # Errors
/// A refusal, where what the device says cannot stand where the settings put it.
pub(crate) fn request(settings: &Settings, peer: &Peer<'_>) -> Result<Request, Stop> {
    for (name, placeholder) in &settings.required {
        if peer.text(*placeholder)?.is_none_or(|text| text.is_empty()) {
            return Err(bad_credentials(format!("there is no {name}")).into());
        }
    }
    let mut request = Request::new(&settings.method, settings.target.fill(peer)?);
    for (name, template) in &settings.headers {
        let value = header(name, template, peer)?;
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    Ok(request.body(body(settings, peer)?))
}

fn body(settings: &Settings, peer: &Peer<'_>) -> Result<Vec<u8>, Stop> {
    Ok(match &settings.body {
        Body::None => Vec::new(),
        Body::Json(template) => template.fill(peer, settings.absent)?,
        Body::Form(fields) => fill_form(fields, peer)?.into_bytes(),
        Body::FormText(template) => {
            template.fill(peer, |value| Ok(percent_encoded(&value)))?.into_bytes()
        }
    })
}

/// A header takes a text without control characters, and servers cut spaces off its ends
/// (RFC 9110 §5.5): a value that has them would be read as another.
fn header(name: &str, template: &Template, peer: &Peer<'_>) -> Result<String, Refusal> {
    let value = template.fill_plain(peer)?;
    let is_cut = value.starts_with(' ') || value.ends_with(' ');
    if value.contains(|c: char| c.is_control()) || is_cut || value.len() > HEADER_BYTES_MAX {
        return Err(bad_credentials(format!(
            "what the device says cannot stand in the header {name} of the request"
        )));
    }
    Ok(value)
}

/// A request that may be sent more than once.
pub(crate) struct Question<'a> {
    request: &'a Request,
    /// Who signs it, and the identifier that it keeps, however often it is asked.
    signer: Option<(&'a Signer, String)>,
}

impl<'a> Question<'a> {
    /// A question that is signed where the settings say so.
    ///
    /// # Errors
    /// Where the gateway gives no random numbers.
    pub(crate) fn new(settings: &'a Settings, request: &'a Request) -> Result<Self, Error> {
        let signer = settings.signer.as_ref().map(|signer| Ok::<_, Error>((signer, new_id()?)));
        Ok(Self { request, signer: signer.transpose()? })
    }

    /// The request, with the headers of a signature made now.
    ///
    /// # Errors
    /// None that happens.
    pub(crate) fn request(&self) -> Result<Request, Error> {
        let request = self.request.clone();
        let Some((signer, id)) = &self.signer else { return Ok(request) };
        let timestamp = unix_seconds();
        let signature = signer.signature(id, timestamp, &request.body)?;
        let [id_name, timestamp_name, signature_name] = SIGNATURE_HEADERS;
        Ok(request
            .header(id_name, id.as_str())
            .header(timestamp_name, timestamp.to_string())
            .header(signature_name, signature))
    }
}
