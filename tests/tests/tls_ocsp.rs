//! OCSP for devices: what the responder says, what it does not say, and what it says wrongly. The gateway
//! processes have one `[[gateway]]` for each responder, and every case runs on TLS 1.2 and 1.3.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use portreeve_tests::load::resident_bytes;
use portreeve_tests::openssl::{BOTH, Outcome};
use portreeve_tests::pki::{Certificate, Lab, bundle, named};
use portreeve_tests::responder::{Blackhole, OpensslResponder, Responder, silent};
use portreeve_tests::tls_gateway::{CLIENT, OWN, RunningTls, TlsGateway};

/// What the table of answers may add to the process, two of which have no end.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// What must become of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Accept,
    Refuse,
    /// A choice that is documented: let in or refused, but answered.
    Either,
}
use Want::{Accept, Either, Refuse};

impl Want {
    fn is_met(self, outcome: Outcome) -> bool {
        match self {
            Accept => outcome == Outcome::Accepted,
            Refuse => outcome.is_refusal(),
            Either => outcome != Outcome::Silence,
        }
    }
}

/// Case, behaviour of the responder, what must become of the device in hard and in soft mode.
type Case = (&'static str, &'static str, Want, Want);

const ANSWERS: &[Case] = &[
    ("B14", "good", Accept, Accept),
    ("B15", "revoked", Refuse, Refuse),
    ("B16", "unknown", Refuse, Refuse),
    ("B21", "issuersigned", Accept, Accept),
    ("B21", "rsa", Accept, Accept),
    ("B21", "ed25519", Accept, Accept),
    ("B21", "p384", Accept, Accept),
    ("N50", "p521", Accept, Accept),
    ("N01", "other", Refuse, Refuse),
    ("N02", "otherissuer", Refuse, Refuse),
    ("N03", "stale", Refuse, Refuse),
    ("N04", "future", Refuse, Refuse),
    ("N04", "future2", Accept, Accept),
    ("N43", "past2", Accept, Accept),
    ("N05", "nonext", Accept, Accept),
    ("N05", "nonextold", Refuse, Refuse),
    ("N06", "evilsigned", Refuse, Refuse),
    ("N06", "revevil", Refuse, Refuse),
    ("N07", "noeku", Refuse, Refuse),
    ("N07", "leafsigned", Refuse, Refuse),
    ("N08", "otherca", Refuse, Refuse),
    ("N09", "expired", Refuse, Refuse),
    ("N10", "nonocheck", Accept, Accept),
    ("N11", "nocerts", Refuse, Refuse),
    ("N12", "empty", Refuse, Refuse),
    ("N12", "html", Refuse, Refuse),
    ("N12", "trunc", Refuse, Refuse),
    ("N12", "trail", Refuse, Refuse),
    ("N12", "flip", Refuse, Refuse),
    ("N13", "500", Refuse, Accept),
    ("N13", "404", Refuse, Accept),
    ("N13", "redir", Refuse, Accept),
    ("N14", "big", Refuse, Accept),
    ("N14", "bigchunk", Refuse, Accept),
    ("N17", "trylater", Refuse, Accept),
    ("N17", "internal", Refuse, Accept),
    ("N17", "unauthorized", Refuse, Either),
    ("N17", "sigrequired", Refuse, Either),
    ("N17", "malformedrequest", Refuse, Either),
    ("N18", "sha256id", Either, Either),
    ("N18", "sha512id", Either, Either),
    ("N48", "sha1signature", Refuse, Refuse),
    ("N48", "sha1ecdsa", Refuse, Refuse),
    ("N48", "rsa1024", Refuse, Refuse),
    ("N49", "critical", Refuse, Refuse),
    ("N49", "twosingles", Refuse, Refuse),
    ("N49", "twogood", Accept, Accept),
    ("N49", "version", Accept, Accept),
    ("N49", "ber", Refuse, Refuse),
];

/// A section for each mode and behaviour: `hard-good`. Each has a responder, so that none suffers from another's.
fn with_answers(mut gateway: TlsGateway, cases: &[Case]) -> (RunningTls, Vec<Responder>) {
    let mut responders = Vec::new();
    for (_, behaviour, ..) in cases {
        for mode in ["hard", "soft"] {
            let responder = Responder::start();
            let url = responder.url(behaviour);
            gateway = gateway.ocsp(&format!("{mode}-{behaviour}"), mode, &url, "");
            responders.push(responder);
        }
    }
    (gateway.start(), responders)
}

