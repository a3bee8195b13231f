//! Answers of the presets `portreeve`, `function-compute` and `template`: JSON pointers say where
//! the result stands, what names the device, and what it may do.

use portreeve_guest::{Action, Admission, Permission, Refusal, RefusalReason, Verdict, settings};
use portreeve_script::{Script, ScriptError};
use serde_json::{Map, Value};

/// Where things stand in an answer.
#[derive(Debug)]
pub(crate) struct Contract {
    pointers: Vec<(&'static str, String)>,
    results: Vec<(String, Meaning)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Accept,
    Refuse(RefusalReason),
}

/// Keys of `response`, and the pointers of Portreeve's own contract.
const POINTERS: [(&str, &str); 10] = [
    ("result", "/result"),
    ("device_name", "/deviceName"),
    ("product", "/product"),
    ("attributes", "/attributes"),
    ("permissions", "/permissions"),
    ("expires_in", "/expiresIn"),
    ("cache_for", "/cacheFor"),
    ("reason", "/reason"),
    ("message", "/message"),
    ("server_reference", "/serverReference"),
];

const REASONS: [(&str, RefusalReason); 6] = [
    ("not-authorized", RefusalReason::NotAuthorized),
    ("bad-user-name-or-password", RefusalReason::BadUserNameOrPassword),
    ("banned", RefusalReason::Banned),
    ("server-busy", RefusalReason::ServerBusy),
    ("quota-exceeded", RefusalReason::QuotaExceeded),
    ("use-another-server", RefusalReason::UseAnotherServer),
];

/// As many as the gateway takes.
const PERMISSIONS_MAX: usize = 1024;
const ATTRIBUTES_MAX: usize = 64;

impl Contract {
    pub(crate) fn from_settings() -> Result<Self, ScriptError> {
        let given = table("response")?;
        if let Some(unknown) = given.keys().find(|key| POINTERS.iter().all(|(name, _)| name != key))
        {
            let names = POINTERS.map(|(name, _)| name).join(", ");
            return Err(wrong_setting(format!("`response` has `{unknown}`; there are {names}")));
        }
        let mut pointers = Vec::new();
        for (name, default) in POINTERS {
            let pointer = match given.get(name) {
                None => default.to_owned(),
                Some(Value::String(text)) if text.is_empty() || text.starts_with('/') => {
                    text.clone()
                }
                Some(other) => {
                    return Err(wrong_setting(format!(
                        "`response.{name}` is {other}; write a JSON pointer, such as \"{default}\""
                    )));
                }
            };
            pointers.push((name, pointer));
        }
        let mut results = table("results")?;
        if results.is_empty() {
            results.insert("accept".to_owned(), "accept".into());
            results.insert("reject".to_owned(), "not-authorized".into());
        }
        let results = results.iter().map(|(value, meaning)| {
            let meaning = meaning.as_str().and_then(meaning_of).ok_or_else(|| {
                let reasons = REASONS.map(|(name, _)| name).join(", ");
                wrong_setting(format!(
                    "`results.{value}` is {meaning}; write \"accept\" or a reason: {reasons}"
                ))
            })?;
            Ok((value.clone(), meaning))
        });
        Ok(Self { pointers, results: results.collect::<Result<_, ScriptError>>()? })
    }

