//! The registry: all devices of all products, in memory, found by name, user name, serial number
//! and certificate; and their way into the store.
//!
//! A change holds in memory first and is handed to the store under the same lock, so that the store
//! has changes of one device in the order in which they were made. What the store does not take is
//! taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use portreeve_store::{Changes, DeviceRecord, NotStored, Store, Submission};

use super::password::{PasswordHash, ProofKey};
use super::{
    Certified, CheckedSpec, ConfiguredDevice, Credentials, Device, DeviceName, Entry, Origin,
    Standing, stored,
};
use crate::permissions::Grant;

mod index;

use index::Entries;

/// Devices whose last connection waits to be stored; more are stored when they connect again.
const SEEN_MAX: usize = 100_000;

/// All devices of all products.
#[derive(Debug)]
pub struct Registry {
    devices_max: usize,
    store: Option<Arc<Store>>,
    key: ProofKey,
    entries: RwLock<Entries>,
    seen: Mutex<Vec<Arc<Entry>>>,
    /// When what was seen was stored last, in seconds since 1970.
    seen_stored_at: AtomicU64,
}

/// Why a device that was verified is not admitted all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("device {0} is disabled")]
    Disabled(DeviceName),
    #[error(
        "the verifier's name {0} is that of an imported device; taken_names = \"admit\" of the gateway lets it in"
    )]
    Taken(DeviceName),
    #[error("the registry is full: {0} devices")]
    Full(usize),
    #[error(transparent)]
    NotStored(#[from] NotStored),
}

/// Why a device is not as an operator wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotChanged {
    #[error("there is no device {0} in product {1:?}")]
    Unknown(DeviceName, String),
    #[error("there is a device {0} already")]
    Exists(DeviceName),
    #[error("{key} {value:?} is that of device {owner}")]
    Taken { key: &'static str, value: String, owner: DeviceName },
    #[error("device {0} stands in the configuration; change it there")]
    Configured(DeviceName),
    #[error("{0}")]
    Invalid(String),
    #[error("the registry is full: {0} devices ([limits] devices_max)")]
    Full(usize),
}

/// What a verifier says of a device.
pub(crate) struct Admitting {
    pub(crate) name: DeviceName,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) permissions: Option<Box<[Grant]>>,
    /// Whether it may take the name of an imported device.
    pub(crate) may_be_taken: bool,
    /// Whether a disabled device is enabled by it.
    pub(crate) enables: bool,
}

/// A device that a verifier let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) entry: Arc<Entry>,
    pub(crate) is_new: bool,
    /// Where its entry has to be stored.
    pub(crate) pending: Option<Pending>,
}

/// Who a CONNECT may be.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) entry: Arc<Entry>,
    /// Its certificate is that of the device.
    pub(crate) is_certified: bool,
}

/// What became of a device that an operator wants otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    Created,
    Updated,
    Unchanged,
    Deleted,
}

/// A change of one device.
pub(crate) struct Change {
    pub(crate) product: String,
    pub(crate) name: DeviceName,
    pub(crate) what: What,
}

/// What is to become of a device.
pub(crate) enum What {
    /// It is new.
    Add(Said),
    /// It is changed; it must be there.
    Change(Said),
    /// Either.
    Import(Said),
    /// It is deleted.
    Delete,
}

/// What is said of a device, with the hash of its password.
pub(crate) struct Said {
    pub(crate) spec: CheckedSpec,
    pub(crate) password: Option<Option<PasswordHash>>,
}

/// Changes on their way to the store.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    submission: Option<Submission>,
    undo: Vec<Undo>,
}

#[derive(Debug)]
struct Undo {
    before: Option<Arc<Entry>>,
    after: Option<Arc<Entry>>,
}

impl Pending {
    /// Waits until the changes are stored; what is not is taken back.
    ///
    /// # Errors
    /// [`NotStored`]; then the registry is as it was.
    pub(crate) async fn stored(self, registry: &Registry) -> Result<(), NotStored> {
        let Some(submission) = self.submission else { return Ok(()) };
        let stored = submission.stored().await;
        if stored.is_err() {
            registry.entries.write().take_back(self.undo);
        }
        stored
    }
}

/// What a batch of changes came to.
pub(crate) struct Batch {
    /// In the order of the changes.
    pub(crate) results: Vec<Result<Changed, NotChanged>>,
    /// Devices whose sessions have to end.
    pub(crate) ended: Vec<Arc<Device>>,
    pub(crate) pending: Pending,
}

/// Which devices are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) product: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) enabled: Option<bool>,
    pub(crate) origin: Option<Origin>,
    pub(crate) user_name: Option<String>,
    pub(crate) serial_number: Option<String>,
    /// Product and name of the last one of the page before.
    pub(crate) after: Option<(String, String)>,
}

/// Devices in the order of products and names.
pub(crate) struct Page {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Product and name of the last one that was looked at, where there are more.
    pub(crate) next: Option<(String, String)>,
}

