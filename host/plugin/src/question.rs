//! What is asked of a guest. A question owns what it asks about, since a call that computes for
//! long goes on in another thread than the one that asked.

use std::sync::Arc;

use crate::bindings::exports::portreeve::plugin::on_connect::{Connect, Verdict};
use crate::bindings::exports::portreeve::plugin::on_publish::{Context, Outcome};
use crate::bindings::portreeve::plugin::types::MessageParam;
use crate::instance::{Export, Instance};
use crate::statistics::AnswerKind;
use crate::version::Role;

/// Names and values, in order; a name may repeat.
pub type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// The lists of a question to a verifier, kept while the guest is asked.
#[derive(Debug, Default)]
pub struct ConnectLists<'a> {
    /// User properties of the CONNECT.
    pub user_properties: Pairs<'a>,
    /// DNS names of the peer's certificate.
    pub dns_names: Vec<&'a str>,
    /// Its URIs.
    pub uris: Vec<&'a str>,
    /// Its email addresses.
    pub email_addresses: Vec<&'a str>,
    /// DER of the certificates above it.
    pub chain: Vec<&'a [u8]>,
}

/// A question to a verifier: who is this?
pub trait ConnectQuestion: Send + Sync + 'static {
    /// Who asks, as far as it can be told before it is verified: the same text for the same
    /// device, and not for two of them. Devices are counted by it.
    fn device(&self) -> &str;

    /// What the device will be named, as far as that can be told. New versions are tried by it, so
    /// that one version answers the CONNECT of a device and its PUBLISH.
    fn known_as(&self) -> &str {
        self.device()
    }

    /// The lists, kept while the guest is asked.
    fn lists(&self) -> ConnectLists<'_>;

    /// The record that the guest is given.
    fn connect<'a>(&'a self, lists: &'a ConnectLists<'a>) -> Connect<'a>;
}

/// A question to a parser: what does this message mean?
pub trait PublishQuestion: Send + Sync + 'static {
    /// The publisher's name.
    fn device(&self) -> &str;

    /// The device's attributes, kept while the guest is asked.
    fn attributes(&self) -> Pairs<'_>;

    /// The message's user properties, kept while the guest is asked.
    fn user_properties(&self) -> Pairs<'_>;

    /// The circumstances that the guest is given.
    fn context<'a>(&'a self, attributes: &'a [(&'a str, &'a str)]) -> Context<'a>;

    /// The message that the guest is given.
    fn message<'a>(&'a self, user_properties: &'a [(&'a str, &'a str)]) -> MessageParam<'a>;
}

impl ConnectQuestion for Arc<dyn ConnectQuestion> {
    fn device(&self) -> &str {
        (**self).device()
    }

    fn known_as(&self) -> &str {
        (**self).known_as()
    }

    fn lists(&self) -> ConnectLists<'_> {
        (**self).lists()
    }

    fn connect<'a>(&'a self, lists: &'a ConnectLists<'a>) -> Connect<'a> {
        (**self).connect(lists)
    }
}

impl PublishQuestion for Arc<dyn PublishQuestion> {
    fn device(&self) -> &str {
        (**self).device()
    }

    fn attributes(&self) -> Pairs<'_> {
        (**self).attributes()
    }

    fn user_properties(&self) -> Pairs<'_> {
        (**self).user_properties()
    }

    fn context<'a>(&'a self, attributes: &'a [(&'a str, &'a str)]) -> Context<'a> {
        (**self).context(attributes)
    }

    fn message<'a>(&'a self, user_properties: &'a [(&'a str, &'a str)]) -> MessageParam<'a> {
        (**self).message(user_properties)
    }
}

/// A question and what was answered, for those who look on.
#[derive(Clone)]
pub enum Asked {
    /// To a verifier.
    Connect(Arc<dyn ConnectQuestion>),
    /// To a parser.
    Publish(Arc<dyn PublishQuestion>),
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(question) => f.debug_tuple("Connect").field(&question.device()).finish(),
            Self::Publish(question) => f.debug_tuple("Publish").field(&question.device()).finish(),
        }
    }
}

impl Asked {
    /// The bytes that it holds, as far as peers decide about them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pairs = |pairs: &Pairs<'_>| -> usize {
            pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        match self {
            Self::Connect(question) => {
                let lists = question.lists();
                let connect = question.connect(&lists);
                let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
                let certificate = connect.connection.tls.and_then(|tls| tls.certificate);
                // The names and the chain are as long as the certificate that holds them, or shared.
                certificate.map_or(0, |certificate| 2 * certificate.der.len())
                    + pairs(&lists.user_properties)
                    + connect.client_id.len()
                    + connect.user_name.map_or(0, str::len)
                    + length(connect.password)
                    + length(connect.authentication_data)
            }
            Self::Publish(question) => {
                let (attributes, user_properties) =
                    (question.attributes(), question.user_properties());
                let message = question.message(&user_properties);
                pairs(&attributes)
                    + pairs(&user_properties)
                    + message.topic.len()
                    + message.payload.len()
            }
        }
    }
}

