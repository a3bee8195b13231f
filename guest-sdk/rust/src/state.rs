//! A small key-value space of the plugin's own, shared by its instances. It ends with the
//! gateway.

use crate::Error;

/// The entry of a key.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::get(key)
}

/// Stores an entry, for `ttl` seconds or until it is removed.
///
/// # Errors
/// When key or value are too long or the space is full; it is then as it was.
pub fn set(key: &str, value: &[u8], ttl: Option<u32>) -> Result<(), Error> {
    host::set(key, value, ttl)
}

/// Removes an entry.
pub fn remove(key: &str) {
    host::remove(key);
}

/// Adds to a counter and returns its new value; an absent one is 0.
///
/// # Errors
/// When the entry is no counter or the space is full.
pub fn increment(key: &str, by: i64, ttl: Option<u32>) -> Result<i64, Error> {
    host::increment(key, by, ttl)
}

#[cfg(not(target_family = "wasm"))]
use crate::native::state as host;
#[cfg(target_family = "wasm")]
use crate::wasm::host::state as host;
