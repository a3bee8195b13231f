//! The thread that writes: takes what was handed over meanwhile and commits it as one group. When
//! the disk fails it refuses what is new at once, remembers what is over, and looks again later.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fjall::Slice;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::changes::{BodyId, Changes, Item, LastNumbers};
use crate::database::{Database, beside};
use crate::durability::{Durability, StoreCounts};
use crate::error::NotStored;
use crate::key::{self, Space};

/// Bytes that may wait to be written; beyond it what is new is refused.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// When a disk that failed is looked at again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// What has to fit on a disk before the database is opened on it again.
const PROBE_BYTES: usize = 256 << 10;

type Done = oneshot::Sender<Result<(), NotStored>>;

#[derive(Debug)]
struct Group {
    changes: Changes,
    done: Option<Done>,
}

/// What callers and the thread share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    commits: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    groups: Vec<Group>,
    bytes: usize,
    bodies_over: Vec<BodyId>,
    /// Of the last submission; the first one has 1.
    order: u64,
    is_failing: bool,
    is_closed: bool,
    thread_sleeps: bool,
}

impl Shared {
    pub(crate) fn submit(
        &self,
        mut changes: Changes,
        done: Option<Done>,
    ) -> Result<u64, NotStored> {
        // Dropped at the end, without the lock that their end may take.
        let _held = std::mem::take(&mut changes.held);
        let bytes = changes.bytes();
        let mut waiting = self.waiting.lock();
        let refusal = if waiting.is_closed {
            Some(NotStored::Closed)
        } else if done.is_none() {
            None
        } else if waiting.is_failing {
            Some(NotStored::Failing)
        } else if waiting.bytes + bytes > WAITING_BYTES_MAX {
            Some(NotStored::Busy)
        } else {
            None
        };
        waiting.order += 1;
        let order = waiting.order;
        if let Some(refusal) = refusal {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if refusal != NotStored::Closed && !changes.over.is_empty() {
                let over = Changes { over: changes.over, ..Changes::default() };
                waiting.bytes += over.bytes();
                waiting.groups.push(Group { changes: over, done: None });
                self.wake(&mut waiting);
            }
            return Err(refusal);
        }
        waiting.bytes += bytes;
        waiting.groups.push(Group { changes, done });
        self.wake(&mut waiting);
        Ok(order)
    }

    pub(crate) fn forget_body(&self, id: BodyId) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_closed {
            waiting.bodies_over.push(id);
        }
    }

    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        self.wake(&mut waiting);
    }

    fn wake(&self, waiting: &mut Waiting) {
        if std::mem::take(&mut waiting.thread_sleeps) {
            self.wake.notify_one();
        }
    }

    pub(crate) fn counts(&self) -> StoreCounts {
        let waiting = self.waiting.lock();
        StoreCounts {
            commits: self.commits.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            is_failing: waiting.is_failing,
            waiting_bytes: u64::try_from(waiting.bytes).unwrap_or(u64::MAX),
        }
    }

    /// What waits; sleeps until there is something or it is `until`.
    fn take(&self, until: Option<Instant>) -> Work {
        let mut waiting = self.waiting.lock();
        while waiting.groups.is_empty() && !waiting.is_closed {
            waiting.thread_sleeps = true;
            match until {
                None => self.wake.wait(&mut waiting),
                Some(until) => {
                    if self.wake.wait_until(&mut waiting, until).timed_out() {
                        break;
                    }
                }
            }
        }
        waiting.thread_sleeps = false;
        waiting.bytes = 0;
        Work {
            groups: std::mem::take(&mut waiting.groups),
            bodies_over: std::mem::take(&mut waiting.bodies_over),
            is_closed: waiting.is_closed,
        }
    }

    fn set_failing(&self, is_failing: bool) {
        self.waiting.lock().is_failing = is_failing;
    }
}

struct Work {
    groups: Vec<Group>,
    bodies_over: Vec<BodyId>,
    is_closed: bool,
}

/// The thread's own state.
pub(crate) struct Writer {
    path: PathBuf,
    /// `None` while it cannot be opened.
    database: Option<Database>,
    durability: Durability,
    shared: Arc<Shared>,
    /// What is over and could not be stored: the last value of each key, so it has no more
    /// entries than the store itself.
    backlog: BTreeMap<(Space, Slice), Option<Slice>>,
    failing: Option<Failing>,
    unknown: Option<Unknown>,
    known: LastNumbers,
}

struct Failing {
    retry_at: Instant,
    pause: Duration,
}

/// A commit of which it is not known whether it is on the disk.
struct Unknown {
    number: u64,
    /// What was new in it, and was refused.
    refused: Vec<Item>,
}

/// Whoever waits is told when the thread ends, however it does.
struct EndsForAll<'a>(&'a Shared);

impl Drop for EndsForAll<'_> {
    fn drop(&mut self) {
        self.0.close();
        let groups = std::mem::take(&mut self.0.waiting.lock().groups);
        // Their senders are dropped with them, which says that the store is closed.
        drop(groups);
    }
}

