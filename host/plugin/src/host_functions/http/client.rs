//! The client of one version of a plugin: its connections are its own, and so are its bounds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::Report;
use crate::capabilities::{HttpPolicy, has_credentials};

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("its HTTP client cannot start: {0}")]
pub struct ClientError(String);

/// Makes requests within a policy.
pub(crate) struct Client {
    policy: Arc<HttpPolicy>,
    client: reqwest::Client,
    permits: Arc<Semaphore>,
    /// Where requests run: guests may run in threads that stand back, connections must not.
    runtime: Handle,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// A request that was checked.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A request that got no response.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the guest is told.
    pub(super) error: Error,
    /// What the log is told.
    pub(super) why: String,
    /// Whether it was the gateway that refused.
    pub(super) is_refusal: bool,
}

impl Failure {
    pub(super) fn refusal(error: Error, why: impl Into<String>) -> Self {
        Self { error, why: why.into(), is_refusal: true }
    }

    pub(super) fn other(error: Error, why: impl Into<String>) -> Self {
        Self { error, why: why.into(), is_refusal: false }
    }
}

impl Client {
    /// A client within `policy`, whose requests run in this runtime. Reads the certificates of the
    /// system.
    ///
    /// # Errors
    /// [`ClientError`] where certificates cannot be used.
    pub(crate) fn new(policy: &HttpPolicy, runtime: Handle) -> Result<Self, ClientError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: reqwest::Error| ClientError(format!("{what}: {}", chain(&error)))
        };
        let policy = Arc::new(policy.clone());
        let ca = reqwest::Certificate::from_pem_bundle(&policy.extra_ca)
            .map_err(failed("http_client.ca is no list of certificates in PEM"))?;
        let mut builder = reqwest::Client::builder()
            // Connections go where the grants say, whatever the environment says.
            .no_proxy()
            .referer(false)
            .redirect(redirects(Arc::clone(&policy)))
            .dns_resolver(Arc::new(Resolver { policy: Arc::clone(&policy) }))
            .timeout(policy.timeout)
            .connect_timeout(policy.connect_timeout)
            .pool_max_idle_per_host(policy.concurrent_max)
            .pool_idle_timeout(IDLE_TIMEOUT);
        // A small system may have no certificates, and a plain connection needs none.
        builder = match policy.wants_tls() {
            true => builder.tls_certs_merge(ca),
            false => builder.tls_certs_only(ca),
        };
        if !policy.client_identity.is_empty() {
            let identity = reqwest::Identity::from_pem(&policy.client_identity).map_err(failed(
                "http_client.client_certificate and client_key are no certificate with its key in PEM",
            ))?;
            builder = builder.identity(identity);
        }
        let client = builder.build().map_err(failed(
            "TLS cannot start; install the certificates of the system (ca-certificates), or name an authority in http_client.ca",
        ))?;
        let permits = Arc::new(Semaphore::new(policy.concurrent_max));
        Ok(Self { policy, client, permits, runtime })
    }

    pub(super) fn policy(&self) -> &HttpPolicy {
        &self.policy
    }

    /// Sends, and gives the response as soon as its head is there.
    pub(super) async fn send(
        self: &Arc<Self>,
        outgoing: Outgoing,
        options: RequestOptions,
        report: Report,
    ) -> Result<Response<WasiBody>, Error> {
        let (response, permit) =
            self.head(outgoing, options).await.map_err(|failure| report.of(failure))?;
        let (parts, body) = Response::<reqwest::Body>::from(response).into_parts();
        let reading = Reading {
            body,
            max: self.policy.response_bytes_max,
            read: 0,
            frame_timeout: options.between_bytes_timeout.unwrap_or(Duration::MAX),
            report,
            _permit: permit,
        };
        let frames = stream::unfold(Some(reading), |reading| async { reading?.next().await });
        Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
    }

    async fn head(
        &self,
        outgoing: Outgoing,
        options: RequestOptions,
    ) -> Result<(reqwest::Response, OwnedSemaphorePermit), Failure> {
        let deadline = Instant::now() + self.policy.timeout;
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let why = format!(
                "{} requests are under way for {} ms; http_client.concurrent is the limit",
                self.policy.concurrent_max,
                self.policy.timeout.as_millis()
            );
            return Err(Failure::refusal(Error::ConnectionLimitReached, why));
        };
        let Outgoing { method, url, headers, body } = outgoing;
        let request = self
            .client
            .request(method, url)
            .headers(headers)
            .body(body)
            .timeout(deadline.saturating_duration_since(Instant::now()))
            .send();
        let asked = AbortOnDropHandle::new(self.runtime.spawn(request));
        // The guest may want it faster. Its time for the connection cannot be told apart here, so
        // that it counts until the first byte.
        let wanted = options.first_byte_timeout.map(|first_byte| {
            first_byte
                .saturating_add(options.connect_timeout.unwrap_or(self.policy.connect_timeout))
        });
        let asked = timeout(wanted.unwrap_or(Duration::MAX), asked);
        match asked.await {
            Ok(Ok(Ok(response))) => Ok((response, permit)),
            Ok(Ok(Err(error))) => Err(sort(&error)),
            Ok(Err(error)) => Err(Failure::other(Error::InternalError(None), error.to_string())),
            Err(_) => {
                let why = "no response in the time that the plugin wanted";
                Err(Failure::other(Error::HttpResponseTimeout, why))
            }
        }
    }
}

