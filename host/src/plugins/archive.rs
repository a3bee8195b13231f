//! What the gateway remembers of versions: their history, the files of the last ones for a
//! roll-back, and which ones were rolled back.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Source, WhyNot, read_signature, short, source};
use crate::signature::signature_path;

/// Versions of a plugin that were live, whose files are kept.
const KEPT_VERSIONS: usize = 5;
/// Versions that were rolled back and are not tried again by themselves.
const BARRED_VERSIONS_MAX: usize = 100;
/// Those among them whose files are kept all the same.
const KEPT_BARRED: usize = 2;
/// Events in memory.
const EVENTS_MAX: usize = 1_000;
/// Bytes of the history; then it goes on in a new file, and the last one is kept.
const HISTORY_BYTES_MAX: u64 = 4 << 20;

/// Something that happened to a version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When, by RFC 3339.
    pub(crate) at: String,
    /// The plugin.
    pub(crate) plugin: String,
    /// The version; empty for files that could not be read.
    pub(crate) version: String,
    /// Who or what caused it.
    pub(crate) by: String,
    /// What came of it.
    pub(crate) result: Happened,
    /// Why, where there is something to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

/// What happened to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Happened {
    /// It answers.
    Live,
    /// It is asked beside the live version.
    Shadow,
    /// It answers some devices.
    Canary,
    /// It answers all of them, after it was tried.
    Promoted,
    /// It was taken back.
    RolledBack,
    /// It was not let in; what was there goes on.
    Refused,
    /// The plugin is no more.
    Removed,
}

/// What is remembered of one plugin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The live version, and those that were live before it, latest first.
    pub(crate) live: Vec<String>,
    /// Versions that were rolled back.
    pub(crate) barred: Vec<String>,
}

/// The memory, on disk where there is a data directory.
#[derive(Debug)]
pub(crate) struct Archive {
    directory: Option<PathBuf>,
    plugins: Mutex<BTreeMap<String, Remembered>>,
    events: Mutex<VecDeque<Event>>,
}

