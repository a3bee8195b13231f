//! What a plugin may reach beyond its own memory. A manifest grants it; a component that imports
//! what is not granted is refused before any of its code runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

/// What a plugin may reach.
///
/// Its own `state`, the clock and random numbers come with the contract and can be taken away; the
/// network and the environment are nothing until a manifest names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Requests over HTTP; `None` where no address is granted.
    pub http: Option<HttpPolicy>,
    /// `portreeve:plugin/state`.
    pub state: bool,
    /// `wasi:clocks`.
    pub clock: bool,
    /// `wasi:random`.
    pub random: bool,
    /// What it sees as its environment.
    pub environment: BTreeMap<String, String>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { http: None, state: true, clock: true, random: true, environment: BTreeMap::new() }
    }
}

/// Requests over HTTP that a plugin may make.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpPolicy {
    /// Where to.
    pub grants: Vec<HttpGrant>,
    /// Addresses that a granted name may resolve to although they are not public: private,
    /// loopback and link-local ones.
    pub addresses: Vec<IpNet>,
    /// Time of one request, from asking for it to the end of its response. The deadline of the call
    /// holds beside it.
    pub timeout: Duration,
    /// Time until a connection is there, within `timeout`.
    pub connect_timeout: Duration,
    /// Bytes of the body of one request.
    pub request_bytes_max: usize,
    /// Bytes of the body of one response.
    pub response_bytes_max: usize,
    /// Requests of all instances that run at a time; those beyond wait within `timeout`.
    pub concurrent_max: usize,
    /// Requests during one call of the plugin.
    pub requests_per_call_max: u32,
    /// Redirects that are followed for the guest, each of them checked like a request of its own;
    /// beyond it, the guest gets the response that redirects.
    pub redirects_max: usize,
    /// Certificates (PEM) of authorities that are trusted beside those of the system.
    pub extra_ca: Vec<u8>,
    /// Certificate and key (PEM) that the gateway shows to servers that ask for one.
    pub client_identity: Vec<u8>,
}

impl std::fmt::Debug for HttpPolicy {
    // Less the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPolicy").field("grants", &self.grants).finish_non_exhaustive()
    }
}

impl HttpPolicy {
    /// The defaults, for these addresses.
    #[must_use]
    pub const fn new(grants: Vec<HttpGrant>) -> Self {
        Self {
            grants,
            addresses: Vec::new(),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            request_bytes_max: 256 << 10,
            response_bytes_max: 256 << 10,
            concurrent_max: 64,
            requests_per_call_max: 8,
            redirects_max: 0,
            extra_ca: Vec::new(),
            client_identity: Vec::new(),
        }
    }

    /// Whether a request may go there, by what stands in it.
    pub(crate) fn permits(&self, url: &Url) -> bool {
        self.grants.iter().any(|grant| grant.permits(url))
    }

    /// Whether any of it is over TLS.
    pub(crate) fn wants_tls(&self) -> bool {
        self.grants.iter().any(|grant| grant.scheme == "https")
    }

    /// Whether a name may lead to this address: a public one, one that the manifest names, or a
    /// loopback address of `localhost`, which is what that name says.
    pub(crate) fn permits_address(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_local = host == "localhost" || host.ends_with(".localhost");
        is_public(address)
            || self.addresses.iter().any(|network| network.contains(&address))
            || (is_local && address.is_loopback())
    }
}

/// A part of the web: `https://auth.example.com/verify` is this path and what lies below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    scheme: String,
    host: Host,
    port: u16,
    path: String,
}

/// Why a text grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It cannot be read.
    #[error("is no URL: {0}")]
    Url(#[from] url::ParseError),
    /// It is for something else.
    #[error("begins with {0:?}; plugins reach https and http only")]
    Scheme(String),
    /// It has user name, password, query or fragment.
    #[error("grants scheme, host, port and path; take {0} out")]
    TooMuch(&'static str),
}

impl FromStr for HttpGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let url = Url::parse(text)?;
        let scheme = url.scheme();
        let (true, Some(host), Some(port)) =
            (is_http(&url), url.host(), url.port_or_known_default())
        else {
            return Err(GrantError::Scheme(scheme.to_owned()));
        };
        if has_credentials(&url) {
            return Err(GrantError::TooMuch("user name and password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(GrantError::TooMuch("query and fragment"));
        }
        let path = url.path().to_owned();
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), port, path })
    }
}

impl HttpGrant {
    /// `url` is in its normal form: lower-case host, no dot segments.
    fn permits(&self, url: &Url) -> bool {
        let below = url.path().strip_prefix(&self.path);
        // `/verify` is not `/verify-admin`.
        let is_below = below.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')
        });
        is_below
            && url.scheme() == self.scheme
            && url.host().is_some_and(|host| host.to_owned() == self.host)
            && url.port_or_known_default() == Some(self.port)
            && (self.path == "/" || !hides_segments(url.path()))
    }
}

pub(crate) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "http")
}