/// A device that nobody has asked about.
fn fresh(gateway: &RunningTls, name: &str) -> Certificate {
    gateway.lab().device(name).issue()
}

/// Every case that does not hold, so that one run shows all of them.
fn failures(gateway: &RunningTls, cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, behaviour, hard, soft) in cases {
        for (mode, want) in [("hard", hard), ("soft", soft)] {
            for tls in BOTH {
                let section = format!("{mode}-{behaviour}");
                let device = fresh(gateway, &format!("{section}{tls}"));
                let outcome = gateway.client(&section).with(tls).device(&device).run();
                if !want.is_met(outcome) {
                    wrong.push(format!("{id} {behaviour} {mode} {tls}: {outcome:?}, not {want:?}"));
                }
            }
        }
    }
    wrong
}

/// B14, B15, B16, B21, N01 to N14, N17, N18, N43, N48 to N50: the table above. The process neither grows nor ends.
#[test]
fn an_answer_counts_only_if_all_of_it_is_right() {
    let (mut gateway, responders) = with_answers(TlsGateway::new(), ANSWERS);
    let before = resident_bytes(gateway.process.pid());
    let wrong = failures(&gateway, ANSWERS);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let followed: usize = responders.iter().map(|responder| responder.hits("hits")).sum();
    assert_eq!(followed, 0, "N13: redirects are not followed");
    let grown = resident_bytes(gateway.process.pid()).saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "N14: {grown} bytes");
    assert!(gateway.process.is_alive());
    assert!(!gateway.log().contains("panicked"));
    assert!(gateway.metric("soft_fails_total", &[]) > 0.0, "B18: passes are counted");
}

struct Real {
    responder: OpensslResponder,
    /// A good one of its own.
    device: Certificate,
}

/// OpenSSL's responder, which knows `dev_ec` and a device of its own as good and `dev_rev` as revoked.
fn real(lab: &Lab, name: &str, signer: &str, more: &[&str]) -> Real {
    let device = lab.device(&format!("{name}-device")).issue();
    let index = lab.index(&format!("{name}.idx"), &[named("dev_ec"), &device]);
    index.revoke(&named("dev_rev").serial);
    let responder = OpensslResponder::start(&index, named("int"), named(signer), more);
    Real { responder, device }
}

/// B14, B15, B16, B17: against OpenSSL's responder, on MQTT 5 and 3.1.1.
#[test]
fn openssls_responder_decides_and_is_asked_once() {
    let lab = Lab::new();
    let real = real(&lab, "int", "oc_good", &[]);
    let url = real.responder.url();
    let gateway = TlsGateway::new()
        .ocsp("hard", "hard", &url, "")
        .ocsp("soft", "soft", &url, "")
        .ocsp("unknown", "hard", &url, "unknown = \"accept\"")
        .start();
    let hard = |name: &str| gateway.client("hard").device(named(name));
    assert_eq!(hard("dev_ec").run(), Outcome::Accepted, "B14: {}", real.responder.log());
    assert_eq!(real.responder.requests(), 1, "B14");
    for turn in 0..100 {
        let client = hard("dev_ec").with(BOTH[turn % 2]);
        assert_eq!(client.run(), Outcome::Accepted, "B17");
    }
    assert_eq!(real.responder.requests(), 1, "B17");
    for mode in ["hard", "soft"] {
        for tls in BOTH {
            let client = gateway.client(mode).with(tls).device(named("dev_rev"));
            // The second one is known before its CONNECT.
            for client in [client.clone(), client.mqtt_3().slowly()] {
                let outcome = client.run();
                assert!(outcome.is_revoked(), "B15 {mode} {tls}: {outcome:?}");
            }
            let outcome = gateway.client(mode).with(tls).device(named("dev_unk")).run();
            assert!(outcome.is_refusal(), "B16 {mode} {tls}: {outcome:?}");
        }
    }
    let outcome = gateway.client("unknown").device(named("dev_unk")).run();
    assert_eq!(outcome, Outcome::Accepted, "B16");
}

/// B15: the code of CONNACK where the handshake did not know yet.
#[test]
fn the_first_refusal_is_a_connack_of_the_version_and_the_next_an_alert() {
    let responder = Responder::start();
    let gateway = TlsGateway::new()
        .ocsp("five", "hard", &responder.url("revoked"), "")
        .ocsp("three", "soft", &responder.url("revoked"), "")
        .start();
    let five = || gateway.client("five").device(named("dev_ec"));
    let three = || gateway.client("three").device(named("dev_rsa")).mqtt_3();
    assert_eq!(five().run(), Outcome::Refused(0x87));
    assert_eq!(three().run(), Outcome::Refused(5));
    for tls in BOTH {
        assert_eq!(five().with(tls).slowly().run(), Outcome::Alert(44), "{tls}");
        assert_eq!(three().with(tls).slowly().run(), Outcome::Alert(44), "{tls}");
    }
}

