//! Sessions that the store had, as they are after a restart: without connection, with everything
//! that waited or was not acknowledged.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portreeve_mqtt::QoS;
use portreeve_store::{EntryRecord, Store, StoredSession, WillRecord};

use super::outgoing::Queued;
use super::{Due, Session, SessionKey, SessionLimits, Sessions, State, Will, ends_at};
use crate::devices::Device;
use crate::message::Message;
use crate::records::{self, Moment, StoredAs};

/// A session that is to be put back.
pub(crate) struct Restored<'a> {
    pub(crate) stored: StoredSession,
    pub(crate) device: Arc<Device>,
    pub(crate) limits: Arc<SessionLimits>,
    pub(crate) store: &'a Arc<Store>,
    pub(crate) moment: Moment,
}

impl Sessions {
    /// Puts a session back. Returns it, or what is wrong with its records. `message` gives the
    /// message of an entry.
    pub(crate) fn restore<E>(
        &self,
        restored: Restored<'_>,
        mut message: impl FnMut(&portreeve_store::Body<'_>) -> Result<Arc<Message>, E>,
        unreadable: impl Fn(&str) -> E,
    ) -> Result<Arc<Session>, E> {
        let Restored { stored, device, limits, store, moment } = restored;
        let StoredSession { id, session: record, subscriptions, entries, received } = stored;
        let key = SessionKey {
            product: record.product.as_str().into(),
            client_id: record.client_id.as_str().into(),
        };
        let gateway = record.gateway.as_str().into();
        let in_flight_max = usize::from(limits.in_flight_max);
        let stored_as = Box::new(StoredAs { id, store: Arc::clone(store), gateway });
        let session = Arc::new(Session::new(key, limits, Some(stored_as), device));
        session.expiry_seconds.store(record.expiry_seconds, Ordering::Relaxed);
        let mut state = session.state.lock();
        for subscription in &subscriptions {
            let (options, has_slash) = records::subscription_options(subscription)
                .ok_or_else(|| unreadable("options of a subscription"))?;
            state.has_slash |= has_slash;
            state.subscriptions.insert(subscription.filter.as_str().into(), options);
        }
        state.incoming.restore(received.into_iter().filter_map(NonZeroU16::new));
        let mut last = record.last_sent;
        for (index, (entry, bytes)) in entries.iter().enumerate() {
            last = last.max(*entry);
            let record_of_entry =
                EntryRecord::from_bytes(bytes).ok_or_else(|| unreadable("a queued message"))?;
            // A connection that the restart ended may have been sent as many as may be in flight.
            let may_be_sent = record.detached_at_ms.is_none() && index < in_flight_max;
            let was_sent = *entry <= record.last_sent || may_be_sent;
            restore_entry(
                &mut state,
                *entry,
                record_of_entry,
                was_sent,
                &mut message,
                &unreadable,
            )?;
        }
        session.entries.store(last + 1, Ordering::Relaxed);
        let held = state.outgoing.held(last);
        *session.held.lock() = (!held.is_empty()).then(|| Box::new(held));
        state.will = record
            .will
            .as_ref()
            .map(|will| restored_will(will, moment))
            .transpose()
            .map_err(unreadable)?;
        drop(state);
        self.put_back(&session, id.0.get());
        Ok(session)
    }

    /// Notes when a session that was put back is due.
    pub(crate) fn schedule_restored(
        &self,
        session: &Arc<Session>,
        detached_at_ms: Option<u64>,
        moment: Moment,
    ) {
        // A connection that the restart ended is lost now.
        let after = |delay: Duration| {
            let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let begin = detached_at_ms.unwrap_or(moment.unix_ms);
            records::instant(begin.saturating_add(ms), moment)
        };
        let delay = session.state.lock().will.as_ref().map(|will| will.delay);
        if let Some(delay) = delay {
            self.schedule(session, 0, Due::Will, after(delay));
        }
        let expiry = session.expiry_seconds();
        if ends_at(moment.now, expiry).is_some() {
            self.schedule(session, 0, Due::End, after(Duration::from_secs(u64::from(expiry))));
        }
    }
}

fn restore_entry<E>(
    state: &mut State,
    entry: u64,
    record: EntryRecord<'_>,
    was_sent: bool,
    message: &mut impl FnMut(&portreeve_store::Body<'_>) -> Result<Arc<Message>, E>,
    unreadable: &impl Fn(&str) -> E,
) -> Result<(), E> {
    let EntryRecord::Message { qos, retain, identifiers, share, body } = record else {
        state.outgoing.restore_released(entry);
        return Ok(());
    };
    let qos = QoS::from_bits(qos).ok_or_else(|| unreadable("the QoS of a queued message"))?;
    let (message, share) = (message(&body)?, share.map(Arc::from));
    let identifiers = identifiers.into_boxed_slice();
    let queued = Queued { entry, message, qos, retain, identifiers, share };
    state.outgoing.restore(queued, was_sent);
    Ok(())
}

fn restored_will(record: &WillRecord, moment: Moment) -> Result<Box<Will>, &'static str> {
    let message = records::message(&record.message, moment).ok_or("a will")?;
    Ok(Box::new(Will {
        message: Arc::new(message),
        retain: record.retain,
        delay: Duration::from_secs(u64::from(record.delay_seconds)),
        expiry_interval: record.expiry_interval,
    }))
}
