//! Who a device is by its certificate: one-party devices, what a verifier is told, names in place of the CONNECT's; and
//! MQTT over a WebSocket over TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portreeve_tests::binary::binary;
use portreeve_tests::openssl::{BOTH, Client, Open, Outcome};
use portreeve_tests::pki::{Certificate, Lab, bundle, digest, named};
use portreeve_tests::plugins::{put, variant};
use portreeve_tests::tls_gateway::{CLIENT, OWN, RunningTls, TlsGateway, wait_until};
use serde_json::{Value, json};

const SUITE_12: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";
const SUITE_13: &str = "TLS_CHACHA20_POLY1305_SHA256";

fn fingerprint(certificate: &Certificate) -> String {
    hex::encode(digest("sha256", &certificate.der()))
}

/// A one-party gateway: `dev_b` by fingerprint, `dev_ec` by common name, `dev_384` by common name with user name and
/// password, `plain` without a certificate.
fn one_party() -> RunningTls {
    let openssl_writes: String = {
        let text = fingerprint(named("dev_b")).to_ascii_uppercase();
        (0..32).map(|index| format!("{}:", &text[2 * index..2 * index + 2])).collect()
    };
    let devices = format!(
        "[[device]]\nname = \"by-fingerprint\"\ncertificate_fingerprint = {:?}\n\
         [[device]]\nname = \"by-common-name\"\ncertificate_common_name = \"dev_ec\"\n\
         [[device]]\nname = \"with-password\"\ncertificate_common_name = \"dev_384\"\n\
         user_name = \"384\"\npassword = \"secret\"\n\
         [[device]]\nname = \"plain\"\nuser_name = \"plain\"\npassword = \"secret\"\n",
        openssl_writes.trim_end_matches(':')
    );
    let rules = "[[gateway.topic_rule]]\neffect = \"allow\"\naction = \"both\"\ntopic = \"of/%d\"\n\
         [[gateway.topic_rule]]\neffect = \"allow\"\naction = \"both\"\ntopic = \"user/%u\"\n\
         [[gateway.topic_rule]]\neffect = \"deny\"\naction = \"both\"\ntopic = \"#\"\n";
    let optional = CLIENT.replace("required", "optional");
    TlsGateway::new()
        .top(&devices)
        .section("devices", "tls", &format!("{OWN}{optional}{rules}"))
        .verified_by("one-party")
        .start()
}

/// SUBSCRIBE with QoS 0, MQTT 5.
fn subscribe(filter: &str) -> Vec<u8> {
    let length = u8::try_from(filter.len()).unwrap();
    [&[0x82, length + 6, 0, 1, 0, 0, length][..], filter.as_bytes(), &[0]].concat()
}

/// Whether it may subscribe as the device of this name only.
fn is_device(open: &mut Open, name: &str) {
    let answer = open.asks(&subscribe(&format!("of/{name}")), 6);
    assert_eq!(answer.last(), Some(&0), "{name}: {answer:x?}");
    let answer = open.asks(&subscribe("of/somebody"), 6);
    assert_eq!(answer.last(), Some(&0x87), "{name}: {answer:x?}");
}

#[test]
fn a_device_of_the_registry_is_who_its_certificate_says() {
    let gateway = one_party();
    let refused = Outcome::Refused(0x86);
    for tls in BOTH {
        let client = || gateway.client("devices").with(tls);
        let cases: [(&str, Client, Result<&str, Outcome>); 11] = [
            ("fingerprint", client().device(named("dev_b")), Ok("by-fingerprint")),
            ("common name", client().device(named("dev_ec")), Ok("by-common-name")),
            (
                "what it says does not matter",
                client().device(named("dev_ec")).user_name("plain").password("wrong"),
                Ok("by-common-name"),
            ),
            (
                "with password",
                client().device(named("dev_384")).user_name("384").password("secret"),
                Ok("with-password"),
            ),
            (
                "wrong password",
                client().device(named("dev_384")).user_name("384").password("secreT"),
                Err(refused),
            ),
            (
                "wrong user name",
                client().device(named("dev_384")).user_name("plain").password("secret"),
                Err(refused),
            ),
            ("without password", client().device(named("dev_384")), Err(refused)),
            ("the password alone", client().user_name("384").password("secret"), Err(refused)),
            ("nothing at all", client(), Err(refused)),
            ("no device", client().device(named("dev_rsa")), Err(refused)),
            (
                "another's certificate beside a device without",
                client().device(named("dev_rsa")).user_name("plain").password("secret"),
                Ok("plain"),
            ),
        ];
        for (what, client, wanted) in cases {
            let (outcome, mut open) = client.client_id("any").open();
            match wanted {
                Ok(name) => {
                    assert_eq!(outcome, Outcome::Accepted, "{what} {tls}");
                    is_device(&mut open, name);
                    // The user name of the device, where it has one, and none that it makes up.
                    let is_plain = if name == "plain" { 0 } else { 0x87 };
                    let answer = open.asks(&subscribe("user/plain"), 6);
                    assert_eq!(answer.last(), Some(&is_plain), "{what} {tls}");
                }
                Err(wanted) => assert_eq!(outcome, wanted, "{what} {tls}"),
            }
        }
        let plain = client().user_name("plain").password("secret");
        assert_eq!(plain.run(), Outcome::Accepted, "{tls}");
        assert_eq!(plain.mqtt_3().password("wrong").run(), Outcome::Refused(5), "{tls}");
    }
}

