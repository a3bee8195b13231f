//! Portreeve: an MQTT gateway that its users extend with WebAssembly components.
//!
//! The modules stand in the order of their use: each uses only modules that stand below it.
//! `docs/architecture.md` follows a CONNECT and a PUBLISH through them.

mod server;

mod admin;

mod reload;

mod resolve;
mod restore;
mod sys;

pub mod explain;

mod credentials;

mod listener;

mod connection;

mod operator;

mod publish;
mod reauthenticate;
mod subscribe;

mod connect;

mod verification;

mod client;

mod uncommitted;

pub mod plugin_json;

mod guest_view;

pub mod plugins;

pub mod config;

pub mod certificates;

mod gateway;

mod verdicts;

mod tls;

mod broker;

pub mod telemetry;

mod attempts;

mod tap;

mod topics;

mod session;

mod records;

mod message;

mod peer;
mod rate;
mod reason;

mod lockout;

pub mod devices;

mod permissions;

mod leading_slash;

pub mod access;

pub mod metrics;

pub mod signature;

mod files;

pub use admin::document as admin_api;
pub use lockout::LockoutPolicy;
pub use permissions::{Action, Grant};
pub use reload::Reread;
pub use server::{Server, StartError, check, check_tls, load_plugins};
