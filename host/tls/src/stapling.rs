//! Staples of the gateway's own certificates (RFC 6066 §8): fetched before they are needed, checked
//! as a client would check them, refreshed at half of their time, and kept over restarts.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

use crate::certificate::Certificate;
use crate::clock::Clock;
use crate::identity::Identity;
use crate::ocsp::{
    AllowedHost, AskError, AskSettings, Asker, CheckedResponse, CheckedStatus, ClientError,
    Question, Responders, Rules, check,
};

/// Shortest and longest time between two attempts, in seconds.
const RETRY_MIN: i64 = 1;
const RETRY_MAX: i64 = 60;
/// Seconds before its end at which a staple is served no more: it is on its way for a while.
const EXPIRES_BEFORE: i64 = 2;

/// Why a certificate has no staple.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StaplingError {
    /// Who issued it?
    #[error(
        "its chain does not hold its issuer, so that no responder can be asked; add the issuer's certificate to the chain"
    )]
    NoIssuer,
    /// It names no responder.
    #[error("it names no OCSP responder")]
    NoResponder,
    /// The client for requests.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no answer, or none to believe.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The authority says so of our own certificate.
    #[error("the responder says that the gateway's own certificate is revoked")]
    Revoked,
    /// The responder does not know it.
    #[error("the responder does not know the certificate")]
    Unknown,
}

/// The staple of one certificate.
#[derive(Debug)]
pub struct Stapling {
    identity: Arc<Identity>,
    issuer: Arc<Certificate>,
    asker: Asker,
    clock: Clock,
    /// Where it is kept over restarts.
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stapled: Option<CheckedResponse>,
    retry_at: Option<i64>,
    is_revoked: bool,
}

/// What the staple of a certificate is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StapleState {
    /// When it was known to be so; `None` where there is none.
    pub this_update: Option<i64>,
    /// Until when it is served.
    pub usable_until: Option<i64>,
    /// The authority has revoked our own certificate.
    pub is_revoked: bool,
}

impl Stapling {
    /// For a certificate that names a responder, or with `responder` instead. Its issuer is the next
    /// one in its chain, or one of `others`. `folder` keeps staples over restarts.
    ///
    /// # Errors
    /// [`StaplingError`] where nobody can be asked.
    pub fn new(
        identity: Arc<Identity>,
        others: &[Arc<Certificate>],
        responder: Option<Url>,
        folder: Option<PathBuf>,
        clock: Clock,
    ) -> Result<Self, StaplingError> {
        let end_entity = identity.end_entity().ok_or(StaplingError::NoIssuer)?;
        if responder.is_none() && end_entity.ocsp_urls.is_empty() {
            return Err(StaplingError::NoResponder);
        }
        let is_issuer = |one: &&Arc<Certificate>| {
            one.subject_der == end_entity.issuer_der && one.fingerprint != end_entity.fingerprint
        };
        let issuer = identity.chain.iter().chain(others).find(is_issuer);
        let issuer = Arc::clone(issuer.ok_or(StaplingError::NoIssuer)?);
        // It is our own certificate that names them: nobody else's.
        let own = end_entity.ocsp_urls.iter().filter_map(|text| {
            let url = Url::parse(text).ok()?;
            let port = url.port_or_known_default()?;
            AllowedHost::parse(&format!("{}:{port}", url.host_str()?)).ok()
        });
        let responders = Responders::new(responder, [], own.collect());
        let asker =
            Asker::new(AskSettings { responders, ..AskSettings::default() }, clock.clone())?;
        let name = format!("{}.ocsp", end_entity.fingerprint_hex());
        let file = folder.map(|folder| folder.join(name));
        Ok(Self { identity, issuer, asker, clock, file, state: Mutex::default() })
    }

    /// Whose staple it is.
    #[must_use]
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// What there is.
    #[must_use]
    pub fn state(&self) -> StapleState {
        let state = self.state.lock();
        StapleState {
            this_update: state.stapled.map(|stapled| stapled.this_update),
            usable_until: state.stapled.map(|stapled| stapled.usable_until),
            is_revoked: state.is_revoked,
        }
    }

    /// Takes the staple that was kept over a restart, if it is still good.
    pub fn restore(&self) {
        let Some(bytes) = self.file.as_ref().and_then(|file| fs::read(file).ok()) else { return };
        let Some(end_entity) = self.identity.end_entity() else { return };
        let question = Question { issuer: &self.issuer, serial: &end_entity.serial, nonce: None };
        let now = self.clock.now();
        match check(&bytes, &question, now, &Rules::default()) {
            Ok(checked) if checked.status == CheckedStatus::Good && now < checked.usable_until => {
                self.put(bytes, checked);
            }
            // It is fetched.
            _ => {}
        }
    }

