//! `portreeve run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use clap::Args;
use portreeve::config::{Config, Durability, ListenerConfig, LogFormat, VerificationConfig};
use portreeve::{Reread, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::output;

/// What `run` and `check` have in common: where the configuration comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Source {
    /// Configuration file (TOML). Without one a development gateway runs on 127.0.0.1:1883.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Plugin directory: every NAME.wasm in it, with its manifest NAME.toml.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Directory for what the gateway keeps.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What survives a restart: memory (nothing), process (SIGKILL) or power (loss of power).
    /// Without it: process where there is a data directory, memory otherwise.
    #[arg(long, value_name = "MODE")]
    durability: Option<Durability>,
    /// Address to listen on, instead of the first gateway's; may be given more than once.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// How the first gateway verifies: open, one-party or plugin:NAME.
    #[arg(long, value_name = "HOW")]
    verification: Option<VerificationConfig>,
}

impl Source {
    /// The configuration, with the flags over the file.
    pub(crate) fn config(self) -> Result<Config, Vec<String>> {
        self.config_of(None)
    }

    /// The same as if the file had this text.
    fn config_of(self, text: Option<&str>) -> Result<Config, Vec<String>> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => text
                .map_or_else(|| Config::read(path), |text| Config::parse(path, text))
                .map_err(|error| error.0.iter().map(ToString::to_string).collect::<Vec<_>>())?,
        };
        config.plugins = self.plugins.or(config.plugins);
        config.data = self.data.or(config.data);
        config.durability = self.durability.or(config.durability);
        if let Some(gateway) = config.gateways.first_mut() {
            if !self.listen.is_empty() {
                gateway.listeners = self.listen.into_iter().map(ListenerConfig::tcp).collect();
            }
            gateway.verification = self.verification.or(gateway.verification.take());
        }
        Ok(config)
    }
}

/// Run the gateway until SIGTERM or ctrl-c.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    source: Source,
    /// Log level or filter, such as `debug` or `info,plugin=debug`.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Write the log as JSON lines.
    #[arg(long)]
    log_json: bool,
}

impl Run {
    /// The configuration as the file, or a text in its place, and the flags say it now.
    fn config(&self, text: Option<&str>) -> Result<Config, Vec<String>> {
        let mut config = self.source.clone().config_of(text)?;
        if let Some(level) = &self.log {
            level.clone_into(&mut config.log.level);
        }
        if self.log_json {
            config.log.format = LogFormat::Json;
        }
        Ok(config)
    }

    pub(crate) async fn execute(self) -> ExitCode {
        let config = match self.config(None) {
            Ok(config) => config,
            Err(mistakes) => return output::fail_all(&mistakes),
        };
        if let Err(error) = start_log(&config) {
            return output::fail(&error);
        }
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return output::fail(&format!("signals cannot be received: {error}")),
        };
        let reread: Reread = Box::new(move |text| self.config(text));
        let server = match Server::start_with(&config, Some(reread)).await {
            Ok(server) => server,
            Err(error) => return output::fail(&error.to_string()),
        };
        reload_until_stop(&server, &mut signals).await;
        tracing::info!("shutting down: clients are told, a second signal ends at once");
        tokio::select! {
            all = server.shutdown() => {
                if !all {
                    tracing::warn!("some connections did not end in time");
                }
            }
            () = signals.stop() => tracing::warn!("ended at once"),
        }
        ExitCode::SUCCESS
    }
}

/// Looks at the files again with each SIGHUP. A stop does not wait for that: compiling takes seconds,
/// and a network file system may not answer at all.
async fn reload_until_stop(server: &Server, signals: &mut Signals) {
    let mut is_asked = false;
    loop {
        if !is_asked && matches!(signals.next().await, Told::Stop) {
            return;
        }
        is_asked = false;
        let mut reload = pin!(server.reload("SIGHUP"));
        loop {
            tokio::select! {
                result = &mut reload => {
                    match result {
                        Ok(summary) => tracing::info!("{summary}"),
                        Err(error) => tracing::error!("{error}"),
                    }
                    break;
                }
                told = signals.next() => match told {
                    Told::Stop => return,
                    Told::Reload => is_asked = true,
                },
            }
        }
    }
}

fn start_log(config: &Config) -> Result<(), String> {
    let filter: EnvFilter = config
        .log
        .level
        .parse()
        .map_err(|error| format!("{:?} is no log filter: {error}", config.log.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that cannot be written must not end the thread that writes it.
        .log_internal_errors(false);
    let started = match config.log.format {
        LogFormat::Text => {
            use std::io::IsTerminal;
            builder.with_ansi(std::io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| format!("the log does not start: {error}"))
}

/// A log for commands that are not the gateway.
pub(super) fn log_to_stderr(filter: &str) -> Result<(), String> {
    let mut config = Config::default();
    filter.clone_into(&mut config.log.level);
    start_log(&config)
}

/// What the process is told to do.
enum Told {
    Stop,
    Reload,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    async fn stop(&mut self) {
        while let Told::Reload = self.next().await {}
    }
}
