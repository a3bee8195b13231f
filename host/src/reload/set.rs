//! The plugins that serve, and how a change of them is tried, published or refused. What is wanted
//! and does not fit together with the rest waits: it is tried again with whatever changes next.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use portreeve_plugin::{
    CodeCache, Concluded, Conclusion, Engine, Observer, Plugin, Stage, StateSpace, Version,
};
use tokio::time::timeout;

use crate::config::{Config, PluginManifest};
use crate::gateway::Gateway;
use crate::plugins::archive::{Archive, Event, Happened};
use crate::plugins::scan::Changes;
use crate::plugins::{
    LoadedPlugin, PLUGINS_MAX, Source, WhyNot, read_source, roles, start_version,
};
use crate::resolve::Plugins;
use crate::signature::TrustedKeys;

mod commands;
mod fitting;
mod signing;
mod start;

/// A plugin whose files are there again so soon goes on as what it was: removing files and copying
/// others is one change for many tools.
const BACK_WITHIN: Duration = Duration::from_mins(1);

/// How long reading the files of a plugin may take. One on a file system that does not answer must not
/// hold up all others.
const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// What can be asked about the plugins while changes are made.
#[derive(Debug)]
pub(crate) struct View {
    entries: Mutex<BTreeMap<String, EntryView>>,
    archive: Arc<Archive>,
}

/// One plugin, for those who look.
#[derive(Debug, Clone)]
pub(crate) struct EntryView {
    /// `None` where no version of it serves.
    pub(crate) plugin: Option<Arc<Plugin>>,
    /// Why the directory holds something else than what serves.
    pub(crate) refused: Option<String>,
}

impl View {
    pub(crate) fn entries(&self) -> BTreeMap<String, EntryView> {
        self.entries.lock().clone()
    }

    pub(crate) fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.entries.lock().get(name)?.plugin.clone()
    }

    pub(crate) fn events(&self, name: Option<&str>) -> Vec<Event> {
        self.archive.events(name)
    }

    /// Versions that a roll-back can go to, latest first.
    pub(crate) fn earlier(&self, name: &str) -> Vec<String> {
        self.archive.of(name).live.into_iter().skip(1).collect()
    }
}

/// What the plugins have to fit together with.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) config: &'a Config,
    pub(crate) gateways: &'a [Arc<Gateway>],
}

/// The plugins of the process.
pub(crate) struct PluginSet {
    engine: Engine,
    cache: Option<CodeCache>,
    /// Those whose components are accepted.
    keys: TrustedKeys,
    /// Why other keys refuse a version, by plugin and digest: of one round of changes.
    checked: Mutex<BTreeMap<(String, String), Option<String>>>,
    observer: Observer,
    directory: Option<PathBuf>,
    archive: Arc<Archive>,
    plugins: Plugins,
    /// Versions on their way.
    candidates: BTreeMap<String, Candidate>,
    /// What the directory asks for and what is not so yet.
    wanted: BTreeMap<String, Wanted>,
    /// Plugins that were removed a moment ago, and when.
    departed: BTreeMap<String, (LoadedPlugin, Instant)>,
    refused: BTreeMap<String, String>,
    view: Arc<View>,
}

/// A version on its way, with its own manifest.
struct Candidate {
    version: Arc<Version>,
    manifest: PluginManifest,
}

/// A change of one plugin that the directory asks for.
enum Wanted {
    Version(Box<Ready>),
    Removal,
}

/// A version that was loaded and is not published yet.
struct Ready {
    name: String,
    digest: String,
    manifest: PluginManifest,
    version: Arc<Version>,
    /// `None` where it takes over at once.
    stage: Option<Stage>,
    /// The plugin as it was before its files were removed, where that was a moment ago.
    base: Option<LoadedPlugin>,
}

