//! What goes wrong with the store, and what an operator can do about it.

use std::path::PathBuf;

/// Why a change was not stored. The caller promises nothing to its peer then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStored {
    /// The disk does not take it; the store tries again by itself.
    #[error("the store cannot write at present")]
    Failing,
    /// More than the bound waits to be written.
    #[error("too much waits to be stored")]
    Busy,
    /// The gateway ends.
    #[error("the store is closed")]
    Closed,
}

/// Why a store cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store {} is used by another process; end that one first, or name another data directory", .0.display())]
    InUse(PathBuf),
    /// The directory holds something else.
    #[error("{} is no store of Portreeve ({why}); name another data directory, or move it away", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was looked for.
        why: String,
    },
    /// A later version of Portreeve wrote it.
    #[error("the store {} has format {found}, this version of Portreeve reads up to {known}; use the version that wrote it", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format that was found.
        found: u32,
        /// The latest one that this version knows.
        known: u32,
    },
    /// Something that was written is not there as it was written.
    #[error("the store {} is damaged: {what}; nothing was changed. Restore a backup, or see what can be saved: portreeve store salvage {} NEW_DIRECTORY", path.display(), path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Where, and what is wrong there.
        what: String,
    },
    /// The system refuses.
    #[error("the store {} cannot be used: {error}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

impl OpenError {
    /// What the database says, for the directory `path`.
    pub(crate) fn of_database(path: &std::path::Path, error: fjall::Error) -> Self {
        let path = path.to_owned();
        match error {
            fjall::Error::Locked => Self::InUse(path),
            fjall::Error::Io(error) => Self::Io { path, error },
            fjall::Error::InvalidVersion(version) => Self::Foreign {
                path,
                why: format!("its files have the database format {version:?}"),
            },
            other => Self::Damaged { path, what: other.to_string() },
        }
    }
}