/// What the guest `told` was told, by the lines of the gateway's log.
fn told(gateway: &RunningTls) -> BTreeMap<String, String> {
    let mut log = String::new();
    wait_until("the guest tells", Duration::from_secs(5), || {
        log += &gateway.log();
        log += "\n";
        log.contains("told chain = ") || log.contains("told server_name = ")
    });
    let lines = log.lines().filter_map(|line| line.split_once("told ")?.1.split_once(" = "));
    let value =
        |text: &str| text.rsplit_once(" plugin=").map_or(text, |(value, _)| value).to_owned();
    lines.map(|(name, text)| (name.to_owned(), value(text))).collect()
}

/// Length and last bytes of a certificate, as `told` writes them.
fn tail(certificate: &Certificate) -> String {
    let der = certificate.der();
    format!("{} {}", der.len(), hex::encode(&der[der.len() - 16..]))
}

fn rich(lab: &Lab) -> Certificate {
    let names = "DNS:seven.test,DNS:www.seven.test,URI:urn:dev:7,email:seven@dev.test";
    let subject = "/C=DE/O=Müller, Söhne/CN=sensor 7";
    lab.device("rich").subject(subject).alternative_names(names).serial("00F0A1").issue()
}

/// Gateways whose verifier is `told`: names come from several fields, from one of each, and not from the certificate.
fn telling() -> (RunningTls, Certificate) {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let device = rich(lab);
    let _list = lab.crl("int.crl", named("int"), &[]);
    let plugins = lab.file("plugins");
    std::fs::create_dir(&plugins).unwrap();
    put(&plugins, "told.wasm", variant("told", 1));
    let names = "user_name = \"dns-name\"\nclient_id = \"uri\"\n";
    let two = format!("{OWN}{CLIENT}{names}");
    let one = names.replace("dns-name", "email-address");
    let crl = "[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"int.crl\"]\n";
    let one = format!("{OWN}{CLIENT}{one}{crl}");
    let none = format!("{OWN}{}", CLIENT.replace("required", "optional"));
    let mut gateway = gateway.top("[plugins]\ndirectory = \"plugins\"");
    for (name, tls) in [("two", two), ("one", one), ("none", none)] {
        gateway = gateway.section(name, "tls", &tls).verified_by("plugin:told");
    }
    (gateway.start(), device)
}

#[test]
fn a_verifier_is_told_all_of_the_certificate_and_names_come_from_it() {
    let (gateway, device) = telling();
    let _before = gateway.log();
    for (tls, version, option, suite) in
        [("-tls1_2", "1.2", "-cipher", SUITE_12), ("-tls1_3", "1.3", "-ciphersuites", SUITE_13)]
    {
        let client = |section: &str| {
            let client = gateway.client(section).with(tls).with(option).with(suite);
            client.client_id("said").user_name("said").server_name(Some("GW.test"))
        };
        // Which of two DNS names is meant?
        let outcome = client("two").device(&device).run();
        assert_eq!(outcome, Outcome::Refused(0x87), "{tls}");
        let _before = gateway.log();

        assert_eq!(client("one").device(&device).run(), Outcome::Accepted, "{tls}");
        let suite =
            if version == "1.2" { "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" } else { SUITE_13 };
        let told_now = told(&gateway);
        for (name, wanted) in [
            ("client_id", "urn:dev:7"),
            ("user_name", "Some(\"seven@dev.test\")"),
            ("version", version),
            ("cipher_suite", suite),
            ("server_name", "Some(\"gw.test\")"),
            ("subject", "CN=sensor 7,O=Müller\\, Söhne,C=DE"),
            ("common_name", "Some(\"sensor 7\")"),
            ("dns_names", "[\"seven.test\", \"www.seven.test\"]"),
            ("uris", "[\"urn:dev:7\"]"),
            ("email_addresses", "[\"seven@dev.test\"]"),
            ("issuer", "CN=int,O=Portreeve Tests"),
            ("serial_number", "f0a1"),
            ("fingerprint", &fingerprint(&device)),
            ("revocation", "Good"),
            ("der", &tail(&device)),
            ("chain", &format!("{}, {}", tail(named("int")), tail(named("root")))),
        ] {
            assert_eq!(told_now.get(name).map(String::as_str), Some(wanted), "{name} {tls}");
        }
        let seconds = |name: &str| told_now[name].parse::<i64>().unwrap();
        let now = portreeve_tests::der::now();
        let (begin, end) = (seconds("not_before"), seconds("not_after"));
        assert!((begin - (now - 7 * 86_400)).abs() < 600, "{begin}");
        assert!((end - (now + 365 * 86_400)).abs() < 600, "{end}");

        let outcome = client("none").server_name(None).run();
        assert_eq!(outcome, Outcome::Accepted, "{tls}");
        let told_now = told(&gateway);
        assert_eq!(told_now["client_id"], "said");
        assert_eq!(told_now["server_name"], "None");
        assert_eq!(told_now.get("subject"), None, "{told_now:?}");
        let outcome = client("none").device(named("dev_ec")).run();
        assert_eq!(outcome, Outcome::Accepted, "{tls}");
        let told_now = told(&gateway);
        assert_eq!(told_now["revocation"], "NotChecked");
        assert_eq!((&*told_now["client_id"], &*told_now["dns_names"]), ("said", "[]"));
    }
}

