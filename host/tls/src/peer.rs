//! Certificates of devices: verified by webpki against the gateway's trust anchors, in the
//! handshake and again when a session is resumed, since rustls does not look at a resumed one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::certificate::{Certificate, CertificateError};
use crate::revocation::Revocation;

mod refusal;

pub use refusal::PeerRefusal;
pub(crate) use refusal::take_refusal;

/// Certificates that a device may send. Paths of real authorities have three or four.
const SENT_MAX: usize = 10;
/// Paths that were verified and are remembered: those of devices that come again.
const REMEMBERED_MAX: usize = 4_096;
/// Intermediates that are remembered.
const INTERMEDIATES_MAX: usize = 64;

/// Whether a device has to have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Without one the handshake fails.
    Required,
    /// One that is shown has to be good.
    Optional,
}

/// A device's certificate with the path that was verified.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// End entity first, trust anchor last; an anchor that is the end entity's own is its issuer.
    pub path: Vec<Arc<Certificate>>,
}

impl VerifiedPeer {
    /// The device's own certificate.
    #[must_use]
    pub fn end_entity(&self) -> Option<&Arc<Certificate>> {
        self.path.first()
    }

    fn is_valid_at(&self, now: i64) -> bool {
        self.path.iter().all(|certificate| certificate.is_valid_at(now))
    }
}

/// What a gateway trusts.
#[derive(Debug, Default, Clone)]
pub struct Trust {
    anchors: Vec<Arc<Certificate>>,
    intermediates: Vec<Arc<Certificate>>,
}

/// Why certificates cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// None of them is an anchor.
    #[error(
        "there is no trust anchor: none of the {0} certificate(s) is self-signed; add the root, or say partial_chain = true to trust them as they are"
    )]
    NoAnchor(usize),
    /// It cannot be an anchor.
    #[error("{subject} cannot be a trust anchor: {why}")]
    Unusable {
        /// Its subject.
        subject: String,
        /// Why.
        why: String,
    },
}

impl Trust {
    /// Sorts certificates into anchors and intermediates: those that are not self-signed are anchors
    /// with `partial_chain` only.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(
        certificates: Vec<Arc<Certificate>>,
        partial_chain: bool,
    ) -> Result<Self, TrustError> {
        let count = certificates.len();
        let (anchors, intermediates): (Vec<_>, Vec<_>) = certificates
            .into_iter()
            .partition(|certificate| partial_chain || certificate.is_self_issued());
        if anchors.is_empty() {
            return Err(TrustError::NoAnchor(count));
        }
        for anchor in &anchors {
            anchor_from_trusted_cert(anchor.der()).map_err(|error| TrustError::Unusable {
                subject: anchor.subject.clone(),
                why: error.to_string(),
            })?;
        }
        Ok(Self { anchors, intermediates })
    }

    /// The trust anchors.
    #[must_use]
    pub fn anchors(&self) -> &[Arc<Certificate>] {
        &self.anchors
    }

    /// Everything that may have issued a device's certificate.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.anchors.iter().chain(&self.intermediates)
    }
}

/// Paths that were verified, oldest first out.
#[derive(Debug, Default)]
struct Remembered {
    paths: HashMap<[u8; 32], Arc<VerifiedPeer>>,
    order: VecDeque<[u8; 32]>,
}

/// Verifies the certificates of devices.
#[derive(Debug)]
pub struct PeerVerifier {
    trust: Trust,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    hints: Vec<DistinguishedName>,
    demand: ClientCertificates,
    algorithms: WebPkiSupportedAlgorithms,
    revocation: Arc<Revocation>,
    remembered: Mutex<Remembered>,
    /// Intermediates of verified paths.
    seen: Mutex<VecDeque<Arc<Certificate>>>,
}

