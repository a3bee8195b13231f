//! Changes of the plugin directory: what is refused is taken back, so that the directory holds what serves.

use std::io;
use std::path::{Path, PathBuf};

use super::{Changed, NotChanged, Reload, unreadable, unwritable};
use crate::config::PluginManifest;
use crate::config::edit::{self, Edited, Settings};
use crate::files;
use crate::plugins::scan::Trust;
use crate::plugins::{WhyNot, is_name, read_source, short};
use crate::signature::signature_path;

const NO_DIRECTORY: &str =
    "this gateway has no plugin directory: start it with --plugins DIR, or say [plugins] directory";

/// A file with what it is to hold.
type Part = (PathBuf, Vec<u8>);

impl Reload {
    /// Sets how versions of a plugin take over, in its manifest. As every other manifest, this one makes
    /// another version, which takes over as it says.
    pub(super) async fn change_rollout(
        &mut self,
        plugin: &str,
        settings: &Settings,
        by: &str,
    ) -> Result<Changed, NotChanged> {
        let component = self.component_path(plugin)?;
        if !component.is_file() {
            return Err(NotChanged::Unknown(format!("there is no plugin {plugin:?}")));
        }
        let path = component.with_extension("toml");
        let refused = |error: crate::config::ConfigError| NotChanged::Refused(error.to_string());
        let text = PluginManifest::read_text(&path).map_err(refused)?;
        let Edited { text: next, changed } = edit::manifest(&text, settings)?;
        PluginManifest::parse(&path, &next, plugin).map_err(refused)?;
        let parts = match changed.is_empty() {
            true => Vec::new(),
            false => vec![(path, next.into_bytes())],
        };
        self.change_plugin(plugin, parts, changed, by).await
    }

    /// Puts another component in the place of a plugin's, with the signature beside it where there is one.
    pub(super) async fn change_component(
        &mut self,
        plugin: &str,
        component: Vec<u8>,
        signature: Option<String>,
        by: &str,
    ) -> Result<Changed, NotChanged> {
        let path = self.component_path(plugin)?;
        let signature = signature.map(|text| (signature_path(&path), text.into_bytes()));
        let parts: Vec<Part> = signature.into_iter().chain([(path, component)]).collect();
        self.change_plugin(plugin, parts, vec!["component".to_owned()], by).await
    }

    fn component_path(&self, plugin: &str) -> Result<PathBuf, NotChanged> {
        if !is_name(plugin) {
            return Err(NotChanged::Refused(WhyNot::Name.to_string()));
        }
        let directory = self.started.plugins.as_ref();
        let directory = directory.ok_or_else(|| NotChanged::Impossible(NO_DIRECTORY.to_owned()))?;
        Ok(directory.join(format!("{plugin}.wasm")))
    }

    async fn change_plugin(
        &mut self,
        plugin: &str,
        parts: Vec<Part>,
        changed: Vec<String>,
        by: &str,
    ) -> Result<Changed, NotChanged> {
        let mut before = Vec::new();
        for (path, _) in &parts {
            before.push((path.clone(), content(path)?));
        }
        let is_same =
            parts.iter().zip(&before).all(|((_, new), (_, old))| old.as_ref() == Some(new));
        let changed = if is_same { Vec::new() } else { changed };
        for (path, bytes) in parts.iter().filter(|_| !is_same) {
            if let Err(error) = files::replace(path, None, bytes) {
                let why = unwritable(path, &error).to_string();
                return Err(taken_back(&before, why, NotChanged::Failed));
            }
        }
        self.load_plugins(by).await;
        match self.state_of(plugin) {
            Ok((live, detail)) => {
                let needs_restart = self.started.needs_restart(&self.config);
                Ok(Changed { changed, live, needs_restart, detail })
            }
            Err(why) => {
                let error = taken_back(&before, why, NotChanged::Refused);
                self.load_plugins(by).await;
                Err(error)
            }
        }
    }

    /// Loads what the plugin directory holds, whether the system has told of it or not.
    async fn load_plugins(&mut self, by: &str) {
        let (_, _again) = self.look_at_plugins(Trust::AsItIs, by).await;
        self.settle(by);
    }

    /// Whether the version in the directory is the live one, and what it is else; or why it does not serve.
    fn state_of(&self, plugin: &str) -> Result<(bool, String), String> {
        let path = self.component_path(plugin).map_err(|error| error.to_string())?;
        let digest = read_source(&path).map_err(|why| why.to_string())?.digest;
        let loaded = self.set.plugins().get(plugin);
        if loaded.is_some_and(|loaded| loaded.plugin.live().digest() == digest) {
            return Ok((true, format!("version {} serves", short(&digest))));
        }
        let rollout = loaded.and_then(|loaded| loaded.plugin.rollout());
        match rollout.filter(|status| status.candidate.digest() == digest) {
            Some(status) => {
                Ok((false, format!("version {} is in {}", short(&digest), status.stage.name())))
            }
            None => {
                let why = self.set.refused().find(|(name, _)| *name == plugin);
                Err(why.map_or_else(|| "it does not serve".to_owned(), |(_, why)| why.clone()))
            }
        }
    }
}

/// What a file holds; `None` where there is none.
fn content(path: &Path) -> Result<Option<Vec<u8>>, NotChanged> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Puts files back after what was refused; with both reasons where that fails, too.
fn taken_back(
    before: &[(PathBuf, Option<Vec<u8>>)],
    why: String,
    error: fn(String) -> NotChanged,
) -> NotChanged {
    match put_back(before) {
        Ok(()) => error(why),
        Err(failed) => NotChanged::Failed(format!("{why}; and it is not taken back: {failed}")),
    }
}

fn put_back(before: &[(PathBuf, Option<Vec<u8>>)]) -> Result<(), NotChanged> {
    for (path, bytes) in before {
        files::put_back(path, bytes.as_deref()).map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}
