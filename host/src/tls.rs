//! TLS of a gateway while it runs: what holds for new connections, published whole, and the live
//! sessions of devices with certificates, which are ended when a certificate is revoked.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use portreeve_mqtt::ReasonCode;
use portreeve_tls::generation::Generation;
use portreeve_tls::peer::VerifiedPeer;
use portreeve_tls::revocation::{Decision, Revocation};
use portreeve_tls::stapling::Stapling;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::peer::{CertificateField, Peer, PeerTls};
use crate::reason::Refusal;
use crate::session::Session;

mod metrics;

pub(crate) use metrics::TlsMetrics;

/// Certificates whose revocation is asked for at a time, when live sessions are looked at again.
const RECHECKS_MAX: usize = 32;

/// Sessions that are looked at before other tasks run.
const LOOKS_AT_A_TIME: usize = 128;

/// What holds for the connections that begin now.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) generation: Generation,
    /// Those of its certificates that have staples.
    pub(crate) staplings: Vec<Arc<Stapling>>,
    /// What of the certificate stands for the user name.
    pub(crate) user_name: Option<CertificateField>,
    pub(crate) client_id: Option<CertificateField>,
    /// How long a handshake may take.
    pub(crate) handshake_timeout: Duration,
    /// How often live sessions are looked at again.
    pub(crate) recheck_interval: Duration,
}

/// TLS of a gateway.
pub(crate) struct Tls {
    current: ArcSwap<Current>,
    pub(crate) metrics: TlsMetrics,
    live: Mutex<HashMap<u64, Live>>,
    live_ids: AtomicU64,
    /// Something is known of revocation or trust that was not.
    changed: Notify,
    /// What is wrong with files that are not taken.
    problems: Mutex<Vec<String>>,
}

/// A live session of a device with a certificate.
#[derive(Clone)]
struct Live {
    verified: Arc<VerifiedPeer>,
    session: Arc<Session>,
    /// The connection's number in the session.
    generation: u64,
}

/// Names that a certificate stands for, instead of those of the CONNECT.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub(crate) user_name: Option<String>,
    pub(crate) client_id: Option<String>,
}

/// Keeps a session among the live ones for as long as it lives.
pub(crate) struct LiveGuard {
    tls: Arc<Tls>,
    id: u64,
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.tls.live.lock().remove(&self.id);
    }
}

impl Tls {
    pub(crate) fn new(current: Current) -> Self {
        Self {
            current: ArcSwap::from_pointee(current),
            metrics: TlsMetrics::default(),
            live: Mutex::default(),
            live_ids: AtomicU64::new(0),
            changed: Notify::new(),
            problems: Mutex::default(),
        }
    }

    /// What holds for the connections that begin now.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// From now on this holds. Live sessions that would not be let in any more are ended.
    pub(crate) fn publish(&self, current: Current) {
        self.current.store(Arc::new(current));
        self.changed.notify_one();
    }

    /// What is wrong with files that are not taken; empty where everything is.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }

    pub(crate) fn set_problems(&self, problems: Vec<String>) {
        *self.problems.lock() = problems;
    }

    /// Something new is known of revocation.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// What the device's certificate stands for.
    ///
    /// # Errors
    /// [`Refusal`] for a certificate that does not say it, or says it twice.
    pub(crate) fn identity(&self, peer: &Peer) -> Result<Identity, Refusal> {
        let Some(certificate) = peer.certificate() else { return Ok(Identity::default()) };
        let current = self.current.load();
        let of = |field: Option<CertificateField>, what: &str| {
            let refused = |why: String| {
                Refusal::new(
                    ReasonCode::NotAuthorized,
                    format!("{what} from the certificate: {why}"),
                )
            };
            field.map(|field| field.of(certificate)).transpose().map_err(refused)
        };
        Ok(Identity {
            user_name: of(current.user_name, "user name")?,
            client_id: of(current.client_id, "client identifier")?,
        })
    }

    /// What decides about the revocation of devices' certificates.
    pub(crate) fn revocation(&self) -> Option<Arc<Revocation>> {
        self.current.load().generation.verifier().map(|verifier| Arc::clone(verifier.revocation()))
    }

