//! Whether devices with revoked certificates are let in: the operator's deny list, CRLs and OCSP,
//! and what is done where nobody knows.
//!
//! The path is the one that was verified, end entity first, anchor last, so that each certificate's
//! issuer is the next one; it is never picked from what the device sent. Whoever says *revoked* wins.
//! A wrong OCSP answer is refused in every mode. The first source in order that says *good* lets in.
//! Where none knows, a hard source refuses; otherwise the device is let in, which is counted.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::crl::{Crl, CrlSet, CrlStatus};
use crate::ocsp::{Ocsp, Status};
use crate::{Certificate, Clock};

mod deny_list;
pub mod metrics;
mod reason;
mod waiting;
mod why;

pub use deny_list::DenyList;
pub use metrics::RevocationMetrics;
pub use reason::{RevocationReason, Revoked};
pub use waiting::WaitingList;
pub use why::{Cause, Source, Why};

use metrics::add;
use waiting::Waiting;

/// What a source is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It is not looked at.
    #[default]
    Off,
    /// Where it does not know, devices are let in.
    Soft,
    /// Where it does not know, and no other source does, devices are refused.
    Hard,
}

/// Which certificates of a path are checked. The deny list is about all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// The device's own.
    #[default]
    EndEntity,
    /// All but the anchor.
    Chain,
}

/// How revocation is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationSettings {
    /// Who is asked first, and who then.
    pub order: [Source; 2],
    /// Which certificates are checked.
    pub depth: Depth,
    /// What OCSP is for.
    pub ocsp: Mode,
    /// What CRLs are for.
    pub crl: Mode,
    /// Whether a certificate that its responder does not know is let in.
    pub accept_unknown: bool,
}

impl Default for RevocationSettings {
    fn default() -> Self {
        Self {
            order: [Source::Ocsp, Source::Crl],
            depth: Depth::EndEntity,
            ocsp: Mode::Off,
            crl: Mode::Off,
            accept_unknown: false,
        }
    }
}

/// What is known of the end entity of a path that is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is checked.
    NotChecked,
    /// This source says that it is good.
    Good(Source),
    /// Its responder does not know it, which is accepted.
    Unknown,
    /// Nobody knows; this is what the last source said.
    SoftFailed(Cause),
}

/// Whether a device is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Admit {
        /// Some certificate of the path was let in although nobody knows its status.
        soft_failed: bool,
        /// Of the end entity.
        status: Standing,
    },
    /// It is not.
    Refuse(Why),
}

/// Decides about paths.
#[derive(Debug)]
pub struct Revocation {
    settings: RevocationSettings,
    ocsp: Arc<Ocsp>,
    lists: ArcSwap<CrlSet>,
    denied: ArcSwap<DenyList>,
    waiting: Waiting,
    metrics: Arc<RevocationMetrics>,
    clock: Clock,
}

/// Whether what is known is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// For a new connection.
    Usable,
    /// For one that lasts: it is asked for again before its end.
    Refreshed,
}

impl Revocation {
    /// Without lists and without anybody who is denied: see [`Self::publish_lists`] and
    /// [`Self::publish_denied`].
    #[must_use]
    pub fn new(
        settings: RevocationSettings,
        ocsp: Arc<Ocsp>,
        metrics: Arc<RevocationMetrics>,
        clock: Clock,
    ) -> Self {
        let (lists, denied) = (ArcSwap::default(), ArcSwap::default());
        Self { settings, ocsp, lists, denied, waiting: Waiting::default(), metrics, clock }
    }

    /// From now on these lists count.
    pub fn publish_lists(&self, lists: Arc<CrlSet>) {
        self.lists.store(lists);
    }

    /// From now on these lists count beside those that do, the newest of each kind.
    pub fn add_lists(&self, new: &[Arc<Crl>]) {
        self.lists.rcu(|lists| CrlSet::new(lists.iter().chain(new).cloned()));
    }

    /// The lists that count.
    #[must_use]
    pub fn lists(&self) -> Arc<CrlSet> {
        self.lists.load_full()
    }

    /// This list, which was fetched, waits for its issuer.
    pub fn add_waiting(&self, list: WaitingList) {
        self.add_lists(&self.waiting.add(list));
    }

