//! The gateway's place in native unit tests: settings and state of the current thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::http::{HttpError, Request, Response};

/// What answers requests.
pub(crate) type Service = Box<dyn FnMut(Request) -> Result<Response, HttpError>>;

thread_local! {
    pub(crate) static SETTINGS: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
    pub(crate) static SERVICE: RefCell<Option<Service>> = const { RefCell::new(None) };
    pub(crate) static STATE: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

pub(crate) mod http {
    use super::SERVICE;
    use crate::http::{HttpError, Request, Response};

    pub(crate) fn send(request: Request) -> Result<Response, HttpError> {
        SERVICE.with_borrow_mut(|service| match service {
            Some(service) => service(request),
            // As in a gateway whose manifest grants nothing.
            None => Err(HttpError::Denied),
        })
    }
}

pub(crate) mod log {
    use crate::log::Level;

    #[expect(clippy::print_stderr, reason = "the log of a native test")]
    pub(crate) fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
        let fields: String =
            fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        eprintln!("{level:?}: {message}{fields}");
    }

    pub(crate) fn enabled(_level: Level) -> bool {
        true
    }
}

pub(crate) mod settings {
    use super::SETTINGS;

    pub(crate) fn get(key: &str) -> Option<String> {
        SETTINGS.with_borrow(|settings| settings.get(key).cloned())
    }

    pub(crate) fn all() -> Vec<(String, String)> {
        SETTINGS.with_borrow(|settings| settings.clone().into_iter().collect())
    }
}

/// Without expiry: a unit test does not wait.
pub(crate) mod state {
    use super::STATE;
    use crate::Error;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        STATE.with_borrow(|state| state.get(key).cloned())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the gateway's state has limits")]
    pub(crate) fn set(key: &str, value: &[u8], _ttl: Option<u32>) -> Result<(), Error> {
        STATE.with_borrow_mut(|state| drop(state.insert(key.to_owned(), value.to_vec())));
        Ok(())
    }

    pub(crate) fn remove(key: &str) {
        STATE.with_borrow_mut(|state| drop(state.remove(key)));
    }

    pub(crate) fn increment(key: &str, by: i64, ttl: Option<u32>) -> Result<i64, Error> {
        let current = match get(key) {
            None => 0,
            Some(bytes) => i64::from_le_bytes(
                bytes.try_into().map_err(|_| Error::new("the entry is no counter"))?,
            ),
        };
        let sum = current.saturating_add(by);
        set(key, &sum.to_le_bytes(), ttl)?;
        Ok(sum)
    }
}
