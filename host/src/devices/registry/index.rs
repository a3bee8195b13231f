//! Where entries are found: by name in order, by user name, serial number and certificate.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashTable;

use super::{
    Certified, Change, Changed, Credentials, Device, Entry, Filter, NotChanged, Origin, Page, Said,
    Standing, Undo, What, now,
};
use crate::devices::CertificateMatch;

/// Entries that a page looks at, so that a filter that nothing passes holds nobody up.
const LOOKED_AT_MAX: usize = 100_000;

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    products: BTreeMap<Arc<str>, Place>,
    count: usize,
}

/// The entries of one product.
#[derive(Debug, Default)]
pub(super) struct Place {
    by_name: BTreeSet<ByName>,
    by_user_name: Index,
    by_serial_number: Index,
    by_certificate: Index,
    hasher: RandomState,
}

/// An entry in the order of its name.
#[derive(Debug)]
struct ByName(Arc<Entry>);

impl ByName {
    fn name(&self) -> &str {
        self.0.device.name.as_str()
    }
}

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.name()
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name().cmp(other.name())
    }
}

/// Entries by the hash of a key that stands in them; the hash is kept, so that a table that grows
/// need not look at every entry.
#[derive(Debug, Default)]
struct Index(HashTable<(u64, Arc<Entry>)>);

impl Index {
    fn insert(&mut self, hash: u64, entry: &Arc<Entry>) {
        self.0.insert_unique(hash, (hash, Arc::clone(entry)), |(hash, _)| *hash);
    }

    fn remove(&mut self, hash: u64, entry: &Arc<Entry>) {
        if let Ok(found) = self.0.find_entry(hash, |(_, other)| Arc::ptr_eq(other, entry)) {
            found.remove();
        }
    }

    fn find(&self, hash: u64, is_it: impl Fn(&Entry) -> bool) -> Option<&Arc<Entry>> {
        self.0.find(hash, |(_, entry)| is_it(entry)).map(|(_, entry)| entry)
    }
}

impl Place {
    pub(super) fn count(&self) -> usize {
        self.by_name.len()
    }

    fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        self.by_name.get(name).map(|found| &found.0)
    }

    pub(super) fn by_user_name(&self, user_name: &str) -> Option<&Arc<Entry>> {
        self.by_user_name.find(self.hasher.hash_one(user_name), |entry| {
            entry.credentials.user_name.as_deref() == Some(user_name)
        })
    }

    fn by_serial_number(&self, serial_number: &str) -> Option<&Arc<Entry>> {
        self.by_serial_number.find(self.hasher.hash_one(serial_number), |entry| {
            entry.credentials.serial_number.as_deref() == Some(serial_number)
        })
    }

    fn by_certificate(&self, certificate: &CertificateMatch) -> Option<&Arc<Entry>> {
        self.by_certificate.find(self.hasher.hash_one(certificate), |entry| {
            entry.credentials.certificate.as_deref() == Some(certificate)
        })
    }

    /// Who has to have this certificate.
    pub(super) fn certified(&self, shown: Certified<'_>) -> Option<&Arc<Entry>> {
        let by_name = |name: &str| CertificateMatch::CommonName(name.to_owned());
        self.by_certificate(&CertificateMatch::Fingerprint(shown.fingerprint))
            .or_else(|| self.by_certificate(&by_name(shown.common_name?)))
    }

    fn insert(&mut self, entry: &Arc<Entry>) {
        let Credentials { serial_number, user_name, certificate, .. } = &entry.credentials;
        if let Some(user_name) = user_name {
            self.by_user_name.insert(self.hasher.hash_one(&**user_name), entry);
        }
        if let Some(serial_number) = serial_number {
            self.by_serial_number.insert(self.hasher.hash_one(&**serial_number), entry);
        }
        if let Some(certificate) = certificate {
            self.by_certificate.insert(self.hasher.hash_one(&**certificate), entry);
        }
        self.by_name.insert(ByName(Arc::clone(entry)));
    }

    fn remove(&mut self, entry: &Arc<Entry>) {
        let Credentials { serial_number, user_name, certificate, .. } = &entry.credentials;
        if let Some(user_name) = user_name {
            self.by_user_name.remove(self.hasher.hash_one(&**user_name), entry);
        }
        if let Some(serial_number) = serial_number {
            self.by_serial_number.remove(self.hasher.hash_one(&**serial_number), entry);
        }
        if let Some(certificate) = certificate {
            self.by_certificate.remove(self.hasher.hash_one(&**certificate), entry);
        }
        self.by_name.remove(entry.device.name.as_str());
    }
}

type Applied = (Option<Arc<Entry>>, Option<Arc<Entry>>, Changed);

impl Entries {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn product(&self, product: &str) -> Option<&Place> {
        self.products.get(product)
    }

    /// The name of a product as its devices share it.
    pub(super) fn product_name(&self, product: &str) -> Option<Arc<str>> {
        self.products.get_key_value(product).map(|(name, _)| Arc::clone(name))
    }