impl Registry {
    /// An empty registry that holds at most `devices_max`.
    #[must_use]
    pub fn new(devices_max: usize, store: Option<Arc<Store>>) -> Self {
        Self {
            devices_max,
            store,
            key: ProofKey::random(),
            entries: RwLock::default(),
            seen: Mutex::default(),
            seen_stored_at: AtomicU64::new(0),
        }
    }

    pub(crate) const fn key(&self) -> &ProofKey {
        &self.key
    }

    /// Adds a device of the configuration.
    ///
    /// # Errors
    /// What it has in common with another one, or that there is no room for it.
    pub(crate) fn configure(&self, configured: &ConfiguredDevice) -> Result<(), NotChanged> {
        let ConfiguredDevice { device, serial_number, user_name, password, certificate } =
            configured;
        let standing = Standing::default();
        if !password.is_empty() {
            standing.prove(self.key.proof(password));
        }
        let text = |text: &str| (!text.is_empty()).then(|| Box::<str>::from(text));
        let entry = Entry {
            device: Arc::new(device.clone()),
            credentials: Credentials {
                serial_number: serial_number.as_deref().and_then(text),
                user_name: text(user_name),
                password: None,
                certificate: certificate.clone().map(Box::new),
            },
            created_at: 0,
            standing: Arc::new(standing),
        };
        let mut entries = self.entries.write();
        entries.check(&entry)?;
        let before = entries.find(&device.product, device.name.as_str()).map(Arc::clone);
        if before.is_none() && entries.count() >= self.devices_max {
            return Err(NotChanged::Full(self.devices_max));
        }
        entries.set(before.as_ref(), Some(&Arc::new(entry)));
        Ok(())
    }

    /// Puts a device back that was stored. One that stands in the configuration goes first.
    ///
    /// # Errors
    /// Why it cannot be put back; `None` for a record that cannot be read.
    pub(crate) fn restore(
        &self,
        record: DeviceRecord,
        seen_at: Option<u64>,
    ) -> Result<(), Option<NotChanged>> {
        let mut entries = self.entries.write();
        let product = entries.product_name(&record.product);
        let entry = stored::entry(record, product, seen_at).ok_or(None)?;
        let device = &entry.device;
        if entries.find(&device.product, device.name.as_str()).is_some() {
            return Ok(());
        }
        if entries.count() >= self.devices_max {
            return Err(Some(NotChanged::Full(self.devices_max)));
        }
        entries.check(&entry).map_err(Some)?;
        entries.set(None, Some(&Arc::new(entry)));
        Ok(())
    }

    /// The device that these may be of: by its certificate, otherwise by its user name. One that has
    /// to have a certificate is not found without.
    pub(crate) fn candidate(
        &self,
        product: &str,
        user_name: &str,
        certificate: Option<Certified<'_>>,
    ) -> Option<Candidate> {
        let entries = self.entries.read();
        let place = entries.product(product)?;
        if let Some(entry) = certificate.and_then(|shown| place.certified(shown)) {
            return Some(Candidate { entry: Arc::clone(entry), is_certified: true });
        }
        let entry = place.by_user_name(user_name)?;
        let may = entry.credentials.certificate.is_none();
        may.then(|| Candidate { entry: Arc::clone(entry), is_certified: false })
    }

