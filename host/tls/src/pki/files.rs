//! Files of the authority: new ones are never written over others, changed ones are moved into
//! place, and one command at a time works in the directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::PkiError;

/// Characters of a name.
const NAME_CHARS_MAX: usize = 64;
/// The file that is locked; it stays.
const LOCK: &str = "lock";
/// How often and how long another command is waited for: ten seconds in all.
const LOCK_ATTEMPTS: u32 = 200;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// Held as long as a command works in the directory.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, PkiError> {
        let path = directory.join(LOCK);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(PkiError::file(&path))?;
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
                Err(TryLockError::Error(error)) => return Err(PkiError::file(&path)(error)),
            }
        }
        Err(PkiError::Busy(directory.display().to_string()))
    }
}

/// A file to write.
#[derive(Debug)]
pub(super) struct NewFile {
    name: String,
    content: Zeroizing<String>,
    mode: u32,
}

impl NewFile {
    /// One that everybody may read.
    pub(super) fn open(name: &str, content: String) -> Self {
        Self { name: name.to_owned(), content: Zeroizing::new(content), mode: 0o644 }
    }

    /// One that only the owner may read.
    pub(super) fn secret(name: &str, content: Zeroizing<String>) -> Self {
        Self { name: name.to_owned(), content, mode: 0o600 }
    }
}

/// Refuses names that exist.
pub(super) fn check_absent(
    directory: &Path,
    names: &[String],
    next: &'static str,
) -> Result<(), PkiError> {
    let found = names.iter().map(|name| directory.join(name)).find(|path| path.exists());
    found.map_or(Ok(()), |path| Err(PkiError::Present(path.display().to_string(), next)))
}

/// Writes all of these files, or none of them.
pub(super) fn write_all_new(
    directory: &Path,
    new: &[NewFile],
    next: &'static str,
) -> Result<(), PkiError> {
    let names: Vec<String> = new.iter().map(|file| file.name.clone()).collect();
    check_absent(directory, &names, next)?;
    let mut written: Vec<PathBuf> = Vec::new();
    for file in new {
        let path = directory.join(&file.name);
        if let Err(error) = write_new(&path, file.content.as_bytes(), file.mode) {
            if error.kind() != ErrorKind::AlreadyExists {
                written.push(path.clone());
            }
            for path in written {
                // What stays says so itself at the next attempt.
                let _is_gone = fs::remove_file(path);
            }
            return Err(match error.kind() {
                ErrorKind::AlreadyExists => PkiError::Present(path.display().to_string(), next),
                _ => PkiError::file(&path)(error),
            });
        }
        written.push(path);
    }
    Ok(())
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Puts a file in the place of an older one: whoever reads sees either, and never a part.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), PkiError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o644).open(&partial);
    let written = opened.and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&partial, path)).map_err(PkiError::file(path))
}

/// A name becomes the name of files, and a common name (RFC 5280 §A.1: 64 characters).
pub(super) fn check_name(name: &str) -> Result<(), PkiError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with(['-', '.']);
    if is_name { Ok(()) } else { Err(PkiError::Name(name.to_owned())) }
}
