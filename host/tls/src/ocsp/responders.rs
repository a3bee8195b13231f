//! Which responders are asked. URLs in certificates come from strangers: they are asked only where
//! the operator allows their host, while what the operator configures is asked as it is.

use std::collections::HashMap;
use std::sync::Arc;

use url::Url;

use super::Unavailable;
use crate::Certificate;
use crate::certificate::AuthorityId;

/// Bytes of a URL in a certificate that is looked at.
const URL_BYTES_MAX: usize = 2000;
/// Responders of one certificate that are asked.
const URLS_MAX: usize = 4;

/// A host and port that may be asked although only a certificate names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowedHost {
    host: String,
    port: u16,
}

/// Why a text is no host, or no URL of a responder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponderError {
    /// Not `host` or `host:port`.
    #[error("{0:?} is no host with an optional port")]
    Host(String),
    /// Not an absolute URL.
    #[error("{0:?} is no URL: {1}")]
    Url(String, url::ParseError),
    /// Something else than HTTP.
    #[error("{0:?} does not begin with http:// or https://")]
    Scheme(String),
    /// A password would be sent, and logged.
    #[error("the URL has a user name or a password")]
    Credentials,
}

impl AllowedHost {
    /// Reads `host` or `host:port`; the port of HTTP where it is left out. Brackets around IPv6.
    ///
    /// # Errors
    /// [`ResponderError::Host`].
    pub fn parse(text: &str) -> Result<Self, ResponderError> {
        let refused = || ResponderError::Host(text.to_owned());
        if text.contains(['/', '@', '?', '#', '\\']) {
            return Err(refused());
        }
        let url = Url::parse(&format!("http://{text}/")).map_err(|_| refused())?;
        Self::of(&url).ok_or_else(refused)
    }

    fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.to_owned();
        let port = url.port_or_known_default()?;
        Some(Self { host, port })
    }
}

/// Reads the URL of a responder that the operator configures.
///
/// # Errors
/// [`ResponderError`].
pub fn configured_url(text: &str) -> Result<Url, ResponderError> {
    let url = Url::parse(text).map_err(|error| ResponderError::Url(text.to_owned(), error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ResponderError::Scheme(text.to_owned()));
    }
    if has_credentials(&url) {
        return Err(ResponderError::Credentials);
    }
    Ok(url)
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Who is asked for whom.
#[derive(Debug, Clone, Default)]
pub struct Responders {
    everybody: Option<Url>,
    by_issuer: HashMap<AuthorityId, Url>,
    allowed_hosts: Vec<AllowedHost>,
}

impl Responders {
    /// `everybody`: instead of what certificates name. `by_issuer`: for certificates of one issuer,
    /// before anything else. `allowed_hosts`: of URLs in certificates.
    #[must_use]
    pub fn new(
        everybody: Option<Url>,
        by_issuer: impl IntoIterator<Item = (Arc<Certificate>, Url)>,
        allowed_hosts: Vec<AllowedHost>,
    ) -> Self {
        let by_issuer =
            by_issuer.into_iter().map(|(issuer, url)| (issuer.authority_id(), url)).collect();
        Self { everybody, by_issuer, allowed_hosts }
    }

    /// Whether a configured one is asked with TLS.
    pub(super) fn wants_tls(&self) -> bool {
        self.everybody.iter().chain(self.by_issuer.values()).any(|url| url.scheme() == "https")
    }

    /// The responders to ask for a certificate, one after the other.
    pub(super) fn urls(
        &self,
        issuer: &Certificate,
        certificate: &Certificate,
    ) -> Result<Vec<Url>, Unavailable> {
        let configured = if self.by_issuer.is_empty() {
            None
        } else {
            self.by_issuer.get(&issuer.authority_id())
        };
        if let Some(url) = configured.or(self.everybody.as_ref()) {
            return Ok(vec![url.clone()]);
        }
        if certificate.ocsp_urls.is_empty() {
            return Err(Unavailable::NoResponder);
        }
        let allowed = certificate.ocsp_urls.iter().filter_map(|text| self.allowed(text));
        let urls: Vec<Url> = allowed.take(URLS_MAX).collect();
        if urls.is_empty() { Err(Unavailable::NotAllowed) } else { Ok(urls) }
    }

    /// The URL, if a certificate may name it.
    fn allowed(&self, text: &str) -> Option<Url> {
        if text.len() > URL_BYTES_MAX {
            return None;
        }
        let mut url = Url::parse(text).ok()?;
        if url.scheme() != "http" || has_credentials(&url) {
            return None;
        }
        let host = AllowedHost::of(&url)?;
        url.set_fragment(None);
        self.allowed_hosts.contains(&host).then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responders(hosts: &[&str]) -> Responders {
        let hosts = hosts.iter().map(|host| AllowedHost::parse(host).unwrap()).collect();
        Responders::new(None, [], hosts)
    }

    #[test]
    fn a_certificate_cannot_send_the_gateway_where_it_was_not_allowed() {
        let responders = responders(&["OCSP.example.com", "127.0.0.1:19081", "[::1]:80"]);
        for allowed in [
            "http://ocsp.example.com/",
            "http://OCSP.EXAMPLE.COM:80/ocsp",
            "http://127.0.0.1:19081/",
            "http://[::1]/x",
        ] {
            assert!(responders.allowed(allowed).is_some(), "{allowed}");
        }
        let long = format!("http://ocsp.example.com/{}", "a".repeat(URL_BYTES_MAX));
        for refused in [
            "https://ocsp.example.com/",
            "ldap://ocsp.example.com/",
            "file:///etc/passwd",
            "http://169.254.169.254/latest",
            "http://ocsp.example.com@169.254.169.254/",
            "http://user@ocsp.example.com/",
            "http://user:secret@ocsp.example.com/",
            "http://ocsp.example.com.evil.test/",
            "http://ocsp.example.com:81/",
            "http://127.0.0.1/",
            "http://[::2]/",
            "//ocsp.example.com/",
            &long,
        ] {
            assert!(responders.allowed(refused).is_none(), "{refused}");
        }
    }

    #[test]
    fn hosts_and_urls_that_are_none_are_refused() {
        for text in ["", "http://a/", "a/b", "u@a", "a:99999", "a b"] {
            assert!(AllowedHost::parse(text).is_err(), "{text}");
        }
        assert!(configured_url("https://a.test/ocsp").is_ok());
        for text in ["ftp://a/", "a.test", "http://u:p@a/"] {
            assert!(configured_url(text).is_err(), "{text}");
        }
    }
}
