//! All sessions of this process, by product and client identifier, and when those without a
//! connection end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use portreeve_mqtt::ReasonCode;
use portreeve_store::{Changes, Store};
use tokio::time::Instant;

use super::{Attached, Client, Ended, Pumped, Session, SessionLimits, Will};
use crate::devices::Device;
use crate::records::{StoredAs, session_id};

/// Client identifiers are unique within a product.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) product: Arc<str>,
    pub(crate) client_id: Arc<str>,
}

/// When something is due, and a number that makes it unique.
pub(super) type DeadlineKey = (Instant, u64);

/// Every session.
pub(crate) struct Sessions {
    sessions_max: usize,
    by_key: Mutex<HashMap<SessionKey, Arc<Session>>>,
    deadlines: Mutex<BTreeMap<DeadlineKey, Deadline>>,
    next_deadline: AtomicU64,
    /// Where sessions that outlive their connection are stored.
    store: Option<Arc<Store>>,
    /// The number of the next one.
    next_id: AtomicU64,
}

#[derive(Debug, Clone)]
struct Deadline {
    session: Weak<Session>,
    generation: u64,
    what: Due,
}

/// What is due for a session without connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Its will.
    Will,
    /// Its end.
    End,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The session that a connection asks for.
pub(crate) struct Wanted {
    pub(crate) key: SessionKey,
    pub(crate) device: Arc<Device>,
    pub(crate) client: Client,
    pub(crate) clean_start: bool,
    pub(crate) expiry_seconds: u32,
    pub(crate) limits: Arc<SessionLimits>,
    /// The gateway that it comes by.
    pub(crate) gateway: Arc<str>,
    /// What is published when the connection is lost.
    pub(crate) will: Option<Box<Will>>,
}

/// A connection's place in its session.
pub(crate) struct Attachment {
    pub(crate) session: Arc<Session>,
    /// The connection's number.
    pub(crate) generation: u64,
    /// Whether the session existed [MQTT-3.2.2-2].
    pub(crate) session_present: bool,
    /// A session that ended for this one (clean start).
    pub(crate) replaced: Option<(Arc<Session>, Ended)>,
    /// What has to be stored before CONNACK.
    pub(crate) changes: Changes,
    pub(crate) pumped: Pumped,
}

/// Why there is no session for a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAttached {
    #[error("the session of this client identifier belongs to device {0}")]
    OfAnotherDevice(String),
    #[error("there are {0} sessions already")]
    Full(usize),
}

impl Sessions {
    pub(crate) fn new(sessions_max: usize, store: Option<Arc<Store>>) -> Self {
        Self {
            sessions_max,
            by_key: Mutex::default(),
            deadlines: Mutex::default(),
            next_deadline: AtomicU64::new(0),
            store,
            next_id: AtomicU64::new(1),
        }
    }

    /// Takes over, resumes or creates the session that is wanted.
    pub(crate) fn attach(&self, wanted: &Wanted, now: Instant) -> Result<Attachment, NotAttached> {
        let mut by_key = self.by_key.lock();
        let mut clean_start = wanted.clean_start;
        if let Some(session) = by_key.get(&wanted.key) {
            let owner = session.device();
            if owner.name != wanted.device.name {
                return Err(NotAttached::OfAnotherDevice(owner.name.to_string()));
            }
            // A session that ends with its connection is not resumed (§3.1.4, MQTT-3.1.2-6), nor
            // one whose end is due [MQTT-4.1.0-2].
            clean_start |= session.expiry_seconds() == 0 || self.is_over(session, now);
            if !clean_start {
                let session = Arc::clone(session);
                let attached = session.attach(wanted, now);
                self.cancel(&attached.deadlines);
                return Ok(Attachment::of(session, attached, true, None));
            }
        }
        if by_key.len() >= self.sessions_max && !by_key.contains_key(&wanted.key) {
            return Err(NotAttached::Full(by_key.len()));
        }
        let replaced = by_key.remove(&wanted.key).map(|session| {
            let ended = session.end();
            self.cancel(&ended.deadlines);
            (session, ended)
        });
        let session = Arc::new(self.new_session(wanted));
        let attached = session.attach(wanted, now);
        by_key.insert(wanted.key.clone(), Arc::clone(&session));
        Ok(Attachment::of(session, attached, false, replaced))
    }

    fn new_session(&self, wanted: &Wanted) -> Session {
        let stored = self.store.as_ref().filter(|_| wanted.expiry_seconds > 0).map(|store| {
            let id = session_id(self.next_id.fetch_add(1, Ordering::Relaxed));
            let gateway = Arc::clone(&wanted.gateway);
            Box::new(StoredAs { id, store: Arc::clone(store), gateway })
        });
        let limits = Arc::clone(&wanted.limits);
        Session::new(wanted.key.clone(), limits, stored, Arc::clone(&wanted.device))
    }

