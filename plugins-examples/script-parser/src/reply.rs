//! The message that takes a message's place: its topic and its payload.

use std::borrow::Cow;

use portreeve_guest::{Context, Direction, Message, Outcome, PayloadFormat, settings};
use portreeve_script::{Returned, Script, ScriptError, Template, choice};

/// `topic_up`, `topic_down` and `on_nothing`.
#[derive(Debug)]
pub(crate) struct Reply {
    up: Option<Template>,
    down: Option<Template>,
    on_nothing: OnNothing,
}

/// What becomes of a message for which the script returns nothing.
#[derive(Debug, Clone, Copy)]
enum OnNothing {
    Reject,
    Drop,
    Pass,
}

/// What a payload is.
#[derive(Debug)]
pub(crate) enum Payload {
    Json(String),
    Text(String),
    Bytes(Vec<u8>),
}

const PLACEHOLDERS: [&str; 7] =
    ["topic", "parent", "device_name", "product", "client_id", "gateway", "f_port"];

impl Reply {
    pub(crate) fn from_settings() -> Result<Self, ScriptError> {
        let template = |key: &str| match settings::get(key) {
            Some(text) => Template::parse(key, &text, &PLACEHOLDERS).map(Some),
            None => Ok(None),
        };
        Ok(Self {
            up: template("topic_up")?,
            down: template("topic_down")?,
            on_nothing: choice(
                "on_nothing",
                &[
                    ("reject", OnNothing::Reject),
                    ("drop", OnNothing::Drop),
                    ("pass", OnNothing::Pass),
                ],
            )?,
        })
    }

    /// The outcome for what a script returned.
    pub(crate) fn outcome(
        &self,
        context: &Context,
        message: Message,
        script: &Script,
        returned: Returned,
    ) -> Result<Outcome, ScriptError> {
        match Payload::of(returned) {
            Some(payload) => self.message(context, message, script, payload, None),
            None => match self.on_nothing {
                OnNothing::Reject => Err(ScriptError::of_result(script, "it returned nothing")),
                OnNothing::Drop => Ok(Outcome::Drop),
                // The topic may have been rid of its mark.
                OnNothing::Pass => Ok(message.into()),
            },
        }
    }

    /// The message with this payload, to the topic of its direction.
    pub(crate) fn message(
        &self,
        context: &Context,
        message: Message,
        script: &Script,
        payload: Payload,
        f_port: Option<u32>,
    ) -> Result<Outcome, ScriptError> {
        let template = match context.direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        let topic = match template {
            None => message.topic.clone(),
            Some(template) => {
                let device = &context.device;
                template
                    .fill(|name| {
                        Some(Cow::Borrowed(match name {
                            "topic" => message.topic.as_str(),
                            "parent" => {
                                message.topic.rsplit_once('/').map_or("", |(parent, _)| parent)
                            }
                            "device_name" => &device.name,
                            "product" => &device.product,
                            "client_id" => &device.client_id,
                            "gateway" => &context.gateway,
                            _ => return f_port.map(|port| port.to_string().into()),
                        }))
                    })
                    .ok_or_else(|| {
                        ScriptError::of_result(
                            script,
                            "it returned no fPort, which the topic needs",
                        )
                    })?
            }
        };
        Ok(match payload {
            Payload::Json(text) => message.with(topic, text).json(),
            Payload::Text(text) => {
                Message { payload_format: Some(PayloadFormat::Utf8), ..message.with(topic, text) }
            }
            Payload::Bytes(bytes) => message.with(topic, bytes),
        }
        .into())
    }
}

impl Payload {
    /// `None` for nothing. A text that is JSON counts as it.
    pub(crate) fn of(returned: Returned) -> Option<Self> {
        Some(match returned {
            Returned::Nothing => return None,
            Returned::Json(text) => Self::Json(text),
            Returned::Bytes(bytes) => Self::Bytes(bytes),
            Returned::Text(text) => match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                Ok(_) => Self::Json(text),
                Err(_) => Self::Text(text),
            },
        })
    }
}
