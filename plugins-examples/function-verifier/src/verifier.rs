//! The preset that the settings name, and its function.

use portreeve_guest::{Connect, Refusal, Verdict, settings};
use portreeve_script::{
    Argument, FunctionId, Returned, Script, ScriptError, ScriptSettings, Template, choice,
};
use serde_json::{Value, json};

use crate::contract::Contract;
use crate::event::{self, Event, NoText, PLACEHOLDERS, placeholder};
use crate::lambda;

/// A function with the shape in which its cloud calls it.
#[derive(Debug)]
pub(crate) struct FunctionVerifier {
    script: Script,
    handler: FunctionId,
    handler_name: String,
    event: Event,
    event_type: EventType,
    answer: Answer,
    device_name: Template,
    /// Whether a device for which the function fails is refused, and not told to come back.
    pub(crate) refuses_errors: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preset {
    Portreeve,
    Lambda,
    FunctionCompute,
    Template,
}

/// What the function is handed.
#[derive(Debug, Clone, Copy)]
enum EventType {
    Object,
    Text,
    Buffer,
}

/// How its answer is read.
#[derive(Debug)]
enum Answer {
    Contract(Box<Contract>),
    Lambda { leaves_out: bool },
}

impl FunctionVerifier {
    pub(crate) fn from_settings() -> Result<Self, ScriptError> {
        let preset = choice(
            "preset",
            &[
                ("portreeve", Preset::Portreeve),
                ("lambda", Preset::Lambda),
                ("function-compute", Preset::FunctionCompute),
                ("template", Preset::Template),
            ],
        )?;
        let own_settings = ScriptSettings::read()?;
        let types = [
            ("object", EventType::Object),
            ("text", EventType::Text),
            ("buffer", EventType::Buffer),
        ];
        let event_type = match (preset, settings::get("event_type")) {
            (Preset::FunctionCompute, None) => EventType::Buffer,
            _ => choice("event_type", &types)?,
        };
        let mut source = own_settings.source();
        if matches!(event_type, EventType::Buffer) {
            source = source.with_buffer();
        }
        let mut script = Script::load(&source)?;
        // Clouds name a file and a function in it: `index.handler`.
        let named = settings::get("handler").unwrap_or_else(|| "handler".to_owned());
        let handler_name = named.rsplit('.').next().unwrap_or_default().to_owned();
        let handler = script.function(&handler_name)?;
        let answer = match preset {
            Preset::Lambda => Answer::Lambda {
                leaves_out: choice(
                    "unsupported_policy",
                    &[("refuse", false), ("leave-out", true)],
                )?,
            },
            _ => Answer::Contract(Box::new(Contract::from_settings()?)),
        };
        let event = match (preset, settings::get("event")) {
            (Preset::Lambda, _) => Event::Lambda { token_key: settings::get("token_key") },
            (Preset::Template, None) => {
                return Err(ScriptError::of_settings(
                    "the preset `template` needs `event`, such as event = { user = \"${user_name}\" }",
                ));
            }
            (Preset::Portreeve, _) | (_, None) => Event::Portreeve,
            (_, Some(template)) => Event::Template(event::parse(&template)?),
        };
        let name = settings::get("device_name").unwrap_or_else(|| {
            if preset == Preset::Lambda { "${client_id}" } else { "${user_name}" }.to_owned()
        });
        let mut names = PLACEHOLDERS.to_vec();
        names.push("principal_id");
        Ok(Self {
            script,
            handler,
            handler_name,
            event,
            event_type,
            answer,
            device_name: Template::parse("device_name", &name, &names)?,
            refuses_errors: choice("on_error", &[("refuse", true), ("unavailable", false)])?,
        })
    }

    pub(crate) fn verify(&mut self, request: &Connect) -> Result<Verdict, ScriptError> {
        let event = match self.event.json(request) {
            Ok(event) => event.to_string(),
            Err(NoText) => {
                let text = "the password is no text";
                return Ok(Refusal::bad_user_name_or_password(text).into());
            }
        };
        let event = match self.event_type {
            EventType::Object => Argument::Json(&event),
            EventType::Text => Argument::Text(&event),
            EventType::Buffer => Argument::Buffer(event.as_bytes()),
        };
        let context = context(request, &self.handler_name).to_string();
        let returned = self.script.call_handler(self.handler, event, Argument::Json(&context))?;
        let answer = self.value(returned)?;
        match &self.answer {
            Answer::Contract(contract) => {
                let named = || self.named(request, "");
                contract.verdict(&self.script, &answer, named)
            }
            Answer::Lambda { leaves_out } => {
                let answer = lambda::read(&self.script, &answer)?;
                let named = self.named(request, answer.principal_id());
                answer.verdict(&self.script, request, named, *leaves_out)
            }
        }
    }

    /// The answer of the function. A text is JSON, as clouds write it.
    fn value(&self, returned: Returned) -> Result<Value, ScriptError> {
        let wrong = |text: &str| ScriptError::of_result(&self.script, text);
        let text = match returned {
            Returned::Nothing => return Err(wrong("it returned nothing")),
            Returned::Json(text) | Returned::Text(text) => text,
            Returned::Bytes(bytes) => {
                String::from_utf8(bytes).map_err(|_| wrong("it returned bytes that are no text"))?
            }
        };
        serde_json::from_str(&text).map_err(|_| wrong("it returned a text that is no JSON"))
    }

    /// The device name of the settings; `None` where a part of it has no value.
    fn named(&self, request: &Connect, principal_id: &str) -> Option<String> {
        self.device_name.fill(|name| match name {
            "principal_id" => Some(principal_id.to_owned().into()),
            other => placeholder(request, other).ok().flatten().map(Into::into),
        })
    }
}

/// What clouds tell a function about its call.
fn context(request: &Connect, handler: &str) -> Value {
    let id = format!("{}-{}", request.connection.gateway, request.connection.id);
    json!({
        "requestId": id,
        "awsRequestId": id,
        "functionName": handler,
        "functionVersion": "$LATEST",
        "function": { "name": handler, "handler": handler },
        "callbackWaitsForEmptyEventLoop": false,
    })
}
