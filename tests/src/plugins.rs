//! Puts plugins into a directory as people and tools do.

use std::path::Path;

use crate::guests;

/// The component of a guest with a custom section of its own: other bytes, the same behaviour.
#[must_use]
pub fn variant(guest: &str, number: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(guests::component(guest)).expect("the guest was built");
    let name = b"variant";
    let length = u8::try_from(1 + name.len() + 4).expect("a short section");
    bytes.extend([0, length, u8::try_from(name.len()).expect("a short name")]);
    bytes.extend(name);
    bytes.extend(number.to_le_bytes());
    bytes
}

/// Moves a file into place.
pub fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let partial = folder.join(format!(".{name}.partial"));
    std::fs::write(&partial, bytes).expect("the file is written");
    std::fs::rename(&partial, folder.join(name)).expect("the file is moved");
}

/// A manifest for the guest `versioned`.
#[must_use]
pub fn manifest(version: &str, more: &str) -> String {
    format!("{more}\n[settings]\nversion = {version:?}\n")
}
