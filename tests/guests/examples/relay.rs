//! Moves a message from `…/in` to `…/out`, payload as it is: the least that a parser does.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, mut message: Message) -> Result<Outcome, Error> {
        message.topic = message.sibling_topic("out");
        Ok(message.into())
    }
}

export_parser!(Guest);
