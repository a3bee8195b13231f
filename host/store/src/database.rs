//! The database of one directory: made whole or not at all, opened only when nothing of it is
//! missing, and written to in commits that are numbered.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fjall::{Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::changes::Item;
use crate::durability::Durability;
use crate::error::OpenError;
use crate::journal;
use crate::key::Space;
use crate::record::{DeviceRecord, OldDeviceRecord, StoredDevice, encode};

/// What this version writes. Format 2 keeps devices in a part of their own, with credentials; stores
/// of format 1 are brought to it when they are opened.
const FORMAT: u32 = 2;
const FORMAT_KEY: &[u8] = b"format";
/// The number of the last commit.
const COMMIT_KEY: &[u8] = b"commit";

/// Bytes of blocks that are kept for reading: everything is read once, at the start.
const CACHE_BYTES: u64 = 8 << 20;
/// Files that the database keeps open; descriptors belong to connections.
const OPEN_FILES_MAX: usize = 64;
/// Bytes of a part of the database before they go from memory into a file of their own.
const MEMTABLE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of journals before older ones are worked off.
const JOURNALS_BYTES_MAX: u64 = 128 << 20;

/// An open database.
pub(crate) struct Database {
    database: fjall::Database,
    spaces: Vec<Keyspace>,
    commit_number: u64,
}

impl Database {
    /// Opens the store in `path`, or makes it.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self, OpenError> {
        let is_new = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(OpenError::Io { path: path.to_owned(), error }),
        };
        if is_new {
            create(path)?;
        }
        Self::open(path)
    }

    /// Opens the store in `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        check_files(path)?;
        journal::check(path)?;
        let database = open_guarded(path)?;
        Self::with_spaces(path, database)
    }

    fn with_spaces(path: &Path, database: fjall::Database) -> Result<Self, OpenError> {
        let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
        let of_database = |error| OpenError::of_database(path, error);
        let keyspace = |space: Space| {
            database.keyspace(space.name(), KeyspaceCreateOptions::default).map_err(of_database)
        };
        if !database.keyspace_exists(Space::Meta.name()) {
            return Err(damaged(format!("its part {:?} is missing", Space::Meta.name())));
        }
        let format = keyspace(Space::Meta)?.get(FORMAT_KEY).map_err(of_database)?;
        let format = format.and_then(|bytes| bytes.as_ref().try_into().ok());
        let Some(format) = format.map(u32::from_be_bytes) else {
            return Err(damaged("its format number is missing".to_owned()));
        };
        if format > FORMAT {
            return Err(OpenError::Newer { path: path.to_owned(), found: format, known: FORMAT });
        }
        let mut spaces = Vec::new();
        for space in Space::ALL {
            let is_added = format < FORMAT && Space::SINCE_FORMAT_2.contains(&space);
            if !is_added && !database.keyspace_exists(space.name()) {
                return Err(damaged(format!("its part {:?} is missing", space.name())));
            }
            spaces.push(keyspace(space)?);
        }
        let mut opened = Self { database, spaces, commit_number: 0 };
        let commit = opened.space(Space::Meta).map(|meta| meta.get(COMMIT_KEY)).transpose();
        let commit = commit.map_err(of_database)?.flatten();
        let commit = commit.and_then(|bytes| bytes.as_ref().try_into().ok());
        opened.commit_number = commit.map_or(0, u64::from_be_bytes);
        if format < FORMAT {
            opened.upgrade(path)?;
        }
        Ok(opened)
    }

    /// Writes what format 1 has as format 2 has it: all of it or nothing.
    fn upgrade(&self, path: &Path) -> Result<(), OpenError> {
        let of_database = |error| OpenError::of_database(path, error);
        let (Some(old), Some(new), Some(meta)) =
            (self.space(Space::OldDevices), self.space(Space::Devices), self.space(Space::Meta))
        else {
            return Ok(());
        };
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for guard in old.iter() {
            let (key, value) = guard.into_inner().map_err(of_database)?;
            let record: OldDeviceRecord = postcard::from_bytes(&value).map_err(|error| {
                let what = format!("a device of format 1 cannot be read: {error}");
                OpenError::Damaged { path: path.to_owned(), what }
            })?;
            batch.insert(new, key.clone(), encode(&StoredDevice::V1(DeviceRecord::from(record))));
            batch.remove(old, key);
        }
        batch.insert(meta, FORMAT_KEY, FORMAT.to_be_bytes().as_slice());
        batch.commit().map_err(of_database)
    }

    pub(crate) fn space(&self, space: Space) -> Option<&Keyspace> {
        self.spaces.get(space as usize)
    }

    /// The number of the last commit.
    pub(crate) const fn commit_number(&self) -> u64 {
        self.commit_number
    }

    /// Writes all items or none. After an error the database takes nothing more; whether the
    /// commit is in it, shows its number when it is opened again.
    pub(crate) fn commit<'a>(
        &mut self,
        items: impl Iterator<Item = &'a Item>,
        durability: Durability,
    ) -> Result<(), fjall::Error> {
        let mode = match durability {
            Durability::Process => PersistMode::Buffer,
            Durability::Power => PersistMode::SyncData,
        };
        let mut batch = self.database.batch().durability(Some(mode));
        for Item { space, key, value } in items {
            let Some(keyspace) = self.spaces.get(*space as usize) else { continue };
            match value {
                Some(value) => batch.insert(keyspace, key.clone(), value.clone()),
                None => batch.remove(keyspace, key.clone()),
            }
        }
        let number = self.commit_number + 1;
        if let Some(meta) = self.space(Space::Meta) {
            batch.insert(meta, COMMIT_KEY, number.to_be_bytes().as_slice());
        }
        batch.commit()?;
        self.commit_number = number;
        Ok(())
    }

    /// Everything that was committed is on the disk when this returns.
    pub(crate) fn persist(&self) -> Result<(), fjall::Error> {
        self.database.persist(PersistMode::SyncAll)
    }
}

