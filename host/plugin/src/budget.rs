//! Bytes that may wait in a queue: messages differ in size by a million, so that counting them bounds
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes, shared by those who put something into a queue.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
}

/// Bytes that were taken; they are given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    left: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    /// This many.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// Takes some, if there are as many.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Held> {
        let less = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(Held { left: Arc::clone(&self.left), bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let budget = Budget::of(10);
        let six = budget.take(6);
        assert!(six.is_some() && budget.take(5).is_none());
        let four = budget.take(4);
        assert!(four.is_some() && budget.take(1).is_none());
        drop(six);
        assert!(budget.take(6).is_some());
    }
}
