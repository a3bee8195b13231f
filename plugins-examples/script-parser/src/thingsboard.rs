//! Converters of ThingsBoard's integrations: `Decoder(payload, metadata)` up, `Encoder(msg,
//! metadata, msgType, integrationMetadata)` down. A converter may be the body of its function, as
//! the platform's editor holds it.

use portreeve_guest::{Context, Direction, Message, Outcome, settings};
use portreeve_script::{
    Argument, Encoding, FunctionId, Returned, Script, ScriptError, ScriptSettings,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::reply::{Payload, Reply};

#[derive(Debug)]
pub(crate) struct ThingsBoard {
    script: Script,
    up: Option<FunctionId>,
    down: Option<FunctionId>,
    /// `metadata.NAME` of the settings: the metadata of the integration.
    metadata: Map<String, Value>,
}

/// What an `Encoder` returns.
#[derive(Deserialize)]
struct Encoded {
    #[serde(rename = "contentType", default)]
    content_type: String,
    data: Value,
}

impl ThingsBoard {
    pub(crate) fn load(settings: &ScriptSettings) -> Result<Self, ScriptError> {
        let source = settings
            .source()
            .helpers(include_str!("thingsboard.js"))
            .body_of("Decoder(payload, metadata)");
        let mut script = Script::load(&source)?;
        let up = script.function("Decoder");
        let down = script.function("Encoder").ok();
        if down.is_none() {
            up.clone()?;
        }
        let metadata = settings::all()
            .into_iter()
            .filter_map(|(key, value)| {
                Some((key.strip_prefix("metadata.")?.to_owned(), value.into()))
            })
            .collect();
        Ok(Self { script, up: up.ok(), down, metadata })
    }

    pub(crate) fn parse(
        &mut self,
        reply: &Reply,
        context: &Context,
        message: Message,
    ) -> Result<Outcome, ScriptError> {
        let metadata = Value::Object(self.metadata_of(context, &message)).to_string();
        let metadata = Argument::Json(&metadata);
        match context.direction {
            Direction::Up => {
                let up = self.up.map_or_else(|| self.script.function("Decoder"), Ok)?;
                let returned =
                    self.script.call(up, &[Argument::Numbers(&message.payload), metadata])?;
                reply.outcome(context, message, &self.script, returned)
            }
            Direction::Down => {
                let down = self.down.map_or_else(|| self.script.function("Encoder"), Ok)?;
                let Ok(json) = std::str::from_utf8(&message.payload) else {
                    return Err(ScriptError::of_result(&self.script, "the message is no JSON"));
                };
                let integration = Value::Object(self.metadata.clone()).to_string();
                let arguments = [
                    Argument::Json(json),
                    metadata,
                    Argument::Text("POST_TELEMETRY_REQUEST"),
                    Argument::Json(&integration),
                ];
                let returned = self.script.call(down, &arguments)?;
                let payload = self.payload(returned)?;
                reply.message(context, message, &self.script, payload, None)
            }
        }
    }

    fn metadata_of(&self, context: &Context, message: &Message) -> Map<String, Value> {
        let device = &context.device;
        let mut metadata = self.metadata.clone();
        for (name, value) in &device.attributes {
            metadata.insert(name.clone(), value.as_str().into());
        }
        let own = [
            ("topic", Value::from(message.topic.as_str())),
            ("deviceName", device.name.as_str().into()),
            ("deviceType", device.product.as_str().into()),
            ("clientId", device.client_id.as_str().into()),
            ("ts", context.received_at.into()),
        ];
        // What the gateway knows counts more than what an attribute of this name says.
        metadata.extend(own.map(|(name, value)| (name.to_owned(), value)));
        metadata
    }

    fn payload(&self, returned: Returned) -> Result<Payload, ScriptError> {
        let wrong = |text: &str| ScriptError::of_result(&self.script, text);
        let Returned::Json(text) = returned else { return Err(wrong("it returned no object")) };
        let Ok(Encoded { content_type, data }) = serde_json::from_str(&text) else {
            return Err(wrong("it returned no `data`"));
        };
        match (content_type.as_str(), data) {
            ("BINARY", Value::String(text)) => Encoding::Base64
                .decode(&text)
                .map(Payload::Bytes)
                .map_err(|error| wrong(&format!("`data` is {error}"))),
            ("TEXT", Value::String(text)) => Ok(Payload::Text(text)),
            ("JSON" | "", Value::String(text)) => Ok(Payload::Json(text)),
            ("JSON" | "", data) => Ok(Payload::Json(data.to_string())),
            (other, _) => Err(wrong(&format!("`contentType` {other:?} does not go with `data`"))),
        }
    }
}
