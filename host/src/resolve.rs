//! Configuration and plugins together: what gateways there will be, or everything that does not
//! fit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwapOption;
use portreeve_plugin::Role;
use portreeve_plugin::contract::Direction;
use portreeve_store::Store;

use crate::attempts::Attempts;
use crate::broker::{Broker, PublishRates};
use crate::config::{
    BindingConfig, Config, DirectionConfig, GatewayConfig, ListenerConfig, VerificationConfig,
};
use crate::credentials::TlsByGateway;
use crate::devices::Registry;
use crate::devices::password::Hasher;
use crate::gateway::{Binding, Fixed, Gateway, Rules, Verification};
use crate::lockout::Lockout;
use crate::metrics::Metrics;
use crate::plugins::LoadedPlugin;
use crate::session::Sessions;
use crate::tap::Tap;
use crate::telemetry::Telemetry;
use crate::topics::Topics;

pub(crate) type Plugins = BTreeMap<String, LoadedPlugin>;

/// What is to be started.
pub(crate) struct Resolved {
    pub(crate) broker: Arc<Broker>,
    pub(crate) gateways: Vec<(Arc<Gateway>, Vec<ListenerConfig>)>,
}

/// Fits everything together.
///
/// # Errors
/// Every mistake, as sentences that say where and what to do.
pub(crate) fn resolve(
    config: &Config,
    plugins: &Plugins,
    tls: &TlsByGateway,
    store: Option<Arc<Store>>,
    telemetry: Telemetry,
) -> Result<Resolved, Vec<String>> {
    let limits = &config.limits;
    let broker = Arc::new(Broker {
        topics: Topics::new(limits.retained_messages_max, limits.retained_bytes_max),
        sessions: Sessions::new(limits.sessions_max, store.clone()),
        registry: Registry::new(limits.devices_max, store.clone()),
        hasher: Hasher::new(
            config.passwords.cost,
            config.passwords.threads,
            config.passwords.waiting_max,
        ),
        lockout: Lockout::new(config.lockout),
        attempts: Attempts::default(),
        metrics: Metrics::default(),
        connections_max: limits.connections_max,
        publish_rates: PublishRates::default(),
        tap: Tap::default(),
        telemetry,
        drain: ArcSwapOption::empty(),
        store,
    });
    let mut mistakes = Vec::new();
    for configured in &config.devices {
        if let Err(error) = broker.registry.configure(configured) {
            mistakes.push(format!("device {}: {error}", configured.device.name));
        }
    }
    let connection_ids = Arc::new(AtomicU64::new(1));
    let mut gateways = Vec::new();
    for gateway in &config.gateways {
        let Some(rules) = rules(gateway, plugins, &mut mistakes) else { continue };
        let fixed = Fixed {
            name: gateway.name.as_str().into(),
            product: gateway.product.as_str().into(),
            leading_slash: gateway.leading_slash,
            limits: gateway.limits.clone(),
            tls: tls.get(&gateway.name).cloned(),
        };
        let (broker, connection_ids) = (Arc::clone(&broker), Arc::clone(&connection_ids));
        let resolved = Gateway::new(fixed, rules, broker, connection_ids);
        gateways.push((Arc::new(resolved), gateway.listeners.clone()));
    }
    if mistakes.is_empty() { Ok(Resolved { broker, gateways }) } else { Err(mistakes) }
}

/// What holds for a gateway; `None` where a mistake was noted.
pub(crate) fn rules(
    gateway: &GatewayConfig,
    plugins: &Plugins,
    mistakes: &mut Vec<String>,
) -> Option<Rules> {
    let verification = verification(gateway, plugins, mistakes);
    let bindings = bindings(gateway, plugins, mistakes);
    Some(Rules {
        verification: verification?,
        admits_taken_names: gateway.admits_taken_names,
        enables_disabled: gateway.enables_disabled,
        bindings,
        topic_rules: gateway.topic_rules.clone(),
        checks_payload_format: gateway.checks_payload_format,
        response_information: gateway.response_information.clone(),
        sys_readers: gateway.sys_readers.clone(),
    })
}

