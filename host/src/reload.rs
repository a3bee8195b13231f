//! Changes while the gateway runs: the plugin directory, the configuration, and what an operator
//! asks for. One task makes them, one after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portreeve_plugin::{Concluded, Difference};
use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Watch};
use crate::gateway::Gateway;
use crate::plugins::scan::{Changes, STILL, Scanner, Stamp, stamp};

pub(crate) mod differences;
pub(crate) mod set;
mod watch;

use differences::Differences;
use set::PluginSet;
use watch::Watcher;

/// Commands that wait.
const COMMANDS_MAX: usize = 16;
/// Rollouts that ended and were not noted yet: one for each plugin at most.
pub(crate) const CONCLUDED_MAX: usize = 2 * crate::plugins::PLUGINS_MAX;
/// Differences that were not written yet; those beyond are dropped.
pub(crate) const DIFFERENCES_MAX: usize = 256;
/// Files that are moved into place together are looked at together.
const TOGETHER: Duration = Duration::from_millis(10);
/// How often files are looked at although the system tells of changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the configuration again, with what the command line said.
pub type Reread = Box<dyn Fn() -> Result<Config, Vec<String>> + Send + Sync>;

/// What an operator asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Look at the configuration and every plugin.
    Reload,
    /// Go back to an earlier version of a plugin.
    RollBack { plugin: String, to: Option<String> },
    /// The version on its way takes its next step.
    Promote { plugin: String },
}

/// A command, who gave it, and where its answer goes.
struct Order {
    command: Command,
    by: String,
    answer: oneshot::Sender<Result<String, String>>,
}

/// Gives commands to the task that makes changes.
#[derive(Clone)]
pub(crate) struct Reloader {
    orders: mpsc::Sender<Order>,
}

impl Reloader {
    /// Has a command done.
    ///
    /// # Errors
    /// Why it was not.
    pub(crate) async fn order(&self, command: Command, by: String) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        let stopped = || "the gateway is stopping".to_owned();
        let order = Order { command, by, answer };
        self.orders.send(order).await.map_err(|_closed| stopped())?;
        answered.await.map_err(|_closed| stopped())?
    }
}

/// The task's own.
pub(crate) struct Reload {
    pub(crate) config: Config,
    pub(crate) reread: Option<Reread>,
    pub(crate) set: PluginSet,
    pub(crate) scanner: Option<Scanner>,
    pub(crate) gateways: Vec<Arc<Gateway>>,
    pub(crate) concluded: mpsc::Receiver<Concluded>,
    pub(crate) differences: mpsc::Receiver<Difference>,
    pub(crate) differing: Differences,
    /// What the configuration file looked like last, and since when it is to be read again.
    pub(crate) config_seen: Option<(Option<Stamp>, Option<Instant>)>,
}

impl Reload {
    /// The task, and what gives it commands.
    pub(crate) fn task(self) -> (Reloader, impl Future<Output = ()> + Send) {
        let (orders, receiver) = mpsc::channel(COMMANDS_MAX);
        // Before anything can change.
        let watcher = self.watcher();
        (Reloader { orders }, self.run(receiver, watcher))
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut watcher: Watcher) {
        // Kept over the turns of the loop: what comes often must not put it off.
        let mut next_look = Instant::now();
        loop {
            let interval = match self.config.watch {
                Watch::Notify => LOOK_INTERVAL,
                Watch::Poll => self.config.poll_interval,
                Watch::Off => Duration::MAX,
            };
            let looks = interval < LONG_WAIT || next_look > Instant::now();
            tokio::select! {
                told = watcher.told() => {
                    tokio::time::sleep(TOGETHER).await;
                    let is_whole = watcher.take(told);
                    let again_after = self.look(is_whole, "directory").await;
                    next_look = Instant::now() + again_after.unwrap_or(interval).min(LONG_WAIT);
                }
                () = tokio::time::sleep_until(next_look.into()), if looks => {
                    if watcher.is_being_written() {
                        next_look = Instant::now() + STILL;
                        continue;
                    }
                    let again_after = self.look(false, "directory").await;
                    next_look = Instant::now() + again_after.unwrap_or(interval).min(LONG_WAIT);
                }
                Some(order) = orders.recv() => self.obey(order).await,
                Some(concluded) = self.concluded.recv() => {
                    self.set.concluded(&concluded, &self.config, &self.gateways);
                }
                Some(difference) = self.differences.recv() => self.differing.write(&difference),
            }
        }
    }

