//! The end of a session's connection, by whoever wants it.

use std::task::{Context, Poll};

use portreeve_mqtt::ReasonCode;

use super::Session;

impl Session {
    /// Asks the session's connection to say `reason_code` and close.
    pub(crate) fn close(&self, reason_code: ReasonCode) {
        let mut state = self.state.lock();
        if state.client.is_some() {
            state.close.get_or_insert(reason_code);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    /// The same for connection number `generation` only. Says whether it is the session's.
    pub(crate) fn close_connection(&self, generation: u64, reason_code: ReasonCode) -> bool {
        let is_it = self.state.lock().must_close(generation).is_none();
        // Another one that takes over in between has the same device, and is looked at itself.
        if is_it {
            self.close(reason_code);
        }
        is_it
    }

    /// The number of its connection, or of the last one.
    pub(crate) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// Why connection number `generation` is to close, if it is.
    pub(crate) fn must_close(&self, generation: u64) -> Option<ReasonCode> {
        self.state.lock().must_close(generation)
    }

    /// Like [`Self::poll_mail`] for a connection that still has something to send: ready only
    /// when it is to close.
    pub(crate) fn poll_close(&self, generation: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.must_close(generation).is_some() {
            return Poll::Ready(());
        }
        state.set_waker(cx);
        Poll::Pending
    }
}
