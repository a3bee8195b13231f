//! `portreeve cert`: certificates, authorities, CRLs, and what is not let in.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use portreeve::certificates::{Certificates, Denied, Imported};
use portreeve::config::Config;
use portreeve_tls::Certificate;
use portreeve_tls::material::{read_certificates, read_file};
use serde_json::json;

use super::admin;
use super::output;

mod show;

/// Bytes of a file with a password.
const PASSWORD_BYTES_MAX: u64 = 4 << 10;

/// Work with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Import a certificate with its key, an authority or a CRL.
    #[command(subcommand)]
    Import(Import),
    /// List what there is: files, and what a running gateway serves of them.
    List(show::List),
    /// Show one certificate, with its versions.
    Show(show::Show),
    /// Have another version of a certificate served.
    Activate(Activate),
    /// Remove a version that does not serve, or something that no gateway names.
    Remove(Remove),
    /// Do not let a certificate in, whatever its authority says; live sessions end.
    Revoke(Revoke),
    /// Let it in again.
    Unrevoke(Revoke),
}

impl CertCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        match self {
            Self::Import(import) => import.execute().await,
            Self::List(list) => list.execute().await,
            Self::Show(show) => show.execute(),
            Self::Activate(activate) => activate.execute().await,
            Self::Remove(remove) => remove.execute().await,
            Self::Revoke(revoke) => revoke.execute(true).await,
            Self::Unrevoke(revoke) => revoke.execute(false).await,
        }
    }
}

/// Where the certificates are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The directory of certificates.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The gateway's data directory, in which it is.
    #[arg(long, value_name = "DIR", conflicts_with = "dir")]
    data: Option<PathBuf>,
    /// The gateway's configuration file, which names either.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "data"])]
    config: Option<PathBuf>,
}

impl Place {
    fn config(&self) -> Result<Option<Config>, String> {
        let read = |path: &PathBuf| Config::read(path).map_err(|error| error.to_string());
        self.config.as_ref().map(read).transpose()
    }

    pub(super) fn certificates(&self) -> Result<Certificates, String> {
        if let Some(directory) = &self.dir {
            return Ok(Certificates::at(directory));
        }
        let config = match (&self.data, self.config()?) {
            (Some(data), _) => {
                let mut config = Config::default();
                config.data = Some(data.clone());
                config
            }
            (None, Some(config)) => config,
            (None, None) => {
                return Err("where are the certificates? Say --config FILE or --data DIR as the gateway was started \
                            with, or --dir DIR"
                    .to_owned());
            }
        };
        let directory = config
            .certificates()
            .ok_or("the configuration has neither [certificates] directory nor [data] directory")?;
        Ok(Certificates::at(&directory))
    }

    /// The running gateway, where there is one that can be found.
    pub(super) fn gateway(&self) -> Option<admin::Gateway> {
        let gateway = admin::Gateway::of(self.data.clone(), self.config.clone())?;
        gateway.is_there().then_some(gateway)
    }

    /// Has a running gateway look at the files.
    async fn reload(&self) -> ExitCode {
        let Some(gateway) = self.gateway() else {
            output::say("no running gateway was told; one that names it notices by itself");
            return ExitCode::SUCCESS;
        };
        match gateway.order("/v1/reload", &json!({})).await {
            Ok(_) => {
                output::say("the running gateway has taken it");
                ExitCode::SUCCESS
            }
            Err(error) => {
                output::fail(&format!("the running gateway goes on with what it had: {error}"))
            }
        }
    }
}

/// Import a certificate with its key, an authority or a CRL.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// A certificate of the gateway's own, with its key.
    #[command(after_help = "Examples:
  portreeve cert import server gw --chain gw.crt --key gw.key --config portreeve.toml
  portreeve cert import server gw --chain new.crt --key new.key --activate --config portreeve.toml

A gateway serves it with [[gateway.tls.certificate]] name = \"gw\". Keys are kept without password in
files that only their owner can read; they are never printed.")]
    Server(ImportServer),
    /// Certificates of authorities: trust anchors and intermediates.
    #[command(after_help = "Example:
  portreeve cert import ca devices ca.crt --config portreeve.toml

A gateway trusts it with [gateway.tls.client] trust_anchors = [\"name:devices\"].")]
    Ca(ImportFile),
    /// A CRL.
    #[command(after_help = "Example:
  portreeve cert import crl devices ca.crl --config portreeve.toml

