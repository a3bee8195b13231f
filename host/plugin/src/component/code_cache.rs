//! Compiled code on disk, by the digest of the component and the fingerprint of the engine.
//!
//! Compiled code is native code: whoever can write an entry can run anything as the gateway.
//! So the directory is the gateway's own (mode 0700), an entry is used only if it is a plain
//! file of the gateway's user that nobody else can write and if its digest is the recorded one,
//! and everything else is compiled again.

use std::fs;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::engine::Engine;

/// A directory of compiled components that only the gateway writes.
#[derive(Debug, Clone)]
pub struct CodeCache {
    directory: PathBuf,
}

const OTHERS_MAY_WRITE: u32 = 0o022;
/// Components whose code is kept: some for each plugin that a directory may hold.
const ENTRIES_MAX: usize = 300;
/// Bytes of it; a component in Python has about 35 MB.
const BYTES_MAX: u64 = 4 << 30;

impl CodeCache {
    /// Opens or creates the directory.
    ///
    /// # Errors
    /// Where it cannot be created, belongs to another user, or others may write to it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let metadata = fs::symlink_metadata(directory)?;
        if !metadata.is_dir() || !is_ours(&metadata)? {
            let text = format!(
                "{} must be a directory of the gateway's user that nobody else can write to",
                directory.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// The component from its entry, or compiled and stored.
    pub(crate) fn compile(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let code = self.directory.join(format!("{}.cwasm", key(engine, bytes)));
        let recorded = code.with_extension("sha256");
        if let Some(component) = load(engine, &code, &recorded) {
            // The last use counts when room is made; an older time only takes it away earlier.
            let _noted =
                fs::File::open(&code).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(component);
        }
        let component = super::compile(engine, bytes)?;
        let serialized = component.serialize()?;
        let digest = hex::encode(Sha256::digest(&serialized));
        let stored = write(&code, &serialized).and_then(|()| write(&recorded, digest.as_bytes()));
        if let Err(error) = stored.and_then(|()| self.make_room(&code)) {
            tracing::warn!(path = %code.display(), %error, "compiled code was not stored");
        }
        Ok(component)
    }

    /// Removes what was used least lately, beyond so many entries and bytes. `newest` stays.
    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "cwasm") && path != newest {
                // One that another process removed meanwhile is gone.
                let Ok(metadata) = fs::metadata(&path) else { continue };
                entries.push((metadata.modified()?, metadata.len(), path));
            }
        }
        entries.sort_by(|one, other| other.cmp(one));
        let mut bytes = 0_u64;
        for (index, (_, length, path)) in entries.into_iter().enumerate() {
            bytes = bytes.saturating_add(length);
            if index + 1 >= ENTRIES_MAX || bytes > BYTES_MAX {
                fs::remove_file(&path)?;
                // Without its code it means nothing.
                let _is_gone = fs::remove_file(path.with_extension("sha256"));
            }
        }
        Ok(())
    }
}

fn key(engine: &Engine, bytes: &[u8]) -> String {
    let mut fingerprint = DefaultHasher::new();
    engine.wasmtime.precompile_compatibility_hash().hash(&mut fingerprint);
    format!("{}-{:016x}", hex::encode(Sha256::digest(bytes)), fingerprint.finish())
}

/// Whether a file belongs to the user of this process and nobody else may write to it.
fn is_ours(metadata: &fs::Metadata) -> io::Result<bool> {
    let user = fs::metadata("/proc/self")?.uid();
    Ok(metadata.uid() == user && metadata.mode() & OTHERS_MAY_WRITE == 0)
}

/// An entry is written whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Of this writer alone, also where the directory is shared by processes with equal numbers.
    let random = RandomState::new().hash_one(path);
    let partial = path.with_extension(format!("{random:016x}.partial"));
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[expect(unsafe_code, reason = "loading compiled code cannot be checked by the compiler")]
fn load(engine: &Engine, code: &Path, recorded: &Path) -> Option<Component> {
    let metadata = fs::symlink_metadata(code).ok()?;
    if !metadata.is_file() || !is_ours(&metadata).ok()? {
        return None;
    }
    let digest = hex::encode(Sha256::digest(fs::read(code).ok()?));
    if fs::read_to_string(recorded).ok()? != digest {
        tracing::warn!(path = %code.display(), "compiled code is not what was stored, compiling again");
        return None;
    }
    // SAFETY: the bytes are those that `Component::serialize` of this process's user wrote: the
    // directory and the file belong to that user, nobody else may write to them, and the digest
    // that was recorded beside the entry matches. wasmtime checks its own version and settings.
    // JUSTIFICATION: compiling a component takes 0.1 to 20 seconds, loading it less than 1 ms.
    unsafe { Component::deserialize_file(&engine.wasmtime, code) }.ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{CodeCache, key};
    use crate::Engine;

    const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn an_entry_that_was_changed_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::new().unwrap();
        let cache = CodeCache::open(&directory.path().join("code")).unwrap();
        cache.compile(&engine, EMPTY_COMPONENT).unwrap();
        let code = cache.directory.join(format!("{}.cwasm", key(&engine, EMPTY_COMPONENT)));
        let recorded = code.with_extension("sha256");
        assert!(super::load(&engine, &code, &recorded).is_some());

        std::fs::set_permissions(&code, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(super::load(&engine, &code, &recorded).is_none(), "others may write to it");
        std::fs::set_permissions(&code, std::fs::Permissions::from_mode(0o600)).unwrap();

        let mut bytes = std::fs::read(&code).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&code, &bytes).unwrap();
        assert!(super::load(&engine, &code, &recorded).is_none(), "its digest is another");
        cache.compile(&engine, EMPTY_COMPONENT).unwrap();
        assert!(super::load(&engine, &code, &recorded).is_some(), "compiled again and stored");
    }

    #[test]
    fn what_was_used_least_lately_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&directory.path().join("code")).unwrap();
        let path = |number: usize| cache.directory.join(format!("{number}.cwasm"));
        let old = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
        for number in 0..super::ENTRIES_MAX + 5 {
            let file = std::fs::File::create(path(number)).unwrap();
            file.set_modified(old + std::time::Duration::from_secs(number as u64)).unwrap();
            std::fs::write(path(number).with_extension("sha256"), "").unwrap();
        }
        let newest = path(0);
        cache.make_room(&newest).unwrap();
        let left = std::fs::read_dir(&cache.directory).unwrap().count();
        assert_eq!(left, 2 * super::ENTRIES_MAX, "each with its digest");
        assert!(path(0).exists() && !path(1).exists() && path(super::ENTRIES_MAX).exists());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("code");
        CodeCache::open(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(CodeCache::open(&path).is_err());
    }
}
