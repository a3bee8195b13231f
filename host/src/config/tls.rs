//! `[certificates]` and `[gateway.tls]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::reader::Section;
use super::{GatewayConfig, VerificationConfig};
use crate::peer::CertificateField;

/// TLS of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    pub(crate) is_modern: bool,
    pub(crate) is_strict: bool,
    /// ALPN, best first.
    pub(crate) protocols: Vec<String>,
    /// Clients that offer other protocols only.
    pub(crate) refuses_other_protocols: bool,
    pub(crate) handshake_timeout: Duration,
    /// An own certificate that has expired does not serve.
    pub(crate) refuses_expired: bool,
    pub(crate) resumes: bool,
    pub(crate) certificates: Vec<OwnCertificate>,
    pub(crate) client: Option<ClientConfig>,
}

/// `[[gateway.tls.certificate]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnCertificate {
    pub(crate) source: OwnSource,
    pub(crate) is_stapled: bool,
    /// Instead of the one that the certificate names.
    pub(crate) responder: Option<Url>,
}

/// Where an own certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnSource {
    Files {
        chain: PathBuf,
        key: PathBuf,
        password: Option<PathBuf>,
    },
    /// One of the managed certificates, by name.
    Managed(String),
}

/// `[gateway.tls.client]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientConfig {
    pub(crate) is_required: bool,
    pub(crate) trust_anchors: Vec<FileSource>,
    pub(crate) partial_chain: bool,
    pub(crate) user_name: Option<CertificateField>,
    pub(crate) client_id: Option<CertificateField>,
    pub(crate) revocation: RevocationConfig,
}

/// Where certificates of authorities, or a CRL, are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileSource {
    File(PathBuf),
    /// A managed one, by name.
    Managed(String),
}

/// What is asked about the revocation of devices' certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RevocationConfig {
    pub(crate) order: Vec<RevocationSource>,
    pub(crate) checks_chain: bool,
    pub(crate) recheck_interval: Duration,
    pub(crate) ocsp: OcspConfig,
    pub(crate) crl: CrlConfig,
}

/// Who says whether a certificate was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RevocationSource {
    Ocsp,
    Crl,
}

/// What becomes of a device about which a source says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RevocationMode {
    /// It is not asked.
    Off,
    /// It is let in.
    Soft,
    /// It is refused.
    Hard,
}

/// Whether a request has a nonce, and its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NonceConfig {
    Off,
    Optional,
    Required,
}

/// `[gateway.tls.client.ocsp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OcspConfig {
    pub(crate) mode: RevocationMode,
    pub(crate) responder: Option<Url>,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) posts: bool,
    pub(crate) is_sha256: bool,
    pub(crate) nonce: NonceConfig,
    pub(crate) timeout: Duration,
    pub(crate) accepts_unknown: bool,
    pub(crate) refuses_without_nocheck: bool,
    pub(crate) without_next_update: Duration,
    pub(crate) cache_max: Duration,
    pub(crate) clock_skew: Duration,
    pub(crate) concurrent_max: usize,
    /// Certificates of authorities with the responders for what they issued.
    pub(crate) issuers: Vec<(PathBuf, Url)>,
}

/// `[gateway.tls.client.crl]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CrlConfig {
    pub(crate) mode: RevocationMode,
    pub(crate) files: Vec<FileSource>,
    pub(crate) urls: Vec<Url>,
    pub(crate) refresh: Duration,
    pub(crate) bytes_max: u64,
}

impl Default for RevocationConfig {
    fn default() -> Self {
        Self {
            order: vec![RevocationSource::Ocsp, RevocationSource::Crl],
            checks_chain: false,
            recheck_interval: Duration::from_mins(1),
            ocsp: OcspConfig {
                mode: RevocationMode::Off,
                responder: None,
                allowed_hosts: Vec::new(),
                posts: false,
                is_sha256: false,
                nonce: NonceConfig::Off,
                timeout: Duration::from_secs(2),
                accepts_unknown: false,
                refuses_without_nocheck: false,
                without_next_update: Duration::from_hours(1),
                cache_max: Duration::from_hours(1),
                clock_skew: Duration::from_mins(5),
                concurrent_max: 32,
                issuers: Vec::new(),
            },
            crl: CrlConfig {
                mode: RevocationMode::Off,
                files: Vec::new(),
                urls: Vec::new(),
                refresh: Duration::from_hours(1),
                bytes_max: 16 << 20,
            },
        }
    }
}

