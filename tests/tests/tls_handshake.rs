//! Handshakes: who is served, who is refused and how, what replaces a certificate while the gateway runs. Every
//! client is OpenSSL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use portreeve_tests::openssl::{BOTH, Outcome, shown};
use portreeve_tests::pki::{Certificate, Lab, bundle, named, resigned};
use portreeve_tests::tls_gateway::{CLIENT, OWN, RunningTls, TlsGateway, wait_until};

/// Demands certificates below `root` with further keys of `[gateway.tls.client]`.
fn client(more: &str) -> String {
    format!("{OWN}{CLIENT}{more}\n")
}

/// B01.
#[test]
fn a_client_that_trusts_the_root_is_served_and_another_does_not_stay() {
    let gateway = TlsGateway::new().server_only("one-way").start();
    for tls in BOTH {
        let client = gateway.client("one-way").with(tls).with("-verify_return_error");
        let client = client.with("-verify_hostname").with("gw.test");
        assert_eq!(client.run(), Outcome::Accepted, "B01 {tls}");
        assert_eq!(client.clone().mqtt_3().run(), Outcome::Accepted, "B01 {tls}");
        assert_eq!(client.trusts(named("evil")).run(), Outcome::Closed, "B01 {tls}");
    }
}

/// Case, device, what is sent after it, and whether it is let in or else the alert in TLS 1.3.
type Case = (&'static str, &'static str, &'static str, Result<(), &'static [u8]>);

const DEVICES: &[Case] = &[
    ("B02", "dev_ec", "int", Ok(())),
    ("B03", "dev_384", "int", Ok(())),
    ("B03", "dev_rsa", "int", Ok(())),
    ("B03", "dev_ed", "int", Ok(())),
    ("B03", "dev_rsaca", "rsaca", Ok(())),
    ("B03", "dev_edca", "edca", Ok(())),
    ("B04", "dev_evil", "intevil", Err(&[])),
    ("B05", "dev_exp", "int", Err(&[45])),
    ("B05", "dev_early", "int", Err(&[42, 45])),
    ("B06", "dev_nocli", "int", Err(&[])),
];

/// B02 to B06.
#[test]
fn a_device_is_let_in_by_its_certificate_or_told_why_not() {
    let gateway = TlsGateway::new().mutual("mutual", "").start();
    for tls in BOTH {
        let outcome = gateway.client("mutual").with(tls).slowly().run();
        // TLS 1.2 has no alert of its own for it: handshake_failure.
        let wanted: &[u8] = if tls == "-tls1_3" { &[116] } else { &[40, 42, 116] };
        assert!(
            matches!(outcome, Outcome::Alert(alert) if wanted.contains(&alert)),
            "B02 {outcome:?}"
        );
        for (id, name, issuer, want) in DEVICES {
            let client = gateway.client("mutual").with(tls);
            let client = client.certificate(named(name), &named(issuer).crt);
            match want {
                Ok(()) => assert_eq!(client.run(), Outcome::Accepted, "{id} {name} {tls}"),
                Err([]) => assert!(client.run().is_refusal(), "{id} {name} {tls}"),
                Err(alerts) => {
                    let outcome = client.slowly().run();
                    let is_told =
                        matches!(outcome, Outcome::Alert(alert) if alerts.contains(&alert));
                    assert!(is_told, "{id} {name} {tls}: {outcome:?}");
                }
            }
        }
    }
    let line = gateway.process.wait_for_log("TLS handshake refused");
    for field in ["peer", "gateway", "reason"] {
        assert!(line.contains(field), "{line}");
    }
}

