//! The settings as they are written: those of the manifest over those of the preset, and how
//! each kind of value is read. Errors say which setting is wrong and what to write.

use std::collections::BTreeMap;
use std::time::Duration;

use portreeve_guest::Error;
use serde_json::{Map, Value};

use crate::presets::{is_merged, lay_over, preset};

/// The settings of a manifest with its preset.
pub(crate) struct Source {
    merged: Map<String, Value>,
    /// Those of the manifest as they came: texts.
    own: BTreeMap<String, String>,
    pub(crate) preset: String,
}

impl Source {
    /// Merges the manifest's settings with the preset that they name.
    ///
    /// # Errors
    /// An unknown preset, or a table that is none.
    pub(crate) fn new(own: Vec<(String, String)>) -> Result<Self, Error> {
        let own: BTreeMap<String, String> = own.into_iter().collect();
        let name = own.get("preset").map_or("portreeve", String::as_str).to_owned();
        let mut merged = preset(&name, |key| own.get(key).cloned())?;
        let mut above = Map::new();
        for (key, text) in &own {
            above.insert(key.clone(), value(key, text)?);
        }
        lay_over(&mut merged, above);
        Ok(Self { merged, own, preset: name })
    }

    /// A setting of the manifest, for `${setting.NAME}`.
    pub(crate) fn own(&self, key: &str) -> Option<String> {
        self.own.get(key).cloned()
    }

    /// The keys of the manifest's settings.
    pub(crate) fn own_keys(&self) -> impl Iterator<Item = &str> {
        self.own.keys().map(String::as_str)
    }

    /// Whether the preset knows a setting that not all of them know.
    pub(crate) fn knows_mode(&self, key: &str) -> bool {
        self.merged.contains_key(key)
            && matches!(key, "response_mode" | "params_mode")
            && self.preset == "mosquitto-go-auth"
    }

    pub(crate) fn value(&self, key: &str) -> Value {
        self.merged.get(key).cloned().unwrap_or_default()
    }

    /// A text; empty where it is not set.
    pub(crate) fn text(&self, key: &str) -> Result<String, Error> {
        match self.merged.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(wrong(key, "is no text", "write it in quotation marks")),
        }
    }

    /// One of the texts that there are.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, Error> {
        let text = self.text(key)?;
        let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        chosen.ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            wrong(key, format!("is {text:?}"), format!("write one of {}", names.join(", ")))
        })
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str) -> Result<bool, Error> {
        match self.merged.get(key) {
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            _ => Err(wrong(key, "is neither true nor false", "write true or false")),
        }
    }

    /// A number from 0 to `max`.
    pub(crate) fn number(&self, key: &str, max: u32) -> Result<u32, Error> {
        let text = self.merged.get(key).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let number = text.as_deref().and_then(|text| text.parse().ok());
        number.filter(|number| *number <= max).ok_or_else(|| {
            let text = text.unwrap_or_default();
            wrong(key, format!("is {text}"), format!("write a number from 0 to {max}"))
        })
    }

    /// A duration such as `"500ms"`, at most `max`.
    pub(crate) fn duration(&self, key: &str, max: Duration) -> Result<Duration, Error> {
        let text = self.text(key)?;
        duration(&text).filter(|duration| *duration <= max).ok_or_else(|| {
            let fix = format!(
                "write a duration such as \"500ms\", \"10s\" or \"5m\", at most {} s",
                max.as_secs()
            );
            wrong(key, format!("is {text:?}"), fix)
        })
    }

    /// A list of texts; one text is a list of one.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, Error> {
        texts(self.merged.get(key).unwrap_or(&Value::Null))
            .ok_or_else(|| wrong(key, "is no list of texts", "write [\"user_name\"]"))
    }

    /// A table of texts; numbers and truth values become texts.
    pub(crate) fn table(&self, key: &str) -> Result<BTreeMap<String, String>, Error> {
        let entries = self.merged.get(key).and_then(Value::as_object).into_iter().flatten();
        let entry = |(name, value): (&String, &Value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
            _ => Err(wrong(&format!("{key}.{name}"), "is no text", "write it in quotation marks")),
        };
        entries.map(entry).collect()
    }
}

