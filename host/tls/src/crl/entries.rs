//! The serial numbers of a list, in one sorted buffer: a list has a hundred thousand of them, and
//! each handshake looks for one.

use der::Tag;

use super::CrlFault;
use crate::asn1::{Fields, magnitude};
use crate::revocation::{RevocationReason, Revoked};

/// Bytes of a serial number; the standard has 20 (RFC 5280 §4.1.2.2).
const SERIAL_BYTES_MAX: usize = 64;
/// The least bytes of an entry: what is reserved for a list is no more than what it may have.
const ENTRY_BYTES_MIN: usize = 20;

/// 2.5.29.21.
const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
/// 2.5.29.24.
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
/// 2.5.29.29: whose certificate it is, in indirect lists.
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];

/// What a list revokes, by serial number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    serials: Box<[u8]>,
    sorted: Box<[Entry]>,
    /// The first bytes of each serial number, nearly always enough to find it: few enough bytes
    /// that they stay near the processor.
    prefixes: Box<[u64]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    since: i64,
    /// Where in `serials` it begins.
    offset: u32,
    length: u8,
    reason: RevocationReason,
}

impl Entry {
    fn serial<'a>(&self, serials: &'a [u8]) -> &'a [u8] {
        let begin = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let rest = serials.get(begin..).unwrap_or_default();
        rest.get(..usize::from(self.length)).unwrap_or_default()
    }
}

fn prefix(serial: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(serial) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

impl Entries {
    /// Reads `revokedCertificates`, and says whether entries have extensions.
    pub(super) fn read(list: &[u8]) -> Result<(Self, bool), CrlFault> {
        let mut fields = Fields::new(list)?;
        let mut has_extensions = false;
        let mut serials = Vec::with_capacity(list.len() / 2);
        let mut sorted = Vec::with_capacity(list.len() / ENTRY_BYTES_MIN);
        while !fields.is_empty() {
            let mut entry = fields.sequence()?;
            // Without the sign: a negative number revokes the positive one, too, which is safer
            // than that nobody finds it.
            let serial = magnitude(entry.integer()?);
            if serial.len() > SERIAL_BYTES_MAX {
                return Err(Tag::Integer.value_error().into());
            }
            let since = entry.time()?;
            let mut reason = RevocationReason::Unspecified;
            if !entry.is_empty() {
                has_extensions = true;
                reason = read_extensions(&mut entry)?;
            }
            entry.end()?;
            // It is said in delta lists only; where it stands, the certificate is not revoked.
            if reason == RevocationReason::RemoveFromCrl {
                continue;
            }
            let too_long = |_| CrlFault::from(Tag::Sequence.value_error());
            let offset = u32::try_from(serials.len()).map_err(too_long)?;
            let length = u8::try_from(serial.len()).map_err(too_long)?;
            serials.extend_from_slice(serial);
            sorted.push(Entry { since, offset, length, reason });
        }
        // As numbers, prefixes are in the same order.
        sorted.sort_unstable_by(|one, other| one.serial(&serials).cmp(other.serial(&serials)));
        let prefixes = sorted.iter().map(|entry| prefix(entry.serial(&serials))).collect();
        let (serials, sorted) = (serials.into_boxed_slice(), sorted.into_boxed_slice());
        let read = Self { serials, sorted, prefixes };
        Ok((read, has_extensions))
    }

    pub(super) fn find(&self, serial: &[u8]) -> Option<Revoked> {
        let prefix = prefix(serial);
        let begin = self.prefixes.partition_point(|other| *other < prefix);
        let same = self.prefixes.get(begin..)?.partition_point(|other| *other == prefix);
        let candidates = self.sorted.get(begin..)?.get(..same)?;
        let found = candidates.binary_search_by(|entry| entry.serial(&self.serials).cmp(serial));
        let entry = candidates.get(found.ok()?)?;
        Some(Revoked { since: entry.since, reason: entry.reason })
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }
}

fn read_extensions(entry: &mut Fields<'_>) -> Result<RevocationReason, CrlFault> {
    let mut reason = RevocationReason::Unspecified;
    for extension in entry.extensions()? {
        match extension.id {
            REASON_CODE => {
                let mut fields = Fields::new(extension.value)?;
                reason = RevocationReason::from_code(fields.enumerated()?);
                fields.end()?;
            }
            INVALIDITY_DATE => {}
            CERTIFICATE_ISSUER => return Err(CrlFault::Indirect),
            _ if extension.is_critical => {
                return Err(CrlFault::CriticalExtension(extension.name()));
            }
            _ => {}
        }
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry with this serial number, which needs no padding, and maybe a reason.
    fn entry(serial: &[u8], reason: Option<u8>) -> Vec<u8> {
        let mut content = vec![2, u8::try_from(serial.len()).unwrap()];
        content.extend_from_slice(serial);
        content.extend_from_slice(b"\x17\x0d260101000000Z");
        if let Some(reason) = reason {
            content.extend([0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 21, 4, 3, 10, 1, reason]);
        }
        let mut entry = vec![0x30, u8::try_from(content.len()).unwrap()];
        entry.extend(content);
        entry
    }

    #[test]
    fn serial_numbers_are_found_whatever_they_begin_with() {
        let list = [
            entry(&[0x10], None),
            entry(&[0x10, 0], Some(1)),
            entry(&[0, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9], Some(6)),
            entry(&[0x7f; 20], Some(8)),
            entry(&[0], None),
        ];
        let (entries, has_extensions) = Entries::read(&list.concat()).unwrap();
        assert!(has_extensions);
        assert_eq!(entries.len(), 4, "one was removed");
        let reason = |serial: &[u8]| entries.find(serial).map(|revoked| revoked.reason);
        assert_eq!(reason(&[0x10]), Some(RevocationReason::Unspecified));
        assert_eq!(reason(&[0x10, 0]), Some(RevocationReason::KeyCompromise));
        assert_eq!(
            reason(&[0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            Some(RevocationReason::CertificateHold)
        );
        assert_eq!(reason(&[0xf0, 1, 2, 3, 4, 5, 6, 7, 8]), None);
        assert_eq!(reason(&[0x7f; 20]), None);
        assert_eq!(reason(&[]), Some(RevocationReason::Unspecified), "zero");
    }

    #[test]
    fn a_hundred_thousand_entries_are_read_and_found() {
        let serial = |number: u32| {
            let mut serial = [0x42; 16];
            serial[1..5].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
            serial
        };
        let list: Vec<u8> =
            (0..100_000).flat_map(|number| entry(&serial(number), Some(1))).collect();
        let (entries, _) = Entries::read(&list).unwrap();
        assert_eq!(entries.len(), 100_000);
        for number in [0, 1, 99_999] {
            assert!(entries.find(&serial(number)).is_some());
        }
        assert!(entries.find(&serial(100_000)).is_none());
    }
}
