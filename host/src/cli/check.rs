//! `portreeve check`.

use std::process::ExitCode;

use clap::Args;
use portreeve::config::Config;
use serde_json::json;

use super::output;
use super::run::Source;

/// Check configuration, plugins and bindings; say everything that is wrong.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    source: Source,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) async fn execute(self) -> ExitCode {
        let (mistakes, summary) = match self.source.config() {
            Err(mistakes) => (mistakes, String::new()),
            Ok(config) => check(&config).await,
        };
        if self.json {
            output::json(&json!({ "ok": mistakes.is_empty(), "mistakes": mistakes }));
            return if mistakes.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(output::FAILED)
            };
        }
        if !mistakes.is_empty() {
            return output::fail_all(&mistakes);
        }
        output::say(&summary);
        ExitCode::SUCCESS
    }
}

/// Every mistake, and what there is if there is none.
async fn check(config: &Config) -> (Vec<String>, String) {
    let directory = match portreeve::load_plugins(config).await {
        Ok(directory) => directory,
        Err(error) => return (vec![error.to_string()], String::new()),
    };
    let mut mistakes: Vec<String> = directory.problems.iter().map(ToString::to_string).collect();
    if let Err(more) = portreeve::check(config, &directory) {
        mistakes.extend(more);
    }
    if let Err(more) = portreeve::check_tls(config).await {
        mistakes.extend(more);
    }
    let names: Vec<&str> = directory.plugins.keys().map(String::as_str).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let summary = format!("ok: {} gateway(s), plugins: {names}", config.gateways.len());
    (mistakes, summary)
}
