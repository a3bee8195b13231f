//! Who a connecting device is: by the registry, by a plugin, or not asked. Fails closed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use portreeve_mqtt::{Connect, ReasonCode};
use portreeve_plugin::contract::Verdict;
use portreeve_plugin::{CallError, Plugin};

use crate::devices::{Admitted, Certified, Device, DeviceName, Origin};
use crate::gateway::{Gateway, Verification};
use crate::guest_view::{self, WhoIsThis};
use crate::peer::Peer;
use crate::permissions::Permissions;
use crate::reason::Refusal;

/// A device that was let in.
pub(crate) struct Admission {
    pub(crate) device: Arc<Device>,
    pub(crate) permissions: Permissions,
    /// Seconds until it has to be verified again.
    pub(crate) expires_in: Option<u32>,
    /// Whether its entry in the registry has to be stored.
    pub(crate) is_changed: bool,
    /// The last word of an enhanced authentication.
    pub(crate) authentication_data: Option<Vec<u8>>,
}

impl Admission {
    /// Without end, of a device that the registry has as it is.
    const fn for_ever(device: Arc<Device>, permissions: Permissions) -> Self {
        Self { device, permissions, expires_in: None, is_changed: false, authentication_data: None }
    }
}

/// What verification says about one step of a CONNECT.
pub(crate) enum Step {
    Admitted(Admission),
    /// Send AUTH with this data and ask again with the answer.
    Challenge(Vec<u8>),
}

/// Decides about a CONNECT. `client_id` is the one that the connection will have: that of the
/// CONNECT, or the one that the gateway assigns. `question` is made where a plugin is asked.
///
/// # Errors
/// [`Refusal`] with its reason code; a plugin that gives no verdict is one.
pub(crate) async fn verify(
    gateway: &Gateway,
    connect: &Connect<'_>,
    client_id: &str,
    peer: &Peer,
    question: impl FnOnce() -> WhoIsThis,
) -> Result<Step, Refusal> {
    let rules = gateway.rules();
    if connect.authentication_method().is_some()
        && !matches!(rules.verification, Verification::Plugin(_))
    {
        let message = "this gateway has no enhanced authentication";
        return Err(Refusal::new(ReasonCode::BadAuthenticationMethod, message));
    }
    match &rules.verification {
        Verification::Open => Ok(Step::Admitted(open(gateway, connect, client_id))),
        Verification::OneParty => one_party(gateway, connect, client_id, peer).map(Step::Admitted),
        Verification::Plugin(plugin) => {
            let verdict = plugin.verify(question()).await;
            let verdict = verdict.map_err(|error| {
                gateway.broker.metrics.verifier_faults.add(1);
                if plugin.may_log() {
                    tracing::warn!(plugin = plugin.name(), gateway = %gateway.name, %error, "no verdict");
                }
                let refusal =
                    Refusal::new(ReasonCode::ServerUnavailable, "the verifier gave no verdict");
                match error {
                    CallError::Unavailable(wait) => refusal.retry_after(wait),
                    _ => refusal,
                }
            })?;
            by_verdict(gateway, connect, client_id, plugin, verdict)
        }
    }
}

/// Everybody is let in, under the client identifier.
fn open(gateway: &Gateway, connect: &Connect<'_>, client_id: &str) -> Admission {
    let name = open_name(client_id);
    let permissions = gateway.permissions(name.as_str(), client_id, connect.user_name);
    // Not kept: anybody could fill the registry.
    let device = Device {
        name,
        product: Arc::clone(&gateway.product),
        attributes: Vec::new(),
        enabled: true,
        origin: Origin::AutoCreated,
    };
    Admission::for_ever(Arc::new(device), permissions)
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

fn one_party(
    gateway: &Gateway,
    connect: &Connect<'_>,
    client_id: &str,
    peer: &Peer,
) -> Result<Admission, Refusal> {
    let user_name = connect.user_name.unwrap_or_default();
    let password = connect.password.unwrap_or_default();
    let shown = peer.certificate().map(|certificate| Certified {
        fingerprint: certificate.fingerprint,
        common_name: certificate.common_name.as_deref(),
    });
    let registry = &gateway.broker.registry;
    let device = registry.authenticate(&gateway.product, user_name, password, shown);
    let refused = || {
        let message = match shown {
            None => "unknown device or wrong password",
            Some(_) => "unknown device, wrong password or another device's certificate",
        };
        Refusal::new(ReasonCode::BadUserNameOrPassword, message)
    };
    let device = device.ok_or_else(refused)?;
    if !device.enabled {
        return Err(Refusal::new(
            ReasonCode::NotAuthorized,
            format!("device {} is disabled", device.name),
        ));
    }
    let permissions = gateway.permissions(device.name.as_str(), client_id, connect.user_name);
    Ok(Admission::for_ever(device, permissions))
}

fn by_verdict(
    gateway: &Gateway,
    connect: &Connect<'_>,
    client_id: &str,
    plugin: &Plugin,
    verdict: Verdict,
) -> Result<Step, Refusal> {
    let unusable = |message: String| {
        gateway.broker.metrics.verifier_faults.add(1);
        if plugin.may_log() {
            tracing::warn!(plugin = plugin.name(), gateway = %gateway.name, "{message}");
        }
        Refusal::new(ReasonCode::ServerUnavailable, "the verifier's verdict cannot be used")
    };
    match verdict {
        Verdict::Refuse(refusal) => Err(guest_view::refusal(refusal)),
        Verdict::Challenge(_) if connect.authentication_method().is_none() => Err(unusable(
            "the verifier's challenge has no authentication method to be sent with".to_owned(),
        )),
        Verdict::Challenge(data) => Ok(Step::Challenge(data)),
        Verdict::Admit(admission) => {
            let admission = guest_view::admission(admission).map_err(unusable)?;
            let permissions = admission.permissions(gateway, client_id, connect.user_name);
            let product = admission.product.as_deref().unwrap_or(&gateway.product);
            let Admitted { device, is_changed } = gateway
                .broker
                .registry
                .admit(product, admission.device_name, admission.attributes)
                .map_err(|error| Refusal::new(ReasonCode::NotAuthorized, error.to_string()))?;
            Ok(Step::Admitted(Admission {
                device,
                permissions,
                expires_in: admission.expires_in,
                is_changed,
                authentication_data: admission.authentication_data,
            }))
        }
    }
}
