//! The last attempts of devices to connect, step by step: what `portreeve explain` tells. Passwords
//! never get here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Devices whose attempts are kept; those that tried longest ago give way.
const DEVICES_MAX: usize = 5_000;
/// Attempts that are kept of one device.
const ATTEMPTS_MAX: usize = 5;
/// Characters of a text that a device sent.
const TEXT_CHARS_MAX: usize = 256;
/// Characters of what a step says.
const WHY_CHARS_MAX: usize = 512;
/// Steps of one attempt.
const STEPS_MAX: usize = 32;

/// How a step came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Refused,
    /// It is said beside.
    Note,
}

impl Outcome {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Note => "note",
        }
    }
}

/// What one stage decided, and why.
#[derive(Debug, Clone)]
pub(crate) struct TrailStep {
    pub(crate) stage: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) why: String,
    /// Microseconds since the attempt began.
    pub(crate) at_us: u64,
}

impl TrailStep {
    /// When it was, of an attempt that began then.
    pub(crate) fn at(&self, begin: SystemTime) -> SystemTime {
        begin.checked_add(Duration::from_micros(self.at_us)).unwrap_or(begin)
    }
}

/// The steps of an attempt that is being made.
#[derive(Debug)]
pub(crate) struct Trail {
    begin: Instant,
    steps: Vec<TrailStep>,
    /// The device that it turned out to be.
    device: Option<String>,
}

/// An attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) at: SystemTime,
    pub(crate) gateway: Arc<str>,
    pub(crate) peer: SocketAddr,
    pub(crate) client_id: String,
    pub(crate) user_name: Option<String>,
    /// The subject of its certificate.
    pub(crate) certificate: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) is_admitted: bool,
    pub(crate) took_us: u64,
    pub(crate) steps: Vec<TrailStep>,
}

/// Who made an attempt, as far as it said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) gateway: &'a Arc<str>,
    pub(crate) peer: SocketAddr,
    pub(crate) client_id: &'a str,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) certificate: Option<&'a str>,
}

impl Trail {
    pub(crate) fn begin() -> Self {
        Self { begin: Instant::now(), steps: Vec::new(), device: None }
    }

    /// A stage let it pass.
    pub(crate) fn passed(&mut self, stage: &'static str, why: impl Into<String>) {
        self.step(stage, Outcome::Passed, why);
    }

    /// A stage turned it away.
    pub(crate) fn refused(&mut self, stage: &'static str, why: impl Into<String>) {
        self.step(stage, Outcome::Refused, why);
    }

    /// Something that is worth knowing.
    pub(crate) fn note(&mut self, stage: &'static str, why: impl Into<String>) {
        self.step(stage, Outcome::Note, why);
    }

    /// A refusal, unless a stage told of one already.
    pub(crate) fn refused_at_last(&mut self, stage: &'static str, why: impl Into<String>) {
        if !self.steps.iter().any(|step| step.outcome == Outcome::Refused) {
            self.refused(stage, why);
        }
    }

    /// The steps of a part that was made elsewhere.
    pub(crate) fn append(&mut self, part: &Self) {
        for TrailStep { stage, outcome, why, .. } in &part.steps {
            self.step(stage, *outcome, why.clone());
        }
    }

    /// Which device it is.
    pub(crate) fn is_device(&mut self, name: &str) {
        self.device = Some(name.to_owned());
    }

    pub(crate) fn steps(&self) -> &[TrailStep] {
        &self.steps
    }

    pub(crate) fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// When the attempt began, and now.
    pub(crate) fn times(&self) -> (SystemTime, SystemTime) {
        let now = SystemTime::now();
        (now.checked_sub(self.begin.elapsed()).unwrap_or(now), now)
    }

    fn step(&mut self, stage: &'static str, outcome: Outcome, why: impl Into<String>) {
        if self.steps.len() < STEPS_MAX {
            let at_us = self.elapsed_us();
            let why = cut_to(&why.into(), WHY_CHARS_MAX);
            self.steps.push(TrailStep { stage, outcome, why, at_us });
        }
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Attempts that are kept.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_name: HashMap<String, Tries>,
    /// Names by when they tried last.
    by_age: BTreeMap<u64, String>,
    next: u64,
}

#[derive(Debug, Default)]
struct Tries {
    age: u64,
    attempts: VecDeque<Arc<Attempt>>,
}

/// Which attempts are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) client_id: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) user_name: Option<String>,
    /// Part of the subject of the certificate.
    pub(crate) certificate: Option<String>,
    pub(crate) peer: Option<std::net::IpAddr>,
}

impl Wanted {
    fn is(&self, attempt: &Attempt) -> bool {
        let is = |wanted: &Option<String>, text: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| text == Some(wanted))
        };
        is(&self.client_id, Some(&attempt.client_id))
            && is(&self.device, attempt.device.as_deref())
            && is(&self.user_name, attempt.user_name.as_deref())
            && self.certificate.as_deref().is_none_or(|wanted| {
                attempt.certificate.as_deref().is_some_and(|subject| subject.contains(wanted))
            })
            && self.peer.is_none_or(|peer| peer == attempt.peer.ip())
    }
}

