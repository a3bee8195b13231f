//! What went wrong, counted, with the first few in words.

use std::sync::{Mutex, PoisonError};

/// So many are kept in words.
const KEPT: usize = 5;

/// Failures of many tasks.
#[derive(Debug, Default)]
pub struct Failures {
    inner: Mutex<(usize, Vec<String>)>,
}

impl Failures {
    /// One more.
    pub fn add(&self, what: String) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 += 1;
        if inner.1.len() < KEPT {
            inner.1.push(what);
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The first ones in words.
    #[must_use]
    pub fn first(&self) -> Vec<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}
