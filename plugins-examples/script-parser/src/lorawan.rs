//! Payload formatters and codecs of LoRaWAN network servers: The Things Stack, ChirpStack.

use portreeve_guest::{Context, Direction, Message, Outcome, log, settings};
use portreeve_script::{
    Argument, Bytes, Encoding, FunctionId, Returned, Script, ScriptError, ScriptSettings, choice,
    json_pointer,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Decoded, Encoded, Texts};
use crate::input::{Frame, Input};
use crate::reply::{Payload, Reply};

/// Whose scripts they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    TheThingsStack,
    ChirpStack4,
    ChirpStack3,
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `decodeUplink({bytes, fPort, …})`
    Object,
    /// `Decoder(bytes, port)`
    PortLast,
    /// `Decode(fPort, bytes, variables)`
    PortFirst,
}

#[derive(Debug)]
pub(crate) struct Lorawan {
    script: Script,
    platform: Platform,
    input: Input,
    up: Option<(FunctionId, Shape)>,
    normalize: Option<FunctionId>,
    down: Option<(FunctionId, Shape)>,
    down_decode: Option<FunctionId>,
    /// Down, bytes are decoded instead of made.
    does_decode_down: bool,
    is_whole_message: bool,
    is_json_down: bool,
    data_pointer: String,
    warnings_property: Option<String>,
    variables: Vec<(String, String)>,
    /// A `Date` for each call is made only for scripts that look at it.
    wants_time: bool,
}

