//! `portreeve tls`: does TLS fit together, and would this device be let in?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use portreeve::config::Config;
use portreeve::explain::{self, Outcome, Report};
use portreeve_tls::material::read_certificates;
use serde_json::json;

use super::output;

/// Look at TLS of a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Say whether chain, key, staple, CRLs and trust of the gateways fit together.
    Check(Check),
    /// Say whether a device with this certificate would be let in, step by step, and why not.
    #[command(after_help = "Example:
  portreeve tls explain device-7.crt --config portreeve.toml

The file holds the certificates that the device sends, its own first. Responders are asked as the
gateway would ask them.")]
    Explain(Explain),
}

impl TlsCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        match self {
            Self::Check(check) => check.execute().await,
            Self::Explain(explain) => explain.execute().await,
        }
    }
}

/// Which gateway, and how it is told.
#[derive(Debug, Args)]
struct Common {
    /// The gateway's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One gateway of it; left out: every one with TLS.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Common {
    fn config(&self) -> Result<Config, String> {
        Config::read(&self.config).map_err(|error| error.to_string())
    }

    fn show(&self, reports: Result<Vec<Report>, String>) -> ExitCode {
        let reports = match reports {
            Ok(reports) => reports,
            Err(error) => return output::fail(&error),
        };
        let is_good = reports.iter().all(Report::is_good);
        if self.json {
            output::json(&json!({ "ok": is_good, "gateways": reports }));
        } else {
            for Report { gateway, steps } in &reports {
                output::say(&format!("gateway {gateway}"));
                for step in steps {
                    let mark = match step.result {
                        Outcome::Ok => "ok     ",
                        Outcome::Warning => "WARNING",
                        Outcome::Failed => "FAILED ",
                    };
                    output::say(&format!("  {mark}  {}: {}", step.what, step.why));
                }
            }
        }
        if is_good { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) }
    }
}

/// Say whether everything fits together.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    common: Common,
}

impl Check {
    async fn execute(self) -> ExitCode {
        let reports = match self.common.config() {
            Ok(config) => explain::check(&config, self.common.gateway.as_deref()).await,
            Err(error) => Err(error),
        };
        self.common.show(reports)
    }
}

/// Say whether a device would be let in.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The certificates that the device sends, PEM or DER, its own first.
    certificate: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Explain {
    async fn execute(self) -> ExitCode {
        let sent = read_certificates(&self.certificate).map_err(|error| error.to_string());
        let reports = match (self.common.config(), sent) {
            (Ok(config), Ok(sent)) => {
                explain::explain(&config, self.common.gateway.as_deref(), &sent).await
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        self.common.show(reports)
    }
}
