//! CRLs: what they refuse, when they are refused themselves, and what the large ones cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portreeve_tests::binary::free_address;
use portreeve_tests::load::{cpu_time, resident_bytes};
use portreeve_tests::openssl::{BOTH, Outcome};
use portreeve_tests::pki::{Certificate, Lab, named};
use portreeve_tests::tls_gateway::{RunningTls, TlsGateway, wait_until};

/// Entries of the large list.
const ENTRIES: u32 = 100_000;
/// A fetched list is cut beyond it.
const FETCHED_BYTES_MAX: usize = 10 << 20;

fn files(mode: &str, files: &[&str]) -> String {
    format!("[gateway.tls.client.crl]\nmode = {mode:?}\nfiles = {files:?}\n")
}

fn run(gateway: &RunningTls, section: &str, tls: &str, device: &Certificate) -> Outcome {
    gateway.client(section).with(tls).device(device).slowly().run()
}

/// Lists of `int` (with `dev_rev`) and of `root`.
fn lists(lab: &Lab) {
    let _int = lab.crl("int.crl", named("int"), &[&named("dev_rev").serial]);
    let _root = lab.crl("root.crl", named("root"), &[]);
}

/// B23 and N37.
#[test]
fn a_list_refuses_what_it_names_in_the_handshake() {
    let gateway = TlsGateway::new();
    lists(gateway.lab());
    let chain = "[gateway.tls.client.revocation]\ndepth = \"chain\"\n";
    let gateway = gateway
        .mutual("both", &files("hard", &["int.crl", "root.crl"]))
        .mutual("chain", &format!("{chain}{}", files("hard", &["int.crl", "root.crl"])))
        .mutual("one", &files("hard", &["int.crl"]))
        .start();
    for section in ["both", "chain", "one"] {
        for tls in BOTH {
            let outcome = run(&gateway, section, tls, named("dev_ec"));
            assert_eq!(outcome, Outcome::Accepted, "B23, N37 {section} {tls}");
            let outcome = run(&gateway, section, tls, named("dev_rev"));
            assert_eq!(outcome, Outcome::Alert(44), "B23 {section} {tls}");
        }
    }
}

/// N37: a chain is to be checked and there is a list for the end of it only.
#[test]
fn a_list_that_is_missing_for_the_chain_is_told_at_the_start() {
    let gateway = TlsGateway::new();
    lists(gateway.lab());
    let chain = "[gateway.tls.client.revocation]\ndepth = \"chain\"\n";
    let toml = format!("{chain}{}", files("hard", &["int.crl"]));
    let said = match gateway.mutual("chain", &toml).try_start() {
        Ok(gateway) => gateway.log(),
        Err(said) => said,
    };
    let is_told = said.lines().any(|line| line.contains("CRL") && !line.contains("INFO"));
    assert!(is_told, "N37: {said}");
}

/// B24.
#[test]
fn a_list_decides_where_the_responder_is_down() {
    let gateway = TlsGateway::new();
    lists(gateway.lab());
    let ocsp = format!(
        "[gateway.tls.client.ocsp]\nmode = \"hard\"\nresponder = \"http://{}/\"\n",
        free_address()
    );
    let gateway = gateway.mutual("both", &format!("{ocsp}{}", files("hard", &["int.crl"]))).start();
    for tls in BOTH {
        assert_eq!(run(&gateway, "both", tls, named("dev_ec")), Outcome::Accepted, "B24 {tls}");
        assert!(run(&gateway, "both", tls, named("dev_rev")).is_refusal(), "B24 {tls}");
    }
}

