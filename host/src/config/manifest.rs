//! The manifest `NAME.toml` beside a plugin `NAME.wasm`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use portreeve_plugin::{InstancePolicy, Limits, Manifest};
use toml::de::DeValue;

use super::gateway::binding_from_section;
use super::reader::{self, Section};
use super::{BindingConfig, ConfigError, Problem};

/// What a manifest says.
#[derive(Debug, Clone, Default)]
pub struct PluginManifest {
    /// For the plugin runtime.
    pub plugin: Manifest,
    /// Gateways that the plugin verifies where they do not name a verification themselves.
    pub verifies: Vec<String>,
    /// `[[binding]]`: topics of every gateway that the plugin binds itself to.
    pub bindings: Vec<BindingConfig>,
}

impl PluginManifest {
    /// Reads the manifest of the plugin `name`; one that does not exist is the default.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, by line and key.
    pub fn read(path: &Path, name: &str) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                reader::read(path, &text, |section| Self::from_section(&section, path, name))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ConfigError(vec![Problem::of_file(path, &error)])),
        }
    }

    fn from_section(section: &Section<'_>, path: &Path, name: &str) -> Self {
        let mut manifest = Self::default();
        if let Some(settings) = section.table("settings") {
            manifest.plugin.settings = read_settings(&settings, path);
        }
        if let Some(limits) = section.table("limits") {
            read_limits(&limits, &mut manifest.plugin.limits);
        }
        manifest.plugin.instances = section.table("instances").and_then(|table| instances(&table));
        manifest.verifies = section.strings("verifies").unwrap_or_default();
        manifest.bindings = section
            .tables("binding")
            .into_iter()
            .filter_map(|binding| binding_from_section(&binding, Some(name.to_owned())))
            .collect();
        section.finish();
        manifest
    }
}

/// `[instances] policy = "warm"`.
fn instances(section: &Section<'_>) -> Option<InstancePolicy> {
    let policy = section.choice("policy", &[("fresh", false), ("warm", true)]);
    let InstancePolicy::Warm { mut instances, mut calls } = InstancePolicy::warm_default() else {
        return None;
    };
    if policy == Some(true) {
        section.integer_into("instances", &mut instances, 1..=1_000);
        section.integer_into("calls", &mut calls, 1..=1_000_000_000);
    }
    section.finish();
    Some(if policy? { InstancePolicy::Warm { instances, calls } } else { InstancePolicy::Fresh })
}

fn read_limits(section: &Section<'_>, limits: &mut Limits) {
    const MEMORY_BYTES: u64 = 64 << 20;
    section.duration_into("deadline", &mut limits.deadline, Duration::from_millis(1));
    section.bytes_into("memory", &mut limits.memory_bytes_max, (64 << 10)..(MEMORY_BYTES + 1));
    section.integer_into("concurrent_calls", &mut limits.concurrent_calls_max, 1..=1_000);
    section.integer_into("waiting_calls", &mut limits.waiting_calls_max, 0..=1_000_000);
    section.bytes_into("output", &mut limits.output_bytes_max, 1024..(1 << 30));
    section.integer_into("log_lines_per_second", &mut limits.log_lines_per_second, 0..=1_000_000);
    section.bytes_into("state", &mut limits.state_bytes_max, 0..((64 << 20) + 1));
    section.finish();
}

/// Settings are texts; a table `{ env = "NAME" }` or `{ file = "PATH" }` is a secret that stands
/// elsewhere; anything else becomes JSON.
fn read_settings(section: &Section<'_>, path: &Path) -> BTreeMap<String, String> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut settings = BTreeMap::new();
    for (key, value) in section.entries() {
        match setting(value, folder) {
            Ok(text) => drop(settings.insert(key.to_owned(), text)),
            Err(error) => {
                section.problem(key, error, "write { env = \"NAME\" } or { file = \"PATH\" }")
            }
        }
    }
    settings
}

fn setting(value: &DeValue<'_>, folder: &Path) -> Result<String, String> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let only =
        value.as_table().filter(|table| table.len() == 1).and_then(|table| table.iter().next());
    if let Some((key, source)) = only
        && let Some(source) = source.get_ref().as_str()
    {
        match key.get_ref().as_ref() {
            "env" => {
                return std::env::var(source)
                    .map_err(|_| format!("the environment variable {source} is not set"));
            }
            "file" => {
                let text = std::fs::read_to_string(folder.join(source))
                    .map_err(|error| format!("the file {source} cannot be read: {error}"))?;
                return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
            }
            _ => {}
        }
    }
    json(value).map(|value| value.to_string())
}

fn json(value: &DeValue<'_>) -> Result<serde_json::Value, String> {
    use serde_json::Value;
    Ok(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Datetime(value) => Value::from(value.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .map_err(|_| format!("{number} is too large a number"))?,
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map(Value::from)
            .map_err(|_| format!("{number} is no number"))?,
        DeValue::Array(items) => {
            items.iter().map(|item| json(item.get_ref())).collect::<Result<Vec<_>, _>>()?.into()
        }
        DeValue::Table(table) => {
            let mut object = serde_json::Map::new();
            for (key, value) in table.iter() {
                object.insert(key.get_ref().to_string(), json(value.get_ref())?);
            }
            Value::Object(object)
        }
    })
}
