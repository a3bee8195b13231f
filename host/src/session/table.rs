//! All sessions of this process, by product and client identifier, and when those without a
//! connection end.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use portreeve_mqtt::ReasonCode;
use tokio::time::Instant;

use super::{Client, Ended, Session, SessionLimits};
use crate::devices::Device;

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
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self {
            sessions_max,
            by_key: Mutex::default(),
            deadlines: Mutex::default(),
            next_deadline: AtomicU64::new(0),
        }
    }

    /// Takes over, resumes or creates the session of `key`.
    pub(crate) fn attach(&self, wanted: Wanted, now: Instant) -> Result<Attachment, NotAttached> {
        let Wanted { key, device, client, clean_start, expiry_seconds, limits } = wanted;
        let mut by_key = self.by_key.lock();
        let mut clean_start = clean_start;
        if let Some(session) = by_key.get(&key) {
            let owner = session.device();
            if owner.name != device.name {
                return Err(NotAttached::OfAnotherDevice(owner.name.to_string()));
            }
            // A session that ends with its connection is not resumed (§3.1.4, MQTT-3.1.2-6).
            clean_start |= session.expiry_seconds() == 0;
            if !clean_start {
                let session = Arc::clone(session);
                let (generation, deadlines) = session.attach(client, expiry_seconds, device, now);
                self.cancel(&deadlines);
                return Ok(Attachment {
                    session,
                    generation,
                    session_present: true,
                    replaced: None,
                });
            }
        }
        let replaced = by_key.remove(&key).map(|session| {
            let ended = session.end();
            self.cancel(&ended.deadlines);
            (session, ended)
        });
        if by_key.len() >= self.sessions_max {
            return Err(NotAttached::Full(by_key.len()));
        }
        let session = Arc::new(Session::new(key.clone(), limits, Arc::clone(&device)));
        let (generation, _none) = session.attach(client, expiry_seconds, device, now);
        by_key.insert(key, Arc::clone(&session));
        Ok(Attachment { session, generation, session_present: false, replaced })
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

    /// A snapshot of all sessions.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.by_key.lock().values().map(Arc::clone).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_key.lock().len()
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
