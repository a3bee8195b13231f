//! `portreeve plugin serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use portreeve::Server;
use portreeve::config::{Config, ListenerConfig, VerificationConfig};
use portreeve::plugins::{load_plugin, plugin_name};
use portreeve_plugin::{Engine, Role};

use super::project::Project;
use crate::cli::output;

/// How often the sources are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Files that are looked at.
const FILES_MAX: usize = 10_000;

/// Run a gateway with the project's plugin, and build it again when its files change.
#[derive(Debug, Args)]
#[command(
    after_help = "A verifier decides who may connect; with a parser everybody may. What the plugin \
logs is shown. A build that fails leaves the version before it serving."
)]
pub(crate) struct Serve {
    /// The project's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Build again, and load what comes out, when files of the project change.
    #[arg(long)]
    watch: bool,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1883")]
    listen: SocketAddr,
}

impl Serve {
    pub(crate) async fn execute(self) -> ExitCode {
        match self.run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    }

    async fn run(&self) -> Result<(), String> {
        super::super::run::log_to_stderr("info,plugin=trace")?;
        let project = Project::open(&self.folder)?;
        // Before the build: what is saved while it runs is not in it.
        let sources = sources(&project);
        let component = project.build()?;
        let config = self.config(&component).await?;
        let server = Server::start(&config).await.map_err(|error| error.to_string())?;
        if self.watch {
            output::say("building again when files change; ctrl-c ends it");
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = build_again(&project, sources), if self.watch => {}
        }
        server.shutdown().await;
        Ok(())
    }

    async fn config(&self, component: &Path) -> Result<Config, String> {
        let engine = Engine::new().map_err(|error| error.to_string())?;
        let loaded = load_plugin(&engine, component, super::authors_cache().as_ref()).await;
        let (version, _) = loaded.map_err(|why| format!("{}: {why}", component.display()))?;
        let mut config = Config::default();
        config.plugins = component.parent().map(Path::to_owned);
        let verification = match version.is(Role::Verifier) {
            true => VerificationConfig::Plugin(plugin_name(component)),
            false => VerificationConfig::Open,
        };
        if let Some(gateway) = config.gateways.first_mut() {
            gateway.listeners = vec![ListenerConfig::tcp(self.listen)];
            gateway.verification = Some(verification);
        }
        Ok(config)
    }
}

/// Builds whenever a file changed. The gateway notices what comes out by itself.
async fn build_again(project: &Project, mut built: Sources) {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = sources(project);
        if now == built {
            continue;
        }
        built = now;
        let result = tokio::task::block_in_place(|| project.build());
        match result {
            Ok(_) => output::say("built"),
            Err(error) => drop(output::fail(&error)),
        }
    }
}

/// The files of a project: when each was changed, and how many bytes it has.
type Sources = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Looks at the files of a project. Each by itself: an older file put in place of a newer one is a change, too.
fn sources(project: &Project) -> Sources {
    let mut waiting = project.watched();
    let mut found = Sources::new();
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = path.metadata() else { continue };
        if found.len() >= FILES_MAX {
            break;
        }
        if metadata.is_dir() {
            let inner = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(inner.map(|entry| entry.path()));
        } else {
            found.insert(path, (metadata.modified().ok(), metadata.len()));
        }
    }
    found
}