/// Ways in which a list may be bad: name and bytes.
fn bad_lists(lab: &Lab) -> Vec<(&'static str, Vec<u8>)> {
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
    let none: &[&str] = &[];
    let good = read(lab.crl("whole", named("int"), none));
    let der = portreeve_tests::der::from_pem(std::str::from_utf8(&good).unwrap());
    let mut flipped = der.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let days = ["-crldays", "1"];
    let delta = "2.5.29.27 = critical,DER:02:01:01";
    let unknown = "1.3.6.1.4.1.55555.1 = critical,DER:05:00";
    vec![
        ("bad signature", flipped),
        ("look-alike issuer", read(lab.crl("evil", named("intevil"), none))),
        ("delta", read(lab.crl_with("delta", named("int"), none, &days, delta))),
        (
            "unknown critical extension",
            read(lab.crl_with("odd", named("int"), none, &days, unknown)),
        ),
        ("truncated", der[..der.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("garbage", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_vec()),
    ]
}

/// N38: none of them lets a revoked device in again, and the last good one is kept.
#[test]
fn a_bad_list_does_not_replace_a_good_one() {
    let gateway = TlsGateway::new();
    lists(gateway.lab());
    let bad = bad_lists(gateway.lab());
    let gateway = gateway.mutual("hard", &files("hard", &["int.crl"])).start();
    let good = std::fs::read(gateway.lab().file("int.crl")).unwrap();
    for (what, bytes) in bad {
        gateway.put("int.crl", bytes);
        let (is_content, said) = gateway.reload();
        assert!(!is_content, "N38 {what}: {said}");
        for tls in BOTH {
            let outcome = run(&gateway, "hard", tls, named("dev_rev"));
            assert_eq!(outcome, Outcome::Alert(44), "N38 {what} {tls}");
            let outcome = run(&gateway, "hard", tls, named("dev_ec"));
            assert_eq!(outcome, Outcome::Accepted, "N38 {what} {tls}");
        }
    }
    gateway.put("int.crl", good);
    assert!(gateway.reload().0, "N38");
}

/// Every bit of a good list flipped is as good as none: some of them, each as a list of its own.
#[test]
fn a_list_with_one_bit_flipped_is_refused() {
    let gateway = TlsGateway::new();
    lists(gateway.lab());
    let gateway = gateway.mutual("hard", &files("hard", &["int.crl"])).start();
    let pem = std::fs::read_to_string(gateway.lab().file("int.crl")).unwrap();
    let der = portreeve_tests::der::from_pem(&pem);
    for place in (0..der.len()).step_by(7) {
        let mut flipped = der.clone();
        flipped[place] ^= 1 << (place % 8);
        gateway.put("int.crl", flipped);
        let (is_content, said) = gateway.reload();
        assert!(!is_content, "N38, byte {place}: {said}");
    }
    let outcome = run(&gateway, "hard", "-tls1_3", named("dev_rev"));
    assert_eq!(outcome, Outcome::Alert(44), "N38");
}

/// N38: an expired list.
#[test]
fn an_expired_list_says_no_more_what_is_good_and_still_what_is_revoked() {
    let gateway = TlsGateway::new();
    let old = ["-crl_lastupdate", "20240101000000Z", "-crl_nextupdate", "20240102000000Z"];
    let revoked = named("dev_rev").serial.clone();
    let _crl = gateway.lab().crl_with("old.crl", named("int"), &[&revoked], &old, "");
    let gateway = gateway
        .mutual("hard", &files("hard", &["old.crl"]))
        .mutual("soft", &files("soft", &["old.crl"]))
        .start();
    for tls in BOTH {
        assert!(run(&gateway, "hard", tls, named("dev_ec")).is_refusal(), "N38 {tls}");
        assert_eq!(run(&gateway, "soft", tls, named("dev_ec")), Outcome::Accepted, "N38 {tls}");
        for section in ["hard", "soft"] {
            assert!(
                run(&gateway, section, tls, named("dev_rev")).is_refusal(),
                "N38 {section} {tls}"
            );
        }
    }
}

/// A web server that answers with a status and these bytes, which can be changed.
fn served(answer: &Arc<Mutex<(&'static str, Vec<u8>)>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::clone(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _read = stream.read(&mut request);
            let (status, body) = answer.lock().unwrap().clone();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _cut = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

/// N38: fetched lists.
#[test]
fn a_fetched_list_is_kept_when_the_next_fetch_fails() {
    let gateway = TlsGateway::new();
    lists(gateway.lab());
    let list = std::fs::read(gateway.lab().file("int.crl")).unwrap();
    let answer = Arc::new(Mutex::new(("200 OK", list)));
    let address = served(&answer);
    let toml = format!(
        "[gateway.tls.client.crl]\nmode = \"hard\"\nurls = [\"http://{address}/int.crl\"]\nrefresh = \"1s\"\n"
    );
    let gateway = gateway.mutual("hard", &toml).start();
    let begin = Instant::now();
    while run(&gateway, "hard", "-tls1_3", named("dev_rev")) != Outcome::Alert(44) {
        assert!(begin.elapsed() < Duration::from_secs(10), "it is fetched");
    }
    let before = resident_bytes(gateway.process.pid());
    for (what, next) in [
        ("404", ("404 Not Found", Vec::new())),
        ("html", ("200 OK", b"<html></html>".to_vec())),
        ("too long", ("200 OK", vec![0x30; FETCHED_BYTES_MAX + 1])),
    ] {
        *answer.lock().unwrap() = next;
        std::thread::sleep(Duration::from_millis(1500));
        for tls in BOTH {
            assert_eq!(
                run(&gateway, "hard", tls, named("dev_rev")),
                Outcome::Alert(44),
                "N38 {what}"
            );
            assert_eq!(
                run(&gateway, "hard", tls, named("dev_ec")),
                Outcome::Accepted,
                "N38 {what}"
            );
        }
    }
    let grown = resident_bytes(gateway.process.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "N38: {grown} bytes");
}

/// N39.
#[test]
fn a_list_of_100_000_costs_little_and_is_read_without_a_stall() {
    let gateway = TlsGateway::new();
    let serials: Vec<String> =
        (0..ENTRIES).map(|number| format!("{:08X}", 0x4000_0000 + number)).collect();
    let serials: Vec<&str> = serials.iter().map(String::as_str).collect();
    let _large = gateway.lab().crl("large.crl", named("int"), &serials);
    let gateway =
        gateway.mutual("without", "").mutual("large", &files("hard", &["large.crl"])).start();
    let cost = |section: &str| {
        let before = cpu_time(gateway.process.pid());
        for _ in 0..100 {
            let client = gateway.client(section).device(named("dev_ec"));
            assert_eq!(client.run(), Outcome::Accepted, "N39 {section}");
        }
        (cpu_time(gateway.process.pid()) - before).as_secs_f64()
    };
    let _warm = (cost("without"), cost("large"));
    let (without, large) = (cost("without"), cost("large"));
    // The kernel counts in hundredths of a second.
    assert!(large <= without * 1.3 + 0.03, "N39: {large} s and {without} s");
    let client = gateway.client("large").device(named("dev_ec"));
    let more = [&serials[..], &["50000000"]].concat();
    let _larger = gateway.lab().crl("large.crl", named("int"), &more);
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let begin = Instant::now();
                assert_eq!(client.run(), Outcome::Accepted, "N39");
                slowest = slowest.max(begin.elapsed());
            }
            slowest
        });
        let begin = Instant::now();
        let (is_content, said) = gateway.reload();
        assert!(is_content, "N39: {said}");
        // The tests' build is not optimised; released, it is a tenth of it.
        assert!(begin.elapsed() < Duration::from_secs(3), "N39: {:?}", begin.elapsed());
        assert!(clients.join().unwrap() < Duration::from_secs(1), "N39: nobody waits for it");
    });
}