impl Lorawan {
    pub(crate) fn load(settings: &ScriptSettings, platform: Platform) -> Result<Self, ScriptError> {
        let mut script = Script::load(&settings.source())?;
        let (up, down): (&[_], &[_]) = match platform {
            Platform::TheThingsStack => (
                &[("decodeUplink", Shape::Object), ("Decoder", Shape::PortLast)],
                &[("encodeDownlink", Shape::Object), ("Encoder", Shape::PortLast)],
            ),
            Platform::ChirpStack4 => (
                &[("decodeUplink", Shape::Object), ("Decode", Shape::PortFirst)],
                &[("encodeDownlink", Shape::Object), ("Encode", Shape::PortFirst)],
            ),
            Platform::ChirpStack3 => {
                (&[("Decode", Shape::PortFirst)], &[("Encode", Shape::PortFirst)])
            }
        };
        let up_found = first(&mut script, up);
        let down = first(&mut script, down);
        let down_decode = script.function("decodeDownlink").ok();
        if down.is_err() && down_decode.is_none() {
            up_found.clone()?;
        }
        let normalize = script.function("normalizeUplink").ok();
        let input = Input::from_settings(match platform {
            Platform::TheThingsStack => [
                "/uplink_message/frm_payload",
                "/uplink_message/f_port",
                "/uplink_message/received_at",
            ],
            Platform::ChirpStack4 | Platform::ChirpStack3 => ["/data", "/fPort", "/time"],
        })?;
        let variables = settings::all()
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("variable.")?.to_owned(), value)))
            .collect();
        Ok(Self {
            platform,
            input,
            up: up_found.ok(),
            normalize,
            down: down.ok(),
            down_decode,
            does_decode_down: choice("down", &[("encode", false), ("decode", true)])?,
            is_whole_message: choice("output", &[("data", false), ("message", true)])?,
            is_json_down: choice("output_down", &[("bytes", false), ("json", true)])?,
            data_pointer: json_pointer("data_pointer")?.unwrap_or_default(),
            warnings_property: settings::get("warnings_property"),
            variables,
            wants_time: settings::get("script").is_some_and(|text| text.contains("recvTime")),
            script,
        })
    }

    pub(crate) fn parse(
        &mut self,
        reply: &Reply,
        context: &Context,
        message: Message,
    ) -> Result<Outcome, ScriptError> {
        match context.direction {
            Direction::Up => self.decode(reply, context, message),
            Direction::Down if self.does_decode_down => self.decode_down(reply, context, message),
            Direction::Down => self.encode(reply, context, message),
        }
    }

    fn decode(
        &mut self,
        reply: &Reply,
        context: &Context,
        mut message: Message,
    ) -> Result<Outcome, ScriptError> {
        let Some((function, shape)) = self.up else {
            return self.script.function("decodeUplink").map(|_| Outcome::Pass);
        };
        let frame = self.input.frame(context, &mut message, &self.script)?;
        let returned = self.call_with_frame(context, function, shape, &frame)?;
        if shape != Shape::Object {
            return self.finish(reply, context, message, frame, returned, None);
        }
        let text = self.object(returned)?;
        let decoded: Decoded<'_> = self.read(&text)?;
        self.warn(&mut message, &decoded.warnings);
        self.refuse(&decoded.errors)?;
        let Some(data) = decoded.data else {
            return reply.outcome(context, message, &self.script, Returned::Nothing);
        };
        let data = data.get();
        let mut normalized = None;
        if let Some(function) = self.normalize.filter(|_| self.is_whole_message) {
            let input = format!("{{\"data\":{data}}}");
            let returned = self.script.call(function, &[Argument::Json(&input)])?;
            let text = self.object(returned)?;
            let result: Decoded<'_> = self.read(&text)?;
            self.warn(&mut message, &result.warnings);
            self.refuse(&result.errors)?;
            normalized = result.data.map(|data| data.get().to_owned());
        }
        self.finish(reply, context, message, frame, Returned::Json(data.to_owned()), normalized)
    }

    fn call_with_frame(
        &mut self,
        context: &Context,
        function: FunctionId,
        shape: Shape,
        frame: &Frame,
    ) -> Result<Returned, ScriptError> {
        let bytes = Argument::Numbers(&frame.bytes);
        let port = Argument::Number(f64::from(frame.f_port));
        let variables = self.variables(context);
        let variables = Argument::Strings(&variables);
        match shape {
            Shape::Object => {
                let members = [
                    ("bytes", bytes),
                    ("fPort", port),
                    ("variables", variables),
                    ("recvTime", Argument::Date(frame.received_at)),
                ];
                // The Things Stack knows no variables.
                let [bytes, port, variables, time] = members;
                let members: &[_] = match (self.platform, self.wants_time) {
                    (Platform::TheThingsStack, false) => &[bytes, port],
                    (Platform::TheThingsStack, true) => &[bytes, port, time],
                    (_, false) => &[bytes, port, variables],
                    (_, true) => &[bytes, port, variables, time],
                };
                self.script.call(function, &[Argument::Object(members)])
            }
            Shape::PortLast => self.script.call(function, &[bytes, port]),
            Shape::PortFirst => self.script.call(function, &[port, bytes, variables]),
        }
    }

    /// The message for what was decoded.
    fn finish(
        &self,
        reply: &Reply,
        context: &Context,
        message: Message,
        frame: Frame,
        decoded: Returned,
        normalized: Option<String>,
    ) -> Result<Outcome, ScriptError> {
        if !self.is_whole_message {
            let Some(payload) = Payload::of(decoded) else {
                return reply.outcome(context, message, &self.script, Returned::Nothing);
            };
            return reply.message(context, message, &self.script, payload, Some(frame.f_port));
        }
        let Returned::Json(decoded) = decoded else {
            return Err(self.wrong("it returned no object"));
        };
        let (decoded_key, normalized_key) = match self.platform {
            Platform::TheThingsStack => ("decoded_payload", "normalized_payload"),
            Platform::ChirpStack4 | Platform::ChirpStack3 => ("object", "normalized"),
        };
        let mut envelope = frame.envelope.unwrap_or_else(|| json!({ "f_port": frame.f_port }));
        let parent = self.input.payload_pointer().rsplit_once('/').map_or("", |(parent, _)| parent);
        // What came raw has no place for a payload.
        let parent = if envelope.pointer(parent).is_some() { parent } else { "" };
        if let Some(Value::Object(members)) = envelope.pointer_mut(parent) {
            members.insert(decoded_key.to_owned(), self.read(&decoded)?);
            if let Some(normalized) = normalized {
                members.insert(normalized_key.to_owned(), self.read(&normalized)?);
            }
        }
        let payload = Payload::Json(envelope.to_string());
        reply.message(context, message, &self.script, payload, Some(frame.f_port))
    }

    fn encode(
        &mut self,
        reply: &Reply,
        context: &Context,
        mut message: Message,
    ) -> Result<Outcome, ScriptError> {
        let Some((function, shape)) = self.down else {
            return self.script.function("encodeDownlink").map(|_| Outcome::Pass);
        };
        let data = self.data(&message.payload)?;
        let f_port = self.input.f_port_of(&message.topic);
        let (data, port) = (Argument::Json(&data), Argument::Number(f64::from(f_port)));
        let variables = self.variables(context);
        let variables = Argument::Strings(&variables);
        let returned = match shape {
            Shape::Object => {
                let members = [("data", data), ("fPort", port), ("variables", variables)];
                self.script.call(function, &[Argument::Object(&members)])?
            }
            Shape::PortLast => self.script.call(function, &[data, port])?,
            Shape::PortFirst => self.script.call(function, &[port, data, variables])?,
        };
        let (bytes, port) = match (shape, returned) {
            (Shape::Object, returned) => {
                let text = self.object(returned)?;
                let encoded: Encoded = self.read(&text)?;
                self.warn(&mut message, &encoded.warnings);
                self.refuse(&encoded.errors)?;
                let Some(Bytes(bytes)) = encoded.bytes else {
                    return Err(self.wrong("it returned no `bytes`"));
                };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "saturates"
                )]
                let port = encoded.f_port.map_or(f_port, |port| port as u32);
                (bytes, port)
            }
            (_, Returned::Bytes(bytes)) => (bytes, f_port),
            (_, Returned::Json(text)) => {
                (Bytes::from_json(&text).map_err(|error| self.wrong(&error))?.0, f_port)
            }
            _ => return Err(self.wrong("it returned no array of bytes")),
        };
        let payload = if self.is_json_down {
            let text = Encoding::Base64.encode(&bytes);
            Payload::Json(
                match self.platform {
                    Platform::TheThingsStack => json!({ "f_port": port, "frm_payload": text }),
                    Platform::ChirpStack4 | Platform::ChirpStack3 => {
                        json!({ "fPort": port, "data": text })
                    }
                }
                .to_string(),
            )
        } else {
            Payload::Bytes(bytes)
        };
        reply.message(context, message, &self.script, payload, Some(port))
    }

    /// The object that a script encodes: the message, or a part of it.
    fn data(&self, payload: &[u8]) -> Result<String, ScriptError> {
        let wrong = |text: String| ScriptError::of_result(&self.script, text);
        if self.data_pointer.is_empty() {
            return String::from_utf8(payload.to_vec())
                .map_err(|_| wrong("the message is no JSON".to_owned()));
        }
        let envelope: Value = serde_json::from_slice(payload)
            .map_err(|error| wrong(format!("the message is no JSON: {error}")))?;
        match envelope.pointer(&self.data_pointer) {
            Some(data) => Ok(data.to_string()),
            None => Err(wrong(format!("the message has nothing at {}", self.data_pointer))),
        }
    }

    fn decode_down(
        &mut self,
        reply: &Reply,
        context: &Context,
        mut message: Message,
    ) -> Result<Outcome, ScriptError> {
        let Some(function) = self.down_decode else {
            return self.script.function("decodeDownlink").map(|_| Outcome::Pass);
        };
        let frame = self.input.frame(context, &mut message, &self.script)?;
        let returned = self.call_with_frame(context, function, Shape::Object, &frame)?;
        let text = self.object(returned)?;
        let decoded: Decoded<'_> = self.read(&text)?;
        self.warn(&mut message, &decoded.warnings);
        self.refuse(&decoded.errors)?;
        let data =
            decoded.data.ok_or_else(|| self.wrong("it returned no `data`"))?.get().to_owned();
        self.finish(reply, context, message, frame, Returned::Json(data), None)
    }

    /// The device's attributes, and before them what the settings name.
    fn variables(&self, context: &Context) -> Vec<(String, String)> {
        if self.platform == Platform::TheThingsStack {
            return Vec::new();
        }
        self.variables.iter().chain(&context.device.attributes).cloned().collect()
    }

    fn object(&self, returned: Returned) -> Result<String, ScriptError> {
        match returned {
            Returned::Json(text) => Ok(text),
            _ => Err(self.wrong("it returned no object")),
        }
    }

    fn read<'a, T: Deserialize<'a>>(&self, text: &'a str) -> Result<T, ScriptError> {
        serde_json::from_str(text).map_err(|error| {
            let error = error.to_string();
            let error = error.split(" at line ").next().unwrap_or_default();
            self.wrong(&format!("what it returned is not what it should be: {error}"))
        })
    }

    fn warn(&self, message: &mut Message, warnings: &Texts) {
        for text in warnings.0.iter().take(WARNINGS_MAX) {
            log::warn(&format!("{}: {text}", self.script.name()));
            if let Some(name) = &self.warnings_property {
                message.user_properties.push((name.clone(), text.clone()));
            }
        }
    }

    fn refuse(&self, errors: &Texts) -> Result<(), ScriptError> {
        match errors.0.as_slice() {
            [] => Ok(()),
            errors => Err(self.wrong(&errors.join("; "))),
        }
    }

    fn wrong(&self, text: &str) -> ScriptError {
        ScriptError::of_result(&self.script, text)
    }
}

/// Warnings of one message that are told.
const WARNINGS_MAX: usize = 8;

fn first(script: &mut Script, names: &[(&str, Shape)]) -> Result<(FunctionId, Shape), ScriptError> {
    let mut missing = None;
    for &(name, shape) in names {
        match script.function(name) {
            Ok(function) => return Ok((function, shape)),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    Err(missing.unwrap_or_else(|| ScriptError::of_result(script, "no function is looked for")))
}
