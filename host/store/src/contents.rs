//! Reads everything that a store holds, once, at the start: devices, then sessions with all that
//! belongs to them, then retained messages. What belongs to nothing is taken away.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use fjall::{Keyspace, Slice};
use serde::de::DeserializeOwned;

use crate::changes::{BodyId, Changes, Item, LastNumbers, SessionId};
use crate::database::Database;
use crate::durability::Progress;
use crate::error::OpenError;
use crate::key::{Space, first_number, second_number};
use crate::record::{
    Body, DeviceRecord, EntryRecord, RetainedRecord, SessionRecord, StoredDevice,
    SubscriptionRecord,
};

/// Records between two reports of progress.
const REPORT_EVERY: u64 = 10_000;

/// What a store held when it was opened.
pub struct Contents {
    path: PathBuf,
    spaces: Vec<Keyspace>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One thing that was stored.
#[derive(Debug)]
pub enum Stored<'a> {
    /// A device, and when it connected last in seconds since 1970.
    Device(DeviceRecord, Option<u64>),
    /// A session with what belongs to it.
    Session(StoredSession),
    /// A retained message.
    Retained(Body<'a>),
}

/// A session with what belongs to it.
#[derive(Debug)]
pub struct StoredSession {
    /// Its number.
    pub id: SessionId,
    /// What it is.
    pub session: SessionRecord,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// The bytes of its [`EntryRecord`]s by their numbers, in order.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// Packet identifiers of QoS 2 messages that came in and were not released.
    pub received: Vec<u16>,
}

/// How much a store held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Devices.
    pub devices: u64,
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Messages that wait or are not acknowledged.
    pub entries: u64,
    /// Packet identifiers of QoS 2 messages that came in.
    pub received: u64,
    /// Retained messages.
    pub retained: u64,
    /// Records that belonged to nothing.
    pub orphans: u64,
    /// Of them, those whose message is missing.
    pub missing: u64,
}

impl Tally {
    const fn records(&self) -> u64 {
        self.devices + self.sessions + self.subscriptions + self.entries + self.retained
    }
}

type Pair = Result<(Slice, Slice), OpenError>;

impl Contents {
    pub(crate) fn new(path: &Path, database: &Database) -> Result<Self, OpenError> {
        let spaces = Space::ALL.iter().filter_map(|space| database.space(*space).cloned());
        Ok(Self { path: path.to_owned(), spaces: spaces.collect() })
    }

    /// A number above that of every stored body.
    pub(crate) fn next_body(&self) -> u64 {
        self.last_number(Space::Bodies) + 1
    }

    /// The highest numbers of a session and of a body.
    pub(crate) fn last_numbers(&self) -> LastNumbers {
        LastNumbers {
            session: self.last_number(Space::Sessions),
            body: self.last_number(Space::Bodies),
        }
    }

    fn last_number(&self, space: Space) -> u64 {
        let last = self.spaces.get(space as usize).and_then(Keyspace::last_key_value);
        let last = last.and_then(|guard| guard.key().ok());
        last.and_then(|key| first_number(&key)).unwrap_or_default()
    }

    /// The message of a shared body; [`Self::visit`] tells of none that is not there.
    ///
    /// # Errors
    /// [`OpenError::Damaged`], also when there is no such body.
    pub fn body(&self, id: BodyId) -> Result<Vec<u8>, OpenError> {
        let missing = || self.damaged(format!("message {} of an entry is missing", id.0));
        self.find_body(id.0)?.map(|value| value.to_vec()).ok_or_else(missing)
    }

    fn find_body(&self, id: u64) -> Result<Option<Slice>, OpenError> {
        let bodies = self.spaces.get(Space::Bodies as usize);
        let value = bodies.map(|bodies| bodies.get(id.to_be_bytes())).transpose();
        let value = value.map_err(|error| OpenError::of_database(&self.path, error))?;
        Ok(value.flatten())
    }

