//! The manifest `NAME.toml` beside a plugin `NAME.wasm`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portreeve_plugin::{BreakerPolicy, InstancePolicy, Limits, Manifest, RolloutPolicy, Share};
use toml::de::DeValue;

use super::capabilities::capabilities;
use super::gateway::binding_from_section;
use super::reader::{self, Section, read_plain};
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
    /// Files that its settings come from.
    pub files: Vec<PathBuf>,
}

impl PluginManifest {
    /// Reads the manifest of the plugin `name`; one that does not exist is the default.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, by line and key.
    pub fn read(path: &Path, name: &str) -> Result<Self, ConfigError> {
        Self::parse(path, &Self::read_text(path)?, name)
    }

    /// The text of a manifest; that of one that does not exist is empty.
    ///
    /// # Errors
    /// [`ConfigError`] where it cannot be read.
    pub fn read_text(path: &Path) -> Result<String, ConfigError> {
        match read_plain(path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(ConfigError(vec![Problem::of_file(path, &error)])),
        }
    }

    /// Parses the text of the manifest `path` of the plugin `name`. Files that it names are looked
    /// for beside `path`.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, by line and key.
    pub fn parse(path: &Path, text: &str, name: &str) -> Result<Self, ConfigError> {
        reader::read(path, text, |section| Self::from_section(&section, path, name))
    }

    fn from_section(section: &Section<'_>, path: &Path, name: &str) -> Self {
        let mut manifest = Self::default();
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        if let Some(settings) = section.table("settings") {
            read_settings(&settings, folder, &mut manifest);
        }
        manifest.plugin.capabilities =
            capabilities(section, &manifest.plugin.settings, folder, &mut manifest.files);
        if let Some(limits) = section.table("limits") {
            read_limits(&limits, &mut manifest.plugin.limits);
        }
        manifest.plugin.instances = section.table("instances").and_then(|table| instances(&table));
        rollout(section, &mut manifest.plugin.rollout);
        if let Some(breaker) = section.table("breaker") {
            read_breaker(&breaker, &mut manifest.plugin.breaker);
        }
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
    let InstancePolicy::Warm { mut instances, mut calls, .. } = InstancePolicy::warm_default()
    else {
        return None;
    };
    let mut memory_bytes_mark = 0_usize;
    // Who says how many there are, says that they are kept.
    let says_more = ["instances", "calls", "memory_mark"]
        .iter()
        .any(|key| section.entries().any(|(k, _)| k == *key));
    let policy = policy.or(says_more.then_some(true));
    if policy == Some(true) {
        section.integer_into("instances", &mut instances, 1..=1_000);
        section.integer_into("calls", &mut calls, 1..=1_000_000_000);
        section.bytes_into("memory_mark", &mut memory_bytes_mark, (64 << 10)..((64 << 20) + 1));
    }
    section.finish();
    let memory_bytes_mark = (memory_bytes_mark > 0).then_some(memory_bytes_mark);
    Some(match policy? {
        true => InstancePolicy::Warm { instances, calls, memory_bytes_mark },
        false => InstancePolicy::Fresh,
    })
}

/// `canary = "5%"`, `shadow = "100%"`, and how far a canary goes.
fn rollout(section: &Section<'_>, rollout: &mut RolloutPolicy) {
    rollout.canary = share(section, "canary");
    rollout.shadow = share(section, "shadow");
    section.integer_into("canary_calls", &mut rollout.canary_calls, 1..=1_000_000_000);
    section.integer_into("canary_devices", &mut rollout.canary_devices_max, 1..=1_000_000);
}

/// `"5%"` or `"0.5%"`.
fn share(section: &Section<'_>, key: &'static str) -> Option<Share> {
    let text = section.string(key)?;
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent.filter(|percent| (0.000_1..=100.0).contains(percent)) {
        Some(percent) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "1 to 1,000,000, as was checked"
            )]
            let parts = (percent * 10_000.0).round() as u32;
            Some(Share::parts_per_million(parts))
        }
        None => {
            let what = format!("{text:?} is no share from 0.0001% to 100%");
            section.problem(key, what, "write \"5%\"");
            None
        }
    }
}

/// `[breaker] faults = 20`.
fn read_breaker(section: &Section<'_>, breaker: &mut BreakerPolicy) {
    section.integer_into("faults", &mut breaker.faults, 0..=1_000_000);
    section.integer_into("percent", &mut breaker.percent, 1..=100);
    section.integer_into("devices", &mut breaker.devices, 1..=1_000);
    section.duration_into("open", &mut breaker.open, Duration::from_millis(1));
    section.duration_into("open_max", &mut breaker.open_max, Duration::from_millis(1));
    section.finish();
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
    section.integer_into("state_entries", &mut limits.state_entries_max, 0..=1_000_000);
    section.finish();
}

/// Settings are texts; a table `{ env = "NAME" }` or `{ file = "PATH" }` is a secret that stands
/// elsewhere; anything else becomes JSON.
fn read_settings(section: &Section<'_>, folder: &Path, manifest: &mut PluginManifest) {
    for (key, value) in section.entries() {
        match setting(value, folder, &mut manifest.files) {
            Ok((text, is_secret)) => {
                if is_secret {
                    manifest.plugin.secrets.insert(key.to_owned());
                }
                manifest.plugin.settings.insert(key.to_owned(), text);
            }
            Err(error) => {
                section.problem(key, error, "write { env = \"NAME\" } or { file = \"PATH\" }")
            }
        }
    }
}

/// A setting's text, and whether it is a secret.
pub(super) fn setting(
    value: &DeValue<'_>,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<(String, bool), String> {
    if let Some(text) = value.as_str() {
        return Ok((text.to_owned(), false));
    }
    let only =
        value.as_table().filter(|table| table.len() == 1).and_then(|table| table.iter().next());
    if let Some((key, source)) = only
        && let Some(source) = source.get_ref().as_str()
    {
        match key.get_ref().as_ref() {
            "env" => {
                return std::env::var(source)
                    .map(|text| (text, true))
                    .map_err(|_| format!("the environment variable {source} is not set"));
            }
            "file" => {
                files.push(folder.join(source));
                let text = read_plain(&folder.join(source))
                    .map_err(|error| format!("the file {source} cannot be read: {error}"))?;
                return Ok((text.trim_end_matches(['\r', '\n']).to_owned(), true));
            }
            _ => {}
        }
    }
    json(value).map(|value| (value.to_string(), false))
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
