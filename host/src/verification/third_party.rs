//! A plugin decides, and the registry keeps what it said.
//!
//! A plugin that may wait (its manifest grants HTTP) or that lets its verdicts be used again is asked
//! once for equal questions: a fleet that comes back at once is not as many calls of somebody's
//! service.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use portreeve_mqtt::ReasonCode;
use portreeve_plugin::contract::{Refusal as GuestRefusal, RefusalReason, Verdict};
use portreeve_plugin::{CallError, Plugin};
use tokio::time::Instant;

use super::{Admission, Claim, STAGE, Step, check_lockout, permissions};
use crate::attempts::Trail;
use crate::devices::{Admitted, Admitting, Entry, NotAdmitted};
use crate::gateway::Gateway;
use crate::guest_view::{self, WhoIsThis};
use crate::reason::Refusal;
use crate::verdicts::{Answer, CheckedAdmission, QuestionKey, Reused};

/// Decides about a CONNECT.
pub(super) async fn verify(
    claim: Claim<'_>,
    plugin: &Arc<Plugin>,
    question: WhoIsThis,
    trail: &mut Trail,
) -> Result<Step, Refusal> {
    let gateway = claim.gateway;
    let has_method = claim.connect.authentication_method().is_some();
    // Each step of a challenge is a question of its own.
    let key = if has_method { None } else { key(gateway, plugin, &question) };
    let kept = key.and_then(|key| gateway.verdicts.find(&key, Instant::now()));
    if let Some(reused) = kept
        && is_current(gateway, &reused)
    {
        gateway.broker.metrics.verdicts_reused.add(1);
        trail.passed(STAGE, format!("the plugin {} admitted it before (cache-for)", plugin.name()));
        return Ok(Step::Admitted(reused_admission(claim, reused)));
    }
    let attempt = claim.attempt();
    check_lockout(claim, attempt)?;
    let count_failure = |refusal: &Refusal| {
        if refusal.reason_code == ReasonCode::BadUserNameOrPassword {
            gateway.broker.lockout.failed(attempt, Instant::now());
        }
    };
    if has_method {
        let decided = decide(gateway, plugin, question, trail).await;
        let admission = match decided.inspect_err(count_failure)? {
            Decision::Challenge(data) => return Ok(Step::Challenge(data)),
            Decision::Admit(admission) => admission,
        };
        gateway.broker.lockout.succeeded(attempt);
        trail.passed(STAGE, format!("the plugin {} admits it", plugin.name()));
        return admitted(claim, &admission).map(Step::Admitted);
    }
    let answer = ask(gateway, plugin, question, key, trail).await;
    let admission = answer.inspect_err(count_failure)?;
    gateway.broker.lockout.succeeded(attempt);
    trail.passed(STAGE, format!("the plugin {} admits it", plugin.name()));
    let admitted = admitted(claim, &admission)?;
    if let (Some(key), Some(entry)) = (key, &admitted.entry) {
        gateway.verdicts.keep(key, &admission, entry, Instant::now());
    }
    Ok(Step::Admitted(admitted))
}

/// Whether the registry still has the device as it was when the verdict was given, and the policy of
/// now would let it in.
fn is_current(gateway: &Gateway, reused: &Reused) -> bool {
    if reused.entry.has_credentials() && !gateway.rules().admits_taken_names {
        return false;
    }
    let device = &reused.entry.device;
    let current = gateway.broker.registry.find(&device.product, device.name.as_str());
    current.is_some_and(|current| Arc::ptr_eq(&current, &reused.entry))
}