    /// Whether a record's message is there.
    fn has_message(&self, body: &Body<'_>, walk: &mut Walk) -> Result<bool, OpenError> {
        let Body::Shared(id) = body else { return Ok(true) };
        if walk.bodies.contains(id) {
            return Ok(true);
        }
        let is_there = self.find_body(*id)?.is_some();
        if is_there {
            walk.bodies.insert(*id);
        } else {
            walk.tally.missing += 1;
        }
        Ok(is_there)
    }

    /// The error for contents that cannot be what was written.
    #[must_use]
    pub fn damaged(&self, what: String) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), what }
    }

    fn pairs(&self, space: Space) -> impl Iterator<Item = Pair> {
        let keyspace = self.spaces.get(space as usize);
        keyspace.into_iter().flat_map(Keyspace::iter).map(|guard| {
            guard.into_inner().map_err(|error| OpenError::of_database(&self.path, error))
        })
    }

    fn record<T: DeserializeOwned>(&self, space: Space, value: &[u8]) -> Result<T, OpenError> {
        postcard::from_bytes(value).map_err(|error| {
            self.damaged(format!("a record of its part {:?} cannot be read: {error}", space.name()))
        })
    }

    /// Visits everything. Returns how much there was and what belongs to nothing, to be handed to
    /// [`crate::Store::note`].
    ///
    /// # Errors
    /// [`OpenError`] for what cannot be read, or what `visit` returns.
    pub fn visit(
        &self,
        mut visit: impl FnMut(Stored<'_>) -> Result<(), OpenError>,
        mut progress: impl FnMut(Progress),
    ) -> Result<(Tally, Changes), OpenError> {
        let mut walk = Walk {
            tally: Tally::default(),
            orphans: Changes::default(),
            bodies: BTreeSet::new(),
            reported: 0,
        };
        self.visit_devices(&mut walk, &mut visit, &mut progress)?;
        self.visit_sessions(&mut walk, &mut visit, &mut progress)?;
        for pair in self.pairs(Space::Retained) {
            let (key, value) = pair?;
            let retained: RetainedRecord<'_> = postcard::from_bytes(&value).map_err(|error| {
                self.damaged(format!("a retained message cannot be read: {error}"))
            })?;
            if !self.has_message(&retained.body, &mut walk)? {
                walk.orphan(Space::Retained, key);
                continue;
            }
            visit(Stored::Retained(retained.body))?;
            walk.tally.retained += 1;
            walk.report(&mut progress);
        }
        for pair in self.pairs(Space::Bodies) {
            let (key, _) = pair?;
            if first_number(&key).is_none_or(|id| !walk.bodies.contains(&id)) {
                walk.orphan(Space::Bodies, key);
            }
        }
        Ok((walk.tally, walk.orphans))
    }

    fn visit_devices(
        &self,
        walk: &mut Walk,
        visit: &mut impl FnMut(Stored<'_>) -> Result<(), OpenError>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), OpenError> {
        // Both are in the order of their keys, which are the same.
        let mut seen = self.pairs(Space::Seen).peekable();
        for pair in self.pairs(Space::Devices) {
            let (key, value) = pair?;
            let StoredDevice::V1(device) = self.record(Space::Devices, &value)?;
            let is_before =
                |pair: &Pair| pair.as_ref().is_ok_and(|(of, _)| of.as_ref() < key.as_ref());
            while let Some(pair) = seen.next_if(is_before) {
                walk.orphan(Space::Seen, pair?.0);
            }
            let is_its = |pair: &Pair| pair.as_ref().map_or(true, |(of, _)| *of == key);
            let seen_at = seen.next_if(is_its).transpose()?;
            let seen_at = seen_at.and_then(|(_, value)| first_number(&value));
            visit(Stored::Device(device, seen_at))?;
            walk.tally.devices += 1;
            walk.report(progress);
        }
        for pair in seen {
            walk.orphan(Space::Seen, pair?.0);
        }
        Ok(())
    }

    fn visit_sessions(
        &self,
        walk: &mut Walk,
        visit: &mut impl FnMut(Stored<'_>) -> Result<(), OpenError>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), OpenError> {
        let mut subscriptions = Owned::new(Space::Subscriptions, self.pairs(Space::Subscriptions));
        let mut entries = Owned::new(Space::Entries, self.pairs(Space::Entries));
        let mut received = Owned::new(Space::Received, self.pairs(Space::Received));
        for pair in self.pairs(Space::Sessions) {
            let (key, value) = pair?;
            let Some(id) = first_number(&key).and_then(NonZeroU64::new) else {
                return Err(self.damaged("a session has no number".to_owned()));
            };
            let mut stored = StoredSession {
                id: SessionId(id),
                session: self.record(Space::Sessions, &value)?,
                subscriptions: Vec::new(),
                entries: Vec::new(),
                received: Vec::new(),
            };
            while let Some((_, value)) = subscriptions.next_of(id.get(), walk)? {
                stored.subscriptions.push(self.record(Space::Subscriptions, &value)?);
            }
            while let Some((key, value)) = entries.next_of(id.get(), walk)? {
                let entry: EntryRecord<'_> = postcard::from_bytes(&value).map_err(|error| {
                    self.damaged(format!("a queued message cannot be read: {error}"))
                })?;
                if let EntryRecord::Message { body, .. } = &entry
                    && !self.has_message(body, walk)?
                {
                    walk.orphan(Space::Entries, key);
                    continue;
                }
                let number = second_number(&key).unwrap_or_default();
                stored.entries.push((number, value.to_vec()));
            }
            while let Some((key, _)) = received.next_of(id.get(), walk)? {
                let packet_id = second_number(&key).and_then(|id| u16::try_from(id).ok());
                stored.received.extend(packet_id);
            }
            walk.tally.sessions += 1;
            walk.tally.subscriptions += count(&stored.subscriptions);
            walk.tally.entries += count(&stored.entries);
            walk.tally.received += count(&stored.received);
            visit(Stored::Session(stored))?;
            walk.report(progress);
        }
        subscriptions.rest(walk)?;
        entries.rest(walk)?;
        received.rest(walk)
    }
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

