//! Returns more than anybody wants.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, message: Message) -> Result<Outcome, Error> {
        let topic = message.topic.clone();
        Ok(message.with(topic, vec![b'x'; 8 << 20]).into())
    }
}

export_parser!(Guest);
