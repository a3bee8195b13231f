//! The plugin directory: every `NAME.wasm` in it with its manifest `NAME.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portreeve_plugin::{CodeCache, Engine, LoadError, Plugin, load_component};

use crate::config::{ConfigError, PluginManifest};

/// Plugins of one directory.
const PLUGINS_MAX: usize = 256;
/// Bytes of one component.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;
/// Characters of a plugin's name.
const NAME_BYTES_MAX: usize = 64;

/// A plugin that was loaded, with what its manifest says.
#[derive(Debug, Clone)]
pub struct LoadedPlugin {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Its manifest.
    pub manifest: PluginManifest,
}

/// A file of the plugin directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct PluginProblem {
    /// The file.
    pub path: PathBuf,
    /// The plugin's name.
    pub name: String,
    /// What is wrong.
    pub why: WhyNot,
}

/// Why a file is no plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyNot {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is a folder, a pipe or a device.
    #[error("is no plain file; put the component itself here, or a link to it")]
    NotAFile,
    /// It is larger than a component may be.
    #[error("{0} bytes are more than the {COMPONENT_BYTES_MAX} that a component may have")]
    TooLarge(u64),
    /// Its name cannot be used in a configuration.
    #[error("a plugin's name is 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 - _ .")]
    Name,
    /// Its manifest has mistakes.
    #[error("its manifest has mistakes:\n{0}")]
    Manifest(#[from] ConfigError),
    /// Its component cannot be used.
    #[error(transparent)]
    Component(#[from] LoadError),
    /// Compiling it failed in an unexpected way.
    #[error("compiling was interrupted: {0}")]
    Interrupted(String),
    /// There are too many.
    #[error("there are more than {PLUGINS_MAX} plugins")]
    TooMany,
}

/// What a plugin directory holds.
#[derive(Debug, Default)]
pub struct PluginDirectory {
    /// Plugins by name.
    pub plugins: BTreeMap<String, LoadedPlugin>,
    /// Files that cannot be used.
    pub problems: Vec<PluginProblem>,
}

/// Loads every plugin of `directory`.
///
/// # Errors
/// When the directory itself cannot be read. What is wrong with single plugins stands in the
/// result.
pub async fn load_directory(
    engine: &Engine,
    directory: &Path,
    cache: Option<&CodeCache>,
) -> std::io::Result<PluginDirectory> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden =
            path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "wasm") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut found = PluginDirectory::default();
    for (index, path) in paths.into_iter().enumerate() {
        let name = plugin_name(&path);
        let loaded = if index < PLUGINS_MAX {
            load_plugin(engine, &path, cache).await
        } else {
            Err(WhyNot::TooMany)
        };
        match loaded {
            Ok(loaded) => drop(found.plugins.insert(name, loaded)),
            Err(why) => found.problems.push(PluginProblem { path, name, why }),
        }
    }
    Ok(found)
}

/// The name of the plugin in a file.
#[must_use]
pub fn plugin_name(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Loads the plugin of one file with the manifest beside it.
///
/// # Errors
/// [`WhyNot`].
pub async fn load_plugin(
    engine: &Engine,
    path: &Path,
    cache: Option<&CodeCache>,
) -> Result<LoadedPlugin, WhyNot> {
    let name = plugin_name(path);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(WhyNot::Name);
    }
    let manifest = PluginManifest::read(&path.with_extension("toml"), &name)?;
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(WhyNot::NotAFile);
    }
    let bytes = metadata.len();
    if bytes > COMPONENT_BYTES_MAX {
        return Err(WhyNot::TooLarge(bytes));
    }
    let component = std::fs::read(path)?;
    let (compiler, cache) = (engine.clone(), cache.cloned());
    // Compiling takes seconds for large components.
    let compiled =
        tokio::task::spawn_blocking(move || load_component(&compiler, &component, cache.as_ref()));
    let loaded = compiled.await.map_err(|error| WhyNot::Interrupted(error.to_string()))??;
    let plugin = Plugin::start(engine, &name, loaded, manifest.plugin.clone()).await?;
    Ok(LoadedPlugin { plugin, manifest })
}
