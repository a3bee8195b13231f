//! One message to many receivers: on what terms each gets it, and what became of it.

use std::sync::Arc;
use std::task::Waker;

use portreeve_mqtt::QoS;

use crate::message::{Encodings, Message, MessageRef};

/// What became of a message for one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// It is in the mailbox.
    Sent,
    /// It is in the queue.
    Queued,
    /// It is in the queue, and an older one was dropped for it.
    QueuedForAnother,
    /// QoS 0 and the mailbox is full.
    MailboxFull,
    /// The queue is full.
    QueueFull,
    /// It is larger than the client takes.
    TooLarge,
    /// The session has no connection and does not keep the message.
    Offline,
}

/// One message to many receivers: what is made once for all of them.
pub(crate) struct Delivery<'a> {
    pub(crate) message: MessageRef<'a>,
    pub(crate) encodings: &'a mut Encodings,
    /// Made when the first receiver has to keep the message.
    pub(crate) kept: Option<Arc<Message>>,
    /// Owners of mailboxes that were empty; woken after the whole batch.
    pub(crate) wakers: &'a mut Vec<Waker>,
}

impl Delivery<'_> {
    pub(super) fn kept(&mut self) -> Arc<Message> {
        Arc::clone(self.kept.get_or_insert_with(|| Arc::new(self.message.to_message())))
    }
}

/// How one receiver gets a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: &'a [u32],
    /// Its number in the session where it is stored already; 0 where it is not.
    pub(crate) entry: u64,
    /// The shared subscription that it comes by, as its whole topic filter.
    pub(crate) share: Option<&'a Arc<str>>,
}

/// How well a member of a shared subscription can take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It would be sent at once.
    Ready,
    /// It is connected, and the message would wait.
    Busy,
    /// It is not connected, and the message would be kept for it.
    Away,
    /// It would be lost.
    Gone,
}
