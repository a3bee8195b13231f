//! Passwords: their hashes, the threads that compute them, and proofs of those that were right.
//!
//! A password that was proven once is known again by a keyed hash of it, which costs less than a
//! microsecond: devices that come back do not compute Argon2 again, until their entry changes or the
//! gateway restarts.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Memory that checking one password may take, in KiB.
const MEMORY_KIB_MAX: u32 = 64 << 10;
/// Passes over it.
const PASSES_MAX: u32 = 16;
/// Rounds of PBKDF2.
const ROUNDS_MAX: u32 = 1_000_000;
/// Cost of bcrypt, as a power of two.
const BCRYPT_COST_MAX: u32 = 14;
/// Passwords that are hashed in one go when many are imported: the others may come between.
const GO: usize = 16;

/// How much computing a new hash takes (RFC 9106 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for HashCost {
    /// About two milliseconds: a gateway whose ten thousand devices come back after a restart has
    /// them in within seconds. Passwords that people choose want more.
    fn default() -> Self {
        Self { memory_kib: 1024, passes: 2 }
    }
}

/// The hash of a password, as text that begins with `$`: Argon2 and bcrypt in their own formats,
/// PBKDF2 with SHA-512 as mosquitto writes it (`$7$`).
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// A text that is no hash that can be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHash {
    /// Another format.
    #[error(
        "the password hash has none of the known formats: $argon2id$…, $argon2i$…, $argon2d$…, $2b$… (bcrypt), \
         $7$… (mosquitto)"
    )]
    Unknown,
    /// What stands behind its name cannot be read.
    #[error("the password hash cannot be read: {0}")]
    Unreadable(String),
    /// One check would take too long.
    #[error("the password hash asks for {0}; that would let a few logins hold up all others")]
    TooExpensive(String),
}

impl PasswordHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// [`InvalidHash`].
    pub fn parse(text: &str) -> Result<Self, InvalidHash> {
        let unreadable = |why: String| InvalidHash::Unreadable(why);
        if text.starts_with("$argon2") {
            let hash =
                argon2::PasswordHash::new(text).map_err(|why| unreadable(why.to_string()))?;
            let params = Params::try_from(&hash).map_err(|why| unreadable(why.to_string()))?;
            if hash.hash.is_none() {
                return Err(unreadable("it has no digest".to_owned()));
            }
            if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
                let asked = format!("{} KiB and {} passes", params.m_cost(), params.t_cost());
                return Err(InvalidHash::TooExpensive(asked));
            }
        } else if text.starts_with("$7$") {
            mosquitto(text)?;
        } else if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts: bcrypt::HashParts =
                text.parse().map_err(|why: bcrypt::BcryptError| unreadable(why.to_string()))?;
            if parts.get_cost() > BCRYPT_COST_MAX {
                return Err(InvalidHash::TooExpensive(format!("cost {}", parts.get_cost())));
            }
        } else {
            return Err(InvalidHash::Unknown);
        }
        Ok(Self(text.into()))
    }

    /// A new hash of `password`.
    ///
    /// # Errors
    /// [`InvalidHash`] where the password is longer than Argon2 takes, which no MQTT password is.
    pub fn new(password: &[u8], cost: HashCost) -> Result<Self, InvalidHash> {
        let mut salt = [0; 16];
        let failed = |why: String| InvalidHash::Unreadable(why);
        rand::fill(&mut salt).map_err(|_| failed("there are no random numbers".to_owned()))?;
        let salt = SaltString::encode_b64(&salt).map_err(|why| failed(why.to_string()))?;
        let hash = cost.argon2().hash_password(password, &salt);
        hash.map(|hash| Self(hash.to_string().into())).map_err(|why| failed(why.to_string()))
    }

    /// One that stands for a hash which is not computed; it is of no password.
    pub(crate) fn unknown() -> Self {
        Self("$none$".into())
    }

    /// Whether it is the hash of `password`. Takes milliseconds.
    #[must_use]
    pub fn is_of(&self, password: &[u8]) -> bool {
        if self.0.starts_with("$argon2") {
            return argon2::PasswordHash::new(&self.0)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
        }
        if let Ok(Mosquitto { rounds, salt, digest }) = mosquitto(&self.0) {
            let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
            return pbkdf2::verify(algorithm, rounds, &salt, password, &digest).is_ok();
        }
        bcrypt::verify(password, &self.0).unwrap_or(false)
    }

    /// The text that it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hash of mosquitto's password file.