/// B18 and N15: nobody there, and several ways of being there without a word.
#[test]
fn a_responder_that_does_not_answer_costs_its_time_out_and_nobody_else() {
    let (responder, blackhole) = (Responder::start(), Blackhole::new());
    let nobody = portreeve_tests::binary::free_address();
    let ways = [
        ("hang", responder.url("hang"), 2.0),
        ("drip", responder.url("drip"), 2.0),
        ("silent", format!("http://{}/", silent()), 2.0),
        ("blackhole", format!("http://{}/", blackhole.address), 2.0),
        ("down", format!("http://{nobody}/"), 0.0),
    ];
    let mut gateway = TlsGateway::new().server_only("others");
    for (name, url, _) in &ways {
        for mode in ["hard", "soft"] {
            gateway = gateway.ocsp(&format!("{mode}-{name}"), mode, url, "");
        }
    }
    let gateway = gateway.start();
    std::thread::scope(|scope| {
        for (name, _, seconds) in &ways {
            for (mode, tls) in [("hard", "-tls1_2"), ("soft", "-tls1_3")] {
                let client = gateway.client(&format!("{mode}-{name}")).with(tls);
                let device = fresh(&gateway, &format!("{mode}-{name}"));
                scope.spawn(move || {
                    let begin = Instant::now();
                    let outcome = client.device(&device).run();
                    let took = begin.elapsed().as_secs_f64();
                    let want = if mode == "hard" { Refuse } else { Accept };
                    assert!(want.is_met(outcome), "N15 {mode} {name}: {outcome:?}");
                    // s_client itself needs its part of it.
                    assert!((seconds - 0.3..seconds + 0.8).contains(&took), "N15 {name}: {took} s");
                });
            }
        }
        for _ in 0..20 {
            let begin = Instant::now();
            assert_eq!(gateway.client("others").run(), Outcome::Accepted);
            assert!(begin.elapsed() < Duration::from_millis(500), "N15: {:?}", begin.elapsed());
        }
    });
    assert!(gateway.metric("soft_fails_total", &[]) >= 5.0, "B18");
    blackhole.end();
}

/// B19, B20, N16 and N42: what the request looks like, and what the answer must bring back.
#[test]
fn requests_are_made_as_the_configuration_says() {
    let responder = Responder::start();
    let mut gateway = TlsGateway::new();
    for (name, more) in [
        ("get-sha1", "method = \"get\""),
        ("post-sha1", "method = \"post\""),
        ("get-sha256", "certid_hash = \"sha256\""),
        ("post-sha256", "method = \"post\"\ncertid_hash = \"sha256\""),
        ("nonce", "nonce = \"required\""),
        ("echoed", "nonce = \"optional\""),
    ] {
        responder.set(name, "good");
        gateway = gateway.ocsp(name, "hard", &responder.url(name), more);
    }
    let url = |path: &str| responder.url(path);
    let gateway = gateway
        .ocsp("bad", "soft", &url("badnonce"), "nonce = \"optional\"")
        .ocsp("none", "hard", &url("nononce"), "nonce = \"optional\"")
        .ocsp("none-required", "hard", &url("nononce"), "nonce = \"required\"")
        .ocsp("fallback", "hard", &url("postonly"), "")
        .ocsp("path", "hard", &url("ocsp"), "")
        .start();
    let run = |section: &str| gateway.client(section).device(&fresh(&gateway, section)).run();
    for (method, hash) in [("get", "sha1"), ("post", "sha1"), ("get", "sha256"), ("post", "sha256")]
    {
        let name = format!("{method}-{hash}");
        assert_eq!(run(&name), Outcome::Accepted, "B19 {name}");
        let asked = &responder.asked(&name)[0];
        assert_eq!(asked.method.to_lowercase(), method, "B19");
        assert_eq!(asked.question.as_ref().unwrap().hash, hash, "B19");
        assert!(asked.question.as_ref().unwrap().nonce.is_none(), "B20: off is the default");
    }
    for name in ["nonce", "echoed"] {
        assert_eq!(run(name), Outcome::Accepted, "B20 {name}");
        let asked = &responder.asked(name)[0];
        assert_eq!(asked.question.as_ref().unwrap().nonce.as_ref().unwrap().len(), 32, "B20");
    }
    assert!(run("bad").is_refusal(), "N16: also soft");
    assert_eq!(run("none"), Outcome::Accepted, "N16");
    assert!(run("none-required").is_refusal(), "N16");
    assert_eq!(run("fallback"), Outcome::Accepted, "N42");
    let methods: Vec<String> =
        responder.asked("postonly").into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods, ["GET", "POST"], "N42");
    assert_eq!(run("path"), Outcome::Accepted, "N42");
    let path = &responder.asked("ocsp")[0].path;
    let encoded = path.strip_prefix("/ocsp/").unwrap();
    assert!(!encoded.contains(['+', '=', '/']), "N42: {path}");
}

