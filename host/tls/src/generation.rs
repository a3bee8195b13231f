//! Everything that TLS of a gateway needs, built and checked as a whole. A change makes another
//! generation with keys of its own for resumption: no session of the old one goes on in it.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version::{TLS12, TLS13};

use crate::identity::Identity;
use crate::peer::{ClientCertificates, PeerVerifier, Trust};
use crate::resolver::{Peculiarity, Resolver, UnknownName};
use crate::revocation::Revocation;

/// Versions of TLS, and with them cipher suites: rustls has those with forward secrecy and
/// authenticated encryption only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// TLS 1.3.
    Modern,
    /// TLS 1.2 and 1.3.
    Intermediate,
}

/// Whose certificates are asked for.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Whether a device has to have one.
    pub demand: ClientCertificates,
    /// Who may have issued it.
    pub trust: Trust,
    /// Whether it was revoked.
    pub revocation: Arc<Revocation>,
}

/// What a generation is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Versions.
    pub profile: Profile,
    /// The gateway's own certificates; the first one is the default.
    pub identities: Vec<Arc<Identity>>,
    /// What a client gets that asks for another name.
    pub unknown_name: UnknownName,
    /// Protocols that clients may ask for (ALPN), best first; those that ask for none are served.
    pub protocols: Vec<String>,
    /// Whether clients that ask for other protocols only are refused, as RFC 7301 §3.2 has it, or
    /// served as if they had asked for none.
    pub refuses_other_protocols: bool,
    /// `None` where clients are not asked for certificates.
    pub clients: Option<Clients>,
    /// Whether sessions can be resumed.
    pub resumes: bool,
}

/// Why there is no generation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// Nothing to show to clients.
    #[error("there is no certificate to show to clients")]
    NoIdentity,
    /// What rustls says.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What holds for the connections that begin now.
#[derive(Debug)]
pub struct Generation {
    /// For clients that are not peculiar.
    config: Arc<ServerConfig>,
    /// For those that are: all of it but what is special about them is the same.
    others: Vec<(Peculiarity, Arc<ServerConfig>)>,
    verifier: Option<Arc<PeerVerifier>>,
    identities: Vec<Arc<Identity>>,
}

impl Generation {
    /// Builds it.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn new(parts: Parts, provider: &Arc<CryptoProvider>) -> Result<Self, GenerationError> {
        let Parts { profile, identities, unknown_name, protocols, clients, resumes, .. } = parts;
        if identities.is_empty() {
            return Err(GenerationError::NoIdentity);
        }
        let versions: &[_] = match profile {
            Profile::Modern => &[&TLS13],
            Profile::Intermediate => &[&TLS13, &TLS12],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)?;
        let verifier = clients.map(|Clients { demand, trust, revocation }| {
            let algorithms = provider.signature_verification_algorithms;
            Arc::new(PeerVerifier::new(trust, demand, algorithms, revocation))
        });
        let builder = match &verifier {
            Some(verifier) => {
                builder.with_client_cert_verifier(Arc::<PeerVerifier>::clone(verifier))
            }
            None => builder.with_no_client_auth(),
        };
        let peculiar = Peculiarity::served(!parts.refuses_other_protocols);
        let resolver = |passed_on| {
            let (identities, protocols) = (identities.clone(), protocols.clone());
            Arc::new(Resolver::new(identities, unknown_name, protocols, passed_on))
        };
        let mut config = builder.with_cert_resolver(resolver(peculiar.clone()));
        // AES-128 with SHA-256 first, which costs a handshake a tenth less than what clients list
        // first by habit (AES-256 with SHA-384) and is as safe.
        config.ignore_client_order = true;
        // Tickets hold everything: nothing is kept for clients that may never come again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = usize::from(resumes);
        if resumes {
            config.ticketer = Ticketer::new()?;
        }
        // What is sent before the handshake is over can be sent again by anybody (RFC 8446 §8).
        config.max_early_data_size = 0;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let other = |peculiarity: Peculiarity| {
            let mut config = config.clone();
            config.cert_resolver = resolver(Vec::new());
            config.ignore_client_order = !peculiarity.prefers_chacha;
            if peculiarity.speaks_other_protocols {
                config.alpn_protocols = Vec::new();
            }
            (peculiarity, Arc::new(config))
        };
        let others = peculiar.into_iter().map(other).collect();
        Ok(Self { config: Arc::new(config), others, verifier, identities })
    }

    pub(crate) const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Another configuration that is the right one for a client.
    pub(crate) fn other_config(&self, peculiarity: Peculiarity) -> Option<&Arc<ServerConfig>> {
        let mut others = self.others.iter();
        others.find(|(known, _)| *known == peculiarity).map(|(_, config)| config)
    }

    /// What verifies devices' certificates.
    #[must_use]
    pub const fn verifier(&self) -> Option<&Arc<PeerVerifier>> {
        self.verifier.as_ref()
    }

    /// The gateway's own certificates.
    #[must_use]
    pub fn identities(&self) -> &[Arc<Identity>] {
        &self.identities
    }
}

/// The provider of all cryptography; suites in the order in which servers prefer them.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_cheap = |suite: CipherSuite| {
        matches!(
            suite,
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| !is_cheap(suite.suite()));
    Arc::new(provider)
}
