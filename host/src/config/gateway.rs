//! `[[gateway]]`, its bindings and limits, and `[[device]]`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portreeve_mqtt::{Limits as PacketLimits, TopicFilter, TopicName};

use super::reader::{Section, one_of};
use super::tls::TlsConfig;
use super::{
    BindingConfig, DirectionConfig, GatewayConfig, ListenerConfig, ListenerKind, VerificationConfig,
};
use crate::devices::{CertificateMatch, ConfiguredDevice, Device, DeviceName, Origin};
use crate::gateway::{GatewayLimits, OnError, TopicRule, TopicRules};
use crate::leading_slash::LeadingSlash;
use crate::permissions::Action;
use crate::session::{QueuePolicy, SessionLimits};

/// The name of the gateway that runs without a configuration.
pub(crate) const DEVELOPMENT: &str = "development";

impl GatewayConfig {
    /// The gateway that runs without a configuration: this machine only, port 1883.
    #[must_use]
    pub fn development() -> Self {
        Self {
            name: DEVELOPMENT.to_owned(),
            product: "default".to_owned(),
            listeners: vec![ListenerConfig::tcp(SocketAddr::from(([127, 0, 0, 1], 1883)))],
            verification: None,
            admits_taken_names: false,
            enables_disabled: false,
            bindings: Vec::new(),
            sys_readers: vec!["application".to_owned()],
            leading_slash: LeadingSlash::Significant,
            topic_rules: TopicRules { rules: Vec::new(), otherwise: true },
            checks_payload_format: false,
            response_information: None,
            limits: GatewayLimits::default(),
            tls: None,
        }
    }

    pub(super) fn from_section(section: Section<'_>, folder: &Path) -> Self {
        let mut gateway =
            Self { listeners: Vec::new(), sys_readers: Vec::new(), ..Self::development() };
        if let Some(name) = section.required_string("name", "main") {
            gateway.name = name;
        }
        if let Some(product) = section.string("product") {
            gateway.product = product;
        }
        gateway.verification = verification(&section);
        let names = section.choice("taken_names", &[("refuse", false), ("admit", true)]);
        gateway.admits_taken_names = names.unwrap_or(false);
        let disabled = section.choice("disabled_devices", &[("refuse", false), ("enable", true)]);
        gateway.enables_disabled = disabled.unwrap_or(false);
        for listener in section.tables("listener") {
            gateway.listeners.extend(listener_from_section(&listener));
        }
        if gateway.listeners.is_empty() {
            section.problem_here(
                "has no listener",
                "add a [[gateway.listener]] with address = \"0.0.0.0:1883\"",
            );
        }
        gateway.bindings = section
            .tables("binding")
            .into_iter()
            .filter_map(|binding| {
                let plugin = binding.required_string("plugin", "sensor-frame");
                binding_from_section(&binding, plugin)
            })
            .collect();
        gateway.sys_readers = section.strings("sys_readers").unwrap_or_default();
        let slash = section.choice("leading_slash", &LeadingSlash::ALL);
        gateway.leading_slash = slash.unwrap_or_default();
        gateway.topic_rules = topic_rules(&section);
        let yes_or_no = [("on", true), ("off", false)];
        let checks = section.choice("payload_format_check", &yes_or_no);
        gateway.checks_payload_format = checks.unwrap_or(false);
        gateway.response_information = section.string("response_information");
        if let Some(limits) = section.table("limits") {
            gateway.limits.read(&limits);
        }
        gateway.tls = section.table("tls").map(|tls| TlsConfig::from_section(&tls, folder));
        TlsConfig::check(&section, &gateway);
        section.finish();
        gateway
    }
}

fn listener_from_section(section: &Section<'_>) -> Option<ListenerConfig> {
    let text = section.required_string("address", "0.0.0.0:1883");
    let address = text.and_then(|text| {
        let address = text.parse().ok();
        if address.is_none() {
            section.problem(
                "address",
                format!("{text:?} is no address and port"),
                "write \"0.0.0.0:1883\" or \"[::]:1883\"",
            );
        }
        address
    });
    let kinds =
        [ListenerKind::Tcp, ListenerKind::Tls, ListenerKind::WebSocket, ListenerKind::WebSocketTls]
            .map(|kind| (kind.name(), kind));
    let kind = section.choice("kind", &kinds).unwrap_or(ListenerKind::Tcp);
    let trusted_proxies = section.strings("trusted_proxies").map(|networks| {
        let parsed = networks.iter().filter_map(|text| {
            // One address is a network of one.
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            if network.is_err() {
                let hint = "write \"10.0.0.0/8\" or \"127.0.0.1\"";
                section.problem("trusted_proxies", format!("{text:?} is no network"), hint);
            }
            network.ok()
        });
        parsed.collect()
    });
    section.finish();
    Some(ListenerConfig { address: address?, kind, trusted_proxies })
}