/// B20 and B21 with OpenSSL's responder.
#[test]
fn openssls_responder_is_understood_with_every_signer() {
    let lab = Lab::new();
    let byte_key = ["-resp_key_id"];
    let all = [
        ("oc_good", &[][..]),
        ("oc_rsa", &[]),
        ("oc_384", &byte_key),
        ("oc_ed", &[]),
        ("int", &byte_key),
    ];
    let real: Vec<Real> =
        all.iter().map(|(signer, more)| real(&lab, signer, signer, more)).collect();
    let mut gateway = TlsGateway::new();
    for ((signer, _), real) in all.iter().zip(&real) {
        gateway = gateway.ocsp(signer, "hard", &real.responder.url(), "nonce = \"required\"");
    }
    let gateway = gateway.start();
    for ((signer, _), real) in all.iter().zip(&real) {
        let outcome = gateway.client(signer).device(&real.device).run();
        assert_eq!(outcome, Outcome::Accepted, "B21 {signer}: {}", real.responder.log());
        assert!(real.responder.log().contains("OCSP Nonce"), "B20 {signer}");
    }
}

/// N10, N11 and N07 to N09 with OpenSSL's responder.
#[test]
fn openssls_responder_with_a_wrong_signer_is_refused() {
    let lab = Lab::new();
    let all = [
        ("N07", "oc_noeku", &[][..], "", Refuse),
        ("N08", "oc_otherca", &[], "", Refuse),
        ("N09", "oc_exp", &[], "", Refuse),
        ("N10", "oc_nonocheck", &[], "delegate_without_nocheck = \"refuse\"", Refuse),
        ("N11", "oc_good", &["-resp_no_certs"], "", Refuse),
    ];
    let mut running = Vec::new();
    let mut gateway = TlsGateway::new();
    for (id, signer, options, more, _) in &all {
        let real = real(&lab, id, signer, options);
        gateway = gateway.ocsp(id, "soft", &real.responder.url(), more);
        running.push(real);
    }
    let gateway = gateway.start();
    for ((id, signer, .., want), real) in all.iter().zip(&running) {
        let outcome = gateway.client(id).device(&real.device).run();
        assert!(want.is_met(outcome), "{id} {signer}: {outcome:?}");
    }
}

/// N03, N06, N19, N20: what is kept, for how long, and what replaces it.
#[test]
fn an_answer_is_kept_as_long_as_it_says_and_no_older_one_replaces_it() {
    let responder = Responder::start();
    for (path, behaviour) in
        [("hold", "hold"), ("rollback", "newrevoked"), ("forged", "revevil"), ("short", "short")]
    {
        responder.set(path, behaviour);
    }
    let mut gateway = TlsGateway::new();
    for path in ["hold", "rollback", "forged", "short"] {
        gateway = gateway.ocsp(path, "hard", &responder.url(path), "clock_skew = \"0s\"");
    }
    let gateway = gateway.start();
    let devices = ["hold", "rollback", "forged", "short"].map(|path| (path, fresh(&gateway, path)));
    let run = |section: &str| {
        let (_, device) = devices.iter().find(|(path, _)| *path == section).unwrap();
        gateway.client(section).device(device).run()
    };
    assert_eq!(run("short"), Outcome::Accepted, "N03");
    assert!(run("hold").is_revoked(), "N19");
    assert!(run("rollback").is_revoked(), "N20");
    assert!(run("forged").is_refusal(), "N06");
    for (path, behaviour) in [("hold", "good"), ("rollback", "oldgood"), ("forged", "good")] {
        responder.set(path, behaviour);
    }
    std::thread::sleep(Duration::from_secs(3));
    let asked = responder.hits("short");
    assert_eq!(run("short"), Outcome::Accepted, "N03");
    assert!(responder.hits("short") > asked, "N03: asked again");
    // A short time without questions may follow a bad answer.
    let accepted = (0..30).any(|_| {
        std::thread::sleep(Duration::from_millis(200));
        run("forged") == Outcome::Accepted
    });
    assert!(accepted, "N06: a forged answer leaves nothing behind");
    assert_eq!(run("hold"), Outcome::Accepted, "N19");
    assert!(run("rollback").is_refusal(), "N20");
}