fn open_database(path: &Path) -> Result<fjall::Database, fjall::Error> {
    fjall::Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_cached_files(Some(OPEN_FILES_MAX))
        .max_journaling_size(JOURNALS_BYTES_MAX)
        .worker_threads(1)
        .open()
}

/// The database's own checks are partly assertions: in a thread, one that fails is an error.
fn open_guarded(path: &Path) -> Result<fjall::Database, OpenError> {
    let owned = path.to_owned();
    let opened = std::thread::Builder::new()
        .name("store-opens".to_owned())
        .spawn(move || open_database(&owned))
        .map_err(|error| OpenError::Io { path: path.to_owned(), error })?
        .join();
    match opened {
        Ok(opened) => opened.map_err(|error| OpenError::of_database(path, error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let what = format!("its parts contradict one another ({})", text.unwrap_or("?"));
            Err(OpenError::Damaged { path: path.to_owned(), what })
        }
    }
}

/// Makes a store beside `path` and renames it when it is whole: one that was half made is never
/// taken for a store.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let new = beside(path, "new");
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    let of_database = |error| OpenError::of_database(path, error);
    let database = open_database(&new).map_err(of_database)?;
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    for space in Space::ALL {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX);
        let keyspace = database.keyspace(space.name(), options).map_err(of_database)?;
        if space == Space::Meta {
            batch.insert(&keyspace, FORMAT_KEY, FORMAT.to_be_bytes().as_slice());
        }
    }
    batch.commit().map_err(of_database)?;
    drop(database);
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    fs::rename(&new, path).map_err(io)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    Ok(())
}

/// A path with `suffix` behind its last name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// What the database would take for new, and make again empty, if it were missing.
fn check_files(path: &Path) -> Result<(), OpenError> {
    let foreign = |why: &str| OpenError::Foreign { path: path.to_owned(), why: why.to_owned() };
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let tables = path.join("keyspaces");
    if !path.join("version").is_file() {
        return Err(if tables.is_dir() {
            damaged("its file \"version\" is missing".to_owned())
        } else {
            foreign("it has no file \"version\"")
        });
    }
    let lock = File::options().read(true).write(true).open(path.join("lock")).map_err(io)?;
    match lock.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
        Err(fs::TryLockError::Error(error)) => return Err(io(error)),
        Ok(()) => {}
    }
    if journal::paths(path).map_err(io)?.is_empty() {
        return Err(damaged("its journal (a file N.jnl) is missing".to_owned()));
    }
    let Ok(entries) = fs::read_dir(&tables) else {
        return Err(damaged("its folder \"keyspaces\" is missing".to_owned()));
    };
    for entry in entries {
        let entry = entry.map_err(io)?.path();
        if entry.is_dir() && !entry.join("current").is_file() {
            return Err(damaged(format!("{} has no file \"current\"", entry.display())));
        }
    }
    Ok(())
}
