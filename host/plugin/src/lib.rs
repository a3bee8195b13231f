//! The plugin runtime: loads WebAssembly components, checks what they want, limits what they
//! can do, and calls them.
//!
//! A plugin that traps, spins, grows or lies harms its own call only: the error says which of
//! these it did ([`CallError`]), its instance is thrown away, and the next call gets another.
//! Nothing here knows MQTT, the configuration file or the gateway.

mod background;
mod bindings;
mod breaker;
mod budget;
mod call;
mod capabilities;
mod component;
mod engine;
mod host_functions;
mod instance;
mod limits;
mod plugin;
mod pool;
mod question;
mod rollout;
mod statistics;
mod version;

pub use breaker::{BreakerPolicy, BreakerState};
pub use budget::{Budget, Held};
pub use call::{CallError, FaultKind, GuestFault};
pub use capabilities::{Capabilities, GrantError, HttpGrant, HttpPolicy};
pub use component::{CodeCache, LoadError, Loaded, RefusedImport, load_component};
pub use engine::{Engine, EngineError};
pub use host_functions::http::ClientError;
pub use host_functions::state::StateSpace;
pub use limits::{InstancePolicy, Limits};
pub use plugin::{Concluded, Conclusion, Difference, Observer, Plugin, RolloutStatus, Traced};
pub use question::{Answered, Asked, ConnectLists, ConnectQuestion, Pairs, PublishQuestion};
pub use rollout::{RolloutPolicy, Share, Stage};
pub use statistics::{AnswerKind, StatisticsSnapshot, Tally, Times};
pub use version::{Manifest, Role, Version};

/// The records of `wit/` as they go into a guest (borrowed) and come out (owned).
pub mod contract {
    pub use crate::bindings::exports::portreeve::plugin::on_connect::{
        Action, Admission, Connect, Permission, Refusal, RefusalReason, Verdict,
    };
    pub use crate::bindings::exports::portreeve::plugin::on_publish::{
        Context, Direction, Outcome,
    };
    pub use crate::bindings::portreeve::plugin::types::{
        Certificate, Connection, Device, MessageParam, MessageResult, PayloadFormat, Protocol, Qos,
        Revocation, Tls,
    };
}
