//! Wants a socket, which no plugin gets.

use std::net::TcpStream;

use portreeve_guest::{Context, Error, Message, Outcome, Parser, export_parser};

struct Guest;

impl Parser for Guest {
    fn parse(_context: Context, _message: Message) -> Result<Outcome, Error> {
        TcpStream::connect("127.0.0.1:1883")?;
        Ok(Outcome::Pass)
    }
}

export_parser!(Guest);