/// N40: serial numbers at the edges, and the same one of two CAs.
#[test]
fn a_serial_number_is_compared_whole_and_with_its_issuer() {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let edges = [
        ("twenty", "7F112233445566778899AABBCCDDEEFF00112233"),
        ("high", "80112233445566778899"),
        ("zero", "00F1"),
    ];
    // As long and nearly the same: the last digit differs.
    let next = |serial: &str| format!("{}E", &serial[..serial.len() - 1]);
    let revoked: Vec<Certificate> =
        edges.iter().map(|(name, serial)| lab.device(name).serial(serial).issue()).collect();
    let good: Vec<Certificate> = edges
        .iter()
        .map(|(name, serial)| lab.device(&format!("{name}-good")).serial(&next(serial)).issue())
        .collect();
    let serials: Vec<&str> = edges.iter().map(|(_, serial)| *serial).collect();
    let _crl = lab.crl("int.crl", named("int"), &serials);
    let _crl = lab.crl("sibling.crl", named("sibling"), &["4242"]);
    let same = lab.device("same").serial("4242").issue();
    let of_sibling = lab.by("sibling", "of-sibling").device().serial("4242").issue();
    let gateway = gateway.mutual("hard", &files("hard", &["int.crl", "sibling.crl"])).start();
    for tls in BOTH {
        for device in &revoked {
            assert_eq!(
                run(&gateway, "hard", tls, device),
                Outcome::Alert(44),
                "N40 {} {tls}",
                device.name
            );
        }
        for device in good.iter().chain([&same]) {
            assert_eq!(
                run(&gateway, "hard", tls, device),
                Outcome::Accepted,
                "N40 {} {tls}",
                device.name
            );
        }
        let client =
            gateway.client("hard").with(tls).certificate(&of_sibling, &named("sibling").crt);
        assert_eq!(client.slowly().run(), Outcome::Alert(44), "N40 {tls}");
    }
}

