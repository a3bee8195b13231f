//! The settings that plugins with a script have in common.

use std::collections::BTreeMap;

use portreeve_guest::settings;

use crate::engine::{MEMORY_BYTES_DEFAULT, Source};
use crate::error::ScriptError;

/// `script`, `script_name`, `script_memory` and `env.NAME`.
#[derive(Debug, Clone)]
pub struct ScriptSettings {
    text: String,
    name: String,
    memory_bytes_max: usize,
    environment: BTreeMap<String, String>,
}

/// What the engine takes for itself before a script does anything.
const MEMORY_BYTES_MIN: usize = 1 << 20;

impl ScriptSettings {
    /// Reads them from the manifest.
    ///
    /// # Errors
    /// Names the setting that is missing or wrong.
    pub fn read() -> Result<Self, ScriptError> {
        let name = settings::get("script_name").unwrap_or_else(|| "script".to_owned());
        let text = settings::get("script").ok_or_else(|| {
            wrong("the manifest's [settings] has no `script`; write script = { file = \"script.js\" }")
        })?;
        let memory_bytes_max = match settings::get("script_memory") {
            None => MEMORY_BYTES_DEFAULT,
            Some(text) => size(&text).filter(|&bytes| bytes >= MEMORY_BYTES_MIN).ok_or_else(|| {
                wrong(format!("`script_memory` is {text:?}; write a size from 1MiB on, such as \"8MiB\", below `limits.memory`"))
            })?,
        };
        let environment = settings::all()
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("env.")?.to_owned(), value)))
            .collect();
        Ok(Self { text, name, memory_bytes_max, environment })
    }

    /// The script, ready to be loaded.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        Source::new(&self.name, &self.text)
            .memory(self.memory_bytes_max)
            .environment(self.environment.clone())
    }
}

/// A setting that is one of some words; the first one where the manifest does not have it.
///
/// # Errors
/// Names the words.
pub fn choice<T: Copy>(key: &str, words: &[(&str, T)]) -> Result<T, ScriptError> {
    let given = settings::get(key);
    let found = match &given {
        None => words.first(),
        Some(given) => words.iter().find(|(word, _)| word == given),
    };
    match found {
        Some(&(_, value)) => Ok(value),
        None => {
            let words: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
            let given = given.unwrap_or_default();
            Err(wrong(format!("`{key}` is {given:?}; it is one of {}", words.join(", "))))
        }
    }
}

/// A setting that is a JSON pointer (RFC 6901).
///
/// # Errors
/// Where it is none.
pub fn json_pointer(key: &str) -> Result<Option<String>, ScriptError> {
    match settings::get(key) {
        Some(text) if !text.is_empty() && !text.starts_with('/') => Err(wrong(format!(
            "`{key}` is {text:?}; a JSON pointer begins with a slash: \"/{text}\""
        ))),
        other => Ok(other),
    }
}

pub(crate) fn wrong(message: impl Into<String>) -> ScriptError {
    ScriptError::of_settings(message)
}

fn size(text: &str) -> Option<usize> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}
