//! The client of one version of a plugin: its connections are its own, and so are its bounds.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
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

    /// Sends a request to this address, which was checked, and gives the response as soon as its head is
    /// there. It counts among the concurrent requests until the end of its response, whether the guest
    /// reads that or not, and all of it ends with the time of a request.
    pub(super) async fn send(
        &self,
        url: Url,
        request: Request<WasiBody>,
        options: RequestOptions,
        report: Report,
    ) -> Result<Response<WasiBody>, Error> {
        let deadline = Instant::now() + self.policy.timeout;
        let head = timeout_at(deadline, self.head(url, request, options, deadline)).await;
        let (response, permit) =
            head.unwrap_or_else(|_| Err(self.late())).map_err(|failure| report.of(failure))?;
        let (parts, body) = Response::<reqwest::Body>::from(response).into_parts();
        let mut reading = Reading {
            body,
            max: self.policy.response_bytes_max,
            read: 0,
            frame_timeout: options.between_bytes_timeout.unwrap_or(Duration::MAX),
            _permit: permit,
        };
        let (first, end) = reading.at_hand();
        let first = stream::iter(first.into_iter().map(Ok));
        let body = match end {
            Some(Ok(())) => StreamBody::new(first).boxed_unsync(),
            Some(Err(failure)) => {
                let end = stream::iter([Err(report.of(failure))]);
                StreamBody::new(first.chain(end)).boxed_unsync()
            }
            None => {
                StreamBody::new(first.chain(self.rest(reading, deadline, report))).boxed_unsync()
            }
        };
        Ok(Response::from_parts(parts, body))
    }

    /// What of a body comes later, read by a task of its own, whether the guest takes it or not.
    fn rest(
        &self,
        reading: Reading,
        deadline: Instant,
        report: Report,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send + use<> {
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        let late = self.late();
        let reader = AbortOnDropHandle::new(self.runtime.spawn(async move {
            // The last place is for the end: without it, the body is not whole.
            let Ok(last) = sender.clone().reserve_owned().await else { return };
            let read = timeout_at(deadline, reading.pass_on(&sender)).await;
            let end = read.unwrap_or(Err(late)).map_err(|failure| report.of(failure));
            drop(last.send(Part::End(end)));
        }));
        stream::unfold(Some((parts, reader)), next_part)
    }

    fn late(&self) -> Failure {
        let ms = self.policy.timeout.as_millis();
        let why = format!("timed out: no whole response within {ms} ms (http_client.timeout)");
        Failure::other(Error::HttpResponseTimeout, why)
    }

    async fn head(
        &self,
        url: Url,
        request: Request<WasiBody>,
        options: RequestOptions,
        deadline: Instant,
    ) -> Result<(reqwest::Response, OwnedSemaphorePermit), Failure> {
        let permit = self.permit(deadline).await?;
        let (parts, body) = request.into_parts();
        let body = self.collect(body).await?;
        let mut headers = parts.headers;
        // The client says how long the body is: another length would be the begin of another request.
        headers.remove(CONTENT_LENGTH);
        let request = self
            .client
            .request(parts.method, url)
            .headers(headers)
            .body(body)
            .timeout(deadline.saturating_duration_since(Instant::now()))
            .send();
        let asked = InRuntime { runtime: self.runtime.clone(), future: Box::pin(request) };
        // The guest may want it faster. Its time for the connection cannot be told apart here, so
        // that it counts until the first byte.
        let wanted = options.first_byte_timeout.map(|first_byte| {
            first_byte
                .saturating_add(options.connect_timeout.unwrap_or(self.policy.connect_timeout))
        });
        let asked = timeout(wanted.unwrap_or(Duration::MAX), asked);
        match asked.await {
            Ok(Ok(response)) => Ok((response, permit)),
            Ok(Err(error)) => Err(sort(&error)),
            Err(_) => {
                let why = "no response in the time that the plugin wanted";
                Err(Failure::other(Error::HttpResponseTimeout, why))
            }
        }
    }

    async fn permit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| {
            let why = format!(
                "{} requests are under way for {} ms; http_client.concurrent is the limit",
                self.policy.concurrent_max,
                self.policy.timeout.as_millis()
            );
            Failure::refusal(Error::ConnectionLimitReached, why)
        })
    }

    /// The body of a request, as the guest writes it.
    async fn collect(&self, body: WasiBody) -> Result<Bytes, Failure> {
        let max = self.policy.request_bytes_max;
        let collected = Limited::new(body, max).collect().await;
        let body = collected.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failure::refusal(
                Error::HttpRequestBodySize(u64::try_from(max).ok()),
                format!("its body has more than {max} bytes; http_client.request is the limit"),
            ),
            false => Failure::other(Error::HttpProtocolError, error.to_string()),
        })?;
        Ok(body.to_bytes())
    }
}

