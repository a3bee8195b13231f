//! `state`: a small key-value space of one plugin, shared by its instances.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bindings::portreeve::plugin::state::{Error, Host};
use crate::instance::GuestState;
use crate::limits::Limits;

const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 64 << 10;
/// What an entry costs beside its bytes, so that empty entries are not free.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// The entries of one plugin. Outlives the plugin's versions.
#[derive(Debug)]
pub struct StateSpace {
    bytes_max: AtomicUsize,
    entries_max: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    map: HashMap<String, Entry>,
    bytes: usize,
    /// No entry expires before this, so a full space is not searched in vain.
    next_expiry: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Vec<u8>,
    expires: Option<Instant>,
}

impl Entry {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

fn cost(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD_BYTES
}

impl Entries {
    fn remove(&mut self, key: &str) -> Option<Entry> {
        let entry = self.map.remove(key)?;
        self.bytes -= cost(key, &entry.value);
        Some(entry)
    }

    fn remove_expired(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        self.map.retain(|_, entry| entry.is_live(now));
        self.bytes = self.map.iter().map(|(key, entry)| cost(key, &entry.value)).sum();
        self.next_expiry = self.map.values().filter_map(|entry| entry.expires).min();
    }
}

impl StateSpace {
    /// An empty space with these bounds.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            bytes_max: AtomicUsize::new(limits.state_bytes_max),
            entries_max: AtomicUsize::new(limits.state_entries_max),
            entries: Mutex::default(),
        }
    }

    /// The same entries in a space of their own, for a version that is only tried.
    #[must_use]
    pub fn copy(&self) -> Self {
        let entries = self.entries.lock();
        let copied = Entries {
            map: entries.map.clone(),
            bytes: entries.bytes,
            next_expiry: entries.next_expiry,
        };
        drop(entries);
        let same = |bound: &AtomicUsize| AtomicUsize::new(bound.load(Ordering::Relaxed));
        Self {
            bytes_max: same(&self.bytes_max),
            entries_max: same(&self.entries_max),
            entries: Mutex::new(copied),
        }
    }

    /// From now on these hold. Entries that do not fit any more stay until they are removed.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.bytes_max.store(limits.state_bytes_max, Ordering::Relaxed);
        self.entries_max.store(limits.state_entries_max, Ordering::Relaxed);
    }

    fn get(&self, key: &str, now: Instant) -> Option<Vec<u8>> {
        let entries = self.entries.lock();
        entries.map.get(key).filter(|entry| entry.is_live(now)).map(|entry| entry.value.clone())
    }

    fn remove(&self, key: &str) {
        drop(self.entries.lock().remove(key));
    }

    fn set(
        &self,
        key: String,
        value: Vec<u8>,
        expires: Option<Instant>,
        now: Instant,
    ) -> Result<(), Error> {
        let mut entries = self.entries.lock();
        self.store(&mut entries, key, Entry { value, expires }, now)
    }

    fn store(
        &self,
        entries: &mut Entries,
        key: String,
        entry: Entry,
        now: Instant,
    ) -> Result<(), Error> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::KeyTooLong(u32::try_from(KEY_BYTES_MAX).unwrap_or(u32::MAX)));
        }
        if entry.value.len() > VALUE_BYTES_MAX {
            return Err(Error::ValueTooLong(u32::try_from(VALUE_BYTES_MAX).unwrap_or(u32::MAX)));
        }
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let entries_max = self.entries_max.load(Ordering::Relaxed);
        let full = || Err(Error::Full(u64::try_from(bytes_max).unwrap_or(u64::MAX)));
        if entries.map.len() >= entries_max && !entries.map.contains_key(&key) {
            entries.remove_expired(now);
            if entries.map.len() >= entries_max {
                return full();
            }
        }
        let before = entries.map.get(&key).map_or(0, |old| cost(&key, &old.value));
        let wanted = cost(&key, &entry.value);
        if entries.bytes - before + wanted > bytes_max {
            entries.remove_expired(now);
            let before = entries.map.get(&key).map_or(0, |old| cost(&key, &old.value));
            if entries.bytes - before + wanted > bytes_max {
                return full();
            }
        }
        drop(entries.remove(&key));
        entries.bytes += wanted;
        entries.next_expiry = [entries.next_expiry, entry.expires].into_iter().flatten().min();
        entries.map.insert(key, entry);
        Ok(())
    }

    fn increment(
        &self,
        key: String,
        by: i64,
        expires: Option<Instant>,
        now: Instant,
    ) -> Result<i64, Error> {
        let mut entries = self.entries.lock();
        let current = entries.map.get_mut(&key).filter(|entry| entry.is_live(now));
        if let Some(entry) = current {
            let bytes =
                <[u8; 8]>::try_from(entry.value.as_slice()).map_err(|_| Error::NotACounter)?;
            let sum = i64::from_le_bytes(bytes).saturating_add(by);
            entry.value = sum.to_le_bytes().to_vec();
            return Ok(sum);
        }
        let entry = Entry { value: by.to_le_bytes().to_vec(), expires };
        self.store(&mut entries, key, entry, now).map(|()| by)
    }
}

