//! Runs payload scripts in JavaScript, as they are: of Alibaba Cloud's IoT Platform, The Things
//! Stack, ChirpStack and ThingsBoard. `preset` in `[settings]` says which; README.md tells what
//! else there is to set.

mod alibaba;
mod answer;
mod input;
mod lorawan;
mod parser;
mod reply;
mod thingsboard;

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};
use portreeve_script::{Fault, Kept, ScriptError, export_start};

use parser::ScriptParser;

struct Plugin;

thread_local! {
    static PARSER: RefCell<Kept<ScriptParser>> = const { RefCell::new(Kept::new()) };
}

impl Parser for Plugin {
    fn parse(context: Context, message: Message) -> Result<Outcome, Error> {
        let parsed = PARSER.with_borrow_mut(|kept| {
            kept.with(ScriptParser::from_settings, |parser| parser.parse(&context, message))
        });
        match parsed {
            Ok(outcome) => Ok(outcome),
            // It is the payload that the script cannot read.
            Err(error) if matches!(error.fault, Fault::Thrown | Fault::Result) => {
                Ok(Outcome::Reject(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A script that cannot be used is found before the first message.
fn begin() -> Result<(), ScriptError> {
    PARSER.with_borrow_mut(|kept| kept.with(ScriptParser::from_settings, |_| Ok(())))
}

export_parser!(Plugin);
export_start!(begin);