    /// From now on these lists wait for their issuer, instead of those that did.
    pub fn publish_waiting(&self, lists: Vec<WaitingList>) {
        self.add_lists(&self.waiting.replace(lists));
    }

    /// Intermediates that verified paths went over: they may have signed lists, too.
    #[must_use]
    pub fn learned(&self) -> Vec<Arc<Certificate>> {
        self.waiting.learned()
    }

    /// A verified path goes over this intermediate: lists that waited for it count from now on.
    pub fn learn(&self, authority: &Arc<Certificate>) {
        let verified = self.waiting.learn(authority);
        if !verified.is_empty() {
            self.add_lists(&verified);
        }
    }

    /// From now on these are denied.
    pub fn publish_denied(&self, denied: Arc<DenyList>) {
        self.denied.store(denied);
    }

    /// Who is denied.
    #[must_use]
    pub fn denied(&self) -> Arc<DenyList> {
        self.denied.load_full()
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> &RevocationMetrics {
        &self.metrics
    }

    /// What is known already to speak against a path; asks nobody, for the handshake.
    #[must_use]
    pub fn known_revoked(&self, chain: &[Arc<Certificate>], now: i64) -> Option<Why> {
        let denied = self.denied.load();
        if let Some(certificate) = chain.iter().find(|certificate| denied.denies(certificate)) {
            return Some(Why::new(certificate, Cause::Denied));
        }
        let lists = self.lists.load();
        self.checked(chain).find_map(|(certificate, issuer)| {
            if self.settings.crl != Mode::Off
                && let CrlStatus::Revoked(revoked) = lists.status(issuer, certificate, now)
            {
                add(&self.metrics.crl_revoked);
                let cause = Cause::Revoked { by: Source::Crl, revoked };
                return Some(Why::new(certificate, cause));
            }
            if self.settings.ocsp != Mode::Off
                && let Some(Status::Revoked(revoked)) = self.ocsp.known(issuer, certificate, now)
            {
                let cause = Cause::Revoked { by: Source::Ocsp, revoked };
                return Some(Why::new(certificate, cause));
            }
            None
        })
    }

    /// Begins to ask for what [`Self::decide`] will want to know. Waits for nothing.
    pub fn begin(&self, chain: &[Arc<Certificate>]) {
        if self.settings.ocsp == Mode::Off {
            return;
        }
        let now = self.clock.now();
        let [first, _] = self.settings.order;
        for (certificate, issuer) in self.checked(chain) {
            let is_decided = first == Source::Crl
                && self.settings.crl != Mode::Off
                && self.lists.load().status(issuer, certificate, now) == CrlStatus::Good;
            if !is_decided {
                self.ocsp.begin(issuer, certificate);
            }
        }
    }

    /// Decides about a new connection, or a resumed one. Asks responders for what is not known.
    pub async fn decide(&self, chain: &[Arc<Certificate>]) -> Decision {
        self.begin(chain);
        let decision = self.judge(chain, Freshness::Usable).await;
        if matches!(decision, Decision::Admit { soft_failed: true, .. }) {
            add(&self.metrics.soft_fails);
        }
        decision
    }

    /// Decides again about a live session. Only a cause that [is revoked](Why::is_revoked) is a
    /// reason to end it; others say that nobody knows any more.
    pub async fn decide_again(&self, chain: &[Arc<Certificate>]) -> Decision {
        self.judge(chain, Freshness::Refreshed).await
    }

    /// Pairs of a certificate that is checked and its issuer.
    fn checked<'c>(
        &self,
        chain: &'c [Arc<Certificate>],
    ) -> impl Iterator<Item = (&'c Arc<Certificate>, &'c Arc<Certificate>)> {
        let count = match self.settings.depth {
            Depth::EndEntity => 1,
            Depth::Chain => chain.len(),
        };
        chain.iter().zip(chain.iter().skip(1)).take(count)
    }

