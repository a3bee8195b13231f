//! `portreeve plugin`: look at a component, or ask it once.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use portreeve::config::PluginManifest;
use portreeve::plugin_json;
use portreeve::plugins::{load_plugin, plugin_name};
use portreeve_plugin::{CodeCache, Engine, Role, Version, load_component};
use serde_json::{Value, json};

use super::output;

mod bench;
mod build;
mod change;
mod componentize;
mod new;
mod project;
mod replay;
mod running;
mod serve;
mod signature;

/// Work with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Make a project that builds and has a passing test.
    New(new::New),
    /// Build a project, and check what comes out.
    Build(build::Build),
    /// Run a project's unit tests, then its cases against the component.
    Test(build::Test),
    /// Make a component of a core module.
    Componentize(componentize::Componentize),
    /// Measure a component: start, fresh and warm calls, memory.
    Bench(bench::Bench),
    /// Ask two versions what was recorded, and show where they differ.
    Replay(replay::Replay),
    /// Record messages of a topic from a running gateway.
    Record(running::Record),
    /// Run a gateway with the project's plugin, and build it again when its files change.
    Serve(serve::Serve),
    /// Say what a component imports and exports, and whether it can run here.
    Check(CheckPlugin),
    /// Ask a plugin once: JSON in, JSON out.
    Call(Call),
    /// Make a pair of keys to sign components with.
    Keygen(signature::Keygen),
    /// Sign components.
    Sign(signature::Sign),
    /// Verify the signatures of components.
    Verify(signature::Verify),
    /// List the plugins of a running gateway.
    List(running::List),
    /// Show one of them: versions, counts, times.
    Show(running::Show),
    /// Say what happened to its versions.
    History(running::History),
    /// Put a component into a running gateway: the next version of a plugin, or a new one.
    Put(change::Put),
    /// Set how versions of a plugin take over, in its manifest.
    Rollout(change::Rollout),
    /// Go back to an earlier version, or stop the one on its way.
    Rollback(running::Rollback),
    /// Let the version on its way take its next step.
    Promote(running::Promote),
    /// Look at configuration and plugins again.
    Reload(running::Reload),
    /// Watch every call: input, output, log lines, time. Secrets are masked.
    Trace(running::Trace),
}

impl PluginCommand {
    pub(crate) async fn execute(self) -> ExitCode {
        match self {
            Self::New(new) => new.execute(),
            Self::Componentize(componentize) => componentize.execute(),
            Self::Build(build) => build.execute().await,
            Self::Test(test) => test.execute().await,
            Self::Bench(bench) => bench.execute().await,
            Self::Replay(replay) => replay.execute().await,
            Self::Record(record) => record.execute().await,
            Self::Serve(serve) => serve.execute().await,
            Self::Check(check) => check.execute().await,
            Self::Call(call) => call.execute().await,
            Self::Keygen(keygen) => keygen.execute(),
            Self::Sign(sign) => sign.execute(),
            Self::Verify(verify) => verify.execute(),
            Self::List(list) => list.execute().await,
            Self::Show(show) => show.execute().await,
            Self::History(history) => history.execute().await,
            Self::Put(put) => put.execute().await,
            Self::Rollout(rollout) => rollout.execute().await,
            Self::Rollback(rollback) => rollback.execute().await,
            Self::Promote(promote) => promote.execute().await,
            Self::Reload(reload) => reload.execute().await,
            Self::Trace(trace) => trace.execute().await,
        }
    }
}

