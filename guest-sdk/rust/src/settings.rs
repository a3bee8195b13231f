//! The settings of the plugin's manifest.

use std::str::FromStr;

use crate::Error;

/// The value of one setting.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    host::get(key)
}

/// The value of a setting that the plugin cannot do without.
///
/// # Errors
/// Names the setting when the manifest does not have it.
pub fn require(key: &str) -> Result<String, Error> {
    get(key).ok_or_else(|| Error::new(format!("the manifest's [settings] has no `{key}`")))
}

/// A setting as a value, or `default` when the manifest does not have it.
///
/// # Errors
/// Names the setting when it cannot be read.
pub fn parse_or<T: FromStr>(key: &str, default: T) -> Result<T, Error> {
    let Some(text) = get(key) else { return Ok(default) };
    text.parse().map_err(|_| Error::new(format!("the setting `{key}` is {text:?}")))
}

/// Every setting, in the order of the keys.
#[must_use]
pub fn all() -> Vec<(String, String)> {
    host::all()
}

#[cfg(not(target_family = "wasm"))]
use crate::native::settings as host;
#[cfg(target_family = "wasm")]
use crate::wasm::host::settings as host;
