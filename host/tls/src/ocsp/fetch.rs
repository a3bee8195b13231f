//! One exchange with a responder over HTTP (RFC 6960 §A.1), within bounds of time and size. It goes
//! where its URL says: no redirects, no proxies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode, redirect};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use url::Url;

use super::breaker::Breaker;
use super::response::RESPONSE_BYTES_MAX;
use super::{Request, Unavailable};

/// How long a request waits for its turn; its own time begins after that. Long enough for a herd of
/// devices, whose requests are answered one after the other.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Responders that are kept apart. There are as many as allowed and configured hosts.
const RESPONDERS_MAX: usize = 1024;

/// How responders are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// GET where the request is short enough, which caches can answer; POST after an error that is
    /// said to be ours.
    #[default]
    Get,
    /// POST.
    Post,
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for OCSP cannot start: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// Asks responders.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: reqwest::Client,
    method: Method,
    concurrent_max: usize,
    responders: Mutex<HashMap<String, Responder>>,
}

/// What is shared by everybody who asks one responder.
#[derive(Debug, Clone)]
struct Responder {
    permits: Arc<Semaphore>,
    breaker: Breaker,
}

impl Fetcher {
    pub(super) fn new(
        method: Method,
        concurrent_max: usize,
        wants_tls: bool,
    ) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::none())
            .http1_only()
            .pool_max_idle_per_host(concurrent_max)
            .pool_idle_timeout(IDLE_TIMEOUT);
        // A small system may have no certificates, and a plain connection needs none.
        if !wants_tls {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build()?;
        let concurrent_max = concurrent_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self { client, method, concurrent_max, responders: Mutex::new(HashMap::new()) })
    }

    /// The bytes that the responder at `url` answers with, within `time` after its turn came.
    pub(super) async fn exchange(
        &self,
        url: &Url,
        request: &Request,
        time: Duration,
    ) -> Result<Vec<u8>, Unavailable> {
        let responder = self.responder(url)?;
        if responder.breaker.is_open(Instant::now()) {
            return Err(Unavailable::CircuitOpen);
        }
        let turn = timeout(TURN_TIMEOUT, responder.permits.acquire()).await;
        let Ok(Ok(_permit)) = turn else { return Err(Unavailable::Busy) };
        // While it waited, others may have failed.
        let attempt = responder.breaker.attempt(Instant::now()).ok_or(Unavailable::CircuitOpen)?;
        let answer = timeout(time, self.send(url, request)).await;
        match answer.unwrap_or(Err(Unavailable::Timeout)) {
            Ok(bytes) => {
                attempt.succeeded();
                Ok(bytes)
            }
            Err(why) => {
                if let Some(pause) = attempt.failed(Instant::now()) {
                    let host = url.host_str().unwrap_or_default();
                    tracing::warn!(host, ?pause, %why, "OCSP responder is left alone for a while");
                }
                Err(why)
            }
        }
    }

    fn responder(&self, url: &Url) -> Result<Responder, Unavailable> {
        let origin = url.origin().ascii_serialization();
        let mut responders = self.responders.lock();
        if let Some(responder) = responders.get(&origin) {
            return Ok(responder.clone());
        }
        if responders.len() >= RESPONDERS_MAX {
            return Err(Unavailable::Busy);
        }
        let responder = Responder {
            permits: Arc::new(Semaphore::new(self.concurrent_max)),
            breaker: Breaker::default(),
        };
        responders.insert(origin, responder.clone());
        drop(responders);
        Ok(responder)
    }

    async fn send(&self, url: &Url, request: &Request) -> Result<Vec<u8>, Unavailable> {
        let get = match self.method {
            Method::Get => request.get_url(url),
            Method::Post => None,
        };
        if let Some(get) = get {
            let sent = self.client.get(get).header(ACCEPT, "application/ocsp-response").send();
            let response = sent.await.map_err(|error| sort(&error))?;
            if !response.status().is_client_error() {
                return body(response).await;
            }
        }
        let sent = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/ocsp-request")
            .header(ACCEPT, "application/ocsp-response")
            .body(request.der().to_vec())
            .send();
        body(sent.await.map_err(|error| sort(&error))?).await
    }
}

/// The body of a successful response.
async fn body(mut response: Response) -> Result<Vec<u8>, Unavailable> {
    if response.status() != StatusCode::OK {
        return Err(Unavailable::HttpStatus);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| sort(&error))? {
        if bytes.len().saturating_add(chunk.len()) > RESPONSE_BYTES_MAX {
            return Err(Unavailable::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn sort(error: &reqwest::Error) -> Unavailable {
    if error.is_timeout() { Unavailable::Timeout } else { Unavailable::Connect }
}