A gateway uses it with [gateway.tls.client.crl] files = [\"name:devices\"].")]
    Crl(ImportFile),
}

/// A certificate of the gateway's own.
#[derive(Debug, Args)]
pub(crate) struct ImportServer {
    /// What it is called.
    name: String,
    /// Its certificates, PEM or DER, end entity first.
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// Its key: PKCS#8 (also encrypted), PKCS#1 or SEC1, PEM or DER.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The password of an encrypted key.
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,
    /// Have it served at once, instead of the version that is.
    #[arg(long)]
    activate: bool,
    #[command(flatten)]
    place: Place,
}

/// Something that is one file.
#[derive(Debug, Args)]
pub(crate) struct ImportFile {
    /// What it is called.
    name: String,
    /// The file, PEM or DER.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

impl Import {
    async fn execute(self) -> ExitCode {
        let (done, place) = match &self {
            Self::Server(server) => (server.import(), &server.place),
            Self::Ca(file) => (file.import_authority(), &file.place),
            Self::Crl(file) => (file.import_crl(), &file.place),
        };
        match done {
            Ok(said) => {
                output::say(&said);
                place.reload().await
            }
            Err(error) => output::fail(&error),
        }
    }
}

impl ImportServer {
    fn import(&self) -> Result<String, String> {
        let read = |path: &PathBuf| read_file(path, PASSWORD_BYTES_MAX);
        let password = self.key_password_file.as_ref().map(read).transpose();
        let password = password.map_err(|error| error.to_string())?;
        let password = password.as_ref().map(|bytes| bytes.trim_ascii_end());
        let certificates = self.place.certificates()?;
        let imported =
            certificates.import_server(&self.name, &self.chain, &self.key, password, self.activate);
        let Imported { version, certificates, is_active } =
            imported.map_err(|error| error.to_string())?;
        let subject = certificates.first().map(|one| one.subject.clone()).unwrap_or_default();
        Ok(match is_active {
            true => format!("{} {version}: {subject}, and serves", self.name),
            false => format!(
                "{} {version}: {subject}; portreeve cert activate {} {version} has it served",
                self.name, self.name
            ),
        })
    }
}

impl ImportFile {
    fn import_authority(&self) -> Result<String, String> {
        let imported = self.place.certificates()?.import_authority(&self.name, &self.file);
        let certificates = imported.map_err(|error| error.to_string())?.certificates;
        let subjects: Vec<&str> = certificates.iter().map(|one| one.subject.as_str()).collect();
        Ok(format!("{}: {}", self.name, subjects.join("; ")))
    }

    fn import_crl(&self) -> Result<String, String> {
        let lists = self.place.certificates()?.import_crl(&self.name, &self.file);
        let lists = lists.map_err(|error| error.to_string())?;
        Ok(format!("{}: {lists} list(s)", self.name))
    }
}

/// Have another version served.
#[derive(Debug, Args)]
pub(crate) struct Activate {
    /// The certificate.
    name: String,
    /// The first digits of the version.
    // `version` is the flag of every command.
    #[arg(id = "of", value_name = "VERSION")]
    version: String,
    #[command(flatten)]
    place: Place,
}

impl Activate {
    async fn execute(self) -> ExitCode {
        let activated = self.place.certificates().and_then(|certificates| {
            certificates.activate(&self.name, &self.version).map_err(|error| error.to_string())
        });
        match activated {
            Ok(version) => {
                output::say(&format!("{} {version} serves", self.name));
                self.place.reload().await
            }
            Err(error) => output::fail(&error),
        }
    }
}

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A certificate of the gateway's own.
    Server,
    /// An authority.
    Ca,
    /// A CRL.
    Crl,
}

/// Remove something.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// What kind of thing.
    kind: Kind,
    /// Its name.
    name: String,
    /// One version of a server's certificate; left out: all of it.
    #[arg(id = "of", value_name = "VERSION")]
    version: Option<String>,
    /// Remove it although it is not known whether a gateway names it.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

impl Remove {
    async fn execute(self) -> ExitCode {
        match self.remove() {
            Ok(()) => {
                output::say(&format!("{} is removed", self.name));
                self.place.reload().await
            }
            Err(error) => output::fail(&error),
        }
    }

