//! Read buffers, one for each thread: a connection borrows one while it handles what it read.

use std::cell::RefCell;

/// Bytes of one read.
const SCRATCH_BYTES: usize = 64 << 10;
/// Buffers that a thread keeps: more than one is in use only while connections wait for guests.
const KEPT_MAX: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A read buffer; goes back to the thread that drops it.
pub(super) struct Scratch {
    bytes: Box<[u8]>,
}

impl Scratch {
    pub(super) fn take() -> Self {
        let kept = KEPT.with_borrow_mut(Vec::pop);
        Self { bytes: kept.unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice()) }
    }

    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(super) fn filled(&self, bytes: usize) -> &[u8] {
        self.bytes.get(..bytes).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // When the thread ends, its store may be gone already; the buffer is then freed.
        let _kept = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX && !bytes.is_empty() {
                kept.push(bytes);
            }
        });
    }
}
