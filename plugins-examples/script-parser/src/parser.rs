//! The preset that the settings name, and its script.

use portreeve_guest::{Context, Message, Outcome};
use portreeve_script::{ScriptError, ScriptSettings, choice};

use crate::alibaba::Alibaba;
use crate::lorawan::{Lorawan, Platform};
use crate::reply::Reply;
use crate::thingsboard::ThingsBoard;

/// A script with the shape in which its platform calls it.
#[derive(Debug)]
pub(crate) struct ScriptParser {
    preset: Preset,
    reply: Reply,
}

#[derive(Debug)]
enum Preset {
    Alibaba(Alibaba),
    Lorawan(Box<Lorawan>),
    ThingsBoard(ThingsBoard),
}

#[derive(Debug, Clone, Copy)]
enum Name {
    Alibaba,
    Lorawan(Platform),
    ThingsBoard,
}

impl ScriptParser {
    pub(crate) fn from_settings() -> Result<Self, ScriptError> {
        let name = choice(
            "preset",
            &[
                ("alibaba", Name::Alibaba),
                ("tts", Name::Lorawan(Platform::TheThingsStack)),
                ("chirpstack-v4", Name::Lorawan(Platform::ChirpStack4)),
                ("chirpstack-v3", Name::Lorawan(Platform::ChirpStack3)),
                ("thingsboard", Name::ThingsBoard),
            ],
        )?;
        let settings = ScriptSettings::read()?;
        let preset = match name {
            Name::Alibaba => Preset::Alibaba(Alibaba::load(&settings)?),
            Name::Lorawan(platform) => {
                Preset::Lorawan(Box::new(Lorawan::load(&settings, platform)?))
            }
            Name::ThingsBoard => Preset::ThingsBoard(ThingsBoard::load(&settings)?),
        };
        Ok(Self { preset, reply: Reply::from_settings()? })
    }

    pub(crate) fn parse(
        &mut self,
        context: &Context,
        message: Message,
    ) -> Result<Outcome, ScriptError> {
        match &mut self.preset {
            Preset::Alibaba(preset) => preset.parse(&self.reply, context, message),
            Preset::Lorawan(preset) => preset.parse(&self.reply, context, message),
            Preset::ThingsBoard(preset) => preset.parse(&self.reply, context, message),
        }
    }
}
