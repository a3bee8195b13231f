//! The harness of the black-box tests: a gateway in this process on a port of its own, a client
//! that speaks bytes, and guests that are built when they are first needed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    missing_debug_implementations,
    reason = "tests stop at the first surprise"
)]

pub mod api;
pub mod binary;
pub mod client;
pub mod crash;
pub mod der;
pub mod gateway;
pub mod guests;
pub mod hostile;
pub mod https_gateway;
pub mod https_service;
pub mod load;
pub mod model;
pub mod openssl;
pub mod pki;
pub mod plugins;
pub mod question;
pub mod responder;
pub mod scripts;
pub mod tls_gateway;
pub mod web;
pub mod wire;

pub use client::{Client, V5, V311};
pub use gateway::{RunningGateway, TestGateway};
