//! Lines in the gateway's log, under the plugin's name. In native tests they go to standard
//! error.

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Writes a line with fields.
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    host::log(level, message, fields);
}

/// Whether a line of this level would be written.
#[must_use]
pub fn enabled(level: Level) -> bool {
    host::enabled(level)
}

/// Writes a line for whoever debugs the plugin.
pub fn debug(message: &str) {
    log(Level::Debug, message, &[]);
}

/// Writes a line that an operator may want to read.
pub fn info(message: &str) {
    log(Level::Info, message, &[]);
}

/// Writes a line that an operator should read.
pub fn warn(message: &str) {
    log(Level::Warn, message, &[]);
}

/// Writes a line that an operator must act upon.
pub fn error(message: &str) {
    log(Level::Error, message, &[]);
}

#[cfg(not(target_family = "wasm"))]
use crate::native::log as host;
#[cfg(target_family = "wasm")]
use crate::wasm::host::log as host;
