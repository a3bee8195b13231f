use std::path::Path;
use std::time::Duration;

use super::{Config, LogFormat, PluginManifest, VerificationConfig};
use crate::gateway::OnError;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(Path::new("gateway.toml"), text)
        .map_err(|error| error.0.iter().map(ToString::to_string).collect())
}

const FULL: &str = r#"
[log]
level = "info,plugin=debug"
format = "json"

[plugins]
directory = "plugins"

[sys]
interval = "5s"

[[gateway]]
name = "main"
product = "meters"
verification = "plugin:allow-list"
sys_readers = ["application"]

[[gateway.listener]]
address = "0.0.0.0:1883"

[[gateway.binding]]
topic = "devices/+/raw"
direction = "up"
plugin = "sensor-frame"
may_publish = ["devices/+/telemetry"]
on_error = "dead-letter:dead"

[gateway.limits]
packet_bytes_max = "256KiB"
connect_timeout = "2s"

[[device]]
name = "device-1"
product = "meters"
serial_number = "SN1"
user_name = "u"
password = "p"
"#;

#[test]
fn a_full_configuration_is_read() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.plugins.as_deref(), Some(Path::new("plugins")));
    assert_eq!(config.sys_interval, Duration::from_secs(5));
    let gateway = &config.gateways[0];
    assert_eq!(gateway.verification, Some(VerificationConfig::Plugin("allow-list".to_owned())));
    assert_eq!(gateway.limits.packet.packet_bytes_max, 256 << 10);
    assert_eq!(gateway.limits.connect_timeout, Duration::from_secs(2));
    assert_eq!(gateway.bindings[0].on_error, OnError::DeadLetter("dead".into()));
    assert_eq!(config.devices.len(), 1);
}

#[test]
fn every_mistake_is_reported_at_once_with_line_key_and_suggestion() {
    let text = FULL
        .replace("format = \"json\"", "format = \"jsn\"")
        .replace("interval", "intervall")
        .replace("plugin:allow-list", "opn")
        .replace("0.0.0.0:1883", "0.0.0.0")
        .replace("devices/+/raw", "devices/+x/raw")
        .replace("\"256KiB\"", "\"a lot\"")
        .replace("name = \"device-1\"", "name = \"d\"");
    let problems = parse(&text).unwrap_err();
    let expected = [
        "gateway.toml:4: log.format: \"jsn\" is not known; did you mean \"json\"?",
        "gateway.toml:10: sys.intervall: is not known; did you mean \"interval\"?",
        "gateway.toml:15: gateway[0].verification: \"opn\" is not known; did you mean \"open\"?",
        "gateway.toml:19: gateway[0].listener[0].address: \"0.0.0.0\" is no address and port",
        "gateway.toml:22: gateway[0].binding[0].topic: \"devices/+x/raw\"",
        "gateway.toml:29: gateway[0].limits.packet_bytes_max: is no size in its range",
        "gateway.toml:33: device[0].name: \"d\" is no device name",
    ];
    for expected in expected {
        assert!(
            problems.iter().any(|problem| problem.starts_with(expected)),
            "{expected}\nnot in\n{}",
            problems.join("\n")
        );
    }
}

#[test]
fn broken_toml_and_wrong_types_say_where() {
    let problems = parse("[log\nlevel = 3").unwrap_err();
    assert!(problems[0].starts_with("gateway.toml:1: "), "{problems:?}");
    let problems = parse("[log]\nlevel = 3\n[[gateway]]\nname = \"a\"\n[[gateway.listener]]\naddress = \"[::]:1883\"").unwrap_err();
    assert_eq!(problems, ["gateway.toml:2: log.level: is an integer; write a text in quotes"]);
    let problems = parse("").unwrap_err();
    assert!(problems[0].contains("there is no gateway"), "{problems:?}");
}

#[test]
fn two_gateways_cannot_share_a_name_or_an_address() {
    let one = "[[gateway]]\nname = \"a\"\n[[gateway.listener]]\naddress = \"[::]:1883\"\n";
    let problems = parse(&one.repeat(2)).unwrap_err().join("\n");
    assert!(problems.contains("two gateways have the name \"a\""), "{problems}");
    assert!(problems.contains("[::]:1883 is listened on twice"), "{problems}");
}