/// What a question is known by; `None` where each is asked for itself.
fn key(gateway: &Gateway, plugin: &Plugin, question: &WhoIsThis) -> Option<QuestionKey> {
    // Two versions of a plugin that is being rolled out may answer differently.
    if plugin.rollout().is_some() {
        return None;
    }
    let live = plugin.live();
    if !live.may_wait() && !gateway.keeps_verdicts.load(Ordering::Relaxed) {
        return None;
    }
    let mut bytes = Vec::new();
    for part in [plugin.name(), live.digest()] {
        guest_view::append(&mut bytes, part.as_bytes());
    }
    question.append_to(&mut bytes);
    Some(gateway.broker.registry.key().proof(&bytes))
}

/// Asks the plugin, or waits for who asks the same.
async fn ask(
    gateway: &Arc<Gateway>,
    plugin: &Arc<Plugin>,
    question: WhoIsThis,
    key: Option<QuestionKey>,
    trail: &mut Trail,
) -> Answer {
    let Some(key) = key else {
        return undisputed(decide(gateway, plugin, question, trail).await).map(Arc::new);
    };
    let (gateway_of, plugin_of) = (Arc::clone(gateway), Arc::clone(plugin));
    let said = Arc::new(Mutex::new(Trail::begin()));
    let lines_of = Arc::clone(&said);
    let flight = move || {
        async move {
            let mut said = Trail::begin();
            let answer = undisputed(decide(&gateway_of, &plugin_of, question, &mut said).await);
            *lines_of.lock() = said;
            gateway_of.verdicts.landed(&key);
            answer.map(Arc::new)
        }
        .boxed()
    };
    let (flight, is_joined) = gateway.verdicts.join(key, flight);
    if is_joined {
        gateway.broker.metrics.verdicts_shared.add(1);
        trail.note(STAGE, "the same is being asked already; it waits for the answer");
    }
    let answer = flight.await;
    // Empty for those who joined: the lines are of who asked.
    trail.append(&said.lock());
    answer
}

/// What a verifier decided.
enum Decision {
    Admit(CheckedAdmission),
    Challenge(Vec<u8>),
}

/// A decision about a CONNECT that no challenge can be sent for.
fn undisputed(decision: Result<Decision, Refusal>) -> Result<CheckedAdmission, Refusal> {
    match decision? {
        Decision::Admit(admission) => Ok(admission),
        Decision::Challenge(_) => Err(Refusal::new(ReasonCode::ServerUnavailable, UNUSABLE)),
    }
}

const UNUSABLE: &str = "the verifier's verdict cannot be used";

/// Has the plugin decide, within the rate of the gateway.
async fn decide(
    gateway: &Gateway,
    plugin: &Arc<Plugin>,
    question: WhoIsThis,
    trail: &mut Trail,
) -> Result<Decision, Refusal> {
    if let Some(rate) = &gateway.verification_rate
        && let Err(wait) = rate.take(Instant::now())
    {
        gateway.broker.metrics.verifications_over_rate.add(1);
        let message = "more devices connect at once than are verified";
        return Err(Refusal::new(ReasonCode::QuotaExceeded, message).retry_after(spread(wait)));
    }
    let has_method = question.has_method();
    let password = question.password_text();
    let (verdict, lines) = plugin.verify_logged(question).await;
    for line in lines {
        trail.note("plugin", masked(line, password.as_deref()));
    }
    let unusable = |message: &str| {
        gateway.broker.metrics.verifier_faults.add(1);
        if plugin.may_log() {
            tracing::warn!(plugin = plugin.name(), gateway = %gateway.name, "{message}");
        }
        Refusal::new(ReasonCode::ServerUnavailable, UNUSABLE)
    };
    match verdict.map_err(|error| no_verdict(gateway, plugin, &error))? {
        Verdict::Refuse(refusal) => Err(refused(refusal)),
        Verdict::Challenge(_) if !has_method => {
            Err(unusable("the verifier's challenge has no authentication method to be sent with"))
        }
        Verdict::Challenge(data) => Ok(Decision::Challenge(data)),
        Verdict::Admit(admission) => {
            let admission = guest_view::admission(admission).map_err(|why| unusable(&why))?;
            if admission.cache_for.is_some_and(|seconds| seconds > 0) {
                gateway.keeps_verdicts.store(true, Ordering::Relaxed);
            }
            Ok(Decision::Admit(admission))
        }
    }
}

