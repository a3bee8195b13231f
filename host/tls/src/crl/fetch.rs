//! Gets a list from where the operator says that it is, within bounds of time and size. It goes where
//! its URL says: no redirects, no proxies. That it is the issuer's list is proven by its signature.

use std::time::Duration;

use reqwest::{StatusCode, redirect};
use tokio::time::timeout;
use url::Url;

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Gets lists.
#[derive(Debug)]
pub struct CrlFetcher {
    client: reqwest::Client,
    bytes_max: usize,
    timeout: Duration,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrlFetchError {
    /// The HTTP client cannot start.
    #[error("the HTTP client for revocation lists cannot start: {0}")]
    Client(#[source] reqwest::Error),
    /// No connection, or it broke.
    #[error("{0} cannot be read: {1}")]
    Connect(Url, #[source] reqwest::Error),
    /// Not the whole list in time.
    #[error("{0} was not read within {1:?}")]
    Timeout(Url, Duration),
    /// A status other than 200, redirects among them.
    #[error("{0} answers with {1}")]
    Status(Url, StatusCode),
    /// More than what is allowed.
    #[error("{0} has more than {1} bytes")]
    TooLarge(Url, usize),
}

impl CrlFetcher {
    /// `timeout` is for all of one list. `wants_tls`: some URL is one of HTTPS.
    ///
    /// # Errors
    /// [`CrlFetchError::Client`].
    pub fn new(
        bytes_max: usize,
        timeout: Duration,
        wants_tls: bool,
    ) -> Result<Self, CrlFetchError> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::none())
            .http1_only()
            .pool_idle_timeout(IDLE_TIMEOUT);
        // A small system may have no certificates, and a plain connection needs none.
        if !wants_tls {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(CrlFetchError::Client)?;
        Ok(Self { client, bytes_max, timeout })
    }

    /// What is at `url`.
    ///
    /// # Errors
    /// [`CrlFetchError`].
    pub async fn fetch(&self, url: &Url) -> Result<Vec<u8>, CrlFetchError> {
        let late = |_| CrlFetchError::Timeout(url.clone(), self.timeout);
        timeout(self.timeout, self.read(url)).await.map_err(late)?
    }

    async fn read(&self, url: &Url) -> Result<Vec<u8>, CrlFetchError> {
        let failed = |error: reqwest::Error| CrlFetchError::Connect(url.clone(), error);
        let mut response = self.client.get(url.clone()).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(CrlFetchError::Status(url.clone(), response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len().saturating_add(chunk.len()) > self.bytes_max {
                return Err(CrlFetchError::TooLarge(url.clone(), self.bytes_max));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_responder::{Behaviour, TestResponder};

    #[tokio::test]
    async fn what_is_no_list_of_the_size_and_in_the_time_is_refused() {
        let fetcher = CrlFetcher::new(1 << 20, Duration::from_millis(300), false).unwrap();
        let responder = TestResponder::start(Behaviour::Garbage).await;
        // Any path: the responder decodes it as a request, and then sends garbage.
        let url = responder.url.join("/AAAA").unwrap();
        assert_eq!(fetcher.fetch(&url).await.unwrap(), b"<html></html>");
        responder.behave(Behaviour::Endless);
        assert!(matches!(fetcher.fetch(&url).await, Err(CrlFetchError::TooLarge(..))));
        responder.behave(Behaviour::Hang);
        assert!(matches!(fetcher.fetch(&url).await, Err(CrlFetchError::Timeout(..))));
        for status in [404, 302] {
            responder.behave(Behaviour::HttpStatus(status));
            let refused = fetcher.fetch(&url).await;
            assert!(matches!(refused, Err(CrlFetchError::Status(..))), "{status}");
        }
    }
}
