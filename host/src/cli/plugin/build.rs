//! `portreeve plugin build` and `portreeve plugin test`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use portreeve::plugin_json::Case;
use portreeve::plugins::load_plugin;
use portreeve_plugin::{Engine, Version};
use serde_json::json;

use super::project::Project;
use super::{describe, say_description};
use crate::cli::output;

/// Build a project, and check what comes out.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The project's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Build {
    pub(crate) async fn execute(self) -> ExitCode {
        let built = Project::open(&self.folder).and_then(|project| project.build());
        let file = match built {
            Ok(file) => file,
            Err(error) => return output::fail(&error),
        };
        match describe(&file).await {
            Ok(description) => {
                say_description(&file, &description);
                ExitCode::SUCCESS
            }
            Err(error) => output::fail(&format!("{}: {error}", file.display())),
        }
    }
}

/// Run a project's unit tests, then its cases against the component.
#[derive(Debug, Args)]
#[command(after_help = "A case stands in cases/*.json, alone or in a list:
  {\"name\": \"a frame becomes JSON\",
   \"input\": {\"topic\": \"devices/d/raw\", \"payload_hex\": \"086611c60ce4\"},
   \"expect\": {\"outcome\": \"replace\", \"messages\": [{\"topic\": \"devices/d/telemetry\"}]}}
`input` is what `portreeve plugin call` takes. Every field of `expect` has to be in the answer; a
list has as many items. `\"error\": \"TEXT\"` instead of `expect` wants a failure that holds the text.")]
pub(crate) struct Test {
    /// The project's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Run only cases whose name holds this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Run the cases of the component as it was built last, and no unit tests.
    #[arg(long)]
    no_build: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// How one case ended.
struct Ran {
    name: String,
    wrong: Result<(), String>,
    us: u64,
}

impl Test {
    pub(crate) async fn execute(self) -> ExitCode {
        match self.run().await {
            Ok(all) => {
                let failed = all.iter().filter(|ran| ran.wrong.is_err()).count();
                self.tell(&all, failed);
                ExitCode::from(if failed == 0 { 0 } else { output::FAILED })
            }
            Err(error) if self.json => {
                output::json(&json!({ "ok": false, "error": error }));
                ExitCode::from(output::FAILED)
            }
            Err(error) => output::fail(&error),
        }
    }

    async fn run(&self) -> Result<Vec<Ran>, String> {
        super::super::run::log_to_stderr("warn,plugin=info")?;
        let project = Project::open(&self.folder)?;
        let cases = project.cases()?;
        if cases.is_empty() {
            return Err(format!(
                "there are no cases in {}; write one as NAME.json: {{\"input\": …, \"expect\": …}} with what \
                 `portreeve plugin call` takes and prints",
                self.folder.join("cases").display()
            ));
        }
        if !self.no_build {
            project.unit_tests()?;
            project.build()?;
        }
        let engine = Engine::new().map_err(|error| error.to_string())?;
        let file = project.output();
        let loaded = load_plugin(&engine, &file, super::authors_cache().as_ref()).await;
        let (version, _) = loaded.map_err(|error| format!("{}: {error}", file.display()))?;
        let is_wanted = |name: &str| self.only.as_ref().is_none_or(|text| name.contains(text));
        let mut all = Vec::new();
        for (index, (file, case)) in cases.into_iter().enumerate() {
            let name = case.name.clone().unwrap_or_else(|| format!("{file} {}", index + 1));
            if is_wanted(&name) {
                all.push(run_case(name, &case, &version).await);
            }
        }
        match (&self.only, all.is_empty()) {
            (Some(text), true) => Err(format!("no case has {text:?} in its name")),
            _ => Ok(all),
        }
    }

    fn tell(&self, all: &[Ran], failed: usize) {
        if self.json {
            let cases = all.iter().map(|ran| {
                json!({ "name": ran.name, "ok": ran.wrong.is_ok(), "us": ran.us, "wrong": ran.wrong.as_ref().err() })
            });
            output::json(&json!({ "ok": failed == 0, "cases": cases.collect::<Vec<_>>() }));
            return;
        }
        for ran in all {
            match &ran.wrong {
                Ok(()) => output::say(&format!("ok      {} ({} us)", ran.name, ran.us)),
                Err(wrong) => output::say(&format!("FAILED  {}\n        {wrong}", ran.name)),
            }
        }
        output::say(&format!("{} passed, {failed} failed", all.len() - failed));
    }
}

async fn run_case(name: String, case: &Case, version: &Arc<Version>) -> Ran {
    let begin = Instant::now();
    let answer = case.ask(version).await;
    let us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ran { name, wrong: case.judge(&answer), us }
}