/// A live session ends when a list names its certificate.
#[test]
fn a_live_session_ends_when_a_new_list_names_it() {
    let gateway = TlsGateway::new();
    let _crl = gateway.lab().crl("int.crl", named("int"), &[]);
    let gateway = gateway.mutual("hard", &files("hard", &["int.crl"])).start();
    let client = gateway.client("hard").device(named("dev_rev"));
    let (outcome, mut open) = client.open();
    assert!(outcome == Outcome::Accepted && open.pings());
    lists(gateway.lab());
    assert!(gateway.reload().0);
    let said = open.ended(Duration::from_secs(5)).expect("N28: it is ended");
    assert!(said.starts_with("e0") && said.contains("87"), "N28: {said}");
}

/// A list from the same place that is about other certificates than the one before counts beside it.
#[test]
fn a_fetched_list_of_another_scope_counts_beside_the_one_before() {
    let lab = Lab::new();
    let (int, device) = (named("int"), named("dev_ec"));
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
    let answer = Arc::new(Mutex::new(("200 OK", read(lab.crl("all", int, &[])))));
    let address = served(&answer);
    let toml = format!(
        "[gateway.tls.client.crl]\nmode = \"hard\"\nurls = [\"http://{address}/int.crl\"]\nrefresh = \"1s\"\n"
    );
    let gateway = TlsGateway::new().mutual("hard", &toml).start();
    let becomes = |outcome: Outcome| {
        wait_until("the list counts", Duration::from_secs(15), || {
            run(&gateway, "hard", "-tls1_3", device) == outcome
        });
    };
    becomes(Outcome::Accepted);
    // issuingDistributionPoint: onlyContainsUserCerts.
    let scope = "2.5.29.28 = critical,DER:30:03:81:01:ff";
    let users = lab.crl_with("users", int, &[&device.serial], &["-crldays", "1"], scope);
    *answer.lock().unwrap() = ("200 OK", read(users));
    becomes(Outcome::Alert(44));
}

/// Lists of several authorities in one file, one of which nobody knows yet: other files still change.
#[test]
fn a_list_that_waits_does_not_hold_up_what_else_changes() {
    let gateway = TlsGateway::new();
    let lab = gateway.lab();
    let lists = ["int", "int2"].map(|issuer| {
        let list = lab.crl(&format!("{issuer}.crl"), named(issuer), &[&named("dev_rev").serial]);
        std::fs::read(list).unwrap()
    });
    std::fs::write(lab.file("both.crl"), lists.concat()).unwrap();
    let gateway = gateway.mutual("one", &files("soft", &["both.crl"])).start();
    for turn in 0..2 {
        gateway.put_identity("gw", named("gw_next"));
        let (is_taken, said) = gateway.reload();
        assert!(is_taken, "{turn}: {said}");
        gateway.put_identity("gw", named("gw"));
        let (is_taken, said) = gateway.reload();
        assert!(is_taken, "{turn}: {said}");
    }
    assert_eq!(run(&gateway, "one", "-tls1_3", named("dev_rev")), Outcome::Alert(44));
}