pub(crate) fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether a server could see another path in this one, by which it leaves its prefix: slashes and dots
/// that are encoded, also twice, and parameters of a segment, which some servers cut off.
fn hides_segments(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    if ["%2f", "%5c", "%25", "%00", "\\"].iter().any(|hidden| path.contains(hidden)) {
        return true;
    }
    let path = path.replace("%2e", ".").replace("%3b", ";");
    path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

/// Whether an address belongs to the public internet, by the registries of special-purpose
/// addresses (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                // Shared address space (RFC 6598), protocol assignments, benchmarks, reserved.
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                // Relays of 6to4 (RFC 7526).
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (18..20).contains(&b))
                || a >= 240)
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            let [first, second, ..] = segments;
            let [.., upper, lower] = segments;
            let embedded = |upper: u16, lower: u16| {
                let [a, b] = upper.to_be_bytes();
                let [c, d] = lower.to_be_bytes();
                is_public(IpAddr::from([a, b, c, d]))
            };
            match (first, second) {
                // An IPv4 address in another dress: NAT64 (RFC 6052) and 6to4 (RFC 3056).
                (0x64, 0xff9b) => segments.get(2..6) == Some(&[0; 4]) && embedded(upper, lower),
                (0x2002, _) => embedded(second, segments.get(2).copied().unwrap_or(0)),
                // Teredo, benchmarks, ORCHID, documentation.
                (0x2001, 0..0x200 | 0xdb8) | (0x3fff, 0..0x1000) => false,
                // Everything else that is not global unicast is local, multicast or reserved.
                _ => first & 0xe000 == 0x2000,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(grants: &[&str]) -> HttpPolicy {
        HttpPolicy::new(grants.iter().map(|grant| grant.parse().unwrap()).collect())
    }

    fn permits(grant: &str, url: &str) -> bool {
        policy(&[grant]).permits(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_grant_is_scheme_host_port_and_path_prefix() {
        let grant = "https://Auth.Example.com/verify";
        for url in [
            "https://auth.example.com/verify",
            "https://auth.example.com:443/verify",
            "https://AUTH.example.com/verify?device=1",
            "https://auth.example.com/verify/v2",
            "https://auth.example.com/other/../verify",
        ] {
            assert!(permits(grant, url), "{url}");
        }
        for url in [
            "http://auth.example.com/verify",
            "https://auth.example.com:8443/verify",
            "https://auth.example.com/",
            "https://auth.example.com/verify-admin",
            "https://auth.example.com/Verify",
            "https://auth.example.com/verify/../admin",
            "https://auth.example.com/verify/%2e%2e/admin",
            "https://auth.example.com/verify/..%2fadmin",
            "https://auth.example.com/verify/..%5Cadmin",
            "https://auth.example.com/verify/..;/admin",
            "https://auth.example.com/verify/%2e%2e;a=b/admin",
            "https://auth.example.com/verify/..%3Bx/admin",
            "https://auth.example.com/verify/%252e%252e/admin",
            "https://auth.example.com./verify",
            "https://auth.example.com.evil.test/verify",
            "https://evil.test/verify",
            "https://auth.example.com@evil.test/verify",
        ] {
            assert!(!permits(grant, url), "{url}");
        }
        assert!(permits("http://127.0.0.1:8080", "http://0x7f.1:8080/any/%2f"));
        assert!(permits("https://a.test/api/", "https://a.test/api/x"));
        assert!(!permits("https://a.test/api/", "https://a.test/apix"));
        assert!(permits("https://[2001:db8::1]/", "https://[2001:db8:0::1]/x"));
    }

    #[test]
    fn what_is_no_grant_says_why() {
        let error = |text: &str| text.parse::<HttpGrant>().unwrap_err().to_string();
        assert!(error("auth.example.com").contains("no URL"));
        assert!(error("ftp://auth.example.com/").contains("\"ftp\""));
        assert!(error("file:///etc/passwd").contains("\"file\""));
        assert!(error("https://u:p@a.test/").contains("password"));
        assert!(error("https://a.test/?x=1").contains("query"));
    }

    #[test]
    fn addresses_that_are_not_public_have_to_be_named() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let policy = policy(&["https://a.test/"]);
        for local in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:a00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!policy.permits_address("a.test", address(local)), "{local}");
        }
        for public in ["1.1.1.1", "192.0.1.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808"]
        {
            assert!(policy.permits_address("a.test", address(public)), "{public}");
        }
        assert!(policy.permits_address("localhost", address("127.0.0.1")));
        assert!(policy.permits_address("auth.localhost", address("::1")));
        assert!(!policy.permits_address("localhost", address("10.0.0.1")));
        assert!(!policy.permits_address("notlocalhost", address("127.0.0.1")));
    }

    #[test]
    fn named_addresses_may_be_reached() {
        let mut policy = policy(&["https://a.test/"]);
        policy.addresses = vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()];
        let permits = |text: &str| policy.permits_address("a.test", text.parse().unwrap());
        assert!(permits("10.1.2.3") && permits("::ffff:10.1.2.3") && permits("::1"));
        assert!(!permits("10.2.0.1") && !permits("127.0.0.1"));
    }
}