struct Walk {
    tally: Tally,
    orphans: Changes,
    /// Shared bodies that something keeps.
    bodies: BTreeSet<u64>,
    reported: u64,
}

impl Walk {
    fn orphan(&mut self, space: Space, key: Slice) {
        self.tally.orphans += 1;
        self.orphans.over.push(Item { space, key, value: None });
    }

    fn report(&mut self, progress: &mut impl FnMut(Progress)) {
        let records = self.tally.records();
        if records >= self.reported + REPORT_EVERY {
            self.reported = records;
            progress(Progress { records });
        }
    }
}

/// What belongs to sessions, in the order of their numbers.
struct Owned<I: Iterator<Item = Pair>> {
    space: Space,
    pairs: Peekable<I>,
}

impl<I: Iterator<Item = Pair>> Owned<I> {
    fn new(space: Space, pairs: I) -> Self {
        Self { space, pairs: pairs.peekable() }
    }

    /// The next record of session `id`; records of sessions in front of it belong to nothing.
    fn next_of(&mut self, id: u64, walk: &mut Walk) -> Result<Option<(Slice, Slice)>, OpenError> {
        let is_before = |pair: &Pair| {
            pair.as_ref().is_ok_and(|(key, _)| first_number(key).is_none_or(|owner| owner < id))
        };
        while let Some(pair) = self.pairs.next_if(is_before) {
            walk.orphan(self.space, pair?.0);
        }
        let is_its =
            |pair: &Pair| pair.as_ref().map_or(true, |(key, _)| first_number(key) == Some(id));
        self.pairs.next_if(is_its).transpose()
    }

    fn rest(&mut self, walk: &mut Walk) -> Result<(), OpenError> {
        for pair in self.pairs.by_ref() {
            walk.orphan(self.space, pair?.0);
        }
        Ok(())
    }
}
