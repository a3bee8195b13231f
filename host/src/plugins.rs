//! Plugins as files: `NAME.wasm` with its manifest `NAME.toml`, read together and named by the
//! digest of everything that a version is made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portreeve_plugin::{
    CodeCache, Engine, LoadError, Observer, Plugin, Role, StateSpace, Version, load_component,
};
use sha2::{Digest, Sha256};

use crate::config::{ConfigError, PluginManifest, read_plain};
use crate::signature::{SignatureError, TrustedKeys, signature_path};

pub(crate) mod archive;
pub(crate) mod scan;

/// Plugins of one directory.
pub(crate) const PLUGINS_MAX: usize = 256;
/// Bytes of one component.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;
/// Characters of a plugin's name.
const NAME_BYTES_MAX: usize = 64;

/// The files of one version, as they were read.
#[derive(Debug, Clone)]
pub struct Source {
    /// The plugin's name.
    pub name: String,
    /// The component.
    pub component: Arc<[u8]>,
    /// The text of its signature, where there is one beside it.
    pub signature: Option<String>,
    /// The text of its manifest.
    pub manifest_text: String,
    /// What it says.
    pub manifest: PluginManifest,
    /// SHA-256 of component, manifest and settings: another one is another version.
    pub digest: String,
}

/// A plugin that serves, with what the manifest of its live version says.
#[derive(Debug, Clone)]
pub struct LoadedPlugin {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// The manifest.
    pub manifest: PluginManifest,
    /// What it can be asked.
    pub roles: Vec<Role>,
}

impl LoadedPlugin {
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

impl Source {
    /// The number of the key that it was signed with, where `keys` want one.
    ///
    /// # Errors
    /// [`SignatureError`] where they do and none of them signed it.
    pub(crate) fn signed_by(&self, keys: &TrustedKeys) -> Result<Option<String>, SignatureError> {
        if keys.is_empty() {
            return Ok(None);
        }
        keys.verify(&self.component, self.signature.as_deref()).map(Some)
    }
}

/// What a version can be asked.
pub(crate) fn roles(version: &Version) -> Vec<Role> {
    Role::ALL.into_iter().filter(|role| version.is(*role)).collect()
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
    /// It is not signed as the configuration wants it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Its component cannot be used.
    #[error(transparent)]
    Component(#[from] LoadError),
    /// Compiling it failed in an unexpected way.
    #[error("compiling was interrupted: {0}")]
    Interrupted(String),
    /// There are too many.
    #[error("there are more than {PLUGINS_MAX} plugins")]
    TooMany,
    /// A version that was taken back is not tried again by itself.
    #[error(
        "this version was rolled back; replace it, or say `portreeve plugin rollback {name} --to {digest}` to have it again",
        digest = short(.digest)
    )]
    Barred {
        /// The plugin.
        name: String,
        /// The version.
        digest: String,
    },
    /// Configuration and plugins would not fit together.
    #[error("{0}")]
    DoesNotFit(String),
}

/// As much of a digest as people read and write.
#[must_use]
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// What a plugin directory holds.
#[derive(Debug, Default)]
pub struct PluginDirectory {
    /// Plugins by name.
    pub plugins: BTreeMap<String, LoadedPlugin>,
    /// Files that cannot be used.
    pub problems: Vec<PluginProblem>,
}

/// The name of the plugin in a file.
#[must_use]
pub fn plugin_name(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a plugin may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// The components of a directory, in the order of their names.
pub(crate) fn components(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
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
    Ok(paths)
}

/// Reads the files of a plugin.
///
/// # Errors
/// [`WhyNot`].
pub fn read_source(path: &Path) -> Result<Source, WhyNot> {
    let name = plugin_name(path);
    if !is_name(&name) {
        return Err(WhyNot::Name);
    }
    let manifest_path = path.with_extension("toml");
    let manifest_text = PluginManifest::read_text(&manifest_path)?;
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(WhyNot::NotAFile);
    }
    if metadata.len() > COMPONENT_BYTES_MAX {
        return Err(WhyNot::TooLarge(metadata.len()));
    }
    let signature = read_signature(path)?;
    let found = source(&manifest_path, name, std::fs::read(path)?.into(), manifest_text)?;
    Ok(Source { signature, ..found })
}