impl PluginSet {
    pub(crate) fn new(
        engine: Engine,
        cache: Option<CodeCache>,
        keys: TrustedKeys,
        observer: Observer,
        directory: Option<PathBuf>,
        archive: Archive,
    ) -> Self {
        let archive = Arc::new(archive);
        let view = Arc::new(View { entries: Mutex::default(), archive: Arc::clone(&archive) });
        Self {
            engine,
            cache,
            keys,
            checked: Mutex::default(),
            observer,
            directory,
            archive,
            plugins: Plugins::new(),
            candidates: BTreeMap::new(),
            wanted: BTreeMap::new(),
            departed: BTreeMap::new(),
            refused: BTreeMap::new(),
            view,
        }
    }

    pub(crate) fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The files that the manifests of a plugin name.
    pub(crate) fn files(&self, name: &str) -> Vec<PathBuf> {
        let wanted = match self.wanted.get(name) {
            Some(Wanted::Version(ready)) => Some(&ready.manifest),
            _ => None,
        };
        let candidate = || self.candidates.get(name).map(|candidate| &candidate.manifest);
        let live = || self.plugins.get(name).map(|loaded| &loaded.manifest);
        let manifest = wanted.or_else(candidate).or_else(live);
        manifest.map(|manifest| manifest.files.clone()).unwrap_or_default()
    }

