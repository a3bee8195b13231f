//! Asks for the status of one certificate and checks the answer: for devices' certificates, and for
//! staples of our own.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::fetch::{ClientError, Fetcher, Method};
use super::response::{self, CheckedResponse, FaultKind, Question, Rules};
use super::{CertificateIdHash, Request, Responders, Unavailable};
use crate::{Certificate, Clock};

/// Whether requests have a nonce (RFC 9654).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nonce {
    /// None, so that responders can answer from what they made before.
    #[default]
    Off,
    /// One is sent, and checked where it comes back.
    Optional,
    /// One is sent, and must come back.
    Required,
}

/// How certificates are asked for.
#[derive(Debug, Clone)]
pub struct AskSettings {
    /// Who is asked.
    pub responders: Responders,
    /// GET or POST.
    pub method: Method,
    /// How the issuer is named.
    pub hash: CertificateIdHash,
    /// Whether there is a nonce.
    pub nonce: Nonce,
    /// For all of one request, whatever number of responders is tried.
    pub timeout: Duration,
    /// Requests in flight to one responder.
    pub concurrent_max: usize,
    /// What is accepted. [`Self::nonce`] says whether a nonce is required.
    pub rules: Rules,
}

impl Default for AskSettings {
    fn default() -> Self {
        Self {
            responders: Responders::default(),
            method: Method::Get,
            hash: CertificateIdHash::Sha1,
            nonce: Nonce::Off,
            timeout: Duration::from_secs(2),
            concurrent_max: 32,
            rules: Rules::default(),
        }
    }
}

/// A response that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As it came: what is stapled.
    pub response: Vec<u8>,
    /// What it says.
    pub checked: CheckedResponse,
}

/// Why there is no answer, or none to believe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct AskError {
    /// Whether it may be forgiven.
    pub kind: FaultKind,
    /// For people, with the responder.
    pub text: String,
}

impl From<Unavailable> for AskError {
    fn from(why: Unavailable) -> Self {
        Self { kind: FaultKind::Unavailable(why), text: why.to_string() }
    }
}

/// Asks responders and checks what they answer.
#[derive(Debug)]
pub struct Asker {
    settings: AskSettings,
    fetcher: Fetcher,
    clock: Clock,
}

impl Asker {
    /// # Errors
    /// [`ClientError`] where TLS to a configured responder cannot start.
    pub fn new(mut settings: AskSettings, clock: Clock) -> Result<Self, ClientError> {
        settings.rules.is_nonce_required = settings.nonce == Nonce::Required;
        let wants_tls = settings.responders.wants_tls();
        let fetcher = Fetcher::new(settings.method, settings.concurrent_max, wants_tls)?;
        Ok(Self { settings, fetcher, clock })
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) const fn rules(&self) -> &Rules {
        &self.settings.rules
    }

    /// Asks one responder after the other until one answers. An answer that cannot be believed is
    /// the end: whoever can put wrong ones there shall not choose the responder.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(
        &self,
        issuer: &Certificate,
        certificate: &Certificate,
    ) -> Result<Answer, AskError> {
        let urls = self.settings.responders.urls(issuer, certificate)?;
        let has_nonce = self.settings.nonce != Nonce::Off;
        let request = Request::new(issuer, certificate, self.settings.hash, has_nonce);
        let request = request.map_err(|error| AskError {
            kind: FaultKind::Unavailable(Unavailable::Failed),
            text: error.to_string(),
        })?;
        let mut time_left = self.settings.timeout;
        let mut last = AskError::from(Unavailable::NoResponder);
        for (index, url) in urls.iter().enumerate() {
            // Each of those that are left gets the same part, so that a silent one takes no time
            // from the next.
            let left = u32::try_from(urls.len().saturating_sub(index)).unwrap_or(u32::MAX);
            let time = time_left.checked_div(left).unwrap_or(time_left);
            let started = Instant::now();
            match self.ask_one(url, &request, issuer, certificate, time).await {
                Err(error) if matches!(error.kind, FaultKind::Unavailable(_)) => last = error,
                result => return result,
            }
            time_left = time_left.saturating_sub(started.elapsed().min(time));
        }
        Err(last)
    }

    async fn ask_one(
        &self,
        url: &Url,
        request: &Request,
        issuer: &Certificate,
        certificate: &Certificate,
        time: Duration,
    ) -> Result<Answer, AskError> {
        let response = self.fetcher.exchange(url, request, time).await.map_err(|why| AskError {
            kind: FaultKind::Unavailable(why),
            text: format!("{url}: {why}"),
        })?;
        let question = Question { issuer, serial: &certificate.serial, nonce: request.nonce() };
        let now = self.clock.now();
        let checked = response::check(&response, &question, now, &self.settings.rules);
        let checked = checked.map_err(|fault| AskError {
            kind: fault.kind(),
            text: format!("{url}: the response is not used: {fault}"),
        })?;
        Ok(Answer { response, checked })
    }
}