    pub(super) fn products(&self) -> impl Iterator<Item = (Arc<str>, &Place)> {
        self.products.iter().map(|(name, place)| (Arc::clone(name), place))
    }

    pub(super) fn find(&self, product: &str, name: &str) -> Option<&Arc<Entry>> {
        self.products.get(product)?.find(name)
    }

    /// Whether an entry has what another device is found by.
    pub(super) fn check(&self, entry: &Entry) -> Result<(), NotChanged> {
        let Some(place) = self.products.get(&entry.device.product) else { return Ok(()) };
        let Credentials { serial_number, user_name, certificate, .. } = &entry.credentials;
        let by_user_name = user_name
            .as_deref()
            .map(|text| (place.by_user_name(text), "user name", text.to_owned()));
        let by_serial_number = serial_number
            .as_deref()
            .map(|text| (place.by_serial_number(text), "serial number", text.to_owned()));
        let by_certificate = certificate.as_deref().map(|certificate| {
            let text = match certificate {
                CertificateMatch::Fingerprint(digest) => hex::encode(digest),
                CertificateMatch::CommonName(name) => name.clone(),
            };
            (place.by_certificate(certificate), "certificate", text)
        });
        let found = [by_user_name, by_serial_number, by_certificate];
        for (owner, key, value) in found.into_iter().flatten() {
            if let Some(owner) = owner.filter(|owner| owner.device.name != entry.device.name) {
                return Err(NotChanged::Taken { key, value, owner: owner.device.name.clone() });
            }
        }
        Ok(())
    }

    /// Puts `after` in the place of `before`.
    pub(super) fn set(&mut self, before: Option<&Arc<Entry>>, after: Option<&Arc<Entry>>) {
        let Some(product) = after.or(before).map(|entry| Arc::clone(&entry.device.product)) else {
            return;
        };
        let place = self.products.entry(product).or_default();
        if let Some(before) = before {
            place.remove(before);
            self.count = self.count.saturating_sub(1);
        }
        if let Some(after) = after {
            place.insert(after);
            self.count += 1;
        }
    }

    /// Undoes changes that nobody has changed again since.
    pub(super) fn take_back(&mut self, undo: Vec<Undo>) {
        for Undo { before, after } in undo.into_iter().rev() {
            let Some(entry) = after.as_ref().or(before.as_ref()) else { continue };
            let current = self.find(&entry.device.product, entry.device.name.as_str());
            let is_as_it_was_made = match (current, &after) {
                (Some(current), Some(after)) => Arc::ptr_eq(current, after),
                (None, None) => true,
                _ => false,
            };
            if is_as_it_was_made {
                // Who was let in before had to go already; from now on it is let in again.
                let renewed = before.as_ref().map(|before| {
                    let is_over = before.standing.is_over();
                    if is_over { Arc::new(before.renewed()) } else { Arc::clone(before) }
                });
                // What it is found by may be another one's by now.
                let renewed = renewed.filter(|entry| self.check(entry).is_ok());
                self.set(after.as_ref(), renewed.as_ref());
            }
        }
    }

    /// Makes one change. Returns the entry before and after it.
    pub(super) fn apply(
        &mut self,
        change: Change,
        devices_max: usize,
    ) -> Result<Applied, NotChanged> {
        let Change { product, name, what } = change;
        let before = self.find(&product, name.as_str()).map(Arc::clone);
        if let Some(entry) = &before
            && entry.device.origin == Origin::Configured
        {
            return Err(NotChanged::Configured(name));
        }
        let said = match (what, &before) {
            (What::Add(_), Some(_)) => return Err(NotChanged::Exists(name)),
            (What::Change(_) | What::Delete, None) => {
                return Err(NotChanged::Unknown(name, product));
            }
            (What::Delete, Some(_)) => {
                self.set(before.as_ref(), None);
                return Ok((before, None, Changed::Deleted));
            }
            (What::Add(said) | What::Change(said) | What::Import(said), _) => said,
        };
        let is_import = before.is_none() || said.makes_imported();
        let device = match &before {
            Some(entry) => (*entry.device).clone(),
            None if self.count >= devices_max => return Err(NotChanged::Full(devices_max)),
            None => {
                let product = self.product_name(&product).unwrap_or_else(|| product.into());
                Device { origin: Origin::Imported, ..Device::unregistered(name, product) }
            }
        };
        let entry = said.onto(device, before.as_deref(), is_import);
        if let Some(before) = before.as_ref().filter(|before| is_same(before, &entry)) {
            return Ok((None, Some(Arc::clone(before)), Changed::Unchanged));
        }
        self.check(&entry)?;
        if entry.needs_password() && entry.credentials.user_name.is_none() {
            let what = format!("device {} has a password and no user name", entry.device.name);
            return Err(NotChanged::Invalid(what));
        }
        let entry = Arc::new(entry);
        self.set(before.as_ref(), Some(&entry));
        let changed = if before.is_some() { Changed::Updated } else { Changed::Created };
        Ok((before, Some(entry), changed))
    }