fn expiry(now: Instant, ttl: Option<u32>) -> Option<Instant> {
    ttl.map(|seconds| now + Duration::from_secs(u64::from(seconds)))
}

impl Host for GuestState {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.shared.state.get(&key, Instant::now())
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl: Option<u32>) -> Result<(), Error> {
        let now = Instant::now();
        self.shared.state.set(key, value, expiry(now, ttl), now)
    }

    fn remove(&mut self, key: String) {
        self.shared.state.remove(&key);
    }

    fn increment(&mut self, key: String, by: i64, ttl: Option<u32>) -> Result<i64, Error> {
        let now = Instant::now();
        self.shared.state.increment(key, by, expiry(now, ttl), now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ENTRY_OVERHEAD_BYTES, Error, StateSpace};
    use crate::limits::Limits;

    fn space(bytes: usize) -> StateSpace {
        StateSpace::new(&Limits {
            state_bytes_max: bytes,
            state_entries_max: 3,
            ..Limits::default()
        })
    }

    fn key(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn an_entry_ends_with_its_time() {
        let space = space(1000);
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        space.set(key("a"), vec![1], Some(later), now).unwrap();
        assert_eq!(space.get("a", now), Some(vec![1]));
        assert_eq!(space.get("a", later), None);
    }

    #[test]
    fn the_space_is_bounded_and_expired_entries_make_room() {
        let space = space(2 * (ENTRY_OVERHEAD_BYTES + 2));
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        space.set(key("a"), vec![1], Some(soon), now).unwrap();
        space.set(key("b"), vec![1], None, now).unwrap();
        assert!(matches!(space.set(key("c"), vec![1], None, now), Err(Error::Full(_))));
        space.set(key("b"), vec![2], None, now).unwrap();
        space.set(key("c"), vec![3], None, soon).unwrap();
        assert_eq!(space.get("a", now), None);
        assert!(matches!(
            space.set("k".repeat(257), vec![], None, now),
            Err(Error::KeyTooLong(256))
        ));
    }

    #[test]
    fn a_counter_counts_and_saturates() {
        let space = space(1000);
        let now = Instant::now();
        assert_eq!(space.increment(key("n"), 2, None, now).unwrap(), 2);
        assert_eq!(space.increment(key("n"), i64::MAX, None, now).unwrap(), i64::MAX);
        space.set(key("s"), vec![1, 2], None, now).unwrap();
        assert!(matches!(space.increment(key("s"), 1, None, now), Err(Error::NotACounter)));
    }

    #[test]
    fn entries_are_counted_and_a_copy_is_its_own() {
        let space = space(100_000);
        let now = Instant::now();
        for name in ["a", "b"] {
            space.set(key(name), vec![], None, now).unwrap();
        }
        space.set(key("c"), vec![], Some(now + Duration::from_secs(1)), now).unwrap();
        assert!(matches!(space.set(key("d"), vec![], None, now), Err(Error::Full(_))));
        space.set(key("a"), vec![1], None, now).unwrap();
        let copy = space.copy();
        let later = now + Duration::from_secs(2);
        copy.set(key("d"), vec![], None, later).unwrap();
        assert_eq!((copy.get("a", later), space.get("d", later)), (Some(vec![1]), None));
    }
}
