//! Is told by the system when something happens in a directory.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Events that were not looked at yet; what is beyond them is noticed with the next look.
const EVENTS_MAX: usize = 64;

pub(crate) struct Watcher {
    /// Kept: watching ends with it.
    _system: Option<RecommendedWatcher>,
    events: mpsc::Receiver<Told>,
    told: Arc<Shared>,
    /// Files that were begun and not ended yet, with the time at which that was told.
    begun: HashMap<PathBuf, Instant>,
}

/// What those who tell and those who are told share.
#[derive(Debug, Default)]
struct Shared {
    /// Something happened that found no room, or that the system lost.
    is_lost: AtomicBool,
    /// Files that matter beside components and manifests.
    files: Mutex<HashSet<PathBuf>>,
}

/// That something happened to files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// They were moved into place or written to their end, or are gone.
    Whole(Vec<PathBuf>),
    /// They are being written.
    Begun(Vec<PathBuf>),
    /// What happened was lost: anything may be being written.
    Lost,
}

/// Files that are being written at a time, as far as they are told apart.
const BEGUN_MAX: usize = 1_000;
/// A file whose end is not told, such as a link, counts as ended then.
const BEGUN_TIME: Duration = Duration::from_secs(5);

impl Watcher {
    /// One that is never told.
    pub(crate) fn none() -> Self {
        let (events, told) = (mpsc::channel(1).1, Arc::default());
        Self { _system: None, events, told, begun: HashMap::new() }
    }

    /// Watches directories. One that cannot be watched is looked at now and then all the same.
    pub(crate) fn start(directories: &[PathBuf]) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let shared: Arc<Shared> = Arc::default();
        let telling = Arc::clone(&shared);
        let tell = move |event: notify::Result<Event>| {
            let told = match event {
                Ok(event) if event.need_rescan() => Some(Told::Lost),
                Ok(event) => told(event, |path| concerns(path, &telling.files.lock())),
                Err(_) => Some(Told::Lost),
            };
            // A full queue has enough to be told, and not what.
            if told.is_some_and(|told| sender.try_send(told).is_err()) {
                telling.is_lost.store(true, Ordering::Release);
            }
        };
        let warn = |error: &notify::Error, what: &str| {
            tracing::warn!(%error, what, "changes of files are not told: they are looked for");
        };
        let mut system = match notify::recommended_watcher(tell) {
            Ok(system) => system,
            Err(error) => {
                warn(&error, "every directory");
                return Self::none();
            }
        };
        for directory in directories {
            if let Err(error) = system.watch(directory, RecursiveMode::NonRecursive) {
                warn(&error, &directory.display().to_string());
            }
        }
        Self { _system: Some(system), events, told: shared, begun: HashMap::new() }
    }

    /// Which files matter beside components and manifests.
    pub(crate) fn watch_files(&self, files: impl Iterator<Item = PathBuf>) {
        *self.told.files.lock() = files.collect();
    }

    /// Waits until something happens; for ever where nothing is told.
    pub(crate) async fn told(&mut self) -> Told {
        match self.events.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }

    /// Whether a file was begun and not ended yet.
    pub(crate) fn is_being_written(&mut self) -> bool {
        self.begun.retain(|_, since| since.elapsed() < BEGUN_TIME);
        !self.begun.is_empty()
    }

    /// Takes what was told, and what was told meanwhile. Says whether all there is is whole: no file
    /// is being written.
    pub(crate) fn take(&mut self, first: Told) -> bool {
        let mut is_lost = self.told.is_lost.swap(false, Ordering::AcqRel);
        let mut next = Some(first);
        while let Some(told) = next {
            match told {
                Told::Whole(paths) => paths.iter().for_each(|path| {
                    self.begun.remove(path);
                }),
                Told::Begun(paths) if self.begun.len() < BEGUN_MAX => {
                    self.begun.extend(paths.into_iter().map(|path| (path, Instant::now())));
                }
                Told::Begun(_) | Told::Lost => is_lost = true,
            }
            next = self.events.try_recv().ok();
        }
        !is_lost && !self.is_being_written()
    }
}

/// Whether a file is a component, a manifest, or one of those `files`; or what mounts of Kubernetes
/// swap, which begins with two dots. Everything else in a directory is nobody's.
fn concerns(path: &Path, files: &HashSet<PathBuf>) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let ends = ["wasm", "toml", "minisig"];
    let is_named = || path.extension().is_some_and(|end| ends.iter().any(|named| end == *named));
    files.contains(path) || name.starts_with(b"..") || !name.starts_with(b".") && is_named()
}

/// What an event means; `None` for one that changes nothing that `concerns` us.
fn told(mut event: Event, concerns: impl Fn(&Path) -> bool) -> Option<Told> {
    event.paths.retain(|path| concerns(path));
    if event.paths.is_empty() {
        return None;
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => Some(Told::Whole(event.paths)),
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => None,
        // A link or a folder is there at once, and its end is never told; what is gone again is
        // nobody's.
        EventKind::Create(_) if !event.paths.iter().any(|path| is_plain_file(path)) => {
            Some(Told::Whole(event.paths))
        }
        _ => Some(Told::Begun(event.paths)),
    }
}

fn is_plain_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_are_no_plugins_concern_nobody() {
        let files = HashSet::from([PathBuf::from("d/secret"), PathBuf::from("d/.env")]);
        for name in
            ["a.wasm", "a.wasm.minisig", "a.toml", "secret", ".env", "..data", "..2026_01_01"]
        {
            assert!(concerns(&Path::new("d").join(name), &files), "{name}");
        }
        for name in ["admin.sock", ".a.wasm.partial", ".a.wasm", "a.log", "4913", "other/secret"] {
            assert!(!concerns(&Path::new("d").join(name), &files), "{name}");
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_does_not_blind_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let directories = [folder.path().join("none"), folder.path().to_owned()];
        let mut watcher = Watcher::start(&directories);
        fs::write(folder.path().join("other.log"), "x").unwrap();
        fs::write(folder.path().join(".a.partial"), "x").unwrap();
        fs::rename(folder.path().join(".a.partial"), folder.path().join("a.wasm")).unwrap();
        let told = tokio::time::timeout(Duration::from_secs(5), watcher.told()).await.unwrap();
        assert_eq!(told, Told::Whole(vec![folder.path().join("a.wasm")]));
        assert!(watcher.take(told));
    }

    #[tokio::test]
    async fn what_was_lost_is_not_whole() {
        let mut watcher = Watcher::none();
        assert!(watcher.take(Told::Whole(Vec::new())));
        assert!(!watcher.take(Told::Lost));
        watcher.told.is_lost.store(true, Ordering::Release);
        assert!(!watcher.take(Told::Whole(Vec::new())));
        assert!(watcher.take(Told::Whole(Vec::new())));
    }
}