impl Writer {
    pub(crate) fn new(
        path: &Path,
        database: Database,
        durability: Durability,
        known: LastNumbers,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            database: Some(database),
            durability,
            shared,
            backlog: BTreeMap::new(),
            failing: None,
            unknown: None,
            known,
        }
    }

    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ends_for_all = EndsForAll(&shared);
        loop {
            let work = self.shared.take(self.failing.as_ref().map(|failing| failing.retry_at));
            let is_over = work.is_closed && work.groups.is_empty();
            self.do_work(work);
            if is_over {
                break;
            }
        }
        if let Some(database) = &self.database
            && let Err(error) = database.persist()
        {
            tracing::error!(store = %self.path.display(), %error, "the store could not be written to the disk at its end");
        }
        if !self.backlog.is_empty() {
            let changes = self.backlog.len();
            tracing::warn!(
                changes,
                "the store ends while its disk fails: acknowledgements that came meanwhile are forgotten, and their messages will be sent again"
            );
        }
    }

    fn do_work(&mut self, work: Work) {
        if let Some(failing) = &self.failing {
            let is_time = Instant::now() >= failing.retry_at || work.is_closed;
            self.refuse(work.groups, &work.bodies_over);
            if is_time {
                self.try_again();
            }
            return;
        }
        let items = work
            .groups
            .iter()
            .flat_map(|Group { changes, .. }| changes.new.iter().chain(&changes.over));
        let bodies: Vec<Item> = work.bodies_over.iter().map(|id| body_over(*id)).collect();
        if work.groups.is_empty() && bodies.is_empty() {
            return;
        }
        let items: Vec<&Item> = items.chain(&bodies).collect();
        if self.commit(&items) {
            for done in work.groups.into_iter().filter_map(|group| group.done) {
                // Whoever asked may be gone.
                let _gone = done.send(Ok(()));
            }
        } else {
            if let Some(unknown) = &mut self.unknown {
                let new = work.groups.iter().flat_map(|group| &group.changes.new);
                unknown.refused = new.filter(|item| item.value.is_some()).cloned().collect();
            }
            self.refuse(work.groups, &work.bodies_over);
        }
    }

    /// Whether the items are stored.
    fn commit(&mut self, items: &[&Item]) -> bool {
        let Some(database) = &mut self.database else { return false };
        let number = database.commit_number() + 1;
        let Err(error) = database.commit(items.iter().copied(), self.durability) else {
            items.iter().for_each(|item| self.known.note(item));
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        // The database takes nothing more; what of the commit is on the disk shows its number.
        self.database = None;
        match Database::open(&self.path) {
            Ok(mut database) => {
                // What was read may come from memory only, so it is written once more for those
                // who were promised that the power may go.
                let is_stored = database.commit_number() >= number
                    && (self.durability == Durability::Process
                        || database.commit(items.iter().copied(), self.durability).is_ok());
                if is_stored {
                    items.iter().for_each(|item| self.known.note(item));
                    self.database = Some(database);
                    return true;
                }
                if database.commit_number() >= number {
                    self.unknown = Some(Unknown { number, refused: Vec::new() });
                } else {
                    self.database = Some(database);
                }
            }
            Err(error) => {
                self.unknown = Some(Unknown { number, refused: Vec::new() });
                tracing::debug!(store = %self.path.display(), %error, "cannot be opened again");
            }
        }
        if self.failing.is_none() {
            tracing::error!(store = %self.path.display(), %error, "the store cannot write: messages that have to be kept are refused until it can");
        }
        let pause = self.failing.as_ref().map_or(RETRY_FIRST, |failing| failing.pause * 2);
        let pause = pause.min(RETRY_MAX);
        self.failing = Some(Failing { retry_at: Instant::now() + pause, pause });
        self.shared.set_failing(true);
        false
    }

    /// Tells that what is new is not stored, and keeps what is over.
    fn refuse(&mut self, groups: Vec<Group>, bodies_over: &[BodyId]) {
        for Group { changes, done } in groups {
            for item in changes.over.into_iter().filter(|item| self.known.may_have(item)) {
                self.backlog.insert((item.space, item.key), item.value);
            }
            if let Some(done) = done {
                let _gone = done.send(Err(NotStored::Failing));
            }
        }
        for item in bodies_over.iter().map(|id| body_over(*id)) {
            if self.known.may_have(&item) {
                self.backlog.insert((item.space, item.key), item.value);
            }
        }
    }

    fn try_again(&mut self) {
        if let Some(failing) = &mut self.failing {
            failing.pause = (failing.pause * 2).min(RETRY_MAX);
            failing.retry_at = Instant::now() + failing.pause;
        }
        // Opening a database reads its journals: only where there is hope.
        if let Err(error) = probe(&self.path) {
            tracing::debug!(store = %self.path.display(), %error, "the disk still does not take anything");
            return;
        }
        if self.database.is_none() {
            match Database::open(&self.path) {
                Ok(database) => self.opened_again(database),
                Err(error) => {
                    tracing::debug!(store = %self.path.display(), %error, "cannot be opened again");
                    return;
                }
            }
        }
        let backlog = std::mem::take(&mut self.backlog);
        let items: Vec<Item> = backlog
            .iter()
            .map(|((space, key), value)| Item {
                space: *space,
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        if self.commit(&items.iter().collect::<Vec<_>>()) {
            self.failing = None;
            self.shared.set_failing(false);
            tracing::info!(store = %self.path.display(), "the store writes again");
        } else {
            self.backlog = backlog;
        }
    }
}

impl Writer {
    /// A commit that was refused and is on the disk all the same is undone there.
    fn opened_again(&mut self, database: Database) {
        if let Some(Unknown { number, refused }) = self.unknown.take()
            && database.commit_number() >= number
        {
            for item in refused {
                self.known.note(&item);
                let is_undone =
                    matches!(item.space, Space::Entries | Space::Received | Space::Bodies);
                if is_undone {
                    self.backlog.entry((item.space, item.key)).or_insert(None);
                }
            }
        }
        self.database = Some(database);
    }
}

fn body_over(id: BodyId) -> Item {
    Item { space: Space::Bodies, key: key::number(id.0), value: None }
}

/// Whether the disk takes some bytes.
fn probe(path: &Path) -> std::io::Result<()> {
    let probe = beside(path, "probe");
    let written = fs::File::create(&probe).and_then(|mut file| {
        file.write_all(&vec![1; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&probe);
    written.and(removed)
}
