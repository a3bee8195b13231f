//! What went wrong in a script, and where.

use std::fmt;

use rquickjs::{Ctx, Value};

/// Why a script gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The file is no JavaScript.
    Syntax,
    /// The script threw.
    Thrown,
    /// The script wants more memory than it may have.
    Memory,
    /// A promise is left that nothing will settle.
    Unsettled,
    /// The script has no function of this name.
    Missing,
    /// The result is not what was asked for.
    Result,
}

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// What went wrong in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// The kind.
    pub fault: Fault,
    /// What the script, or the engine, says.
    pub message: String,
    /// Where, if that is known.
    pub position: Option<Position>,
    /// Name of the script's file.
    pub script: String,
}

impl ScriptError {
    pub(crate) fn new(script: &str, fault: Fault, message: impl Into<String>) -> Self {
        let mut message = message.into();
        shorten(&mut message, MESSAGE_BYTES_MAX);
        Self { fault, message, position: None, script: script.to_owned() }
    }

    /// The same error about the result of the script `script`.
    #[must_use]
    pub fn of_result(script: &Script, message: impl Into<String>) -> Self {
        Self::new(script.name(), Fault::Result, message)
    }

    /// An error about a setting.
    #[must_use]
    pub fn of_settings(message: impl Into<String>) -> Self {
        Self::new("settings", Fault::Missing, message)
    }

    /// What an operation of the engine's ended with. Takes the exception that is pending.
    pub(crate) fn of(ctx: &Ctx<'_>, script: &str, error: &rquickjs::Error) -> Self {
        match error {
            rquickjs::Error::Exception => Self::caught(ctx, script),
            rquickjs::Error::WouldBlock => Self::new(
                script,
                Fault::Unsettled,
                "it waits for a promise that nothing settles; there are no timers and no network",
            ),
            rquickjs::Error::Allocation => Self::new(script, Fault::Memory, MEMORY),
            other => Self::new(script, Fault::Result, other.to_string()),
        }
    }

    fn caught(ctx: &Ctx<'_>, script: &str) -> Self {
        let thrown = ctx.catch();
        // The engine throws null where it has no memory for an error.
        if thrown.is_null() {
            return Self::new(script, Fault::Memory, MEMORY);
        }
        let Some(object) = thrown.as_object().filter(|_| thrown.is_error()) else {
            return Self::new(script, Fault::Thrown, format!("threw {}", text_of(ctx, &thrown)));
        };
        // A script may have put getters there that throw, too.
        let field = |key: &str| {
            let text = object.get::<_, Option<String>>(key).ok().flatten();
            if text.is_none() {
                drop(ctx.catch());
            }
            text
        };
        let (name, message) = (field("name"), field("message").unwrap_or_default());
        let name = name.unwrap_or_else(|| "Error".to_owned());
        let position = field("stack").and_then(|stack| position_in(&stack, script));
        let fault = match (name.as_str(), message.as_str()) {
            ("SyntaxError", _) => Fault::Syntax,
            ("InternalError", text) if text.starts_with("out of memory") => Fault::Memory,
            _ => Fault::Thrown,
        };
        let text = match fault {
            Fault::Memory => MEMORY.to_owned(),
            _ if message.is_empty() => name,
            _ => format!("{name}: {message}"),
        };
        Self { position, ..Self::new(script, fault, text) }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.script)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ScriptError {}

/// A value that is no error, for a message.
fn text_of<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    if let Some(text) = value.as_string() {
        return text.to_string().unwrap_or_default();
    }
    match ctx.json_stringify(value.clone()) {
        Ok(Some(text)) => text.to_string().unwrap_or_default(),
        Ok(None) => value.type_name().to_owned(),
        Err(_) => {
            drop(ctx.catch());
            value.type_name().to_owned()
        }
    }
}

/// The first place in the script among the lines of a stack, such as `at decode (a.js:3:12)`.
fn position_in(stack: &str, script: &str) -> Option<Position> {
    stack.lines().find_map(|line| {
        let (_, place) = line.rsplit_once(&format!("{script}:"))?;
        let mut numbers = place.trim_end_matches(')').split(':');
        let line = numbers.next()?.parse().ok()?;
        let column = numbers.next().and_then(|column| column.parse().ok()).unwrap_or(1);
        Some(Position { line, column })
    })
}

/// Cuts a text at the end of a character.
pub(crate) fn shorten(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" …");
    }
}

use crate::engine::Script;

/// An error's text goes to the log and to the device.
const MESSAGE_BYTES_MAX: usize = 512;
const MEMORY: &str =
    "the script is out of memory; `script_memory` in [settings] says how much it may have";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_that_of_the_script_and_not_of_what_it_calls() {
        let stack = "    at parse (native)\n    at decode (a.js:3:12)\n    at <eval> (a.js:9:1)\n";
        assert_eq!(position_in(stack, "a.js"), Some(Position { line: 3, column: 12 }));
        assert_eq!(position_in("    at a.js:7:1\n", "a.js"), Some(Position { line: 7, column: 1 }));
        assert_eq!(position_in(stack, "b.js"), None);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut text = "äää".to_owned();
        shorten(&mut text, 3);
        assert_eq!(text, "ä …");
    }
}
