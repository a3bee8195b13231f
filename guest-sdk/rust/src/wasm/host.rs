//! Host functions as this crate offers them.

use super::verifier::bindings::portreeve::plugin as imports;

pub(crate) mod log {
    use super::imports::log;
    use crate::log::Level;

    const fn level_of(level: Level) -> log::Level {
        match level {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        }
    }

    pub(crate) fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
        let fields: Vec<(String, String)> =
            fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        log::log(level_of(level), message, &fields);
    }

    pub(crate) fn enabled(level: Level) -> bool {
        log::enabled(level_of(level))
    }
}

pub(crate) mod settings {
    pub(crate) use super::imports::settings::{all, get};
}

pub(crate) mod state {
    use super::imports::state;
    pub(crate) use super::imports::state::{get, remove};
    use crate::Error;

    fn error(error: state::Error) -> Error {
        Error::new(match error {
            state::Error::KeyTooLong(bytes) => {
                format!("state: the key is longer than {bytes} bytes")
            }
            state::Error::ValueTooLong(bytes) => {
                format!("state: the value is longer than {bytes} bytes")
            }
            state::Error::Full(bytes) => format!("state: the entries would exceed {bytes} bytes"),
            state::Error::NotACounter => "state: the entry is no counter".to_owned(),
        })
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl: Option<u32>) -> Result<(), Error> {
        state::set(key, value, ttl).map_err(error)
    }

    pub(crate) fn increment(key: &str, by: i64, ttl: Option<u32>) -> Result<i64, Error> {
        state::increment(key, by, ttl).map_err(error)
    }
}
