//! JavaScript of users inside Portreeve plugins.
//!
//! A [`Script`] is one file of a user's, compiled once for each instance of the plugin; a call of
//! one of its functions then takes microseconds. Scripts see no network, no files and no timers.
//! What they have is told in `docs/guides/payload-scripts.md`.
//!
//! ```
//! use portreeve_script::{Argument, Returned, Script, Source};
//!
//! let text = "function decode(bytes) { return { temperature: bytes[0] / 2 }; }";
//! let mut script = Script::load(&Source::new("decoder.js", text))?;
//! let decode = script.function("decode")?;
//! let returned = script.call(decode, &[Argument::Numbers(&[43])])?;
//! assert_eq!(returned, Returned::Json(r#"{"temperature":21.5}"#.to_owned()));
//! # Ok::<(), portreeve_script::ScriptError>(())
//! ```

mod bytes;
mod convert;
mod engine;
mod error;
mod globals;
mod json;
mod kept;
mod settings;
mod start;
mod template;

pub use bytes::{Bytes, Encoding};
pub use convert::{Argument, Returned};
pub use engine::{FunctionId, SCRIPT_BYTES_MAX, Script, Source};
pub use error::{Fault, Position, ScriptError};
pub use kept::Kept;
pub use settings::{ScriptSettings, choice, json_pointer};
pub use template::Template;

#[doc(hidden)]
pub use start::start;