#[test]
fn what_tells_devices_apart_stands_once() {
    let gateway = "[[gateway]]\nname = \"a\"\n[[gateway.listener]]\naddress = \"[::]:1883\"\n";
    let device = |lines: &str| format!("[[device]]\nproduct = \"p\"\n{lines}\n");
    let first = device(
        "name = \"dev-1\"\nuser_name = \"u\"\npassword = \"p\"\nserial_number = \"S1\"\ncertificate_common_name = \"c\"",
    );
    for (second, told) in [
        ("name = \"dev-1\"\nuser_name = \"v\"\npassword = \"p\"", "name = \"dev-1\""),
        ("name = \"dev-2\"\nuser_name = \"u\"\npassword = \"p\"", "user_name = \"u\""),
        (
            "name = \"dev-2\"\nuser_name = \"v\"\npassword = \"p\"\nserial_number = \"S1\"",
            "serial_number = \"S1\"",
        ),
        ("name = \"dev-2\"\ncertificate_common_name = \"c\"", "certificate_common_name = \"c\""),
    ] {
        let text = format!("{gateway}{first}{}", device(second));
        let problems = parse(&text).unwrap_err().join("\n");
        assert!(
            problems.contains(&format!("two devices of product \"p\" have {told}")),
            "{problems}"
        );
        // Another product has its own.
        assert!(parse(&text.replacen("\"p\"\nname", "\"q\"\nname", 1)).is_ok());
    }
}

fn manifest(text: &str) -> Result<PluginManifest, Vec<String>> {
    PluginManifest::parse(Path::new("a.toml"), text, "a")
        .map_err(|error| error.0.iter().map(ToString::to_string).collect())
}

#[test]
fn a_manifest_grants_what_it_names_and_nothing_else() {
    let capabilities = manifest("").unwrap().plugin.capabilities;
    assert_eq!(capabilities.http, None);
    assert!(capabilities.environment.is_empty());
    assert!(capabilities.state && capabilities.clock && capabilities.random);
    let text = "http = [\"https://auth.example.com/verify\"]\nenv = [\"TZ\"]\nrandom = false\n\
                [settings]\nTZ = \"UTC\"\nkey = \"k\"\n\
                [http_client]\ntimeout = \"3s\"\nresponse = \"1MiB\"\naddresses = [\"10.1.2.3\", \"fd00::/8\"]";
    let capabilities = manifest(text).unwrap().plugin.capabilities;
    let http = capabilities.http.unwrap();
    assert_eq!((http.grants.len(), http.addresses.len()), (1, 2));
    assert_eq!((http.timeout, http.response_bytes_max), (Duration::from_secs(3), 1 << 20));
    assert_eq!(
        capabilities.environment.into_iter().collect::<Vec<_>>(),
        [("TZ".into(), "UTC".into())]
    );
    assert!(!capabilities.random);
}

#[test]
fn grants_that_cannot_be_given_say_why() {
    let text = "http = [\"auth.example.com\", \"https://a.test/?x\"]\nenv = [\"TZ\"]\nclock = 1\n\
                [http_client]\naddresses = [\"10.0.0.0/33\"]\nca = \"missing.pem\"\nclient_key = \"missing.key\"\n";
    let problems = manifest(text).unwrap_err().join("\n");
    for expected in [
        "a.toml:1: http: \"auth.example.com\" is no URL",
        "\"https://a.test/?x\" grants scheme, host, port and path; take query and fragment out",
        "a.toml:2: env: \"TZ\" is none of the settings",
        "a.toml:3: clock: is an integer",
    ] {
        assert!(problems.contains(expected), "{expected}\nnot in\n{problems}");
    }
    let text = text.replace("auth.example.com", "https://auth.example.com/").replace("?x", "");
    let problems = manifest(&text).unwrap_err().join("\n");
    for expected in [
        "http_client.addresses: \"10.0.0.0/33\" is no address and no network",
        "http_client.ca: missing.pem cannot be read",
        "http_client.client_certificate: goes together with client_key",
    ] {
        assert!(problems.contains(expected), "{expected}\nnot in\n{problems}");
    }
    let problems = manifest("[http_client]\ntimeout = \"1s\"").unwrap_err().join("\n");
    assert!(problems.contains("has no effect: nothing is granted"), "{problems}");
}
