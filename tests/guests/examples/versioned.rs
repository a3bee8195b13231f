//! Tells which version it is, by its settings: `version` stands in front of each payload on `…/out`
//! and is the attribute `version` of each device. With `trap_every = N` it traps for payloads and
//! user names that are a multiple of N, with `fail = "yes"` it fails always, and with
//! `refuse = "yes"` it says no. It logs its `token`.

use portreeve_guest::{
    Admission, Connect, Context, Error, Message, Outcome, Parser, Refusal, Verdict, Verifier,
    export_parser, export_verifier, log, settings,
};

struct Guest;

fn misbehave(number: &str) -> Result<(), Error> {
    let every = settings::get("trap_every").and_then(|every| every.parse::<u64>().ok());
    if let Some((number, every)) = number.parse::<u64>().ok().zip(every) {
        assert!(!number.is_multiple_of(every), "trapped as told");
    }
    match settings::get("fail") {
        Some(_) => Err(Error::new("failed as told")),
        None => Ok(()),
    }
}

impl Parser for Guest {
    fn parse(_context: Context, mut message: Message) -> Result<Outcome, Error> {
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        misbehave(&text)?;
        if settings::get("refuse").is_some() {
            return Ok(Outcome::Reject("refused as told".to_owned()));
        }
        if let Some(token) = settings::get("token") {
            log::debug(&format!("the token is {token}"));
        }
        let version = settings::get("version").unwrap_or_default();
        message.payload = format!("{version}:{text}").into_bytes();
        message.topic = message.sibling_topic("out");
        Ok(message.into())
    }
}

impl Verifier for Guest {
    fn verify(request: Connect) -> Result<Verdict, Error> {
        misbehave(request.user_name.as_deref().unwrap_or_default())?;
        if settings::get("refuse").is_some() {
            return Ok(Refusal::not_authorized("refused as told").into());
        }
        let version = settings::get("version").unwrap_or_default();
        Ok(Admission::new(request.client_id).attribute("version", version).into())
    }
}

export_verifier!(Guest);
export_parser!(Guest);
