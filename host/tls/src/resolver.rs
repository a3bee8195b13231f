//! Which of the gateway's certificates a client gets: by the server name that it asks for (SNI,
//! RFC 6066 §3) and by what it can verify.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::identity::Identity;

/// What a client asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The server name, lower case.
    pub(crate) server_name: Option<String>,
    /// It offers protocols (ALPN, RFC 7301), and none of the gateway's.
    pub(crate) speaks_other_protocols: bool,
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
}

impl Resolver {
    pub(crate) fn new(
        identities: Vec<Arc<Identity>>,
        unknown: UnknownName,
        protocols: Vec<String>,
    ) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (position, identity) in identities.iter().enumerate() {
            for name in identity.server_names() {
                let name = name.strip_prefix('*').map(str::to_owned).unwrap_or(name);
                by_name.entry(name).or_default().push(position);
            }
        }
        Self { identities, by_name, unknown, protocols }
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

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = name.as_deref().and_then(|name| self.positions(name));
        let resolved = match (named, self.unknown) {
            (Some(positions), _) => self.suited(positions, &hello),
            (None, UnknownName::Refuse) => None,
            (None, UnknownName::Default) => {
                // Others of the same names as the first one: the same with another kind of key.
                let names = self.identities.first()?.server_names();
                let same =
                    names.first().and_then(|name| self.positions(name.trim_start_matches('*')));
                self.suited(same.unwrap_or(&[0]), &hello)
            }
        };
        let is_ours = |offered: &[u8]| self.protocols.iter().any(|ours| ours.as_bytes() == offered);
        let speaks_other_protocols = !self.protocols.is_empty()
            && hello.alpn().is_some_and(|mut offered| !offered.any(is_ours));
        let noted = Asked { server_name: name, speaks_other_protocols };
        ASKED.with_borrow_mut(|asked| *asked = Some(noted));
        resolved
    }
}
