//! What responders said, until it is too old. A certificate that is revoked stays so until a newer
//! answer says otherwise.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;

use super::{CheckedResponse, CheckedStatus, Status};
use crate::clock::whole_seconds;

/// How long *unknown* is used: it may be a certificate that its responder learns of soon.
const UNKNOWN_MAX: Duration = Duration::from_mins(1);
/// How far the clock may go back before what was stored later is forgotten.
const CLOCK_STEP_SECONDS_MAX: i64 = 300;

/// SHA-256 of the issuer's subject and public key, and the serial number.
pub(super) type Key = [u8; 32];

/// How long what is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    /// A good answer, at most.
    pub(super) answer_max: Duration,
    /// That there is none.
    pub(super) failure: Duration,
}

/// What is known of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    status: Status,
    this_update: i64,
    stored_at: i64,
    /// From then on it is asked for again where there is time for it.
    refresh_at: i64,
    usable_until: i64,
}

impl Entry {
    fn is_usable(&self, now: i64) -> bool {
        now <= self.usable_until && self.stored_at <= now.saturating_add(CLOCK_STEP_SECONDS_MAX)
    }

    /// Those that are evicted first are the least.
    fn place(&self, key: Key) -> Place {
        let worth = match self.status {
            Status::Unavailable(_) | Status::Invalid(_) => 0,
            Status::Good | Status::Unknown => 1,
            Status::Revoked(_) => 2,
        };
        (worth, self.usable_until, key)
    }
}

/// Worth, end of use, key.
type Place = (u8, i64, Key);

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    order: BTreeSet<Place>,
}

impl Entries {
    fn put(&mut self, key: Key, entry: Entry, entries_max: usize) {
        if let Some(old) = self.by_key.insert(key, entry) {
            self.order.remove(&old.place(key));
        }
        self.order.insert(entry.place(key));
        while self.by_key.len() > entries_max {
            let Some((_, _, least)) = self.order.pop_first() else { return };
            self.by_key.remove(&least);
        }
    }
}

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Mutex<Entries>,
    entries_max: usize,
    lifetimes: Lifetimes,
}

impl Cache {
    pub(super) fn new(entries_max: usize, lifetimes: Lifetimes) -> Self {
        Self { entries: Mutex::default(), entries_max: entries_max.max(1), lifetimes }
    }

    /// What is known and may be used at `now`.
    pub(super) fn find(&self, key: &Key, now: i64) -> Option<Status> {
        let entries = self.entries.lock();
        let entry = entries.by_key.get(key)?;
        entry.is_usable(now).then_some(entry.status)
    }

    /// What is known and needs no refresh at `now`.
    pub(super) fn find_fresh(&self, key: &Key, now: i64) -> Option<Status> {
        let entries = self.entries.lock();
        let entry = entries.by_key.get(key)?;
        (entry.is_usable(now) && now < entry.refresh_at).then_some(entry.status)
    }

    /// Keeps an answer, and gives what is known now: an older answer does not make a revoked
    /// certificate good, nor does one that does not know it.
    pub(super) fn answer(&self, key: Key, checked: &CheckedResponse, now: i64) -> Status {
        let longest = match checked.status {
            CheckedStatus::Unknown => self.lifetimes.answer_max.min(UNKNOWN_MAX),
            CheckedStatus::Good => self.lifetimes.answer_max,
            // What is revoked is refused in the handshake, for as long as the responder says so.
            CheckedStatus::Revoked(_) => Duration::MAX,
        };
        let usable_until = checked.usable_until.min(now.saturating_add(whole_seconds(longest)));
        let life = usable_until.saturating_sub(now).max(0);
        let new = Entry {
            status: match checked.status {
                CheckedStatus::Good => Status::Good,
                CheckedStatus::Revoked(revoked) => Status::Revoked(revoked),
                CheckedStatus::Unknown => Status::Unknown,
            },
            this_update: checked.this_update,
            stored_at: now,
            refresh_at: now.saturating_add(life / 2),
            usable_until,
        };
        let mut entries = self.entries.lock();
        let old = entries.by_key.get(&key).copied();
        let kept = match old {
            Some(old) if stays(&old, &new, now) => self.prolonged(old, now),
            _ => new,
        };
        entries.put(key, kept, self.entries_max);
        kept.status
    }

    /// Notes that there is no answer, or none to believe, and gives what is known now: a good answer
    /// is used until its end, and revoked stays revoked. It is kept for a moment, so that a device that
    /// comes again and again is not a stream of requests.
    pub(super) fn no_answer(&self, key: Key, status: Status, now: i64) -> Status {
        let mut entries = self.entries.lock();
        let old = entries.by_key.get(&key).copied();
        let kept = match old {
            Some(old) if matches!(old.status, Status::Revoked(_)) => self.prolonged(old, now),
            Some(mut old)
                if old.is_usable(now) && matches!(old.status, Status::Good | Status::Unknown) =>
            {
                old.refresh_at = now.saturating_add(whole_seconds(self.lifetimes.failure));
                old
            }
            _ => {
                let usable_until = now.saturating_add(whole_seconds(self.lifetimes.failure));
                Entry {
                    status,
                    this_update: i64::MIN,
                    stored_at: now,
                    refresh_at: usable_until,
                    usable_until,
                }
            }
        };
        entries.put(key, kept, self.entries_max);
        kept.status
    }

