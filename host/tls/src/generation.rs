//! Everything that TLS of a gateway needs, built and checked as a whole. A change makes another
//! generation with keys of its own for resumption: no session of the old one goes on in it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version::{TLS12, TLS13};

use crate::identity::Identity;
use crate::peer::{ClientCertificates, PeerVerifier, Trust};
use crate::resolver::{Resolver, UnknownName};
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
    config: Arc<ServerConfig>,
    /// The same for clients that ask for other protocols only; `None` where they are refused.
    without_protocols: Option<Arc<ServerConfig>>,
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
        let resolver = Arc::new(Resolver::new(identities.clone(), unknown_name, protocols.clone()));
        let mut config = builder.with_cert_resolver(resolver);
        // The order of the client's suites says which one its processor is good at.
        config.ignore_client_order = false;
        // Tickets hold everything: nothing is kept for clients that may never come again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = usize::from(resumes);
        if resumes {
            config.ticketer = Ticketer::new()?;
        }
        // What is sent before the handshake is over can be sent again by anybody (RFC 8446 §8).
        config.max_early_data_size = 0;
        let without_protocols = (!parts.refuses_other_protocols).then(|| Arc::new(config.clone()));
        config.alpn_protocols = protocols.into_iter().map(String::into_bytes).collect();
        Ok(Self { config: Arc::new(config), without_protocols, verifier, identities })
    }

    pub(crate) const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    pub(crate) const fn without_protocols(&self) -> Option<&Arc<ServerConfig>> {
        self.without_protocols.as_ref()
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

/// The provider of all cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
