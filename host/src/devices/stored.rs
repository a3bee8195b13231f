//! Devices as the store has them.

use std::sync::Arc;

use portreeve_store::{CertificateRecord, DeviceRecord};

use super::password::PasswordHash;
use super::{CertificateMatch, Credentials, Device, DeviceName, Entry, Origin, Standing};
use crate::permissions::{Action, Grant};

/// The record of an entry.
pub(super) fn record(entry: &Entry) -> DeviceRecord {
    let Entry { device, credentials, created_at, .. } = entry;
    let grant = |grant: &Grant| (grant.action.number(), grant.filter.to_string());
    let permissions = device.permissions.as_ref();
    DeviceRecord {
        product: device.product.to_string(),
        name: device.name.to_string(),
        attributes: device.attributes.clone(),
        enabled: device.enabled,
        is_imported: device.origin == Origin::Imported,
        serial_number: credentials.serial_number.as_deref().map(str::to_owned),
        user_name: credentials.user_name.as_deref().map(str::to_owned),
        password_hash: credentials.password.as_ref().map(|hash| hash.as_str().to_owned()),
        certificate: credentials.certificate.as_deref().map(|certificate| match certificate {
            CertificateMatch::Fingerprint(digest) => CertificateRecord::Fingerprint(*digest),
            CertificateMatch::CommonName(name) => CertificateRecord::CommonName(name.clone()),
        }),
        permissions: permissions.map(|grants| grants.iter().map(grant).collect()),
        created_at: *created_at,
    }
}

/// The entry of a record; `None` when the record is not one that the gateway writes. `product` is
/// the one of its name, if there is one already.
pub(super) fn entry(
    record: DeviceRecord,
    product: Option<Arc<str>>,
    seen_at: Option<u64>,
) -> Option<Entry> {
    let grant = |(action, filter): (u8, String)| {
        Some(Grant { action: Action::of_number(action)?, filter: filter.into() })
    };
    let permissions = record.permissions.map(|grants| grants.into_iter().map(grant).collect());
    let permissions: Option<Option<Box<[Grant]>>> = permissions;
    let password = record.password_hash.map(|text| PasswordHash::parse(&text));
    let certificate = record.certificate.map(|certificate| match certificate {
        CertificateRecord::Fingerprint(digest) => CertificateMatch::Fingerprint(digest),
        CertificateRecord::CommonName(name) => CertificateMatch::CommonName(name),
    });
    let origin = if record.is_imported { Origin::Imported } else { Origin::AutoCreated };
    Some(Entry {
        device: Arc::new(Device {
            name: DeviceName::parse(&record.name).ok()?,
            product: product.unwrap_or_else(|| record.product.into()),
            attributes: record.attributes,
            permissions: match permissions {
                Some(permissions) => Some(permissions?),
                None => None,
            },
            enabled: record.enabled,
            origin,
        }),
        credentials: Credentials {
            serial_number: record.serial_number.map(Into::into),
            user_name: record.user_name.map(Into::into),
            password: password.transpose().ok()?,
            certificate: certificate.map(Box::new),
        },
        created_at: record.created_at,
        standing: Arc::new(Standing::seen_at(seen_at.unwrap_or_default())),
    })
}