    /// Takes the staple of an earlier generation, if it is for the same certificate and still good.
    pub fn inherit(&self, earlier: &Self) {
        let of = |stapling: &Self| stapling.identity.end_entity().map(|one| one.fingerprint);
        let Some(stapled) = earlier.state.lock().stapled.filter(|_| of(self) == of(earlier)) else {
            return;
        };
        if let Some(response) = earlier.identity.stapled()
            && self.clock.now() < stapled.usable_until
        {
            self.put(response, stapled);
        }
    }

    /// Whether there is a staple.
    #[must_use]
    pub fn has_staple(&self) -> bool {
        self.state.lock().stapled.is_some()
    }

    /// Fetches another one. The last good one stays until its time is over.
    ///
    /// # Errors
    /// [`StaplingError`]; it is tried again at [`Self::next`].
    pub async fn refresh(&self) -> Result<(), StaplingError> {
        let fetched = self.fetch().await;
        let now = self.clock.now();
        match fetched {
            Ok((response, checked)) => {
                self.keep(&response);
                self.put(response, checked);
                Ok(())
            }
            Err(error) => {
                let mut state = self.state.lock();
                state.is_revoked = matches!(error, StaplingError::Revoked);
                let lifetime = state.stapled.map(|one| one.usable_until - one.this_update);
                let retry = lifetime.map_or(RETRY_MAX, |lifetime| lifetime / 10);
                // Without a staple every handshake lacks it: it is tried again soon.
                let retry = if state.stapled.is_some() { retry } else { retry.min(5) };
                state.retry_at = Some(now + retry.clamp(RETRY_MIN, RETRY_MAX));
                Err(error)
            }
        }
    }

    async fn fetch(&self) -> Result<(Vec<u8>, CheckedResponse), StaplingError> {
        let end_entity = self.identity.end_entity().ok_or(StaplingError::NoIssuer)?;
        let answer = self.asker.ask(&self.issuer, end_entity).await?;
        match answer.checked.status {
            CheckedStatus::Good => Ok((answer.response, answer.checked)),
            CheckedStatus::Revoked(_) => Err(StaplingError::Revoked),
            CheckedStatus::Unknown => Err(StaplingError::Unknown),
        }
    }

    fn put(&self, response: Vec<u8>, checked: CheckedResponse) {
        let mut state = self.state.lock();
        // A responder that answers from what it made before may be behind.
        if state.stapled.is_none_or(|stapled| stapled.this_update <= checked.this_update) {
            self.identity.staple(Some(response));
            *state = State { stapled: Some(checked), ..State::default() };
            if self.half_life(&checked) <= self.clock.now() {
                state.retry_at = Some(self.clock.now() + RETRY_MIN);
            }
        } else {
            state.retry_at = Some(self.clock.now() + RETRY_MAX);
        }
    }

    const fn half_life(&self, checked: &CheckedResponse) -> i64 {
        checked.this_update + (checked.usable_until - checked.this_update) / 2
    }

    /// Takes the staple away when its time is over: an old one is worse than none. Says whether it
    /// did.
    pub fn expire(&self) -> bool {
        let mut state = self.state.lock();
        let soon = self.clock.now().saturating_add(EXPIRES_BEFORE);
        let is_over = state.stapled.is_some_and(|one| one.usable_until <= soon);
        if is_over {
            state.stapled = None;
            self.identity.staple(None);
        }
        is_over
    }

    /// When there is something to do again, in seconds since the Unix epoch: a staple to be fetched,
    /// or one whose time is over.
    #[must_use]
    pub fn next(&self) -> i64 {
        let state = self.state.lock();
        let refresh = match (state.retry_at, &state.stapled) {
            (Some(retry_at), _) => retry_at,
            (None, Some(stapled)) => self.half_life(stapled),
            (None, None) => self.clock.now(),
        };
        state.stapled.map_or(refresh, |stapled| refresh.min(stapled.usable_until - EXPIRES_BEFORE))
    }

    /// Keeps a response over restarts. One that cannot be kept is fetched again.
    fn keep(&self, response: &[u8]) {
        let Some(file) = &self.file else { return };
        let partial = file.with_extension("partial");
        let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let options = fs::File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&partial);
            options?.write_all(response)?;
            fs::rename(&partial, file)
        });
        if let Err(error) = written {
            tracing::warn!(file = %file.display(), %error, "a staple cannot be kept for the next start");
        }
    }
}
