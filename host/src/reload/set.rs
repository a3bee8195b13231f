//! The plugins that serve, and how a change of them is tried, published or refused. A change is
//! published whole: where configuration and plugins would not fit together after it, everything
//! stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use portreeve_plugin::{
    CodeCache, Concluded, Engine, Observer, Plugin, Role, Stage, StateSpace, Version,
};

use crate::config::{Config, PluginManifest};
use crate::gateway::Gateway;
use crate::plugins::archive::{Archive, Event, Happened};
use crate::plugins::scan::Changes;
use crate::plugins::{
    LoadedPlugin, PLUGINS_MAX, Source, WhyNot, read_source, roles, short, start_version,
};
use crate::resolve::{Plugins, rules};
use crate::signature::TrustedKeys;

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

/// The plugins of the process.
pub(crate) struct PluginSet {
    engine: Engine,
    cache: Option<CodeCache>,
    /// Those whose components are accepted.
    keys: TrustedKeys,
    observer: Observer,
    directory: Option<PathBuf>,
    archive: Arc<Archive>,
    plugins: Plugins,
    /// The manifests of versions on their way.
    candidates: BTreeMap<String, PluginManifest>,
    refused: BTreeMap<String, String>,
    view: Arc<View>,
}

/// A version that was loaded and is not published yet.
struct Ready {
    source: Source,
    version: Arc<Version>,
    /// `None` where it takes over at once.
    stage: Option<Stage>,
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
            observer,
            directory,
            archive,
            plugins: Plugins::new(),
            candidates: BTreeMap::new(),
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

    /// The files that the manifest of a plugin names.
    pub(crate) fn files(&self, name: &str) -> Vec<PathBuf> {
        let manifest = self.candidates.get(name).or(self.plugins.get(name).map(|p| &p.manifest));
        manifest.map(|manifest| manifest.files.clone()).unwrap_or_default()
    }

