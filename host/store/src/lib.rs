//! What survives a restart of the gateway: sessions, their subscriptions, queues and packet
//! identifiers, retained messages and devices. It knows neither packets nor topics: what it keeps
//! are records, and what changes together is one [`Changes`].
//!
//! One thread owns the database and commits whatever was handed over meanwhile as one group
//! ([`Store::submit`]); nobody else touches the disk. What a caller promises to a peer, it
//! promises after [`Submission::stored`].

mod changes;
mod contents;
mod database;
mod durability;
mod error;
mod journal;
mod key;
mod record;
mod salvage;
mod store;
mod writer;

pub use changes::{BodyId, Changes, SessionId};
pub use contents::{Contents, Stored, StoredSession, Tally};
pub use durability::{Durability, Progress, StoreCounts};
pub use error::{NotStored, OpenError};
pub use record::{
    Body, CertificateRecord, DeviceRecord, EntryRecord, MessageRecord, SessionRecord,
    SubscriptionRecord, WillRecord,
};
pub use salvage::{Salvaged, salvage};
pub use store::{Store, Submission};
