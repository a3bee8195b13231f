//! `portreeve cert`, and what a running gateway makes of it: B27, the deny-list, authorities and CRLs by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portreeve_tests::binary::binary;
use portreeve_tests::der;
use portreeve_tests::openssl::{BOTH, Outcome};
use portreeve_tests::pki::{Certificate, Lab, digest, named, openssl};
use portreeve_tests::plugins::put;
use portreeve_tests::tls_gateway::{OWN, RunningTls, TlsGateway, wait_until};
use serde_json::Value;

/// How soon a change is served.
const SECOND: Duration = Duration::from_secs(1);
/// Files that nobody told of are found when they have been still for a while.
const UNTOLD: Duration = Duration::from_secs(3);

/// What a command came to.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    all: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `portreeve cert …` in a folder.
fn cert(lab: &Lab, arguments: &[&str]) -> Said {
    let mut command = Command::new(binary());
    let output = command.current_dir(lab.path()).arg("cert").args(arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Said { code: output.status.code(), stdout, all }
}

/// One that succeeds.
fn done(lab: &Lab, arguments: &[&str]) -> Said {
    let said = cert(lab, arguments);
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    said
}

/// One that is refused, and says so with every one of `words`.
fn refused(lab: &Lab, arguments: &[&str], words: &[&str]) -> Said {
    let said = cert(lab, arguments);
    assert_eq!(said.code, Some(1), "{arguments:?}: {said:?}");
    assert!(words.iter().all(|word| said.all.contains(word)), "{arguments:?}: {said:?}");
    said
}

const FOLDER: [&str; 2] = ["--dir", "certificates"];
const CONFIG: [&str; 2] = ["--config", "gateway.toml"];

fn import<'a>(name: &'a str, chain: &'a str, key: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let first = ["import", "server", name, "--chain", chain, "--key", key];
    first.into_iter().chain(more.iter().copied()).collect()
}

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    first.iter().chain(more).copied().collect()
}

/// SHA-256 of a certificate as hex.
fn fingerprint(certificate: &Certificate) -> String {
    hex::encode(digest("sha256", &certificate.der()))
}