/// Say what a component imports and exports, and whether it can run here.
#[derive(Debug, Args)]
pub(crate) struct CheckPlugin {
    /// The component; its manifest stands beside it as NAME.toml.
    file: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl CheckPlugin {
    async fn execute(self) -> ExitCode {
        match describe(&self.file).await {
            Err(error) if self.json => {
                output::json(&json!({ "ok": false, "error": error }));
                ExitCode::from(output::FAILED)
            }
            Err(error) => output::fail(&format!("{}: {error}", self.file.display())),
            Ok(description) if self.json => {
                output::json(&description);
                ExitCode::SUCCESS
            }
            Ok(description) => {
                say_description(&self.file, &description);
                ExitCode::SUCCESS
            }
        }
    }
}

async fn describe(file: &Path) -> Result<Value, String> {
    let engine = Engine::new().map_err(|error| error.to_string())?;
    let name = plugin_name(file);
    let manifest = PluginManifest::read(&file.with_extension("toml"), &name)
        .map_err(|error| format!("its manifest has mistakes:\n{error}"))?;
    let bytes = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let begin = Instant::now();
    let loaded = load_component(&engine, &bytes, &manifest.plugin.capabilities, None)
        .map_err(|error| error.to_string())?;
    let compile_ms = begin.elapsed().as_millis();
    let (imports, exports) = (loaded.imports.clone(), loaded.exports.clone());
    let contract = loaded.contract().map(str::to_owned);
    let uses = loaded.grants.clone();
    let plugin = Version::start(&engine, &name, "", loaded, manifest.plugin)
        .await
        .map_err(|error| error.to_string())?;
    let roles: Vec<&str> =
        Role::ALL.into_iter().filter(|role| plugin.is(*role)).map(Role::name).collect();
    Ok(json!({
        "ok": true,
        "name": plugin.name(),
        "roles": roles,
        "contract": contract,
        "capabilities": uses,
        "bytes": bytes.len(),
        "compile_ms": u64::try_from(compile_ms).unwrap_or(u64::MAX),
        "start_us": u64::try_from(plugin.start_up().as_micros()).unwrap_or(u64::MAX),
        "imports": imports,
        "exports": exports,
    }))
}

fn say_description(file: &Path, description: &Value) {
    let list = |key: &str| -> String {
        let names = description.get(key).and_then(Value::as_array);
        let lines = names.into_iter().flatten().filter_map(Value::as_str);
        lines.map(|name| format!("\n    {name}")).collect()
    };
    let list_or_none =
        |key: &str| Some(list(key)).filter(|l| !l.is_empty()).unwrap_or_else(|| " none".to_owned());
    let number = |key: &str| description.get(key).and_then(Value::as_u64).unwrap_or(0);
    output::say(&format!("{}: ok", file.display()));
    output::say(&format!("  roles:{}", list("roles")));
    let contract = description.get("contract").and_then(Value::as_str).unwrap_or_default();
    output::say(&format!("  built for portreeve:plugin {contract}"));
    output::say(&format!("  capabilities that it uses:{}", list_or_none("capabilities")));
    output::say(&format!("  imports:{}", list("imports")));
    output::say(&format!("  exports:{}", list("exports")));
    output::say(&format!(
        "  {} bytes, compiled in {} ms, first instance in {} us",
        number("bytes"),
        number("compile_ms"),
        number("start_us")
    ));
}

/// Compiled code in the author's own cache folder: a component in Python takes seconds to compile.
/// Without a folder, or with one that others may write to, it is compiled each time.
fn authors_cache() -> Option<CodeCache> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = named.filter(|folder| folder.is_absolute()).or_else(home)?;
    CodeCache::open(&folder.join("portreeve/code")).ok()
}

/// Ask a plugin once: JSON in, JSON out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve plugin call allow-list.wasm '{\"user_name\":\"device-1\",\"password\":\"demo\"}'
  portreeve plugin call sensor-frame.wasm '{\"topic\":\"devices/d/raw\",\"payload_hex\":\"086611c60ce4\"}'
  echo '{\"direction\":\"down\",\"topic\":\"devices/d/set\",\"payload\":{\"report_interval\":60}}' |
    portreeve plugin call sensor-frame.wasm

A plugin that is both verifier and parser is asked about a message where there is a topic.

A CONNECT has: client_id, user_name, password or password_hex, peer_address, protocol (3.1, 3.1.1,
5.0), clean_start, keep_alive, gateway, user_properties, authentication_method,
authentication_data_hex. A message has: topic, payload (a text, or JSON) or payload_hex, direction
(up, down), qos, retain, device, product, client_id, attributes, gateway, received_at,
payload_format (utf8, unspecified), content_type, response_topic, correlation_data_hex,
message_expiry_interval, user_properties.")]
pub(crate) struct Call {
    /// The component; settings and limits come from NAME.toml beside it.
    file: PathBuf,
    /// The question as JSON; from standard input when it is left out.
    input: Option<String>,
    /// What to ask a plugin that is both verifier and parser; guessed where it is left out.
    #[arg(long)]
    ask: Option<plugin_json::Question>,
}

impl Call {
    async fn execute(self) -> ExitCode {
        match self.answer().await {
            Ok(answer) => {
                output::json(&answer);
                ExitCode::SUCCESS
            }
            Err(error) => output::fail(&error),
        }
    }

    async fn answer(self) -> Result<Value, String> {
        // What the guest logs is what its author wants to see.
        super::run::log_to_stderr("warn,plugin=debug")?;
        let engine = Engine::new().map_err(|error| error.to_string())?;
        let (plugin, _) = load_plugin(&engine, &self.file, authors_cache().as_ref())
            .await
            .map_err(|error| format!("{}: {error}", self.file.display()))?;
        let text = match self.input {
            Some(text) => text,
            None => {
                let mut text = String::new();
                let read = std::io::stdin().read_to_string(&mut text);
                read.map_err(|error| format!("standard input cannot be read: {error}"))?;
                text
            }
        };
        let input = serde_json::from_str(&text)
            .map_err(|error| format!("the question cannot be read: {error}"))?;
        plugin_json::ask(&plugin, self.ask, &input).await
    }
}