    /// Puts a session that the store had back. Its connection is over.
    pub(super) fn put_back(&self, session: &Arc<Session>, id: u64) {
        self.next_id.fetch_max(id + 1, Ordering::Relaxed);
        self.by_key.lock().insert(session.key.clone(), Arc::clone(session));
    }

    /// Whether the end of a session is due.
    fn is_over(&self, session: &Session, now: Instant) -> bool {
        let state = session.state.lock();
        let deadlines = self.deadlines.lock();
        let is_end = |key: &DeadlineKey| {
            key.0 <= now && deadlines.get(key).is_some_and(|due| due.what == Due::End)
        };
        state.client.is_none() && state.deadlines.iter().any(is_end)
    }

    /// Ends a session that has no connection, or the connection `generation`; `None` when it has
    /// another one by now.
    pub(crate) fn end(&self, session: &Arc<Session>, generation: u64) -> Option<Ended> {
        let mut by_key = self.by_key.lock();
        let current = by_key.get(&session.key)?;
        if !Arc::ptr_eq(current, session) || session.state.lock().generation != generation {
            return None;
        }
        by_key.remove(&session.key);
        let ended = session.end();
        self.cancel(&ended.deadlines);
        Some(ended)
    }

    /// Notes what is due for a session that lost connection `generation`.
    pub(crate) fn schedule(&self, session: &Arc<Session>, generation: u64, what: Due, at: Instant) {
        let deadline = Deadline { session: Arc::downgrade(session), generation, what };
        // Two sessions may be due at the same instant, so each deadline has a number.
        let key = (at, self.next_deadline.fetch_add(1, Ordering::Relaxed));
        let mut state = session.state.lock();
        if state.generation == generation && !state.has_ended {
            state.deadlines.push(key);
            self.deadlines.lock().insert(key, deadline);
        }
    }

    /// Forgets what was scheduled for a session that came back or ended.
    fn cancel(&self, keys: &[DeadlineKey]) {
        if !keys.is_empty() {
            let mut deadlines = self.deadlines.lock();
            for key in keys {
                deadlines.remove(key);
            }
        }
    }

    /// What is due at `now`, at most `max`.
    pub(crate) fn due(&self, now: Instant, max: usize) -> Vec<(Arc<Session>, u64, Due)> {
        let mut deadlines = self.deadlines.lock();
        let mut due = Vec::new();
        while due.len() < max {
            let Some(first) = deadlines.first_entry().filter(|first| first.key().0 <= now) else {
                break;
            };
            let deadline = first.remove();
            if let Some(session) = deadline.session.upgrade() {
                due.push((session, deadline.generation, deadline.what));
            }
        }
        due
    }

    /// Sessions of these devices, given as product and name.
    pub(crate) fn of_devices(&self, devices: &HashSet<(&str, &str)>) -> Vec<Arc<Session>> {
        let is_its = |session: &&Arc<Session>| {
            let device = session.device();
            devices.contains(&(&*device.product, device.name.as_str()))
        };
        // Looked at without the lock that every CONNECT needs.
        let mut found = self.all();
        found.retain(|session| is_its(&session));
        found
    }

    /// The session of a client identifier.
    pub(crate) fn find(&self, product: &str, client_id: &str) -> Option<Arc<Session>> {
        let key = SessionKey { product: product.into(), client_id: client_id.into() };
        self.by_key.lock().get(&key).map(Arc::clone)
    }

    /// A snapshot of all sessions.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.by_key.lock().values().map(Arc::clone).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_key.lock().len()
    }
}

impl Attachment {
    fn of(
        session: Arc<Session>,
        attached: Attached,
        session_present: bool,
        replaced: Option<(Arc<Session>, Ended)>,
    ) -> Self {
        let Attached { generation, changes, pumped, .. } = attached;
        Self { session, generation, session_present, replaced, changes, pumped }
    }
}

/// When a session that lost its connection at `now` is due; `None` for one that does not end.
pub(crate) fn ends_at(now: Instant, expiry_seconds: u32) -> Option<Instant> {
    (expiry_seconds != u32::MAX).then(|| now + Duration::from_secs(u64::from(expiry_seconds)))
}

impl NotAttached {
    /// What CONNACK says.
    pub(crate) const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::OfAnotherDevice(_) => ReasonCode::ClientIdentifierNotValid,
            Self::Full(_) => ReasonCode::QuotaExceeded,
        }
    }
}