    /// Why files of the directory do not serve.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&String, &String)> {
        self.refused.iter()
    }

    /// Loads what the directory holds when the process starts: the version that was live before
    /// where the one in the directory cannot be used, or has to be tried first.
    pub(crate) async fn start(&mut self, changes: Changes) {
        for (name, path) in changes.changed {
            let remembered = self.archive.of(&name);
            let last = remembered.live.first().cloned();
            let ready = self.ready(&name, &path, None).await;
            let is_same = |ready: &Ready| last.as_ref() == Some(&ready.source.digest);
            match ready {
                Ok(Some(ready)) if last.is_none() || is_same(&ready) => {
                    self.put(ready, "start");
                }
                Ok(Some(ready)) => self.start_changed(&name, &path, last, ready).await,
                Ok(None) => {}
                Err(why) => {
                    if let Some(earlier) = self.start_kept(&name, &path, last).await {
                        self.put(earlier, "start");
                    }
                    self.refuse(&name, "start", &why.to_string());
                }
            }
        }
        self.show();
    }

    /// The directory holds another version than the one that was live before the restart.
    async fn start_changed(&mut self, name: &str, path: &Path, last: Option<String>, ready: Ready) {
        let Some(stage) = ready.source.manifest.plugin.rollout.first_stage() else {
            self.put(ready, "start");
            return;
        };
        match self.start_kept(name, path, last).await {
            None => self.put(ready, "start"),
            Some(earlier) => {
                self.put(earlier, "start");
                let state = self.plugins.get(name).map(|loaded| loaded.plugin.state());
                match self.started(ready.source, Some(stage), state).await {
                    Ok(candidate) => self.put(candidate, "start"),
                    Err(why) => self.refuse(name, "start", &why.to_string()),
                }
            }
        }
    }

    async fn start_kept(&self, name: &str, path: &Path, last: Option<String>) -> Option<Ready> {
        let source = self.archive.kept(&path.with_extension("toml"), name, &last?)?;
        self.started(source, None, None).await.ok()
    }

    /// Tries what changed in the directory, and publishes all of it or refuses it.
    pub(crate) async fn apply(
        &mut self,
        changes: Changes,
        config: &Config,
        gateways: &[Arc<Gateway>],
        by: &str,
    ) {
        let mut all_ready = Vec::new();
        for (name, path) in changes.changed {
            if !self.plugins.contains_key(&name) && self.plugins.len() >= PLUGINS_MAX {
                self.refuse(&name, by, &WhyNot::TooMany.to_string());
                continue;
            }
            let live = self.plugins.get(&name).map(|loaded| Arc::clone(&loaded.plugin));
            match self.ready(&name, &path, live.as_ref()).await {
                Ok(Some(ready)) => all_ready.push(ready),
                Ok(None) => {}
                Err(why) => self.refuse(&name, by, &why.to_string()),
            }
        }
        for name in &changes.gone {
            self.refused.remove(name);
        }
        let gone: BTreeSet<String> =
            changes.gone.into_iter().filter(|name| self.plugins.contains_key(name)).collect();
        if !all_ready.is_empty() || !gone.is_empty() {
            self.publish(all_ready, gone, config, gateways, by);
        }
        self.show();
    }

    /// Reads and starts the version in the directory; `None` where it serves already.
    async fn ready(
        &mut self,
        name: &str,
        path: &Path,
        plugin: Option<&Arc<Plugin>>,
    ) -> Result<Option<Ready>, WhyNot> {
        let at = path.to_owned();
        let read = tokio::task::spawn_blocking(move || read_source(&at)).await;
        let source = read.map_err(|error| WhyNot::Interrupted(error.to_string()))??;
        // Also of the version that serves: at the next start it would be refused.
        source.signed_by(&self.keys)?;
        let digest = source.digest.as_str();
        let candidate = plugin.and_then(|plugin| plugin.rollout());
        if candidate.as_ref().is_some_and(|status| status.candidate.digest() == digest) {
            return Ok(None);
        }
        if let Some(plugin) = plugin
            && plugin.live().digest() == digest
        {
            // It may have been signed anew.
            self.archive.keep(&source);
            self.refused.remove(name);
            self.withdraw(plugin);
            return Ok(None);
        }
        if self.archive.of(name).barred.iter().any(|barred| barred == digest) {
            return Err(WhyNot::Barred { name: name.to_owned(), digest: digest.to_owned() });
        }
        let stage = plugin.and_then(|_| source.manifest.plugin.rollout.first_stage());
        let ready = self.started(source, stage, plugin.map(|plugin| plugin.state())).await?;
        if let Some(plugin) = plugin {
            let lost = |role: &Role| plugin.is(*role) && !ready.version.is(*role);
            if let Some(role) = Role::ALL.into_iter().find(lost) {
                return Err(WhyNot::LostRole(role));
            }
        }
        Ok(Some(ready))
    }

    /// The directory holds the live version again: what was on its way is no more.
    fn withdraw(&mut self, plugin: &Plugin) {
        if let Some(candidate) = plugin.abort() {
            self.candidates.remove(plugin.name());
            let reason = "its files were taken away";
            let (name, by) = (plugin.name(), "directory");
            self.archive.record(name, candidate.digest(), by, Happened::RolledBack, reason);
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
        Ok(Ready { source, version, stage })
    }

    /// Publishes versions and takes plugins away, if everything fits together afterwards.
    fn publish(
        &mut self,
        all_ready: Vec<Ready>,
        gone: BTreeSet<String>,
        config: &Config,
        gateways: &[Arc<Gateway>],
        by: &str,
    ) {
        let mut next = self.plugins.clone();
        next.retain(|name, _| !gone.contains(name));
        for Ready { source, version, .. } in all_ready.iter().filter(|ready| ready.stage.is_none())
        {
            let (manifest, roles) = (source.manifest.clone(), roles(version));
            match next.get_mut(&source.name) {
                Some(loaded) => {
                    loaded.manifest = manifest;
                    loaded.roles = roles;
                }
                None => {
                    let plugin = Plugin::new(Arc::clone(version), self.observer.clone());
                    next.insert(source.name.clone(), LoadedPlugin { plugin, manifest, roles });
                }
            }
        }
        // What is on its way has to fit, too: nobody looks when it is promoted.
        let mut promoted = next.clone();
        for Ready { source, version, .. } in all_ready.iter().filter(|ready| ready.stage.is_some())
        {
            if let Some(loaded) = promoted.get_mut(&source.name) {
                loaded.manifest = source.manifest.clone();
                loaded.roles = roles(version);
            }
        }
        let fits = all_rules(config, gateways, &promoted);
        let rules = match fits.and_then(|_| all_rules(config, gateways, &next)) {
            Ok(rules) => rules,
            Err(mistakes) => {
                let why = WhyNot::DoesNotFit(mistakes.join("\n")).to_string();
                for ready in &all_ready {
                    self.refuse(&ready.source.name, by, &why);
                }
                for name in &gone {
                    self.refuse(name, by, &format!("it is still needed: {why}"));
                }
                return;
            }
        };
        self.plugins = next;
        for ready in all_ready {
            self.put(ready, by);
        }
        for (gateway, rules) in gateways.iter().zip(rules) {
            gateway.publish(rules);
        }
        for name in gone {
            self.candidates.remove(&name);
            self.archive.record(&name, "", by, Happened::Removed, "");
        }
    }

    /// A version takes its place.
    fn put(&mut self, ready: Ready, by: &str) {
        let Ready { source: Source { name, manifest, digest, .. }, version, stage } = ready;
        self.refused.remove(&name);
        let loaded = match self.plugins.get_mut(&name) {
            Some(loaded) => loaded,
            None => {
                let (plugin, roles) =
                    (Plugin::new(Arc::clone(&version), self.observer.clone()), roles(&version));
                let loaded = LoadedPlugin { plugin, manifest: manifest.clone(), roles };
                self.plugins.entry(name.clone()).or_insert(loaded)
            }
        };
        if let Some(stage) = stage {
            loaded.plugin.begin(version, stage);
            self.candidates.insert(name.clone(), manifest);
            let happened = match stage {
                Stage::Shadow => Happened::Shadow,
                Stage::Canary => Happened::Canary,
            };
            self.archive.record(&name, &digest, by, happened, "");
            return;
        }
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

    fn refuse(&mut self, name: &str, by: &str, why: &str) {
        if self.refused.get(name).map(String::as_str) != Some(why) {
            self.archive.record(name, "", by, Happened::Refused, why);
            self.refused.insert(name.to_owned(), why.to_owned());
        }
    }

    /// A rollout ended by itself.
    pub(crate) fn concluded(
        &mut self,
        concluded: &Concluded,
        config: &Config,
        gateways: &[Arc<Gateway>],
    ) {
        let (name, digest) = (concluded.plugin.name(), concluded.candidate.digest());
        let manifest = self.candidates.remove(name);
        match &concluded.rolled_back {
            Some(why) => {
                self.archive.bar(name, digest);
                self.archive.record(name, digest, "rollout", Happened::RolledBack, why);
                self.refused.insert(name.to_owned(), format!("it was rolled back: {why}"));
            }
            None => {
                self.archive.set_live(name, digest);
                self.archive.record(name, digest, "rollout", Happened::Promoted, "");
                if let Some((loaded, manifest)) = self.plugins.get_mut(name).zip(manifest) {
                    loaded.manifest = manifest;
                    loaded.roles = roles(&concluded.candidate);
                }
                self.publish_rules(config, gateways);
            }
        }
        self.show();
    }

    /// Publishes what holds with other bindings.
    fn publish_rules(&self, config: &Config, gateways: &[Arc<Gateway>]) {
        match all_rules(config, gateways, &self.plugins) {
            Ok(rules) => {
                gateways.iter().zip(rules).for_each(|(gateway, rules)| gateway.publish(rules));
            }
            Err(mistakes) => {
                tracing::error!("the new manifest does not fit: {}", mistakes.join("; "));
            }
        }
    }

    /// Another configuration with the same plugins.
    ///
    /// # Errors
    /// Every mistake; everything then stays as it was.
    pub(crate) fn reconfigure(
        &mut self,
        config: &Config,
        gateways: &[Arc<Gateway>],
    ) -> Result<(), Vec<String>> {
        self.check_signatures(&config.signature_keys)?;
        let rules = all_rules(config, gateways, &self.plugins)?;
        self.keys = config.signature_keys.clone();
        gateways.iter().zip(rules).for_each(|(gateway, rules)| gateway.publish(rules));
        Ok(())
    }

    /// Whether other keys accept what serves and what is on its way.
    fn check_signatures(&self, keys: &TrustedKeys) -> Result<(), Vec<String>> {
        if *keys == self.keys || keys.is_empty() {
            return Ok(());
        }
        let mut mistakes = Vec::new();
        for (name, loaded) in &self.plugins {
            let candidate = loaded.plugin.rollout().map(|status| status.candidate);
            for version in candidate.into_iter().chain([loaded.plugin.live()]) {
                let refused = match self.kept(name, version.digest()) {
                    Some(source) => source.signed_by(keys).err().map(|error| error.to_string()),
                    None => Some("its files are not there any more".to_owned()),
                };
                if let Some(why) = refused {
                    let digest = short(version.digest());
                    mistakes.push(format!(
                        "[plugins] signature_keys: plugin {name}, version {digest}: {why}; sign it with one of the new keys first"
                    ));
                }
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// Goes back to the version that was live before, or to `to`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn roll_back(
        &mut self,
        name: &str,
        to: Option<&str>,
        config: &Config,
        gateways: &[Arc<Gateway>],
        by: &str,
    ) -> Result<String, String> {
        let plugin = self.plugin(name)?;
        if let (None, Some(candidate)) = (to, plugin.abort()) {
            self.candidates.remove(name);
            self.archive.bar(name, candidate.digest());
            self.archive.record(name, candidate.digest(), by, Happened::RolledBack, "by command");
            self.refused.insert(name.to_owned(), "it was rolled back by command".to_owned());
            self.show();
            let live = plugin.live();
            return Ok(format!("{name}: {} goes on serving", short(live.digest())));
        }
        let remembered = self.archive.of(name);
        let known = || remembered.live.iter().skip(1).chain(&remembered.barred);
        let digest = match to {
            None => remembered.live.get(1),
            Some(to) => known().find(|digest| digest.starts_with(to)),
        };
        let digest = digest.ok_or_else(|| match to {
            None => format!("{name} has no earlier version to go back to"),
            Some(to) => {
                let known: Vec<&str> = known().map(|digest| short(digest)).collect();
                format!("{name} has no version {to}; there are {}", known.join(", "))
            }
        })?;
        let source = self.kept(name, digest).ok_or_else(|| {
            format!(
                "the files of version {} were not kept; versions are kept where the gateway has a data directory",
                short(digest)
            )
        })?;
        let ready = self
            .started(source, None, Some(plugin.state()))
            .await
            .map_err(|why| format!("version {} does not start: {why}", short(digest)))?;
        let replaced = plugin.live();
        self.publish(vec![ready], BTreeSet::new(), config, gateways, by);
        self.show();
        if plugin.live().digest() == digest {
            self.archive.bar(name, replaced.digest());
            let reason = "by command";
            self.archive.record(name, replaced.digest(), by, Happened::RolledBack, reason);
            return Ok(format!(
                "{name}: {} serves, {} is not loaded again until its files change",
                short(digest),
                short(replaced.digest())
            ));
        }
        Err(self.refused.get(name).cloned().unwrap_or_default())
    }

    /// The version on its way takes its next step.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn promote(
        &mut self,
        name: &str,
        config: &Config,
        gateways: &[Arc<Gateway>],
        by: &str,
    ) -> Result<String, String> {
        let plugin = self.plugin(name)?;
        let none = || format!("no version of {name} is on its way");
        let status = plugin.rollout().ok_or_else(none)?;
        let digest = status.candidate.digest().to_owned();
        let manifest = self.candidates.get(name).cloned().ok_or_else(none)?;
        let is_shadow = status.stage == Stage::Shadow;
        let stage =
            (is_shadow && manifest.plugin.rollout.canary.is_some()).then_some(Stage::Canary);
        let source = self.kept(name, &digest).ok_or_else(|| {
            format!("the files of version {} are not there any more", short(&digest))
        })?;
        let ready = match is_shadow {
            // What it wrote into its copy of the state counts no more.
            true => self.started(source, stage, Some(plugin.state())).await,
            false => Ok(Ready { source, version: status.candidate, stage: None }),
        };
        let ready = ready.map_err(|why| why.to_string())?;
        self.publish(vec![ready], BTreeSet::new(), config, gateways, by);
        self.show();
        match (self.refused.get(name), stage) {
            (Some(why), _) => Err(why.clone()),
            (None, Some(stage)) => Ok(format!("{name}: {} is in {}", short(&digest), stage.name())),
            (None, None) => Ok(format!("{name}: {} serves", short(&digest))),
        }
    }

    fn plugin(&self, name: &str) -> Result<Arc<Plugin>, String> {
        let loaded = self.plugins.get(name);
        loaded.map(|loaded| Arc::clone(&loaded.plugin)).ok_or_else(|| {
            let names: Vec<&str> = self.plugins.keys().map(String::as_str).collect();
            match names.is_empty() {
                true => format!("there is no plugin {name:?}; none is loaded"),
                false => format!("there is no plugin {name:?}; there are {}", names.join(", ")),
            }
        })
    }

    /// The files of a version: those that were kept, or those in the directory.
    fn kept(&self, name: &str, digest: &str) -> Option<Source> {
        let path = self.directory.as_ref()?.join(format!("{name}.wasm"));
        let kept = self.archive.kept(&path.with_extension("toml"), name, digest);
        kept.or_else(|| read_source(&path).ok().filter(|source| source.digest == digest))
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

/// What holds for each gateway with these plugins.
fn all_rules(
    config: &Config,
    gateways: &[Arc<Gateway>],
    plugins: &Plugins,
) -> Result<Vec<crate::gateway::Rules>, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut all = Vec::new();
    for gateway in gateways {
        let configured = config.gateways.iter().find(|other| *other.name == *gateway.name);
        match configured {
            Some(configured) => all.extend(rules(configured, plugins, &mut mistakes)),
            None => mistakes.push(format!(
                "gateway {:?} is not in the configuration any more; a gateway ends with a restart",
                gateway.name
            )),
        }
    }
    if mistakes.is_empty() { Ok(all) } else { Err(mistakes) }
}