/// B07, and what `partial_chain` and `optional` say.
#[test]
fn an_intermediate_is_sent_or_configured() {
    let gateway = TlsGateway::new();
    let both = bundle(gateway.lab().path(), "both.pem", &[named("root"), named("int")]);
    let only = bundle(gateway.lab().path(), "only.pem", &[named("int")]);
    let trusting = |file: &std::path::Path, more: &str| {
        format!(
            "{OWN}[gateway.tls.client]\nmode = \"required\"\ntrust_anchors = [{file:?}]\n{more}\n"
        )
    };
    let optional = CLIENT.replace("required", "optional");
    let gateway = gateway
        .mutual("root", "")
        .section("both", "tls", &trusting(&both, ""))
        .section("partial", "tls", &trusting(&only, "partial_chain = true"))
        .section("optional", "tls", &format!("{OWN}{optional}"))
        .start();
    for tls in BOTH {
        let alone = |section: &str| gateway.client(section).with(tls).alone(named("dev_ec")).run();
        assert!(alone("root").is_refusal(), "B07 {tls}");
        assert_eq!(alone("both"), Outcome::Accepted, "B07 {tls}");
        assert_eq!(alone("partial"), Outcome::Accepted, "B07 {tls}");
        assert_eq!(gateway.client("optional").with(tls).run(), Outcome::Accepted, "{tls}");
        let evil = gateway.client("optional").with(tls);
        let evil = evil.certificate(named("dev_evil"), &named("intevil").crt);
        assert!(evil.run().is_refusal(), "a wrong one is worse than none, {tls}");
    }
}

fn odd_devices(lab: &Lab) -> Vec<(&'static str, Certificate, Option<&'static str>)> {
    let two = lab.device("two").subject("/CN=first/CN=second").issue();
    let plain = lab.device("nul").subject("/CN=dev#nul").issue();
    let nul = resigned(lab.path(), "nul", &plain, named("int"), (b"dev#nul", b"dev\0nul"));
    let names = "URI:urn:dev:7,DNS:seven.test,email:seven@dev.test";
    let san = || lab.device("san").subject("/CN=seven").alternative_names(names).issue();
    vec![
        ("common-name", lab.device("comma").subject("/CN=a, b").issue(), Some("a, b")),
        ("common-name", lab.device("utf8").subject("/CN=Zoë").issue(), Some("Zoë")),
        ("common-name", two, None),
        ("common-name", nul, None),
        ("common-name", lab.device("no-name").subject("/O=nobody").issue(), None),
        ("uri", san(), Some("urn:dev:7")),
        ("dns-name", san(), Some("seven.test")),
        ("email-address", san(), Some("seven@dev.test")),
    ]
}

/// SUBSCRIBE to `u/NAME` with QoS 0.
fn subscribe(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[0x82, length + 8, 0, 1, 0, 0, length + 2][..], b"u/", name.as_bytes(), &[0]].concat()
}

/// Everybody may subscribe below the own user name only.
const OWN_TOPIC: &str = "[[gateway.topic_rule]]\neffect = \"allow\"\naction = \"subscribe\"\ntopic = \"u/%u\"\n\
     [[gateway.topic_rule]]\neffect = \"deny\"\naction = \"both\"\ntopic = \"#\"\n";

/// B08: a rule tells the user name, and who is taken over tells the client identifier.
#[test]
fn names_come_from_the_certificate_exactly_or_not_at_all() {
    let mut gateway = TlsGateway::new();
    for key in ["common-name", "uri", "dns-name", "email-address"] {
        let names = format!("user_name = \"{key}\"\nclient_id = \"{key}\"");
        gateway = gateway.section(key, "tls", &(client(&names) + OWN_TOPIC));
    }
    let devices = odd_devices(gateway.lab());
    let gateway = gateway.start();
    for tls in BOTH {
        for (key, device, name) in &devices {
            let client = gateway.client(key).with(tls).device(device).client_id("said");
            let (outcome, mut first) = client.user_name("said").open();
            let Some(name) = name else {
                assert!(outcome.is_refusal(), "B08 {}: {outcome:?}", device.name);
                continue;
            };
            assert_eq!(outcome, Outcome::Accepted, "B08 {name} {tls}");
            let suback = first.asks(&subscribe(name), 6);
            assert_eq!(suback.last(), Some(&0), "B08 {name}: the user name is the certificate's");
            let suback = first.asks(&subscribe("said"), 6);
            assert!(suback.last().is_some_and(|code| *code >= 0x80), "B08 {name}: {suback:?}");
            // The same client identifier again takes the first connection over: it is the certificate's.
            let again = gateway.client(key).with(tls).device(device).client_id("other");
            assert_eq!(again.run(), Outcome::Accepted, "B08 {name} {tls}");
            let said = first.ended(Duration::from_secs(5));
            assert!(
                said.as_deref().is_some_and(|said| said.contains("8e")),
                "B08 {name}: {said:?}"
            );
        }
    }
}

