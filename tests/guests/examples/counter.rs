//! Counts its calls, once in its own memory and once in `state`.

use std::sync::atomic::{AtomicU32, Ordering};

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser, state};

static CALLS: AtomicU32 = AtomicU32::new(0);

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, message: Message) -> Result<Outcome, Error> {
        let own = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let shared = state::increment("calls", 1, None)?;
        let topic = message.topic.clone();
        Ok(message.with(topic, format!("{own} {shared}")).into())
    }
}

export_parser!(Guest);