    async fn judge(&self, chain: &[Arc<Certificate>], freshness: Freshness) -> Decision {
        if let Some(why) = self.known_revoked(chain, self.clock.now()) {
            return Decision::Refuse(why);
        }
        let mut end_entity = None;
        let mut soft_failed = false;
        for (certificate, issuer) in self.checked(chain) {
            match self.standing(issuer, certificate, freshness).await {
                Ok(standing) => {
                    soft_failed |= matches!(standing, Standing::SoftFailed(_));
                    end_entity.get_or_insert(standing);
                }
                Err(cause) => return Decision::Refuse(Why::new(certificate, cause)),
            }
        }
        // What became known while responders were asked counts, too.
        if let Some(why) = self.known_revoked(chain, self.clock.now()) {
            return Decision::Refuse(why);
        }
        match (end_entity, chain.first()) {
            (Some(status), _) => Decision::Admit { soft_failed, status },
            (None, Some(alone)) if self.is_hard() => {
                Decision::Refuse(Why::new(alone, Cause::NoIssuer))
            }
            (None, _) => Decision::Admit { soft_failed: false, status: Standing::NotChecked },
        }
    }

    const fn is_hard(&self) -> bool {
        matches!(self.settings.ocsp, Mode::Hard) || matches!(self.settings.crl, Mode::Hard)
    }

    /// What is known of one certificate after each source was asked that is needed.
    async fn standing(
        &self,
        issuer: &Arc<Certificate>,
        certificate: &Arc<Certificate>,
        freshness: Freshness,
    ) -> Result<Standing, Cause> {
        let mut hard = None;
        let mut soft = None;
        for source in self.settings.order {
            let (mode, said) = match source {
                Source::Ocsp if self.settings.ocsp != Mode::Off => {
                    let said = self.ask_ocsp(issuer, certificate, freshness).await?;
                    (self.settings.ocsp, said)
                }
                Source::Crl if self.settings.crl != Mode::Off => {
                    (self.settings.crl, self.ask_lists(issuer, certificate)?)
                }
                _ => continue,
            };
            match (said, mode) {
                (Ok(standing), _) => return Ok(standing),
                (Err(cause), Mode::Hard) => hard = hard.or(Some(cause)),
                (Err(cause), _) => soft = Some(cause),
            }
        }
        match (hard, soft) {
            (Some(cause), _) => Err(cause),
            (None, Some(cause)) => Ok(Standing::SoftFailed(cause)),
            (None, None) => Ok(Standing::NotChecked),
        }
    }

    /// The outer error is the end; the inner one says that it does not know.
    async fn ask_ocsp(
        &self,
        issuer: &Arc<Certificate>,
        certificate: &Arc<Certificate>,
        freshness: Freshness,
    ) -> Result<Result<Standing, Cause>, Cause> {
        let (issuer, certificate) = (Arc::clone(issuer), Arc::clone(certificate));
        let status = match freshness {
            Freshness::Usable => self.ocsp.status(issuer, certificate).await,
            Freshness::Refreshed => self.ocsp.refreshed(issuer, certificate).await,
        };
        match status {
            Status::Good => Ok(Ok(Standing::Good(Source::Ocsp))),
            Status::Revoked(revoked) => Err(Cause::Revoked { by: Source::Ocsp, revoked }),
            Status::Unknown if self.settings.accept_unknown => Ok(Ok(Standing::Unknown)),
            Status::Unknown => Err(Cause::Unknown),
            Status::Invalid(why) => Err(Cause::Invalid(why)),
            Status::Unavailable(why) => Ok(Err(Cause::Unavailable(why))),
        }
    }

    fn ask_lists(
        &self,
        issuer: &Certificate,
        certificate: &Certificate,
    ) -> Result<Result<Standing, Cause>, Cause> {
        match self.lists.load().status(issuer, certificate, self.clock.now()) {
            CrlStatus::Good => {
                add(&self.metrics.crl_good);
                Ok(Ok(Standing::Good(Source::Crl)))
            }
            CrlStatus::Revoked(revoked) => {
                add(&self.metrics.crl_revoked);
                Err(Cause::Revoked { by: Source::Crl, revoked })
            }
            CrlStatus::NoList => Ok(Err(Cause::NoCrl)),
            CrlStatus::Expired { .. } => Ok(Err(Cause::CrlExpired)),
        }
    }
}

#[cfg(test)]
mod tests;