    fn watcher(&self) -> Watcher {
        if self.config.watch != Watch::Notify {
            return Watcher::none();
        }
        let folder = |file: &PathBuf| file.parent().map(ToOwned::to_owned);
        let configuration = self.config.path.as_ref().and_then(folder);
        let directories = self.config.plugins.iter().cloned().chain(configuration);
        Watcher::start(directories.collect())
    }

    /// Looks at the files, and makes the changes that they ask for. Gives the time after which they
    /// are looked at again.
    async fn look(&mut self, is_whole: bool, by: &str) -> Option<Duration> {
        let config_again = self.look_at_config(is_whole, by);
        let Some(scanner) = self.scanner.as_mut() else { return config_again };
        let changes = match scanner.look(Instant::now(), is_whole) {
            Ok(changes) => changes,
            Err(error) => {
                tracing::debug!(%error, "the plugin directory cannot be read");
                return None;
            }
        };
        let again_after = [changes.again_after, config_again].into_iter().flatten().min();
        if !changes.is_empty() {
            self.apply(changes, by).await;
        }
        again_after
    }

    /// Reads the configuration again when its file is another one, and whole. Gives the time after
    /// which it may be.
    fn look_at_config(&mut self, is_whole: bool, by: &str) -> Option<Duration> {
        let path = self.config.path.clone()?;
        let reread = self.reread.as_ref()?;
        let now = stamp(&path);
        if self.config_seen.as_ref().is_none_or(|(seen, _)| *seen != now) {
            let is_first = self.config_seen.is_none();
            self.config_seen = Some((now, Some(Instant::now())));
            if is_first && !self.config.is_changed() {
                self.config_seen = Some((now, None));
            }
        }
        let (_, since) = self.config_seen.as_mut()?;
        let left = STILL.saturating_sub((*since)?.elapsed());
        if !is_whole && !left.is_zero() {
            return Some(left);
        }
        *since = None;
        let config = reread();
        self.configure(config, by);
        None
    }

    async fn apply(&mut self, changes: Changes, by: &str) {
        let names: Vec<String> = changes.changed.keys().cloned().collect();
        self.set.apply(changes, &self.config, &self.gateways, by).await;
        let Some(scanner) = &mut self.scanner else { return };
        for name in names {
            let files = self.set.files(&name);
            scanner.watch_files(&name, files);
        }
    }

    /// Another configuration.
    fn configure(&mut self, config: Result<Config, Vec<String>>, by: &str) -> bool {
        let config = match config {
            Ok(config) => config,
            Err(mistakes) => return refuse(&mistakes, by),
        };
        if let Err(mistakes) = self.set.reconfigure(&config, &self.gateways) {
            return refuse(&mistakes, by);
        }
        let restart = self.config.needs_restart(&config);
        if !restart.is_empty() {
            tracing::warn!(by, "takes effect with a restart: {}", restart.join(", "));
        }
        tracing::info!(by, "configuration is live");
        self.config = config;
        true
    }

    async fn obey(&mut self, order: Order) {
        let Order { command, by, answer } = order;
        let (config, gateways) = (&self.config, &self.gateways);
        let result = match command {
            Command::Reload => {
                let is_configured = match self.reread.as_ref().map(|reread| reread()) {
                    Some(config) => self.configure(config, &by),
                    None => true,
                };
                self.look(true, &by).await;
                match is_configured {
                    true => Ok(self.summary()),
                    false => Err("the configuration has mistakes; see the log".to_owned()),
                }
            }
            Command::RollBack { plugin, to } => {
                self.set.roll_back(&plugin, to.as_deref(), config, gateways, &by).await
            }
            Command::Promote { plugin } => self.set.promote(&plugin, config, gateways, &by).await,
        };
        // The one who asked may be gone.
        let _is_gone = answer.send(result);
    }

    fn summary(&self) -> String {
        let plugins = self.set.plugins().len();
        let refused: Vec<&str> = self.set.refused().map(|(name, _)| name.as_str()).collect();
        match refused.is_empty() {
            true => format!("{plugins} plugin(s) serve"),
            false => format!("{plugins} plugin(s) serve, refused: {}", refused.join(", ")),
        }
    }
}

fn refuse(mistakes: &[String], by: &str) -> bool {
    tracing::error!(by, "configuration refused, the old one goes on: {}", mistakes.join("; "));
    false
}

/// Longer than this is for ever.
const LONG_WAIT: Duration = Duration::from_hours(24);
