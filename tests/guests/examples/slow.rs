//! Sleeps for an hour.

use portreeve_guest::{
    Connect, Context, Error, Message, Outcome, Parser, Verdict, Verifier, export_parser,
    export_verifier,
};

struct Guest;

fn misbehave<T>() -> Result<T, Error> {
    std::thread::sleep(std::time::Duration::from_secs(3600));
    Err(Error::new("awake"))
}

impl Verifier for Guest {
    fn verify(_request: Connect) -> Result<Verdict, Error> {
        misbehave()
    }
}

impl Parser for Guest {
    fn parse(_context: Context, _message: Message) -> Result<Outcome, Error> {
        misbehave()
    }
}

export_verifier!(Guest);
export_parser!(Guest);