/// A plugin's line without the password that it was asked about.
fn masked(line: String, password: Option<&str>) -> String {
    match password.filter(|password| !password.is_empty()) {
        Some(password) => line.replace(password, "(masked)"),
        None => line,
    }
}

fn refused(refusal: GuestRefusal) -> Refusal {
    let is_busy =
        matches!(refusal.reason, RefusalReason::ServerBusy | RefusalReason::QuotaExceeded);
    let refusal = guest_view::refusal(refusal);
    if is_busy { refusal.retry_after(spread(RETRY)) } else { refusal }
}

/// After which time a device is to come back where nobody knows better.
const RETRY: Duration = Duration::from_secs(5);

/// Why the plugin gave no verdict, for the log and the peer.
fn no_verdict(gateway: &Gateway, plugin: &Plugin, error: &CallError) -> Refusal {
    gateway.broker.metrics.verifier_faults.add(1);
    if plugin.may_log() {
        tracing::warn!(plugin = plugin.name(), gateway = %gateway.name, %error, "no verdict");
    }
    let refusal = Refusal::new(ReasonCode::ServerUnavailable, "the verifier gave no verdict");
    let wait = match error {
        CallError::Unavailable(wait) | CallError::Overloaded(_, wait) => *wait,
        _ => RETRY,
    };
    refusal.retry_after(spread(wait))
}

/// Between once and twice the time, so that those who were refused together do not come back
/// together.
fn spread(wait: Duration) -> Duration {
    let mut random = [0; 4];
    // Without random numbers there is one time for all, which is no worse than no hint.
    let _filled = aws_lc_rs::rand::fill(&mut random);
    let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    wait.mul_f64(1.0 + share)
}

/// The device of an admission, created and enabled where there is none.
fn admitted(claim: Claim<'_>, admission: &CheckedAdmission) -> Result<Admission, Refusal> {
    let gateway = claim.gateway;
    let product = admission.product.as_deref().unwrap_or(&gateway.product);
    let rules = gateway.rules();
    let admitting = Admitting {
        name: admission.device_name.clone(),
        attributes: admission.attributes.clone(),
        permissions: admission.permissions.clone(),
        may_be_taken: rules.admits_taken_names,
        enables: rules.enables_disabled,
    };
    let Admitted { entry, is_new, pending } =
        gateway.broker.registry.admit(product, admitting).map_err(|error| {
            let code = match &error {
                NotAdmitted::Disabled(_) | NotAdmitted::Taken(_) => ReasonCode::NotAuthorized,
                NotAdmitted::Full(_) => ReasonCode::QuotaExceeded,
                NotAdmitted::NotStored(_) => ReasonCode::ServerUnavailable,
            };
            Refusal::new(code, error.to_string())
        })?;
    if is_new {
        gateway.broker.metrics.devices_created.add(1);
        let (device, product) = (&entry.device.name, &entry.device.product);
        tracing::info!(%device, %product, "device created");
    }
    let mut admitted = of_entry(claim, entry, admission.expires_in);
    admitted.pending = pending;
    admitted.authentication_data.clone_from(&admission.authentication_data);
    Ok(admitted)
}

fn reused_admission(claim: Claim<'_>, reused: Reused) -> Admission {
    // Verdicts that took a challenge are not kept, so there is no last word.
    of_entry(claim, reused.entry, reused.expires_in)
}

fn of_entry(claim: Claim<'_>, entry: Arc<Entry>, expires_in: Option<u32>) -> Admission {
    let device = Arc::clone(&entry.device);
    let permissions = permissions(claim, &device, claim.connect.user_name);
    Admission { expires_in, ..Admission::for_ever(device, Some(entry), permissions) }
}
