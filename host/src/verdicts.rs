//! What a verifier said of a device, for as long as it may be used again; and questions that are
//! asked once for several who ask the same.
//!
//! The key of both is a keyed hash of everything that the verifier is told, and of the version that
//! answers: another password, another certificate, a swapped plugin are another question.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::devices::{DeviceName, Entry};
use crate::permissions::Grant;
use crate::reason::Refusal;

/// Seconds for which a verdict is used again at most, whatever the verifier says.
const SECONDS_MAX: u32 = 24 * 3_600;

/// A verifier's admission that holds what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedAdmission {
    pub(crate) device_name: DeviceName,
    pub(crate) product: Option<String>,
    pub(crate) attributes: Vec<(String, String)>,
    /// `None` where the gateway's rules hold.
    pub(crate) permissions: Option<Box<[Grant]>>,
    pub(crate) expires_in: Option<u32>,
    /// Seconds for which the verdict may be used again.
    pub(crate) cache_for: Option<u32>,
    pub(crate) authentication_data: Option<Vec<u8>>,
}

/// A question, hashed.
pub(crate) type QuestionKey = [u8; 32];

/// What a question came to.
pub(crate) type Answer = Result<Arc<CheckedAdmission>, Refusal>;

type Flight = BoxFuture<'static, Answer>;

/// Verdicts of one gateway.
pub(crate) struct Verdicts {
    kept_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: HashMap<QuestionKey, Kept>,
    /// Keys in the order in which they were kept.
    order: VecDeque<(QuestionKey, Instant)>,
    flights: HashMap<QuestionKey, WeakShared<Flight>>,
}

struct Kept {
    /// Seconds after which the admission is over.
    expires_in: Option<u32>,
    /// The entry that the device had: a change of it makes the verdict void.
    entry: Arc<Entry>,
    at: Instant,
    until: Instant,
}

/// A verdict that is used again.
#[derive(Debug, Clone)]
pub(crate) struct Reused {
    pub(crate) entry: Arc<Entry>,
    /// Seconds that are left of the admission.
    pub(crate) expires_in: Option<u32>,
}

impl std::fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verdicts").field("kept_max", &self.kept_max).finish_non_exhaustive()
    }
}

