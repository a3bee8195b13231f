//! The registry of devices. In memory, behind the functions that a durable store will offer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

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
    /// It stands in the configuration.
    Imported,
    /// A verifier admitted it.
    AutoCreated,
}

/// A registered device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name, unique within its product.
    pub name: DeviceName,
    /// The product that it belongs to.
    pub product: Arc<str>,
    /// Given to parsers.
    pub attributes: Vec<(String, String)>,
    /// Whether it may connect.
    pub enabled: bool,
    /// How it came into the registry.
    pub origin: Origin,
}

/// A device with what it proves itself by.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportedDevice {
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

/// What a device's certificate has to be. That it was verified goes without saying.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateMatch {
    /// This very certificate: SHA-256 of its DER.
    Fingerprint([u8; 32]),
    /// Any with this common name.
    CommonName(String),
}

/// A verified certificate, as far as devices are told by it.
#[derive(Debug, Clone, Copy)]
pub struct Certified<'a> {
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// The common name of its subject.
    pub common_name: Option<&'a str>,
}

impl fmt::Debug for ImportedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportedDevice").field("device", &self.device).finish_non_exhaustive()
    }
}

/// A device that a verifier let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its entry.
    pub device: Arc<Device>,
    /// Whether the entry is new or has changed.
    pub is_changed: bool,
}

/// Why a device that was verified is not admitted all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Its entry is disabled.
    #[error("device {0} is disabled")]
    Disabled(DeviceName),
    /// There is no room for another entry.
    #[error("the registry is full: {0} devices")]
    Full(usize),
}

/// All devices of all products.
#[derive(Debug)]
pub struct Registry {
    devices_max: usize,
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_product: HashMap<Arc<str>, HashMap<DeviceName, Arc<Device>>>,
    count: usize,
    credentials: HashMap<(Arc<str>, String), Arc<Credentials>>,
    by_certificate: HashMap<(Arc<str>, CertificateMatch), Arc<Credentials>>,
}

struct Credentials {
    device_name: DeviceName,
    user_name: String,
    password: Vec<u8>,
    certificate: Option<CertificateMatch>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("device_name", &self.device_name)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry that holds at most `devices_max`.
    #[must_use]
    pub fn new(devices_max: usize) -> Self {
        Self { devices_max, entries: RwLock::default() }
    }

    /// Adds a device with its credentials, or replaces it.
    ///
    /// # Errors
    /// [`NotAdmitted::Full`].
    pub fn import(&self, imported: ImportedDevice) -> Result<(), NotAdmitted> {
        let mut entries = self.entries.write();
        let ImportedDevice { device, user_name, password, certificate, .. } = imported;
        let product = device.product.clone();
        let device_name = device.name.clone();
        entries.insert(Arc::new(device), self.devices_max)?;
        let credentials = Arc::new(Credentials { device_name, user_name, password, certificate });
        if let Some(certificate) = &credentials.certificate {
            let key = (product.clone(), certificate.clone());
            entries.by_certificate.insert(key, Arc::clone(&credentials));
        }
        if !credentials.user_name.is_empty() {
            entries.credentials.insert((product, credentials.user_name.clone()), credentials);
        }
        Ok(())
    }

    /// The device whose user name, password and certificate these are. Takes the same time for a
    /// wrong password and for an unknown user name of the same length.
    #[must_use]
    pub fn authenticate(
        &self,
        product: &str,
        user_name: &str,
        password: &[u8],
        certificate: Option<Certified<'_>>,
    ) -> Option<Arc<Device>> {
        let entries = self.entries.read();
        let by_certificate = certificate.and_then(|shown| entries.certified(product, shown));
        let credentials = match by_certificate {
            Some(certified) if certified.password.is_empty() => certified,
            Some(certified) => Some(certified).filter(|certified| {
                same(&certified.password, password) && certified.user_name == user_name
            })?,
            None => {
                let named = entries.credentials.get(&(product.into(), user_name.to_owned()));
                let expected = named.map_or(b"".as_slice(), |credentials| &credentials.password);
                let is_right = same(expected, password);
                // One that has to have a certificate does not come in without.
                named.filter(|named| is_right && named.certificate.is_none())?
            }
        };
        entries.by_product.get(product)?.get(&credentials.device_name).map(Arc::clone)
    }

    /// The entry of a device that a verifier admitted; created and enabled if there is none.
    ///
    /// # Errors
    /// [`NotAdmitted`] when the entry is disabled or there is no room for one.
    pub fn admit(
        &self,
        product: &str,
        name: DeviceName,
        attributes: Vec<(String, String)>,
    ) -> Result<Admitted, NotAdmitted> {
        if let Some(device) = self.find(product, &name) {
            if !device.enabled {
                return Err(NotAdmitted::Disabled(name));
            }
            if device.attributes == attributes {
                return Ok(Admitted { device, is_changed: false });
            }
        }
        let mut entries = self.entries.write();
        let known = entries.by_product.get_key_value(product);
        let entry = known.and_then(|(_, devices)| devices.get(&name));
        if entry.is_some_and(|device| !device.enabled) {
            // Disabled since it was looked up.
            return Err(NotAdmitted::Disabled(name));
        }
        let origin = entry.map_or(Origin::AutoCreated, |device| device.origin);
        let product = known.map_or_else(|| product.into(), |(product, _)| Arc::clone(product));
        let device = Arc::new(Device { name, product, attributes, enabled: true, origin });
        entries.insert(Arc::clone(&device), self.devices_max)?;
        Ok(Admitted { device, is_changed: true })
    }

