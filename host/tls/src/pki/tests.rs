//! What the authority makes is judged by OpenSSL.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::material;

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What OpenSSL says, and whether it was content.
    fn openssl(&self, arguments: &str) -> (bool, String) {
        let mut command = Command::new("openssl");
        let output = command.current_dir(&self.folder).args(arguments.split(' ')).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn accepts(&self, arguments: &str) -> String {
        let (is_content, said) = self.openssl(arguments);
        assert!(is_content, "openssl {arguments}\n{said}");
        said
    }

    fn verifies(&self, purpose: &str, certificate: &str) {
        self.accepts(&format!("{} -purpose {purpose} {certificate}", verify()));
    }
}

/// As strict as OpenSSL can be, with CRLs of the whole chain.
fn verify() -> &'static str {
    "verify -x509_strict -check_ss_sig -crl_check_all -CRLfile int.crl -CRLfile root.crl -CAfile root.crt -untrusted int.crt"
}

fn settings() -> AuthoritySettings {
    AuthoritySettings {
        name: "Example".to_owned(),
        url: "http://127.0.0.1:8889".to_owned(),
        root_days: 3_650,
        intermediate_days: 1_825,
    }
}

fn authority() -> (Folder, Pki) {
    let folder = Folder { folder: tempfile::tempdir().unwrap() };
    let pki = Pki::init(folder.folder.path(), &settings(), crate::now()).unwrap();
    (folder, pki)
}

fn server(name: &str) -> Request {
    let names = vec![
        AlternativeName::Dns("localhost".to_owned()),
        AlternativeName::Dns("*.example.com".to_owned()),
        AlternativeName::Ip("127.0.0.1".parse().unwrap()),
        AlternativeName::Ip("::1".parse().unwrap()),
    ];
    Request {
        name: name.to_owned(),
        kind: Kind::Server,
        names,
        days: 90,
        key: KeyKind::P256,
        must_staple: false,
    }
}

fn device(name: &str) -> Request {
    let names = vec![
        AlternativeName::Uri(format!("urn:example:{name}")),
        AlternativeName::Email(format!("{name}@example.com")),
    ];
    Request { kind: Kind::Device, names, days: 365, ..server(name) }
}

#[test]
fn everything_passes_strict_verification_with_crls() {
    let (folder, mut pki) = authority();
    for (key, name) in
        [(KeyKind::P256, "p256"), (KeyKind::Rsa, "rsa"), (KeyKind::Ed25519, "ed25519")]
    {
        let now = crate::now();
        let issued = pki.issue(&Request { key, ..server(&format!("server-{name}")) }, now).unwrap();
        assert_eq!(issued.names, ["localhost", "*.example.com", "127.0.0.1", "::1"]);
        folder.verifies("sslserver", &format!("issued/server-{name}.crt"));
        pki.issue(&Request { key, ..device(&format!("device-{name}")) }, now).unwrap();
        folder.verifies("sslclient", &format!("issued/device-{name}.crt"));
        folder.accepts(&format!("pkey -in issued/device-{name}.key -check -noout"));
        let (is_content, _) =
            folder.openssl(&format!("{} -purpose sslserver issued/device-{name}.crt", verify()));
        assert!(!is_content, "a device is no server");
    }
    folder.verifies("any", "int.crt");
    folder.verifies("ocsphelper", "ocsp.crt");
    folder.verifies("ocsphelper", "root-ocsp.crt");
    folder.accepts("verify -x509_strict -CAfile root.crt root.crt");
    let text = folder.accepts("x509 -in issued/server-p256.crt -noout -text");
    for part in [
        "OCSP - URI:http://127.0.0.1:8889/ocsp",
        "CA Issuers - URI:http://127.0.0.1:8889/int.crt",
        "URI:http://127.0.0.1:8889/int.crl",
        "Subject: O = Example, CN = server-p256",
        "X509v3 Basic Constraints: critical",
        "X509v3 Key Usage: critical",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("TLS Feature"));
}

