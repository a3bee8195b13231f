//! Keys: numbers in big endian, so that what belongs to one session lies together and in order.

use fjall::Slice;

/// Bytes of a text in a key; longer ones are cut and told apart by their hash.
const TEXT_BYTES_MAX: usize = 1024;

/// Part of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    Meta,
    Sessions,
    Subscriptions,
    Entries,
    Received,
    Bodies,
    Retained,
    /// Devices as format 1 had them; empty since.
    OldDevices,
    Devices,
    Seen,
}

impl Space {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 10] = [
        Self::Meta,
        Self::Sessions,
        Self::Subscriptions,
        Self::Entries,
        Self::Received,
        Self::Bodies,
        Self::Retained,
        Self::OldDevices,
        Self::Devices,
        Self::Seen,
    ];

    /// Parts that stores of format 1 do not have.
    pub(crate) const SINCE_FORMAT_2: [Self; 2] = [Self::Devices, Self::Seen];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Sessions => "sessions",
            Self::Subscriptions => "subscriptions",
            Self::Entries => "entries",
            Self::Received => "received",
            Self::Bodies => "bodies",
            Self::Retained => "retained",
            Self::OldDevices => "devices",
            Self::Devices => "registry",
            Self::Seen => "seen",
        }
    }
}

pub(crate) fn number(number: u64) -> Slice {
    number.to_be_bytes().as_slice().into()
}

pub(crate) fn two_numbers(first: u64, second: u64) -> Slice {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key.as_slice().into()
}

/// `prefix`, then `text`; a long text is cut and its hash put behind it.
pub(crate) fn with_text(prefix: &[u8], text: &str) -> Slice {
    let bytes = text.as_bytes();
    let Some(cut) = bytes.get(..TEXT_BYTES_MAX).filter(|_| bytes.len() > TEXT_BYTES_MAX) else {
        return [prefix, bytes].concat().into();
    };
    let hash = xxhash_rust::xxh3::xxh3_128(bytes).to_be_bytes();
    [prefix, cut, &hash].concat().into()
}

/// The first number of a key.
pub(crate) fn first_number(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The second number of a key.
pub(crate) fn second_number(key: &[u8]) -> Option<u64> {
    first_number(key.get(8..)?)
}

#[cfg(test)]
mod tests {
    use super::{first_number, second_number, two_numbers, with_text};

    #[test]
    fn numbers_come_back_and_sort_as_numbers() {
        let key = two_numbers(7, 300);
        assert_eq!((first_number(&key), second_number(&key)), (Some(7), Some(300)));
        assert!(two_numbers(1, 255) < two_numbers(1, 256) && two_numbers(1, 9) < two_numbers(2, 0));
    }

    #[test]
    fn long_texts_have_short_keys_that_differ() {
        let (one, other) = ("x".repeat(60_000), "x".repeat(60_001));
        let keys = (with_text(b"p", &one), with_text(b"p", &other));
        assert!(keys.0 != keys.1 && keys.0.len() == 1 + 1024 + 16);
        assert_eq!(&*with_text(b"p", "short"), b"pshort");
    }
}