/// `topic_default` and `[[gateway.topic_rule]]`.
fn topic_rules(section: &Section<'_>) -> TopicRules {
    let effects = [("allow", true), ("deny", false)];
    let otherwise = section.choice("topic_default", &effects).unwrap_or(true);
    let actions =
        [("publish", Action::Publish), ("subscribe", Action::Subscribe), ("both", Action::Both)];
    let rule = |rule: Section<'_>| {
        let filter = rule.required_string("topic", "devices/%d/#").filter(|filter| {
            // With names put in for the placeholders it has to be a filter.
            let filled = filter.replace(['%'], "");
            let checked = TopicFilter::parse(&filled);
            if let Err(error) = checked {
                rule.problem("topic", format!("{filter:?}: {error}"), "");
            }
            checked.is_ok()
        });
        if rule.string("effect").is_none() {
            rule.problem("effect", "is missing", "write effect = \"allow\" or \"deny\"");
        }
        let allows = rule.choice("effect", &effects);
        let action = rule.choice("action", &actions).unwrap_or(Action::Both);
        let devices = rule.strings("devices");
        rule.finish();
        Some(TopicRule { allows: allows?, action, filter: filter?, devices })
    };
    let rules = section.tables("topic_rule").into_iter().filter_map(rule).collect();
    TopicRules { rules, otherwise }
}

fn verification(section: &Section<'_>) -> Option<VerificationConfig> {
    let text = section.string("verification")?;
    let parsed = text.parse();
    if let Err(hint) = &parsed {
        let hint: &String = hint;
        section.problem("verification", format!("{text:?} is not known"), hint.as_str());
    }
    parsed.ok()
}

impl std::str::FromStr for VerificationConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("plugin:")) {
            ("open", _) => Ok(Self::Open),
            ("one-party", _) => Ok(Self::OneParty),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Plugin(name.to_owned())),
            _ => Err(one_of(text, &["open", "one-party", "plugin:NAME"])),
        }
    }
}

/// Reads a binding; `plugin` is the name that stands in it, or that of the manifest's plugin.
pub(super) fn binding_from_section(
    section: &Section<'_>,
    plugin: Option<String>,
) -> Option<BindingConfig> {
    let filter = section.required_string("topic", "devices/+/raw").filter(|filter| {
        let checked = TopicFilter::parse(filter);
        if let Err(error) = checked {
            section.problem("topic", format!("{filter:?}: {error}"), "");
        } else if filter.starts_with("$share/") {
            section.problem(
                "topic",
                "is a shared subscription",
                "bind the filter without $share/NAME/",
            );
        }
        checked.is_ok()
    });
    let directions = [("up", DirectionConfig::Up), ("down", DirectionConfig::Down)];
    let direction = section.choice("direction", &directions).unwrap_or(DirectionConfig::Up);
    let may_publish = section.strings("may_publish");
    for filter in may_publish.iter().flatten() {
        if let Err(error) = TopicFilter::parse(filter) {
            section.problem("may_publish", format!("{filter:?}: {error}"), "");
        } else if filter.starts_with("$share/") {
            section.problem("may_publish", "holds a shared subscription", "write plain filters");
        }
    }
    let on_error = on_error(section);
    section.finish();
    let filter = filter?;
    Some(BindingConfig {
        may_publish: may_publish.unwrap_or_else(|| vec![filter.clone()]),
        filter,
        direction,
        plugin: plugin?,
        on_error,
    })
}