/// A body that is being read. It counts among the concurrent requests until its end.
struct Reading {
    body: reqwest::Body,
    max: usize,
    read: usize,
    frame_timeout: Duration,
    report: Report,
    _permit: OwnedSemaphorePermit,
}

type Read = (Result<Frame<Bytes>, Error>, Option<Reading>);

impl Reading {
    async fn next(mut self) -> Option<Read> {
        let frame = match timeout(self.frame_timeout, self.body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return self.end(sort(&error)),
            Ok(None) => return None,
            Err(_) => {
                let why = "its response stopped for longer than the plugin wanted";
                return self.end(Failure::other(Error::ConnectionReadTimeout, why));
            }
        };
        self.read = self.read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if self.read > self.max {
            let error = Error::HttpResponseBodySize(u64::try_from(self.max).ok());
            let why = format!(
                "its response has more than {} bytes; http_client.response is the limit",
                self.max
            );
            return self.end(Failure::refusal(error, why));
        }
        Some((Ok(frame), Some(self)))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is what a stream's step returns")]
    fn end(&self, failure: Failure) -> Option<Read> {
        Some((Err(self.report.of(failure)), None))
    }
}

/// A redirect to what is not granted.
#[derive(Debug, thiserror::Error)]
#[error("it redirects to {0}, which the manifest does not grant")]
struct RedirectRefused(String);

fn redirects(policy: Arc<HttpPolicy>) -> redirect::Policy {
    if policy.redirects_max == 0 {
        return redirect::Policy::none();
    }
    redirect::Policy::custom(move |attempt| {
        // The first one that was asked counts among the previous ones.
        if attempt.previous().len() > policy.redirects_max {
            return attempt.stop();
        }
        if policy.permits(attempt.url()) && !has_credentials(attempt.url()) {
            return attempt.follow();
        }
        let mut url = attempt.url().clone();
        url.set_query(None);
        let _cannot = url.set_password(None);
        attempt.error(RedirectRefused(url.to_string()))
    })
}

/// Every address of a name is one that a plugin must not reach.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} is {}: no public address; where it is to be reached, name it in http_client.addresses",
    list(.addresses)
)]
struct AddressesRefused {
    host: String,
    addresses: Vec<IpAddr>,
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// Looks names up as the system does, and leaves out what may not be reached. A connection goes to
/// an address that was checked here: no second look-up can give another one.
struct Resolver {
    policy: Arc<HttpPolicy>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.policy);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let permitted: Vec<SocketAddr> = found
                .iter()
                .copied()
                .filter(|address| policy.permits_address(&host, address.ip()))
                .collect();
            if permitted.is_empty() && !found.is_empty() {
                let addresses = found.iter().map(SocketAddr::ip).collect();
                return Err(AddressesRefused { host, addresses }.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// What the guest and the log are told of an error of the client's.
fn sort(error: &reqwest::Error) -> Failure {
    let why = chain(error);
    let causes =
        || std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| cause(*e));
    if causes().any(|cause| cause.is::<AddressesRefused>()) {
        return Failure::refusal(Error::DestinationIpProhibited, why);
    }
    if causes().any(|cause| cause.is::<RedirectRefused>()) {
        return Failure::refusal(Error::HttpRequestDenied, why);
    }
    let io = |kind: std::io::ErrorKind| {
        causes()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|e| e.kind() == kind)
    };
    let tls = causes().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    let told = match tls {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(_) => Error::TlsProtocolError,
        None if error.is_timeout() && error.is_connect() => Error::ConnectionTimeout,
        None if error.is_timeout() => Error::HttpResponseTimeout,
        None if io(std::io::ErrorKind::ConnectionRefused) => Error::ConnectionRefused,
        None if error.is_connect() => Error::DestinationUnavailable,
        None if error.is_body() || error.is_decode() => Error::HttpResponseIncomplete,
        None if io(std::io::ErrorKind::ConnectionReset) => Error::ConnectionTerminated,
        None => Error::HttpProtocolError,
    };
    Failure::other(told, why)
}

/// What caused an error. One of input and output hides the error that it was made of.
fn cause<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// An error with what caused it. The address is left out: it stands in the log line already, and its
/// query must not.
fn chain(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Some repeat what they were caused by.
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause(error);
    }
    if error.is_timeout() && texts.is_empty() {
        texts.push("no response in time".to_owned());
    }
    if texts.is_empty() {
        return "the request failed".to_owned();
    }
    texts.join(": ")
}
