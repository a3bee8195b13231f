//! Stapling: the answer about the gateway's own certificate, as OpenSSL and curl see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::Duration;

use portreeve_tests::binary::free_address;
use portreeve_tests::openssl::{BOTH, Outcome, curl_cert_status, shown};
use portreeve_tests::pki::{Certificate, Index, named};
use portreeve_tests::responder::{OpensslResponder, Responder};
use portreeve_tests::tls_gateway::{RunningTls, TlsGateway, wait_until};

/// What curl says of a bad or missing staple.
const BAD_STAPLE: i32 = 91;

/// A section whose own certificate is `NAME.pem`, with a responder.
fn stapled(name: &str, responder: &str) -> String {
    format!(
        "[[gateway.tls.certificate]]\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\nstapling = \"on\"\n\
         responder = {responder:?}\n"
    )
}

/// A gateway with one certificate and OpenSSL's responder for it.
fn real(more: &[&str]) -> (TlsGateway, Index, OpensslResponder) {
    let gateway = TlsGateway::new();
    let index = gateway.lab().index("int.idx", &[named("gw"), named("gw_next")]);
    let responder = OpensslResponder::start(&index, named("int"), named("oc_good"), more);
    (gateway, index, responder)
}

fn this_update(gateway: &RunningTls, tls: &str) -> Option<String> {
    let said = gateway.client("one").with(tls).with("-status").inspect();
    shown(&said, "This Update: ").map(str::to_owned)
}

/// B10 and B11: the first connection has one, and whoever does not ask gets none.
#[test]
fn the_first_handshake_has_a_staple_if_it_asks() {
    let (gateway, _index, responder) = real(&[]);
    let gateway = gateway.section("one", "tls", &stapled("gw", &responder.url())).start();
    for tls in BOTH {
        assert_ne!(curl_cert_status(gateway.at("one"), "gw.test", tls), BAD_STAPLE, "B10 {tls}");
        let said = gateway.client("one").with(tls).with("-status").inspect();
        assert!(said.contains("Cert Status: good"), "B10 {tls}: {said}");
        let said = gateway.client("one").with(tls).inspect();
        assert!(!said.contains("Cert Status"), "B11 {tls}");
        assert_eq!(gateway.client("one").with(tls).run(), Outcome::Accepted, "B11 {tls}");
    }
    assert_eq!(responder.requests(), 1, "B10: {}", responder.log());
}

/// A certificate that demands a staple, with this responder in it.
fn must_staple(gateway: &TlsGateway, url: &str) -> Certificate {
    let issue = gateway.lab().by("int", "ms-issued").server("DNS:ms.test").subject("/CN=ms.test");
    let certificate = issue.extension("tlsfeature = status_request").aia(url).issue();
    gateway.put_identity("ms", &certificate);
    certificate
}

/// Without `responder`: the one that the certificate names, which is on by default.
const MUST_STAPLE: &str = "[[gateway.tls.certificate]]\nchain = \"ms.pem\"\nkey = \"ms.key\"\n";

/// B13 and N32: must-staple.
#[test]
fn a_certificate_that_demands_a_staple_is_served_with_one_or_not_at_all() {
    let responder = Responder::start();
    let gateway = TlsGateway::new();
    let _issued = must_staple(&gateway, &responder.url("good"));
    let gateway = gateway.section("one", "tls", MUST_STAPLE).start();
    for tls in BOTH {
        assert_ne!(curl_cert_status(gateway.at("one"), "ms.test", tls), BAD_STAPLE, "B13 {tls}");
    }
    let gateway = TlsGateway::new();
    let _issued = must_staple(&gateway, &format!("http://{}/", free_address()));
    match gateway.section("one", "tls", MUST_STAPLE).try_start() {
        Err(said) => assert!(said.contains("staple"), "N32: {said}"),
        Ok(gateway) => {
            let said = gateway.log();
            assert!(said.contains("staple") && said.contains("ERROR"), "N32: {said}");
        }
    }
}

/// N32: what was fetched before is there after a start without responder.
#[test]
fn a_staple_outlives_a_restart() {
    let (gateway, _index, mut responder) = real(&[]);
    let gateway = gateway.section("one", "tls", &stapled("gw", &responder.url())).start();
    let before = this_update(&gateway, "-tls1_3");
    assert!(before.is_some());
    responder.kill();
    let gateway = gateway.restart().unwrap();
    assert_eq!(this_update(&gateway, "-tls1_3"), before, "N32: from the disk");
    let fresh = TlsGateway::new().section("one", "tls", &stapled("gw", &responder.url())).start();
    assert_eq!(fresh.client("one").run(), Outcome::Accepted, "N32: it starts without");
    assert_eq!(this_update(&fresh, "-tls1_3"), None, "N32");
    responder.restart();
    wait_until("N32: it recovers alone", Duration::from_secs(70), || {
        this_update(&fresh, "-tls1_3").is_some()
    });
}

