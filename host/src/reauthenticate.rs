//! AUTH on a connection that was let in: the client authenticates again with the method of its
//! CONNECT (§4.12.1). Each step is a question to the verifier; meanwhile everything else goes on.

use std::time::Duration;

use portreeve_mqtt::{Auth, ReasonCode, decode_first};
use tokio::time::Instant;

use crate::attempts::Trail;
use crate::broker::Batch;
use crate::client::EstablishedClient;
use crate::connect::{auth_packet, identity, named};
use crate::guest_view::WhoIsThis;
use crate::reason::Close;
use crate::verification::{self, Admission, Claim, Step};

/// When the admission has to be made again, as far as that changed.
pub(crate) enum Renewed {
    /// The exchange goes on.
    NotYet,
    /// From now on this holds; `None` is for good.
    ExpiresAt(Option<Instant>),
}

/// Handles an AUTH; the answer is appended to `replies`.
///
/// # Errors
/// [`Close`] for what the standard does not allow, and when the client is not let in again.
pub(crate) async fn handle(
    client: &mut EstablishedClient,
    auth: Auth<'_>,
    replies: &mut Vec<u8>,
) -> Result<Renewed, Close> {
    let span = client.span();
    let Some(authentication) = client.authentication.as_deref_mut() else {
        let message = "AUTH of a client whose CONNECT had no authentication method";
        return Err(Close::protocol(message, "MQTT-4.12.0-6"));
    };
    let begins = match auth.reason_code {
        ReasonCode::ReAuthenticate => true,
        ReasonCode::ContinueAuthentication if authentication.is_challenged => false,
        _ => return Err(Close::protocol("AUTH that nothing asked for", "3.15.2.1")),
    };
    let limits = client.gateway.limits.connect_packet;
    let Ok(Some((connect, _))) = decode_first(&authentication.connect, &limits) else {
        let message = "the CONNECT to authenticate with cannot be read again";
        return Err(Close::new(ReasonCode::UnspecifiedError, message));
    };
    let method = connect.authentication_method().unwrap_or_default();
    if auth.method() != Some(method) {
        return Err(Close::protocol("AUTH with another authentication method", "MQTT-4.12.1-1"));
    }
    authentication.is_challenged = false;
    let (connection_id, peer) = (authentication.connection_id, authentication.peer.clone());
    let identity = identity(&client.gateway, &peer).map_err(|error| Close::from_refusal(&error))?;
    let connect = named(&connect, &identity);
    let data = auth.data().map(<[u8]>::to_vec);
    let gateway = &client.gateway;
    let client_id = client.session.key.client_id.as_ref();
    let question = || WhoIsThis::new(gateway, &connect, connection_id, &peer, data);
    span.in_scope(|| tracing::debug!(begins, "authenticates again"));
    let claim = Claim { gateway, connect: &connect, client_id, peer: &peer };
    let step = verification::verify(claim, question, &mut Trail::begin()).await;
    match step {
        Err(refusal) => Err(Close::from_refusal(&refusal)),
        Ok(Step::Challenge(challenge)) => {
            let auth = auth_packet(ReasonCode::ContinueAuthentication, method, &challenge);
            replies.extend(auth.map_err(|refusal| Close::from_refusal(&refusal))?);
            authentication.is_challenged = true;
            Ok(Renewed::NotYet)
        }
        Ok(Step::Admitted(admission)) => {
            let auth = auth_packet(
                ReasonCode::Success,
                method,
                admission.authentication_data.as_deref().unwrap_or_default(),
            );
            let auth = auth.map_err(|refusal| Close::from_refusal(&refusal))?;
            let renewed = admitted(client, admission).await?;
            replies.extend(auth);
            Ok(renewed)
        }
    }
}

/// The admission holds from now on. It has to be for the same device: the session is its.
async fn admitted(client: &mut EstablishedClient, admission: Admission) -> Result<Renewed, Close> {
    let Admission { device, permissions, expires_in, pending, .. } = admission;
    if device.name != client.device.name || device.product != client.device.product {
        let message = format!("it authenticated as another device, {}", device.name);
        return Err(Close::new(ReasonCode::NotAuthorized, message));
    }
    let broker = &client.gateway.broker;
    if let Some(pending) = pending {
        let stored = pending.stored(&broker.registry).await;
        stored.map_err(|error| Close::new(ReasonCode::ServerUnavailable, error.to_string()))?;
    }
    let mut changes = portreeve_store::Changes::default();
    broker.drop_denied_subscriptions(&client.session, &permissions, &mut changes);
    let mut batch = Batch::default();
    batch.note(changes);
    batch.finish(broker);
    client.device = device;
    client.permissions = permissions;
    client.ways.forget();
    let after = |seconds: u32| Instant::now() + Duration::from_secs(u64::from(seconds));
    Ok(Renewed::ExpiresAt(expires_in.map(after)))
}
