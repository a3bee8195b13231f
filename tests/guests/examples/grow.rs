//! Wants all the memory there is.

use portreeve_guest::{
    Connect, Context, Error, Message, Outcome, Parser, Verdict, Verifier, export_parser,
    export_verifier,
};

struct Guest;

fn misbehave<T>() -> Result<T, Error> {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
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