/// A file that only its owner reads.
fn private(lab: &Lab, name: &str, bytes: &[u8]) {
    std::fs::write(lab.file(name), bytes).unwrap();
    std::fs::set_permissions(lab.file(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A key in some form: its name, its certificate, and whether it has a password.
type Form = (&'static str, &'static Certificate, bool);

/// Every form in which OpenSSL writes keys.
fn keys(lab: &Lab) -> Vec<Form> {
    let (ec, rsa) = (named("gw"), named("rsa"));
    let encrypted = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:open sesame"];
    let scrypt = ["pkcs8", "-topk8", "-scrypt", "-passout", "pass:open sesame"];
    let plain = ["pkcs8", "-topk8", "-nocrypt"];
    let forms: [(&str, &Certificate, &[&str], bool); 10] = [
        ("pkcs8-pem", ec, &plain, false),
        ("pkcs8-der", ec, &[&plain[..], &["-outform", "DER"]].concat(), false),
        ("sec1-pem", ec, &["ec"], false),
        ("sec1-der", ec, &["ec", "-outform", "DER"], false),
        ("pkcs1-pem", rsa, &["rsa", "-traditional"], false),
        ("pkcs1-der", rsa, &["rsa", "-traditional", "-outform", "DER"], false),
        ("encrypted-pem", ec, &encrypted, true),
        ("encrypted-der", rsa, &[&encrypted[..], &["-outform", "DER"]].concat(), true),
        ("scrypt-pem", ec, &scrypt, true),
        ("rsa-pkcs8-pem", rsa, &plain, false),
    ];
    let mut made = Vec::new();
    for (name, certificate, arguments, has_password) in forms {
        let bytes = openssl(&[arguments, &["-in", certificate.key_text()]].concat(), &[]);
        private(lab, &format!("{name}.key"), &bytes);
        made.push((name, certificate, has_password));
    }
    made
}

/// Texts that give a key away: its lines in PEM, and parts of its bytes in hex.
fn secrets(lab: &Lab, names: &[&str]) -> Vec<String> {
    let mut secrets = vec!["PRIVATE KEY".to_owned(), "open sesame".to_owned()];
    for name in names {
        let bytes = std::fs::read(lab.file(&format!("{name}.key"))).unwrap();
        match std::str::from_utf8(&bytes) {
            Ok(text) => {
                let lines = text.lines().filter(|line| line.len() > 30 && !line.starts_with('-'));
                secrets.extend(lines.map(str::to_owned));
            }
            // Behind the algorithm; an RSA key begins with its modulus, which is no secret.
            Err(_) if name.starts_with("pkcs1") => secrets.push(hex::encode(&bytes[600..632])),
            Err(_) => secrets.push(hex::encode(&bytes[40..60])),
        }
    }
    secrets
}

/// Imports every one of `keys`; what was said.
fn import_all(lab: &Lab, keys: &[Form]) -> String {
    let mut said = String::new();
    for (name, certificate, has_password) in keys {
        let chain = match name.ends_with("der") {
            true => format!("{}.der", certificate.name),
            false => certificate.crt_text().to_owned(),
        };
        let key = format!("{name}.key");
        let password: &[&str] = if *has_password { &["--key-password-file", "pass"] } else { &[] };
        let arguments = import(name, &chain, &key, password);
        said += &done(lab, &with(&arguments, &FOLDER)).all;
    }
    said
}

/// Without days that are left: one more may be over between two looks.
fn without_days(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            let _days = fields.remove("days_left");
            fields.values_mut().for_each(|field| *field = without_days(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_days(item.take())),
        _ => {}
    }
    value
}

/// Whether a certificate is shown as it is, and its key kept for its owner alone; what was said.
fn check_shown(lab: &Lab, servers: &[Value], (name, certificate, _): &Form) -> String {
    let shown = done(lab, &["show", name, "--json", FOLDER[0], FOLDER[1]]);
    let value = shown.json();
    let is_same = |one: &Value| without_days(one.clone()) == without_days(value.clone());
    assert!(servers.iter().any(is_same), "list and show say the same");
    let (version, of) = (&value["versions"][0], &value["versions"][0]["chain"][0]);
    let wanted = fingerprint(certificate);
    assert_eq!(version["is_active"], true, "{name}: the first one serves");
    assert_eq!(version["version"], wanted[..16], "{name}");
    assert_eq!(of["fingerprint"], wanted, "{name}");
    assert_eq!(of["serial_number"], certificate.serial.to_ascii_lowercase(), "{name}");
    assert_eq!(of["issuer"], "CN=int,O=Portreeve Tests", "{name}");
    let days = of["days_left"].as_i64().unwrap();
    assert!((364..=365).contains(&days), "{name}: {days}");
    let dns = if certificate.name == "gw" { "gw.test" } else { "rsa.test" };
    assert_eq!((&of["subject"], &of["dns_names"][0]), (&format!("CN={dns}").into(), &dns.into()));
    let said = done(lab, &["show", name, FOLDER[0], FOLDER[1]]).all + &shown.all;
    // The same key, for its owner alone, without password.
    let folder = lab.file("certificates/server").join(name).join(&wanted[..16]);
    let key = folder.join("key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    let public = |path: &Path| openssl(&["pkey", "-pubout", "-in", path.to_str().unwrap()], &[]);
    assert_eq!(public(&key), public(&certificate.key), "{name}");
    said
}

/// B27.
#[test]
fn every_kind_of_key_is_imported_and_none_is_ever_shown() {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let keys = keys(lab);
    std::fs::write(lab.file("pass"), "open sesame\n").unwrap();
    let der = [("gw", named("gw").der()), ("rsa", named("rsa").der())];
    der.iter()
        .for_each(|(name, der)| std::fs::write(lab.file(&format!("{name}.der")), der).unwrap());
    let mut said = import_all(lab, &keys);
    let listed = done(lab, &["list", "--json", FOLDER[0], FOLDER[1]]);
    let servers = listed.json()["servers"].as_array().unwrap().clone();
    assert_eq!(servers.len(), keys.len());
    for form in &keys {
        said += &check_shown(lab, &servers, form);
    }
    for folder in ["certificates", "certificates/server", "certificates/server/sec1-der"] {
        let mode = std::fs::metadata(lab.file(folder)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder}");
    }
    said += &listed.all;
    said += &done(lab, &["list", FOLDER[0], FOLDER[1]]).all;
    let secrets = secrets(lab, &keys.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    assert!(secrets.len() > 50, "{}", secrets.len());

    // A gateway serves them, and does not tell either.
    let own: String = keys
        .iter()
        .map(|(name, ..)| {
            format!("[[gateway.tls.certificate]]\nname = {name:?}\nstapling = \"off\"\n")
        })
        .collect();
    let top = "[log]\nlevel = \"debug\"\n[certificates]\ndirectory = \"certificates\"";
    let gateway = gateway.top(top).section("managed", "tls", &own).start();
    assert_eq!(gateway.client("managed").run(), Outcome::Accepted);
    assert_eq!(gateway.client("managed").server_name(Some("rsa.test")).run(), Outcome::Accepted);
    let (status, certificates) = gateway.admin("GET", "/v1/certificates");
    assert_eq!(status, 200);
    let value: Value = serde_json::from_str(&certificates).unwrap();
    let serving = &value["gateways"][0]["certificates"];
    assert_eq!(serving.as_array().unwrap().len(), keys.len(), "{value}");
    assert_eq!(serving[0]["fingerprint"], fingerprint(named("gw")));
    said += &certificates;
    said += &gateway.admin("GET", "/metrics").1;
    said += &done(gateway.lab(), &["list", "--json", CONFIG[0], CONFIG[1]]).all;
    said += &gateway.log();
    for secret in secrets {
        assert!(!said.contains(&secret), "a key was shown: {secret}");
    }
}

/// B27: nothing that would not serve is taken, and why is said.
#[test]
fn what_would_not_serve_is_not_imported() {
    let lab = Lab::new();
    let (gw, other) = (named("gw"), named("dev_ec"));
    std::fs::write(lab.file("garbage"), b"\x30\x82\x01\x00garbage").unwrap();
    std::fs::write(lab.file("text"), "hello\n").unwrap();
    std::fs::write(lab.file("empty"), "").unwrap();
    let damaged = std::fs::read_to_string(&gw.crt).unwrap().replacen("MII", "M!I", 1);
    std::fs::write(lab.file("damaged.crt"), damaged).unwrap();
    let whole = std::fs::read(&gw.crt).unwrap();
    std::fs::write(lab.file("half.crt"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(lab.file("pass"), "wrong\n").unwrap();
    let secret = ["pkcs8", "-topk8", "-in", gw.key_text(), "-passout", "pass:right"];
    private(&lab, "secret.key", &openssl(&secret, &[]));
    std::fs::copy(&gw.key, lab.file("open.key")).unwrap();
    std::fs::set_permissions(lab.file("open.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let unordered = [std::fs::read(&gw.crt).unwrap(), std::fs::read(&other.crt).unwrap()].concat();
    std::fs::write(lab.file("unordered.crt"), unordered).unwrap();
    let (chain, key) = (gw.crt_text(), gw.key_text());
    let expired = named("gw_exp");
    let cases: [(&str, &str, &[&str], &[&str]); 16] = [
        (chain, other.key_text(), &[], &["does not belong"]),
        ("garbage", key, &[], &["garbage", "no certificate"]),
        ("text", key, &[], &["text holds no certificate"]),
        ("empty", key, &[], &["is empty"]),
        ("damaged.crt", key, &[], &["damaged"]),
        ("half.crt", key, &[], &["half.crt", "-----END CERTIFICATE-----"]),
        ("missing.crt", key, &[], &["missing.crt", "No such file"]),
        ("unordered.crt", key, &[], &["certificate 2 of its chain"]),
        (key, key, &[], &["no certificate", "it holds a private key"]),
        (chain, "garbage", &[], &["can be read or changed by others"]),
        (chain, "open.key", &[], &["mode 644", "chmod 600"]),
        (chain, chain, &[], &[]),
        (chain, "secret.key", &[], &["is encrypted", "password"]),
        (chain, "secret.key", &["--key-password-file", "pass"], &["password is wrong"]),
        (chain, "secret.key", &["--key-password-file", "missing"], &["missing"]),
        (expired.crt_text(), expired.key_text(), &[], &["expired"]),
    ];
    for (chain, key, more, words) in cases {
        refused(&lab, &with(&import("gw", chain, key, more), &FOLDER), words);
    }
    for name in ["", "../gw", "a/b", ".hidden", "a b", &"x".repeat(65)] {
        refused(&lab, &with(&import(name, chain, key, &[]), &FOLDER), &["is no name"]);
    }
    refused(
        &lab,
        &["import", "ca", "ca", other.crt_text(), FOLDER[0], FOLDER[1]],
        &["no authority"],
    );
    refused(&lab, &["import", "ca", "ca", "text", FOLDER[0], FOLDER[1]], &["no certificate"]);
    refused(
        &lab,
        &["import", "crl", "crl", chain, FOLDER[0], FOLDER[1]],
        &["no CRL", "a certificate"],
    );
    let delta = "2.5.29.27 = critical,DER:02:01:01";
    let delta = lab.crl_with("delta", named("int"), &[], &["-crldays", "1"], delta);
    let delta = delta.to_str().unwrap();
    refused(&lab, &["import", "crl", "crl", delta, FOLDER[0], FOLDER[1]], &["delta list"]);
    refused(&lab, &["show", "gw", FOLDER[0], FOLDER[1]], &["there is no certificate \"gw\""]);
    refused(&lab, &["activate", "gw", "00", FOLDER[0], FOLDER[1]], &["there is no server \"gw\""]);
    refused(&lab, &["list"], &["--config FILE"]);
    let listed = done(&lab, &with(&["list"], &FOLDER));
    assert!(listed.all.contains("there is nothing yet"), "nothing was left behind: {listed:?}");
    let misunderstood = cert(&lab, &["import", "server", "gw"]);
    assert_eq!(misunderstood.code, Some(2), "{misunderstood:?}");
}

/// The certificate that a section serves.
fn served(gateway: &RunningTls, section: &str) -> Vec<u8> {
    let said = gateway.client(section).inspect();
    let begin = said.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{said}"));
    let end = said[begin..].find("-----END CERTIFICATE-----").unwrap() + begin;
    der::from_pem(&format!("{}-----END CERTIFICATE-----\n", &said[begin..end]))
}

fn serves_within(gateway: &RunningTls, certificate: &Certificate, patience: Duration) {
    let begin = Instant::now();
    let wanted = certificate.der();
    while served(gateway, "managed") != wanted {
        assert!(begin.elapsed() < patience, "{} after {:?}", certificate.name, begin.elapsed());
    }
}

/// B27: versions.
#[test]
fn a_version_is_activated_served_and_not_removed_while_it_serves() {
    let gateway = TlsGateway::new();
    let (first, next) = (named("gw"), named("gw_next"));
    let lab = gateway.lab();
    done(lab, &with(&import("gw", first.crt_text(), first.key_text(), &[]), &FOLDER));
    let own = "[[gateway.tls.certificate]]\nname = \"gw\"\nstapling = \"off\"\n";
    let top = "[certificates]\ndirectory = \"certificates\"";
    let gateway = gateway.top(top).section("managed", "tls", own).start();
    let lab = gateway.lab();
    assert_eq!(served(&gateway, "managed"), first.der());
    let (_, mut open) = gateway.client("managed").open();

    let arguments = import("gw", next.crt_text(), next.key_text(), &[]);
    let said = done(lab, &with(&arguments, &CONFIG));
    assert!(said.all.contains("portreeve cert activate gw"), "{said:?}");
    assert_eq!(served(&gateway, "managed"), first.der(), "it waits to be activated");
    let (old, new) = (&fingerprint(first)[..16], &fingerprint(next)[..16]);
    done(lab, &["activate", "gw", &new[..6], CONFIG[0], CONFIG[1]]);
    serves_within(&gateway, next, SECOND);
    let listed = done(lab, &with(&["list"], &CONFIG));
    let line = listed.stdout.lines().find(|line| line.contains(new)).unwrap();
    assert!(line.contains("active") && line.contains("CN=gw.test"), "{listed:?}");

    // Back, by hand of the files alone: nobody told the gateway.
    done(lab, &["activate", "gw", old, FOLDER[0], FOLDER[1]]);
    serves_within(&gateway, first, UNTOLD);
    refused(
        lab,
        &["activate", "gw", "zz", CONFIG[0], CONFIG[1]],
        &["not one of its versions", old],
    );
    refused(lab, &["activate", "gw", "", CONFIG[0], CONFIG[1]], &["not one of its versions"]);

    refused(lab, &["remove", "server", "gw", old, CONFIG[0], CONFIG[1]], &["serves", "activate"]);
    refused(lab, &["remove", "server", "gw", CONFIG[0], CONFIG[1]], &["named by gateway managed"]);
    refused(lab, &["remove", "server", "gw", FOLDER[0], FOLDER[1]], &["--config FILE", "--force"]);
    refused(lab, &["remove", "server", "gw", "00", CONFIG[0], CONFIG[1]], &["00"]);
    refused(lab, &["remove", "server", "none", CONFIG[0], CONFIG[1]], &["none"]);
    done(lab, &["remove", "server", "gw", &new[..8], CONFIG[0], CONFIG[1]]);
    let shown = done(lab, &["show", "gw", "--json", FOLDER[0], FOLDER[1]]).json();
    assert_eq!(shown["versions"].as_array().unwrap().len(), 1, "{shown}");

    // A version whose file was damaged is not activated.
    done(lab, &with(&arguments, &CONFIG));
    private(lab, &format!("certificates/server/gw/{new}/key.pem"), b"garbage");
    refused(lab, &["activate", "gw", new, CONFIG[0], CONFIG[1]], &["key.pem"]);
    assert_eq!(served(&gateway, "managed"), first.der());
    assert!(open.pings(), "whoever was connected stays");

    // One that no gateway names.
    done(lab, &with(&import("spare", next.crt_text(), next.key_text(), &[]), &CONFIG));
    done(lab, &["remove", "server", "spare", CONFIG[0], CONFIG[1]]);
    done(lab, &with(&import("spare", next.crt_text(), next.key_text(), &[]), &FOLDER));
    done(lab, &["remove", "server", "spare", "--force", FOLDER[0], FOLDER[1]]);
    let listed = done(lab, &with(&["list"], &CONFIG));
    assert!(!listed.all.contains("spare") && !listed.all.contains("REFUSED"), "{listed:?}");
}

/// Files that were changed by other hands and cannot be used are shown, and the old ones serve.
#[test]
fn the_list_says_what_a_running_gateway_does_not_take() {
    let gateway = TlsGateway::new().server_only("files").start();
    gateway.put("gw.key", std::fs::read(&named("gw_next").key).unwrap());
    wait_until("it is refused", UNTOLD, || gateway.metric("reloads_refused_total", &[]) > 0.0);
    let listed = done(gateway.lab(), &with(&["list"], &CONFIG));
    let line = listed.stdout.lines().find(|line| line.starts_with("REFUSED")).unwrap();
    assert!(line.contains("gw.pem") && line.contains("does not belong"), "{line}");
    assert_eq!(gateway.client("files").run(), Outcome::Accepted);
    gateway.put_identity("gw", named("gw_next"));
    wait_until("it is taken", UNTOLD, || {
        !done(gateway.lab(), &with(&["list"], &CONFIG)).stdout.contains("REFUSED")
    });
}

/// The three ways to name a certificate.
fn ways(device: &Certificate) -> [Vec<String>; 3] {
    let text = fingerprint(device);
    let pairs: Vec<&str> = (0..32).map(|index| &text[2 * index..2 * index + 2]).collect();
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [
        owned(&["--certificate", device.crt_text()]),
        // As OpenSSL prints it.
        owned(&["--fingerprint", &pairs.join(":").to_ascii_uppercase()]),
        owned(&["--issuer", named("int").crt_text(), "--serial", &device.serial]),
    ]
}

#[test]
fn a_certificate_that_is_denied_is_thrown_out_and_let_in_again() {
    let gateway = TlsGateway::new().mutual("mutual", "").start();
    let (device, lab) = (named("dev_b"), gateway.lab());
    for (way, tls) in ways(device).iter().zip(BOTH.iter().cycle()) {
        let way: Vec<&str> = way.iter().map(String::as_str).collect();
        let client = gateway.client("mutual").with(tls).device(device).client_id("denied");
        let (outcome, mut open) = client.open();
        assert_eq!(outcome, Outcome::Accepted, "{way:?}");
        let other = gateway.client("mutual").with(tls).device(named("dev_ec")).client_id("other");
        let (_, mut other) = other.open();
        let begin = Instant::now();
        let revoke = [&["revoke"], &way[..], &["--reason", "lost"], &CONFIG].concat();
        let said = done(lab, &revoke);
        assert!(said.all.contains("not let in any more"), "{said:?}");
        let last = open.ended(SECOND).expect("it is ended");
        assert!(last.starts_with("e0") && last.contains("87"), "{way:?}: {last}");
        assert!(begin.elapsed() < 2 * SECOND, "{:?}", begin.elapsed());
        let refused = gateway.client("mutual").with(tls).device(device).slowly();
        assert_eq!(refused.run(), Outcome::Alert(44), "{way:?}");
        assert!(other.pings(), "nobody else is meant");
        let listed = done(lab, &with(&["list", "--json"], &CONFIG)).json();
        assert_eq!(listed["denied"][0]["reason"], "lost", "{listed}");
        assert_eq!(listed["serving"]["gateways"][0]["denied"], 1, "{listed}");
        let again = done(lab, &revoke);
        assert!(again.all.contains("was not let in already"), "{again:?}");

        let unrevoke = [&["unrevoke"], &way[..], &CONFIG].concat();
        done(lab, &unrevoke);
        assert_eq!(client.run(), Outcome::Accepted, "{way:?}");
        assert!(done(lab, &unrevoke).all.contains("was not on the list"));
    }
    assert!(gateway.metric("sessions_ended_total", &[]) >= 3.0);
    assert!(gateway.metric("handshakes_total", &["result=\"revoked\""]) >= 3.0);
    for (way, words) in [
        (&["--fingerprint", "12"][..], "fingerprint"),
        (&["--fingerprint", "no hex"], "fingerprint"),
        (&[], "which certificate?"),
        (&["--certificate", "gateway.toml"], "no certificate"),
    ] {
        refused(lab, &[&["revoke"], way, &CONFIG].concat(), &[words]);
    }
    assert_eq!(gateway.client("mutual").device(device).run(), Outcome::Accepted);
}

/// A list that cannot be read keeps the one before it.
#[test]
fn a_damaged_list_of_the_denied_does_not_let_anybody_in() {
    let gateway = TlsGateway::new().mutual("mutual", "").start();
    let device = named("dev_b");
    done(gateway.lab(), &["revoke", "--certificate", device.crt_text(), CONFIG[0], CONFIG[1]]);
    for (bytes, words) in [("[{", "denied.json"), ("[{\"fingerprint\":\"12\"}]", "neither")] {
        let folder = gateway.lab().file("data/certificates");
        put(&folder, "denied.json", bytes);
        let (is_content, said) = gateway.reload();
        assert!(!is_content && said.contains(words), "{said}");
        let refused = gateway.client("mutual").device(device).slowly();
        assert_eq!(refused.run(), Outcome::Alert(44), "{bytes}");
        assert_eq!(gateway.client("mutual").device(named("dev_ec")).run(), Outcome::Accepted);
    }
}

#[test]
fn authorities_and_crls_are_named() {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let _list = lab.crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    let place = ["--data", "data"];
    let (root, int) = (named("root"), named("int"));
    done(lab, &with(&["import", "ca", "devices", root.crt_text()], &place));
    done(lab, &with(&["import", "ca", "more", int.crt_text()], &place));
    done(lab, &with(&["import", "crl", "devices", "int.crl"], &place));
    let tls = format!(
        "{OWN}[gateway.tls.client]\ntrust_anchors = [\"name:devices\", \"name:more\"]\n\
         [gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"name:devices\"]\n"
    );
    let gateway = gateway.section("mutual", "tls", &tls).start();
    let lab = gateway.lab();
    let run = |name: &str, tls: &str| {
        gateway.client("mutual").with(tls).device(named(name)).slowly().run()
    };
    for tls in BOTH {
        assert_eq!(run("dev_ec", tls), Outcome::Accepted, "{tls}");
        assert_eq!(run("dev_rev", tls), Outcome::Alert(44), "{tls}");
    }
    let listed = done(lab, &with(&["list"], &CONFIG));
    for line in ["ca      devices", "ca      more", "crl     devices"] {
        assert!(listed.stdout.lines().any(|one| one.starts_with(line)), "{listed:?}");
    }
    let shown = done(lab, &with(&["show", "devices", "--json"], &CONFIG)).json();
    assert_eq!(shown["certificates"][0]["fingerprint"], fingerprint(root));

    // Another list, under the same name: whoever is on it goes.
    let (_, mut open) = gateway.client("mutual").device(named("dev_b")).client_id("b").open();
    let serials = [&*named("dev_rev").serial, &*named("dev_b").serial];
    let _list = lab.crl("int.crl", named("int"), &serials);
    done(lab, &with(&["import", "crl", "devices", "int.crl"], &CONFIG));
    let last = open.ended(SECOND).expect("it is ended");
    assert!(last.starts_with("e0") && last.contains("87"), "{last}");
    assert_eq!(run("dev_b", BOTH[1]), Outcome::Alert(44));

    // One that is not its authority's: the gateway says so and goes on.
    let _list = lab.crl("evil.crl", named("intevil"), &[]);
    let import = with(&["import", "crl", "devices", "evil.crl"], &CONFIG);
    refused(lab, &import, &["goes on with what it had"]);
    assert_eq!(run("dev_b", BOTH[1]), Outcome::Alert(44));
    assert_eq!(run("dev_ec", BOTH[1]), Outcome::Accepted);
    done(lab, &with(&["import", "crl", "devices", "int.crl"], &CONFIG));

    for kind in ["ca", "crl"] {
        refused(
            lab,
            &["remove", kind, "devices", CONFIG[0], CONFIG[1]],
            &["named by gateway mutual"],
        );
    }
    done(lab, &["import", "ca", "spare", named("root2").crt_text(), CONFIG[0], CONFIG[1]]);
    done(lab, &["remove", "ca", "spare", CONFIG[0], CONFIG[1]]);
    refused(lab, &["remove", "ca", "spare", CONFIG[0], CONFIG[1]], &["there is no ca \"spare\""]);
}
