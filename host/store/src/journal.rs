//! Looks through the journals before the database opens them. The database ends its reading at
//! the first entry that it does not understand and cuts the journal there: right for a commit that
//! was being written when the process died, but a damaged byte in the middle would take every
//! later commit away without a word.
//!
//! The format is that of fjall 3: `1 count:u32 seqno:u64`, then items
//! `2 type:u8 compression:u8 keyspace:u64 key_len:u16 len:u32 compressed_len:u32 key value` or
//! `4 keyspace:u64`, then `3 xxh3:u64 "FJL" 3`; numbers in little endian.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::error::OpenError;

const MAGIC: &[u8] = b"FJL\x03";
/// What a file system loses at a time when the power goes.
const PAGE_BYTES: usize = 4096;

/// How a journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a whole commit, or one that was being written when the process ended.
    Whole,
    /// With a commit of which the power failure took pages; it begins here.
    Torn(usize),
    /// Something behind this position is not as it was written.
    Damaged(usize),
}

/// The journals of a store, oldest first.
pub(crate) fn paths(store: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            journals.push((number.unwrap_or(0), path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// Refuses damaged journals. A commit that lost pages with the power is cut off, with a warning:
/// nobody was promised it.
pub(crate) fn check(store: &Path) -> Result<(), OpenError> {
    let io = |path: &Path, error| OpenError::Io { path: path.to_owned(), error };
    let journals = paths(store).map_err(|error| io(store, error))?;
    for path in &journals {
        let bytes = fs::read(path).map_err(|error| io(path, error))?;
        match end(&bytes) {
            End::Whole => {}
            End::Torn(at) if Some(path) == journals.last() => {
                tracing::warn!(journal = %path.display(), at, "the last commit was lost with the power and is cut off");
                cut(path, at).map_err(|error| io(path, error))?;
            }
            End::Torn(at) | End::Damaged(at) => {
                let what = format!("{} is not as it was written behind byte {at}", path.display());
                return Err(OpenError::Damaged { path: store.to_owned(), what });
            }
        }
    }
    Ok(())
}

/// Cuts a journal behind its last good commit.
pub(crate) fn cut(path: &Path, at: usize) -> std::io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(u64::try_from(at).unwrap_or(u64::MAX))?;
    file.sync_all()
}

/// Looks through a journal.
pub(crate) fn end(bytes: &[u8]) -> End {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match commit(rest) {
            Commit::Whole(length) => at += length,
            Commit::Cut => {
                return if has_trailer(rest) { End::Damaged(at) } else { End::Whole };
            }
            Commit::Unreadable(behind) => {
                let unread = rest.get(behind..).unwrap_or_default();
                return if unread.iter().all(|&byte| byte == 0) {
                    End::Whole
                } else if behind == 0 && has_lost_its_begin(rest, at) {
                    End::Torn(at)
                } else {
                    End::Damaged(at)
                };
            }
            Commit::WrongHash(length) => {
                let (this, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                let is_last = behind.iter().all(|&byte| byte == 0);
                let lost = is_last && has_lost_page(this, at);
                return if lost { End::Torn(at) } else { End::Damaged(at) };
            }
        }
    }
}

enum Commit {
    /// Bytes of it.
    Whole(usize),
    /// The file ends within it.
    Cut,
    /// No entry begins here, bytes from its begin.
    Unreadable(usize),
    WrongHash(usize),
}

fn commit(bytes: &[u8]) -> Commit {
    let mut reader = Reader { bytes, at: 0 };
    let mut hash = Xxh3::new();
    let mut is_begun = false;
    loop {
        let begin = reader.at;
        let Some(tag) = reader.take(1).and_then(|tag| tag.first().copied()) else {
            return if is_begun { Commit::Cut } else { Commit::Unreadable(begin) };
        };
        let read = match (tag, is_begun) {
            (1, false) => {
                is_begun = true;
                reader.take(4 + 8).map(drop)
            }
            (2, true) => reader.item(begin).map(|item| hash.update(item)),
            (4, true) => {
                let entry = reader.take(8);
                entry.and_then(|_| bytes.get(begin..reader.at)).map(|clear| hash.update(clear))
            }
            (3, true) => {
                let (sum, magic) = (reader.take(8), reader.take(MAGIC.len()));
                let (Some(sum), Some(magic)) = (sum, magic) else { return Commit::Cut };
                if magic != MAGIC {
                    // A trailer that was being written has zeros for the rest of it.
                    let is_cut = magic.last() == Some(&0);
                    return Commit::Unreadable(if is_cut { reader.at } else { begin });
                }
                return if sum == hash.digest().to_le_bytes() {
                    Commit::Whole(reader.at)
                } else {
                    Commit::WrongHash(reader.at)
                };
            }
            _ => return Commit::Unreadable(begin),
        };
        if read.is_none() {
            return Commit::Cut;
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    /// An item whose tag was read, with its tag.
    fn item(&mut self, begin: usize) -> Option<&'a [u8]> {
        self.take(1 + 1 + 8)?;
        let key = u16::from_le_bytes(*self.take(2)?.first_chunk()?);
        self.take(4)?;
        let value = u32::from_le_bytes(*self.take(4)?.first_chunk()?);
        self.take(usize::from(key))?;
        self.take(usize::try_from(value).ok()?)?;
        self.bytes.get(begin..self.at)
    }
}

/// Whether a commit ends somewhere in what looks cut: then a length in front of it is wrong.
fn has_trailer(bytes: &[u8]) -> bool {
    const TRAILER_BYTES: usize = 1 + 8 + MAGIC.len();
    bytes.windows(TRAILER_BYTES + 1).any(|window| {
        window.first() == Some(&3)
            && window.get(9..TRAILER_BYTES) == Some(MAGIC)
            && matches!(window.last(), Some(0 | 1))
    }) || (bytes.ends_with(MAGIC)
        && bytes.len().checked_sub(TRAILER_BYTES).and_then(|at| bytes.get(at)) == Some(&3))
}

/// Whether a page of the file has nothing of this commit, which begins at byte `at`.
fn has_lost_page(commit: &[u8], at: usize) -> bool {
    let (_, rest) = commit.split_at_checked(to_boundary(at)).unwrap_or((commit, &[]));
    rest.chunks_exact(PAGE_BYTES).any(|page| page.iter().all(|&byte| byte == 0))
}

/// Whether the page where the last commit begins, at byte `at` of the file, was lost, and later
/// ones were not: zeros up to the boundary, and one trailer at most, with zeros behind it.
fn has_lost_its_begin(rest: &[u8], at: usize) -> bool {
    let Some((first, later)) = rest.split_at_checked(to_boundary(at)) else { return false };
    let used = later.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let later = later.get(..used).unwrap_or_default();
    let trailers = later.windows(MAGIC.len()).filter(|window| *window == MAGIC).count();
    first.iter().all(|&byte| byte == 0) && trailers <= usize::from(later.ends_with(MAGIC))
}

/// Bytes from a place in the file to the next page.
const fn to_boundary(at: usize) -> usize {
    PAGE_BYTES - at % PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::{End, commit, end};
    use xxhash_rust::xxh3::xxh3_64;

    fn item(value: &[u8]) -> Vec<u8> {
        let mut item = vec![2, 0, 0];
        item.extend(7_u64.to_le_bytes());
        item.extend(3_u16.to_le_bytes());
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        item.extend(length);
        item.extend(length);
        item.extend(b"key");
        item.extend(value);
        item
    }

    fn whole(value: &[u8]) -> Vec<u8> {
        let item = item(value);
        let mut bytes = vec![1];
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(9_u64.to_le_bytes());
        bytes.extend(&item);
        bytes.push(3);
        bytes.extend(xxh3_64(&item).to_le_bytes());
        bytes.extend(b"FJL\x03");
        bytes
    }

    #[test]
    fn a_journal_that_ends_anywhere_in_its_last_commit_is_whole() {
        let two = [whole(b"one"), whole(b"another one")].concat();
        let first = whole(b"one").len();
        assert!(matches!(commit(&two), super::Commit::Whole(length) if length == first));
        for cut in 0..=two.len() {
            let mut bytes = two[..cut].to_vec();
            assert_eq!(end(&bytes), End::Whole, "{cut}");
            bytes.resize(two.len() + 5000, 0);
            assert_eq!(end(&bytes), End::Whole, "{cut} and zeros behind");
        }
    }

    #[test]
    fn every_changed_byte_of_a_commit_that_is_not_the_last_is_found() {
        let three = [whole(b"one"), whole(b"two"), whole(b"three")].concat();
        let begin_of_last = whole(b"one").len() * 2;
        for at in 0..begin_of_last {
            // The number of items and the sequence number are under no hash.
            if (1..13).contains(&(at % whole(b"one").len())) {
                continue;
            }
            let mut bytes = three.clone();
            bytes[at] ^= 0x11;
            bytes.resize(bytes.len() + 100, 0);
            assert!(matches!(end(&bytes), End::Damaged(_)), "{at}");
            let mut bytes = three.clone();
            bytes[at] ^= 0x11;
            assert!(matches!(end(&bytes), End::Damaged(_)), "{at} without zeros behind");
        }
    }

    #[test]
    fn a_last_commit_that_lost_a_page_is_torn_and_one_with_a_wrong_byte_damaged() {
        let first = whole(b"one");
        let mut bytes = [first.clone(), whole(&[7; 20_000])].concat();
        bytes[8192..12_288].fill(0);
        assert_eq!(end(&bytes), End::Torn(first.len()));
        let mut bytes = [first.clone(), whole(&[7; 20_000]), vec![0; 9000]].concat();
        bytes[first.len()..4096].fill(0);
        assert_eq!(end(&bytes), End::Torn(first.len()), "the page where it begins");
        let mut bytes = [first.clone(), whole(&[7; 20_000])].concat();
        bytes[9000] = 0;
        assert_eq!(end(&bytes), End::Damaged(first.len()));
    }
}