/// Own certificates of one gateway.
const CERTIFICATES_MAX: usize = 1_000;
const MODES: [(&str, RevocationMode); 3] =
    [("off", RevocationMode::Off), ("soft", RevocationMode::Soft), ("hard", RevocationMode::Hard)];
const ON_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];
const FIELDS: [(&str, CertificateField); 7] = [
    ("common-name", CertificateField::CommonName),
    ("dns-name", CertificateField::DnsName),
    ("uri", CertificateField::Uri),
    ("email-address", CertificateField::EmailAddress),
    ("serial-number", CertificateField::SerialNumber),
    ("fingerprint", CertificateField::Fingerprint),
    ("subject", CertificateField::Subject),
];

impl TlsConfig {
    /// Reads `[gateway.tls]`.
    pub(super) fn from_section(section: &Section<'_>, folder: &Path) -> Self {
        let profiles = [("modern", true), ("intermediate", false)];
        let names = [("strict", true), ("default", false)];
        let expired = [("refuse", true), ("alarm", false)];
        let mismatches = [("refuse", true), ("ignore", false)];
        let mut handshake_timeout = Duration::from_secs(5);
        let least = Duration::from_millis(100);
        section.duration_into("handshake_timeout", &mut handshake_timeout, least);
        let mut resumes = true;
        section.boolean_into("resumption", &mut resumes);
        let tables = section.tables("certificate");
        let certificates: Vec<OwnCertificate> = tables
            .iter()
            .filter_map(|certificate| OwnCertificate::from_section(certificate, folder))
            .collect();
        if tables.is_empty() {
            section.problem_here(
                "has no certificate",
                "add a [[gateway.tls.certificate]] with chain = \"gw.crt\" and key = \"gw.key\"",
            );
        }
        if tables.len() > CERTIFICATES_MAX {
            section.problem(
                "certificate",
                format!("is there more than {CERTIFICATES_MAX} times"),
                "",
            );
        }
        let protocols = section.strings("alpn").unwrap_or_else(|| vec!["mqtt".to_owned()]);
        for protocol in &protocols {
            if protocol.is_empty() || protocol.len() > 255 {
                let hint = "write [\"mqtt\"], or [] to take every protocol that a client asks for";
                section.problem("alpn", format!("{protocol:?} is no protocol name"), hint);
            }
        }
        let tls = Self {
            is_modern: section.choice("profile", &profiles).unwrap_or(false),
            is_strict: section.choice("sni", &names).unwrap_or(false),
            protocols,
            refuses_other_protocols: section.choice("alpn_mismatch", &mismatches).unwrap_or(false),
            handshake_timeout,
            refuses_expired: section.choice("expired", &expired).unwrap_or(false),
            resumes,
            certificates,
            client: section
                .table("client")
                .map(|client| ClientConfig::from_section(&client, folder)),
        };
        section.finish();
        tls
    }

    /// Whether it names a managed certificate of this kind.
    pub(super) fn names(&self, kind: &str, name: &str) -> bool {
        let is_it = |source: &FileSource| *source == FileSource::Managed(name.to_owned());
        let own = |own: &OwnCertificate| own.source == OwnSource::Managed(name.to_owned());
        let client = self.client.as_ref();
        match kind {
            "server" => self.certificates.iter().any(own),
            "ca" => client.is_some_and(|client| client.trust_anchors.iter().any(is_it)),
            _ => client.is_some_and(|client| client.revocation.crl.files.iter().any(is_it)),
        }
    }