    /// The verdict of an answer. `named` makes the device's name where the answer has none.
    pub(crate) fn verdict(
        &self,
        script: &Script,
        answer: &Value,
        named: impl FnOnce() -> Option<String>,
    ) -> Result<Verdict, ScriptError> {
        let wrong = |text: String| ScriptError::of_result(script, text);
        let Some(result) = self.field(answer, "result") else {
            return Err(wrong(format!("its answer has no {}", self.pointer("result"))));
        };
        let spelled = match result {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self.results.iter().find(|(value, _)| *value == spelled) {
            Some((_, Meaning::Accept)) => {
                self.admission(answer, named).map(Into::into).map_err(wrong)
            }
            Some(&(_, Meaning::Refuse(reason))) => {
                self.refusal(answer, reason).map(Into::into).map_err(wrong)
            }
            None => {
                let known: Vec<&str> =
                    self.results.iter().map(|(value, _)| value.as_str()).collect();
                let pointer = self.pointer("result");
                Err(wrong(format!("{pointer} of its answer is none of {}", known.join(", "))))
            }
        }
    }

    fn admission(
        &self,
        answer: &Value,
        named: impl FnOnce() -> Option<String>,
    ) -> Result<Admission, String> {
        let name = match self.text(answer, "device_name")? {
            Some(name) => name.to_owned(),
            None => named().ok_or("neither its answer nor `device_name` names the device")?,
        };
        let mut admission = Admission::new(name);
        admission.product = self.text(answer, "product")?.map(str::to_owned);
        if let Some(attributes) = self.field(answer, "attributes") {
            admission.attributes = self.attributes(attributes)?;
        }
        if let Some(permissions) = self.field(answer, "permissions") {
            admission.permissions = Some(self.permissions(permissions)?);
        }
        admission.expires_in = self.seconds(answer, "expires_in")?.map(|seconds| seconds.max(1));
        admission.cache_for = self.seconds(answer, "cache_for")?;
        Ok(admission)
    }

    fn refusal(&self, answer: &Value, reason: RefusalReason) -> Result<Refusal, String> {
        let reason = match self.text(answer, "reason")? {
            Some(text) => match meaning_of(text) {
                Some(Meaning::Refuse(reason)) => reason,
                _ => return Err(format!("{} of its answer is no reason", self.pointer("reason"))),
            },
            None => reason,
        };
        let message = self.text(answer, "message")?.unwrap_or("refused by the function");
        let server_reference = self.text(answer, "server_reference")?.map(str::to_owned);
        Ok(Refusal { server_reference, ..Refusal::new(reason, message) })
    }

    fn attributes(&self, attributes: &Value) -> Result<Vec<(String, String)>, String> {
        let pointer = self.pointer("attributes");
        let Value::Object(members) = attributes else {
            return Err(format!("{pointer} of its answer is no object"));
        };
        let mut list = Vec::new();
        for (name, value) in members {
            let values = match value {
                Value::Array(values) => values.as_slice(),
                other => std::slice::from_ref(other),
            };
            for value in values {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    _ => {
                        return Err(format!("{pointer}/{name} of its answer is no text or number"));
                    }
                };
                list.push((name.clone(), text));
            }
        }
        match list.len() <= ATTRIBUTES_MAX {
            true => Ok(list),
            false => Err(format!("{pointer} of its answer has more than {ATTRIBUTES_MAX} entries")),
        }
    }

    fn permissions(&self, permissions: &Value) -> Result<Vec<Permission>, String> {
        let pointer = self.pointer("permissions");
        let list = permissions.as_array().filter(|list| list.len() <= PERMISSIONS_MAX).ok_or_else(
            || {
                format!(
                    "{pointer} of its answer is no list of at most {PERMISSIONS_MAX} permissions"
                )
            },
        )?;
        let permission = |(index, value): (usize, &Value)| {
            let action = match value.get("action").and_then(Value::as_str) {
                Some("publish") => Action::Publish,
                Some("subscribe") => Action::Subscribe,
                Some("both") => Action::Both,
                _ => {
                    return Err(format!(
                        "{pointer}/{index}/action of its answer is not publish, subscribe or both"
                    ));
                }
            };
            match value.get("topicFilter").and_then(Value::as_str) {
                Some(filter) => Ok(Permission { action, topic_filter: filter.to_owned() }),
                None => Err(format!("{pointer}/{index} of its answer has no topicFilter")),
            }
        };
        list.iter().enumerate().map(permission).collect()
    }

    fn pointer(&self, key: &str) -> &str {
        self.pointers.iter().find(|(name, _)| *name == key).map_or("", |(_, pointer)| pointer)
    }

    /// A field that is there and not null.
    fn field<'a>(&self, answer: &'a Value, key: &str) -> Option<&'a Value> {
        let pointer = self.pointer(key);
        // An empty pointer is the whole answer, which only a result can be.
        if pointer.is_empty() && key != "result" {
            return None;
        }
        answer.pointer(pointer).filter(|value| !value.is_null())
    }

    fn text<'a>(&self, answer: &'a Value, key: &str) -> Result<Option<&'a str>, String> {
        match self.field(answer, key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{} of its answer is no text", self.pointer(key))),
        }
    }

    fn seconds(&self, answer: &Value, key: &str) -> Result<Option<u32>, String> {
        match self.field(answer, key) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|seconds| u32::try_from(seconds).ok()) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(format!("{} of its answer is no number of seconds", self.pointer(key))),
            },
        }
    }
}

fn meaning_of(name: &str) -> Option<Meaning> {
    if name == "accept" {
        return Some(Meaning::Accept);
    }
    REASONS.iter().find(|(known, _)| *known == name).map(|&(_, reason)| Meaning::Refuse(reason))
}

fn table(key: &str) -> Result<Map<String, Value>, ScriptError> {
    match settings::get(key) {
        None => Ok(Map::new()),
        Some(text) => serde_json::from_str(&text)
            .map_err(|_| wrong_setting(format!("`{key}` is no table; write [settings.{key}]"))),
    }
}

fn wrong_setting(text: String) -> ScriptError {
    ScriptError::of_settings(text)
}
