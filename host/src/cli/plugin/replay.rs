//! `portreeve plugin replay`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use portreeve::plugin_json;
use portreeve::plugins::load_plugin;
use portreeve_plugin::{Engine, Version};
use serde_json::{Value, json};

use crate::cli::output;

/// Ask two versions what was recorded, and show where they differ.
#[derive(Debug, Args)]
#[command(after_help = "The file holds one JSON object a line with the question in `input`: what \
`portreeve plugin record` writes, and differences.jsonl of a shadow. With one version the answers \
are printed. Exit code 1 where there are differences.")]
pub(crate) struct Replay {
    /// The recording.
    file: PathBuf,
    /// The version that answers as it should.
    old: PathBuf,
    /// The version to compare with it.
    new: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What became of the recording.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    differences: u64,
    faults: u64,
}

impl Replay {
    pub(crate) async fn execute(self) -> ExitCode {
        let result = match super::super::run::log_to_stderr("error,plugin=off") {
            Ok(()) => self.run().await,
            Err(error) => Err(error),
        };
        match result {
            Ok(tally) => {
                if !self.json {
                    output::say(&format!(
                        "{} asked, {} differ, {} without an answer",
                        tally.asked, tally.differences, tally.faults
                    ));
                }
                ExitCode::from(if tally.differences == 0 { 0 } else { output::FAILED })
            }
            Err(error) => output::fail(&error),
        }
    }

    async fn run(&self) -> Result<Tally, String> {
        let engine = Engine::new().map_err(|error| error.to_string())?;
        let old = loaded(&engine, &self.old).await?;
        let new = match &self.new {
            Some(path) => Some(loaded(&engine, path).await?),
            None => None,
        };
        let faulty = |error: std::io::Error| format!("{}: {error}", self.file.display());
        let lines = BufReader::new(File::open(&self.file).map_err(faulty)?).lines();
        let mut tally = Tally::default();
        for (line, number) in lines.zip(1_u64..) {
            let text = line.map_err(faulty)?;
            if text.trim().is_empty() {
                continue;
            }
            let at = |error: &str| format!("{}:{number}: {error}", self.file.display());
            let line: Value =
                serde_json::from_str(&text).map_err(|error| at(&error.to_string()))?;
            let input = line.get("input").ok_or_else(|| at("there is no input"))?;
            let answer = asked(&old, input).await;
            tally.asked += 1;
            tally.faults += u64::from(answer.get("error").is_some());
            let Some(new) = &new else {
                self.tell(number, &json!({ "input": input, "output": answer }));
                continue;
            };
            let other = asked(new, input).await;
            if answer != other {
                tally.differences += 1;
                self.tell(number, &json!({ "input": input, "old": answer, "new": other }));
            }
        }
        Ok(tally)
    }

    fn tell(&self, number: u64, found: &Value) {
        if self.json {
            output::say(&found.to_string());
            return;
        }
        output::say(&format!("line {number}:"));
        for (name, value) in found.as_object().into_iter().flatten() {
            output::say(&format!("  {name:<6} {value}"));
        }
    }
}

async fn loaded(engine: &Engine, path: &Path) -> Result<Arc<Version>, String> {
    let loaded = load_plugin(engine, path, super::authors_cache().as_ref()).await;
    loaded.map(|(version, _)| version).map_err(|why| format!("{}: {why}", path.display()))
}

async fn asked(version: &Arc<Version>, input: &Value) -> Value {
    match plugin_json::ask(version, None, input).await {
        Ok(answer) => answer,
        Err(error) => json!({ "error": error }),
    }
}
