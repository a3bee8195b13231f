//! What can be saved of a damaged store: a copy whose journals end in front of the damage.

use std::fs;
use std::path::Path;

use crate::contents::{Contents, Tally};
use crate::database::Database;
use crate::error::OpenError;
use crate::journal::{self, End};

/// Folders within folders that a store has.
const DEPTH_MAX: usize = 8;

/// What a copy holds, and what it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    /// What the copy holds.
    pub tally: Tally,
    /// Bytes of journals that could not be used.
    pub lost_bytes: u64,
}

/// Copies the store in `from` to the new directory `to`, cuts its journals where they are damaged
/// and reads the copy through. `from` is not changed.
///
/// # Errors
/// [`OpenError`] when `to` exists, or when the copy cannot be read even so.
pub fn salvage(from: &Path, to: &Path) -> Result<Salvaged, OpenError> {
    let io = |path: &Path, error| OpenError::Io { path: path.to_owned(), error };
    if to.exists() {
        let error = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(io(to, error));
    }
    copy(from, to, DEPTH_MAX).map_err(|error| io(from, error))?;
    let mut lost_bytes = 0;
    let mut is_cut = false;
    for path in journal::paths(to).map_err(|error| io(to, error))? {
        let bytes = fs::read(&path).map_err(|error| io(&path, error))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if is_cut {
            // Later commits may build on what was lost.
            lost_bytes += length;
            journal::cut(&path, 0).map_err(|error| io(&path, error))?;
        } else if let End::Damaged(at) | End::Torn(at) = journal::end(&bytes) {
            is_cut = true;
            lost_bytes += length.saturating_sub(u64::try_from(at).unwrap_or(u64::MAX));
            journal::cut(&path, at).map_err(|error| io(&path, error))?;
        }
    }
    let database = Database::open(to)?;
    let contents = Contents::new(to, &database)?;
    let (tally, _orphans) = contents.visit(|_| Ok(()), |_| {})?;
    Ok(Salvaged { tally, lost_bytes })
}

fn copy(from: &Path, to: &Path, depth_left: usize) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            fs::copy(entry.path(), target)?;
        } else if depth_left > 0 {
            copy(&entry.path(), &target, depth_left - 1)?;
        }
    }
    Ok(())
}
