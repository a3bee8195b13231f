//! Changes while the gateway runs: the plugin directory, the configuration, and what an operator
//! asks for. One task makes them, one after the other.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portreeve_plugin::{Concluded, Difference};
use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Watch};
use crate::credentials::{Credentials, Looked};
use crate::gateway::Gateway;
use crate::plugins::scan::{STILL, Scanner, Stamp, Trust, stamp};

pub(crate) mod change;
pub(crate) mod differences;
pub(crate) mod set;
mod watch;

use change::{Change, Changed, NotChanged};
use differences::Differences;
use set::{Around, PluginSet};
use watch::Watcher;

/// Commands that wait.
const COMMANDS_MAX: usize = 16;
/// What came of rollouts and was not noted yet: each is told of twice at most, and of those of a
/// plugin no more than two, since it is noted before another one begins.
pub(crate) const CONCLUDED_MAX: usize = 4 * crate::plugins::PLUGINS_MAX;
/// Differences that were not written yet; those beyond are dropped.
pub(crate) const DIFFERENCES_MAX: usize = 256;
/// Bytes of those that wait.
pub(crate) const DIFFERENCES_BYTES_MAX: usize = 16 << 20;
/// Files that are moved into place together are looked at together.
const TOGETHER: Duration = Duration::from_millis(10);
/// How often files are looked at although the system tells of changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the configuration again, with what the command line said: that of the file, or of a text that
/// the file is to have.
pub type Reread = Box<dyn Fn(Option<&str>) -> Result<Config, Vec<String>> + Send + Sync>;

/// What an operator asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Look at the configuration and every plugin.
    Reload,
    /// Go back to an earlier version of a plugin. `saw` is the version on its way when this was
    /// asked for.
    RollBack { plugin: String, to: Option<String>, saw: Option<String> },
    /// The version on its way takes its next step.
    Promote { plugin: String, saw: Option<String> },
}

/// What is asked of the task, who asks, and where the answer goes.
enum Order {
    Command(Command, String, oneshot::Sender<Result<String, String>>),
    Change(Box<Change>, String, oneshot::Sender<Result<Changed, NotChanged>>),
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
        let order = Order::Command(command, by, answer);
        self.orders.send(order).await.map_err(|_closed| stopped())?;
        answered.await.map_err(|_closed| stopped())?
    }

    /// Has a file changed, and what it says made live.
    ///
    /// # Errors
    /// [`NotChanged`]; then the file is what it was.
    pub(crate) async fn change(&self, change: Change, by: String) -> Result<Changed, NotChanged> {
        let (answer, answered) = oneshot::channel();
        let stopped = || NotChanged::Failed("the gateway is stopping".to_owned());
        let order = Order::Change(Box::new(change), by, answer);
        self.orders.send(order).await.map_err(|_closed| stopped())?;
        answered.await.map_err(|_closed| stopped())?
    }
}

