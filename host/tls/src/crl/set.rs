//! All lists that are used, as one immutable value: it is built whole and then published.

use std::collections::HashMap;
use std::sync::Arc;

use super::Crl;
use crate::Certificate;
use crate::certificate::AuthorityId;
use crate::revocation::Revoked;

/// The newest lists, by issuer.
#[derive(Debug, Default)]
pub struct CrlSet {
    /// Those of one issuer differ in which certificates they are about.
    by_authority: HashMap<AuthorityId, Vec<Arc<Crl>>>,
}

/// What the lists say of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlStatus {
    /// A list that is about it does not name it.
    Good,
    /// A list names it, maybe one that is too old.
    Revoked(Revoked),
    /// No list is about it.
    NoList,
    /// The list that is about it does not name it, but is too old.
    Expired {
        /// Its `nextUpdate`.
        since: i64,
    },
}

impl CrlSet {
    /// Of several lists that an issuer made about the same certificates, the newest one is used,
    /// whatever their order. To never go back, give those that were used before, too.
    #[must_use]
    pub fn new(lists: impl IntoIterator<Item = Arc<Crl>>) -> Self {
        let mut by_authority: HashMap<AuthorityId, Vec<Arc<Crl>>> = HashMap::new();
        for list in lists {
            let known = by_authority.entry(list.authority).or_default();
            match known.iter_mut().find(|known| known.scope() == list.scope()) {
                Some(known) if known.age_order(&list).is_lt() => *known = list,
                Some(_) => {}
                None => known.push(list),
            }
        }
        Self { by_authority }
    }

    /// What the lists of `issuer` say of a certificate that it issued.
    #[must_use]
    pub fn status(&self, issuer: &Certificate, certificate: &Certificate, now: i64) -> CrlStatus {
        if self.by_authority.is_empty() {
            return CrlStatus::NoList;
        }
        let Some(lists) = self.by_authority.get(&issuer.authority_id()) else {
            return CrlStatus::NoList;
        };
        if let Some(revoked) = lists.iter().find_map(|list| list.revoked(&certificate.serial)) {
            return CrlStatus::Revoked(revoked);
        }
        let about = lists.iter().filter(|list| list.scope().covers(certificate));
        match about.max_by_key(|list| list.next_update()) {
            None => CrlStatus::NoList,
            Some(list) if list.is_expired_at(now) => {
                CrlStatus::Expired { since: list.next_update() }
            }
            Some(_) => CrlStatus::Good,
        }
    }

    /// Whether this issuer has a list.
    #[must_use]
    pub fn has_list_of(&self, issuer: &Certificate) -> bool {
        self.by_authority.contains_key(&issuer.authority_id())
    }

    /// The lists.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Crl>> {
        self.by_authority.values().flatten()
    }
}
