//! What a manifest grants its plugin: `http`, `state`, `clock`, `random`, `env`, and `[http_client]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use portreeve_plugin::{Capabilities, HttpGrant, HttpPolicy};

use super::reader::{Section, read_plain};

/// Grants of one manifest.
const GRANTS_MAX: usize = 64;

/// Reads what is granted; files that it names are added to `files`. `settings` are those of the
/// plugin.
pub(super) fn capabilities(
    section: &Section<'_>,
    settings: &BTreeMap<String, String>,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Capabilities {
    let mut given = Capabilities::default();
    section.boolean_into("state", &mut given.state);
    section.boolean_into("clock", &mut given.clock);
    section.boolean_into("random", &mut given.random);
    for name in section.strings("env").unwrap_or_default() {
        match settings.get(&name) {
            Some(value) => drop(given.environment.insert(name, value.clone())),
            None => section.problem(
                "env",
                format!("{name:?} is none of the settings"),
                format!("a variable is a setting that the guest sees as its environment; add {name} = \"…\" to [settings]"),
            ),
        }
    }
    let grants = grants(section);
    let client = section.table("http_client");
    if grants.is_none() && client.is_some() {
        section.problem(
            "http_client",
            "has no effect: nothing is granted",
            "name what the plugin may reach: http = [\"https://auth.example.com/verify\"]",
        );
    }
    given.http = grants.map(|grants| {
        let mut policy = HttpPolicy::new(grants);
        if let Some(client) = client {
            read_client(&client, &mut policy, folder, files);
        }
        policy
    });
    given
}

/// `http = ["https://auth.example.com/verify"]`.
fn grants(section: &Section<'_>) -> Option<Vec<HttpGrant>> {
    let mut grants = Vec::new();
    let texts = section.strings("http")?;
    if texts.len() > GRANTS_MAX {
        section.problem("http", format!("has more than {GRANTS_MAX} addresses"), "");
    }
    for text in texts {
        match text.parse() {
            Ok(grant) => grants.push(grant),
            Err(error) => section.problem(
                "http",
                format!("{text:?} {error}"),
                "write \"https://auth.example.com/verify\"",
            ),
        }
    }
    Some(grants).filter(|grants| !grants.is_empty())
}

fn read_client(
    section: &Section<'_>,
    policy: &mut HttpPolicy,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) {
    for text in section.strings("addresses").unwrap_or_default() {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => policy.addresses.push(network),
            Err(_) => section.problem(
                "addresses",
                format!("{text:?} is no address and no network"),
                "write \"10.1.2.3\" or \"10.1.0.0/16\"",
            ),
        }
    }
    section.duration_into("timeout", &mut policy.timeout, Duration::from_millis(1));
    section.duration_into("connect_timeout", &mut policy.connect_timeout, Duration::from_millis(1));
    section.bytes_into("request", &mut policy.request_bytes_max, 0..((64 << 20) + 1));
    section.bytes_into("response", &mut policy.response_bytes_max, 0..((64 << 20) + 1));
    section.integer_into("concurrent", &mut policy.concurrent_max, 1..=10_000);
    section.integer_into("requests_per_call", &mut policy.requests_per_call_max, 1..=1_000);
    section.integer_into("redirects", &mut policy.redirects_max, 0..=10);
    let mut file = |key: &'static str| -> Option<Vec<u8>> {
        let path = folder.join(section.string(key)?);
        files.push(path.clone());
        match read_plain(&path) {
            Ok(text) => Some(text.into_bytes()),
            Err(error) => {
                let what = format!("{} cannot be read: {error}", path.display());
                section.problem(key, what, "write the path of a file in PEM, beside the manifest");
                None
            }
        }
    };
    policy.extra_ca = file("ca").unwrap_or_default();
    // A file need not end with the end of a line.
    let identity = file("client_certificate").zip(file("client_key"));
    policy.client_identity =
        identity.map(|(certificate, key)| [certificate, key].join(&b"\n"[..])).unwrap_or_default();
    let says = |wanted: &str| section.entries().any(|(key, _)| key == wanted);
    if says("client_certificate") != says("client_key") {
        section.problem(
            "client_certificate",
            "goes together with client_key",
            "write both: the certificate (with its chain) and its key, in PEM",
        );
    }
    section.finish();
}
