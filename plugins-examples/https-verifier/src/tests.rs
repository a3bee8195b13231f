//! The plugin as a whole: a CONNECT goes in, the service answers, a verdict comes out.

mod presets;
mod requests;
mod settings;
mod verdicts;
