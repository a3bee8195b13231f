//! What a connection did and must not show yet: the store has to have it first. Everything of one
//! read is stored together; then messages are delivered and answers leave, in their order.

use std::num::NonZeroU16;
use std::ops::Range;
use std::sync::Arc;

use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Packet, ProtocolVersion, ReasonCode, Suback, SubackKind,
    TopicFilter,
};
use portreeve_store::{Changes, NotStored};
use tokio::time::Instant;

use crate::broker::{Batch, Broker, Plan};
use crate::reason::Close;
use crate::session::Session;

/// Bytes of answers that wait for one commit; with more of them the commit is not put off.
const ANSWERS_BYTES_MAX: usize = 64 << 10;

/// Nothing, most of the time.
#[derive(Default)]
pub(crate) struct Uncommitted(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    changes: Changes,
    plans: Vec<Plan>,
    answers: Vec<u8>,
    /// What answers promise, and the bytes that do.
    promises: Vec<(Promise, Range<usize>)>,
}

/// What an answer promises, and so what is to be said when it cannot be kept.
pub(crate) enum Promise {
    /// PUBACK or PUBREC: the message is the gateway's now.
    Message { kind: AcknowledgementKind, packet_id: NonZeroU16 },
    /// SUBACK: the subscriptions are made; filters that were not there before are marked.
    Subscriptions { packet_id: NonZeroU16, filters: Vec<(Box<str>, bool)> },
    /// PUBREL or PUBCOMP: after a restart the peer would get or give a message twice.
    Release,
}

impl Uncommitted {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether so much waits that it should be stored before more is read.
    pub(crate) fn is_much(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.answers.len() >= ANSWERS_BYTES_MAX)
    }

    /// What is to be stored with the rest.
    pub(crate) fn changes(&mut self) -> &mut Changes {
        &mut self.0.get_or_insert_default().changes
    }

    /// Adds changes; none are no reason to wait.
    pub(crate) fn append(&mut self, changes: Changes) {
        if !changes.is_empty() {
            self.changes().append(changes);
        }
    }

    /// A message that is delivered when it is stored.
    pub(crate) fn deliver(&mut self, plan: Plan) {
        self.0.get_or_insert_default().plans.push(plan);
    }

    /// Bytes of an answer that leaves when everything in front of it is stored.
    pub(crate) fn answers(&mut self) -> &mut Vec<u8> {
        &mut self.0.get_or_insert_default().answers
    }

    /// Notes what the last answer promises, which begins at byte `begin` of the answers.
    pub(crate) fn promise(&mut self, promise: Promise, begin: usize) {
        let waiting = self.0.get_or_insert_default();
        waiting.promises.push((promise, begin..waiting.answers.len()));
    }

    /// Has everything stored, then delivers it and appends the answers to `replies`.
    ///
    /// # Errors
    /// [`Close`] when it cannot be stored and the peer cannot be told otherwise.
    pub(crate) async fn commit(
        &mut self,
        of: Owner<'_>,
        replies: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let Some(waiting) = self.0.take() else { return Ok(()) };
        // Others do not wait for the disk.
        of.batch.finish(of.broker);
        let Waiting { changes, plans, answers, promises } = *waiting;
        let stored = match &of.broker.store {
            Some(store) if !changes.is_empty() => match store.submit(changes) {
                Ok(submission) => {
                    let order = submission.order();
                    submission.stored().await.map(|()| order)
                }
                Err(error) => Err(error),
            },
            _ => Ok(0),
        };
        match stored {
            Ok(order) => {
                let now = Instant::now();
                for plan in plans {
                    of.broker.carry_out(plan, order, now, of.batch);
                }
                replies.extend_from_slice(&answers);
                Ok(())
            }
            Err(error) => of.refuse(&answers, promises, error, replies),
        }
    }
}

/// Whose changes they are.
pub(crate) struct Owner<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) generation: u64,
    pub(crate) version: ProtocolVersion,
    pub(crate) batch: &'a mut Batch,
}

impl Owner<'_> {
    /// Takes back what was promised in memory and tells the peer. MQTT 3.1.1 has no word for it:
    /// the connection is closed without acknowledgement, so that the peer sends again.
    fn refuse(
        self,
        answers: &[u8],
        promises: Vec<(Promise, Range<usize>)>,
        error: NotStored,
        replies: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let mut close = None;
        let closes = || Some(Close::new(ReasonCode::QuotaExceeded, error.to_string()));
        let mut at = 0;
        for (promise, range) in promises {
            self.broker.metrics.not_stored.add(1);
            // Answers that promise nothing are true all the same.
            replies.extend_from_slice(answers.get(at..range.start).unwrap_or_default());
            at = range.end;
            match promise {
                Promise::Message { kind, packet_id } => {
                    if kind == AcknowledgementKind::Pubrec {
                        let over = self.session.refused(packet_id);
                        if let Some(store) = &self.broker.store {
                            store.note(over);
                        }
                    }
                    if self.version.is_v5() {
                        let reason_code = ReasonCode::QuotaExceeded;
                        let success = Acknowledgement::success(kind, packet_id);
                        let packet = Acknowledgement { reason_code, ..success };
                        let _fits = Packet::Acknowledgement(packet).encode(self.version, replies);
                    } else {
                        close = closes();
                    }
                }
                Promise::Subscriptions { packet_id, filters } => {
                    self.unsubscribe(&filters);
                    let codes = vec![ReasonCode::QuotaExceeded.byte(); filters.len()];
                    append_suback(self.version, packet_id, &codes, replies);
                }
                Promise::Release => close = closes(),
            }
        }
        replies.extend_from_slice(answers.get(at..).unwrap_or_default());
        close.map_or(Ok(()), Err)
    }

    fn unsubscribe(&self, filters: &[(Box<str>, bool)]) {
        let mut over = Changes::default();
        for (filter, _) in filters.iter().filter(|(_, is_new)| *is_new) {
            if self.session.unsubscribed(Some(self.generation), filter, &mut over)
                && let Ok(filter) = TopicFilter::parse(filter)
            {
                self.broker.topics.unsubscribe(filter, self.session);
            }
        }
        if let Some(store) = &self.broker.store {
            store.note(over);
        }
    }
}

/// Appends a SUBACK without properties.
pub(crate) fn append_suback(
    version: ProtocolVersion,
    packet_id: NonZeroU16,
    codes: &[u8],
    replies: &mut Vec<u8>,
) {
    let suback = Suback {
        kind: SubackKind::Suback,
        packet_id,
        properties: portreeve_mqtt::Properties::NONE,
        reason_codes: codes,
    };
    // The bound on the filters of one packet is below what a SUBACK can hold.
    let _fits = Packet::Suback(suback).encode(version, replies);
}
