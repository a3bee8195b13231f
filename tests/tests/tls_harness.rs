//! The harness of the TLS tests is as good as it says: OpenSSL takes what is good and not what is bad.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portreeve_tests::binary::free_address;
use portreeve_tests::openssl::{BOTH, Client, Outcome, curl_cert_status, shown};
use portreeve_tests::pki::{Certificate, Lab, bundle, named, openssl, resigned};
use portreeve_tests::responder::{Blackhole, OpensslResponder, Responder, silent};

/// What `openssl ocsp` says of a responder's answer.
fn judged(lab: &Lab, url: &str, issuer: &Certificate, of: &Certificate, more: &[&str]) -> String {
    let roots = bundle(lab.path(), &format!("roots-{}", of.name), &[named("root"), named("int")]);
    let output = Command::new("timeout")
        .args(["5", "openssl", "ocsp", "-url", url, "-CAfile", roots.to_str().unwrap()])
        .args(more)
        .args(["-issuer", issuer.crt_text(), "-cert", of.crt_text(), "-timeout", "2"])
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn is_valid(said: &str) -> bool {
    said.contains("Response verify OK")
        && !said.contains("not yet valid")
        && !said.contains("expired")
}

#[test]
fn certificates_of_every_kind_are_what_they_say() {
    let chain = |end: &str| match end {
        "dev_rsaca" => "rsaca",
        "dev_edca" => "edca",
        _ => "int",
    };
    for (name, purpose) in [
        ("gw", "sslserver"),
        ("rsa", "sslserver"),
        ("dev_ec", "sslclient"),
        ("dev_384", "sslclient"),
        ("dev_rsa", "sslclient"),
        ("dev_ed", "sslclient"),
        ("dev_rsaca", "sslclient"),
        ("dev_edca", "sslclient"),
        ("oc_good", "ocsphelper"),
    ] {
        let arguments = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile"];
        let files = [named("root").crt_text(), "-untrusted", named(chain(name)).crt_text()];
        let said = openssl(&[&arguments[..], &files, &[named(name).crt_text()]].concat(), &[]);
        assert!(String::from_utf8(said).unwrap().ends_with("OK\n"), "{name}");
    }
    for name in ["dev_exp", "dev_early", "dev_nocli", "dev_evil"] {
        let mut command = Command::new("openssl");
        command.args(["verify", "-purpose", "sslclient", "-CAfile", named("root").crt_text()]);
        command.args(["-untrusted", named("int").crt_text(), named(name).crt_text()]);
        assert!(!command.output().unwrap().status.success(), "{name}");
    }
}

/// A behaviour, and what OpenSSL says of it.
const JUDGED: [(&str, &str); 42] = [
    ("good", ": good"),
    ("revoked", ": revoked"),
    ("hold", "certificateHold"),
    ("unknown", ": unknown"),
    ("other", "No Status found"),
    ("otherissuer", "No Status found"),
    ("stale", "status expired"),
    ("short", ": good"),
    ("future", "status not yet valid"),
    ("future2", ": good"),
    ("past2", ": good"),
    ("nonext", ": good"),
    ("evilsigned", "Verify Failure"),
    ("revevil", "Verify Failure"),
    ("leafsigned", "Verify Failure"),
    ("noeku", "Verify Failure"),
    ("otherca", "Verify Failure"),
    ("expired", "Verify Failure"),
    ("nonocheck", ": good"),
    ("issuersigned", ": good"),
    ("rsa", ": good"),
    ("p384", ": good"),
    ("p521", ": good"),
    ("ed25519", ": good"),
    ("badnonce", "Nonce Verify error"),
    ("nononce", "no nonce in response"),
    ("newrevoked", ": revoked"),
    ("oldgood", ": good"),
    ("twosingles", ": revoked"),
    ("twogood", ": good"),
    ("version", ": good"),
    ("flip", "Verify Failure"),
    ("trunc", "rror"),
    ("empty", "rror"),
    ("html", "rror"),
    ("malformedrequest", "malformedrequest (1)"),
    ("internal", "internalerror (2)"),
    ("trylater", "trylater (3)"),
    ("sigrequired", "sigrequired (5)"),
    ("unauthorized", "unauthorized (6)"),
    ("500", "rror"),
    ("404", "rror"),
];

#[test]
fn every_answer_is_judged_by_openssl_as_its_name_says() {
    let (lab, responder) = (Lab::new(), Responder::start());
    let device = named("dev_ec");
    for (behaviour, expected) in JUDGED {
        let said = judged(&lab, &responder.url(behaviour), named("int"), device, &[]);
        assert!(said.contains(expected), "{behaviour}: {said}");
        let is_good = expected == ": good";
        assert!(!is_good || is_valid(&said), "{behaviour}: {said}");
        assert_eq!(responder.hits(behaviour), 1, "{behaviour}");
        let asked = &responder.asked(behaviour)[0];
        let question = asked.question.as_ref().unwrap();
        assert_eq!((asked.method.as_str(), &question.serial), ("POST", &device.serial));
        assert!(question.nonce.is_some());
    }
}

#[test]
fn aliases_and_delays_and_redirects_do_as_they_say() {
    let (lab, responder) = (Lab::new(), Responder::start());
    let ask = |path: &str, more: &[&str]| {
        judged(&lab, &responder.url(path), named("int"), named("dev_ec"), more)
    };
    responder.set("switch", "newrevoked");
    let said = ask("switch", &[]);
    assert!(said.contains(": revoked"), "{said}");
    responder.set("switch", "oldgood");
    assert!(ask("switch", &[]).contains(": good"));
    assert!(!ask("redir", &[]).contains(": good"));
    assert!(ask("slow1", &[]).contains(": good"));
    assert!(!ask("hang", &[]).contains(": good"));
    assert!(!ask("big", &[]).contains(": good"));
    assert!(ask("good", &["-sha256"]).contains(": good"));
    assert_eq!(responder.asked("good")[0].question.as_ref().unwrap().hash, "sha256");
    let silent = format!("http://{}/", silent());
    assert!(!judged(&lab, &silent, named("int"), named("dev_ec"), &[]).contains(": good"));
}

#[test]
fn openssls_responder_follows_its_index_and_counts() {
    let lab = Lab::new();
    let device = lab.device("own").aia("http://127.0.0.1:1/").issue();
    let index = lab.index("int.idx", &[&device]);
    let mut responder = OpensslResponder::start(&index, named("int"), named("oc_good"), &[]);
    let ask = |url: &str| judged(&lab, url, named("int"), &device, &["-no_nonce"]);
    let said = ask(&responder.url());
    assert!(said.contains("own.crt: good"), "{said} {}", responder.log());
    index.revoke(&device.serial);
    responder.restart();
    let said = ask(&responder.url());
    assert!(said.contains("own.crt: revoked") && is_valid(&said), "{said}");
    assert_eq!(responder.requests(), 2, "{}", responder.log());
    responder.kill();
    assert!(ask(&responder.url()).contains("rror"));
    responder.restart();
    assert!(ask(&responder.url()).contains(": revoked"));
}

fn text(path: &Path, what: &str) -> String {
    let arguments = [what, "-noout", "-text", "-in", path.to_str().unwrap()];
    String::from_utf8(openssl(&arguments, &[])).unwrap()
}

#[test]
fn lists_and_odd_certificates_can_be_made() {
    let lab = Lab::new();
    let crl = lab.crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    assert!(text(&crl, "crl").contains(&format!("Serial Number: {}", named("dev_rev").serial)));
    let serials: Vec<String> =
        (0..100_000).map(|number| format!("{:08X}", 0x4000_0000 + number)).collect();
    let serials: Vec<&str> = serials.iter().map(String::as_str).collect();
    let large = lab.crl("large.crl", named("int"), &serials);
    assert!(large.metadata().unwrap().len() > 1_000_000);
    let old = ["-crl_lastupdate", "20240101000000Z", "-crl_nextupdate", "20240102000000Z"];
    let delta = "2.5.29.27 = critical,DER:02:01:01";
    let delta = text(&lab.crl_with("old.crl", named("int"), &[], &old, delta), "crl");
    assert!(
        delta.contains("Delta CRL Indicator: critical") && delta.contains("Jan  2 00:00:00 2024")
    );
    let plain = lab.device("nul").subject("/CN=dev#nul").issue();
    let nul = resigned(lab.path(), "nul", &plain, named("int"), (b"dev#nul", b"dev\0nul"));
    assert!(text(&nul.crt, "x509").contains("CN = dev\\00nul"));
    let arguments = ["verify", "-CAfile", named("root").crt_text(), "-untrusted"];
    let _verified =
        openssl(&[&arguments[..], &[named("int").crt_text(), nul.crt_text()]].concat(), &[]);
    let ms = lab.by("int", "ms").server("DNS:ms.test").extension("tlsfeature = status_request");
    assert!(text(&ms.issue().crt, "x509").contains("TLS Feature"));
    let long = lab.device("long").serial("7F112233445566778899AABBCCDDEEFF00112233").issue();
    assert!(text(&long.crt, "x509").contains("7f:11:22:33:44:55:66:77:88:99:aa:bb"));
    let odd = lab
        .device("odd")
        .subject("/O=a, b/CN=first/CN=Zoë")
        .alternative_names("URI:urn:dev:1,DNS:a.test,email:a@b.test")
        .serial("00F0")
        .aia("http://127.0.0.1:1/a")
        .aia("https://[::1]/b")
        .issue();
    let shown = text(&odd.crt, "x509");
    for part in ["(0xf0)", "URI:urn:dev:1", "email:a@b.test", "OCSP - URI:https://[::1]/b"] {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
}

/// `openssl s_server` that sends CONNACK, to try the client with. It is killed when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(connack: &[u8], options: &[&str]) -> Self {
        let address = free_address();
        let mut command = Command::new("openssl");
        command.args([
            "s_server",
            "-quiet",
            "-naccept",
            "1",
            "-accept",
            &address.port().to_string(),
        ]);
        command.args(["-cert", named("gw").crt_text(), "-key", named("gw").key_text()]);
        command.args(["-cert_chain", named("int").crt_text(), "-CAfile", named("root").crt_text()]);
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let mut stdin = child.stdin.take().unwrap();
        let connack = connack.to_vec();
        std::thread::spawn(move || {
            stdin.write_all(&connack).unwrap();
            std::thread::sleep(Duration::from_secs(5));
        });
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn curl_and_openssl_see_a_staple_where_there_is_one() {
    let (lab, responder) = (Lab::new(), Responder::start());
    let file = lab.file("staple").display().to_string();
    let said = judged(
        &lab,
        &responder.url("good"),
        named("int"),
        named("gw"),
        &["-no_nonce", "-respout", &file],
    );
    assert!(said.contains(": good"), "{said}");
    for tls in BOTH {
        let bare = Server::start(&[], &[]);
        assert_eq!(curl_cert_status(bare.address, "gw.test", tls), 91, "{tls}");
        let stapled = ["-status_file", file.as_str(), "-naccept", "2"];
        let stapled = Server::start(&[], &stapled);
        let said = Client::new(stapled.address).with(tls).with("-status").inspect();
        assert!(said.contains("Cert Status: good"), "{said}");
        assert!(shown(&said, "This Update: ").is_some(), "{said}");
        assert!(said.contains(&format!("Serial Number: {}", named("gw").serial)), "{said}");
        assert_ne!(curl_cert_status(stapled.address, "gw.test", tls), 91, "{tls}");
    }
}

#[test]
fn a_full_queue_swallows_connections() {
    let blackhole = Blackhole::new();
    let tried = TcpStream::connect_timeout(&blackhole.address, Duration::from_millis(500));
    assert_eq!(tried.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    blackhole.end();
}

#[test]
fn the_client_tells_what_became_of_it() {
    let mutual = ["-Verify", "3", "-verify_return_error"];
    for tls in BOTH {
        let run = |connack: &[u8], options: &[&str], change: fn(Client) -> Client| {
            let server = Server::start(connack, options);
            change(Client::new(server.address).with(tls).with("-verify_return_error").slowly())
                .run()
        };
        let accepted = run(&[0x20, 3, 0, 0, 0], &[], |client| client);
        assert_eq!(accepted, Outcome::Accepted, "{tls}");
        assert_eq!(
            run(&[0x20, 2, 0, 5], &[], |client| client.mqtt_3()),
            Outcome::Refused(5),
            "{tls}"
        );
        let device = run(&[0x20, 2, 0, 0], &mutual, |client| client.device(named("dev_ec")));
        assert_eq!(device, Outcome::Accepted, "{tls}");
        let expired = run(&[], &mutual, |client| client.device(named("dev_exp")));
        assert_eq!(expired, Outcome::Alert(45), "{tls}");
        let evil = run(&[], &[], |client| client.trusts(named("evil")));
        assert_eq!(evil, Outcome::Closed, "{tls}");
    }
    let server = Server::start(&[], &[]);
    let said = Client::new(server.address).inspect();
    assert_eq!(shown(&said, "subject="), Some("CN = gw.test"), "{said}");
}