fn verification(
    gateway: &GatewayConfig,
    plugins: &Plugins,
    mistakes: &mut Vec<String>,
) -> Option<Verification> {
    let name = match &gateway.verification {
        Some(VerificationConfig::Open) => return Some(Verification::Open),
        Some(VerificationConfig::OneParty) => return Some(Verification::OneParty),
        Some(VerificationConfig::Plugin(name)) => name.clone(),
        None => default_verifier(gateway, plugins, mistakes)?,
    };
    let of = format!("gateway {:?}, verification", gateway.name);
    let plugin = with_role(&name, &of, Role::Verifier, plugins, mistakes)?;
    Some(Verification::Plugin(Arc::clone(&plugin.plugin)))
}

/// The plugin whose manifest says that it verifies this gateway.
fn default_verifier(
    gateway: &GatewayConfig,
    plugins: &Plugins,
    mistakes: &mut Vec<String>,
) -> Option<String> {
    let says_so = |loaded: &LoadedPlugin| loaded.manifest.verifies.contains(&gateway.name);
    let mut names = plugins.iter().filter(|(_, loaded)| says_so(loaded)).map(|(name, _)| name);
    let (first, second) = (names.next(), names.next());
    match (first, second) {
        (Some(name), None) => return Some(name.clone()),
        (Some(one), Some(other)) => mistakes.push(format!(
            "gateway {:?}: the manifests of {one:?} and {other:?} both say that they verify it; say \
             verification = \"plugin:{one}\" in the configuration",
            gateway.name
        )),
        (None, _) => mistakes.push(format!(
            "gateway {:?} has no verification, and nobody is let in without one: say \
             --verification plugin:NAME (or one-party, or open to let everybody in)",
            gateway.name
        )),
    }
    None
}

fn bindings(
    gateway: &GatewayConfig,
    plugins: &Plugins,
    mistakes: &mut Vec<String>,
) -> Vec<Arc<Binding>> {
    let own = plugins.values().flat_map(|loaded| &loaded.manifest.bindings);
    // The gateway's own bindings come first, so they win.
    gateway
        .bindings
        .iter()
        .chain(own)
        .filter_map(|binding| {
            let of = format!("gateway {:?}, binding of {:?}", gateway.name, binding.filter);
            let loaded = with_role(&binding.plugin, &of, Role::Parser, plugins, mistakes)?;
            Some(Arc::new(resolved_binding(binding, loaded)))
        })
        .collect()
}

fn resolved_binding(binding: &BindingConfig, loaded: &LoadedPlugin) -> Binding {
    Binding {
        filter: binding.filter.as_str().into(),
        direction: match binding.direction {
            DirectionConfig::Up => Direction::Up,
            DirectionConfig::Down => Direction::Down,
        },
        plugin: Arc::clone(&loaded.plugin),
        may_publish: binding.may_publish.iter().map(|filter| filter.as_str().into()).collect(),
        on_error: binding.on_error.clone(),
    }
}

fn with_role<'a>(
    name: &str,
    of: &str,
    role: Role,
    plugins: &'a Plugins,
    mistakes: &mut Vec<String>,
) -> Option<&'a LoadedPlugin> {
    let Some(loaded) = plugins.get(name) else {
        let names: Vec<&str> = plugins.keys().map(String::as_str).collect();
        let there_are = if names.is_empty() {
            "none is loaded".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        mistakes.push(format!("{of}: there is no plugin {name:?}; {there_are}"));
        return None;
    };
    if !loaded.has(role) {
        let (wanted, interface) = (role.name(), role.interface());
        mistakes.push(format!(
            "{of}: the plugin {name:?} is no {wanted}: it does not export portreeve:plugin/{interface}"
        ));
        return None;
    }
    Some(loaded)
}
