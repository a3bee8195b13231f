//! `portreeve pki issue server` and `device`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand, ValueEnum};
use portreeve_tls::now;
use portreeve_tls::pki::{AlternativeName, Issued, KeyKind, Kind, Request};
use serde_json::json;

use super::{Directory, rfc3339, said, shown, value};
use crate::cli::output;

/// Issue a certificate.
#[derive(Debug, Subcommand)]
pub(crate) enum IssueCommand {
    /// Issue a certificate for a server: a gateway, a broker.
    Server(Server),
    /// Issue a certificate for a device, or for anything else that connects.
    Device(Device),
}

impl IssueCommand {
    pub(super) fn run(self) -> Result<(), String> {
        match self {
            Self::Server(server) => server.run(),
            Self::Device(device) => device.run(),
        }
    }
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Key {
    /// ECDSA on P-256, which everything knows.
    P256,
    /// RSA of 2048 bits, for what is old.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl From<Key> for KeyKind {
    fn from(key: Key) -> Self {
        match key {
            Key::P256 => Self::P256,
            Key::Rsa => Self::Rsa,
            Key::Ed25519 => Self::Ed25519,
        }
    }
}

/// What both have.
#[derive(Debug, Args)]
struct Common {
    /// The kind of its key.
    #[arg(long, value_enum, value_name = "KIND", default_value_t = Key::P256)]
    key: Key,
    #[command(flatten)]
    directory: Directory,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Issue a certificate for a server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve pki issue server gateway --dns localhost --ip 127.0.0.1
  portreeve pki issue server gateway --dns mqtt.example.com --dns '*.mqtt.example.com' --must-staple

Without --dns and --ip it is for NAME, localhost and the addresses of this machine alone.")]
pub(crate) struct Server {
    /// Its common name, and the name of its files.
    name: String,
    /// A host name that clients connect to. Can be said more than once.
    #[arg(long, value_name = "HOST")]
    dns: Vec<String>,
    /// An address that clients connect to. Can be said more than once.
    #[arg(long, value_name = "ADDR")]
    ip: Vec<IpAddr>,
    /// Clients that know RFC 7633 are to refuse it without an OCSP response stapled to it.
    #[arg(long)]
    must_staple: bool,
    /// How long it lives.
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    days: u32,
    #[command(flatten)]
    common: Common,
}

impl Server {
    fn run(self) -> Result<(), String> {
        let dns = self.dns.into_iter().map(AlternativeName::Dns);
        let mut names: Vec<_> = dns.chain(self.ip.into_iter().map(AlternativeName::Ip)).collect();
        if names.is_empty() {
            // An underscore is right in a name of files, and wrong in one of a host.
            if !self.name.contains('_') {
                names.push(AlternativeName::Dns(self.name.clone()));
            }
            names.push(AlternativeName::Dns("localhost".to_owned()));
            names.push(AlternativeName::Ip(Ipv4Addr::LOCALHOST.into()));
            names.push(AlternativeName::Ip(Ipv6Addr::LOCALHOST.into()));
        }
        let request = Request {
            name: self.name,
            kind: Kind::Server,
            names,
            days: self.days,
            key: self.common.key.into(),
            must_staple: self.must_staple,
        };
        let issued = issue(&self.common, &request)?;
        if self.common.json {
            return Ok(());
        }
        output::say("A gateway serves it with");
        output::say(&format!(
            "  [[gateway.tls.certificate]]\n  chain = {:?}\n  key = {:?}",
            shown(&issued.chain),
            shown(&issued.key)
        ));
        let root = self.common.directory.shown("root.crt");
        output::say(&format!(
            "and clients trust it with {root}, as in mosquitto_sub --cafile {root}"
        ));
        Ok(())
    }
}

/// Issue a certificate for a device.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve pki issue device device-1
  portreeve pki issue device device-1 --key ed25519 --uri urn:example:device-1 --days 30")]
pub(crate) struct Device {
    /// Its common name, and the name of its files.
    name: String,
    /// A URI that names it. Can be said more than once.
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,
    /// An email address that names it. Can be said more than once.
    #[arg(long, value_name = "ADDRESS")]
    email: Vec<String>,
    /// A host name that names it. Can be said more than once.
    #[arg(long, value_name = "HOST")]
    dns: Vec<String>,
    /// How long it lives.
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    days: u32,
    #[command(flatten)]
    common: Common,
}

impl Device {
    fn run(self) -> Result<(), String> {
        let uris = self.uri.into_iter().map(AlternativeName::Uri);
        let addresses = self.email.into_iter().map(AlternativeName::Email);
        let hosts = self.dns.into_iter().map(AlternativeName::Dns);
        let request = Request {
            name: self.name,
            kind: Kind::Device,
            names: uris.chain(addresses).chain(hosts).collect(),
            days: self.days,
            key: self.common.key.into(),
            must_staple: false,
        };
        let issued = issue(&self.common, &request)?;
        if self.common.json {
            return Ok(());
        }
        output::say("It connects with");
        output::say(&format!(
            "  mosquitto_pub -p 8883 --cafile {} --cert {} --key {} -t hello -m world",
            self.common.directory.shown("root.crt"),
            shown(&issued.chain),
            shown(&issued.key)
        ));
        Ok(())
    }
}

/// Issues it, and says what there is now.
fn issue(common: &Common, request: &Request) -> Result<Issued, String> {
    let issued = common.directory.open()?.issue(request, now()).map_err(said)?;
    let [certificate, key, chain] =
        [&issued.certificate, &issued.key, &issued.chain].map(|path| shown(path));
    if common.json {
        output::json(&json!({
            "certificate": certificate, "key": key, "chain": chain,
            "names": issued.names, "issued": value(&issued.entry),
        }));
        return Ok(issued);
    }
    output::say(&format!(
        "{certificate}: the certificate, until {}",
        rfc3339(issued.entry.not_after)
    ));
    output::say(&format!("{chain}: the same with the intermediate, to be presented"));
    output::say(&format!("{key}: the key"));
    if !issued.names.is_empty() {
        output::say(&format!("It is for {}.", issued.names.join(", ")));
    }
    Ok(issued)
}