impl Archive {
    /// Opens the archive in `directory`, or one in memory.
    pub(crate) fn open(directory: Option<PathBuf>) -> io::Result<Self> {
        let mut plugins = BTreeMap::new();
        let mut events = VecDeque::new();
        if let Some(directory) = &directory {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                if let Some(remembered) = read_json(&path.join(STATE)) {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    plugins.insert(name.trim_end_matches('~').to_owned(), remembered);
                }
            }
            let history = fs::read(directory.join(HISTORY)).unwrap_or_default();
            let history = String::from_utf8_lossy(&history);
            let lines = history.lines().filter_map(|line| serde_json::from_str(line).ok());
            events.extend(lines);
            events.drain(..events.len().saturating_sub(EVENTS_MAX));
        }
        Ok(Self { directory, plugins: Mutex::new(plugins), events: Mutex::new(events) })
    }

    /// What is remembered of a plugin.
    pub(crate) fn of(&self, name: &str) -> Remembered {
        self.plugins.lock().get(name).cloned().unwrap_or_default()
    }

    /// The events, oldest first.
    pub(crate) fn events(&self, name: Option<&str>) -> Vec<Event> {
        let events = self.events.lock();
        let is_of = |event: &&Event| name.is_none_or(|name| event.plugin == name);
        events.iter().filter(is_of).cloned().collect()
    }

    /// Keeps the files of a version.
    pub(crate) fn keep(&self, source: &Source) {
        let Some(folder) = self.folder(&source.name) else { return };
        let component = folder.join(format!("{}.wasm", source.digest));
        let kept =
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).and_then(|()| {
                // The same component may be signed anew.
                if let Some(signature) = &source.signature {
                    write(&signature_path(&component), signature.as_bytes())?;
                }
                if component.exists() {
                    return Ok(());
                }
                // The manifest first: a component is there with its manifest or not at all.
                write(&component.with_extension("toml"), source.manifest_text.as_bytes())?;
                write(&component, &source.component)
            });
        if let Err(error) = kept {
            let plugin = source.name.as_str();
            tracing::warn!(plugin, %error, "the version was not kept: no roll-back to it");
        }
    }

    /// The files of a version that was kept; what its manifest names stands beside
    /// `manifest_path`.
    pub(crate) fn kept(&self, manifest_path: &Path, name: &str, digest: &str) -> Option<Source> {
        let component = self.folder(name)?.join(format!("{digest}.wasm"));
        let text = fs::read_to_string(component.with_extension("toml")).ok()?;
        let bytes = fs::read(&component).ok()?;
        let found: Result<Source, WhyNot> =
            source(manifest_path, name.to_owned(), bytes.into(), text);
        // A secret that has changed since makes it another version, of the same files.
        let signature = read_signature(&component).ok()?;
        found.ok().map(|found| Source { digest: digest.to_owned(), signature, ..found })
    }

    /// `digest` is live now, and no longer barred.
    pub(crate) fn set_live(&self, name: &str, digest: &str) {
        self.change(name, |remembered| {
            remembered.live.retain(|other| other != digest);
            remembered.live.insert(0, digest.to_owned());
            remembered.live.truncate(KEPT_VERSIONS);
            remembered.barred.retain(|other| other != digest);
        });
    }

    /// `digest` is not tried again by itself, and no roll-back goes to it.
    pub(crate) fn bar(&self, name: &str, digest: &str) {
        self.change(name, |remembered| {
            remembered.live.retain(|other| other != digest);
            remembered.barred.retain(|other| other != digest);
            remembered.barred.insert(0, digest.to_owned());
            remembered.barred.truncate(BARRED_VERSIONS_MAX);
        });
    }

    /// Writes an event down.
    pub(crate) fn record(
        &self,
        plugin: &str,
        version: &str,
        by: &str,
        result: Happened,
        reason: &str,
    ) {
        let event = Event {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            plugin: plugin.to_owned(),
            version: version.to_owned(),
            by: by.to_owned(),
            result,
            reason: reason.to_owned(),
        };
        let version = short(version);
        match result {
            Happened::Refused | Happened::RolledBack => {
                tracing::warn!(plugin, version, by, reason, "plugin version {}", result.name());
            }
            _ => tracing::info!(plugin, version, by, reason, "plugin version {}", result.name()),
        }
        if let Some(directory) = &self.directory
            && let Err(error) = append(&directory.join(HISTORY), &event, HISTORY_BYTES_MAX)
        {
            tracing::warn!(%error, "the history of plugins cannot be written");
        }
        let mut events = self.events.lock();
        if events.len() >= EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Remembered)) {
        let mut plugins = self.plugins.lock();
        let remembered = plugins.entry(name.to_owned()).or_default();
        change(remembered);
        if let Some(folder) = self.folder(name) {
            let written = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .and_then(|()| serde_json::to_vec_pretty(remembered).map_err(io::Error::other))
                .and_then(|json| write(&folder.join(STATE), &json));
            if let Err(error) = written {
                tracing::warn!(plugin = name, %error, "what is live cannot be written down");
            }
        }
    }

    /// Removes files of versions that nothing goes back to, and that are not among those `in_use`.
    pub(crate) fn prune(&self, name: &str, in_use: &[&str]) {
        let Some(folder) = self.folder(name) else { return };
        let Remembered { live, barred } = self.of(name);
        let keep: Vec<&str> = live
            .iter()
            .chain(barred.iter().take(KEPT_BARRED))
            .map(String::as_str)
            .chain(in_use.iter().copied())
            .collect();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (digest, end) = name.split_once('.').unwrap_or((&name, ""));
            let is_version = ["wasm", "toml", "wasm.minisig"].contains(&end);
            // A write that was cut off.
            let is_partial = end == "partial" || end.ends_with(".partial");
            if is_partial || is_version && !keep.contains(&digest) {
                // Removed the next time otherwise.
                let _is_gone = fs::remove_file(&path);
            }
        }
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| folder_of(directory, name))
    }
}

impl Happened {
    /// In words.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Shadow => "in shadow",
            Self::Canary => "in canary",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled back",
            Self::Refused => "refused",
            Self::Removed => "removed",
        }
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

fn append(path: &Path, event: &Event, bytes_max: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > bytes_max) {
        fs::rename(path, path.with_extension("1.jsonl"))?;
    }
    append_line(path, &serde_json::to_string(event).map_err(io::Error::other)?)
}

/// Adds a line to a file, whatever its last line looks like: a process may have ended in the middle
/// of it.
pub(crate) fn append_line(path: &Path, line: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).append(true).read(true).mode(0o600).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let begin = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{begin}{line}\n").as_bytes())
}

