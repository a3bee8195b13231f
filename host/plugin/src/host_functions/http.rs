//! `wasi:http`, by the gateway's own client: what a guest asks for is checked against its grants
//! before anything leaves the machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, Request, Response, Uri};
use url::Url;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use crate::bindings::portreeve::plugin::log::Level;
use crate::capabilities::{HttpPolicy, has_credentials, is_http};
use crate::host_functions::log::{CaptureSlot, write_line};
use crate::version::Shared;

mod client;

pub(crate) use client::Client;
pub use client::ClientError;
use client::Failure;

/// What an instance keeps for its requests.
pub(crate) struct Http {
    pub(crate) context: WasiHttpCtx,
    pub(crate) hooks: Hooks,
}

impl Http {
    pub(crate) fn new(shared: &Arc<Shared>, capture: &CaptureSlot) -> Self {
        let hooks = Hooks {
            shared: Arc::clone(shared),
            capture: capture.clone(),
            requests: 0,
            permitted: None,
        };
        Self { context: WasiHttpCtx::new(), hooks }
    }

    /// Before each call.
    pub(crate) const fn arm(&mut self) {
        self.hooks.requests = 0;
    }
}

/// What the library asks of its host.
pub(crate) struct Hooks {
    shared: Arc<Shared>,
    capture: CaptureSlot,
    /// Requests of the call that runs.
    requests: u32,
    /// The address of the last request that was permitted: most plugins ask one.
    permitted: Option<(Uri, Url)>,
}

type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Worker), Error>;

impl WasiHttpHooks for Hooks {
    fn set_host_header(&mut self) -> bool {
        // The client derives it from the address that was checked.
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_was_processed: Worker,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (shared, capture) = (Arc::clone(&self.shared), self.capture.clone());
        self.requests = self.requests.saturating_add(1);
        let checked = self.check(&request);
        shared.statistics.http_requests.fetch_add(1, Ordering::Relaxed);
        let report = Report {
            method: request.method().clone(),
            uri: request.uri().clone(),
            shared,
            capture,
        };
        Box::new(async move {
            let response = match checked {
                Ok((client, url)) => {
                    client.send(url, request, options.unwrap_or_default(), report).await?
                }
                Err(failure) => return Err(report.of(failure)),
            };
            Ok((response, Box::new(async { Ok(()) }) as Worker))
        })
    }
}

/// Tells the log and the counters of what went wrong with one request.
pub(super) struct Report {
    method: Method,
    uri: Uri,
    shared: Arc<Shared>,
    capture: CaptureSlot,
}

impl Report {
    /// Gives what the guest is told.
    fn of(&self, failure: Failure) -> Error {
        let statistics = &self.shared.statistics;
        let (counter, what) = match failure.is_refusal {
            true => (&statistics.http_refused, "refused"),
            false => (&statistics.http_failed, "failed"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let line = format!("HTTP {what}: {}: {}", self.asked(), failure.why);
        // A path may hold a token that came from the settings.
        write_line(&self.shared, &self.capture, Level::Warn, &self.shared.masked(&line));
        failure.error
    }

    /// The request as it may stand in the log: a query may hold secrets.
    fn asked(&self) -> String {
        let Self { method, uri, .. } = self;
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.authority());
        let host = host.and_then(|host| host.as_str().rsplit('@').next()).unwrap_or_default();
        format!("{method} {scheme}://{host}{}", uri.path())
    }
}

impl Hooks {
    /// The address in its normal form, if a request may go there.
    fn check<B>(&mut self, request: &Request<B>) -> Result<(Arc<Client>, Url), Failure> {
        let Some(client) = self.shared.http.clone() else {
            return Err(Failure::refusal(
                Error::HttpRequestDenied,
                "no HTTP is granted; name what it may reach: http = [\"https://…\"]",
            ));
        };
        let policy = client.policy();
        if self.requests > policy.requests_per_call_max {
            let why = format!(
                "more than {} requests in one call; http_client.requests_per_call is the limit",
                policy.requests_per_call_max
            );
            return Err(Failure::refusal(Error::HttpRequestDenied, why));
        }
        if request.method() == Method::CONNECT {
            let why = "CONNECT would make a tunnel, which no grant covers";
            return Err(Failure::refusal(Error::HttpRequestMethodInvalid, why));
        }
        let url = match &self.permitted {
            Some((uri, url)) if uri == request.uri() => url.clone(),
            _ => {
                let url = permitted(policy, request.uri())?;
                self.permitted = Some((request.uri().clone(), url.clone()));
                url
            }
        };
        Ok((client, url))
    }
}

/// The address in its normal form, if the grants cover it.
fn permitted(policy: &HttpPolicy, uri: &Uri) -> Result<Url, Failure> {
    let invalid = |why: String| Failure::refusal(Error::HttpRequestUriInvalid, why);
    let url = Url::parse(&uri.to_string())
        .map_err(|error| invalid(format!("its address is no URL: {error}")))?;
    if has_credentials(&url) || !is_http(&url) {
        let why = "an address is scheme, host, port, path and query; put a password into the header Authorization";
        return Err(invalid(why.to_owned()));
    }
    if !policy.permits(&url) {
        let why = "the manifest does not grant it; `http` lists what it grants";
        return Err(Failure::refusal(Error::HttpRequestDenied, why));
    }
    Ok(url)
}
