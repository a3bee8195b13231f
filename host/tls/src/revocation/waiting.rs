//! Lists whose issuer is not among the configured certificates: an intermediate that devices send
//! with their own. They are verified when a path over it was verified, and not used before.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::Certificate;
use crate::crl::{Crl, UnverifiedCrl};

/// Intermediates that are remembered.
const LEARNED_MAX: usize = 256;

/// A list that nobody could verify yet.
#[derive(Debug)]
pub struct WaitingList {
    /// Read already, so that the handshake which brings its issuer does not.
    pub list: UnverifiedCrl,
    /// Where it comes from, for people.
    pub origin: String,
    /// From a server, and not from a file.
    pub is_fetched: bool,
}

/// Lists that wait, and intermediates that verified paths went over.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lists: Vec<WaitingList>,
    learned: Vec<Arc<Certificate>>,
}

impl Waiting {
    /// Those from files make room for these. Gives those that need not wait: their issuer was learned
    /// while they were read.
    pub(super) fn replace(&self, lists: Vec<WaitingList>) -> Vec<Arc<Crl>> {
        let mut state = self.state.lock();
        state.lists.retain(|known| known.is_fetched);
        state.lists.extend(lists);
        let State { lists, learned } = &mut *state;
        verified(lists, learned)
    }

    /// A list that was fetched; it takes the place of the one from there.
    pub(super) fn add(&self, list: WaitingList) -> Vec<Arc<Crl>> {
        let mut state = self.state.lock();
        state.lists.retain(|known| known.origin != list.origin);
        state.lists.push(list);
        let State { lists, learned } = &mut *state;
        verified(lists, learned)
    }

    pub(super) fn learned(&self) -> Vec<Arc<Certificate>> {
        self.state.lock().learned.clone()
    }

    /// Lists that this authority has signed; they wait no longer.
    pub(super) fn learn(&self, authority: &Arc<Certificate>) -> Vec<Arc<Crl>> {
        let mut state = self.state.lock();
        if state.learned.iter().any(|known| known.fingerprint == authority.fingerprint) {
            return Vec::new();
        }
        if state.learned.len() < LEARNED_MAX {
            state.learned.push(Arc::clone(authority));
        }
        let State { lists, .. } = &mut *state;
        verified(lists, &[Arc::clone(authority)])
    }
}

/// Takes those lists out that one of `issuers` has signed. Another authority of the same name may have
/// signed the others.
fn verified(lists: &mut Vec<WaitingList>, issuers: &[Arc<Certificate>]) -> Vec<Arc<Crl>> {
    let mut verified = Vec::new();
    if issuers.is_empty() {
        return verified;
    }
    for WaitingList { list, origin, is_fetched } in std::mem::take(lists) {
        match list.verified(issuers) {
            Ok(crl) => verified.push(Arc::new(crl)),
            Err(unverified) => {
                let (list, _) = *unverified;
                lists.push(WaitingList { list, origin, is_fetched });
            }
        }
    }
    verified
}