/// B09.
#[test]
fn the_server_name_chooses_the_certificate() {
    let gateway = TlsGateway::new();
    gateway.put_identity("rsa", named("rsa"));
    let ms = gateway.lab().by("int", "ms").server("DNS:ms.test").subject("/CN=ms.test").issue();
    gateway.put_identity("ms-own", &ms);
    let mut all = OWN.to_owned();
    for name in ["rsa", "ms-own"] {
        all += &format!(
            "[[gateway.tls.certificate]]\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\nstapling = \"off\"\n"
        );
    }
    let gateway = gateway
        .section("default", "tls", &all)
        .section("strict", "tls", &format!("sni = \"strict\"\n{all}"))
        .start();
    for tls in BOTH {
        for (section, name, wanted) in [
            ("default", Some("gw.test"), "gw.test"),
            ("default", Some("rsa.test"), "rsa.test"),
            ("default", Some("ms.test"), "ms.test"),
            ("default", Some("nobody.test"), "gw.test"),
            ("default", None, "gw.test"),
            ("strict", Some("gw.test"), "gw.test"),
            ("strict", Some("rsa.test"), "rsa.test"),
        ] {
            let said = gateway.client(section).with(tls).server_name(name).inspect();
            let subject = shown(&said, "subject=");
            assert_eq!(
                subject,
                Some(format!("CN = {wanted}").as_str()),
                "B09 {section} {name:?} {tls}"
            );
        }
        let unknown = gateway.client("strict").with(tls).server_name(Some("nobody.test"));
        assert_eq!(unknown.run(), Outcome::Alert(112), "B09 {tls}");
    }
}

/// ALPN: `mqtt`, or none at all.
#[test]
fn clients_with_and_without_alpn_are_served() {
    let strict = format!("alpn_mismatch = \"refuse\"\n{OWN}");
    let gateway = TlsGateway::new().server_only("one").section("strict", "tls", &strict).start();
    for tls in BOTH {
        let client = gateway.client("one").with(tls);
        assert_eq!(client.run(), Outcome::Accepted);
        let client = client.with("-alpn").with("mqtt");
        assert_eq!(client.run(), Outcome::Accepted);
        assert_eq!(shown(&client.inspect(), "ALPN protocol: "), Some("mqtt"));
        let other = |section| gateway.client(section).with(tls).with("-alpn").with("h2");
        assert_eq!(other("one").run(), Outcome::Accepted, "as if it had asked for none");
        assert_eq!(other("strict").slowly().run(), Outcome::Alert(120), "RFC 7301 §3.2");
    }
}

fn serial_of(gateway: &RunningTls, section: &str) -> String {
    let said = gateway.client(section).inspect();
    let begin = said.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let arguments = ["x509", "-noout", "-serial"];
    let said = portreeve_tests::pki::openssl(&arguments, &said.as_bytes()[begin..]);
    String::from_utf8(said).unwrap().trim().trim_start_matches("serial=").to_owned()
}

