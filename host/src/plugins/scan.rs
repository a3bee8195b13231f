//! Looks at the plugin directory and tells what changed, once it is whole: a file that is written
//! in place counts when it has been still for a moment, one that was moved into place at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{components, plugin_name};
use crate::signature::signature_path;

/// How long a file that was written in place has to be still.
pub(crate) const STILL: Duration = Duration::from_millis(300);

/// How long a component has to be away until its plugin is gone: files are removed and copied again
/// in two steps, and a network file system may list nothing for a moment.
pub(crate) const GONE_AFTER: Duration = Duration::from_secs(1);

/// A file as the system describes it; symbolic links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// `None` where there is no such file.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Component, manifest, signature, and files that the manifest names.
type Stamps = Vec<Option<Stamp>>;

#[derive(Debug)]
struct Seen {
    stamps: Stamps,
    since: Instant,
    /// Whether it was told that it changed.
    is_told: bool,
    /// Since when it is not there.
    away_since: Option<Instant>,
}

/// How far what is seen is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Somebody may be writing: what changed has to be still, and what is away has to stay so.
    Waits,
    /// What changed was moved into place.
    Whole,
    /// An operator says that it is as it is to be, or there is nobody yet who could be harmed.
    AsItIs,
}

/// What is different now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Components that are new or whose files changed.
    pub(crate) changed: BTreeMap<String, PathBuf>,
    /// Plugins whose component is gone.
    pub(crate) gone: BTreeSet<String>,
    /// When to look again, since something is being written.
    pub(crate) again_after: Option<Duration>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }

    fn look_after(&mut self, time: Duration) {
        self.again_after = Some(self.again_after.map_or(time, |other| other.min(time)));
    }
}

/// Remembers what a directory looked like.
#[derive(Debug)]
pub(crate) struct Scanner {
    directory: PathBuf,
    seen: BTreeMap<String, Seen>,
    /// Further files of a plugin.
    files: BTreeMap<String, Vec<PathBuf>>,
}

impl Scanner {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, seen: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// The files of a plugin beside component and manifest.
    pub(crate) fn watch_files(&mut self, name: &str, files: Vec<PathBuf>) {
        self.files.insert(name.to_owned(), files);
    }

    /// These plugins count as changed at the next look.
    pub(crate) fn look_again(&mut self, names: &[String]) {
        for name in names {
            if let Some(seen) = self.seen.get_mut(name) {
                seen.is_told = false;
            }
        }
    }

    /// Looks.
    ///
    /// # Errors
    /// When the directory cannot be read; nothing is taken for gone then.
    pub(crate) fn look(&mut self, now: Instant, trust: Trust) -> io::Result<Changes> {
        let mut changes = Changes::default();
        let mut there = BTreeSet::new();
        for path in components(&self.directory)? {
            let name = plugin_name(&path);
            let stamps = self.stamps(&name, &path);
            // A link whose target is being replaced.
            if stamps.first().is_none_or(Option::is_none) {
                changes.look_after(STILL);
                there.insert(name);
                continue;
            }
            there.insert(name.clone());
            let seen = self.seen.entry(name.clone()).or_insert_with(|| Seen {
                stamps: Vec::new(),
                since: now,
                is_told: true,
                away_since: None,
            });
            seen.away_since = None;
            if seen.stamps != stamps {
                *seen = Seen { stamps, since: now, is_told: false, away_since: None };
            }
            if seen.is_told {
                continue;
            }
            let left = STILL.saturating_sub(now.saturating_duration_since(seen.since));
            if trust != Trust::Waits || left.is_zero() {
                seen.is_told = true;
                changes.changed.insert(name, path);
            } else {
                changes.look_after(left);
            }
        }
        for (name, seen) in self.seen.iter_mut().filter(|(name, _)| !there.contains(*name)) {
            let since = *seen.away_since.get_or_insert(now);
            let left = GONE_AFTER.saturating_sub(now.saturating_duration_since(since));
            if trust == Trust::AsItIs || left.is_zero() {
                changes.gone.insert(name.clone());
            } else {
                changes.look_after(left);
            }
        }
        self.seen.retain(|name, _| !changes.gone.contains(name));
        self.files.retain(|name, _| !changes.gone.contains(name));
        Ok(changes)
    }

