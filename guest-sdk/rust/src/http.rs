//! Requests over HTTP, to what the manifest grants: `http = ["https://auth.example.com/verify"]`.
//!
//! ```no_run
//! use portreeve_guest::http::Request;
//!
//! let response = Request::post("https://auth.example.com/verify", r#"{"user":"device-1"}"#)
//!     .header("content-type", "application/json")
//!     .send()?;
//! let is_known = response.status == 200;
//! # Ok::<(), portreeve_guest::Error>(())
//! ```
//!
//! A request ends with the call's deadline, whatever its own time-outs are. In native unit tests
//! [`testing::http`](crate::testing::http) answers.

use std::fmt;
use std::time::Duration;

/// A request in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` and the like.
    pub method: String,
    /// Scheme, host, port, path and query.
    pub url: String,
    /// Names and values, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Empty for none.
    pub body: Vec<u8>,
    /// Time until the first byte of the response, and between its parts; the manifest's where it is
    /// left out.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
        }
    }

    /// GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// POST with a body.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", url).body(body)
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With this time-out.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it, and waits for the whole response. Any status is a response.
    ///
    /// # Errors
    /// [`HttpError`] when there was none: refused by the gateway, unreachable, too late, too large.
    pub fn send(self) -> Result<Response, HttpError> {
        host::send(self)
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; the gateway bounds it (`http_client.response`).
    pub body: Vec<u8>,
}

impl Response {
    /// A response with this status and body, for tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Whether the status is one of success, 200 to 299.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// The first header of this name, in whatever case, where its value is a text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

/// Why there is no response. The gateway's log says more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// The gateway did not make the request, as the manifest does not grant it.
    Denied,
    /// The request cannot be sent as it is; the text says what is wrong.
    Invalid(String),
    /// No response in time.
    TimedOut,
    /// The server could not be reached, or its certificate is not to be trusted; the code of
    /// `wasi:http`.
    Unreachable(String),
    /// The response broke off, or is larger than the manifest allows; the code of `wasi:http`.
    Broken(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the manifest does not grant this request"),
            Self::Invalid(why) => write!(f, "the request cannot be sent: {why}"),
            Self::TimedOut => f.write_str("no response in time"),
            Self::Unreachable(code) => write!(f, "the server cannot be reached: {code}"),
            Self::Broken(code) => write!(f, "the response cannot be read: {code}"),
        }
    }
}

impl std::error::Error for HttpError {}

#[cfg(not(target_family = "wasm"))]
use crate::native::http as host;
#[cfg(target_family = "wasm")]
use crate::wasm::http as host;