    /// An old entry that stands for a little longer, so that not everybody asks at once.
    fn prolonged(&self, mut old: Entry, now: i64) -> Entry {
        let until = now.saturating_add(whole_seconds(self.lifetimes.failure));
        old.stored_at = now;
        old.usable_until = old.usable_until.max(until);
        old.refresh_at = old.refresh_at.max(until);
        old
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.lock().by_key.len()
    }
}

/// Whether an old entry stands against a new answer.
fn stays(old: &Entry, new: &Entry, now: i64) -> bool {
    match (old.status, new.status) {
        (Status::Revoked(_), Status::Revoked(_)) => new.this_update < old.this_update,
        (Status::Revoked(_), Status::Good) => new.this_update <= old.this_update,
        (Status::Revoked(_), _) => true,
        (_, Status::Revoked(_)) => false,
        (Status::Good, Status::Good | Status::Unknown) => {
            new.this_update < old.this_update && old.is_usable(now)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::{Invalid, Unavailable};
    use crate::{RevocationReason, Revoked};

    const KEY: Key = [1; 32];
    const GOOD: CheckedStatus = CheckedStatus::Good;
    const REVOKED: Revoked = Revoked { since: 5, reason: RevocationReason::KeyCompromise };

    fn cache(entries_max: usize) -> Cache {
        let lifetimes =
            Lifetimes { answer_max: Duration::from_hours(1), failure: Duration::from_secs(2) };
        Cache::new(entries_max, lifetimes)
    }

    fn response(status: CheckedStatus, this_update: i64, usable_until: i64) -> CheckedResponse {
        CheckedResponse { status, this_update, next_update: Some(usable_until), usable_until }
    }

    #[test]
    fn a_good_answer_is_used_until_its_end_at_most_for_the_longest_time() {
        let cache = cache(10);
        cache.answer(KEY, &response(GOOD, 100, 200), 100);
        assert_eq!(cache.find(&KEY, 200), Some(Status::Good));
        assert_eq!(cache.find(&KEY, 201), None);
        assert_eq!(cache.find_fresh(&KEY, 149), Some(Status::Good));
        assert_eq!(cache.find_fresh(&KEY, 150), None, "half of its life is over");
        cache.answer(KEY, &response(GOOD, 101, 1_000_000), 100);
        assert_eq!(cache.find(&KEY, 3700), Some(Status::Good));
        assert_eq!(cache.find(&KEY, 3701), None);
    }

    #[test]
    fn revoked_stays_so_until_a_newer_answer() {
        let cache = cache(10);
        let revoked = Status::Revoked(REVOKED);
        cache.answer(KEY, &response(GOOD, 50, 200), 90);
        assert_eq!(
            cache.answer(KEY, &response(CheckedStatus::Revoked(REVOKED), 100, 200), 100),
            revoked
        );
        // Replayed while it is known, and after its end.
        assert_eq!(cache.answer(KEY, &response(GOOD, 99, 9000), 150), revoked);
        assert_eq!(cache.find(&KEY, 300), None, "it is asked for again");
        assert_eq!(cache.answer(KEY, &response(GOOD, 100, 9000), 300), revoked);
        let unknown = response(CheckedStatus::Unknown, 400, 9000);
        assert_eq!(cache.answer(KEY, &unknown, 400), revoked);
        let unavailable = Status::Unavailable(Unavailable::Timeout);
        assert_eq!(cache.no_answer(KEY, unavailable, 500), revoked);
        assert_eq!(cache.find(&KEY, 501), Some(revoked));
        // A hold that ended.
        assert_eq!(cache.answer(KEY, &response(GOOD, 600, 9000), 600), Status::Good);
    }

    #[test]
    fn that_there_is_no_answer_or_a_wrong_one_is_remembered_for_a_moment() {
        let cache = cache(10);
        let unavailable = Status::Unavailable(Unavailable::Connect);
        assert_eq!(cache.no_answer(KEY, unavailable, 100), unavailable);
        assert_eq!(cache.find(&KEY, 102), Some(unavailable));
        assert_eq!(cache.find(&KEY, 103), None);
        let invalid = Status::Invalid(Invalid::Signature);
        assert_eq!(cache.no_answer(KEY, invalid, 200), invalid);
        assert_eq!(cache.find(&KEY, 202), Some(invalid));
        assert_eq!(cache.find(&KEY, 203), None);
        cache.answer(KEY, &response(GOOD, 300, 400), 300);
        assert_eq!(cache.no_answer(KEY, invalid, 360), Status::Good, "until its end");
        assert_eq!(cache.find_fresh(&KEY, 361), Some(Status::Good));
        assert_eq!(cache.no_answer(KEY, unavailable, 401), unavailable);
    }

    #[test]
    fn what_was_stored_in_the_future_is_not_used() {
        let cache = cache(10);
        cache.answer(KEY, &response(GOOD, 7200, 9000), 7200);
        assert_eq!(cache.find(&KEY, 0), None);
    }

    #[test]
    fn revoked_entries_are_evicted_last() {
        let cache = cache(3);
        let revoked = response(CheckedStatus::Revoked(REVOKED), 1, 10);
        cache.answer([0; 32], &revoked, 1);
        for number in 1..50 {
            cache.answer([number; 32], &response(GOOD, 1, 1000), 1);
        }
        assert_eq!(cache.len(), 3);
        assert_eq!(cache.find(&[0; 32], 5), Some(Status::Revoked(REVOKED)));
    }
}