    /// Remembers a session that was let in. It is looked at at once: its certificate may have been
    /// revoked since it was looked at last.
    pub(crate) fn enter(
        self: &Arc<Self>,
        tls: &PeerTls,
        session: &Arc<Session>,
        generation: u64,
    ) -> Option<LiveGuard> {
        let verified = Arc::clone(tls.verified.as_ref()?);
        let id = self.live_ids.fetch_add(1, Ordering::Relaxed);
        let live = Live { verified, session: Arc::clone(session), generation };
        self.live.lock().insert(id, live.clone());
        self.end_if_refused(&live);
        Some(LiveGuard { tls: Arc::clone(self), id })
    }

    /// Sessions of devices with certificates.
    pub(crate) fn live_count(&self) -> usize {
        self.live.lock().len()
    }

    /// Looks at the live sessions again and again.
    pub(crate) async fn watch(self: Arc<Self>) {
        let interval = || self.current.load().recheck_interval;
        let mut next = Instant::now() + interval();
        loop {
            tokio::select! {
                // What was told while they were looked at is remembered.
                () = self.changed.notified() => {
                    self.end_refused().await;
                    // What comes often must not put the other off.
                    next = next.min(Instant::now() + interval());
                }
                () = sleep_until(next) => {
                    self.end_refused().await;
                    let mut recheck = pin!(self.recheck());
                    loop {
                        tokio::select! {
                            () = &mut recheck => break,
                            () = self.changed.notified() => self.end_refused().await,
                        }
                    }
                    next = Instant::now() + interval();
                }
            }
        }
    }

    fn lives(&self) -> Vec<Live> {
        self.live.lock().values().cloned().collect()
    }

    /// Ends sessions of certificates that are known not to be good any more.
    async fn end_refused(&self) {
        for lives in self.lives().chunks(LOOKS_AT_A_TIME) {
            for live in lives {
                self.end_if_refused(live);
            }
            // There may be very many, and connections wait.
            tokio::task::yield_now().await;
        }
    }

    fn end_if_refused(&self, live: &Live) {
        let current = self.current.load();
        let why = match current.generation.verifier() {
            // Certificates are not asked for any more.
            None => return,
            Some(verifier) if !verifier.trusts(&live.verified) => {
                "its trust anchor is not trusted any more".to_owned()
            }
            Some(verifier) => {
                let now = portreeve_tls::now();
                match verifier.revocation().known_revoked(&live.verified.path, now) {
                    None => return,
                    Some(why) => why.to_string(),
                }
            }
        };
        self.end(live, &why);
    }

    fn end(&self, live: &Live, why: &str) {
        if live.session.close_connection(live.generation, ReasonCode::NotAuthorized) {
            self.metrics.sessions_ended.add(1);
            let subject = live.verified.end_entity().map(|one| one.subject.clone());
            tracing::warn!(
                subject = subject.unwrap_or_default(),
                client_id = &*live.session.key.client_id,
                why,
                "session ended: its certificate is not good any more"
            );
        }
    }

    /// Asks again about certificates whose answer has grown old.
    async fn recheck(&self) {
        let Some(revocation) = self.revocation() else { return };
        let mut peers: HashMap<[u8; 32], Vec<Live>> = HashMap::new();
        for live in self.lives() {
            if let Some(end_entity) = live.verified.end_entity() {
                peers.entry(end_entity.fingerprint).or_default().push(live);
            }
        }
        let checks = peers.into_values().map(|lives| {
            let revocation = &revocation;
            async move {
                let Some(first) = lives.first() else { return };
                // A responder that is away ends nobody's session: only what is revoked.
                if let Decision::Refuse(why) = revocation.decide_again(&first.verified.path).await
                    && why.is_revoked()
                {
                    for live in &lives {
                        self.end(live, &why.to_string());
                    }
                }
            }
        });
        stream::iter(checks).buffer_unordered(RECHECKS_MAX).collect::<()>().await;
    }
}
