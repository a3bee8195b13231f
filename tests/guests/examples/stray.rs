//! Publishes where it may not: the payload names the topic.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, message: Message) -> Result<Outcome, Error> {
        let topic = String::from_utf8(message.payload.clone())?;
        let allowed = message.clone();
        Ok(Outcome::Replace(vec![allowed, message.with(topic, "stray")]))
    }
}

export_parser!(Guest);
