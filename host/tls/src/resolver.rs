//! Which of the gateway's certificates a client gets: by the server name that it asks for (SNI,
//! RFC 6066 §3) and by what it can verify.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::CipherSuite;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::identity::Identity;

/// What a client asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The server name, lower case.
    pub(crate) server_name: Option<String>,
    /// What makes another configuration the right one for it.
    pub(crate) peculiarity: Peculiarity,
}

/// What makes another configuration the right one for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Peculiarity {
    /// It offers protocols (ALPN, RFC 7301), and none of the gateway's.
    pub(crate) speaks_other_protocols: bool,
    /// Of its cipher suites, one with ChaCha20 comes first: its processor has no instructions for AES.
    pub(crate) prefers_chacha: bool,
}

impl Peculiarity {
    /// Those with a configuration of their own.
    pub(crate) fn served(serves_other_protocols: bool) -> Vec<Self> {
        let of = |speaks_other_protocols, prefers_chacha| Self {
            speaks_other_protocols,
            prefers_chacha,
        };
        let mut all = vec![of(false, true)];
        if serves_other_protocols {
            all.extend([of(true, false), of(true, true)]);
        }
        all
    }
}

thread_local! {
    /// What was asked for in this thread: rustls' unbuffered connection does not tell it.
    static ASKED: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

/// What a client asked for whose ClientHello was read by the call of rustls that has just returned
/// in this thread.
pub(crate) fn take_asked() -> Option<Asked> {
    ASKED.with_borrow_mut(Option::take)
}

/// What a client gets that asks for no name, or for one that nobody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownName {
    /// The first certificate.
    Default,
    /// The alert `unrecognized_name`.
    Refuse,
}

/// The certificates of a gateway by name.
#[derive(Debug)]
pub struct Resolver {
    identities: Vec<Arc<Identity>>,
    /// Positions in `identities`, by exact name, and by `.rest` for `*.rest`.
    by_name: HashMap<String, Vec<usize>>,
    unknown: UnknownName,
    /// Protocols that are spoken (ALPN).
    protocols: Vec<String>,
    /// Clients that get no certificate here: another configuration is the right one for them.
    passed_on: Vec<Peculiarity>,
}

impl Resolver {
    pub(crate) fn new(
        identities: Vec<Arc<Identity>>,
        unknown: UnknownName,
        protocols: Vec<String>,
        passed_on: Vec<Peculiarity>,
    ) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (position, identity) in identities.iter().enumerate() {
            for name in identity.server_names() {
                let name = name.strip_prefix('*').map(str::to_owned).unwrap_or(name);
                by_name.entry(name).or_default().push(position);
            }
        }
        Self { identities, by_name, unknown, protocols, passed_on }
    }

    /// The identities that a name asks for; the exact name wins over a wildcard.
    fn positions(&self, name: &str) -> Option<&[usize]> {
        if let Some(positions) = self.by_name.get(name) {
            return Some(positions);
        }
        // A wildcard stands for one label (RFC 9525 §6.3).
        let (_, rest) = name.split_once('.')?;
        self.by_name.get(&format!(".{rest}")).map(Vec::as_slice)
    }

    /// The first one that the client can verify; where it can verify none of them it says so best
    /// itself.
    fn suited(&self, positions: &[usize], hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut served = positions
            .iter()
            .filter_map(|position| self.identities.get(*position))
            .map(|one| one.served());
        let first = served.next()?;
        let suits = |certified: &CertifiedKey| {
            certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        if suits(&first) {
            return Some(first);
        }
        Some(served.find(|certified| suits(certified)).unwrap_or(first))
    }
}

impl Resolver {
    /// The certificate for a name; `None` where nobody has it.
    fn named(&self, name: Option<&str>, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match (name.and_then(|name| self.positions(name)), self.unknown) {
            (Some(positions), _) => self.suited(positions, hello),
            (None, UnknownName::Refuse) => None,
            (None, UnknownName::Default) => {
                // Others of the same names as the first one: the same with another kind of key.
                let names = self.identities.first()?.server_names();
                let same =
                    names.first().and_then(|name| self.positions(name.trim_start_matches('*')));
                self.suited(same.unwrap_or(&[0]), hello)
            }
        }
    }

    fn peculiarity(&self, hello: &ClientHello<'_>) -> Peculiarity {
        let is_ours = |offered: &[u8]| self.protocols.iter().any(|ours| ours.as_bytes() == offered);
        Peculiarity {
            speaks_other_protocols: !self.protocols.is_empty()
                && hello.alpn().is_some_and(|mut offered| !offered.any(is_ours)),
            prefers_chacha: prefers_chacha(hello.cipher_suites()),
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let peculiarity = self.peculiarity(&hello);
        // It is asked before keys are exchanged, which is what a handshake costs.
        let resolved = match self.passed_on.contains(&peculiarity) {
            true => None,
            false => self.named(name.as_deref(), &hello),
        };
        let noted = Asked { server_name: name, peculiarity };
        ASKED.with_borrow_mut(|asked| *asked = Some(noted));
        resolved
    }
}

/// Whether one with ChaCha20 is the first of those suites that we have.
fn prefers_chacha(offered: &[CipherSuite]) -> bool {
    let kind = |suite: &CipherSuite| match suite {
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(true),
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(false),
        _ => None,
    };
    offered.iter().find_map(kind).unwrap_or(false)
}