/// The folder of a plugin. What a plugin may be named is not always free: the history stands beside
/// the folders, and no plugin's name ends in a tilde.
pub(crate) fn folder_of(directory: &Path, name: &str) -> PathBuf {
    let is_taken = name.starts_with("history.");
    directory.join(if is_taken { format!("{name}~") } else { name.to_owned() })
}

const STATE: &str = "state.json";
const HISTORY: &str = "history.jsonl";

#[cfg(test)]
mod tests {
    use super::*;

    fn version(folder: &Path, component: &[u8], manifest: &str) -> Source {
        source(&folder.join("a.toml"), "a".to_owned(), component.into(), manifest.to_owned())
            .unwrap()
    }

    #[test]
    fn another_component_manifest_or_secret_is_another_version() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "one").unwrap();
        let manifest = "[settings]\nkey = { file = \"secret\" }\n";
        let first = version(folder.path(), b"1", manifest);
        assert_eq!(first.digest, version(folder.path(), b"1", manifest).digest);
        assert_ne!(first.digest, version(folder.path(), b"2", manifest).digest);
        assert_ne!(first.digest, version(folder.path(), b"1", "").digest);
        fs::write(&secret, "two").unwrap();
        assert_ne!(first.digest, version(folder.path(), b"1", manifest).digest);
        assert_eq!(first.manifest.files, [secret]);
    }

    #[test]
    fn the_last_versions_are_kept_and_the_memory_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins");
        let archive = Archive::open(Some(path.clone())).unwrap();
        let versions: Vec<Source> =
            (0..8_u8).map(|n| version(folder.path(), &[n], "canary = \"5%\"")).collect();
        for version in &versions {
            archive.keep(version);
            archive.set_live("a", &version.digest);
            archive.record("a", &version.digest, "test", Happened::Live, "");
        }
        archive.prune("a", &[]);
        archive.bar("a", &versions[7].digest);
        drop(archive);
        let archive = Archive::open(Some(path)).unwrap();
        let remembered = archive.of("a");
        assert_eq!(remembered.live.len(), KEPT_VERSIONS - 1);
        assert_eq!(remembered.barred, [versions[7].digest.clone()]);
        assert_eq!(archive.events(Some("a")).len(), 8);
        let manifest = folder.path().join("a.toml");
        let kept = archive.kept(&manifest, "a", &remembered.live[0]).unwrap();
        assert_eq!(&*kept.component, &[6]);
        assert!(kept.manifest.plugin.rollout.canary.is_some());
        assert!(archive.kept(&manifest, "a", &versions[0].digest).is_none(), "too long ago");
    }

    #[test]
    fn a_history_that_ends_in_the_middle_of_a_line_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins");
        let record = || {
            let archive = Archive::open(Some(path.clone())).unwrap();
            archive.record("a", "1", "test", Happened::Live, "");
        };
        record();
        let history = path.join(HISTORY);
        let mut text = fs::read(&history).unwrap();
        // A process ended here, or power was lost.
        text.extend(b"{\"at\":\"2026\xff");
        fs::write(&history, text).unwrap();
        record();
        record();
        assert_eq!(Archive::open(Some(path)).unwrap().events(Some("a")).len(), 3);
    }

    #[test]
    fn a_plugin_may_be_named_like_the_history() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins");
        for name in ["history", "history.jsonl", "history.1.jsonl"] {
            let archive = Archive::open(Some(path.clone())).unwrap();
            archive.set_live(name, "1");
            archive.record(name, "1", "test", Happened::Live, "");
            drop(archive);
            let archive = Archive::open(Some(path.clone())).unwrap();
            assert_eq!(archive.of(name).live, ["1"], "{name}");
            assert_eq!(archive.events(Some(name)).len(), 1, "{name}");
        }
    }

    #[test]
    fn files_of_versions_that_were_refused_or_rolled_back_do_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins");
        let archive = Archive::open(Some(path.clone())).unwrap();
        for n in 0..20_u8 {
            let version = version(folder.path(), &[n], "");
            archive.keep(&version);
            if n % 2 == 0 {
                archive.bar("a", &version.digest);
            }
            archive.prune("a", &[&version.digest]);
        }
        let files = fs::read_dir(path.join("a")).unwrap().count();
        // Component and manifest of two that are barred and of the one in use; state.json.
        assert_eq!(files, 2 * (KEPT_BARRED + 1) + 1);
    }
}
