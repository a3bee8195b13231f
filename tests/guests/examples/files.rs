//! Looks for files, variables and arguments, and reports what it found.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, message: Message) -> Result<Outcome, Error> {
        let read = std::fs::read("/etc/passwd").is_ok();
        let listed = std::fs::read_dir(".").is_ok();
        let written = std::fs::write("/tmp/guest", "x").is_ok();
        let variables = std::env::vars().count();
        let arguments = std::env::args().count();
        let found = format!("{read} {listed} {written} {variables} {arguments}");
        let topic = message.topic.clone();
        Ok(message.with(topic, found).into())
    }
}

export_parser!(Guest);
