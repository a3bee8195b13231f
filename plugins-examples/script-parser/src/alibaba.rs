//! Scripts of Alibaba Cloud's IoT Platform: `rawDataToProtocol(bytes)` up, `protocolToRawData(json)`
//! down, and `transformPayload(topic, bytes)` for custom topics.

use portreeve_guest::{Context, Direction, Message, Outcome};
use portreeve_script::{
    Argument, Bytes, FunctionId, Returned, Script, ScriptError, ScriptSettings, choice,
};

use crate::reply::{Payload, Reply};

/// What a device puts at the end of a topic for its message to be parsed.
const MARK: &str = "?_sn=default";
/// The topic of the thing model's raw data, whose messages need no mark.
const RAW_TOPIC_END: &str = "/thing/model/up_raw";

#[derive(Debug)]
pub(crate) struct Alibaba {
    script: Script,
    up: Option<FunctionId>,
    down: Option<FunctionId>,
    custom: Option<FunctionId>,
    is_only_marked: bool,
}

impl Alibaba {
    pub(crate) fn load(settings: &ScriptSettings) -> Result<Self, ScriptError> {
        let mut script = Script::load(&settings.source())?;
        let up = script.function("rawDataToProtocol");
        let down = script.function("protocolToRawData").ok();
        let custom = script.function("transformPayload").ok();
        if down.is_none() && custom.is_none() {
            up.clone()?;
        }
        let is_only_marked = choice("only_marked", &[("true", true), ("false", false)])?;
        Ok(Self { script, up: up.ok(), down, custom, is_only_marked })
    }

    pub(crate) fn parse(
        &mut self,
        reply: &Reply,
        context: &Context,
        message: Message,
    ) -> Result<Outcome, ScriptError> {
        match context.direction {
            Direction::Up => self.parse_up(reply, context, message),
            Direction::Down => self.parse_down(reply, context, message),
        }
    }

    fn parse_up(
        &mut self,
        reply: &Reply,
        context: &Context,
        mut message: Message,
    ) -> Result<Outcome, ScriptError> {
        let length = message.topic.strip_suffix(MARK).map(str::len);
        if let Some(length) = length {
            message.topic.truncate(length);
        }
        let is_raw = message.topic.ends_with(RAW_TOPIC_END);
        if length.is_none() && !is_raw && self.is_only_marked {
            return Ok(Outcome::Pass);
        }
        let bytes = Argument::Numbers(&message.payload);
        let returned = match self.custom.filter(|_| !is_raw) {
            Some(custom) => self.script.call(custom, &[Argument::Text(&message.topic), bytes])?,
            None => {
                let up = self.up.map_or_else(|| self.script.function("rawDataToProtocol"), Ok)?;
                self.script.call(up, &[bytes])?
            }
        };
        reply.outcome(context, message, &self.script, returned)
    }

    fn parse_down(
        &mut self,
        reply: &Reply,
        context: &Context,
        message: Message,
    ) -> Result<Outcome, ScriptError> {
        let down = self.down.map_or_else(|| self.script.function("protocolToRawData"), Ok)?;
        let Ok(json) = std::str::from_utf8(&message.payload) else {
            return Err(ScriptError::of_result(&self.script, "the payload is no JSON"));
        };
        let returned = self.script.call(down, &[Argument::Json(json)])?;
        match returned {
            Returned::Json(text) => {
                let bytes = Bytes::from_json(&text)
                    .map_err(|error| ScriptError::of_result(&self.script, error))?;
                reply.message(context, message, &self.script, Payload::Bytes(bytes.0), None)
            }
            other => reply.outcome(context, message, &self.script, other),
        }
    }
}