struct Mosquitto {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

/// `$7$ROUNDS$SALT$DIGEST`, the latter two in base64.
fn mosquitto(text: &str) -> Result<Mosquitto, InvalidHash> {
    let unreadable = || InvalidHash::Unreadable("$7$ROUNDS$SALT$DIGEST is expected".to_owned());
    let mut parts = text.strip_prefix("$7$").ok_or_else(unreadable)?.split('$');
    let (Some(rounds), Some(salt), Some(digest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(unreadable());
    };
    let rounds: NonZeroU32 = rounds.parse().map_err(|_| unreadable())?;
    if rounds.get() > ROUNDS_MAX {
        return Err(InvalidHash::TooExpensive(format!("{rounds} rounds")));
    }
    let salt = STANDARD.decode(salt).map_err(|_| unreadable())?;
    let digest = STANDARD.decode(digest).map_err(|_| unreadable())?;
    if digest.len() != DIGEST_BYTES {
        return Err(unreadable());
    }
    Ok(Mosquitto { rounds, salt, digest })
}

/// Bytes of SHA-512.
const DIGEST_BYTES: usize = 64;

impl HashCost {
    fn argon2(self) -> Argon2<'static> {
        // Both are within what Argon2 takes: the configuration bounds them.
        let params = Params::new(self.memory_kib, self.passes, 1, None).unwrap_or_default();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }
}

/// A keyed hash of a password that was proven right.
pub(crate) type Proof = [u8; 32];

/// The key of proofs: random, in memory alone, gone with the process.
pub(crate) struct ProofKey(hmac::Key);

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey")
    }
}

impl ProofKey {
    pub(crate) fn random() -> Self {
        let mut key = [0; 32];
        // Without random numbers there is no TLS either; a key of the clock is better than none.
        if rand::fill(&mut key).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let nanos = now.map_or(0, |now| now.as_nanos());
            key[..16].copy_from_slice(&nanos.to_le_bytes());
        }
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    pub(crate) fn proof(&self, of: &[u8]) -> Proof {
        let mut proof = [0; 32];
        proof.copy_from_slice(hmac::sign(&self.0, of).as_ref());
        proof
    }

    /// Whether `proof` is of `password`. Takes the same time wherever they differ.
    pub(crate) fn is_of(&self, proof: &Proof, password: &[u8]) -> bool {
        hmac::verify(&self.0, password, proof).is_ok()
    }
}

/// Too many passwords wait to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub(crate) struct HasherBusy {
    /// After which they will be worked off.
    pub(crate) retry_after: Duration,
}

/// Computes hashes beside the threads of connections, and so many at a time.
#[derive(Debug)]
pub(crate) struct Hasher {
    cost: HashCost,
    threads: usize,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// What one takes, in microseconds.
    took_us: AtomicU64,
}

impl Hasher {
    /// `threads` hash at a time, `waiting_max` others wait.
    pub(crate) fn new(cost: HashCost, threads: usize, waiting_max: usize) -> Self {
        Self {
            cost,
            threads,
            permits: Arc::new(Semaphore::new(threads)),
            waiting: AtomicUsize::new(0),
            waiting_max,
            took_us: AtomicU64::new(2_000),
        }
    }

    /// Whether `hash` is of `password`. Without a hash it computes all the same, and says no: the
    /// time that it takes tells nobody whether there is a device.
    ///
    /// # Errors
    /// [`HasherBusy`].
    pub(crate) async fn is_of(
        &self,
        hash: Option<PasswordHash>,
        password: &[u8],
    ) -> Result<bool, HasherBusy> {
        let password = Zeroizing::new(password.to_vec());
        let cost = self.cost;
        let _waiting = self.wait()?;
        let check = move || match hash {
            Some(hash) => hash.is_of(&password),
            None => PasswordHash::new(&password, cost).is_err(),
        };
        Ok(self.compute(check).await.unwrap_or(false))
    }

    /// Whether a hash costs what new ones do.
    pub(crate) fn is_own(&self, hash: &PasswordHash) -> bool {
        let HashCost { memory_kib, passes } = self.cost;
        hash.as_str().starts_with(&format!("$argon2id$v=19$m={memory_kib},t={passes},p=1$"))
    }

