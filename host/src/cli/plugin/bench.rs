//! `portreeve plugin bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use portreeve::plugin_json::{ask_question, question};
use portreeve::plugins::{Source, read_source, start_version};
use portreeve_plugin::{Asked, CodeCache, Engine, InstancePolicy, Version};
use serde_json::{Value, json};

use super::project::{Project, cases};
use crate::cli::output;

/// Starts and fresh calls that are measured.
const FRESH_CALLS: u32 = 200;
/// Warm calls between two looks at the progress.
const STEP: u64 = 1_000;

/// Measure a component: start, fresh and warm calls, memory, against its limits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve plugin bench .
  portreeve plugin bench sensor-frame.wasm '{\"topic\":\"devices/d/raw\",\"payload_hex\":\"086611c60ce4\"}'
  portreeve plugin bench . --calls 1000000      a soak of one warm instance
  portreeve plugin bench . --calls 1000000 --recycle    the same, as a gateway would do it")]
pub(crate) struct Bench {
    /// The component, or the folder of its project.
    file: PathBuf,
    /// What it is asked, as `portreeve plugin call` takes it; the first case that has an answer
    /// where it is left out.
    input: Option<String>,
    /// Calls of one warm instance.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// Replace the warm instance as the manifest says, instead of asking one of them all the time.
    #[arg(long)]
    recycle: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Default)]
struct Measured {
    component_bytes: usize,
    compile: Duration,
    start: Duration,
    fresh: Duration,
    warm: Duration,
    warm_p99: Duration,
    calls: u64,
    faults: u64,
    first_fault: Option<(u64, String)>,
    memory_bytes_first: usize,
    memory_bytes_last: usize,
}

impl Bench {
    pub(crate) async fn execute(self) -> ExitCode {
        let result = match super::super::run::log_to_stderr("error,plugin=off") {
            Ok(()) => self.run().await,
            Err(error) => Err(error),
        };
        match result {
            Ok((measured, source)) => {
                self.tell(&measured, &source);
                ExitCode::from(if measured.faults == 0 { 0 } else { output::FAILED })
            }
            Err(error) => output::fail(&error),
        }
    }

    async fn run(&self) -> Result<(Measured, Source), String> {
        let file = match self.file.is_dir() {
            true => Project::open(&self.file)?.output(),
            false => self.file.clone(),
        };
        let faulty = |error: String| format!("{}: {error}", file.display());
        let engine = Engine::new().map_err(|error| error.to_string())?;
        let source = read_source(&file).map_err(|why| faulty(why.to_string()))?;
        let begin = Instant::now();
        let version = started(&engine, &source, None, None).await.map_err(faulty)?;
        // What is measured from here on is not compiling, which takes seconds for large components.
        let cache = super::authors_cache();
        let cache = cache.as_ref();
        let mut measured = Measured {
            component_bytes: source.component.len(),
            compile: begin.elapsed().saturating_sub(version.start_up()),
            ..Measured::default()
        };
        let asked = self.asked(&version).await?;
        let policy = Some(InstancePolicy::Fresh);
        let fresh = started(&engine, &source, policy, cache).await?;
        let mut starts = Vec::new();
        let mut calls = Vec::new();
        for _ in 0..FRESH_CALLS {
            let begin = Instant::now();
            if let Err(error) = ask_question(&fresh, &asked).await {
                return Err(format!("a fresh call: {error}"));
            }
            calls.push(begin.elapsed());
        }
        for _ in 0..STARTS {
            starts.push(started(&engine, &source, policy, cache).await?.start_up());
        }
        (measured.start, measured.fresh) = (quantile(&mut starts, 0.5), quantile(&mut calls, 0.5));
        self.soak(&engine, &source, &asked, cache, &mut measured).await?;
        Ok((measured, source))
    }