/// The signature beside a component, if there is one.
pub(crate) fn read_signature(component: &Path) -> std::io::Result<Option<String>> {
    match read_plain(&signature_path(component)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A version of these parts; files that the manifest names stand beside `manifest_path`.
pub(crate) fn source(
    manifest_path: &Path,
    name: String,
    component: Arc<[u8]>,
    manifest_text: String,
) -> Result<Source, WhyNot> {
    let manifest = PluginManifest::parse(manifest_path, &manifest_text, &name)?;
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(bytes.len().to_le_bytes());
        hasher.update(bytes);
    };
    part(&component);
    part(manifest_text.as_bytes());
    // Secrets stand elsewhere: another one is another version, too.
    for (key, value) in &manifest.plugin.settings {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    if let Some(http) = &manifest.plugin.capabilities.http {
        part(&http.extra_ca);
        part(&http.client_identity);
    }
    let digest = hex::encode(hasher.finalize());
    Ok(Source { name, component, signature: None, manifest_text, manifest, digest })
}

/// Compiles and starts a version; `state` is that of the versions before it. Compiling takes
/// seconds for large components, in threads that stand back.
///
/// # Errors
/// [`WhyNot`].
pub async fn start_version(
    engine: &Engine,
    source: &Source,
    cache: Option<&CodeCache>,
    state: Option<Arc<StateSpace>>,
) -> Result<Arc<Version>, WhyNot> {
    let (compiler, cache, component) =
        (engine.clone(), cache.cloned(), Arc::clone(&source.component));
    let manifest = source.manifest.plugin.clone();
    let given = manifest.capabilities.clone();
    let compiled = tokio::task::spawn_blocking(move || {
        load_component(&compiler, &component, &given, cache.as_ref())
    });
    let loaded = compiled.await.map_err(|error| WhyNot::Interrupted(error.to_string()))??;
    let state = state.unwrap_or_else(|| Arc::new(StateSpace::new(&manifest.limits)));
    let Source { name, digest, .. } = source;
    Ok(Version::start_with(engine, name, digest, loaded, manifest, state).await?)
}

/// Loads every plugin of `directory`, each at the version that the directory holds.
///
/// # Errors
/// When the directory itself cannot be read. What is wrong with single plugins stands in the
/// result.
pub async fn load_directory(
    engine: &Engine,
    directory: &Path,
    cache: Option<&CodeCache>,
    keys: &TrustedKeys,
    observer: &Observer,
) -> std::io::Result<PluginDirectory> {
    let mut found = PluginDirectory::default();
    for (index, path) in components(directory)?.into_iter().enumerate() {
        let name = plugin_name(&path);
        let loaded = match index < PLUGINS_MAX {
            true => load_signed(engine, &path, cache, keys).await,
            false => Err(WhyNot::TooMany),
        };
        match loaded {
            Ok((version, manifest)) => {
                let roles = roles(&version);
                let plugin = Plugin::new(version, observer.clone());
                drop(found.plugins.insert(name, LoadedPlugin { plugin, manifest, roles }));
            }
            Err(why) => found.problems.push(PluginProblem { path, name, why }),
        }
    }
    Ok(found)
}

async fn load_signed(
    engine: &Engine,
    path: &Path,
    cache: Option<&CodeCache>,
    keys: &TrustedKeys,
) -> Result<(Arc<Version>, PluginManifest), WhyNot> {
    let source = read_source(path)?;
    source.signed_by(keys)?;
    let version = start_version(engine, &source, cache, None).await?;
    Ok((version, source.manifest))
}

/// Loads the plugin of one file with the manifest beside it, signed or not.
///
/// # Errors
/// [`WhyNot`].
pub async fn load_plugin(
    engine: &Engine,
    path: &Path,
    cache: Option<&CodeCache>,
) -> Result<(Arc<Version>, PluginManifest), WhyNot> {
    let source = read_source(path)?;
    let version = start_version(engine, &source, cache, None).await?;
    Ok((version, source.manifest))
}