    /// The entry of a device that a verifier admitted; created and enabled if there is none.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub(crate) fn admit(
        &self,
        product: &str,
        admitting: Admitting,
    ) -> Result<Admitted, NotAdmitted> {
        if let Some(entry) = self.find(product, admitting.name.as_str())
            && admissible(&entry, &admitting)?
        {
            return Ok(Admitted { entry, is_new: false, pending: None });
        }
        let mut entries = self.entries.write();
        // It may have changed since it was looked at.
        let before = entries.find(product, admitting.name.as_str()).map(Arc::clone);
        if let Some(entry) = &before
            && admissible(entry, &admitting)?
        {
            return Ok(Admitted { entry: Arc::clone(entry), is_new: false, pending: None });
        }
        if before.is_none() && entries.count() >= self.devices_max {
            return Err(NotAdmitted::Full(self.devices_max));
        }
        let Admitting { name, attributes, permissions, .. } = admitting;
        let product = entries.product_name(product).unwrap_or_else(|| product.into());
        let origin = before.as_ref().map_or(Origin::AutoCreated, |entry| entry.device.origin);
        let device = Device { name, product, attributes, permissions, enabled: true, origin };
        let entry = Arc::new(Entry {
            device: Arc::new(device),
            credentials: before.as_ref().map(|entry| entry.credentials.clone()).unwrap_or_default(),
            created_at: before.as_ref().map_or_else(now, |entry| entry.created_at),
            standing: match before.as_ref().filter(|entry| entry.device.enabled) {
                Some(entry) => Arc::clone(&entry.standing),
                None => Arc::default(),
            },
        });
        entries.set(before.as_ref(), Some(&entry));
        let is_new = before.is_none();
        let undo = vec![Undo { before, after: Some(Arc::clone(&entry)) }];
        let pending = self.submit(&mut entries, undo)?;
        Ok(Admitted { entry, is_new, pending: Some(pending) })
    }

    /// Makes changes, each for itself; `dry_run` says what would become of them.
    ///
    /// # Errors
    /// [`NotStored`]; then the registry is as it was.
    pub(crate) fn change(&self, changes: Vec<Change>, dry_run: bool) -> Result<Batch, NotStored> {
        let mut undo = Vec::new();
        let mut ended = Vec::new();
        let mut entries = self.entries.write();
        let mut apply = |change: Change| {
            let applied = entries.apply(change, self.devices_max)?;
            let (before, after, changed) = applied;
            if changed != Changed::Unchanged {
                let has_to_go = |before: &&Arc<Entry>| {
                    after
                        .as_ref()
                        .is_none_or(|after| !Arc::ptr_eq(&after.standing, &before.standing))
                };
                ended.extend(before.iter().filter(has_to_go).map(Arc::clone));
                undo.push(Undo { before, after });
            }
            Ok(changed)
        };
        let results: Vec<_> = changes.into_iter().map(&mut apply).collect();
        if dry_run {
            entries.take_back(undo);
            return Ok(Batch { results, ended: Vec::new(), pending: Pending::default() });
        }
        let pending = self.submit(&mut entries, undo)?;
        drop(entries);
        // Before anybody looks for their sessions: who comes in meanwhile sees it.
        ended.iter().for_each(|entry| entry.standing.end());
        let ended = ended.iter().map(|entry| Arc::clone(&entry.device)).collect();
        Ok(Batch { results, ended, pending })
    }

    /// Hands what was changed to the store; what it does not take at once is taken back.
    fn submit(&self, entries: &mut Entries, undo: Vec<Undo>) -> Result<Pending, NotStored> {
        let Some(store) = self.store.as_ref().filter(|_| !undo.is_empty()) else {
            return Ok(Pending::default());
        };
        let mut changes = Changes::default();
        for Undo { before, after } in &undo {
            match (after, before) {
                (Some(after), _) if after.device.origin == Origin::Configured => {}
                (Some(after), _) => changes.put_device(&stored::record(after)),
                (None, Some(before)) => {
                    changes.remove_device(&before.device.product, before.device.name.as_str());
                }
                (None, None) => {}
            }
        }
        if changes.is_empty() {
            return Ok(Pending::default());
        }
        match store.submit(changes) {
            Ok(submission) => Ok(Pending { submission: Some(submission), undo }),
            Err(error) => {
                entries.take_back(undo);
                Err(error)
            }
        }
    }

    /// The entry of a device.
    pub(crate) fn find(&self, product: &str, name: &str) -> Option<Arc<Entry>> {
        self.entries.read().find(product, name).map(Arc::clone)
    }

    /// Devices of one page, at most `limit`.
    pub(crate) fn page(&self, filter: &Filter, limit: usize) -> Page {
        self.entries.read().page(filter, limit)
    }

    /// Products with the number of their devices.
    pub(crate) fn products(&self) -> Vec<(Arc<str>, usize)> {
        self.entries.read().products().map(|(name, place)| (name, place.count())).collect()
    }

    /// Notes that a device connected.
    pub(crate) fn saw(&self, entry: &Arc<Entry>) {
        let before = entry.standing.saw(now());
        if self.store.is_some()
            && before <= self.seen_stored_at.load(Ordering::Relaxed)
            && entry.device.origin != Origin::Configured
        {
            let mut seen = self.seen.lock();
            if seen.len() < SEEN_MAX {
                seen.push(Arc::clone(entry));
            }
        }
    }

    /// Has the store note when devices connected last.
    pub(crate) fn store_seen(&self) {
        let Some(store) = &self.store else { return };
        self.seen_stored_at.store(now(), Ordering::Relaxed);
        let mut changes = Changes::default();
        for entry in std::mem::take(&mut *self.seen.lock()) {
            let device = &entry.device;
            changes.device_seen(&device.product, device.name.as_str(), entry.standing.last_seen());
        }
        store.note(changes);
    }

    /// How many devices there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.read().count()
    }
}

/// Whether a device is admitted as it is; otherwise its entry has to be changed.
fn admissible(entry: &Entry, admitting: &Admitting) -> Result<bool, NotAdmitted> {
    let device = &entry.device;
    if entry.has_credentials() && !admitting.may_be_taken {
        return Err(NotAdmitted::Taken(device.name.clone()));
    }
    if !device.enabled && !admitting.enables {
        return Err(NotAdmitted::Disabled(device.name.clone()));
    }
    Ok(device.enabled
        && device.attributes == admitting.attributes
        && device.permissions == admitting.permissions)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