    /// Why files of the directory do not serve.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&String, &String)> {
        self.refused.iter()
    }

    /// Forgets what was told of refusals, so that it is told again. Gives the plugins.
    pub(crate) fn forget_refusals(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused).into_keys().collect()
    }

    /// Loads what changed in the directory. It is published when it is settled.
    pub(crate) async fn load(&mut self, changes: Changes, by: &str) {
        self.forget_departed();
        for (name, path) in changes.changed {
            match self.ready(&name, &path).await {
                Ok(Some(ready)) => drop(self.wanted.insert(name, Wanted::Version(Box::new(ready)))),
                Ok(None) => drop(self.wanted.remove(&name)),
                Err(why) => {
                    self.wanted.remove(&name);
                    self.refuse(&name, by, &why.to_string());
                }
            }
        }
        for name in changes.gone {
            self.refused.remove(&name);
            match self.plugins.contains_key(&name) {
                true => self.wanted.insert(name, Wanted::Removal),
                false => self.wanted.remove(&name),
            };
        }
        self.show();
    }

    /// What was removed long ago does not come back as what it was.
    pub(crate) fn forget_departed(&mut self) {
        self.departed.retain(|_, (_, since)| since.elapsed() < BACK_WITHIN);
    }

    /// Reads and starts the version in the directory; `None` where it serves already.
    async fn ready(&mut self, name: &str, path: &Path) -> Result<Option<Ready>, WhyNot> {
        let is_new = |name: &String| !self.plugins.contains_key(name);
        let waiting = self.wanted.keys().filter(|other| *other != name && is_new(other)).count();
        if !self.plugins.contains_key(name) && self.plugins.len() + waiting >= PLUGINS_MAX {
            return Err(WhyNot::TooMany);
        }
        let at = path.to_owned();
        let read = tokio::task::spawn_blocking(move || read_source(&at));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "its file system does not answer");
        let read = timeout(READ_TIME_MAX, read).await.map_err(late)?;
        let source = read.map_err(|error| WhyNot::Interrupted(error.to_string()))??;
        // Also of the version that serves: at the next start it would be refused.
        source.signed_by(&self.keys)?;
        let digest = source.digest.as_str();
        let base = match self.plugins.contains_key(name) {
            true => None,
            false => self.departed.get(name).map(|(loaded, _)| loaded.clone()),
        };
        let serving = self.plugins.get(name).map(|loaded| Arc::clone(&loaded.plugin));
        let plugin = serving.or_else(|| base.as_ref().map(|base| Arc::clone(&base.plugin)));
        let candidate = plugin.as_ref().and_then(|plugin| plugin.rollout());
        if candidate.as_ref().is_some_and(|status| status.candidate.digest() == digest) {
            // It may have been signed anew.
            self.archive.keep(&source);
            self.refused.remove(name);
            return Ok(None);
        }
        if let Some(plugin) = &plugin
            && plugin.live().digest() == digest
        {
            // It may have been signed anew.
            self.archive.keep(&source);
            self.refused.remove(name);
            self.withdraw(plugin);
            let Some(base) = base else { return Ok(None) };
            let version = plugin.live();
            return Ok(Some(Ready { base: Some(base), ..Ready::of(source, version, None) }));
        }
        if self.archive.of(name).barred.iter().any(|barred| barred == digest) {
            return Err(WhyNot::Barred { name: name.to_owned(), digest: digest.to_owned() });
        }
        let first_stage = source.manifest.plugin.rollout.first_stage();
        let stage = plugin.as_ref().and(first_stage);
        let state = plugin.map(|plugin| plugin.state());
        let ready = self.started(source, stage, state).await?;
        Ok(Some(Ready { base, ..ready }))
    }

    /// The directory holds the live version again: what was on its way is no more.
    fn withdraw(&mut self, plugin: &Plugin) {
        let name = plugin.name();
        let Some(Candidate { version, .. }) = self.candidates.remove(name) else { return };
        if plugin.abort(&version) {
            let reason = "its files were taken away";
            self.archive.record(name, version.digest(), "directory", Happened::RolledBack, reason);
            self.tidy(name);
        }
    }

    async fn started(
        &self,
        source: Source,
        stage: Option<Stage>,
        state: Option<Arc<StateSpace>>,
    ) -> Result<Ready, WhyNot> {
        let state = match stage {
            // What a shadow writes nobody else reads.
            Some(Stage::Shadow) => state.map(|state| Arc::new(state.copy())),
            _ => state,
        };
        source.signed_by(&self.keys)?;
        let version = start_version(&self.engine, &source, self.cache.as_ref(), state).await?;
        self.archive.keep(&source);
        Ok(Ready::of(source, version, stage))
    }

    /// A version takes its place.
    fn put(&mut self, ready: Ready, by: &str) {
        let Ready { name, digest, manifest, version, stage, base } = ready;
        self.refused.remove(&name);
        self.departed.remove(&name);
        let loaded = self.plugins.entry(name.clone()).or_insert_with(|| {
            base.unwrap_or_else(|| LoadedPlugin {
                plugin: Plugin::new(Arc::clone(&version), self.observer.clone()),
                manifest: manifest.clone(),
                roles: roles(&version),
            })
        });
        if let Some(stage) = stage {
            loaded.plugin.begin(Arc::clone(&version), stage);
            self.candidates.insert(name.clone(), Candidate { version, manifest });
            let happened = match stage {
                Stage::Shadow => Happened::Shadow,
                Stage::Canary => Happened::Canary,
            };
            self.archive.record(&name, &digest, by, happened, "");
        } else {
            loaded.roles = roles(&version);
            loaded.manifest = manifest;
            loaded.plugin.publish(version);
            self.candidates.remove(&name);
            let was_live = self.archive.of(&name).live.first() == Some(&digest);
            self.archive.set_live(&name, &digest);
            if !was_live || by != "start" {
                self.archive.record(&name, &digest, by, Happened::Live, "");
            }
        }
        self.tidy(&name);
    }

    /// Takes a plugin away. It is remembered for a while, in case that its files come back.
    fn remove(&mut self, name: &str, loaded: LoadedPlugin, by: &str) {
        if let Some(Candidate { version, .. }) = self.candidates.remove(name) {
            loaded.plugin.abort(&version);
        }
        self.refused.remove(name);
        self.departed.insert(name.to_owned(), (loaded, Instant::now()));
        self.archive.record(name, "", by, Happened::Removed, "");
    }

    fn refuse(&mut self, name: &str, by: &str, why: &str) {
        if self.refused.get(name).map(String::as_str) != Some(why) {
            self.archive.record(name, "", by, Happened::Refused, why);
            self.refused.insert(name.to_owned(), why.to_owned());
        }
        self.tidy(name);
    }

    /// Removes kept files of versions that are neither live, nor tried, nor waiting.
    fn tidy(&self, name: &str) {
        let candidate = self.candidates.get(name).map(|candidate| candidate.version.digest());
        let wanted = match self.wanted.get(name) {
            Some(Wanted::Version(ready)) => Some(ready.digest.as_str()),
            _ => None,
        };
        let in_use: Vec<&str> = candidate.into_iter().chain(wanted).collect();
        self.archive.prune(name, &in_use);
    }

    /// A rollout came to its end by itself: it was taken back, or is to be promoted.
    pub(crate) fn concluded(&mut self, concluded: &Concluded, around: Around<'_>) {
        let Concluded { plugin, candidate, conclusion } = concluded;
        let name = plugin.name();
        match conclusion {
            Conclusion::RolledBack(why) => self.rolled_back(name, candidate, "rollout", why),
            Conclusion::Proven => {
                if let Err(why) = self.promote_tried(name, candidate, around, "rollout")
                    && plugin.abort(candidate)
                {
                    self.rolled_back(name, candidate, "rollout", &why);
                }
            }
        }
        self.show();
    }

    /// A version that was tried is not tried again.
    fn rolled_back(&mut self, name: &str, candidate: &Arc<Version>, by: &str, why: &str) {
        self.archive.bar(name, candidate.digest());
        self.archive.record(name, candidate.digest(), by, Happened::RolledBack, why);
        if self.is_tried(name, candidate) {
            self.candidates.remove(name);
            self.refused.insert(name.to_owned(), format!("it was rolled back: {why}"));
        }
        self.tidy(name);
    }

    /// Whether it is this version that is on its way.
    fn is_tried(&self, name: &str, version: &Arc<Version>) -> bool {
        self.candidates.get(name).is_some_and(|tried| Arc::ptr_eq(&tried.version, version))
    }

    /// A version that was tried answers everybody from now on.
    fn promote_tried(
        &mut self,
        name: &str,
        version: &Arc<Version>,
        around: Around<'_>,
        by: &str,
    ) -> Result<(), String> {
        let ended = || "the version on its way came to its end meanwhile".to_owned();
        if !self.is_tried(name, version) {
            return Err(ended());
        }
        let mut next = self.plugins.clone();
        let tried = self.candidates.get(name);
        let (loaded, tried) = next.get_mut(name).zip(tried).ok_or_else(ended)?;
        loaded.manifest = tried.manifest.clone();
        loaded.roles = roles(version);
        let plugin = Arc::clone(&loaded.plugin);
        let rules = fitting::all_rules(around, &next)
            .map_err(|mistakes| format!("its manifest does not fit: {}", mistakes.join("\n")))?;
        if !plugin.promote(version) {
            return Err(ended());
        }
        self.plugins = next;
        self.candidates.remove(name);
        self.refused.remove(name);
        fitting::publish(around, rules);
        self.archive.set_live(name, version.digest());
        self.archive.record(name, version.digest(), by, Happened::Promoted, "");
        self.tidy(name);
        Ok(())
    }

    fn show(&self) {
        let serving = self.plugins.iter().map(|(name, loaded)| {
            let refused = self.refused.get(name).cloned();
            (name.clone(), EntryView { plugin: Some(Arc::clone(&loaded.plugin)), refused })
        });
        let mut entries: BTreeMap<String, EntryView> = serving.collect();
        for (name, why) in &self.refused {
            entries
                .entry(name.clone())
                .or_insert_with(|| EntryView { plugin: None, refused: Some(why.clone()) });
        }
        *self.view.entries.lock() = entries;
    }
}

impl Ready {
    fn of(source: Source, version: Arc<Version>, stage: Option<Stage>) -> Self {
        let Source { name, manifest, digest, .. } = source;
        Self { name, digest, manifest, version, stage, base: None }
    }
}