    pub(super) fn page(&self, filter: &Filter, limit: usize) -> Page {
        let mut page = Page { entries: Vec::new(), next: None };
        let mut looked_at = 0;
        let mut last: Option<&Arc<Entry>> = None;
        for (product, place) in &self.products {
            if filter.product.as_deref().is_some_and(|wanted| wanted != &**product) {
                continue;
            }
            let after =
                filter.after.as_ref().map(|(product, name)| (product.as_str(), name.as_str()));
            let from = match after {
                Some((of, _)) if of > &**product => continue,
                Some((of, name)) if of == &**product => Bound::Excluded(name),
                _ => Bound::Included(filter.prefix.as_deref().unwrap_or_default()),
            };
            for entry in place.matching(filter, from) {
                looked_at += 1;
                if page.entries.len() >= limit || looked_at > LOOKED_AT_MAX {
                    page.next = last.map(|entry| {
                        let device = &entry.device;
                        (device.product.to_string(), device.name.to_string())
                    });
                    return page;
                }
                last = Some(entry);
                if filter.admits(entry) {
                    page.entries.push(Arc::clone(entry));
                }
            }
        }
        page
    }
}

impl Place {
    /// Entries behind `from` that may pass the filter, in the order of their names.
    fn matching<'a>(
        &'a self,
        filter: &'a Filter,
        from: Bound<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + 'a> {
        let single = match (&filter.user_name, &filter.serial_number) {
            (Some(user_name), _) => Some(self.by_user_name(user_name)),
            (None, Some(serial_number)) => Some(self.by_serial_number(serial_number)),
            (None, None) => None,
        };
        if let Some(found) = single {
            let is_behind = move |entry: &&Arc<Entry>| match from {
                Bound::Excluded(name) => entry.device.name.as_str() > name,
                _ => true,
            };
            return Box::new(found.into_iter().filter(is_behind));
        }
        let prefix = filter.prefix.as_deref().unwrap_or_default();
        let from = match from {
            // A page may be asked for from in front of the prefix.
            Bound::Excluded(name) if name < prefix => Bound::Included(prefix),
            other => other,
        };
        let ordered = self.by_name.range::<str, _>((from, Bound::Unbounded));
        Box::new(
            ordered
                .map(|named| &named.0)
                .take_while(move |entry| entry.device.name.as_str().starts_with(prefix)),
        )
    }
}

impl Filter {
    fn admits(&self, entry: &Entry) -> bool {
        let Credentials { serial_number, user_name, .. } = &entry.credentials;
        let is = |wanted: &Option<String>, text: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| text == Some(wanted))
        };
        self.enabled.is_none_or(|enabled| enabled == entry.device.enabled)
            && self.origin.is_none_or(|origin| origin == entry.device.origin)
            && is(&self.user_name, user_name.as_deref())
            && is(&self.serial_number, serial_number.as_deref())
            && self
                .prefix
                .as_deref()
                .is_none_or(|prefix| entry.device.name.as_str().starts_with(prefix))
    }
}

impl Said {
    /// Whether the device is an operator's own from now on: it has something to prove itself by.
    const fn makes_imported(&self) -> bool {
        matches!(self.password, Some(Some(_))) || matches!(self.spec.certificate, Some(Some(_)))
    }

    /// The entry of `device` with what is said of it.
    fn onto(self, mut device: Device, before: Option<&Entry>, is_import: bool) -> Entry {
        let Self { spec, password } = self;
        let mut credentials = before.map(|entry| entry.credentials.clone()).unwrap_or_default();
        let permissions_before = device.permissions.clone();
        if let Some(attributes) = spec.attributes {
            device.attributes = attributes;
        }
        if let Some(permissions) = spec.permissions {
            device.permissions = permissions;
        }
        device.enabled = spec.enabled.unwrap_or(device.enabled);
        if is_import {
            device.origin = Origin::Imported;
        }
        if let Some(serial_number) = spec.serial_number {
            credentials.serial_number = serial_number;
        }
        if let Some(user_name) = spec.user_name {
            credentials.user_name = user_name;
        }
        if let Some(password) = password {
            credentials.password = password;
        }
        if let Some(certificate) = spec.certificate {
            credentials.certificate = certificate.map(Box::new);
        }
        let keeps_standing = |entry: &&Entry| {
            let before = &entry.credentials;
            entry.device.enabled == device.enabled
                && permissions_before == device.permissions
                && before.user_name == credentials.user_name
                && before.password == credentials.password
                && before.certificate == credentials.certificate
        };
        let standing = match before.filter(keeps_standing) {
            Some(entry) => Arc::clone(&entry.standing),
            None => {
                let seen = before.map_or(0, |entry| entry.standing.last_seen());
                Arc::new(Standing::seen_at(seen))
            }
        };
        Entry {
            created_at: before.map_or_else(now, |entry| entry.created_at),
            device: Arc::new(device),
            credentials,
            standing,
        }
    }
}

fn is_same(one: &Entry, other: &Entry) -> bool {
    one.device == other.device && one.credentials == other.credentials
}
