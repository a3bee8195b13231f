//! `portreeve pki`: a certification authority for development.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use portreeve_tls::pki::{
    AuthorityName, AuthoritySettings, CRL_DAYS, Entry, EntryStatus, Pki, PkiError, reason_named,
    url_of,
};
use portreeve_tls::{RevocationReason, now};
use serde_json::{Value, json};

use super::output;

mod issue;
mod serve;

/// Said wherever an authority comes to be.
const WARNING: &str = "This is an authority for development. Its keys lie in files, unencrypted, and nobody \
keeps an account of what it issues: let nothing trust it that matters.";

/// Run a certification authority for development.
#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make an authority: a root, an intermediate, and a responder for OCSP.
    Init(Init),
    /// Issue a certificate for a server or a device.
    #[command(subcommand)]
    Issue(issue::IssueCommand),
    /// Revoke a certificate, and write new CRLs.
    Revoke(Revoke),
    /// End the hold of a certificate that was revoked with `--reason certificateHold`.
    Unhold(Unhold),
    /// Write new CRLs.
    Crl(Crl),
    /// Say what was issued, and how it stands.
    List(List),
    /// Answer OCSP, and serve CRLs and the issuers' certificates.
    Serve(serve::Serve),
}

impl PkiCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        let done = match self {
            Self::Init(init) => init.run(),
            Self::Issue(command) => command.run(),
            Self::Revoke(revoke) => revoke.run(),
            Self::Unhold(unhold) => unhold.run(),
            Self::Crl(crl) => crl.run(),
            Self::List(list) => list.run(),
            Self::Serve(serve) => serve.run().await,
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    }
}

/// Where the authority is.
#[derive(Debug, Args)]
pub(crate) struct Directory {
    /// The authority's directory.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
}

impl Directory {
    fn open(&self) -> Result<Pki, String> {
        Pki::open(&self.dir).map_err(said)
    }

    /// A path in it, as the user would type it.
    fn shown(&self, name: &str) -> String {
        shown(&self.dir.join(name))
    }

