//! The URL of a request: a fixed server, and a path and query with placeholders.

use std::borrow::Cow;

use portreeve_guest::{Error, Refusal};

use crate::body::fill_form;
use crate::placeholder::{Peer, Placeholder};
use crate::source::wrong;
use crate::stop::bad_credentials;
use crate::template::{Names, Template, percent_encoded};

/// Bytes of a filled URL; servers take 8 KiB at most as a rule.
const URL_BYTES_MAX: usize = 8 << 10;

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Scheme and host: no device has a say in them.
    server: String,
    path: Template,
    query: Option<Template>,
    /// The fields of a GET that has no body.
    fields: Vec<(String, Template)>,
}

impl Target {
    /// Takes the setting `url` apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(
        url: &str,
        fields: Vec<(String, Template)>,
        names: &Names<'_>,
    ) -> Result<Self, Error> {
        let fix = "write \"https://auth.example.com/verify\"";
        let is_http = |scheme: &str| matches!(scheme, "https" | "http");
        let (scheme, rest) = url
            .split_once("://")
            .filter(|(scheme, _)| is_http(scheme))
            .ok_or_else(|| wrong("url", format!("is {url:?}"), fix))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, rest) = rest.split_at(end);
        if host.is_empty() || host.contains(['@', '\\', '$', '{']) || rest.contains('#') {
            let what = "has no fixed host, or a user name, a password or a fragment";
            return Err(wrong("url", what, fix));
        }
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| {
            (path, Some(query).filter(|query| !query.is_empty()))
        });
        let template = |text| Template::parse("url", text, names)?.text_only("url");
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            server: format!("{scheme}://{host}"),
            path: template(path)?,
            query: query.map(template).transpose()?,
            fields,
        })
    }

    /// Whether a placeholder stands in it.
    pub(crate) fn uses(&self, placeholder: Placeholder) -> bool {
        let mut templates = self.query.iter().chain(self.fields.iter().map(|(_, value)| value));
        self.path.uses(placeholder) || templates.any(|template| template.uses(placeholder))
    }

    /// The URL for a device.
    ///
    /// # Errors
    /// A refusal, where a value would lead elsewhere or is too long.
    pub(crate) fn fill(&self, peer: &Peer<'_>) -> Result<String, Refusal> {
        let mut url = self.server.clone();
        url.push_str(&self.path.fill(peer, in_path)?);
        let mut separator = '?';
        if let Some(query) = &self.query {
            url.push(separator);
            url.push_str(&query.fill(peer, |value| Ok(percent_encoded(&value)))?);
            separator = '&';
        }
        if !self.fields.is_empty() {
            url.push(separator);
            url.push_str(&fill_form(&self.fields, peer)?);
        }
        if url.len() > URL_BYTES_MAX {
            let why = "client identifier, user name or password is too long for the service's URL";
            return Err(bad_credentials(why));
        }
        Ok(url)
    }
}

/// The gateway makes no request whose path could be read as another one, and a segment of dots, or
/// none at all, is a way through the path.
fn in_path(value: Cow<'_, str>) -> Result<String, Refusal> {
    let is_way = value.bytes().all(|byte| byte == b'.');
    match is_way || value.contains(['/', '\\', '%', ';', '\0']) {
        true => Err(misplaced()),
        false => Ok(percent_encoded(&value)),
    }
}

fn misplaced() -> Refusal {
    bad_credentials("client identifier or user name cannot stand in the path of the service's URL")
}

#[cfg(test)]
mod tests {
    use portreeve_guest::testing::connect;
    use serde_json::json;

    use super::*;
    use crate::body::form;

    const NAMES: Names<'static> = Names { setting: &|_| None, is_emqx: false };

    fn url(template: &str, client_id: &str) -> Option<String> {
        let connect = connect(client_id).build();
        let target = Target::parse(template, Vec::new(), &NAMES).unwrap();
        target.fill(&Peer { connect: &connect, product: "" }).ok()
    }

    #[test]
    fn values_stay_in_their_place() {
        let query = "https://a.example/v?c=${client_id}&x=1";
        assert_eq!(
            url(query, "b&x=2#/../é").as_deref(),
            Some("https://a.example/v?c=b%26x%3D2%23%2F..%2F%C3%A9&x=1")
        );
        let path = "https://a.example/v/${client_id}/state";
        assert_eq!(url(path, "c 1?").as_deref(), Some("https://a.example/v/c%201%3F/state"));
        assert_eq!(url("https://a/v/${client_id}/", "c.1").as_deref(), Some("https://a/v/c.1/"));
        for elsewhere in ["", ".", "..", "a/b", "a\\b", "%2e%2e", "..;x", "\0"] {
            assert_eq!(url(path, elsewhere), None, "{elsewhere:?}");
        }
        assert_eq!(url("https://a.example", "c").as_deref(), Some("https://a.example/"));
        assert_eq!(url(query, &"x".repeat(URL_BYTES_MAX)), None);
    }

    #[test]
    fn fields_of_a_get_follow_the_query() {
        let fields = json!({"u": "${user_name}", "c": "${client_id}"});
        let fields = || form("body", fields.as_object().unwrap(), &NAMES).unwrap();
        let connect = connect("c=1").user_name("u").build();
        let filled = |url| {
            let target = Target::parse(url, fields(), &NAMES).unwrap();
            target.fill(&Peer { connect: &connect, product: "" }).unwrap()
        };
        assert_eq!(filled("http://a/v"), "http://a/v?u=u&c=c%3D1");
        assert_eq!(filled("http://a/v?k=1"), "http://a/v?k=1&u=u&c=c%3D1");
    }

    #[test]
    fn the_server_is_fixed() {
        for wrong in [
            "",
            "auth.example.com",
            "ftp://a/",
            "https://",
            "https://${client_id}.example.com/",
            "https://u:p@a/",
            "https://a/#x",
            "https://a/${zone}",
            "https://a/${certificate}",
        ] {
            let said = Target::parse(wrong, Vec::new(), &NAMES).unwrap_err().to_string();
            assert!(said.contains("`url`"), "{wrong}: {said}");
        }
    }
}