fn on_error(section: &Section<'_>) -> OnError {
    let Some(text) = section.string("on_error") else { return OnError::Reject };
    if let Some(topic) = text.strip_prefix("dead-letter:") {
        if let Err(error) = TopicName::parse(topic) {
            section.problem(
                "on_error",
                format!("{topic:?}: {error}"),
                "write \"dead-letter:TOPIC\"",
            );
        }
        return OnError::DeadLetter(topic.into());
    }
    match text.as_str() {
        "reject" => OnError::Reject,
        "drop" => OnError::Drop,
        "pass" => OnError::Pass,
        _ => {
            let hint = one_of(&text, &["reject", "drop", "pass", "dead-letter:TOPIC"]);
            section.problem("on_error", format!("{text:?} is not known"), hint);
            OnError::Reject
        }
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_address_max: 0,
            connection_rate_max: 0,
            verification_rate_max: 0,
            verdicts_max: 100_000,
            publish_rate_max: 0,
            handshakes_max: 1_000,
            connect_timeout: Duration::from_secs(10),
            connect_packet: PacketLimits {
                packet_bytes_max: 64 << 10,
                user_properties_max: 64,
                filters_max: 256,
            },
            packet: PacketLimits {
                packet_bytes_max: 1 << 20,
                user_properties_max: 64,
                filters_max: 256,
            },
            topic_alias_maximum: 16,
            topic_bytes_max: 65_535,
            topic_levels_max: 128,
            keep_alive_max: 0,
            session_expiry_max: 7 * 24 * 3600,
            write_stall_timeout: Duration::from_secs(60),
            session: Arc::new(SessionLimits {
                mailbox_bytes_max: 1 << 20,
                queued_messages_max: 1_000,
                queued_bytes_max: 16 << 20,
                in_flight_max: 1_024,
                queue_policy: QueuePolicy::DropOldest,
                subscriptions_max: 1_000,
            }),
        }
    }
}

/// Highest number that a second may be bounded to.
const RATE_MAX: u64 = 1_000_000;
/// Largest packet that MQTT can carry, and one more.
const PACKET_BYTES: std::ops::Range<u64> = 128..268_435_461;
const BUFFER_BYTES: std::ops::Range<u64> = 1024..(1 << 34);

impl GatewayLimits {
    fn read(&mut self, section: &Section<'_>) {
        section.integer_into("connections_max", &mut self.connections_max, 1..=10_000_000);
        section.integer_into(
            "connections_per_address_max",
            &mut self.connections_per_address_max,
            0..=10_000_000,
        );
        section.integer_into("connection_rate_max", &mut self.connection_rate_max, 0..=RATE_MAX);
        section.integer_into(
            "verification_rate_max",
            &mut self.verification_rate_max,
            0..=RATE_MAX,
        );
        section.integer_into("verdicts_max", &mut self.verdicts_max, 0..=10_000_000);
        section.integer_into("publish_rate_max", &mut self.publish_rate_max, 0..=RATE_MAX);
        section.integer_into("topic_bytes_max", &mut self.topic_bytes_max, 1..=65_535);
        section.integer_into("handshakes_max", &mut self.handshakes_max, 1..=1_000_000);
        section.duration_into(
            "connect_timeout",
            &mut self.connect_timeout,
            Duration::from_millis(100),
        );
        section.bytes_into(
            "connect_packet_bytes_max",
            &mut self.connect_packet.packet_bytes_max,
            PACKET_BYTES,
        );
        section.bytes_into("packet_bytes_max", &mut self.packet.packet_bytes_max, PACKET_BYTES);
        section.integer_into(
            "user_properties_max",
            &mut self.packet.user_properties_max,
            0..=65_535,
        );
        section.integer_into("filters_max", &mut self.packet.filters_max, 1..=65_535);
        section.integer_into("topic_alias_maximum", &mut self.topic_alias_maximum, 0..=65_535);
        section.integer_into("topic_levels_max", &mut self.topic_levels_max, 1..=512);
        section.integer_into("keep_alive_max", &mut self.keep_alive_max, 0..=65_535);
        let mut session_expiry = Duration::from_secs(u64::from(self.session_expiry_max));
        section.duration_into("session_expiry_max", &mut session_expiry, Duration::ZERO);
        self.session_expiry_max = u32::try_from(session_expiry.as_secs()).unwrap_or(u32::MAX);
        section.duration_into(
            "write_stall_timeout",
            &mut self.write_stall_timeout,
            Duration::from_secs(1),
        );
        let session = Arc::make_mut(&mut self.session);
        section.bytes_into("mailbox_bytes_max", &mut session.mailbox_bytes_max, BUFFER_BYTES);
        section.integer_into(
            "queued_messages_max",
            &mut session.queued_messages_max,
            0..=10_000_000,
        );
        section.bytes_into("queued_bytes_max", &mut session.queued_bytes_max, BUFFER_BYTES);
        section.integer_into("in_flight_max", &mut session.in_flight_max, 1..=65_535);
        section.integer_into("subscriptions_max", &mut session.subscriptions_max, 1..=10_000_000);
        let policies =
            [("drop-oldest", QueuePolicy::DropOldest), ("drop-newest", QueuePolicy::DropNewest)];
        if let Some(policy) = section.choice("queue_policy", &policies) {
            session.queue_policy = policy;
        }
        section.finish();
    }
}