/// N21: the issuer is the one that the path was verified with, not one that was sent.
#[test]
fn a_look_alike_in_the_chain_changes_nothing() {
    let lab = Lab::new();
    let real = real(&lab, "int", "oc_good", &[]);
    let gateway = TlsGateway::new().ocsp("soft", "soft", &real.responder.url(), "").start();
    let chain = bundle(lab.path(), "both.pem", &[named("intevil"), named("int")]);
    for tls in BOTH {
        let client = |name: &str| gateway.client("soft").with(tls).certificate(named(name), &chain);
        assert_eq!(client("dev_ec").run(), Outcome::Accepted, "N21 {tls}");
        let outcome = client("dev_rev").run();
        assert!(outcome.is_revoked(), "N21 {tls}: {outcome:?}");
    }
}

/// N22 and N23: depth.
#[test]
fn an_intermediate_is_checked_where_the_depth_says_so() {
    let lab = Lab::new();
    let leaf = real(&lab, "int", "oc_good", &[]);
    let roots = lab.index("root.idx", &[]);
    roots.revoke(&named("int").serial);
    let root = OpensslResponder::start(&roots, named("root"), named("oc_root"), &[]);
    let section = |depth: &str, root_url: Option<&str>| {
        let mut toml = format!("[gateway.tls.client.revocation]\ndepth = {depth:?}\n");
        toml.push_str("[gateway.tls.client.ocsp]\nmode = \"soft\"\n");
        let mut issuer = |name: &str, url: &str| {
            let path = named(name).crt_text();
            toml.push_str(&format!(
                "[[gateway.tls.client.ocsp.issuer]]\ncertificate = {path:?}\nresponder = {url:?}\n"
            ));
        };
        issuer("int", &leaf.responder.url());
        if let Some(url) = root_url {
            issuer("root", url);
        }
        toml
    };
    let gateway = TlsGateway::new()
        .mutual("chain", &section("chain", Some(&root.url())))
        .mutual("leaf", &section("end-entity", Some(&root.url())))
        .mutual("no-aia", &section("chain", None))
        .start();
    for tls in BOTH {
        let run = |name: &str| gateway.client(name).with(tls).device(named("dev_ec")).run();
        assert_eq!(run("no-aia"), Outcome::Accepted, "N23 {tls}");
        assert_eq!(run("leaf"), Outcome::Accepted, "N22 {tls}");
    }
    for tls in BOTH {
        let outcome = gateway.client("chain").with(tls).device(named("dev_ec")).run();
        assert!(outcome.is_refusal(), "N22 {tls}: {outcome:?}");
    }
}

/// B22 and N41: what the certificate names is asked only where the configuration allows it.
#[test]
fn an_address_in_a_certificate_is_asked_only_if_its_host_is_allowed() {
    let (allowed, other) = (Responder::start(), Responder::start());
    let nobody = portreeve_tests::binary::free_address();
    let toml = |mode: &str| {
        format!(
            "[gateway.tls.client.ocsp]\nmode = {mode:?}\nallowed_hosts = [\"{}\", \"{nobody}\"]\n",
            allowed.address
        )
    };
    let gateway =
        TlsGateway::new().mutual("hard", &toml("hard")).mutual("soft", &toml("soft")).start();
    let (good, port) = (allowed.url("good"), other.address.port());
    let long = format!("{}/{}", other.url("good"), "x".repeat(2000));
    let cases: Vec<(&str, Vec<String>, Want, Want)> = vec![
        ("good", vec![good.clone()], Accept, Accept),
        ("dead-first", vec![format!("http://{nobody}/"), good.clone()], Accept, Accept),
        ("ldap-first", vec!["ldap://127.0.0.1/x".to_owned(), good], Accept, Accept),
        ("none", vec![], Refuse, Accept),
        ("other", vec![other.url("good")], Refuse, Accept),
        ("https", vec![format!("https://{}/", other.address)], Refuse, Accept),
        ("user", vec![format!("http://{}@127.0.0.1:{port}/", allowed.address)], Refuse, Accept),
        ("v6", vec![format!("http://[::1]:{port}/")], Refuse, Accept),
        ("link-local", vec!["http://169.254.169.254/latest".to_owned()], Refuse, Accept),
        ("file", vec!["file:///etc/passwd".to_owned()], Refuse, Accept),
        ("long", vec![long], Refuse, Accept),
    ];
    for (name, urls, hard, soft) in cases {
        let issue = gateway.lab().device(name);
        let device = urls.iter().fold(issue, |issue, url| issue.aia(url)).issue();
        for (mode, want) in [("hard", hard), ("soft", soft)] {
            let begin = Instant::now();
            let outcome = gateway.client(mode).device(&device).run();
            assert!(want.is_met(outcome), "N41 {name} {mode}: {outcome:?}");
            assert!(begin.elapsed() < Duration::from_secs(2), "N41 {name}: nothing is waited for");
        }
    }
    assert_eq!(other.connections(), 0, "N41");
}