fn wait_for_serial(gateway: &RunningTls, wanted: &str, within: Duration) {
    let begin = Instant::now();
    while serial_of(gateway, "one") != wanted {
        assert!(begin.elapsed() < within, "B25: not within {within:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// B25.
#[test]
fn a_certificate_is_replaced_and_who_is_connected_stays() {
    let gateway = TlsGateway::new().server_only("one").start();
    let (outcome, mut held) = gateway.client("one").open();
    assert_eq!(outcome, Outcome::Accepted);
    gateway.put_identity("gw", named("gw_next"));
    let (is_content, said) = gateway.reload();
    assert!(is_content, "B25: {said}");
    wait_for_serial(&gateway, &named("gw_next").serial, Duration::from_secs(1));
    gateway.put_identity("gw", named("gw"));
    wait_for_serial(&gateway, &named("gw").serial, Duration::from_secs(5));
    assert!(held.pings(), "B25");
}

/// B26 and N26: another CA is trusted and the first no more, also for sessions that would be resumed.
#[test]
fn trust_anchors_are_replaced_while_the_gateway_runs() {
    let gateway = TlsGateway::new().mutual("one", "").start();
    let first = |tls: &str| gateway.client("one").with(tls).device(named("dev_ec"));
    let second = || {
        gateway.client("one").certificate(named("dev_int2"), &named("int2").crt).client_id("second")
    };
    for tls in BOTH {
        let session = gateway.lab().file(&format!("session{tls}"));
        let (outcome, mut open) = first(tls).with_value("-sess_out", &session).open();
        assert!(outcome == Outcome::Accepted && open.pings(), "B26");
    }
    assert!(second().run().is_refusal(), "B26");
    let anchors = |certificates: &[&Certificate]| {
        let partial = bundle(gateway.lab().path(), ".root.partial", certificates);
        std::fs::rename(partial, gateway.lab().file("root.pem")).unwrap();
        let (is_content, said) = gateway.reload();
        assert!(is_content, "B26: {said}");
    };
    anchors(&[named("root"), named("root2")]);
    assert_eq!(second().run(), Outcome::Accepted, "B26");
    assert_eq!(first("-tls1_3").run(), Outcome::Accepted, "B26");
    anchors(&[named("root2")]);
    assert_eq!(second().run(), Outcome::Accepted, "B26");
    for tls in BOTH {
        assert!(first(tls).run().is_refusal(), "B26 {tls}");
        let session = gateway.lab().file(&format!("session{tls}"));
        let outcome = first(tls).with_value("-sess_in", &session).run();
        assert!(outcome.is_refusal(), "N26 {tls}: {outcome:?}");
    }
}

/// N24: a session is resumed, and the certificate was revoked meanwhile.
#[test]
fn a_session_of_a_revoked_certificate_is_not_resumed() {
    let gateway = TlsGateway::new();
    let crl = gateway.lab().crl("int.crl", named("int"), &[]);
    let toml = format!("[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [{crl:?}]\n");
    let gateway = gateway.mutual("one", &toml).start();
    let client = |tls: &str| gateway.client("one").with(tls).device(named("dev_rev"));
    let session = |tls: &str| gateway.lab().file(&format!("session{tls}"));
    for tls in BOTH {
        let (outcome, mut open) = client(tls).with_value("-sess_out", session(tls)).open();
        assert!(outcome == Outcome::Accepted && open.pings(), "N24 {tls}");
        let said = client(tls).with_value("-sess_in", session(tls)).inspect();
        assert!(said.contains("Reused, TLSv1."), "N24 {tls}: {said}");
    }
    let _crl = gateway.lab().crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    let (is_content, said) = gateway.reload();
    assert!(is_content, "{said}");
    for tls in BOTH {
        let outcome = client(tls).with_value("-sess_in", session(tls)).run();
        assert!(outcome.is_refusal(), "N24 {tls}: {outcome:?}");
    }
}

/// N25, N26, N27.
#[test]
fn a_session_is_worth_no_more_than_its_certificate_and_its_listener() {
    let gateway = TlsGateway::new().mutual("mutual", "").server_only("one-way").start();
    let session = |name: &str| gateway.lab().file(name);
    let brief = gateway.lab().device("brief").valid(-60, 4).issue();
    let begin = Instant::now();
    for tls in BOTH {
        let client = |section: &str| gateway.client(section).with(tls);
        let (outcome, mut open) = client("mutual")
            .device(&brief)
            .with_value("-sess_out", session(&format!("brief{tls}")))
            .open();
        assert!(outcome == Outcome::Accepted && open.pings(), "N25 {tls}: {outcome:?}");
        let one_way = session(&format!("one-way{tls}"));
        let (outcome, mut open) = client("one-way").with_value("-sess_out", &one_way).open();
        assert!(outcome == Outcome::Accepted && open.pings(), "N26 {tls}");
        let outcome = client("mutual").with_value("-sess_in", &one_way).run();
        assert!(outcome.is_refusal(), "N26 {tls}: {outcome:?}");
        let other_name = client("one-way").with_value("-sess_in", &one_way);
        let said = other_name.server_name(Some("other.test")).inspect();
        assert!(!said.contains("Reused"), "N26 {tls}: {said}");
    }
    let early = gateway.lab().file("early");
    std::fs::write(&early, [0xc0, 0]).unwrap();
    let client = gateway.client("one-way").with_value("-sess_in", session("one-way-tls1_3"));
    let said = client.with_value("-early_data", &early).inspect();
    assert!(!said.contains("Early data was accepted"), "N27: {said}");
    std::thread::sleep(Duration::from_secs(6).saturating_sub(begin.elapsed()));
    for tls in BOTH {
        let client = gateway.client("mutual").with(tls).device(&brief);
        let outcome = client.with_value("-sess_in", session(&format!("brief{tls}"))).run();
        assert!(outcome.is_refusal(), "N25 {tls}: {outcome:?}");
    }
}

/// B29.
#[test]
fn an_expired_certificate_of_its_own_alarms_or_refuses_to_start() {
    let expired = || {
        let gateway = TlsGateway::new();
        gateway.put_identity("gw", named("gw_exp"));
        gateway
    };
    let gateway = expired().server_only("one").start();
    assert_eq!(gateway.client("one").run(), Outcome::Accepted, "B29: alarm is the default");
    let seconds = gateway.metric("certificate_expires_seconds", &["position=\"0\""]);
    assert!(seconds < 0.0, "B29: {seconds}");
    assert!(gateway.log().contains("ALARM"), "B29");
    let refused =
        expired().section("one", "tls", &format!("expired = \"refuse\"\n{OWN}")).try_start();
    let said = refused.err().expect("B29: it does not start");
    assert!(said.contains("expired"), "B29: {said}");
    let soon = TlsGateway::new();
    soon.put_identity("gw", named("gw_week"));
    let soon = soon.server_only("one").start();
    let mut said = String::new();
    wait_until("B29: it is told", Duration::from_secs(5), || {
        said = soon.log();
        said.contains("expires soon")
    });
    let is_told = said.contains("days=4") || said.contains("days=5");
    assert!(said.contains("WARN") && is_told, "B29: {said}");
}

/// N35, with as many handshakes as one client after the other makes.
#[test]
fn broken_files_leave_the_old_generation() {
    let gateway = TlsGateway::new().server_only("one").start();
    let (chain, key) = (gateway.lab().file("gw.pem"), gateway.lab().file("gw.key"));
    let (good_chain, good_key) = (std::fs::read(&chain).unwrap(), std::fs::read(&key).unwrap());
    let other_key = std::fs::read(&named("gw_next").key).unwrap();
    for (what, chain, key) in [
        ("other key", &good_chain[..], &other_key[..]),
        ("garbage", b"-----BEGIN CERTIFICATE-----\n!!!!\n", &good_key),
        ("half", &good_chain[..good_chain.len() / 4], &good_key),
        ("empty", b"", &good_key),
        ("empty key", &good_chain, b""),
        ("half key", &good_chain, &good_key[..good_key.len() / 2]),
    ] {
        gateway.put("gw.key", key);
        gateway.put("gw.pem", chain);
        let (is_content, said) = gateway.reload();
        assert!(!is_content, "N35 {what}: {said}");
        assert_eq!(serial_of(&gateway, "one"), named("gw").serial, "N35 {what}");
        assert_eq!(gateway.client("one").run(), Outcome::Accepted, "N35 {what}");
    }
    gateway.put("gw.key", &good_key);
    gateway.put("gw.pem", &good_chain);
    let client = gateway.client("one");
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            for _ in 0..60 {
                assert_eq!(client.run(), Outcome::Accepted, "N35");
            }
        });
        while !clients.is_finished() {
            let (is_content, said) = gateway.reload();
            assert!(is_content, "N35: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

/// N44: what OpenSSL can still be made to speak.
#[test]
fn old_versions_and_weak_ciphers_are_refused() {
    let modern = format!("profile = \"modern\"\n{OWN}");
    let gateway = TlsGateway::new().server_only("one").section("modern", "tls", &modern).start();
    for options in [
        &["-tls1"][..],
        &["-tls1_1"],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"],
    ] {
        let client =
            options.iter().fold(gateway.client("one"), |client, option| client.with(option));
        let client = if options.len() == 1 {
            client.with("-cipher").with("ALL:@SECLEVEL=0")
        } else {
            client
        };
        let outcome = client.run();
        assert!(
            matches!(outcome, Outcome::Alert(40 | 70) | Outcome::Closed),
            "N44 {options:?}: {outcome:?}"
        );
    }
    let said = gateway.client("one").with("-tls1_2").inspect();
    assert!(said.contains("Compression: NONE"), "N44: {said}");
    assert!(gateway.client("modern").with("-tls1_2").run().is_refusal(), "N44");
    assert_eq!(gateway.client("modern").run(), Outcome::Accepted, "N44");
}

/// N45.
#[test]
fn who_is_slow_is_closed_and_keeps_nobody_waiting() {
    let limits = format!("{OWN}[gateway.limits]\nconnect_timeout = \"2s\"\n");
    let gateway = TlsGateway::new().section("one", "tls", &limits).start();
    let slow: Vec<TcpStream> =
        (0..500).map(|_| TcpStream::connect(gateway.at("one")).unwrap()).collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for byte in [0x16, 0x03, 0x01] {
                for mut stream in slow.iter().step_by(2) {
                    let _closed = stream.write_all(&[byte]);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        for _ in 0..30 {
            let begin = Instant::now();
            assert_eq!(gateway.client("one").run(), Outcome::Accepted, "N45");
            assert!(begin.elapsed() < Duration::from_millis(500), "N45: {:?}", begin.elapsed());
        }
    });
    for mut stream in &slow {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let is_closed = read.is_ok()
            || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(is_closed, "N45: it is still open after {:?}", begin.elapsed());
    }
}

/// N46.
#[test]
fn long_chains_are_refused_soon() {
    let gateway = TlsGateway::new().mutual("one", "").start();
    let lab = gateway.lab();
    let mut deep = vec![named("int").clone()];
    for level in 0..20 {
        let issuer = deep.last().unwrap();
        let next =
            portreeve_tests::pki::Issue::new(lab.path(), &format!("deep-{level}"), Some(issuer));
        let next = next.authority().issue();
        deep.push(next);
    }
    let device =
        portreeve_tests::pki::Issue::new(lab.path(), "deepest", deep.last()).device().issue();
    let of_deep: Vec<&Certificate> = deep.iter().rev().collect();
    let many: Vec<&Certificate> = std::iter::repeat_n(named("int"), 200).collect();
    let loops: Vec<Certificate> = (0..8)
        .map(|number| {
            lab.by("evil", &format!("loop-{number}"))
                .authority()
                .subject("/O=Portreeve Tests/CN=root")
                .issue()
        })
        .collect();
    let of_loops: Vec<&Certificate> = loops.iter().collect();
    let looped =
        portreeve_tests::pki::Issue::new(lab.path(), "looped", loops.first()).device().issue();
    for (what, device, chain) in [
        ("20 levels", &device, of_deep),
        ("a large message", named("dev_evil"), many),
        ("a loop", &looped, of_loops),
    ] {
        let chain = bundle(lab.path(), "chain.pem", &chain);
        for tls in BOTH {
            let begin = Instant::now();
            let outcome = gateway.client("one").with(tls).certificate(device, &chain).run();
            assert!(outcome.is_refusal(), "N46 {what} {tls}: {outcome:?}");
            assert!(begin.elapsed() < Duration::from_secs(2), "N46 {what}: {:?}", begin.elapsed());
        }
    }
}

fn said_by(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "N47: it is closed");
    }
    said
}

/// N47.
#[test]
fn the_other_protocol_ends_cleanly() {
    let mut gateway = TlsGateway::new().server_only("tls").section("plain", "tcp", "").start();
    let connect = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02d1";
    let said = said_by(gateway.at("tls"), connect);
    assert!(said.is_empty() || said[0] == 0x15, "N47: {said:?}");
    assert_eq!(gateway.client("plain").run(), Outcome::Closed, "N47");
    assert!(gateway.process.is_alive());
    assert_eq!(gateway.client("tls").run(), Outcome::Accepted, "N47");
    assert!(!gateway.log().contains("panicked"), "N47");
    let refused = gateway.metric("handshakes_total", &["gateway=\"tls\""]);
    assert!(refused >= 2.0, "N47: {refused}");
}

/// A message of the handshake that is begun in one record, and then something else: an error, and no more.
#[test]
fn a_message_that_breaks_off_is_an_error() {
    use std::io::{Read, Write};
    let gateway = TlsGateway::new().server_only("one").start();
    for begun in
        ["16030100020100630303000100", "1603010001016303030001ff", "160301000401000001ffff"]
    {
        let mut socket = TcpStream::connect(gateway.at("one")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.write_all(&hex::decode(begun).unwrap()).unwrap();
        let mut answer = Vec::new();
        let _closed = socket.read_to_end(&mut answer);
        assert_eq!(answer.first(), Some(&21), "an alert for {begun}: {}", hex::encode(&answer));
    }
    assert_eq!(gateway.client("one").run(), Outcome::Accepted);
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// A HelloRetryRequest, with protocols that are served and with others.
#[test]
fn a_client_whose_group_is_not_there_is_asked_for_another() {
    let gateway = TlsGateway::new().server_only("one").start();
    for alpn in ["mqtt", "h2"] {
        let client = gateway.client("one").with("-tls1_3").with("-groups").with("P-521:P-256");
        assert_eq!(client.with("-alpn").with(alpn).run(), Outcome::Accepted, "{alpn}");
    }
}

/// AES-128 is what a handshake costs least with; who says that it has no instructions for AES gets ChaCha20, and
/// who has one suite only gets that.
#[test]
fn the_cipher_suite_suits_both() {
    let gateway = TlsGateway::new().server_only("one").start();
    let suite = |options: &[&str]| {
        let client = options.iter().fold(gateway.client("one"), |client, one| client.with(one));
        let said = client.inspect();
        let name = said.split("Cipher is ").nth(1).and_then(|rest| rest.lines().next());
        name.map(str::to_owned).unwrap_or(said)
    };
    let chacha = "TLS_CHACHA20_POLY1305_SHA256";
    let mixed = format!("{chacha}:TLS_AES_128_GCM_SHA256");
    for (options, wanted) in [
        (&["-tls1_3"][..], "TLS_AES_128_GCM_SHA256"),
        (&["-tls1_3", "-ciphersuites", &mixed], chacha),
        (&["-tls1_3", "-ciphersuites", &mixed, "-alpn", "h2"], chacha),
        (&["-tls1_3", "-alpn", "h2"], "TLS_AES_128_GCM_SHA256"),
        (&["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], "TLS_AES_256_GCM_SHA384"),
        (&["-tls1_2"], "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"],
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (&["-tls1_2", "-cipher", "AES256:@SECLEVEL=1"], "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ] {
        assert_eq!(suite(options), wanted, "{options:?}");
    }
}