    /// What commands need so that they find it, with a space before it.
    fn option(&self) -> String {
        if self.dir == Path::new("pki") {
            String::new()
        } else {
            format!(" --dir {}", self.dir.display())
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn said(error: PkiError) -> String {
    error.to_string()
}

/// A time as RFC 3339 has it.
fn rfc3339(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// Make an authority: a root, an intermediate, and a responder for OCSP.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve pki init
  portreeve pki init --dir pki --name \"Example\" --url http://127.0.0.1:8889

It is for development only: its keys are not encrypted.")]
pub(crate) struct Init {
    #[command(flatten)]
    directory: Directory,
    /// The organization of all certificates.
    #[arg(long, value_name = "NAME", default_value = "Example")]
    name: String,
    /// Where `portreeve pki serve` will be reached; certificates have it in them.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8889")]
    url: String,
    /// How long the root lives.
    #[arg(long, value_name = "DAYS", default_value_t = 3_650)]
    root_days: u32,
    /// How long the intermediate lives; not longer than the root.
    #[arg(long, value_name = "DAYS", default_value_t = 1_825)]
    int_days: u32,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Init {
    fn run(self) -> Result<(), String> {
        let settings = AuthoritySettings {
            name: self.name,
            url: url_of(&self.url).map_err(said)?,
            root_days: self.root_days,
            intermediate_days: self.int_days,
        };
        let pki = Pki::init(&self.directory.dir, &settings, now()).map_err(said)?;
        let paths = ["root.crt", "int.crt", "trust.crt", "root.crl", "int.crl"];
        let [root, int, trust, root_crl, int_crl] = paths.map(|name| self.directory.shown(name));
        if self.json {
            let serials =
                pki.entries().iter().map(|entry| (entry.name.clone(), json!(entry.serial)));
            output::json(&json!({
                "root": root, "intermediate": int, "trust": trust, "crls": [int_crl, root_crl],
                "url": pki.url(), "serials": serials.collect::<serde_json::Map<_, _>>(),
                "warning": WARNING,
            }));
            return Ok(());
        }
        output::say(&format!("{root}: the root, which is to be trusted"));
        output::say(&format!("{int}: the intermediate, which issues certificates"));
        output::say(&format!("{trust}: both of them"));
        output::say(&format!("{int_crl}, {root_crl}: what they revoked, which is nothing yet"));
        output::say("");
        output::say(WARNING);
        output::say("");
        output::say("Next:");
        let option = self.directory.option();
        output::say(&format!(
            "  portreeve pki issue server gateway --dns localhost --ip 127.0.0.1{option}"
        ));
        output::say(&format!("  portreeve pki issue device device-1{option}"));
        output::say(&format!("  portreeve pki serve{option}"));
        Ok(())
    }
}

/// Revoke a certificate, and write new CRLs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve pki revoke device-1
  portreeve pki revoke device-1 --reason keyCompromise
  portreeve pki revoke device-1 --reason certificateHold    # `portreeve pki unhold` ends it

`portreeve pki serve` says so from then on.")]
pub(crate) struct Revoke {
    /// The name that it was issued with, or its serial number.
    #[arg(value_name = "NAME|SERIAL")]
    which: String,
    /// Why: unspecified, keyCompromise, cACompromise, affiliationChanged, superseded,
    /// cessationOfOperation, certificateHold, privilegeWithdrawn.
    #[arg(long, value_name = "REASON", default_value = "unspecified", value_parser = reason)]
    reason: RevocationReason,
    #[command(flatten)]
    directory: Directory,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// The reasons that certificates of servers and devices can have.
fn reason(text: &str) -> Result<RevocationReason, String> {
    use RevocationReason::{AaCompromise, RemoveFromCrl};
    reason_named(text)
        .filter(|reason| !matches!(reason, RemoveFromCrl | AaCompromise))
        .ok_or_else(|| "it is none of the reasons that --help names".to_owned())
}

impl Revoke {
    fn run(self) -> Result<(), String> {
        let mut pki = self.directory.open()?;
        let entry = pki.revoke(&self.which, self.reason, now()).map_err(said)?;
        if self.json {
            output::json(&json!({ "revoked": value(&entry), "crls": crls(&self.directory) }));
            return Ok(());
        }
        output::say(&format!("{}: revoked ({})", entry.name, self.reason));
        say_crls(&self.directory);
        output::say(
            "`portreeve pki serve` says so at once. A gateway that reads CRLs needs the new ones.",
        );
        Ok(())
    }
}

/// End the hold of a certificate.
#[derive(Debug, Args)]
pub(crate) struct Unhold {
    /// The name that it was issued with, or its serial number.
    #[arg(value_name = "NAME|SERIAL")]
    which: String,
    #[command(flatten)]
    directory: Directory,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Unhold {
    fn run(self) -> Result<(), String> {
        let mut pki = self.directory.open()?;
        let entry = pki.unhold(&self.which, now()).map_err(said)?;
        if self.json {
            output::json(&json!({ "good": value(&entry), "crls": crls(&self.directory) }));
            return Ok(());
        }
        output::say(&format!("{}: good again", entry.name));
        say_crls(&self.directory);
        Ok(())
    }
}

/// Write new CRLs.
#[derive(Debug, Args)]
pub(crate) struct Crl {
    /// For how long they are good.
    #[arg(long, value_name = "DAYS", default_value_t = CRL_DAYS)]
    days: u32,
    #[command(flatten)]
    directory: Directory,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Crl {
    fn run(self) -> Result<(), String> {
        let mut pki = self.directory.open()?;
        pki.write_crls(self.days, now()).map_err(said)?;
        if self.json {
            output::json(&json!({ "crls": crls(&self.directory), "days": self.days }));
            return Ok(());
        }
        say_crls(&self.directory);
        output::say(&format!("They are good for {} days; then write new ones.", self.days));
        Ok(())
    }
}

fn crls(directory: &Directory) -> [String; 2] {
    [AuthorityName::Intermediate, AuthorityName::Root].map(|name| directory.shown(name.crl_file()))
}

fn say_crls(directory: &Directory) {
    output::say(&format!("{}: written", crls(directory).join(", ")));
}

/// Say what was issued, and how it stands.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    directory: Directory,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self) -> Result<(), String> {
        let pki = self.directory.open()?;
        if self.json {
            output::json(&pki.entries().iter().map(value).collect());
            return Ok(());
        }
        let widest = pki.entries().iter().map(|entry| entry.name.len()).max().unwrap_or(0);
        for entry in pki.entries() {
            let Entry { serial, name, kind, not_after, .. } = entry;
            let until = rfc3339(*not_after);
            let (kind, status) = (kind.name(), status_text(entry));
            output::say(&format!("{name:widest$}  {kind:12}  {serial}  until {until}  {status}"));
        }
        Ok(())
    }
}

fn status_text(entry: &Entry) -> String {
    match entry.status(now()) {
        EntryStatus::Good => "good".to_owned(),
        EntryStatus::Expired => "expired".to_owned(),
        EntryStatus::Revoked(revoked) => {
            format!("revoked {} ({})", rfc3339(revoked.since), revoked.reason)
        }
    }
}

fn value(entry: &Entry) -> Value {
    let (status, revoked) = match entry.status(now()) {
        EntryStatus::Good => ("good", None),
        EntryStatus::Expired => ("expired", None),
        EntryStatus::Revoked(revoked) => ("revoked", Some(revoked)),
    };
    json!({
        "serial": entry.serial,
        "name": entry.name,
        "kind": entry.kind.name(),
        "issuer": entry.issuer.name(),
        "subject": entry.subject,
        "not_before": rfc3339(entry.not_before),
        "not_after": rfc3339(entry.not_after),
        "status": status,
        "revoked_at": revoked.map(|revoked| rfc3339(revoked.since)),
        "reason": revoked.map(|revoked| revoked.reason.name()),
    })
}
