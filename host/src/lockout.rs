//! Who failed too often to prove a device, and until when nobody is asked for them: a device from one
//! address, an address whatever it says, and a device from wherever.
//!
//! It holds for names that nobody has as for others, so that it tells nothing. What is kept are
//! hashes under a random key, and so many of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Entries of one of the two generations that are kept: when the newer one is full, the older one
/// is forgotten.
const ENTRIES_MAX: usize = 100_000;
/// Doublings of the time that has to pass.
const DOUBLINGS_MAX: u32 = 20;
/// Bits of an IPv6 address that tell networks apart: below, one peer has all of them.
const IPV6_NETWORK_BITS: u32 = 64;

/// `[lockout]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// Failures of a device from one address before it has to wait; 0 turns it off.
    pub device_failures: u32,
    /// Failures of a device from all addresses; 0 turns it off.
    pub device_failures_anywhere: u32,
    /// Failures of an address, whatever device it says it is; 0 turns it off.
    pub address_failures: u32,
    /// The first time to wait; it doubles with each failure after that.
    pub back_off: Duration,
    /// The longest.
    pub back_off_max: Duration,
    /// After which time without failures they are forgotten.
    pub forget_after: Duration,
}

impl Default for LockoutPolicy {
    fn default() -> Self {
        Self {
            device_failures: 10,
            device_failures_anywhere: 100,
            address_failures: 1_000,
            back_off: Duration::from_secs(1),
            back_off_max: Duration::from_secs(300),
            forget_after: Duration::from_secs(600),
        }
    }
}

/// Failures that are remembered.
#[derive(Debug)]
pub(crate) struct Lockout {
    policy: LockoutPolicy,
    hasher: RandomState,
    failures: Mutex<Remembered<Failed>>,
    /// The address at which each device was proven last.
    proven: Mutex<Remembered<u64>>,
}

/// The newer and the older half of what is remembered.
#[derive(Debug)]
struct Remembered<T> {
    newer: HashMap<u64, T>,
    older: HashMap<u64, T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { newer: HashMap::new(), older: HashMap::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    count: u32,
    last: Instant,
    until: Instant,
}

/// Who tries: hashes of the device's name and address, of the address, and of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    here: u64,
    address: u64,
    anywhere: u64,
}

impl Lockout {
    pub(crate) fn new(policy: LockoutPolicy) -> Self {
        let (failures, proven) = (Mutex::default(), Mutex::default());
        Self { policy, hasher: RandomState::new(), failures, proven }
    }

    /// The attempt of an address to be the device that `name` is told by.
    pub(crate) fn attempt(&self, product: &str, name: &str, address: IpAddr) -> Attempt {
        let network = network(address);
        Attempt {
            here: self.hasher.hash_one((0_u8, product, name, network)),
            address: self.hasher.hash_one((1_u8, network)),
            anywhere: self.hasher.hash_one((2_u8, product, name)),
        }
    }

    /// Whether the attempt may be made. What others try does not lock a device out of where it was
    /// proven last.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(crate) fn check(&self, attempt: Attempt, now: Instant) -> Result<(), Duration> {
        let is_known = self.proven.lock().find(attempt.anywhere) == Some(attempt.address);
        let failures = self.failures.lock();
        let all = [attempt.here, attempt.address, attempt.anywhere];
        let keys = if is_known { &all[..1] } else { &all[..] };
        let until = keys.iter().filter_map(|key| Some(failures.find(*key)?.until)).max();
        match until.and_then(|until| until.checked_duration_since(now)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// The attempt failed.
    pub(crate) fn failed(&self, attempt: Attempt, now: Instant) {
        let LockoutPolicy { device_failures, device_failures_anywhere, address_failures, .. } =
            self.policy;
        let bounds = [
            (attempt.here, device_failures),
            (attempt.address, address_failures),
            (attempt.anywhere, device_failures_anywhere),
        ];
        let mut failures = self.failures.lock();
        for (key, max) in bounds.into_iter().filter(|(_, max)| *max > 0) {
            let known = failures.find(key).filter(|failed| {
                now.saturating_duration_since(failed.last) < self.policy.forget_after
            });
            let count = known.map_or(0, |failed| failed.count).saturating_add(1);
            let wait = match count.checked_sub(max) {
                None => Duration::ZERO,
                Some(beyond) => {
                    let doubled = 2_u32.saturating_pow(beyond.min(DOUBLINGS_MAX));
                    self.policy.back_off.saturating_mul(doubled).min(self.policy.back_off_max)
                }
            };
            failures.set(key, Failed { count, last: now, until: now + wait });
        }
    }

    /// The attempt succeeded: the device's failures from this address are forgotten.
    pub(crate) fn succeeded(&self, attempt: Attempt) {
        self.proven.lock().set(attempt.anywhere, attempt.address);
        let mut failures = self.failures.lock();
        if !failures.newer.is_empty() || !failures.older.is_empty() {
            failures.newer.remove(&attempt.here);
            failures.older.remove(&attempt.here);
        }
    }
}

impl<T: Copy> Remembered<T> {
    fn find(&self, key: u64) -> Option<T> {
        self.newer.get(&key).or_else(|| self.older.get(&key)).copied()
    }

