//! Commands that put another component or another rollout into a running gateway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use portreeve::plugins::plugin_name;
use portreeve::signature::signature_path;
use reqwest::Method;

use crate::cli::admin::escaped;
use crate::cli::order::{Order, settings};
use crate::cli::output;

/// Put a component into a running gateway: the next version of a plugin, or a new one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve plugin put sensor-frame.wasm --data data
  portreeve plugin put target/new.wasm --name sensor-frame --config gateway.toml

The signature FILE.minisig goes along where it is there. Settings stay those of the plugin's manifest. A
component that cannot serve is refused, and the version before it goes on.")]
pub(crate) struct Put {
    /// The component.
    file: PathBuf,
    /// The plugin's name; that of the file where it is left out.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    order: Order,
}

impl Put {
    pub(crate) async fn execute(self) -> ExitCode {
        output::code(self.run().await)
    }

    async fn run(self) -> Result<(), String> {
        let component = fs::read(&self.file).map_err(|error| unreadable(&self.file, &error))?;
        let signature = signature(&signature_path(&self.file))?;
        let name = self.name.unwrap_or_else(|| plugin_name(&self.file));
        let path = format!("/v1/plugins/{}/component", escaped(&name));
        let answer = self.order.gateway.put_component(&path, component, signature).await?;
        self.order.say(&answer);
        Ok(())
    }
}

/// In Base64, as a header takes it; `None` where there is no file.
fn signature(path: &Path) -> Result<Option<String>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(STANDARD.encode(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Set how versions of a plugin take over, in its manifest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve plugin rollout sensor-frame canary=10% canary_calls=500 --data data
  portreeve plugin rollout sensor-frame --data data

What is not named is as by default: without any, a version takes over at once. A manifest is a part of a
version: the same component with another rollout is another version, which takes over as this says.")]
pub(crate) struct Rollout {
    /// The plugin.
    name: String,
    /// Of `canary`, `shadow`, `canary_calls`, `canary_devices`.
    #[arg(value_name = "NAME=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    order: Order,
}

impl Rollout {
    pub(crate) async fn execute(self) -> ExitCode {
        output::code(self.run().await)
    }

    async fn run(self) -> Result<(), String> {
        let body = settings(&self.settings)?;
        let path = format!("/v1/plugins/{}/rollout", escaped(&self.name));
        self.order.give(Method::PUT, &path, &body).await
    }
}