    fn stamps(&self, name: &str, path: &Path) -> Stamps {
        let files = self.files.get(name).into_iter().flatten();
        let own = [path.to_owned(), path.with_extension("toml"), signature_path(path)];
        own.iter().chain(files).map(|file| stamp(file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Directory {
        folder: tempfile::TempDir,
        scanner: Scanner,
        now: Instant,
    }

    impl Directory {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let scanner = Scanner::new(folder.path().to_owned());
            Self { folder, scanner, now: Instant::now() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        /// Looks after `ms` and gives the names.
        fn after(&mut self, ms: u64, is_whole: bool) -> (Vec<String>, Vec<String>) {
            self.now += Duration::from_millis(ms);
            let trust = if is_whole { Trust::Whole } else { Trust::Waits };
            let changes = self.scanner.look(self.now, trust).unwrap();
            (changes.changed.into_keys().collect(), changes.gone.into_iter().collect())
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_file_counts_when_it_is_still_or_was_moved() {
        let mut directory = Directory::new();
        directory.write("a.wasm", "one");
        assert_eq!(directory.after(0, false), (vec![], vec![]));
        directory.write("a.wasm", "one and more");
        assert_eq!(directory.after(200, false), (vec![], vec![]));
        assert_eq!(directory.after(200, false), (vec![], vec![]), "it changed 200 ms ago");
        assert_eq!(directory.after(100, false), (names(&["a"]), vec![]));
        assert_eq!(directory.after(1000, false), (vec![], vec![]));
        directory.write("b.partial", "two");
        fs::rename(directory.path("b.partial"), directory.path("b.wasm")).unwrap();
        assert_eq!(directory.after(0, true), (names(&["b"]), vec![]));
    }

    #[test]
    fn editors_files_and_other_names_are_no_plugins() {
        let mut directory = Directory::new();
        for name in [".a.wasm", ".a.wasm.swp", "a.wasm~", "4913", "a.toml", "#a.wasm#"] {
            directory.write(name, "x");
        }
        assert_eq!(directory.after(1000, true), (vec![], vec![]));
    }

    #[test]
    fn a_manifest_and_the_files_that_it_names_are_of_the_plugin() {
        let mut directory = Directory::new();
        directory.write("a.wasm", "x");
        directory.write("secret", "s");
        assert_eq!(directory.after(0, true).0, names(&["a"]));
        directory.write("a.toml", "# new");
        assert_eq!(directory.after(0, true).0, names(&["a"]));
        let secret = directory.path("secret");
        directory.scanner.watch_files("a", vec![secret]);
        assert_eq!(directory.after(0, true).0, names(&["a"]), "the file is one more");
        directory.write("secret", "other");
        assert_eq!(directory.after(0, true).0, names(&["a"]));
        fs::remove_file(directory.path("a.toml")).unwrap();
        assert_eq!(directory.after(0, true).0, names(&["a"]));
    }

    #[test]
    fn what_was_removed_or_renamed_is_gone() {
        let mut directory = Directory::new();
        directory.write("a.wasm", "x");
        directory.after(0, true);
        fs::rename(directory.path("a.wasm"), directory.path("b.wasm")).unwrap();
        assert_eq!(directory.after(0, true), (names(&["b"]), vec![]));
        assert_eq!(directory.after(999, true), (vec![], vec![]));
        assert_eq!(directory.after(1, true), (vec![], names(&["a"])));
        fs::remove_file(directory.path("b.wasm")).unwrap();
        let asked = directory.scanner.look(directory.now, Trust::AsItIs).unwrap();
        assert_eq!(asked.gone.into_iter().collect::<Vec<_>>(), names(&["b"]));
    }

    #[test]
    fn what_comes_back_within_a_second_was_not_gone() {
        let mut directory = Directory::new();
        directory.write("a.wasm", "x");
        directory.after(0, true);
        fs::remove_file(directory.path("a.wasm")).unwrap();
        for _ in 0..2 {
            assert_eq!(directory.after(900, true), (vec![], vec![]));
            directory.write("a.wasm", "y");
            assert_eq!(directory.after(0, true), (names(&["a"]), vec![]));
            fs::remove_file(directory.path("a.wasm")).unwrap();
            let changes = directory.scanner.look(directory.now, Trust::Whole).unwrap();
            assert_eq!(changes.again_after, Some(GONE_AFTER));
        }
    }

    #[test]
    fn what_was_refused_can_be_looked_at_again() {
        let mut directory = Directory::new();
        directory.write("a.wasm", "x");
        directory.after(0, true);
        directory.scanner.look_again(&names(&["a", "b"]));
        assert_eq!(directory.after(1000, false), (names(&["a"]), vec![]));
    }

    #[test]
    fn a_link_to_another_folder_is_another_file_and_a_broken_one_is_not_gone() {
        let mut directory = Directory::new();
        for version in ["..v1", "..v2"] {
            fs::create_dir(directory.path(version)).unwrap();
            directory.write(&format!("{version}/a.wasm"), version);
        }
        symlink("..v1", directory.path("..data")).unwrap();
        symlink("..data/a.wasm", directory.path("a.wasm")).unwrap();
        assert_eq!(directory.after(0, true).0, names(&["a"]));
        fs::remove_file(directory.path("..data")).unwrap();
        assert_eq!(directory.after(0, true), (vec![], vec![]));
        symlink("..v2", directory.path("..data")).unwrap();
        assert_eq!(directory.after(0, true), (names(&["a"]), vec![]));
    }
}
