//! Between the generated bindings and the types of this crate. Not for users: the export macros
//! need it.

pub mod host;
pub mod http;
pub mod parser;
pub mod verifier;