    /// Whether listeners and TLS of a gateway belong together.
    pub(super) fn check(section: &Section<'_>, gateway: &GatewayConfig) {
        let client = gateway.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let is_open = gateway.verification == Some(VerificationConfig::Open);
        let names =
            client.filter(|client| client.user_name.is_some() || client.client_id.is_some());
        if is_open && names.is_some_and(|client| !client.is_required) {
            section.problem(
                "tls",
                "takes names from certificates that devices need not have, and lets everybody in",
                "a device without certificate could take the name of another: write mode = \"required\" in [gateway.tls.client]",
            );
        }
        let wants = gateway.listeners.iter().any(|listener| listener.kind.is_tls());
        match (wants, gateway.tls.is_some()) {
            (true, false) => section.problem_here(
                "has a listener of kind tls or wss, and no [gateway.tls]",
                "add [gateway.tls] with a [[gateway.tls.certificate]]",
            ),
            (false, true) => section.problem(
                "tls",
                "has no effect: no listener of the gateway is of kind tls or wss",
                "write kind = \"tls\" in a [[gateway.listener]]",
            ),
            _ => {}
        }
    }
}

impl OwnCertificate {
    /// What operators call it: the name of a managed certificate, or its chain's file without ending.
    pub(crate) fn name(&self) -> String {
        match &self.source {
            OwnSource::Managed(name) => name.clone(),
            OwnSource::Files { chain, .. } => {
                chain.file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
        }
    }

    fn from_section(section: &Section<'_>, folder: &Path) -> Option<Self> {
        let name = section.string("name");
        let chain = section.string("chain").map(|path| folder.join(path));
        let key = section.string("key").map(|path| folder.join(path));
        let password = section.string("key_password_file").map(|path| folder.join(path));
        let is_stapled = section.choice("stapling", &ON_OFF).unwrap_or(true);
        let responder = url(section, "responder");
        section.finish();
        let source = match (name, chain, key) {
            (Some(name), None, None) => OwnSource::Managed(name),
            (None, Some(chain), Some(key)) => OwnSource::Files { chain, key, password },
            _ => {
                section.problem_here(
                    "names no certificate",
                    "write chain and key (files), or name (a managed certificate), not both",
                );
                return None;
            }
        };
        Some(Self { source, is_stapled, responder })
    }
}

impl ClientConfig {
    fn from_section(section: &Section<'_>, folder: &Path) -> Self {
        let modes = [("required", true), ("optional", false)];
        let mut partial_chain = false;
        section.boolean_into("partial_chain", &mut partial_chain);
        let trust_anchors = sources(section, "trust_anchors", folder);
        if trust_anchors.is_empty() {
            section.problem(
                "trust_anchors",
                "names nobody",
                "write trust_anchors = [\"ca.crt\"]: who issues the certificates of devices",
            );
        }
        let mut revocation = RevocationConfig::default();
        if let Some(table) = section.table("revocation") {
            revocation.read(&table);
        }
        if let Some(table) = section.table("crl") {
            revocation.crl.read(&table, folder);
        }
        if let Some(table) = section.table("ocsp") {
            let has_crl = revocation.crl.mode != RevocationMode::Off;
            revocation.ocsp.read(&table, folder, has_crl);
        }
        let client = Self {
            is_required: section.choice("mode", &modes).unwrap_or(true),
            trust_anchors,
            partial_chain,
            user_name: section.choice("user_name", &FIELDS),
            client_id: section.choice("client_id", &FIELDS),
            revocation,
        };
        section.finish();
        client
    }
}

impl RevocationConfig {
    fn read(&mut self, section: &Section<'_>) {
        if let Some(words) = section.strings("order") {
            let mut order = Vec::new();
            for word in words {
                match word.as_str() {
                    "ocsp" => order.push(RevocationSource::Ocsp),
                    "crl" => order.push(RevocationSource::Crl),
                    _ => section.problem(
                        "order",
                        format!("{word:?} is not known"),
                        "write [\"ocsp\", \"crl\"] or [\"crl\", \"ocsp\"]",
                    ),
                }
            }
            if order.len() != 2 || order.first() == order.last() {
                section.problem(
                    "order",
                    "has to name both, once",
                    "the mode says whether one is used",
                );
            } else {
                self.order = order;
            }
        }
        let depths = [("chain", true), ("end-entity", false)];
        self.checks_chain = section.choice("depth", &depths).unwrap_or(false);
        section.duration_into(
            "recheck_interval",
            &mut self.recheck_interval,
            Duration::from_millis(100),
        );
        section.finish();
    }
}

impl OcspConfig {
    fn read(&mut self, section: &Section<'_>, folder: &Path, has_crl: bool) {
        self.mode = section.choice("mode", &MODES).unwrap_or(RevocationMode::Off);
        self.responder = url(section, "responder");
        self.allowed_hosts = section.strings("allowed_hosts").unwrap_or_default();
        for host in &self.allowed_hosts {
            let parsed = Url::parse(&format!("http://{host}/"));
            let is_host = parsed.is_ok_and(|url| {
                url.path() == "/" && url.username().is_empty() && url.query().is_none()
            });
            if !is_host {
                let hint = "write \"ocsp.example.com\" or \"10.1.2.3:8080\"";
                section.problem("allowed_hosts", format!("{host:?} is no host"), hint);
            }
        }
        let methods = [("get", false), ("post", true)];
        self.posts = section.choice("method", &methods).unwrap_or(false);
        let hashes = [("sha1", false), ("sha256", true)];
        self.is_sha256 = section.choice("certid_hash", &hashes).unwrap_or(false);
        let nonces = [
            ("off", NonceConfig::Off),
            ("optional", NonceConfig::Optional),
            ("required", NonceConfig::Required),
        ];
        self.nonce = section.choice("nonce", &nonces).unwrap_or(NonceConfig::Off);
        let answers = [("accept", true), ("refuse", false)];
        self.accepts_unknown = section.choice("unknown", &answers).unwrap_or(false);
        self.refuses_without_nocheck =
            !section.choice("delegate_without_nocheck", &answers).unwrap_or(true);
        let second = Duration::from_secs(1);
        section.duration_into("timeout", &mut self.timeout, Duration::from_millis(50));
        section.duration_into("without_next_update", &mut self.without_next_update, second);
        section.duration_into("cache_max", &mut self.cache_max, second);
        section.duration_into("clock_skew", &mut self.clock_skew, Duration::ZERO);
        section.integer_into("concurrent", &mut self.concurrent_max, 1..=10_000);
        for issuer in section.tables("issuer") {
            let certificate = issuer.required_string("certificate", "int.crt");
            let responder = url(&issuer, "responder");
            if responder.is_none() {
                issuer.problem("responder", "is missing", "write the URL of its responder");
            }
            issuer.finish();
            self.issuers.extend(certificate.map(|path| folder.join(path)).zip(responder));
        }
        let asks_nobody =
            self.responder.is_none() && self.allowed_hosts.is_empty() && self.issuers.is_empty();
        if self.mode != RevocationMode::Off && asks_nobody && !has_crl {
            section.problem_here(
                "may ask nobody",
                "name the hosts of certificates' responders in allowed_hosts, or a responder: URLs in certificates are written by others",
            );
        }
        section.finish();
    }
}

impl CrlConfig {
    fn read(&mut self, section: &Section<'_>, folder: &Path) {
        self.mode = section.choice("mode", &MODES).unwrap_or(RevocationMode::Off);
        self.files = sources(section, "files", folder);
        for text in section.strings("urls").unwrap_or_default() {
            self.urls.extend(parsed_url(section, "urls", &text));
        }
        section.duration_into("refresh", &mut self.refresh, Duration::from_secs(1));
        section.bytes_into("bytes_max", &mut self.bytes_max, 1024..(1 << 30));
        if self.mode != RevocationMode::Off && self.files.is_empty() && self.urls.is_empty() {
            section.problem_here("has no CRL", "name files, or urls that they are fetched from");
        }
        section.finish();
    }
}

/// Paths, or `name:NAME` of what `portreeve cert` manages.
fn sources(section: &Section<'_>, key: &'static str, folder: &Path) -> Vec<FileSource> {
    let texts = section.strings(key).unwrap_or_default().into_iter();
    let source = |text: String| match text.strip_prefix("name:") {
        Some(name) => FileSource::Managed(name.to_owned()),
        None => FileSource::File(folder.join(text)),
    };
    texts.map(source).collect()
}

fn url(section: &Section<'_>, key: &'static str) -> Option<Url> {
    parsed_url(section, key, &section.string(key)?)
}

fn parsed_url(section: &Section<'_>, key: &str, text: &str) -> Option<Url> {
    let parsed = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if parsed.is_none() {
        let hint = "write \"http://ocsp.example.com/\"";
        section.problem(key, format!("{text:?} is no URL of http or https"), hint);
    }
    parsed
}