    fn set(&mut self, key: u64, value: T) {
        if self.newer.len() >= ENTRIES_MAX && !self.newer.contains_key(&key) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, value);
    }
}

/// What stands for one peer: an IPv4 address, or the network of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => {
                let bits = u128::from(address) >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS;
                IpAddr::V6(Ipv6Addr::from(bits))
            }
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{ENTRIES_MAX, Lockout, LockoutPolicy};

    const POLICY: LockoutPolicy = LockoutPolicy {
        device_failures: 3,
        device_failures_anywhere: 5,
        address_failures: 8,
        back_off: Duration::from_secs(1),
        back_off_max: Duration::from_secs(10),
        forget_after: Duration::from_secs(60),
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_device_that_fails_often_waits_longer_each_time_and_not_for_ever() {
        let lockout = Lockout::new(POLICY);
        let mut now = Instant::now();
        let attempt = lockout.attempt("p", "device-1", address(1));
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = lockout.check(attempt, now).err().unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            lockout.failed(attempt, now);
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 10, 10]);
        assert!(lockout.check(attempt, now + Duration::from_secs(11)).is_ok());
        lockout.succeeded(attempt);
        assert!(lockout.check(attempt, now).is_ok(), "it proved itself");
    }

    #[test]
    fn what_others_try_does_not_lock_a_device_out_of_where_it_is() {
        let lockout = Lockout::new(POLICY);
        let now = Instant::now();
        for last in 10..20 {
            lockout.failed(lockout.attempt("p", "device-1", address(last)), now);
        }
        let elsewhere = lockout.attempt("p", "device-1", address(1));
        assert!(lockout.check(elsewhere, now).is_err());
        lockout.succeeded(elsewhere);
        assert!(lockout.check(elsewhere, now).is_ok());
        let of_another_product = lockout.attempt("q", "device-1", address(1));
        assert!(lockout.check(of_another_product, now).is_ok());
    }

    #[test]
    fn an_address_that_tries_names_waits_and_so_does_its_ipv6_network() {
        let lockout = Lockout::new(POLICY);
        let now = Instant::now();
        for (count, text) in (0..8).zip(["2001:db8::1", "2001:db8::2"].iter().cycle()) {
            let address = text.parse().unwrap();
            lockout.failed(lockout.attempt("p", &format!("name-{count}"), address), now);
        }
        let neighbour = lockout.attempt("p", "new", "2001:db8::3".parse().unwrap());
        assert!(lockout.check(neighbour, now).is_err());
        let other = lockout.attempt("p", "new", "2001:db8:0:1::3".parse().unwrap());
        assert!(lockout.check(other, now).is_ok());
        let later = now + Duration::from_secs(61);
        lockout.failed(neighbour, later);
        assert!(lockout.check(neighbour, later).is_ok(), "what is long ago is forgotten");
    }

    #[test]
    fn so_much_is_remembered_and_no_more() {
        let lockout = Lockout::new(POLICY);
        let now = Instant::now();
        for count in 0..ENTRIES_MAX {
            lockout.failed(lockout.attempt("p", &count.to_string(), address(1)), now);
        }
        let failures = lockout.failures.lock();
        assert!(failures.newer.len() + failures.older.len() <= 2 * ENTRIES_MAX);
    }
}