/// `portreeve plugin call` with TLS in its question: exit code, and the attributes that the guest gives.
fn call(lab: &Lab, tls: &Value) -> Result<BTreeMap<String, String>, String> {
    put(lab.path(), "told.wasm", variant("told", 2));
    let question = json!({ "client_id": "c", "user_name": "u", "tls": tls });
    let mut command = Command::new(binary());
    command.current_dir(lab.path()).args(["plugin", "call", "told.wasm", &question.to_string()]);
    let output = command.output().unwrap();
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1));
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pairs = answer["attributes"].as_array().unwrap_or_else(|| panic!("{answer}"));
    Ok(pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
}

#[test]
fn a_plugin_is_called_with_the_tls_that_a_question_names() {
    let lab = Lab::new();
    let device = rich(&lab);
    let chain = bundle(lab.path(), "chain.pem", &[&device, named("int"), named("root")]);
    let pem = std::fs::read_to_string(chain).unwrap();
    let told = call(
        &lab,
        &json!({
            "version": "1.2", "cipher_suite": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "server_name": "GW.test",
            "certificate": { "pem": pem, "revocation": "good" },
        }),
    );
    let told = told.unwrap();
    for (name, wanted) in [
        ("version", "1.2"),
        ("cipher_suite", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("server_name", "Some(\"gw.test\")"),
        ("subject", "CN=sensor 7,O=Müller\\, Söhne,C=DE"),
        ("revocation", "Good"),
        ("fingerprint", &fingerprint(&device)),
        ("chain", &format!("{}, {}", tail(named("int")), tail(named("root")))),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(wanted), "{name}");
    }
    // As it is recorded, the certificate stands in hex.
    let hex = json!({ "certificate": { "der_hex": hex::encode(device.der()), "chain_der_hex": [hex::encode(named("int").der())] } });
    let again = call(&lab, &hex).unwrap();
    assert_eq!(again["der"], told["der"]);
    assert_eq!((&*again["version"], &*again["revocation"]), ("1.3", "NotChecked"));
    assert_eq!(again["chain"], tail(named("int")));
    let without = call(&lab, &json!({})).unwrap();
    assert_eq!(
        (without.get("version").map(String::as_str), without.get("subject")),
        (Some("1.3"), None)
    );
    assert_eq!(call(&lab, &Value::Null).unwrap()["tls"], "none");
    for (tls, words) in [
        (json!({ "version": "1.1" }), "tls.version \"1.1\" is not 1.2 or 1.3"),
        (json!({ "cipher_suite": "NULL" }), "tls.cipher_suite"),
        (json!({ "certificate": {} }), "neither pem nor der_hex"),
        (json!({ "certificate": { "der_hex": "zz" } }), "tls.certificate"),
        (json!({ "certificate": { "pem": "text" } }), "no certificate"),
        (
            json!({ "certificate": { "der_hex": hex::encode(device.der()), "revocation": "bad" } }),
            "revocation",
        ),
        (json!({ "verson": "1.3" }), "verson"),
    ] {
        let said = call(&lab, &tls).unwrap_err();
        assert!(said.contains(words), "{tls}: {said}");
    }
}

