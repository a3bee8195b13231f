//! What is asked of a guest. A question owns what it asks about, since a call that computes for
//! long goes on in another thread than the one that asked.

use crate::bindings::exports::portreeve::plugin::on_connect::{Connect, Verdict};
use crate::bindings::exports::portreeve::plugin::on_publish::{Context, Outcome};
use crate::bindings::portreeve::plugin::types::MessageParam;
use crate::instance::{Export, Instance};

/// Names and values, in order; a name may repeat.
pub type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// A question to a verifier: who is this?
pub trait ConnectQuestion: Send + Sync + 'static {
    /// The user properties, kept while the guest is asked.
    fn user_properties(&self) -> Pairs<'_>;

    /// The record that the guest is given.
    fn connect<'a>(&'a self, user_properties: &'a [(&'a str, &'a str)]) -> Connect<'a>;
}

/// A question to a parser: what does this message mean?
pub trait PublishQuestion: Send + Sync + 'static {
    /// The device's attributes, kept while the guest is asked.
    fn attributes(&self) -> Pairs<'_>;

    /// The message's user properties, kept while the guest is asked.
    fn user_properties(&self) -> Pairs<'_>;

    /// The circumstances that the guest is given.
    fn context<'a>(&'a self, attributes: &'a [(&'a str, &'a str)]) -> Context<'a>;

    /// The message that the guest is given.
    fn message<'a>(&'a self, user_properties: &'a [(&'a str, &'a str)]) -> MessageParam<'a>;
}

/// Puts a question to an instance; `None` when the instance was started for another role.
pub(crate) trait Ask: Send + 'static {
    type Answer: Send + 'static;

    fn ask(
        self,
        instance: &mut Instance,
    ) -> impl Future<Output = wasmtime::Result<Option<Result<Self::Answer, String>>>> + Send;
}

/// Asks a verifier.
pub(crate) struct Verify<Q>(pub(crate) Q);

impl<Q: ConnectQuestion> Ask for Verify<Q> {
    type Answer = Verdict;

    async fn ask(
        self,
        instance: &mut Instance,
    ) -> wasmtime::Result<Option<Result<Verdict, String>>> {
        let Export::Verifier(guest) = &instance.export else { return Ok(None) };
        let user_properties = self.0.user_properties();
        let connect = self.0.connect(&user_properties);
        guest.call_verify(&mut instance.store, connect).await.map(Some)
    }
}

/// Asks a parser.
pub(crate) struct Parse<Q>(pub(crate) Q);

impl<Q: PublishQuestion> Ask for Parse<Q> {
    type Answer = Outcome;

    async fn ask(
        self,
        instance: &mut Instance,
    ) -> wasmtime::Result<Option<Result<Outcome, String>>> {
        let Export::Parser(guest) = &instance.export else { return Ok(None) };
        let attributes = self.0.attributes();
        let user_properties = self.0.user_properties();
        let context = self.0.context(&attributes);
        let message = self.0.message(&user_properties);
        guest.call_parse(&mut instance.store, context, message).await.map(Some)
    }
}
