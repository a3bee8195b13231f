//! Write Portreeve plugins in Rust.
//!
//! A plugin is a type that implements [`Verifier`] or [`Parser`], or both, and is exported with
//! [`export_verifier!`] or [`export_parser!`]:
//!
//! ```
//! use portreeve_guest::{Connect, Error, Refusal, Verdict, Verifier, settings};
//!
//! struct SharedPassword;
//!
//! impl Verifier for SharedPassword {
//!     fn verify(request: Connect) -> Result<Verdict, Error> {
//!         let Some(name) = request.user_name else {
//!             return Ok(Refusal::bad_user_name_or_password("no user name").into());
//!         };
//!         if request.password != Some(settings::require("password")?.into_bytes()) {
//!             return Ok(Refusal::bad_user_name_or_password("wrong password").into());
//!         }
//!         Ok(Verdict::admit(name))
//!     }
//! }
//!
//! portreeve_guest::export_verifier!(SharedPassword);
//! ```
//!
//! Built with `cargo build --release --target wasm32-wasip2` from a crate with
//! `crate-type = ["cdylib"]`, it is a component that the gateway loads. On any other target the
//! same crate is ordinary Rust: its unit tests run natively, with [`testing`] in the gateway's
//! place.

mod connect;
mod error;
mod message;
#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod wasm;

pub mod http;
pub mod log;
pub mod settings;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use connect::{
    Action, Admission, Certificate, Connect, Connection, Permission, Protocol, Refusal,
    RefusalReason, Revocation, Tls, Verdict,
};
pub use error::Error;
pub use message::{Context, Device, Direction, Message, Outcome, PayloadFormat, QoS};

/// Decides who a connecting device is.
pub trait Verifier {
    /// Called for each CONNECT, and again for each answer to a challenge.
    ///
    /// # Errors
    /// When no decision was possible; the device is then not let in, and told to try later.
    fn verify(request: Connect) -> Result<Verdict, Error>;
}

/// Translates messages on their way.
pub trait Parser {
    /// Called for each PUBLISH to a topic that the parser is bound to.
    ///
    /// # Errors
    /// When the translation failed; the binding's `on_error` then decides about the message.
    fn parse(context: Context, message: Message) -> Result<Outcome, Error>;
}

/// Makes a type the component's verifier.
#[macro_export]
macro_rules! export_verifier {
    ($type:ty) => {
        const _: fn($crate::Connect) -> Result<$crate::Verdict, $crate::Error> =
            <$type as $crate::Verifier>::verify;
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;
            impl $crate::wasm::verifier::Guest for Exported {
                fn verify(
                    request: $crate::wasm::verifier::Connect,
                ) -> Result<$crate::wasm::verifier::Verdict, String> {
                    $crate::wasm::verifier::call::<$type>(request)
                }
            }
            $crate::wasm::verifier::bindings::export!(
                Exported with_types_in $crate::wasm::verifier::bindings
            );
        };
    };
}

/// Makes a type the component's parser.
#[macro_export]
macro_rules! export_parser {
    ($type:ty) => {
        const _: fn($crate::Context, $crate::Message) -> Result<$crate::Outcome, $crate::Error> =
            <$type as $crate::Parser>::parse;
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;
            impl $crate::wasm::parser::Guest for Exported {
                fn parse(
                    context: $crate::wasm::parser::Context,
                    message: $crate::wasm::parser::Message,
                ) -> Result<$crate::wasm::parser::Outcome, String> {
                    $crate::wasm::parser::call::<$type>(context, message)
                }
            }
            $crate::wasm::parser::bindings::export!(
                Exported with_types_in $crate::wasm::parser::bindings
            );
        };
    };
}
