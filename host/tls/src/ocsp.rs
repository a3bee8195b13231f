//! OCSP (RFC 6960, RFC 5019): whether a certificate is revoked, as its issuer's responder says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::revocation::{RevocationMetrics, metrics::add};
use crate::{Certificate, Clock};

mod ask;
mod breaker;
mod cache;
mod fetch;
mod outcome;
mod request;
mod responders;
mod response;

pub use ask::{Answer, AskError, AskSettings, Asker, Nonce};
pub use fetch::{ClientError, Method};
pub use outcome::{Invalid, Status, Unavailable};
pub use request::{CertificateIdHash, Request, RequestError};
pub use responders::{AllowedHost, ResponderError, Responders, configured_url};
pub use response::{
    CheckedResponse, CheckedStatus, FaultKind, Question, RESPONSE_BYTES_MAX, ResponseFault, Rules,
    check,
};

use cache::{Cache, Key, Lifetimes};

/// What is kept, and how much is done at once.
#[derive(Debug, Clone)]
pub struct OcspSettings {
    /// How certificates are asked for.
    pub ask: AskSettings,
    /// How long a good answer is used at most, whatever it says.
    pub cache_max: Duration,
    /// How long it is remembered that there was no answer, or a wrong one.
    pub failure_cache: Duration,
    /// Certificates in the cache.
    pub entries_max: usize,
    /// Certificates that are asked for at once.
    pub flights_max: usize,
}

impl Default for OcspSettings {
    fn default() -> Self {
        Self {
            ask: AskSettings::default(),
            cache_max: Duration::from_hours(1),
            failure_cache: Duration::from_secs(2),
            entries_max: 200_000,
            flights_max: 4096,
        }
    }
}

/// The statuses of devices' certificates.
#[derive(Debug)]
pub struct Ocsp {
    asker: Asker,
    cache: Cache,
    /// One for each certificate that is asked for.
    flights: Mutex<HashMap<Key, Flight>>,
    flights_max: usize,
    tasks: TaskTracker,
    metrics: Arc<RevocationMetrics>,
}

/// Gives the status once it is known.
type Flight = watch::Receiver<Option<Status>>;

impl Ocsp {
    /// Requests run in tasks of `tasks`, so that they end, and fill the cache, when whoever wanted
    /// to know is gone.
    ///
    /// # Errors
    /// [`ClientError`] where TLS to a configured responder cannot start.
    pub fn new(
        settings: OcspSettings,
        clock: Clock,
        tasks: TaskTracker,
        metrics: Arc<RevocationMetrics>,
    ) -> Result<Self, ClientError> {
        let lifetimes =
            Lifetimes { answer_max: settings.cache_max, failure: settings.failure_cache };
        Ok(Self {
            asker: Asker::new(settings.ask, clock)?,
            cache: Cache::new(settings.entries_max, lifetimes),
            flights: Mutex::default(),
            flights_max: settings.flights_max.max(1),
            tasks,
            metrics,
        })
    }

    /// What is known of a certificate without asking. Allocates nothing.
    #[must_use]
    pub fn known(
        &self,
        issuer: &Certificate,
        certificate: &Certificate,
        now: i64,
    ) -> Option<Status> {
        self.cache.find(&issuer.issued_id(&certificate.serial), now)
    }

    /// The status of a certificate, which is asked for if it is not known.
    pub async fn status(
        self: &Arc<Self>,
        issuer: Arc<Certificate>,
        certificate: Arc<Certificate>,
    ) -> Status {
        landed(self.flight(issuer, certificate, Cache::find)).await
    }

    /// The status of a certificate, which is asked for again if it is due. An answer that is still
    /// usable is used where there is no newer one.
    pub async fn refreshed(
        self: &Arc<Self>,
        issuer: Arc<Certificate>,
        certificate: Arc<Certificate>,
    ) -> Status {
        landed(self.flight(issuer, certificate, Cache::find_fresh)).await
    }

    /// Begins to ask for a certificate that is not known, so that [`Self::status`] waits less.
    pub fn begin(self: &Arc<Self>, issuer: &Arc<Certificate>, certificate: &Arc<Certificate>) {
        let key = issuer.issued_id(&certificate.serial);
        if self.cache.find(&key, self.asker.clock().now()).is_none() {
            drop(self.flight(Arc::clone(issuer), Arc::clone(certificate), Cache::find));
        }
    }

    /// The known status, the flight that is under way, or a new one.
    fn flight(
        self: &Arc<Self>,
        issuer: Arc<Certificate>,
        certificate: Arc<Certificate>,
        find: fn(&Cache, &Key, i64) -> Option<Status>,
    ) -> Result<Flight, Status> {
        let key = issuer.issued_id(&certificate.serial);
        // A flight fills the cache before it leaves the list: whoever finds neither is the first.
        let mut flights = self.flights.lock();
        if let Some(status) = find(&self.cache, &key, self.asker.clock().now()) {
            drop(flights);
            add(&self.metrics.cache_hits);
            return Err(status);
        }
        if let Some(flight) = flights.get(&key) {
            return Ok(flight.clone());
        }
        add(&self.metrics.cache_misses);
        if flights.len() >= self.flights_max {
            drop(flights);
            let status = Status::Unavailable(Unavailable::Busy);
            self.metrics.count(&status);
            return Err(status);
        }
        let (sender, flight) = watch::channel(None);
        flights.insert(key, flight.clone());
        drop(flights);
        let landing = Landing { ocsp: Arc::clone(self), key };
        self.tasks.spawn(async move {
            let status = landing.ocsp.ask(key, &issuer, &certificate).await;
            drop(landing);
            sender.send_replace(Some(status));
        });
        Ok(flight)
    }

    /// Asks, and keeps what is learnt.
    async fn ask(&self, key: Key, issuer: &Certificate, certificate: &Certificate) -> Status {
        let started = Instant::now();
        let answer = self.asker.ask(issuer, certificate).await;
        self.metrics.latency.observe(started.elapsed());
        let now = self.asker.clock().now();
        match answer {
            Ok(answer) => {
                let checked = answer.checked;
                self.metrics.count(&match checked.status {
                    CheckedStatus::Good => Status::Good,
                    CheckedStatus::Revoked(revoked) => Status::Revoked(revoked),
                    CheckedStatus::Unknown => Status::Unknown,
                });
                self.cache.answer(key, &checked, now)
            }
            Err(error) => {
                let serial = certificate.serial_hex();
                let subject = certificate.subject.as_str();
                tracing::debug!(subject, serial, %error, "no OCSP status");
                let status = match error.kind {
                    FaultKind::Unavailable(why) => Status::Unavailable(why),
                    FaultKind::Invalid(why) => Status::Invalid(why),
                };
                self.metrics.count(&status);
                self.cache.no_answer(key, status, now)
            }
        }
    }

    /// What is accepted of responses.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        self.asker.rules()
    }
}

/// The status once its flight ended.
async fn landed(flight: Result<Flight, Status>) -> Status {
    let mut flight = match flight {
        Ok(flight) => flight,
        Err(status) => return status,
    };
    let status = flight.wait_for(Option::is_some).await;
    // Its task was ended by a shutdown.
    let ended = Status::Unavailable(Unavailable::Failed);
    status.ok().and_then(|status| *status).unwrap_or(ended)
}

/// Takes a flight from the list, however it ends.
struct Landing {
    ocsp: Arc<Ocsp>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.ocsp.flights.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests;