#[test]
fn what_is_made_is_read_by_the_gateway() {
    let (folder, mut pki) = authority();
    let request = Request { must_staple: true, ..server("gateway") };
    let issued = pki.issue(&request, crate::now()).unwrap();
    let chain = material::read_certificates(&issued.chain).unwrap();
    let [certificate, intermediate] = chain.as_slice() else { panic!("{chain:?}") };
    assert!(certificate.must_staple && !certificate.is_authority);
    assert!(intermediate.is_authority && intermediate.may_sign_crls);
    assert_eq!(certificate.serial_hex(), issued.entry.serial);
    assert_eq!(certificate.ocsp_urls, ["http://127.0.0.1:8889/ocsp"]);
    assert_eq!(certificate.crl_urls, ["http://127.0.0.1:8889/int.crl"]);
    assert_eq!(intermediate.crl_urls, ["http://127.0.0.1:8889/root.crl"]);
    let key = material::read_key(&issued.key, None).unwrap();
    let provider = crate::generation::provider();
    crate::identity::Identity::new("gateway", chain, key, &provider).unwrap();
    for name in ["root.key", "int.key", "ocsp.key", "root-ocsp.key", "issued/gateway.key"] {
        let mode = folder.path(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn serial_numbers_are_random_positive_and_of_16_bytes() {
    let serials: Vec<[u8; 16]> = (0..100).map(|_| random_serial().unwrap()).collect();
    assert!(serials.iter().all(|serial| (0x40..0x80).contains(&serial[0])));
    let different: std::collections::BTreeSet<_> = serials.iter().collect();
    assert_eq!(different.len(), 100);
}

#[test]
fn what_is_revoked_is_in_the_crl_until_a_hold_ends() {
    let (folder, mut pki) = authority();
    let now = crate::now();
    for name in ["one", "two"] {
        pki.issue(&device(name), now).unwrap();
    }
    let serial = pki.revoke("one", RevocationReason::KeyCompromise, now).unwrap().serial;
    assert!(matches!(
        pki.revoke("one", RevocationReason::Unspecified, now),
        Err(PkiError::Revoked(_))
    ));
    assert!(matches!(pki.unhold("one", now), Err(PkiError::NotHeld(_))));
    pki.revoke("two", RevocationReason::CertificateHold, now).unwrap();
    let text = folder.accepts("crl -in int.crl -noout -text");
    for part in ["Key Compromise", "Certificate Hold", &serial.to_uppercase()] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for name in ["one", "two"] {
        let (is_content, said) =
            folder.openssl(&format!("{} -purpose sslclient issued/{name}.crt", verify()));
        assert!(!is_content && said.contains("certificate revoked"), "{said}");
    }
    pki.unhold("two", now).unwrap();
    folder.verifies("sslclient", "issued/two.crt");
    assert!(folder.accepts("crl -in int.crl -noout -text").contains("CRL Number"));
    // By serial number as OpenSSL prints it.
    let serial = pki.entries().iter().find(|entry| entry.name == "two").unwrap().serial.clone();
    pki.revoke(&serial.to_uppercase(), RevocationReason::Superseded, now).unwrap();
    // A hold can become final.
    pki.issue(&device("three"), now).unwrap();
    pki.revoke("three", RevocationReason::CertificateHold, now).unwrap();
    pki.revoke("three", RevocationReason::KeyCompromise, now).unwrap();
    assert!(matches!(pki.unhold("three", now), Err(PkiError::NotHeld(_))));
    // The intermediate is in the CRL of the root.
    pki.revoke("int", RevocationReason::CaCompromise, now).unwrap();
    assert!(folder.accepts("crl -in root.crl -noout -text").contains("CA Compromise"));
    assert!(matches!(pki.revoke("root", RevocationReason::Unspecified, now), Err(PkiError::Root)));
    assert!(matches!(
        pki.revoke("nobody", RevocationReason::Unspecified, now),
        Err(PkiError::Unknown(_))
    ));
}

#[test]
fn crls_count_up_and_the_gateway_reads_them() {
    let (folder, mut pki) = authority();
    let number = |folder: &Folder| folder.accepts("crl -in int.crl -noout -crlnumber");
    assert_eq!(number(&folder).trim(), "crlNumber=0x01");
    pki.write_crls(30, crate::now()).unwrap();
    assert_eq!(number(&folder).trim(), "crlNumber=0x02");
    let path = folder.path("int.crl");
    let bytes = material::read_file(&path, 1 << 20).unwrap();
    assert_eq!(material::crls(&path, &bytes).unwrap().len(), 1);
    assert!(matches!(pki.write_crls(0, crate::now()), Err(PkiError::DayCount(0))));
}

#[test]
fn nothing_is_overwritten() {
    let (folder, mut pki) = authority();
    pki.issue(&device("one"), crate::now()).unwrap();
    let before = fs::read(folder.path("issued/one.key")).unwrap();
    assert!(matches!(pki.issue(&device("one"), crate::now()), Err(PkiError::Present(..))));
    assert_eq!(fs::read(folder.path("issued/one.key")).unwrap(), before);
    drop(pki);
    let root = fs::read(folder.path("root.crt")).unwrap();
    let again = Pki::init(folder.folder.path(), &settings(), crate::now());
    assert!(matches!(again, Err(PkiError::Present(..))), "{again:?}");
    assert_eq!(fs::read(folder.path("root.crt")).unwrap(), root);
    // What is in the way of one file keeps all of them from being written.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("trust.crt"), "somebody's").unwrap();
    assert!(Pki::init(other.path(), &settings(), crate::now()).is_err());
    assert!(!other.path().join("root.key").exists());
    assert_eq!(fs::read(other.path().join("trust.crt")).unwrap(), b"somebody's");
}

#[test]
fn names_that_could_be_anything_else_are_refused() {
    let (_folder, mut pki) = authority();
    let now = crate::now();
    let long = "x".repeat(65);
    for name in ["", ".", "..", "a/b", "-a", "a b", "ä", "root", "ocsp", "int", long.as_str()] {
        let refused = pki.issue(&device(name), now);
        assert!(matches!(refused, Err(PkiError::Name(_))), "{name}: {refused:?}");
    }
    for name in [
        AlternativeName::Dns("a_b c".to_owned()),
        AlternativeName::Dns(String::new()),
        AlternativeName::Dns("*.*.example.com".to_owned()),
        AlternativeName::Uri("no uri".to_owned()),
        AlternativeName::Uri("nothing".to_owned()),
        AlternativeName::Email("nobody".to_owned()),
        AlternativeName::Email("a@b\0c".to_owned()),
        AlternativeName::Email("a\r\n@example.com".to_owned()),
    ] {
        let request = Request { names: vec![name], ..device("one") };
        let refused = pki.issue(&request, now);
        assert!(matches!(refused, Err(PkiError::AlternativeName(..))), "{refused:?}");
    }
    for url in ["https://a:1", "http://a:1/b", "http://u@a:1", "http://a?b", "a:1", "", "http://"] {
        assert!(url_of(url).is_err(), "{url}");
    }
    assert_eq!(url_of("http://pki.example.com:80/").unwrap(), "http://pki.example.com");
}

#[test]
fn nothing_outlives_its_issuer() {
    let (folder, mut pki) = authority();
    let request = Request { days: 1_826, ..device("one") };
    let error = pki.issue(&request, crate::now()).unwrap_err();
    let said = "1826 days are too long: CN=Example development intermediate,O=Example ends in 1825";
    assert!(error.to_string().starts_with(said), "{error}");
    assert!(!folder.path("issued/one.key").exists());
    assert!(matches!(
        pki.issue(&Request { days: 0, ..device("one") }, crate::now()),
        Err(PkiError::DayCount(0))
    ));
}

#[test]
fn one_command_at_a_time_works_in_a_directory() {
    let (folder, pki) = authority();
    let directory = folder.folder.path().to_owned();
    let (done, is_done) = std::sync::mpsc::sync_channel(1);
    let other = std::thread::spawn(move || {
        let mut pki = Pki::open(&directory).unwrap();
        done.send(()).unwrap();
        pki.issue(&device("late"), crate::now()).unwrap();
    });
    assert!(is_done.recv_timeout(Duration::from_millis(300)).is_err());
    drop(pki);
    other.join().unwrap();
    let pki = Pki::open(folder.folder.path()).unwrap();
    assert!(pki.entries().iter().any(|entry| entry.name == "late"));
}

#[test]
fn several_certificates_of_a_name_are_told_apart_by_serial_number() {
    let (folder, mut pki) = authority();
    let now = crate::now();
    let first = pki.issue(&device("one"), now).unwrap();
    for path in [&first.certificate, &first.key, &first.chain] {
        fs::remove_file(path).unwrap();
    }
    pki.issue(&device("one"), now).unwrap();
    let error = pki.revoke("one", RevocationReason::Superseded, now).unwrap_err().to_string();
    assert!(error.contains(&first.entry.serial), "{error}");
    pki.revoke(&first.entry.serial, RevocationReason::Superseded, now).unwrap();
    folder.verifies("sslclient", "issued/one.crt");
}

/// The response to `openssl ocsp … -reqout`, as `openssl ocsp -respin` reads it. Without nonce: the
/// second command would send another one than the first.
fn ocsp(folder: &Folder, responder: &Responder, request: &str) -> (Answer, String) {
    let request = format!("-no_nonce {request}");
    folder.accepts(&format!("ocsp {request} -reqout request"));
    let answer = responder.answer(&fs::read(folder.path("request")).unwrap(), crate::now());
    fs::write(folder.path("response"), &answer.der).unwrap();
    let said = folder.openssl(&format!("ocsp {request} -respin response -CAfile root.crt")).1;
    (answer, said)
}

#[test]
fn ocsp_responses_are_verified_by_openssl() {
    let (folder, mut pki) = authority();
    let now = crate::now();
    pki.issue(&device("one"), now).unwrap();
    let responder = Responder::open(folder.folder.path(), Duration::from_secs(3_600)).unwrap();
    let of = |what: &str| format!("-issuer int.crt {what}");
    for hash in ["-sha1", "-sha256", "-sha384", "-sha512"] {
        let asked = format!("{hash} -issuer int.crt -cert issued/one.crt");
        let (answer, said) = ocsp(&folder, &responder, &asked);
        assert!(said.contains("Response verify OK") && said.contains("good"), "{said}");
        assert_eq!(answer.said[0].1, Answered::Good);
    }
    let (_, said) = ocsp(&folder, &responder, &of("-serial 0x1234 -cert issued/one.crt"));
    assert!(said.contains("0x1234: unknown") && said.contains("issued/one.crt: good"), "{said}");
    // What is revoked meanwhile is seen without a restart.
    pki.revoke("one", RevocationReason::KeyCompromise, now).unwrap();
    let (_, said) = ocsp(&folder, &responder, &of("-cert issued/one.crt"));
    for part in ["Response verify OK", "issued/one.crt: revoked", "Reason: keyCompromise"] {
        assert!(said.contains(part), "{said}");
    }
    // The root answers for the intermediate, by its own delegate.
    let (_, said) = ocsp(&folder, &responder, "-issuer root.crt -cert int.crt");
    assert!(said.contains("Response verify OK") && said.contains("int.crt: good"), "{said}");
    pki.revoke("int", RevocationReason::Unspecified, now).unwrap();
    let (_, said) = ocsp(&folder, &responder, "-issuer root.crt -cert int.crt");
    assert!(said.contains("int.crt: revoked") && !said.contains("Reason"), "{said}");
}

#[test]
fn other_issuers_are_unauthorized_and_rubbish_is_malformed() {
    let (folder, _pki) = authority();
    let responder = Responder::open(folder.folder.path(), Duration::from_secs(60)).unwrap();
    let (other, mut theirs) = authority();
    let issued = theirs.issue(&device("one"), crate::now()).unwrap();
    fs::copy(&issued.certificate, folder.path("their.crt")).unwrap();
    fs::copy(other.path("int.crt"), folder.path("their-int.crt")).unwrap();
    let (answer, said) = ocsp(&folder, &responder, "-issuer their-int.crt -cert their.crt");
    assert_eq!(answer.fault, Some("unauthorized"));
    assert!(said.contains("unauthorized (6)"), "{said}");
    let request = fs::read(folder.path("request")).unwrap();
    let cut = &request[..request.len() - 1];
    for rubbish in
        [&b""[..], b"rubbish", cut, &[request.as_slice(), b"x"].concat(), &[0x30; 20_000]]
    {
        let answer = responder.answer(rubbish, crate::now());
        assert_eq!(answer.fault, Some("malformedRequest"));
        assert_eq!(answer.der, [0x30, 3, 0x0a, 1, 1]);
    }
    for index in 0..request.len() * 8 {
        let mut flipped = request.clone();
        flipped[index / 8] ^= 1 << (index % 8);
        assert!(!responder.answer(&flipped, crate::now()).der.is_empty());
    }
}

#[test]
fn ocsp_responses_are_accepted_by_the_gateway() {
    use crate::ocsp::{CertificateIdHash, CheckedStatus, Question, Rules, check};

    let (folder, mut pki) = authority();
    let now = crate::now();
    let issued = pki.issue(&device("one"), now).unwrap();
    let responder = Responder::open(folder.folder.path(), Duration::from_secs(60)).unwrap();
    let chain = material::read_certificates(&issued.chain).unwrap();
    let [certificate, issuer] = chain.as_slice() else { panic!("{chain:?}") };
    let rules = Rules {
        is_nonce_required: true,
        accept_delegate_without_nocheck: false,
        ..Rules::default()
    };
    let ask = || {
        let hash = CertificateIdHash::Sha1;
        let request = crate::ocsp::Request::new(issuer, certificate, hash, true).unwrap();
        let answer = responder.answer(request.der(), now);
        let question = Question { issuer, serial: &certificate.serial, nonce: request.nonce() };
        check(&answer.der, &question, now, &rules).unwrap()
    };
    let good = ask();
    assert_eq!((good.status, good.next_update), (CheckedStatus::Good, Some(now + 60)));
    pki.revoke("one", RevocationReason::KeyCompromise, now).unwrap();
    let revoked = Revoked { since: now, reason: RevocationReason::KeyCompromise };
    assert_eq!(ask().status, CheckedStatus::Revoked(revoked));
}