/// A future that is polled wherever it is waited for, and makes its tasks, sockets and clocks in a runtime: a
/// connection is used by others when the thread that asked for it has long gone on.
struct InRuntime<F> {
    runtime: Handle,
    future: F,
}

impl<F: Future + Unpin> Future for InRuntime<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _entered = this.runtime.enter();
        Pin::new(&mut this.future).poll(cx)
    }
}

/// Parts of a response that were read and that the guest did not take yet, the end among them.
const PARTS_MAX: usize = 3;

/// A part of a response's body.
enum Part {
    Frame(Frame<Bytes>),
    /// Its end, or why it is not whole.
    End(Result<(), Error>),
}

type Body = (mpsc::Receiver<Part>, AbortOnDropHandle<()>);

async fn next_part(body: Option<Body>) -> Option<(Result<Frame<Bytes>, Error>, Option<Body>)> {
    let (mut parts, reader) = body?;
    match parts.recv().await {
        Some(Part::Frame(frame)) => Some((Ok(frame), Some((parts, reader)))),
        Some(Part::End(Ok(()))) => None,
        Some(Part::End(Err(error))) => Some((Err(error), None)),
        // Whoever read was stopped.
        None => Some((Err(Error::HttpResponseIncomplete), None)),
    }
}

/// A body that is being read.
struct Reading {
    body: reqwest::Body,
    max: usize,
    read: usize,
    frame_timeout: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    /// The frames that are there already, and how the body ends where its end is, too: most bodies came
    /// with the head and need nobody who waits for them.
    fn at_hand(&mut self) -> (Vec<Frame<Bytes>>, Option<Result<(), Failure>>) {
        let mut frames = Vec::new();
        while frames.len() < PARTS_MAX {
            match self.body.frame().now_or_never() {
                Some(Some(frame)) => match self.take(frame) {
                    Ok(frame) => frames.push(frame),
                    Err(failure) => return (frames, Some(Err(failure))),
                },
                Some(None) => return (frames, Some(Ok(()))),
                None => break,
            }
        }
        (frames, None)
    }

    /// Passes the frames on, until the end or until nobody wants them any more.
    async fn pass_on(mut self, parts: &mpsc::Sender<Part>) -> Result<(), Failure> {
        loop {
            let frame = match timeout(self.frame_timeout, self.body.frame()).await {
                Ok(Some(frame)) => self.take(frame)?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    let why = "its response stopped for longer than the plugin wanted";
                    return Err(Failure::other(Error::ConnectionReadTimeout, why));
                }
            };
            if parts.send(Part::Frame(frame)).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Counts a frame against the limit.
    fn take(&mut self, frame: reqwest::Result<Frame<Bytes>>) -> Result<Frame<Bytes>, Failure> {
        let frame = frame.map_err(|error| sort(&error))?;
        self.read = self.read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if self.read <= self.max {
            return Ok(frame);
        }
        let error = Error::HttpResponseBodySize(u64::try_from(self.max).ok());
        let why = format!(
            "its response has more than {} bytes; http_client.response is the limit",
            self.max
        );
        Err(Failure::refusal(error, why))
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
            let permitted = permitted(&policy, &host, &found)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// The addresses among those that were found for a name that may be reached.
fn permitted(
    policy: &HttpPolicy,
    host: &str,
    found: &[SocketAddr],
) -> Result<Vec<SocketAddr>, AddressesRefused> {
    let addresses = found.iter().copied();
    let permitted: Vec<SocketAddr> =
        addresses.filter(|address| policy.permits_address(host, address.ip())).collect();
    if permitted.is_empty() && !found.is_empty() {
        let addresses = found.iter().map(SocketAddr::ip).collect();
        return Err(AddressesRefused { host: host.to_owned(), addresses });
    }
    Ok(permitted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_answers_for_a_name_only_public_ones_are_connected_to() {
        let policy = HttpPolicy::new(vec!["https://a.test/".parse().unwrap()]);
        let found = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
        };
        let mixed = found(&["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"]);
        let public = permitted(&policy, "a.test", &mixed).unwrap();
        assert_eq!(public, found(&["1.1.1.1", "2606:4700::1111"]));
        let private = found(&["10.0.0.1", "169.254.169.254"]);
        let refused = permitted(&policy, "a.test", &private).unwrap_err().to_string();
        assert!(refused.contains("a.test is 10.0.0.1, 169.254.169.254"), "{refused}");
        assert!(refused.contains("http_client.addresses"), "{refused}");
    }
}
