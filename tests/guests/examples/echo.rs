//! Tells everything that it was told, as text.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};

struct Guest;

impl Parser for Guest {
    fn parse(mut context: Context, message: Message) -> Result<Outcome, Error> {
        context.received_at = u64::from(context.received_at > 1_700_000_000_000);
        let told = format!("{context:?}\n{message:?}");
        let topic = message.sibling_topic("told");
        Ok(message.with(topic, told).into())
    }
}

export_parser!(Guest);