/// The table of docs/reference/tls.md: who is refused, with which alert, and what counts it.
#[test]
fn each_refusal_of_a_handshake_has_its_alert_and_its_count() {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let _list = lab.crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    let two = lab.device("two").subject("/CN=a/CN=b").issue();
    let authority = lab.by("int", "authority").authority().issue();
    let crl = "[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"int.crl\"]\n";
    let strict = format!("sni = \"strict\"\nalpn_mismatch = \"refuse\"\n{OWN}");
    let gateway = gateway.mutual("mutual", crl).section("strict", "tls", &strict).start();
    let int = &named("int").crt;
    let of =
        |device: &Certificate, chain: &Path| gateway.client("mutual").certificate(device, chain);
    let strict = gateway.client("strict");
    let cases = [
        ("no certificate", gateway.client("mutual"), 116, "no_certificate"),
        ("expired", of(named("dev_exp"), int), 45, "bad_certificate"),
        ("not valid yet", of(named("dev_early"), int), 45, "bad_certificate"),
        ("another authority", of(named("dev_int2"), &named("int2").crt), 48, "bad_certificate"),
        ("look-alike", of(named("dev_evil"), &named("intevil").crt), 48, "bad_certificate"),
        ("purpose", of(named("dev_nocli"), int), 43, "bad_certificate"),
        ("an authority", of(&authority, int), 43, "bad_certificate"),
        ("two common names", of(&two, int), 42, "bad_certificate"),
        ("revoked", of(named("dev_rev"), int), 44, "revoked"),
        ("unknown name", strict.clone().server_name(Some("x.test")), 112, "unknown_name"),
        ("no name", strict.clone().server_name(None), 112, "unknown_name"),
        ("other protocols", strict.with("-alpn").with("h2"), 120, "unknown_protocol"),
    ];
    for tls in BOTH {
        for (what, client, alert, result) in &cases {
            let label = format!("result={result:?}");
            let before = gateway.metric("handshakes_total", &[&label]);
            let outcome = client.clone().with(tls).slowly().run();
            assert_eq!(outcome, Outcome::Alert(*alert), "{what} {tls}");
            let after = gateway.metric("handshakes_total", &[&label]);
            assert!(after > before, "{what} {tls}: {label}");
        }
    }
}

/// Frames of a WebSocket (RFC 6455 §5.2), masked.
fn frame(payload: &str) -> Vec<u8> {
    let payload = hex::decode(payload.replace(' ', "")).unwrap();
    let mask = [0x12, 0x34, 0x56, 0x78];
    let masked = payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]);
    let head = [0x82, 0x80 | u8::try_from(payload.len()).unwrap()];
    head.into_iter().chain(mask).chain(masked).collect()
}

const OPENING: &str = "GET /mqtt HTTP/1.1\r\nHost: gw.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

#[test]
fn mqtt_is_carried_by_a_web_socket_over_tls() {
    let gateway = TlsGateway::new()
        .section("one-way", "wss", OWN)
        .section("mutual", "wss", &format!("{OWN}{CLIENT}client_id = \"common-name\"\n"))
        .start();
    for tls in BOTH {
        for (section, name) in [("one-way", "777373"), ("mutual", "6465765f6563")] {
            let client = gateway.client(section).with(tls).with("-alpn").with("http/1.1");
            let client = if section == "mutual" { client.device(named("dev_ec")) } else { client };
            let said = client.inspect();
            assert!(said.contains("ALPN protocol: http/1.1"), "as a browser asks: {said}");
            let mut open = client.open_bare();
            let head = open.asks(OPENING.as_bytes(), 150);
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("HTTP/1.1 101"), "{head}");
            assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455 §1.3: {head}");
            let connack = open.asks(&frame("100f 0004 4d515454 04 02 0000 0003 777373"), 6);
            assert_eq!(hex::encode(connack), "820420020000", "{section} {tls}");
            let suback = open.asks(&frame("8206 0001 0001 74 00"), 7);
            assert_eq!(hex::encode(suback), "82059003000100", "{section} {tls}");
            let own = open.asks(&frame("3004 0001 74 78"), 8);
            assert_eq!(hex::encode(own), "8206300400017478", "{section} {tls}");
            // Another one of the same name takes over, which tells who this one was.
            let other = gateway.client(section).with(tls).device(named("dev_ec"));
            let mut second = other.open_bare();
            let _head = second.asks(OPENING.as_bytes(), 150);
            let length = u8::try_from(name.len() / 2).unwrap();
            let connect =
                format!("10{:02x} 0004 4d515454 04 02 0000 00{length:02x} {name}", 12 + length);
            let connack = second.asks(&frame(&connect), 6);
            assert_eq!(hex::encode(connack), "820420020000", "{section} {tls}");
            assert!(open.ended(Duration::from_secs(5)).is_some(), "{section} {tls}");
        }
        let outcome = gateway.client("mutual").with(tls).slowly().run();
        assert!(outcome.is_refusal(), "without a certificate: {outcome:?}");
    }
    let plain = std::net::TcpStream::connect(gateway.at("one-way")).unwrap();
    std::io::Write::write_all(&mut &plain, OPENING.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _closed = std::io::Read::read_to_end(&mut &plain, &mut answer);
    assert!(!answer.starts_with(b"HTTP"), "it is not served without TLS");
}