/// A setting as the manifest has it: tables and lists come as JSON.
fn value(key: &str, text: &str) -> Result<Value, Error> {
    let json = || serde_json::from_str::<Value>(text).ok();
    if is_merged(key) {
        return json()
            .filter(Value::is_object)
            .ok_or_else(|| wrong(key, "is no table", format!("write a table, [settings.{key}]")));
    }
    let structured = match key {
        "body" => json().filter(Value::is_object),
        "required" => json().filter(Value::is_array),
        _ => None,
    };
    Ok(structured.unwrap_or_else(|| Value::String(text.to_owned())))
}

/// Texts of a value: those of a list, or the one that it is; an empty one is none.
pub(crate) fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) if text.is_empty() => Some(Vec::new()),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let milliseconds = match text.get(digits.len()..)? {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

/// What is wrong with a setting.
pub(crate) fn wrong(key: &str, what: impl AsRef<str>, fix: impl AsRef<str>) -> Error {
    Error::new(format!("the setting `{key}` {}: {}", what.as_ref(), fix.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(own: &[(&str, &str)]) -> Source {
        let own = own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Source::new(own.collect()).unwrap()
    }

    #[test]
    fn values_are_read_as_the_manifest_hands_them_over() {
        let source = source(&[
            ("retries", "2"),
            ("superusers", "false"),
            ("retry_within", "1500ms"),
            ("required", r#"["user_name"]"#),
            ("headers", r#"{"x-a":"1","x-b":2}"#),
            ("body", r#"{"a":"${client_id}"}"#),
        ]);
        assert_eq!(source.number("retries", 5).unwrap(), 2);
        assert!(!source.boolean("superusers").unwrap());
        let max = Duration::from_secs(2);
        assert_eq!(source.duration("retry_within", max).unwrap(), Duration::from_millis(1500));
        assert_eq!(source.texts("required").unwrap(), ["user_name"]);
        let headers = source.table("headers").unwrap();
        assert_eq!((headers["x-a"].as_str(), headers["x-b"].as_str()), ("1", "2"));
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(source.value("body")["a"], "${client_id}");
        assert_eq!(source.text("method").unwrap(), "POST");
    }

    #[test]
    fn mistakes_are_named_with_what_to_write() {
        let source = source(&[
            ("retries", "many"),
            ("superusers", "yes"),
            ("retry_within", "5"),
            ("absent", "gone"),
            ("required", "[1]"),
        ]);
        let max = Duration::from_secs(60);
        let said = [
            source.number("retries", 5).unwrap_err(),
            source.boolean("superusers").unwrap_err(),
            source.duration("retry_within", max).unwrap_err(),
            source.choice("absent", &[("null", 0), ("omit", 1)]).unwrap_err(),
            source.texts("required").unwrap_err(),
        ]
        .map(|error| error.to_string());
        for (said, (key, fix)) in said.iter().zip([
            ("retries", "0 to 5"),
            ("superusers", "true or false"),
            ("retry_within", "\"10s\""),
            ("absent", "null, omit"),
            ("required", "[\"user_name\"]"),
        ]) {
            assert!(said.contains(&format!("`{key}`")) && said.contains(fix), "{said}");
        }
        let own = vec![("headers".to_owned(), "x".to_owned())];
        let said = Source::new(own).err().unwrap().to_string();
        assert!(said.contains("[settings.headers]"), "{said}");
    }

    #[test]
    fn durations_have_a_unit() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs());
        assert_eq!(
            (seconds("2m"), seconds("1h"), seconds("7d")),
            (Some(120), Some(3600), Some(604_800))
        );
        assert!(
            ["", "s", "5", "-1s", "1.5s", "1w", "99999999999999999999d", "é"]
                .iter()
                .all(|text| duration(text).is_none())
        );
    }
}