    /// Calls one warm instance, again and again.
    async fn soak(
        &self,
        engine: &Engine,
        source: &Source,
        asked: &Asked,
        cache: Option<&CodeCache>,
        measured: &mut Measured,
    ) -> Result<(), String> {
        let policy = match source.manifest.plugin.instances {
            Some(InstancePolicy::Warm { calls, memory_bytes_mark, .. }) if self.recycle => {
                InstancePolicy::Warm { instances: 1, calls, memory_bytes_mark }
            }
            _ if self.recycle => match InstancePolicy::warm_default() {
                InstancePolicy::Warm { calls, memory_bytes_mark, .. } => {
                    InstancePolicy::Warm { instances: 1, calls, memory_bytes_mark }
                }
                fresh @ InstancePolicy::Fresh => fresh,
            },
            _ => InstancePolicy::Warm {
                instances: 1,
                calls: u32::MAX,
                memory_bytes_mark: Some(usize::MAX),
            },
        };
        let warm = started(engine, source, Some(policy), cache).await?;
        let bar = ProgressBar::new(self.calls);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {pos}/{len} calls, {per_sec}, {eta} left")
        {
            bar.set_style(style);
        }
        let mut times = Vec::new();
        while measured.calls < self.calls {
            let begin = Instant::now();
            let result = ask_question(&warm, asked).await;
            times.push(begin.elapsed());
            measured.calls += 1;
            if let Err(error) = result {
                measured.faults += 1;
                measured.first_fault.get_or_insert((measured.calls, error.to_string()));
            }
            if measured.calls == 1 {
                measured.memory_bytes_first = warm.statistics().memory_bytes;
            }
            if measured.calls.is_multiple_of(STEP) {
                bar.set_position(measured.calls);
                tokio::task::yield_now().await;
            }
        }
        bar.finish_and_clear();
        measured.memory_bytes_last = warm.statistics().memory_bytes;
        measured.warm = quantile(&mut times, 0.5);
        measured.warm_p99 = quantile(&mut times, 0.99);
        Ok(())
    }

    async fn asked(&self, version: &Arc<Version>) -> Result<Asked, String> {
        if let Some(text) = &self.input {
            let input: Value = serde_json::from_str(text)
                .map_err(|error| format!("the question cannot be read: {error}"))?;
            return question(version, None, &input);
        }
        let folder = match self.file.is_dir() {
            true => self.file.join("cases"),
            // A project builds into a folder of its own.
            false => self.file.parent().unwrap_or_else(|| Path::new(".")).join("../cases"),
        };
        for (_, case) in cases(&folder)? {
            let asked = question(version, case.ask, &case.input)?;
            if ask_question(version, &asked).await.is_ok() {
                return Ok(asked);
            }
        }
        Err("what is it to be asked? Give a question, or a project with cases".to_owned())
    }

    fn tell(&self, measured: &Measured, source: &Source) {
        let limits = &source.manifest.plugin.limits;
        let us = |time: Duration| (time.as_secs_f64() * 1e7).round() / 10.0;
        if self.json {
            output::json(&json!({
                "name": source.name,
                "component_bytes": measured.component_bytes,
                "compile_ms": us(measured.compile) / 1000.0,
                "start_us": us(measured.start),
                "fresh_call_us": us(measured.fresh),
                "warm_call_us": us(measured.warm),
                "warm_call_p99_us": us(measured.warm_p99),
                "calls": measured.calls,
                "faults": measured.faults,
                "first_fault": measured.first_fault,
                "memory_bytes_first": measured.memory_bytes_first,
                "memory_bytes_last": measured.memory_bytes_last,
            }));
            return;
        }
        let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
        output::say(&format!("component       {}", kib(measured.component_bytes)));
        output::say(&format!("compile         {:.1} ms", us(measured.compile) / 1000.0));
        output::say(&format!("start           {} us", us(measured.start)));
        output::say(&format!(
            "fresh call      {} us, with the start of an instance (deadline {} ms)",
            us(measured.fresh),
            limits.deadline.as_millis()
        ));
        output::say(&format!(
            "warm call       {} us, 99 % within {} us",
            us(measured.warm),
            us(measured.warm_p99)
        ));
        output::say(&format!(
            "memory          {} after the first call, {} after {} (limit {})",
            kib(measured.memory_bytes_first),
            kib(measured.memory_bytes_last),
            measured.calls,
            kib(limits.memory_bytes_max)
        ));
        if let Some((call, error)) = &measured.first_fault {
            output::say(&format!(
                "FAULTS          {} of {} calls, the first one at call {call}: {error}",
                measured.faults, measured.calls
            ));
        }
    }
}

/// Starts of instances that are measured.
const STARTS: u32 = 21;

async fn started(
    engine: &Engine,
    source: &Source,
    policy: Option<InstancePolicy>,
    cache: Option<&CodeCache>,
) -> Result<Arc<Version>, String> {
    let mut source = source.clone();
    source.manifest.plugin.instances = policy.or(source.manifest.plugin.instances);
    start_version(engine, &source, cache, None).await.map_err(|why| why.to_string())
}

/// The time that `share` of them did not exceed.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank below the length"
    )]
    let rank = (times.len().saturating_sub(1) as f64 * share) as usize;
    times.get(rank).copied().unwrap_or_default()
}