    fn remove(&self) -> Result<(), String> {
        let certificates = self.place.certificates()?;
        if self.version.is_none() {
            self.check_unused()?;
        }
        let removed = match self.kind {
            Kind::Server => certificates.remove_server(&self.name, self.version.as_deref()),
            Kind::Ca => certificates.remove_authority(&self.name),
            Kind::Crl => certificates.remove_crl(&self.name),
        };
        removed.map_err(|error| error.to_string())
    }

    fn check_unused(&self) -> Result<(), String> {
        let Some(config) = self.place.config()? else {
            return match self.force {
                true => Ok(()),
                false => Err("without --config FILE it is not known whether a gateway names it; --force removes it"
                    .to_owned()),
            };
        };
        let kind = match self.kind {
            Kind::Server => "server",
            Kind::Ca => "ca",
            Kind::Crl => "crl",
        };
        let users = config.users_of_certificate(kind, &self.name);
        match users.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} is named by gateway {}; take it out of there first",
                self.name,
                users.join(", ")
            )),
        }
    }
}

/// Which certificate.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve cert revoke --certificate device-7.crt --reason lost --config portreeve.toml
  portreeve cert revoke --fingerprint 5f2c… --config portreeve.toml
  portreeve cert revoke --issuer int.crt --serial 1003 --config portreeve.toml

This is the gateway's own list, for all its gateways; the authority is not told.")]
pub(crate) struct Revoke {
    /// The certificate itself.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// SHA-256 of it: 64 hex digits, colons do not matter.
    #[arg(long, value_name = "HEX", conflicts_with = "certificate")]
    fingerprint: Option<String>,
    /// Its serial number in hex; goes with --issuer.
    #[arg(long, value_name = "HEX", requires = "issuer", conflicts_with_all = ["certificate", "fingerprint"])]
    serial: Option<String>,
    /// The certificate of the authority that issued it.
    #[arg(long, value_name = "FILE", requires = "serial")]
    issuer: Option<PathBuf>,
    /// Why, for people.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    place: Place,
}

impl Revoke {
    async fn execute(self, denies: bool) -> ExitCode {
        match self.change(denies) {
            Ok(said) => {
                output::say(&said);
                self.place.reload().await
            }
            Err(error) => output::fail(&error),
        }
    }

    fn change(&self, denies: bool) -> Result<String, String> {
        let denied = self.denied()?;
        let certificates = self.place.certificates()?;
        let name = denied.subject.clone();
        let changed = match denies {
            true => certificates.deny(denied),
            false => certificates.allow(&denied),
        };
        Ok(match (changed.map_err(|error| error.to_string())?, denies) {
            (true, true) => format!("{name} is not let in any more"),
            (false, true) => format!("{name} was not let in already"),
            (true, false) => format!("{name} may be let in again"),
            (false, false) => format!("{name} was not on the list"),
        })
    }

    fn denied(&self) -> Result<Denied, String> {
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let mut denied = Denied {
            fingerprint: None,
            issuer_der: None,
            serial: None,
            subject: String::new(),
            reason: self.reason.clone(),
            at: now,
        };
        if let Some(path) = &self.certificate {
            let certificate = first(path)?;
            denied.fingerprint = Some(certificate.fingerprint_hex());
            denied.subject.clone_from(&certificate.subject);
        } else if let Some(text) = &self.fingerprint {
            let digits = text.replace(':', "").to_ascii_lowercase();
            denied.subject = format!("the certificate {digits}");
            denied.fingerprint = Some(digits);
        } else if let (Some(serial), Some(issuer)) = (&self.serial, &self.issuer) {
            let issuer = first(issuer)?;
            let digits = serial.replace(':', "").to_ascii_lowercase();
            let digits = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
            denied.subject = format!("serial number {digits} of {}", issuer.subject);
            denied.issuer_der = Some(hex::encode(&issuer.subject_der));
            denied.serial = Some(digits);
        } else {
            return Err("which certificate? Say --certificate FILE, --fingerprint HEX, or --issuer FILE --serial HEX".to_owned());
        }
        Ok(denied)
    }
}

fn first(path: &std::path::Path) -> Result<std::sync::Arc<Certificate>, String> {
    let found = read_certificates(path).map_err(|error| error.to_string())?;
    found.into_iter().next().ok_or_else(|| format!("{} holds no certificate", path.display()))
}
