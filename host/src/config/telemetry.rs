//! `[telemetry]`: where traces are sent, and how many.

use std::path::Path;
use std::time::Duration;

use url::Url;

use super::manifest::setting;
use super::reader::{Section, read_plain};
use crate::telemetry::TelemetryConfig;

/// Requests take some time.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// What is behind the address of a collector (OTLP 1.x, OTLP/HTTP Request).
const TRACES_PATH: &str = "/v1/traces";

pub(super) fn read(section: &Section<'_>, folder: &Path) -> Option<TelemetryConfig> {
    let mut config = TelemetryConfig::default();
    let endpoint = section.required_string("endpoint", "http://127.0.0.1:4318");
    section.duration_into("timeout", &mut config.timeout, MIN_TIMEOUT);
    if let Some(name) = section.string("service_name") {
        config.service_name = name;
    }
    section.share_into("connects", &mut config.connects);
    section.share_into("publishes", &mut config.publishes);
    if let Some(path) = section.string("ca") {
        match read_plain(&folder.join(&path)) {
            Ok(pem) => config.ca = Some(pem.into_bytes()),
            Err(error) => section.problem(
                "ca",
                format!("{path} cannot be read: {error}"),
                "name a file of certificates in PEM",
            ),
        }
    }
    if let Some(headers) = section.table("headers") {
        for (key, value) in headers.entries() {
            match setting(value, folder, &mut Vec::new()) {
                Ok((text, _)) => {
                    config.headers.insert(key.to_owned(), text);
                }
                Err(error) => headers.problem(
                    key,
                    error,
                    "write a text, { env = \"NAME\" } or { file = \"PATH\" }",
                ),
            }
        }
    }
    section.finish();
    match with_path(&endpoint?) {
        Ok(endpoint) => Some(TelemetryConfig { endpoint, ..config }),
        Err(error) => {
            section.problem("endpoint", error, "write \"http://127.0.0.1:4318\"");
            None
        }
    }
}

/// The URL of the collector's traces: its address, or the whole URL as it is.
fn with_path(endpoint: &str) -> Result<String, String> {
    let mut url: Url =
        endpoint.parse().map_err(|error| format!("{endpoint:?} is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("{endpoint:?} is no URL of http or https"));
    }
    if url.path() == "/" {
        url.set_path(TRACES_PATH);
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::with_path;

    #[test]
    fn traces_have_their_path_behind_the_address() {
        assert_eq!(with_path("http://a:4318").unwrap(), "http://a:4318/v1/traces");
        assert_eq!(with_path("https://a/otlp/v1/traces").unwrap(), "https://a/otlp/v1/traces");
        assert!(with_path("a:4318").unwrap_err().contains("no URL"));
        assert!(with_path("ftp://a").unwrap_err().contains("http"));
    }
}
