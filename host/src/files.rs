//! Files that others read while they are changed: each is seen whole, as it was or as it is to be.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Of a file that was not there, and that nobody said a mode for.
const MODE: u32 = 0o644;
/// Who may do what with a file.
const MODE_MASK: u32 = 0o7777;

/// Puts back what a file held before: its bytes, or nothing where it was not there.
///
/// # Errors
/// When it cannot be written or taken away.
pub(crate) fn put_back(path: &Path, before: Option<&[u8]>) -> io::Result<()> {
    match before {
        Some(bytes) => replace(path, None, bytes),
        None => remove(path),
    }
}

/// Puts these bytes in the place of a file: they are written beside it, synced, and moved there, so
/// that a crash leaves the one or the other. With `mode` `None` the file keeps its mode; its owner and
/// group are kept as far as this user may. A link stays, and what it leads to is replaced.
///
/// # Errors
/// When it cannot be written; then the file is what it was.
pub(crate) fn replace(path: &Path, mode: Option<u32>, bytes: &[u8]) -> io::Result<()> {
    let target = match std::fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let before = match std::fs::metadata(&target) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let kept = before.as_ref().map(|metadata| metadata.mode() & MODE_MASK);
    let mode = mode.or(kept).unwrap_or(MODE);
    let partial = beside(&target);
    let write = || {
        // Nobody else reads it before it has the owner, the group and the mode that it is to have.
        let options = File::options().write(true).create_new(true).mode(0o600).open(&partial);
        let mut file = options?;
        if let Some(before) = &before {
            // Another owner than its own only root can give; then the file is this user's.
            let _is_kept = fchown(&file, Some(before.uid()), Some(before.gid()));
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, &target)
    };
    // One that stands there is of a process that ended in between.
    let _is_gone = std::fs::remove_file(&partial);
    let written = write();
    if written.is_err() {
        let _is_gone = std::fs::remove_file(&partial);
    }
    written?;
    sync_folder(&target)
}

/// Takes a file away, as it was before it was there.
///
/// # Errors
/// When it stays.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A name that nobody takes for a configuration, a plugin or a certificate.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{name}.partial"))
}

/// The new name is on the disk, too.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_file_keeps_its_mode_and_its_link_unless_another_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.toml"), folder.path().join("link.toml"));
        replace(&file, None, b"one").unwrap();
        assert_eq!(mode(&file), MODE);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("a.toml", &link).unwrap();
        replace(&link, None, b"two").unwrap();
        assert_eq!((fs::read(&file).unwrap(), mode(&file)), (b"two".to_vec(), 0o640));
        assert!(link.symlink_metadata().unwrap().is_symlink());
        replace(&file, Some(0o600), b"three").unwrap();
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn what_a_process_left_behind_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".a.toml.partial"), "half").unwrap();
        replace(&folder.path().join("a.toml"), None, b"whole").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("none/a.toml"), None, b"x").is_err());
        remove(&folder.path().join("a.toml")).unwrap();
        remove(&folder.path().join("a.toml")).unwrap();
    }
}
