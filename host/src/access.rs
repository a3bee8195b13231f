//! Who may use the admin API on the network, and where it is there.

use std::net::SocketAddr;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// `[admin] listen` with the files of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate (with its chain) and key, in PEM; `None` on an address of this machine.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What a token opens; each opens what stands before it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Look.
    Read,
    /// Change devices, sessions, plugins; publish.
    Operate,
    /// See password hashes and the audit log, end the gateway's service.
    Admin,
}

impl Scope {
    /// Each with its word.
    pub const ALL: [(&'static str, Self); 3] =
        [("read", Self::Read), ("operate", Self::Operate), ("admin", Self::Admin)];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// A token that is accepted, by its hash: tokens are random and long, so that a fast one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is, for the audit log.
    pub name: String,
    /// What it opens.
    pub scope: Scope,
    /// SHA-256 of it.
    pub digest: [u8; 32],
}

impl Token {
    /// SHA-256 of a token's text.
    #[must_use]
    pub fn digest_of(text: &str) -> [u8; 32] {
        Sha256::digest(text.as_bytes()).into()
    }
}