/// Reads a device with the credentials of one-party verification.
pub(super) fn device_from_section(section: Section<'_>) -> Option<ConfiguredDevice> {
    let name = section.required_string("name", "device-1").and_then(|name| {
        let parsed = DeviceName::parse(&name);
        if let Err(error) = &parsed {
            section.problem("name", error.to_string(), "");
        }
        parsed.ok()
    });
    let certificate = device_certificate(&section);
    // A certificate may stand for both.
    let text = |key: &'static str, example: &str| match certificate.is_some() {
        true => section.string(key).or_else(|| Some(String::new())),
        false => section.required_string(key, example),
    };
    let user_name = text("user_name", "device-1");
    let password = text("password", "secret").filter(|password| {
        if password.is_empty() && certificate.is_none() {
            section.problem("password", "is empty", "a device without password cannot be verified");
        }
        !password.is_empty() || certificate.is_some()
    });
    let product = section.string("product").unwrap_or_else(|| "default".to_owned());
    let serial_number = section.string("serial_number");
    section.finish();
    let device = Device {
        name: name?,
        product: product.into(),
        attributes: Vec::new(),
        permissions: None,
        enabled: true,
        origin: Origin::Configured,
    };
    Some(ConfiguredDevice {
        device,
        serial_number,
        user_name: user_name?,
        password: password?.into_bytes(),
        certificate,
    })
}

/// `certificate_fingerprint` or `certificate_common_name`.
fn device_certificate(section: &Section<'_>) -> Option<CertificateMatch> {
    let fingerprint = section.string("certificate_fingerprint");
    let common_name = section.string("certificate_common_name");
    if fingerprint.is_some() && common_name.is_some() {
        section.problem("certificate_common_name", "goes without certificate_fingerprint", "");
    }
    let Some(text) = fingerprint else { return common_name.map(CertificateMatch::CommonName) };
    let fingerprint = CertificateMatch::fingerprint(&text);
    if fingerprint.is_none() {
        let hint = "write the 64 hex digits that openssl x509 -fingerprint -sha256 prints";
        section.problem("certificate_fingerprint", "is no SHA-256 fingerprint", hint);
    }
    fingerprint
}

/// What tells a device from the others of its product, and stands twice.
pub(super) fn check_devices(devices: &[ConfiguredDevice], root: &Section<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    for ConfiguredDevice { device, serial_number, user_name, certificate, .. } in devices {
        let certificate = certificate.as_ref().map(|certificate| match certificate {
            CertificateMatch::Fingerprint(digest) => {
                ("certificate_fingerprint", hex::encode(digest))
            }
            CertificateMatch::CommonName(name) => ("certificate_common_name", name.clone()),
        });
        let user_name = (!user_name.is_empty()).then(|| ("user_name", user_name.clone()));
        let serial_number = serial_number.clone().filter(|number| !number.is_empty());
        let serial_number = serial_number.map(|number| ("serial_number", number));
        let name = Some(("name", device.name.as_str().to_owned()));
        for (key, value) in [name, user_name, serial_number, certificate].into_iter().flatten() {
            if !seen.insert((&device.product, key, value.clone())) {
                root.problem(
                    "device",
                    format!("two devices of product {:?} have {key} = {value:?}", device.product),
                    "each of them has its own",
                );
            }
        }
    }
}

/// Names and addresses that stand twice.
pub(super) fn check_names(gateways: &[GatewayConfig], root: &Section<'_>) {
    let mut names = std::collections::BTreeSet::new();
    let mut addresses = std::collections::BTreeSet::new();
    for gateway in gateways {
        if !names.insert(&gateway.name) {
            root.problem(
                "gateway",
                format!("two gateways have the name {:?}", gateway.name),
                "name each once",
            );
        }
        for ListenerConfig { address, .. } in &gateway.listeners {
            if address.port() != 0 && !addresses.insert(address) {
                root.problem("gateway", format!("{address} is listened on twice"), "");
            }
        }
    }
}
