//! Stores until it is told to stop, and tells when that was. The payload says what: `bytes` stores
//! large entries, anything else small ones.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser, state};

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, message: Message) -> Result<Outcome, Error> {
        let value = if message.payload == b"bytes" { vec![0; 60_000] } else { Vec::new() };
        let kind = value.len();
        let mut stored = 0;
        while state::set(&format!("{kind}-{stored}"), &value, None).is_ok() {
            stored += 1;
        }
        let topic = message.topic.clone();
        Ok(message.with(topic, stored.to_string()).into())
    }
}

export_parser!(Guest);