/// The task's own.
pub(crate) struct Reload {
    /// What the process was started with.
    pub(crate) started: Config,
    /// What holds.
    pub(crate) config: Config,
    /// What the file asks for and what does not fit yet, with why.
    pub(crate) wanted: Option<(Config, Vec<String>)>,
    pub(crate) reread: Option<Reread>,
    pub(crate) set: PluginSet,
    pub(crate) scanner: Option<Scanner>,
    pub(crate) gateways: Vec<Arc<Gateway>>,
    /// `None` before the start is done.
    pub(crate) credentials: Option<Credentials>,
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
        let mut next_look = self.next_look(None);
        loop {
            let is_told = tokio::select! {
                told = watcher.told() => {
                    tokio::time::sleep(TOGETHER).await;
                    watcher.take(told)
                }
                () = until(next_look) => {
                    if watcher.is_being_written() {
                        next_look = Some(Instant::now() + STILL);
                        continue;
                    }
                    false
                }
                Some(order) = orders.recv() => {
                    let again_after = self.obey(order).await;
                    let next = self.next_look(again_after);
                    next_look = next_look.into_iter().chain(next).min();
                    self.watch_files(&watcher);
                    continue;
                }
                Some(concluded) = self.concluded.recv() => {
                    self.conclude(&concluded);
                    // Another manifest holds: what waited may fit now.
                    self.settle("rollout");
                    continue;
                }
                Some(difference) = self.differences.recv() => {
                    self.differing.write(&difference);
                    continue;
                }
            };
            let trust = if is_told { Trust::Whole } else { Trust::Waits };
            let again_after = self.look(trust, "directory").await;
            next_look = self.next_look(again_after);
            self.watch_files(&watcher);
        }
    }

    /// When files are looked at next; `None` for never.
    fn next_look(&self, again_after: Option<Duration>) -> Option<Instant> {
        let interval = match self.started.watch {
            Watch::Notify => Some(LOOK_INTERVAL),
            Watch::Poll => Some(self.config.poll_interval),
            Watch::Off => None,
        };
        Some(Instant::now() + again_after.into_iter().chain(interval).min()?)
    }

    fn conclude(&mut self, concluded: &Concluded) {
        self.set.concluded(concluded, Around { config: &self.config, gateways: &self.gateways });
    }

    /// What ended by itself is noted before anything else is done about it.
    fn conclude_all(&mut self) {
        while let Ok(concluded) = self.concluded.try_recv() {
            self.conclude(&concluded);
        }
    }

    fn watcher(&self) -> Watcher {
        if self.started.watch != Watch::Notify {
            return Watcher::none();
        }
        let folder = |file: &PathBuf| match file.parent()? {
            here if here.as_os_str().is_empty() => Some(PathBuf::from(".")),
            folder => Some(folder.to_owned()),
        };
        let configuration = self.config.path.as_ref().and_then(folder);
        let certificates = self.credentials.iter().flat_map(Credentials::files);
        let certificates = certificates.filter_map(|file| folder(&file));
        // One that is not there yet is looked for now and then.
        let certificates = certificates.filter(|folder| folder.is_dir());
        let directories = self.config.plugins.iter().cloned();
        let directories = directories.chain(configuration).chain(certificates);
        let directories: BTreeSet<PathBuf> = directories.collect();
        let watcher = Watcher::start(&Vec::from_iter(directories));
        self.watch_files(&watcher);
        watcher
    }

    /// The files that matter beside those of the plugin directory.
    fn watch_files(&self, watcher: &Watcher) {
        let names = self.set.plugins().keys();
        let files = names.flat_map(|name| self.set.files(name)).chain(self.config.path.clone());
        watcher.watch_files(files.chain(self.credentials.iter().flat_map(Credentials::files)));
    }

    /// Looks at the files, and makes the changes that they ask for. Gives the time after which they
    /// are looked at again.
    async fn look(&mut self, trust: Trust, by: &str) -> Option<Duration> {
        self.conclude_all();
        self.set.forget_departed();
        let (is_configured, config_again) = self.look_at_config(trust, by);
        let (is_changed, plugins_again) = self.look_at_plugins(trust, by).await;
        if is_configured || is_changed {
            self.settle(by);
        }
        let looked = self.look_at_credentials(trust, by).await;
        config_again.into_iter().chain(plugins_again).chain(looked.again_after).min()
    }

    /// Loads certificates, keys and CRLs that changed.
    async fn look_at_credentials(&mut self, trust: Trust, by: &str) -> Looked {
        match &mut self.credentials {
            Some(credentials) => credentials.look(&self.config, trust, by).await,
            None => Looked::default(),
        }
    }

    /// Loads what changed in the plugin directory. Says whether something did, and when it is to be
    /// looked at again.
    async fn look_at_plugins(&mut self, trust: Trust, by: &str) -> (bool, Option<Duration>) {
        let Some(scanner) = self.scanner.as_mut() else { return (false, None) };
        let changes = match scanner.look(Instant::now(), trust) {
            Ok(changes) => changes,
            Err(error) => {
                tracing::debug!(%error, "the plugin directory cannot be read");
                return (false, None);
            }
        };
        let again_after = changes.again_after;
        if changes.is_empty() {
            return (false, again_after);
        }
        let names: Vec<String> = changes.changed.keys().cloned().collect();
        self.set.load(changes, by).await;
        for name in names {
            let files = self.set.files(&name);
            scanner.watch_files(&name, files);
        }
        self.conclude_all();
        (true, again_after)
    }

    /// Reads the configuration again when its file is another one, and whole. Says whether another
    /// one is wanted, and when the file is to be looked at again.
    fn look_at_config(&mut self, trust: Trust, by: &str) -> (bool, Option<Duration>) {
        let Some(path) = self.config.path.clone().filter(|_| self.reread.is_some()) else {
            return (false, None);
        };
        let now = stamp(&path);
        if self.config_seen.as_ref().is_none_or(|(seen, _)| *seen != now) {
            let is_same = self.config_seen.is_none() && !self.config.is_changed();
            self.config_seen = Some((now, (!is_same).then(Instant::now)));
        }
        let Some((_, Some(since))) = self.config_seen else { return (false, None) };
        let left = STILL.saturating_sub(since.elapsed());
        if trust == Trust::Waits && !left.is_zero() {
            return (false, Some(left));
        }
        self.config_seen = Some((now, None));
        (self.reread(by), None)
    }

    /// Reads the configuration. Says whether it can be used by itself.
    fn reread(&mut self, by: &str) -> bool {
        match self.reread.as_ref().map(|reread| reread(None)) {
            Some(Ok(config)) => {
                self.wanted = Some((config, Vec::new()));
                true
            }
            Some(Err(mistakes)) => {
                self.wanted = None;
                refuse(&mistakes, by);
                false
            }
            None => true,
        }
    }

    /// Publishes as much as fits of what files ask for. Says whether the configuration does.
    fn settle(&mut self, by: &str) -> bool {
        let around = Around { config: &self.config, gateways: &self.gateways };
        let Some((config, told)) = self.wanted.take() else {
            // Without another configuration there is nothing wrong with it.
            return self.set.settle(around, None, by).is_ok();
        };
        if let Err(mistakes) = self.set.settle(around, Some(&config), by) {
            if mistakes != told {
                refuse(&mistakes, by);
            }
            self.wanted = Some((config, mistakes));
            return false;
        }
        // By what the process was started with: what needs a restart does so until there is one.
        let restart = self.started.needs_restart(&config);
        if !restart.is_empty() {
            tracing::warn!(by, "takes effect with a restart: {}", restart.join(", "));
        }
        tracing::info!(by, "configuration is live");
        let are_other_keys = self.config.signature_keys != config.signature_keys;
        self.config = config;
        if are_other_keys && let Some(scanner) = &mut self.scanner {
            // They may accept what the old ones did not.
            scanner.look_again(&self.set.forget_refusals());
        }
        true
    }

    /// Does what is asked for. Gives the time after which files are looked at again.
    async fn obey(&mut self, order: Order) -> Option<Duration> {
        self.conclude_all();
        let (command, by, answer) = match order {
            Order::Command(command, by, answer) => (command, by, answer),
            Order::Change(change, by, answer) => {
                let changed = self.change(*change, &by).await;
                // What waited may fit now.
                self.settle(&by);
                // The one who asked may be gone.
                let _is_gone = answer.send(changed);
                return None;
            }
        };
        let mut again_after = None;
        let around = Around { config: &self.config, gateways: &self.gateways };
        let result = match command {
            Command::Reload => {
                let is_readable = self.reread(&by);
                let refused = self.set.forget_refusals();
                if let Some(scanner) = &mut self.scanner {
                    scanner.look_again(&refused);
                }
                (_, again_after) = self.look_at_plugins(Trust::AsItIs, &by).await;
                let is_settled = self.settle(&by) && is_readable;
                let mistakes = self.look_at_credentials(Trust::AsItIs, &by).await.mistakes;
                match (is_settled, mistakes.as_slice()) {
                    (true, []) => Ok(self.summary()),
                    (false, _) => Err("the configuration has mistakes; see the log".to_owned()),
                    (true, mistakes) => Err(mistakes.join("; ")),
                }
            }
            Command::RollBack { plugin, to, saw } => {
                self.set.roll_back(&plugin, to.as_deref(), saw.as_deref(), around, &by).await
            }
            Command::Promote { plugin, saw } => {
                self.set.promote(&plugin, saw.as_deref(), around, &by).await
            }
        };
        // What waited may fit now.
        self.settle(&by);
        // The one who asked may be gone.
        let _is_gone = answer.send(result);
        again_after
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

fn refuse(mistakes: &[String], by: &str) {
    tracing::error!(by, "configuration refused, the old one goes on: {}", mistakes.join("; "));
}

/// Waits until then, or for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