impl Attempts {
    /// Keeps an attempt that has ended.
    pub(crate) fn keep(&self, who: Who<'_>, trail: Trail, is_admitted: bool) {
        let took_us = trail.elapsed_us();
        let attempt = Attempt {
            at: SystemTime::now(),
            gateway: Arc::clone(who.gateway),
            peer: who.peer,
            client_id: cut(who.client_id),
            user_name: who.user_name.map(cut),
            certificate: who.certificate.map(cut),
            device: trail.device,
            is_admitted,
            took_us,
            steps: trail.steps,
        };
        // Client identifiers may be made up for each attempt, and user names shared: the device, then
        // the user name, then the client identifier tell whose attempt it is.
        let name =
            [attempt.device.as_deref(), attempt.user_name.as_deref(), Some(&attempt.client_id)]
                .into_iter()
                .flatten()
                .chain(attempt.certificate.as_deref())
                .find(|name| !name.is_empty())
                .map_or_else(|| attempt.peer.ip().to_string(), str::to_owned);
        self.0.lock().keep(name, attempt);
    }

    /// Attempts that are wanted, the latest first, at most `max`.
    pub(crate) fn find(&self, wanted: &Wanted, max: usize) -> Vec<Arc<Attempt>> {
        let kept = self.0.lock();
        let all = kept.by_name.values().flat_map(|tries| &tries.attempts);
        let mut found: Vec<_> = all.filter(|attempt| wanted.is(attempt)).map(Arc::clone).collect();
        drop(kept);
        found.sort_by_key(|attempt| std::cmp::Reverse(attempt.at));
        found.truncate(max);
        found
    }
}

impl Kept {
    fn keep(&mut self, name: String, attempt: Attempt) {
        let age = self.next;
        self.next += 1;
        let tries = self.by_name.entry(name.clone()).or_default();
        if !tries.attempts.is_empty() {
            self.by_age.remove(&tries.age);
        }
        tries.age = age;
        if tries.attempts.len() >= ATTEMPTS_MAX {
            tries.attempts.pop_front();
        }
        tries.attempts.push_back(Arc::new(attempt));
        self.by_age.insert(age, name);
        while self.by_name.len() > DEVICES_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.by_name.remove(&oldest);
        }
    }
}

/// The beginning of a text that a device sent.
pub(crate) fn cut(text: &str) -> String {
    cut_to(text, TEXT_CHARS_MAX)
}

/// The beginning of a text.
fn cut_to(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ATTEMPTS_MAX, Attempts, DEVICES_MAX, Trail, Wanted, Who};

    fn who<'a>(gateway: &'a Arc<str>, client_id: &'a str) -> Who<'a> {
        let peer = "192.0.2.1:50000".parse().unwrap();
        Who { gateway, peer, client_id, user_name: None, certificate: Some("CN=x") }
    }

    #[test]
    fn the_last_attempts_of_a_device_are_kept_and_found() {
        let attempts = Attempts::default();
        let gateway: Arc<str> = "main".into();
        for number in 0..ATTEMPTS_MAX + 3 {
            let mut trail = Trail::begin();
            trail.passed("tls", "1.3");
            trail.refused("verification", format!("attempt {number}"));
            attempts.keep(who(&gateway, "client-1"), trail, false);
        }
        attempts.keep(who(&gateway, "client-2"), Trail::begin(), true);
        let wanted = Wanted { client_id: Some("client-1".to_owned()), ..Wanted::default() };
        let found = attempts.find(&wanted, 100);
        assert_eq!(found.len(), ATTEMPTS_MAX);
        assert_eq!(found[0].steps[1].why, "attempt 7", "the latest one first");
        assert_eq!(attempts.find(&wanted, 2).len(), 2);
        let of_address = Wanted { peer: Some([192, 0, 2, 1].into()), ..Wanted::default() };
        assert_eq!(attempts.find(&of_address, 100).len(), ATTEMPTS_MAX + 1);
    }

    #[test]
    fn devices_that_tried_longest_ago_give_way() {
        let attempts = Attempts::default();
        let gateway: Arc<str> = "main".into();
        for number in 0..DEVICES_MAX + 10 {
            let client_id = format!("client-{number}");
            attempts.keep(who(&gateway, &client_id), Trail::begin(), true);
            attempts.keep(who(&gateway, "client-0"), Trail::begin(), true);
        }
        let kept = attempts.0.lock();
        assert_eq!((kept.by_name.len(), kept.by_age.len()), (DEVICES_MAX, DEVICES_MAX));
        assert!(kept.by_name.contains_key("client-0") && !kept.by_name.contains_key("client-1"));
    }
}
