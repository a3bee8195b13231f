//! Panics.

use portreeve_guest::{
    Connect, Context, Error, Message, Outcome, Parser, Verdict, Verifier, export_parser,
    export_verifier,
};

struct Guest;

#[expect(clippy::panic, reason = "that is what it is for")]
fn misbehave<T>() -> Result<T, Error> {
    panic!("as intended");
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