    /// Computes `work` for each of `items`, some at a time, so that logins come between. `None`
    /// stands for what was not computed.
    pub(crate) async fn each<T, U>(
        &self,
        items: Vec<T>,
        work: fn(T, HashCost) -> U,
    ) -> Vec<Option<U>>
    where
        T: Send + 'static,
        U: Send + 'static,
    {
        let cost = self.cost;
        let mut items = items.into_iter();
        let goes = std::iter::from_fn(|| {
            let go: Vec<T> = items.by_ref().take(GO).collect();
            (!go.is_empty()).then_some(go)
        });
        let compute = |go: Vec<T>| async move {
            let count = go.len();
            let all = move || go.into_iter().map(|item| Some(work(item, cost))).collect();
            let computed: Option<Vec<Option<U>>> = self.compute(all).await;
            computed.unwrap_or_else(|| std::iter::repeat_with(|| None).take(count).collect())
        };
        // One thread is left for those who log in, where there are several; what waits for a thread
        // is one go at most.
        let at_a_time = self.threads.saturating_sub(1).max(1);
        let computed = futures_util::stream::iter(goes.map(compute)).buffered(at_a_time);
        computed.collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let computed = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        computed.await.ok()
    }

    fn wait(&self) -> Result<Waiting<'_>, HasherBusy> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { hasher: self, since: std::time::Instant::now(), ahead };
        if ahead >= self.waiting_max {
            let per_thread = u64::try_from(ahead / self.threads.max(1)).unwrap_or(u64::MAX);
            let us = self.took_us.load(Ordering::Relaxed).saturating_mul(per_thread);
            return Err(HasherBusy { retry_after: Duration::from_micros(us) });
        }
        Ok(waiting)
    }
}

/// One that waits for its hash.
struct Waiting<'a> {
    hasher: &'a Hasher,
    since: std::time::Instant,
    ahead: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hasher.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.ahead == 0 {
            let us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.hasher.took_us.store(us, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HashCost, Hasher, InvalidHash, PasswordHash, ProofKey};

    const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1 };

    #[test]
    fn a_hash_is_of_its_password_and_no_other() {
        let hash = PasswordHash::new(b"secret", CHEAP).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.as_str());
        let read = PasswordHash::parse(hash.as_str()).unwrap();
        assert!(read.is_of(b"secret") && !read.is_of(b"Secret") && !read.is_of(b""));
        assert_ne!(PasswordHash::new(b"secret", CHEAP).unwrap(), hash, "the salt is another");
        assert_eq!(format!("{hash:?}"), "PasswordHash");
    }

    /// Made by mosquitto_passwd, bcrypt and Argon2 for Python.
    #[test]
    fn hashes_of_other_tools_are_read() {
        let hashes = include_str!("../../../tests/data/password-hashes.txt");
        let mut count = 0;
        for line in hashes.lines().filter(|line| !line.starts_with('#')) {
            let hash = PasswordHash::parse(line).unwrap();
            assert!(hash.is_of(b"secret") && !hash.is_of(b"other"), "{line}");
            count += 1;
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn what_is_no_hash_or_too_expensive_is_refused_with_the_reason() {
        for text in
            ["", "secret", "$5$abc", "$2b$10$short", "$7$101$salt", "$7$0$c2FsdA==$c2FsdA=="]
        {
            assert!(PasswordHash::parse(text).is_err(), "{text}");
        }
        let salt_and_digest = "c2FsdHNhbHQ$TTVuIG9uZSBsb25nIGRpZ2VzdCBvZiAzMiBieXRlcyE";
        for expensive in ["m=1048576,t=1", "m=64,t=1000"] {
            let text = format!("$argon2id$v=19${expensive},p=1${salt_and_digest}");
            let refused = PasswordHash::parse(&text);
            assert!(matches!(refused, Err(InvalidHash::TooExpensive(_))), "{refused:?}");
        }
        let refused =
            PasswordHash::parse("$2b$20$abcdefghijklmnopqrstuuKCUB8RjMqrLNvpJhEXDgcYjzVr0fVgi");
        assert!(matches!(refused, Err(InvalidHash::TooExpensive(_))), "{refused:?}");
    }

    #[test]
    fn a_proof_is_of_one_password_and_of_one_process() {
        let (key, other) = (ProofKey::random(), ProofKey::random());
        let proof = key.proof(b"secret");
        assert!(key.is_of(&proof, b"secret") && !key.is_of(&proof, b"secre"));
        assert!(!other.is_of(&proof, b"secret"));
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let hasher = Hasher::new(CHEAP, 1, 2);
        let hash = PasswordHash::new(b"secret", CHEAP).unwrap();
        let ask = |password: &'static [u8]| hasher.is_of(Some(hash.clone()), password);
        let (right, wrong, beyond) = tokio::join!(ask(b"secret"), ask(b"wrong"), ask(b"secret"));
        assert_eq!((right, wrong), (Ok(true), Ok(false)));
        assert!(beyond.is_err());
        assert_eq!(hasher.is_of(None, b"secret").await, Ok(false), "there is none");
        let lengths = hasher.each(vec![b"a".to_vec(); 50], |password, _| password.len()).await;
        assert_eq!(lengths, [Some(1); 50]);
    }
}
