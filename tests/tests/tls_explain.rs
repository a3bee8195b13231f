//! What is said before a device connects: `portreeve check`, `tls check` and `tls explain`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::process::Command;

use portreeve_tests::binary::{binary, free_address};
use portreeve_tests::pki::{Certificate, bundle, named};
use portreeve_tests::responder::OpensslResponder;
use portreeve_tests::tls_gateway::{CLIENT, OWN, TlsGateway};
use serde_json::Value;

/// What a command came to: exit code, and everything that it said.
fn portreeve(gateway: &TlsGateway, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary());
    let output = command.current_dir(gateway.lab().path()).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn configure(gateway: &TlsGateway) {
    std::fs::write(gateway.lab().file("gateway.toml"), gateway.text()).unwrap();
}

/// The steps of a gateway, as JSON has them and as people read them.
fn steps(gateway: &TlsGateway, arguments: &[&str]) -> (bool, Vec<(String, String, String)>) {
    configure(gateway);
    let arguments = [&["tls"], arguments, &["--config", "gateway.toml"]].concat();
    let (code, said) = portreeve(gateway, &[&arguments[..], &["--json"]].concat());
    let first = said.find("{\n").unwrap_or_else(|| panic!("{said}"));
    let value: Value =
        serde_json::from_str(&said[first..]).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(value["ok"], code == 0, "{said}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let reports = value["gateways"].as_array().unwrap().iter();
    let steps: Vec<_> = reports
        .flat_map(|report| report["steps"].as_array().unwrap().clone())
        .map(|step| (text(&step["what"]), text(&step["result"]), text(&step["why"])))
        .collect();
    let (people_code, people) = portreeve(gateway, &arguments);
    assert_eq!(people_code, code);
    for (what, _, _) in &steps {
        assert!(people.contains(&format!("{what}: ")), "{what}: {people}");
    }
    (code == 0, steps)
}

/// The result of the step that says this.
#[track_caller]
fn result(steps: &[(String, String, String)], what: &str, words: &str) -> String {
    let found = steps.iter().find(|(step, _, why)| step == what && why.contains(words));
    found.unwrap_or_else(|| panic!("no {what} with {words:?}: {steps:#?}")).1.clone()
}

fn explain(gateway: &TlsGateway, chain: &[&Certificate]) -> (bool, Vec<(String, String, String)>) {
    let _file = bundle(gateway.lab().path(), "sent.pem", chain);
    steps(gateway, &["explain", "sent.pem"])
}

#[test]
fn tls_check_says_whether_everything_fits_together() {
    let lab = TlsGateway::new();
    let _int = lab.lab().crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    let crl = "[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"int.crl\"]\n";
    let gateway = lab.mutual("mutual", crl).server_only("one-way");
    let (is_good, said) = steps(&gateway, &["check"]);
    assert!(is_good, "{said:?}");
    for (what, words, wanted) in [
        ("certificate gw", "its key belongs to it", "ok"),
        ("certificate gw", "for gw.test", "ok"),
        ("certificate gw", "chain of 2", "ok"),
        ("certificate gw", "CN=gw.test is valid for 364 days", "ok"),
        ("certificate gw", "it has no staple", "ok"),
        ("trust anchor", "CN=root,O=Portreeve Tests is valid", "ok"),
        ("CRL", "of CN=int,O=Portreeve Tests: 1 revoked", "ok"),
        ("CRL", "there is none of CN=root,O=Portreeve Tests", "warning"),
        ("devices", "are not asked for certificates", "ok"),
    ] {
        assert_eq!(result(&said, what, words), wanted, "{what} {words}");
    }
    let (_, only) = steps(&gateway, &["check", "--gateway", "one-way"]);
    assert!(!only.iter().any(|(what, ..)| what == "trust anchor"), "{only:?}");
    let arguments = ["tls", "check", "--config", "gateway.toml", "--gateway", "other"];
    let (code, said) = portreeve(&gateway, &arguments);
    assert_eq!((code, said.contains("there is no gateway \"other\"")), (1, true), "{said}");
}

#[test]
fn tls_check_says_what_does_not_fit() {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let old = ["-crl_lastupdate", "20240101000000Z", "-crl_nextupdate", "20240102000000Z"];
    let _old = lab.crl_with("old.crl", named("int"), &[], &old, "");
    let nameless = lab.by("int", "nameless").end_entity("serverAuth").issue();
    gateway.put_identity("week", named("gw_week"));
    gateway.put_identity("nameless", &nameless);
    gateway.put_identity("expired", named("gw_exp"));
    let of = |name: &str| format!("{}\n", OWN.replace("gw.", &format!("{name}.")));
    let crl = "[gateway.tls.client.crl]\nmode = \"soft\"\nfiles = [\"old.crl\"]\n";
    let own = format!("{}{}{}{CLIENT}{crl}", of("week"), of("nameless"), of("expired"));
    let gateway = gateway.section("odd", "tls", &own);
    let (is_good, said) = steps(&gateway, &["check"]);
    assert!(!is_good, "{said:?}");
    for (what, words, wanted) in [
        ("certificate week", "CN=gw.test expires in", "warning"),
        ("certificate nameless", "it has no DNS name", "warning"),
        ("certificate expired", "has expired", "failed"),
        ("CRL", "has expired", "failed"),
    ] {
        assert_eq!(result(&said, what, words), wanted, "{what} {words}");
    }

    // Files that do not go together are a step of their own.
    let wrong = TlsGateway::new();
    std::fs::copy(&named("dev_ec").key, wrong.lab().file("gw.key")).unwrap();
    let wrong = wrong.server_only("wrong");
    let (is_good, said) = steps(&wrong, &["check"]);
    assert!(!is_good);
    assert_eq!(result(&said, "files", "does not belong to its certificate"), "failed");
}

#[test]
fn tls_explain_says_step_by_step_who_is_let_in() {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let _int = lab.crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    let uri = lab.device("uri").alternative_names("URI:urn:dev:7").issue();
    let two = lab.device("two").subject("/CN=a/CN=b").issue();
    let crl = "[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"int.crl\"]\n";
    let gateway = gateway.mutual("mutual", &format!("user_name = \"uri\"\n{crl}"));
    let int = named("int");
    let (is_good, said) = explain(&gateway, &[&uri, int]);
    assert!(is_good, "{said:?}");
    for (what, words) in [
        ("certificate", "CN=uri, serial number"),
        ("handshake", "path CN=uri <- CN=int,O=Portreeve Tests <- CN=root,O=Portreeve Tests"),
        ("revocation", "it is good, says CRL"),
        ("identity", "user name: urn:dev:7; client identifier: as CONNECT says"),
        ("verification", "everybody is let in"),
    ] {
        assert_eq!(result(&said, what, words), "ok", "{what}");
    }
    for (chain, what, words) in [
        (&[named("dev_rev"), int][..], "revocation", "it is revoked (CRL: keyCompromise)"),
        (&[named("dev_exp"), int], "handshake", "the certificate has expired"),
        (&[named("dev_early"), int], "handshake", "not valid yet"),
        (&[named("dev_nocli"), int], "handshake", "not for client authentication"),
        (
            &[named("dev_evil"), named("intevil")],
            "handshake",
            "its signature is not that of its issuer",
        ),
        (&[&uri], "handshake", "are its intermediates sent"),
        (&[named("dev_int2"), named("int2")], "handshake", "its issuer is CN=int2"),
        (&[named("dev_ec"), int], "identity", "the certificate has no URI"),
    ] {
        let (is_good, said) = explain(&gateway, chain);
        assert!(!is_good, "{}: {said:?}", chain[0].name);
        assert_eq!(result(&said, what, words), "failed", "{}", chain[0].name);
    }
    // What cannot be read is not explained.
    for (file, words) in [(two.crt_text(), "two common names"), ("missing.pem", "missing.pem")] {
        let arguments = ["tls", "explain", file, "--config", "gateway.toml"];
        let (code, said) = portreeve(&gateway, &arguments);
        assert_eq!((code, said.contains(words)), (1, true), "{said}");
    }
}

#[test]
fn tls_explain_asks_responders_and_the_registry() {
    let gateway = TlsGateway::new();
    let device = "[[device]]\nname = \"sensor\"\ncertificate_common_name = \"dev_ec\"\n";
    let index = gateway.lab().index("int.idx", &[named("dev_ec"), named("dev_rsa")]);
    index.revoke(&named("dev_rev").serial);
    let responder = OpensslResponder::start(&index, named("int"), named("oc_good"), &[]);
    let nobody = format!("http://{}/", free_address());
    let mut gateway = gateway.top(device);
    for (name, mode, url) in
        [("asked", "hard", &responder.url()), ("soft", "soft", &nobody), ("hard", "hard", &nobody)]
    {
        gateway = gateway.ocsp(name, mode, url, "timeout = \"1s\"").verified_by("one-party");
    }
    let int = named("int");
    let of = |section: &str, name: &str| {
        let _file = bundle(gateway.lab().path(), "sent.pem", &[named(name), int]);
        steps(&gateway, &["explain", "sent.pem", "--gateway", section])
    };
    let (is_good, said) = of("asked", "dev_ec");
    assert!(is_good, "{said:?}");
    assert_eq!(result(&said, "revocation", "it is good, says OCSP"), "ok");
    assert_eq!(result(&said, "verification", "it is the device sensor"), "ok");
    let (_, said) = of("asked", "dev_rsa");
    assert_eq!(result(&said, "verification", "no device has this certificate"), "warning");
    for (section, name, words) in [
        ("asked", "dev_rev", "it is revoked (OCSP: keyCompromise)"),
        ("asked", "dev_unk", "does not know it"),
        ("hard", "dev_ec", "cannot be reached"),
    ] {
        let (is_good, said) = of(section, name);
        assert!(!is_good, "{said:?}");
        assert_eq!(result(&said, "revocation", words), "failed", "{section} {name}");
    }
    let (is_good, said) = of("soft", "dev_ec");
    assert!(is_good, "{said:?}");
    assert_eq!(result(&said, "revocation", "nobody knows"), "warning");
}

/// A mistake: what of `[gateway.tls]` and the kind of the listener, and what is said of it.
const MISTAKES: [(&str, &str, &[&str]); 20] = [
    ("tls", "", &["listener of kind tls or wss, and no [gateway.tls]"]),
    ("wss", "", &["listener of kind tls or wss, and no [gateway.tls]"]),
    ("tcp", "OWN", &["no listener of the gateway is of kind tls or wss", "kind = \"tls\""]),
    ("tls", "sni = \"default\"", &["has no certificate", "[[gateway.tls.certificate]]"]),
    ("tsl", "OWN", &["tsl", "tls"]),
    ("tls", "profil = \"modern\"\nOWN", &["gateway[0].tls.profil", "profile"]),
    ("tls", "profile = \"moderm\"\nOWN", &["moderm", "modern"]),
    ("tls", "[[gateway.tls.certificate]]\nchain = \"gw.pem\"", &["names no certificate"]),
    ("tls", "[[gateway.tls.certificate]]\nname = \"gw\"\nchain = \"gw.pem\"", &["not both"]),
    ("tls", "OWN[gateway.tls.client]\nmode = \"required\"", &["trust_anchors", "names nobody"]),
    ("tls", "OWNCLIENTuser_name = \"common_name\"", &["common_name", "common-name"]),
    ("tls", "OWNCLIENT[gateway.tls.client.ocsp]\nmode = \"hard\"", &["may ask nobody"]),
    ("tls", "OWNCLIENT[gateway.tls.client.crl]\nmode = \"hard\"", &["has no CRL"]),
    (
        "tls",
        "OWNCLIENT[gateway.tls.client.ocsp]\nmode = \"hard\"\nresponder = \"ldap://x\"",
        &["ldap://x", "no URL"],
    ),
    (
        "tls",
        "OWNCLIENT[gateway.tls.client.ocsp]\nmode = \"hard\"\nallowed_hosts = [\"http://x/\"]",
        &["is no host"],
    ),
    ("tls", "OWNCLIENT[gateway.tls.client.revocation]\norder = [\"ocsp\"]", &["name both"]),
    (
        "tls",
        "[[gateway.tls.certificate]]\nchain = \"missing.pem\"\nkey = \"gw.key\"",
        &["gateway \"test\", TLS: ", "missing.pem", "No such file"],
    ),
    (
        "tls",
        "[[gateway.tls.certificate]]\nchain = \"gw.pem\"\nkey = \"other.key\"",
        &["gw.pem: its key does not belong to its certificate"],
    ),
    ("tls", "[[gateway.tls.certificate]]\nname = \"gw\"", &["there is no server \"gw\""]),
    (
        "tls",
        "OWN[gateway.tls.client]\ntrust_anchors = [\"int.pem\"]",
        &["there is no trust anchor", "partial_chain = true"],
    ),
];

#[test]
fn portreeve_check_says_what_is_wrong_with_tls() {
    let gateway = TlsGateway::new();
    std::fs::copy(&named("dev_ec").key, gateway.lab().file("other.key")).unwrap();
    let _int = bundle(gateway.lab().path(), "int.pem", &[named("int")]);
    let check = |kind: &str, tls: &str| {
        let tls = tls.replace("OWN", OWN).replace("CLIENT", CLIENT);
        let tls = if tls.is_empty() { tls } else { format!("[gateway.tls]\n{tls}\n") };
        let text = format!(
            "[data]\ndirectory = \"data\"\n[[gateway]]\nname = \"test\"\nverification = \"open\"\n\
             [[gateway.listener]]\naddress = \"127.0.0.1:0\"\nkind = {kind:?}\n{tls}"
        );
        std::fs::write(gateway.lab().file("gateway.toml"), text).unwrap();
        portreeve(&gateway, &["check", "--config", "gateway.toml"])
    };
    for (kind, tls, words) in MISTAKES {
        let (code, said) = check(kind, tls);
        assert_eq!(code, 1, "{tls}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{tls}: {said}");
    }
    let (code, said) = check("tls", "OWNCLIENT");
    assert_eq!(code, 0, "{said}");

    // All of them at once.
    let (_, said) = check("tls", "sni = \"no\"\nalpn = [\"\"]\nOWNCLIENTclient_id = \"cn\"");
    for word in ["sni", "alpn", "client_id"] {
        assert!(said.contains(word), "{said}");
    }
}
