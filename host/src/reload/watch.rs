//! Is told by the system when something happens in a directory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Events that were not looked at yet; what is beyond them is noticed with the next look.
const EVENTS_MAX: usize = 64;

pub(crate) struct Watcher {
    /// Kept: watching ends with it.
    _system: Option<RecommendedWatcher>,
    events: mpsc::Receiver<Told>,
    /// Files that were begun and not ended yet, with the time at which that was told.
    begun: HashMap<PathBuf, Instant>,
}

/// That something happened to files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// They were moved into place or written to their end, or are gone.
    Whole(Vec<PathBuf>),
    /// They are being written.
    Begun(Vec<PathBuf>),
}

/// Files that are being written at a time, as far as they are told apart.
const BEGUN_MAX: usize = 1_000;
/// A file whose end is not told, such as a link, counts as ended then.
const BEGUN_TIME: Duration = Duration::from_secs(5);

impl Watcher {
    /// One that is never told.
    pub(crate) fn none() -> Self {
        Self { _system: None, events: mpsc::channel(1).1, begun: HashMap::new() }
    }

    /// Watches directories. One that cannot be watched is looked at now and then all the same.
    pub(crate) fn start(directories: Vec<PathBuf>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let tell = move |event: notify::Result<Event>| {
            let told = event.map_or_else(|_| Some(Told::Begun(Vec::new())), told);
            // A full queue has enough to be told.
            told.map(|told| sender.try_send(told).ok());
        };
        let system = notify::recommended_watcher(tell).and_then(|mut system| {
            for directory in &directories {
                system.watch(directory, RecursiveMode::NonRecursive)?;
            }
            Ok(system)
        });
        match system {
            Ok(system) => Self { _system: Some(system), events, begun: HashMap::new() },
            Err(error) => {
                tracing::warn!(%error, "changes of files are not told: they are looked for");
                Self::none()
            }
        }
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
        let mut next = Some(first);
        while let Some(told) = next {
            match told {
                Told::Whole(paths) => paths.iter().for_each(|path| {
                    self.begun.remove(path);
                }),
                Told::Begun(paths) if self.begun.len() < BEGUN_MAX => {
                    self.begun.extend(paths.into_iter().map(|path| (path, Instant::now())));
                }
                Told::Begun(_) => {}
            }
            next = self.events.try_recv().ok();
        }
        !self.is_being_written()
    }
}

/// What an event means; `None` for one that changes nothing.
fn told(event: Event) -> Option<Told> {
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