/// B12 and N33: refreshed at half of its life, kept until its end, then dropped, and had again. OpenSSL's responder
/// has no shorter life than a minute, so this is the other one: ten seconds.
#[test]
fn a_staple_is_refreshed_kept_to_its_end_and_dropped() {
    let responder = Responder::start();
    responder.set("own", "brief");
    let gateway =
        TlsGateway::new().section("one", "tls", &stapled("gw", &responder.url("own"))).start();
    let first = this_update(&gateway, "-tls1_3").expect("a staple");
    wait_until("B12: a newer one", Duration::from_secs(9), || {
        let now = this_update(&gateway, "-tls1_3");
        assert!(now.is_some(), "B12: there is no gap");
        now.as_deref() != Some(&first)
    });
    responder.set("own", "500");
    let status = || curl_cert_status(gateway.at("one"), "gw.test", "-tls1_3");
    assert_ne!(status(), BAD_STAPLE, "N33: kept");
    wait_until("N33: dropped at its end", Duration::from_secs(12), || {
        this_update(&gateway, "-tls1_3").is_none()
    });
    assert_eq!(status(), BAD_STAPLE, "N33");
    assert_eq!(gateway.client("one").run(), Outcome::Accepted, "N33");
    responder.set("own", "brief");
    wait_until("N33: had again", Duration::from_secs(70), || status() != BAD_STAPLE);
}

/// Case, behaviour of the responder.
const NEVER_STAPLED: &[(&str, &str)] = &[
    ("N34", "evilsigned"),
    ("N34", "other"),
    ("N34", "revoked"),
    ("N34", "stale"),
    ("N34", "flip"),
    ("N34", "unknown"),
    ("N34", "noeku"),
    ("N34", "future"),
    ("N34", "trylater"),
    ("N34", "html"),
];

/// N34.
#[test]
fn a_bad_answer_is_never_stapled() {
    let mut gateway = TlsGateway::new();
    let responders: Vec<Responder> = NEVER_STAPLED.iter().map(|_| Responder::start()).collect();
    for ((_, behaviour), responder) in NEVER_STAPLED.iter().zip(&responders) {
        // A certificate of its own for each, so that none has another's staple.
        let issue = gateway.lab().by("int", &format!("{behaviour}-issued"));
        let own = issue.server("DNS:gw.test").subject("/CN=gw.test").issue();
        gateway.put_identity(behaviour, &own);
        gateway = gateway.section(behaviour, "tls", &stapled(behaviour, &responder.url(behaviour)));
    }
    let gateway = gateway.start();
    for ((id, behaviour), responder) in NEVER_STAPLED.iter().zip(&responders) {
        for tls in BOTH {
            let client = gateway.client(behaviour).with(tls);
            let said = client.clone().with("-status").inspect();
            assert!(!said.contains("Cert Status"), "{id} {behaviour} {tls}: {said}");
            assert_eq!(client.run(), Outcome::Accepted, "{id} {behaviour} {tls}");
        }
        assert!(responder.hits(behaviour) > 0, "{id} {behaviour}: it was asked");
    }
    let said = gateway.log();
    assert!(said.contains("revoked"), "N34: revoked is told: {said}");
}

/// N36.
#[test]
fn a_staple_belongs_to_its_certificate() {
    let (gateway, _index, mut responder) = real(&[]);
    let gateway = gateway.section("one", "tls", &stapled("gw", &responder.url())).start();
    assert!(this_update(&gateway, "-tls1_3").is_some());
    responder.kill();
    gateway.put_identity("gw", named("gw_next"));
    let (_is_content, _said) = gateway.reload();
    for tls in BOTH {
        let said = gateway.client("one").with(tls).with("-status").inspect();
        assert!(
            !said.contains(&format!("Serial Number: {}", named("gw").serial)),
            "N36 {tls}: {said}"
        );
        assert!(!said.contains("Cert Status"), "N36 {tls}: {said}");
    }
    responder.restart();
    wait_until("N36: its own", Duration::from_secs(70), || {
        let said = gateway.client("one").with("-status").inspect();
        said.contains(&format!("Serial Number: {}", named("gw_next").serial))
    });
}