/// What a guest answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// A verifier.
    Verdict(Verdict),
    /// A parser.
    Outcome(Outcome),
}

impl Answered {
    /// The bytes that it holds, as far as guests decide about them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pairs = |pairs: &[(String, String)]| -> usize {
            pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        match self {
            Self::Verdict(Verdict::Admit(admission)) => {
                let permissions = admission.permissions.iter().flatten();
                pairs(&admission.attributes)
                    + permissions.map(|permission| permission.topic_filter.len()).sum::<usize>()
                    + admission.authentication_data.as_ref().map_or(0, Vec::len)
            }
            Self::Verdict(Verdict::Refuse(refusal)) => refusal.message.len(),
            Self::Verdict(Verdict::Challenge(data)) => data.len(),
            Self::Outcome(Outcome::Replace(messages)) => messages
                .iter()
                .map(|message| {
                    message.topic.len() + message.payload.len() + pairs(&message.user_properties)
                })
                .sum(),
            Self::Outcome(Outcome::Reject(reason)) => reason.len(),
            Self::Outcome(Outcome::Pass | Outcome::Drop) => 0,
        }
    }
}

/// A verdict or an outcome.
pub(crate) trait Answer: Clone + PartialEq + Send + Sync + 'static {
    fn kind(&self) -> AnswerKind;

    fn answered(self) -> Answered;
}

impl Answer for Verdict {
    fn kind(&self) -> AnswerKind {
        match self {
            Self::Admit(_) => AnswerKind::Admit,
            Self::Refuse(_) => AnswerKind::Refuse,
            Self::Challenge(_) => AnswerKind::Challenge,
        }
    }

    fn answered(self) -> Answered {
        Answered::Verdict(self)
    }
}

impl Answer for Outcome {
    fn kind(&self) -> AnswerKind {
        match self {
            Self::Pass => AnswerKind::Pass,
            Self::Replace(_) => AnswerKind::Replace,
            Self::Drop => AnswerKind::Drop,
            Self::Reject(_) => AnswerKind::Reject,
        }
    }

    fn answered(self) -> Answered {
        Answered::Outcome(self)
    }
}

/// Puts a question to an instance; `None` when the instance was started for another role.
pub(crate) trait Ask: Send + Sync + 'static {
    type Answer: Answer;
    /// The same question where it is asked more than once.
    type Shared: Ask<Answer = Self::Answer, Shared = Self::Shared> + Clone;

    const ROLE: Role;

    fn device(&self) -> &str;

    fn known_as(&self) -> &str;

    fn share(self) -> Self::Shared;

    fn asked(shared: Self::Shared) -> Asked;

    fn ask(
        self,
        instance: &mut Instance,
    ) -> impl Future<Output = wasmtime::Result<Option<Result<Self::Answer, String>>>> + Send;
}

/// Asks a verifier.
#[derive(Clone)]
pub(crate) struct Verify<Q>(pub(crate) Q);

impl<Q: ConnectQuestion> Ask for Verify<Q> {
    type Answer = Verdict;
    type Shared = Verify<Arc<dyn ConnectQuestion>>;

    const ROLE: Role = Role::Verifier;

    fn device(&self) -> &str {
        self.0.device()
    }

    fn known_as(&self) -> &str {
        self.0.known_as()
    }

    fn share(self) -> Self::Shared {
        Verify(Arc::new(self.0))
    }

    fn asked(shared: Self::Shared) -> Asked {
        Asked::Connect(shared.0)
    }

    async fn ask(
        self,
        instance: &mut Instance,
    ) -> wasmtime::Result<Option<Result<Verdict, String>>> {
        let Export::Verifier(guest) = &instance.export else { return Ok(None) };
        let lists = self.0.lists();
        let connect = self.0.connect(&lists);
        guest.call_verify(&mut instance.store, connect).await.map(Some)
    }
}

/// Asks a parser.
#[derive(Clone)]
pub(crate) struct Parse<Q>(pub(crate) Q);

impl<Q: PublishQuestion> Ask for Parse<Q> {
    type Answer = Outcome;
    type Shared = Parse<Arc<dyn PublishQuestion>>;

    const ROLE: Role = Role::Parser;

    fn device(&self) -> &str {
        self.0.device()
    }

    fn known_as(&self) -> &str {
        self.0.device()
    }

    fn share(self) -> Self::Shared {
        Parse(Arc::new(self.0))
    }

    fn asked(shared: Self::Shared) -> Asked {
        Asked::Publish(shared.0)
    }

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