    /// Puts a device back that was stored. One that stands in the configuration goes first.
    ///
    /// # Errors
    /// [`NotAdmitted::Full`].
    pub fn restore(&self, device: Device) -> Result<(), NotAdmitted> {
        let mut entries = self.entries.write();
        if entries
            .by_product
            .get(&device.product)
            .is_some_and(|devices| devices.contains_key(&device.name))
        {
            return Ok(());
        }
        entries.insert(Arc::new(device), self.devices_max)
    }

    /// The entry of a device.
    #[must_use]
    pub fn find(&self, product: &str, name: &DeviceName) -> Option<Arc<Device>> {
        self.entries.read().by_product.get(product)?.get(name).map(Arc::clone)
    }

    /// How many devices there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.read().count
    }
}

impl Entries {
    /// Who has to have this certificate.
    fn certified(&self, product: &str, shown: Certified<'_>) -> Option<&Arc<Credentials>> {
        let of = |wanted: CertificateMatch| self.by_certificate.get(&(product.into(), wanted));
        of(CertificateMatch::Fingerprint(shown.fingerprint))
            .or_else(|| of(CertificateMatch::CommonName(shown.common_name?.to_owned())))
    }

    fn insert(&mut self, device: Arc<Device>, devices_max: usize) -> Result<(), NotAdmitted> {
        let devices = self.by_product.entry(device.product.clone()).or_default();
        if !devices.contains_key(&device.name) {
            if self.count >= devices_max {
                return Err(NotAdmitted::Full(devices_max));
            }
            self.count += 1;
        }
        devices.insert(device.name.clone(), device);
        Ok(())
    }
}

/// Compares without telling by its time where the difference is.
fn same(expected: &[u8], given: &[u8]) -> bool {
    let mut difference = u8::from(expected.len() != given.len());
    for (index, byte) in given.iter().enumerate() {
        difference |= byte ^ expected.get(index).copied().unwrap_or(!byte);
    }
    difference == 0 && !expected.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{
        CertificateMatch, Certified, Device, DeviceName, ImportedDevice, NotAdmitted, Origin,
        Registry,
    };

    fn name(text: &str) -> DeviceName {
        DeviceName::parse(text).unwrap()
    }

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
    fn an_admitted_device_is_created_once_and_keeps_its_latest_attributes() {
        let registry = Registry::new(1);
        let first = registry.admit("p", name("dev-1"), vec![]).unwrap().device;
        assert_eq!(first.origin, Origin::AutoCreated);
        let attributes = vec![("site".to_owned(), "7".to_owned())];
        let again = registry.admit("p", name("dev-1"), attributes.clone()).unwrap().device;
        assert_eq!((again.attributes.clone(), registry.count()), (attributes, 1));
        assert_eq!(registry.admit("p", name("dev-2"), vec![]), Err(NotAdmitted::Full(1)));
    }

    #[test]
    fn an_imported_device_is_known_by_user_name_and_password_in_its_product() {
        let registry = Registry::new(9);
        let device = Device {
            name: name("dev-1"),
            product: "p".into(),
            attributes: vec![],
            enabled: true,
            origin: Origin::Imported,
        };
        let password = b"secret".to_vec();
        let user_name = "user".to_owned();
        registry
            .import(ImportedDevice {
                device,
                serial_number: None,
                user_name,
                password,
                certificate: None,
            })
            .unwrap();
        assert!(registry.authenticate("p", "user", b"secret", None).is_some());
        for (product, user_name, password) in [
            ("p", "user", "Secret"),
            ("p", "user", ""),
            ("p", "usr", "secret"),
            ("q", "user", "secret"),
        ] {
            assert!(registry.authenticate(product, user_name, password.as_bytes(), None).is_none());
        }
    }

    #[test]
    fn a_device_that_has_to_have_a_certificate_does_not_come_in_without() {
        let registry = Registry::new(9);
        let import = |device_name: &str, user_name: &str, password: &[u8], certificate| {
            let device = Device {
                name: name(device_name),
                product: "p".into(),
                attributes: vec![],
                enabled: true,
                origin: Origin::Imported,
            };
            let (user_name, password) = (user_name.to_owned(), password.to_vec());
            let certificate = Some(certificate);
            registry
                .import(ImportedDevice {
                    device,
                    serial_number: None,
                    user_name,
                    password,
                    certificate,
                })
                .unwrap();
        };
        import("dev-1", "", b"", CertificateMatch::CommonName("dev-1".to_owned()));
        import("dev-2", "user", b"secret", CertificateMatch::Fingerprint([7; 32]));
        let shown = |byte, common_name| Some(Certified { fingerprint: [byte; 32], common_name });
        let who = |user_name: &str, password: &str, shown| {
            let device = registry.authenticate("p", user_name, password.as_bytes(), shown);
            device.map(|device| device.name.as_str().to_owned())
        };
        assert_eq!(who("", "", shown(1, Some("dev-1"))).as_deref(), Some("dev-1"));
        assert_eq!(who("other", "x", shown(1, Some("dev-1"))).as_deref(), Some("dev-1"));
        assert_eq!(who("", "", shown(1, Some("dev-2"))), None);
        assert_eq!(who("", "", None), None);
        assert_eq!(who("user", "secret", shown(7, None)).as_deref(), Some("dev-2"));
        assert_eq!(who("user", "wrong", shown(7, None)), None);
        assert_eq!(who("", "", shown(7, None)), None);
        assert_eq!(who("user", "secret", None), None);
        assert_eq!(who("user", "secret", shown(8, None)), None);
    }
}
