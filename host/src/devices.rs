//! Devices: what the registry keeps of them, and what they prove themselves by.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::permissions::Grant;

pub mod import;
pub mod password;
mod registry;
mod spec;
mod stored;

use password::{PasswordHash, Proof};
pub use registry::Registry;
pub(crate) use registry::{
    Admitted, Admitting, Candidate, Change, Changed, Filter, NotAdmitted, NotChanged, Pending,
    Said, What,
};
pub(crate) use spec::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, CheckedSpec, PERMISSIONS_MAX, PRODUCT_BYTES_MAX,
};
pub use spec::{DeviceSpec, InvalidSpec, NewPassword};

/// A device name: 4 to 64 of `A-Z a-z 0-9 - _ @ . :`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(Box<str>);

/// A string that is no device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device name: 4 to 64 of A-Z a-z 0-9 - _ @ . :")]
pub struct InvalidDeviceName(String);

impl DeviceName {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`InvalidDeviceName`] with the text.
    pub fn parse(text: &str) -> Result<Self, InvalidDeviceName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@.:".contains(&byte);
        if (NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(NAME_BYTES_MAX).collect();
        Err(InvalidDeviceName(shown))
    }

    /// The name of a device that has none.
    #[must_use]
    pub fn unnamed() -> Self {
        Self("unnamed".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const NAME_BYTES_MIN: usize = 4;
const NAME_BYTES_MAX: usize = 64;

/// How a device came into the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It stands in the configuration, and changes with it alone.
    Configured,
    /// An operator imported or added it.
    Imported,
    /// A verifier admitted it.
    AutoCreated,
}

impl Origin {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Imported => "imported",
            Self::AutoCreated => "auto-created",
        }
    }
}

/// A registered device, as sessions and parsers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name, unique within its product.
    pub name: DeviceName,
    /// The product that it belongs to.
    pub product: Arc<str>,
    /// Given to parsers.
    pub attributes: Vec<(String, String)>,
    /// What it may do with topics; `None` where the gateway's rules hold.
    pub permissions: Option<Box<[Grant]>>,
    /// Whether it may connect.
    pub enabled: bool,
    /// How it came into the registry.
    pub origin: Origin,
}

impl Device {
    /// One that is known by its name alone, as where verification is open.
    #[must_use]
    pub const fn unregistered(name: DeviceName, product: Arc<str>) -> Self {
        Self {
            name,
            product,
            attributes: Vec::new(),
            permissions: None,
            enabled: true,
            origin: Origin::AutoCreated,
        }
    }
}

/// What a device proves itself by, and is found by.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) serial_number: Option<Box<str>>,
    pub(crate) user_name: Option<Box<str>>,
    pub(crate) password: Option<PasswordHash>,
    /// The certificate that it has to have.
    pub(crate) certificate: Option<Box<CertificateMatch>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user_name", &self.user_name).finish_non_exhaustive()
    }
}

/// An entry of the registry. What changes makes a new one.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) device: Arc<Device>,
    pub(crate) credentials: Credentials,
    /// Seconds since 1970; 0 where it is not known.
    pub(crate) created_at: u64,
    pub(crate) standing: Arc<Standing>,
}

impl Entry {
    /// The same with a standing that is not over: whoever was let in had to go, and may come back.
    pub(crate) fn renewed(&self) -> Self {
        Self {
            device: Arc::clone(&self.device),
            credentials: self.credentials.clone(),
            created_at: self.created_at,
            standing: Arc::new(self.standing.renewed()),
        }
    }

    /// Whether an operator gave it something to prove itself by: a verifier has no say about it.
    pub(crate) fn has_credentials(&self) -> bool {
        self.device.origin == Origin::Configured
            || self.credentials.password.is_some()
            || self.credentials.certificate.is_some()
    }

    /// Whether a password is needed beside what else it has.
    pub(crate) fn needs_password(&self) -> bool {
        self.credentials.password.is_some()
            || self.device.origin == Origin::Configured && self.standing.proof().is_some()
    }
}

/// What holds of a device while its credentials are what they are. Entries that differ in other
/// things share it.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The device was disabled or deleted, or has other credentials or permissions: who was let in
    /// before has to go.
    is_over: AtomicBool,
    /// Seconds since 1970; 0 is never.
    last_seen: AtomicU64,
    /// Of the password that was proven right. Boxed: most devices of a large registry are not
    /// there at the same time.
    proof: Mutex<Option<Box<Proof>>>,
}

impl Standing {
    pub(crate) fn seen_at(last_seen: u64) -> Self {
        Self { last_seen: AtomicU64::new(last_seen), ..Self::default() }
    }

    /// Whoever was let in before has to go.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Whether whoever was let in before has to go.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// When the device connected last, in seconds since 1970; 0 is never.
    pub(crate) fn last_seen(&self) -> u64 {
        self.last_seen.load(Ordering::Relaxed)
    }

    /// Notes that it connected. Returns when it did so before.
    pub(crate) fn saw(&self, at: u64) -> u64 {
        self.last_seen.swap(at, Ordering::Relaxed)
    }

    /// One that is not over, for an entry that is put back.
    fn renewed(&self) -> Self {
        let proof = self.proof.lock().clone();
        Self { proof: Mutex::new(proof), ..Self::seen_at(self.last_seen()) }
    }

    pub(crate) fn proof(&self) -> Option<Proof> {
        self.proof.lock().as_deref().copied()
    }

    pub(crate) fn prove(&self, proof: Proof) {
        *self.proof.lock() = Some(Box::new(proof));
    }
}

/// A device of the configuration, with what it proves itself by.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfiguredDevice {
    /// The registry entry.
    pub device: Device,
    /// Its serial number.
    pub serial_number: Option<String>,
    /// Its MQTT user name.
    pub user_name: String,
    /// Its MQTT password; empty where the certificate alone proves the device.
    pub password: Vec<u8>,
    /// The certificate that it has to have.
    pub certificate: Option<CertificateMatch>,
}

impl fmt::Debug for ConfiguredDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfiguredDevice").field("device", &self.device).finish_non_exhaustive()
    }
}

/// What a device's certificate has to be. That it was verified goes without saying.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateMatch {
    /// This very certificate: SHA-256 of its DER.
    Fingerprint([u8; 32]),
    /// Any with this common name.
    CommonName(String),
}

impl CertificateMatch {
    /// Reads a fingerprint as openssl prints it, with or without colons.
    #[must_use]
    pub fn fingerprint(text: &str) -> Option<Self> {
        let bytes = hex::decode(text.trim().replace(':', "")).ok()?;
        bytes.try_into().ok().map(Self::Fingerprint)
    }
}

/// A verified certificate, as far as devices are told by it.
#[derive(Debug, Clone, Copy)]
pub struct Certified<'a> {
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// The common name of its subject.
    pub common_name: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::{CertificateMatch, DeviceName};

    #[test]
    fn a_device_name_has_its_characters_and_length() {
        for good in ["dev-1", "a_b@c.d:e", "1234", &"x".repeat(64)] {
            assert!(DeviceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "a b c", "dév-1", "a/bc", "a+bc", &"x".repeat(65)] {
            assert!(DeviceName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let plain = "0a".repeat(32);
        let colons = ["0A"; 32].join(":");
        let expected = Some(CertificateMatch::Fingerprint([10; 32]));
        assert_eq!(CertificateMatch::fingerprint(&plain), expected);
        assert_eq!(CertificateMatch::fingerprint(&colons), expected);
        assert_eq!(CertificateMatch::fingerprint("0a0a"), None);
    }
}
