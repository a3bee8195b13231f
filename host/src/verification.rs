//! Who a connecting device is: by the registry, by a plugin, or not asked. Fails closed.

use std::sync::Arc;

use portreeve_mqtt::{Connect, ReasonCode};
use portreeve_plugin::contract::Verdict;

use crate::devices::{Device, DeviceName, Origin};
use crate::gateway::{Gateway, Verification};
use crate::guest_view::{self, ConnectView};
use crate::permissions::Permissions;
use crate::reason::Refusal;

/// A device that was let in.
pub(crate) struct Admission {
    pub(crate) device: Arc<Device>,
    pub(crate) permissions: Permissions,
    /// Seconds until it has to be verified again.
    pub(crate) expires_in: Option<u32>,
}

/// What verification says about one step of a CONNECT.
pub(crate) enum Step {
    Admitted(Admission),
    /// Send AUTH with this data and ask again with the answer.
    Challenge(Vec<u8>),
}

/// Decides about a CONNECT whose client identifier is settled.
///
/// # Errors
/// [`Refusal`] with its reason code; a plugin that gives no verdict is one.
pub(crate) async fn verify(
    gateway: &Gateway,
    connect: &Connect<'_>,
    view: &ConnectView<'_>,
    authentication_data: Option<&[u8]>,
) -> Result<Step, Refusal> {
    if connect.authentication_method().is_some()
        && !matches!(gateway.verification, Verification::Plugin(_))
    {
        let message = "this gateway has no enhanced authentication";
        return Err(Refusal::new(ReasonCode::BadAuthenticationMethod, message));
    }
    match &gateway.verification {
        Verification::Open => Ok(Step::Admitted(open(gateway, connect, view))),
        Verification::OneParty => one_party(gateway, connect).map(Step::Admitted),
        Verification::Plugin(plugin) => {
            let verdict = plugin.verify(view.request(connect, authentication_data)).await;
            let verdict = verdict.map_err(|error| {
                gateway.broker.metrics.verifier_faults.add(1);
                tracing::warn!(plugin = plugin.name(), gateway = gateway.name, %error, "no verdict");
                Refusal::new(ReasonCode::ServerUnavailable, "the verifier gave no verdict")
            })?;
            by_verdict(gateway, connect, plugin.name(), verdict)
        }
    }
}

/// Everybody is let in, under the client identifier where it can be a device name.
fn open(gateway: &Gateway, connect: &Connect<'_>, view: &ConnectView<'_>) -> Admission {
    let given = [Some(connect.client_id), connect.user_name];
    let name = given
        .into_iter()
        .flatten()
        .chain([format!("connection-{}", view.connection_id).as_str()])
        .find_map(|text| DeviceName::parse(text).ok());
    // The last candidate is always a device name.
    let name = name.unwrap_or_else(DeviceName::unnamed);
    let permissions = Permissions::everything(gateway.reads_sys(name.as_str()));
    // Not kept: anybody could fill the registry.
    let device = Device {
        name,
        product: gateway.product.as_str().into(),
        attributes: Vec::new(),
        enabled: true,
        origin: Origin::AutoCreated,
    };
    Admission { device: Arc::new(device), permissions, expires_in: None }
}

fn one_party(gateway: &Gateway, connect: &Connect<'_>) -> Result<Admission, Refusal> {
    let user_name = connect.user_name.unwrap_or_default();
    let password = connect.password.unwrap_or_default();
    let device = gateway.broker.registry.authenticate(&gateway.product, user_name, password);
    let refused =
        || Refusal::new(ReasonCode::BadUserNameOrPassword, "unknown device or wrong password");
    let device = device.ok_or_else(refused)?;
    if !device.enabled {
        return Err(Refusal::new(
            ReasonCode::NotAuthorized,
            format!("device {} is disabled", device.name),
        ));
    }
    let permissions = Permissions::everything(gateway.reads_sys(device.name.as_str()));
    Ok(Admission { device, permissions, expires_in: None })
}

fn by_verdict(
    gateway: &Gateway,
    connect: &Connect<'_>,
    plugin: &str,
    verdict: Verdict,
) -> Result<Step, Refusal> {
    let unusable = |message: String| {
        gateway.broker.metrics.verifier_faults.add(1);
        tracing::warn!(plugin, gateway = gateway.name, "{message}");
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
            let permissions = admission.permissions(gateway, connect.client_id, connect.user_name);
            let product = admission.product.as_deref().unwrap_or(&gateway.product);
            let device = gateway
                .broker
                .registry
                .admit(product, admission.device_name, admission.attributes)
                .map_err(|error| Refusal::new(ReasonCode::NotAuthorized, error.to_string()))?;
            Ok(Step::Admitted(Admission { device, permissions, expires_in: admission.expires_in }))
        }
    }
}