impl Verdicts {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self { kept_max, state: Mutex::default() }
    }

    /// The verdict about this question that may be used again.
    pub(crate) fn find(&self, key: &QuestionKey, now: Instant) -> Option<Reused> {
        let mut state = self.state.lock();
        let kept = state.kept.get(key)?;
        let passed = now.saturating_duration_since(kept.at).as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        // What expires does not live longer by being used again.
        let left = kept.expires_in.map(|seconds| seconds.saturating_sub(passed));
        if kept.until <= now || left == Some(0) || kept.entry.standing.is_over() {
            state.kept.remove(key);
            return None;
        }
        Some(Reused { entry: Arc::clone(&kept.entry), expires_in: left })
    }

    /// Keeps a verdict for as long as it may be used again.
    pub(crate) fn keep(
        &self,
        key: QuestionKey,
        admission: &CheckedAdmission,
        entry: &Arc<Entry>,
        now: Instant,
    ) {
        let Some(seconds) = admission.cache_for.filter(|seconds| *seconds > 0) else { return };
        let seconds = seconds.min(SECONDS_MAX);
        let mut state = self.state.lock();
        while state.kept.len() >= self.kept_max {
            let Some((oldest, at)) = state.order.pop_front() else { return };
            // One that was kept again since has another place.
            if state.kept.get(&oldest).is_some_and(|kept| kept.at == at) {
                state.kept.remove(&oldest);
            }
        }
        if state.order.len() >= self.kept_max.saturating_mul(2) {
            let State { kept, order, .. } = &mut *state;
            order.retain(|(key, at)| kept.get(key).is_some_and(|kept| kept.at == *at));
        }
        let kept = Kept {
            expires_in: admission.expires_in,
            entry: Arc::clone(entry),
            at: now,
            until: now + Duration::from_secs(u64::from(seconds)),
        };
        state.kept.insert(key, kept);
        state.order.push_back((key, now));
    }

    /// Asks once for all who ask the same at the same time. The question goes on for as long as one
    /// of them waits. Returns whether it was asked for another one already.
    pub(crate) fn join(
        &self,
        key: QuestionKey,
        ask: impl FnOnce() -> Flight,
    ) -> (Shared<Flight>, bool) {
        let mut state = self.state.lock();
        if let Some(flight) = state.flights.get(&key).and_then(WeakShared::upgrade) {
            return (flight, true);
        }
        if state.flights.len() == state.flights.capacity() {
            // Before it grows: what nobody waits for needs no room.
            state.flights.retain(|_, flight| flight.upgrade().is_some());
        }
        let flight = ask().shared();
        if let Some(weak) = flight.downgrade() {
            state.flights.insert(key, weak);
        }
        (flight, false)
    }

    /// A question is answered.
    pub(crate) fn landed(&self, key: &QuestionKey) {
        self.state.lock().flights.remove(key);
    }

    /// Verdicts that are kept.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.state.lock().kept.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::{CheckedAdmission, Verdicts};
    use crate::devices::{Credentials, Device, DeviceName, Entry, Standing};

    fn admission(expires_in: Option<u32>, cache_for: Option<u32>) -> Arc<CheckedAdmission> {
        Arc::new(CheckedAdmission {
            device_name: DeviceName::parse("dev-1").unwrap(),
            product: None,
            attributes: Vec::new(),
            permissions: None,
            expires_in,
            cache_for,
            authentication_data: None,
        })
    }

    fn entry() -> Arc<Entry> {
        let device = Device::unregistered(DeviceName::parse("dev-1").unwrap(), "p".into());
        Arc::new(Entry {
            device: Arc::new(device),
            credentials: Credentials::default(),
            created_at: 0,
            standing: Arc::new(Standing::default()),
        })
    }

    #[test]
    fn a_verdict_is_used_again_for_its_time_and_until_the_device_changes() {
        let verdicts = Verdicts::new(9);
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let entry = entry();
        verdicts.keep([1; 32], &admission(Some(60), Some(30)), &entry, now);
        verdicts.keep([2; 32], &admission(Some(10), Some(30)), &entry, now);
        verdicts.keep([3; 32], &admission(None, None), &entry, now);
        assert_eq!(verdicts.find(&[1; 32], after(10)).unwrap().expires_in, Some(50));
        assert!(verdicts.find(&[2; 32], after(10)).is_none(), "the admission is over");
        assert!(verdicts.find(&[3; 32], now).is_none(), "nobody said that it may be");
        assert!(verdicts.find(&[1; 32], after(30)).is_none(), "its time is over");
        verdicts.keep([1; 32], &admission(None, Some(30)), &entry, now);
        entry.standing.end();
        assert!(verdicts.find(&[1; 32], now).is_none(), "the device was disabled");
        assert_eq!(verdicts.count(), 0);
    }

    #[test]
    fn the_oldest_verdicts_give_way() {
        let verdicts = Verdicts::new(2);
        let begin = Instant::now();
        let (admission, entry) = (admission(None, Some(60)), entry());
        for number in 0..100_u8 {
            let now = begin + Duration::from_millis(u64::from(number));
            verdicts.keep([number % 3; 32], &admission, &entry, now);
        }
        assert_eq!(verdicts.count(), 2);
        assert!(verdicts.state.lock().order.len() <= 4);
        assert!(verdicts.find(&[0; 32], begin).is_some(), "the last one that was kept");
    }

    #[tokio::test]
    async fn equal_questions_are_asked_once_also_when_the_first_who_asked_is_gone() {
        let verdicts = Verdicts::new(9);
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let asked = Arc::clone(&asked);
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(admission(None, None))
            }
            .boxed()
        };
        let (mut first, is_joined) = verdicts.join([1; 32], ask);
        assert!(!is_joined && (&mut first).now_or_never().is_none());
        let (second, is_joined) = verdicts.join([1; 32], ask);
        assert!(is_joined);
        drop(first);
        assert!(second.await.is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let (other, is_joined) = verdicts.join([1; 32], ask);
        assert!(!is_joined && other.await.is_ok(), "what was answered is asked again");
        verdicts.landed(&[1; 32]);
        assert!(verdicts.state.lock().flights.is_empty());
    }
}
