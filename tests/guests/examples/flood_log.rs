//! Logs without end, on every way that there is, and passes the message on.

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser, log};

struct Guest;

impl Parser for Guest {
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]
    fn parse(_context: Context, _message: Message) -> Result<Outcome, Error> {
        for number in 0..1_000 {
            log::info(&format!("line {number}"));
            println!("standard output {number}");
            eprintln!("standard error {number}");
        }
        Ok(Outcome::Pass)
    }
}

export_parser!(Guest);