impl PeerVerifier {
    pub(crate) fn new(
        trust: Trust,
        demand: ClientCertificates,
        algorithms: WebPkiSupportedAlgorithms,
        revocation: Arc<Revocation>,
    ) -> Self {
        let anchor = |certificate: &Arc<Certificate>| {
            let anchor = anchor_from_trusted_cert(certificate.der());
            anchor.ok().map(|anchor| anchor.to_owned())
        };
        let hint = |certificate: &Arc<Certificate>| {
            DistinguishedName::from(certificate.subject_der.to_vec())
        };
        Self {
            anchors: trust.anchors.iter().filter_map(anchor).collect(),
            hints: trust.anchors.iter().map(hint).collect(),
            intermediates: trust.intermediates.iter().map(|one| one.der().clone()).collect(),
            trust,
            demand,
            algorithms,
            revocation,
            remembered: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// What is trusted.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// What is known of revocation.
    #[must_use]
    pub const fn revocation(&self) -> &Arc<Revocation> {
        &self.revocation
    }

    /// Whether a device has to have a certificate.
    #[must_use]
    pub const fn demand(&self) -> ClientCertificates {
        self.demand
    }

    /// Whether the anchor of a path that was verified is still trusted.
    #[must_use]
    pub fn trusts(&self, peer: &VerifiedPeer) -> bool {
        // A renewed certificate of the same authority is the same anchor.
        let anchor = peer.path.last().map(|anchor| anchor.authority_id());
        self.trust.anchors.iter().any(|trusted| Some(trusted.authority_id()) == anchor)
    }

    /// Verifies what a device sent, end entity first, at `now` (seconds since the Unix epoch):
    /// path, times, purpose, names. Revocation is another matter.
    ///
    /// # Errors
    /// [`PeerRefusal`].
    pub fn verify(
        &self,
        sent: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<Arc<VerifiedPeer>, PeerRefusal> {
        if sent.len() > SENT_MAX {
            return Err(PeerRefusal::of_nobody(format!(
                "it sent {} certificates, more than {SENT_MAX}",
                sent.len()
            )));
        }
        let mut digest = Sha256::new();
        for certificate in sent {
            digest.update(u64::try_from(certificate.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(certificate);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let known = self.remembered.lock().paths.get(&digest).map(Arc::clone);
        if let Some(known) = known.filter(|known| known.is_valid_at(now)) {
            return Ok(known);
        }
        let verified = Arc::new(self.verify_path(sent, now)?);
        let mut remembered = self.remembered.lock();
        if remembered.paths.insert(digest, Arc::clone(&verified)).is_none() {
            remembered.order.push_back(digest);
        }
        if remembered.order.len() > REMEMBERED_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.paths.remove(&oldest);
        }
        Ok(verified)
    }

    fn verify_path(
        &self,
        sent: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<VerifiedPeer, PeerRefusal> {
        let Some((end_entity, presented)) = sent.split_first() else {
            return Err(PeerRefusal::of_nobody("it sent no certificate".to_owned()));
        };
        let parsed = Certificate::parse(end_entity.clone().into_owned());
        let parsed = Arc::new(parsed.map_err(|error| PeerRefusal::unreadable(&error))?);
        let refused = |error: &webpki::Error| PeerRefusal::by_webpki(&parsed, error);
        let end_entity = EndEntityCert::try_from(end_entity).map_err(|error| refused(&error))?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(now).unwrap_or(0),
        ));
        let intermediates: Vec<CertificateDer<'_>> = presented
            .iter()
            .chain(&self.intermediates)
            .map(|one| CertificateDer::from(one.as_ref()))
            .collect();
        let path = end_entity
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                &intermediates,
                time,
                KeyUsage::client_auth(),
                None,
                // An anchor is not looked at by webpki beyond its name and key; a path over another
                // one may still be found.
                Some(&|path| match self.anchor_of(path.anchor()) {
                    Some(anchor) if anchor.is_valid_at(now) => Ok(()),
                    _ => Err(webpki::Error::UnknownIssuer),
                }),
            )
            .map_err(|error| refused(&error))?;
        let mut certificates = vec![Arc::clone(&parsed)];
        for intermediate in path.intermediate_certificates() {
            let one = self
                .intermediate(&intermediate.der())
                .map_err(|error| PeerRefusal::of(&parsed, format!("an intermediate: {error}")))?;
            certificates.push(one);
        }
        let anchor = self.anchor_of(path.anchor());
        certificates.push(anchor.cloned().ok_or_else(|| refused(&webpki::Error::UnknownIssuer))?);
        Ok(VerifiedPeer { path: certificates })
    }

    /// An intermediate of a path that was verified; the same for all devices below it.
    fn intermediate(&self, der: &CertificateDer<'_>) -> Result<Arc<Certificate>, CertificateError> {
        let is_it = |one: &&Arc<Certificate>| one.der() == der;
        let mut seen = self.seen.lock();
        if let Some(known) = self.trust.intermediates.iter().chain(seen.iter()).find(is_it) {
            return Ok(Arc::clone(known));
        }
        let parsed = Arc::new(Certificate::parse(der.clone().into_owned())?);
        seen.push_front(Arc::clone(&parsed));
        seen.truncate(INTERMEDIATES_MAX);
        drop(seen);
        self.revocation.learn(&parsed);
        Ok(parsed)
    }

    /// The certificate of an anchor that webpki found: webpki keeps name and key of it.
    fn anchor_of(&self, found: &TrustAnchor<'_>) -> Option<&Arc<Certificate>> {
        let position = self.anchors.iter().position(|anchor| anchor == found)?;
        self.trust.anchors.get(position)
    }

    /// Verifies, and looks whether it is known to be revoked. Nothing is asked of anybody else.
    ///
    /// # Errors
    /// [`PeerRefusal`].
    pub fn verify_now(
        &self,
        sent: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<Arc<VerifiedPeer>, PeerRefusal> {
        let verified = self.verify(sent, now)?;
        match self.revocation.known_revoked(&verified.path, now) {
            None => Ok(verified),
            Some(why) => Err(PeerRefusal::revoked(&verified, &why.to_string())),
        }
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.demand == ClientCertificates::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let sent: Vec<CertificateDer<'_>> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|one| CertificateDer::from(one.as_ref()))
            .collect();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match self.verify_now(&sent, now) {
            Ok(_verified) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => {
                let error = refusal.alert.clone();
                refusal::note(refusal);
                Err(Error::InvalidCertificate(error))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
