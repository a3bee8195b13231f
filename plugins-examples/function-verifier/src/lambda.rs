//! Answers of AWS IoT Core's custom authorizers.

use portreeve_guest::{Admission, Connect, Refusal, Verdict};
use portreeve_script::{Script, ScriptError};
use serde_json::Value;

use crate::policy;

/// As documented: letters and digits, 1 to 128.
const PRINCIPAL_ID_CHARACTERS_MAX: usize = 128;
/// As documented, for both times.
const SECONDS: std::ops::RangeInclusive<u64> = 300..=86_400;
/// Documents, and characters of each.
const DOCUMENTS_MAX: usize = 10;
const DOCUMENT_CHARACTERS_MAX: usize = 2048;

/// An answer that keeps the documented limits.
#[derive(Debug)]
pub(crate) struct Answer {
    is_authenticated: bool,
    principal_id: String,
    expires_in: Option<u32>,
    documents: Vec<Value>,
}

/// Reads an answer.
pub(crate) fn read(script: &Script, answer: &Value) -> Result<Answer, ScriptError> {
    read_answer(answer).map_err(|text| ScriptError::of_result(script, text))
}

fn read_answer(answer: &Value) -> Result<Answer, String> {
    let Some(Value::Bool(is_authenticated)) = answer.get("isAuthenticated") else {
        return Err("isAuthenticated of its answer is not true or false".to_owned());
    };
    if !is_authenticated {
        return Ok(Answer {
            is_authenticated: false,
            principal_id: String::new(),
            expires_in: None,
            documents: Vec::new(),
        });
    }
    let principal_id = answer.get("principalId").and_then(Value::as_str).unwrap_or_default();
    let is_principal = (1..=PRINCIPAL_ID_CHARACTERS_MAX).contains(&principal_id.len())
        && principal_id.chars().all(|character| character.is_ascii_alphanumeric());
    if !is_principal {
        return Err("principalId of its answer is not 1 to 128 letters and digits".to_owned());
    }
    let times =
        [seconds(answer, "disconnectAfterInSeconds")?, seconds(answer, "refreshAfterInSeconds")?];
    Ok(Answer {
        is_authenticated: true,
        principal_id: principal_id.to_owned(),
        // Behind it the gateway asks again, which is a refresh and, where it is refused, the end.
        expires_in: times.into_iter().flatten().min(),
        documents: documents(answer)?,
    })
}

fn seconds(answer: &Value, key: &str) -> Result<Option<u32>, String> {
    match answer.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|seconds| SECONDS.contains(seconds)) {
            Some(seconds) => Ok(u32::try_from(seconds).ok()),
            None => Err(format!("{key} of its answer is not 300 to 86400")),
        },
    }
}

fn documents(answer: &Value) -> Result<Vec<Value>, String> {
    let Some(Value::Array(list)) = answer.get("policyDocuments") else {
        return Err("policyDocuments of its answer is no list".to_owned());
    };
    if list.len() > DOCUMENTS_MAX {
        return Err(format!("policyDocuments of its answer has more than {DOCUMENTS_MAX}"));
    }
    let document = |document: &Value| {
        let (text, value) = match document {
            Value::String(text) => {
                (text.clone(), serde_json::from_str(text).unwrap_or(Value::Null))
            }
            value => (value.to_string(), value.clone()),
        };
        if text.chars().count() > DOCUMENT_CHARACTERS_MAX {
            return Err(format!(
                "a policy document has more than {DOCUMENT_CHARACTERS_MAX} characters"
            ));
        }
        Ok(value)
    };
    list.iter().map(document).collect()
}

impl Answer {
    pub(crate) fn principal_id(&self) -> &str {
        &self.principal_id
    }

    pub(crate) fn verdict(
        &self,
        script: &Script,
        request: &Connect,
        device_name: Option<String>,
        leaves_out: bool,
    ) -> Result<Verdict, ScriptError> {
        if !self.is_authenticated {
            return Ok(Refusal::bad_user_name_or_password("not authenticated").into());
        }
        let wrong = |text: String| ScriptError::of_result(script, text);
        let policy = policy::read(&self.documents, &request.client_id).map_err(wrong)?;
        if !policy.may_connect(&request.client_id) {
            return Ok(Refusal::not_authorized("the policy does not allow iot:Connect").into());
        }
        let permissions = match policy.permissions(leaves_out) {
            Ok(permissions) => permissions,
            Err(text) => {
                portreeve_guest::log::warn(&format!("{}: {text}", script.name()));
                return Ok(Refusal::not_authorized("the policy cannot be kept here").into());
            }
        };
        let name = device_name
            .ok_or_else(|| wrong("`device_name` of the settings has no value here".to_owned()))?;
        let mut admission =
            Admission::new(name).attribute("principal_id", self.principal_id.as_str());
        admission.permissions = Some(permissions);
        admission.expires_in = self.expires_in;
        Ok(admission.into())
    }
}
