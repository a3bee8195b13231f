//! A certificate of the gateway's own: chain, key and staple, one unit. A staple never goes with
//! another chain than the one that it was fetched for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::certificate::Certificate;

/// Why chain and key do not make an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no certificate.
    #[error("there is no certificate")]
    Empty,
    /// A key of a kind that TLS has no use for.
    #[error("its key cannot be used: {0}")]
    Key(String),
    /// The key of something else.
    #[error(
        "its key does not belong to its certificate; the first certificate of the chain has to be the key's"
    )]
    Mismatch,
    /// The chain in another order, or with something else in it.
    #[error(
        "certificate {number} of its chain ({issuer}) did not issue the one before it, whose issuer is {wanted}"
    )]
    Order {
        /// Which one, from 1.
        number: usize,
        /// Its subject.
        issuer: String,
        /// The issuer that the one before names.
        wanted: String,
    },
}

/// A certificate of the gateway's own.
pub struct Identity {
    /// What the operator calls it.
    pub name: String,
    /// End entity first.
    pub chain: Vec<Arc<Certificate>>,
    /// What is served now: with the staple, while there is a good one.
    served: ArcSwap<CertifiedKey>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts chain and key together.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn new(
        name: &str,
        chain: Vec<Arc<Certificate>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, IdentityError> {
        if chain.is_empty() {
            return Err(IdentityError::Empty);
        }
        for (index, pair) in chain.windows(2).enumerate() {
            let [issued, issuer] = pair else { continue };
            if issued.issuer_der != issuer.subject_der {
                return Err(IdentityError::Order {
                    number: index + 2,
                    issuer: issuer.subject.clone(),
                    wanted: issued.issuer.clone(),
                });
            }
        }
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| IdentityError::Key(error.to_string()))?;
        let certified =
            CertifiedKey::new(chain.iter().map(|part| part.der().clone()).collect(), key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(IdentityError::Mismatch);
            }
            Err(error) => return Err(IdentityError::Key(error.to_string())),
        }
        Ok(Self { name: name.to_owned(), chain, served: ArcSwap::from_pointee(certified) })
    }

    /// What is served now.
    #[must_use]
    pub fn served(&self) -> Arc<CertifiedKey> {
        self.served.load_full()
    }

    /// From now on this staple goes with it, or none. Whoever calls this has verified it for this
    /// certificate.
    pub fn staple(&self, staple: Option<Vec<u8>>) {
        let mut certified = CertifiedKey::clone(&self.served.load());
        certified.ocsp = staple;
        self.served.store(Arc::new(certified));
    }

    /// The staple that is served.
    #[must_use]
    pub fn stapled(&self) -> Option<Vec<u8>> {
        self.served.load().ocsp.clone()
    }

    /// The certificate of the gateway itself.
    #[must_use]
    pub fn end_entity(&self) -> Option<&Arc<Certificate>> {
        self.chain.first()
    }

    /// Whether clients that know RFC 7633 refuse it without a staple.
    #[must_use]
    pub fn must_staple(&self) -> bool {
        self.end_entity().is_some_and(|certificate| certificate.must_staple)
    }

    /// Whether each certificate of the chain has signed the one before it, as a client would verify
    /// it that trusts the last one, or `others`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_chain(&self, others: &[Arc<Certificate>], now: i64) -> Result<(), String> {
        let Some((end_entity, above)) = self.chain.split_first() else { return Ok(()) };
        let anchors: Vec<_> = above
            .last()
            .into_iter()
            .chain(others)
            .filter_map(|one| anchor_from_trusted_cert(one.der()).ok())
            .collect();
        if anchors.is_empty() {
            return Err("its issuer is not in the chain: clients have to know it".to_owned());
        }
        let intermediates: Vec<_> = above.iter().map(|one| one.der().clone()).collect();
        let time = std::time::Duration::from_secs(u64::try_from(now).unwrap_or(0));
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let parsed =
            EndEntityCert::try_from(end_entity.der()).map_err(|error| error.to_string())?;
        parsed
            .verify_for_usage(
                algorithms.all,
                &anchors,
                &intermediates,
                UnixTime::since_unix_epoch(time),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map(|_path| ())
            .map_err(|error| error.to_string())
    }

    /// Names that a client may ask for: DNS names, or the common name where there are none.
    #[must_use]
    pub fn server_names(&self) -> Vec<String> {
        let Some(certificate) = self.end_entity() else { return Vec::new() };
        let mut names: Vec<String> =
            certificate.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if names.is_empty() {
            names.extend(certificate.common_name.iter().map(|name| name.to_ascii_lowercase()));
        }
        names
    }
}
