//! Who a connecting device is: by the registry, by a plugin, or not asked. Fails closed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use portreeve_mqtt::{Connect, ReasonCode};
use tokio::time::Instant;

use crate::attempts::Trail;
use crate::devices::{Device, DeviceName, Entry, Pending};
use crate::gateway::{Gateway, Verification};
use crate::guest_view::WhoIsThis;
use crate::lockout::Attempt;
use crate::peer::Peer;
use crate::permissions::Permissions;
use crate::reason::Refusal;

mod one_party;
mod third_party;

/// The stage of an attempt that this is.
const STAGE: &str = "verification";

/// A device that was let in.
pub(crate) struct Admission {
    pub(crate) device: Arc<Device>,
    /// Its entry in the registry, where it has one.
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) permissions: Permissions,
    /// Seconds until it has to be verified again.
    pub(crate) expires_in: Option<u32>,
    /// Its entry on the way to the store.
    pub(crate) pending: Option<Pending>,
    /// The last word of an enhanced authentication.
    pub(crate) authentication_data: Option<Vec<u8>>,
}

impl Admission {
    /// Without end, of a device that the registry has as it is.
    const fn for_ever(
        device: Arc<Device>,
        entry: Option<Arc<Entry>>,
        permissions: Permissions,
    ) -> Self {
        Self {
            device,
            entry,
            permissions,
            expires_in: None,
            pending: None,
            authentication_data: None,
        }
    }
}

/// What verification says about one step of a CONNECT.
pub(crate) enum Step {
    Admitted(Admission),
    /// Send AUTH with this data and ask again with the answer.
    Challenge(Vec<u8>),
}

/// A CONNECT, and where it comes from.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) gateway: &'a Arc<Gateway>,
    pub(crate) connect: &'a Connect<'a>,
    /// The one that the connection will have: that of the CONNECT, or the one that the gateway
    /// assigns.
    pub(crate) client_id: &'a str,
    pub(crate) peer: &'a Peer,
}

impl Claim<'_> {
    fn user_name(&self) -> &str {
        self.connect.user_name.unwrap_or_default()
    }

    /// What lock-out knows the attempt by.
    fn attempt(&self) -> Attempt {
        let name = self.connect.user_name.unwrap_or(self.client_id);
        let address = self.peer.address.ip();
        self.gateway.broker.lockout.attempt(&self.gateway.product, name, address)
    }
}

/// Decides about a CONNECT. `question` is made where a plugin is asked.
///
/// # Errors
/// [`Refusal`] with its reason code; a plugin that gives no verdict is one.
pub(crate) async fn verify(
    claim: Claim<'_>,
    question: impl FnOnce() -> WhoIsThis,
    trail: &mut Trail,
) -> Result<Step, Refusal> {
    let rules = claim.gateway.rules();
    let verified = match &rules.verification {
        Verification::Plugin(plugin) => third_party::verify(claim, plugin, question(), trail).await,
        Verification::Open | Verification::OneParty
            if claim.connect.authentication_method().is_some() =>
        {
            let message = "this gateway has no enhanced authentication";
            Err(Refusal::new(ReasonCode::BadAuthenticationMethod, message))
        }
        Verification::Open => {
            trail.passed(STAGE, "open: everybody is let in");
            Ok(Step::Admitted(open(claim)))
        }
        Verification::OneParty => one_party::verify(claim, trail).await.map(Step::Admitted),
    };
    match &verified {
        Ok(Step::Admitted(admission)) => {
            trail.is_device(admission.device.name.as_str());
            if let Some(entry) = &admission.entry {
                claim.gateway.broker.registry.saw(entry);
            }
        }
        Ok(Step::Challenge(_)) => trail.note(STAGE, "the plugin asks for more (AUTH)"),
        Err(refusal) => {
            let (code, why) = (refusal.reason_code.name(), &refusal.message);
            trail.refused(STAGE, format!("{code}: {why}"));
        }
    }
    verified
}

/// Whether so many attempts failed that this one is not made.
fn check_lockout(claim: Claim<'_>, attempt: Attempt) -> Result<(), Refusal> {
    let broker = &claim.gateway.broker;
    broker.lockout.check(attempt, Instant::now()).map_err(|wait| {
        broker.metrics.connects_locked_out.add(1);
        let message = "too many attempts failed";
        Refusal::new(ReasonCode::QuotaExceeded, message).retry_after(wait)
    })
}

/// Everybody is let in, under the client identifier.
fn open(claim: Claim<'_>) -> Admission {
    let Claim { gateway, connect, client_id, .. } = claim;
    let name = open_name(client_id);
    let permissions = gateway.permissions(name.as_str(), client_id, connect.user_name);
    // Not kept: anybody could fill the registry.
    let device = Device::unregistered(name, Arc::clone(&gateway.product));
    Admission::for_ever(Arc::new(device), None, permissions)
}

/// The client identifier where it can be a device name, otherwise one that is the same each time.
fn open_name(client_id: &str) -> DeviceName {
    DeviceName::parse(client_id).unwrap_or_else(|_| {
        let mut hasher = DefaultHasher::new();
        client_id.hash(&mut hasher);
        let name = format!("client-{:016x}", hasher.finish());
        DeviceName::parse(&name).unwrap_or_else(|_| DeviceName::unnamed())
    })
}

/// What a device may do on this connection: its own permissions, or the gateway's rules.
/// `user_name` is the one that was proven.
fn permissions(claim: Claim<'_>, device: &Device, user_name: Option<&str>) -> Permissions {
    let Claim { gateway, client_id, .. } = claim;
    let name = device.name.as_str();
    match &device.permissions {
        None => gateway.permissions(name, client_id, user_name),
        Some(grants) => {
            let reads_sys = gateway.reads_sys(name);
            let granted = Permissions::granted(grants, name, client_id, user_name, reads_sys);
            granted.of_known_topics(gateway.leading_slash)
        }
    }
}
