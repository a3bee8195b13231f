//! At the start: what the store holds goes back to where it was.

use std::collections::HashMap;
use std::sync::Arc;

use portreeve_mqtt::TopicFilter;
use portreeve_store::{
    Body, BodyId, Contents, OpenError, Progress, Store, Stored, StoredSession, SubscriptionRecord,
    Tally,
};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::devices::{Device, DeviceName};
use crate::message::{Message, StoredBody};
use crate::records::{self, Moment};
use crate::session::{Restored, SessionLimits};
use crate::topics::{Kept, Subscription};

/// Limits of the sessions of each gateway; the first ones are for those of gateways that are no
/// more.
pub(crate) type LimitsOf = Vec<(String, Arc<SessionLimits>)>;

/// Puts everything back that `contents` holds.
///
/// # Errors
/// [`OpenError`] for what cannot be read.
pub(crate) fn restore(
    broker: &Broker,
    contents: &Contents,
    limits: &LimitsOf,
    progress: impl FnMut(Progress),
) -> Result<Tally, OpenError> {
    let Some(store) = &broker.store else { return Ok(Tally::default()) };
    let moment = Moment::at(Instant::now());
    let mut restoring =
        Restoring { broker, contents, limits, store, moment, shared: HashMap::new() };
    let (tally, orphans) = contents.visit(|stored| restoring.put_back(stored), progress)?;
    store.note(orphans);
    Ok(tally)
}

struct Restoring<'a> {
    broker: &'a Broker,
    contents: &'a Contents,
    limits: &'a LimitsOf,
    store: &'a Arc<Store>,
    moment: Moment,
    /// Messages that several entries share, until the last of them is put back.
    shared: HashMap<u64, Arc<Message>>,
}

impl Restoring<'_> {
    fn put_back(&mut self, stored: Stored<'_>) -> Result<(), OpenError> {
        match stored {
            Stored::Device(record, seen_at) => {
                let name = record.name.clone();
                match self.broker.registry.restore(record, seen_at) {
                    Ok(()) => Ok(()),
                    Err(Some(error)) => {
                        tracing::warn!(device = name, %error, "a stored device is left out");
                        Ok(())
                    }
                    Err(None) => Err(self.contents.damaged(format!("the device {name:?} is none"))),
                }
            }
            Stored::Session(session) => self.session(session),
            Stored::Retained(body) => {
                let message = self.message(&body)?;
                let now = self.moment.now;
                let is_kept = !message.is_expired(now)
                    && self.broker.topics.retain(Arc::clone(&message), 0, now).kept == Kept::Yes;
                if !is_kept {
                    // Expired, or beyond a limit that is lower than before.
                    let mut over = portreeve_store::Changes::default();
                    over.retained_over(message.topic());
                    over.hold(message);
                    self.store.note(over);
                }
                Ok(())
            }
        }
    }

    fn session(&mut self, stored: StoredSession) -> Result<(), OpenError> {
        let unreadable = |what: &str| self.contents.damaged(format!("{what} cannot be read"));
        let record = &stored.session;
        let name = DeviceName::parse(&record.device_name)
            .map_err(|_| unreadable("the device of a session"))?;
        let known = self.broker.registry.find(&record.product, name.as_str());
        let device = known.map_or_else(
            // Known from its session alone, as where verification is open.
            || Arc::new(Device::unregistered(name, record.product.as_str().into())),
            |entry| Arc::clone(&entry.device),
        );
        let of_gateway = |(name, _): &&(String, Arc<SessionLimits>)| *name == record.gateway;
        let limits = self.limits.iter().find(of_gateway).or_else(|| self.limits.first());
        let Some((_, limits)) = limits else { return Ok(()) };
        let limits = Arc::clone(limits);
        let subscriptions = stored.subscriptions.clone();
        let detached_at_ms = record.detached_at_ms;
        let (store, moment) = (self.store, self.moment);
        let restored = Restored { stored, device, limits, store, moment };
        let contents = self.contents;
        let session = self.broker.sessions.restore(
            restored,
            |body| self.message(body),
            |what| contents.damaged(format!("{what} cannot be read")),
        )?;
        for record in subscriptions {
            let options = records::subscription_options(&record);
            let SubscriptionRecord { filter, identifier, .. } = record;
            let (Ok(filter), Some((options, _))) = (TopicFilter::parse(&filter), options) else {
                return Err(contents.damaged(format!("the subscription {filter:?} is none")));
            };
            let session = Arc::clone(&session);
            self.broker.topics.subscribe(filter, Subscription { session, options, identifier });
        }
        self.broker.sessions.schedule_restored(&session, detached_at_ms, moment);
        Ok(())
    }

    fn message(&mut self, body: &Body<'_>) -> Result<Arc<Message>, OpenError> {
        let unreadable = || self.contents.damaged("a message cannot be read".to_owned());
        let id = match body {
            Body::Inline(bytes) => {
                let message = records::message(bytes, self.moment).ok_or_else(unreadable)?;
                return Ok(Arc::new(message));
            }
            Body::Shared(id) => *id,
        };
        if let Some(message) = self.shared.get(&id) {
            return Ok(Arc::clone(message));
        }
        let bytes = self.contents.body(BodyId(id))?;
        let message = Arc::new(records::message(&bytes, self.moment).ok_or_else(unreadable)?);
        message.set_stored(StoredBody { id: BodyId(id), store: Arc::clone(self.store) });
        self.shared.insert(id, Arc::clone(&message));
        Ok(message)
    }
}