/// B22: without a responder the next source decides.
#[test]
fn a_certificate_without_a_responder_is_decided_by_the_list() {
    let gateway = TlsGateway::new();
    let crl = gateway.lab().crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    let toml = format!(
        "[gateway.tls.client.ocsp]\nmode = \"hard\"\n[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [{crl:?}]\n"
    );
    let gateway = gateway.mutual("both", &toml).start();
    for tls in BOTH {
        let run = |name: &str| gateway.client("both").with(tls).device(named(name)).run();
        assert_eq!(run("dev_ec"), Outcome::Accepted, "B22 {tls}");
        assert!(run("dev_rev").is_refusal(), "B22 {tls}");
    }
}

/// N28: somebody who is connected is thrown out.
#[test]
fn a_live_session_ends_when_its_certificate_is_revoked() {
    let responder = Responder::start();
    responder.set("live", "short");
    let toml = format!(
        "[gateway.tls.client.revocation]\nrecheck_interval = \"1s\"\n[gateway.tls.client.ocsp]\n\
         mode = \"hard\"\nresponder = {:?}\nclock_skew = \"0s\"\n",
        responder.url("live")
    );
    let gateway = TlsGateway::new().mutual("live", &toml).start();
    let device = |tls: &str, id: &str| {
        gateway.client("live").with(tls).device(named("dev_rsa")).client_id(id)
    };
    let (outcome, mut five) = device("-tls1_3", "five").open();
    assert_eq!(outcome, Outcome::Accepted);
    let (outcome, mut three) = device("-tls1_2", "three").mqtt_3().open();
    assert_eq!(outcome, Outcome::Accepted);
    assert!(five.pings() && three.pings());
    responder.set("live", "revoked");
    let said = five.ended(Duration::from_secs(6)).expect("N28: it is ended");
    assert!(said.starts_with("e0") && said.contains("87"), "N28: {said}");
    assert_eq!(three.ended(Duration::from_secs(3)).as_deref(), Some(""), "N28: without a word");
}

/// N31: what follows a CONNECT waits for its answer.
#[test]
fn nothing_is_published_by_a_client_that_is_then_refused() {
    let responder = Responder::start();
    let gateway = TlsGateway::new()
        .ocsp("hard", "hard", &responder.url("revoked"), "")
        .ocsp("slow", "hard", &responder.url("hang"), "")
        .start();
    let mut publish = vec![0x31, 0x80, 0x80, 0x3c, 0, 1, b't', 0];
    publish.resize(publish.len() + (60 << 14) - 4, b'x');
    for section in ["hard", "slow"] {
        let device = fresh(&gateway, section);
        let outcome = gateway.client(section).device(&device).and_sends(&publish).run();
        assert!(outcome.is_refusal(), "N31 {section}: {outcome:?}");
    }
    let (_, metrics) = gateway.admin("GET", "/metrics");
    let received =
        metrics.lines().find(|line| line.starts_with("portreeve_messages_received_total"));
    assert!(received.is_none_or(|line| line.ends_with(" 0")), "N31: {received:?}");
}

/// A responder for a CA is asked for it, and AIA is not.
#[test]
fn a_section_without_ocsp_asks_nobody() {
    let responder = Responder::start();
    let gateway = TlsGateway::new().section("off", "tls", &format!("{OWN}{CLIENT}")).start();
    let device = gateway.lab().device("aia").aia(&responder.url("revoked")).issue();
    assert_eq!(gateway.client("off").device(&device).run(), Outcome::Accepted);
    assert_eq!(responder.connections(), 0);
}
