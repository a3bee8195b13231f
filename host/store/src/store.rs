//! The handle of the store: hands changes to its thread and tells when they are stored.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::changes::{BodyId, Changes};
use crate::contents::Contents;
use crate::database::Database;
use crate::durability::{Durability, StoreCounts};
use crate::error::{NotStored, OpenError};
use crate::writer::{Shared, Writer};

/// The store. Its thread ends with [`Store::close`].
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    next_body: AtomicU64,
}

/// Changes on their way to the disk.
#[derive(Debug)]
pub struct Submission {
    order: u64,
    outcome: oneshot::Receiver<Result<(), NotStored>>,
}

impl Submission {
    /// Submissions are stored in the order of these numbers.
    #[must_use]
    pub const fn order(&self) -> u64 {
        self.order
    }

    /// Waits until the changes are stored.
    ///
    /// # Errors
    /// [`NotStored`]; then nothing of what was new is stored.
    pub async fn stored(self) -> Result<(), NotStored> {
        self.outcome.await.unwrap_or(Err(NotStored::Closed))
    }
}

impl Store {
    /// Opens the store in `path`, or makes one there, and starts its thread. What it holds can be
    /// read from the [`Contents`].
    ///
    /// # Errors
    /// [`OpenError`]; then nothing in `path` was changed.
    pub fn open(path: &Path, durability: Durability) -> Result<(Self, Contents), OpenError> {
        let database = Database::open_or_create(path)?;
        let contents = Contents::new(path, &database)?;
        let shared = Arc::new(Shared::default());
        let known = contents.last_numbers();
        let writer = Writer::new(path, database, durability, known, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
        let next_body = AtomicU64::new(contents.next_body());
        Ok((Self { shared, thread: Mutex::new(Some(thread)), next_body }, contents))
    }

    /// Hands changes over to be stored together. The result has to be waited for before anything
    /// is promised.
    ///
    /// # Errors
    /// [`NotStored`] when they are refused at once.
    pub fn submit(&self, changes: Changes) -> Result<Submission, NotStored> {
        let (done, outcome) = oneshot::channel();
        let order = self.shared.submit(changes, Some(done))?;
        Ok(Submission { order, outcome })
    }

    /// Hands over what is true already and needs no answer; it is tried again until it is stored.
    /// Returns its place in the order of submissions; a store that is closed takes no notes.
    pub fn note(&self, mut changes: Changes) -> u64 {
        if changes.is_empty() {
            return 0;
        }
        let new = std::mem::take(&mut changes.new);
        changes.over.splice(0..0, new);
        self.shared.submit(changes, None).unwrap_or_default()
    }

    /// A number for a body that several entries share.
    pub fn next_body(&self) -> BodyId {
        BodyId(self.next_body.fetch_add(1, Ordering::Relaxed))
    }

    /// Nobody needs a shared body any more.
    pub fn forget_body(&self, id: BodyId) {
        self.shared.forget_body(id);
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        self.shared.counts()
    }

    /// Takes nothing more, without waiting for what is under way: what is dropped from now on was
    /// not ended.
    pub fn stop(&self) {
        self.shared.close();
    }

    /// Stores what waits, and ends. Blocks until then.
    pub fn close(&self) {
        self.stop();
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}
