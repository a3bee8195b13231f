//! `portreeve pki`, the real binary: what it makes and serves is judged by OpenSSL and curl.
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
use std::process::Command;
use std::time::Duration;

use portreeve_tests::binary::{Process, binary, free_address};
use serde_json::Value;
use tempfile::TempDir;

struct Setup {
    folder: TempDir,
    address: SocketAddr,
}

impl Setup {
    /// An authority in `pki`, which will be served at a free address.
    fn new() -> Self {
        let setup = Self { folder: tempfile::tempdir().unwrap(), address: free_address() };
        let said = setup.said(&["init", "--url", &format!("http://{}", setup.address)]);
        assert!(said.contains("for development") && said.contains("pki serve"), "{said}");
        setup
    }

    /// What a command says, and whether it was content.
    fn command(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(program).current_dir(&self.folder).args(arguments).output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What `portreeve pki …` says, and whether it was content.
    fn pki(&self, arguments: &[&str]) -> (bool, String) {
        let arguments = [&["pki"], arguments].concat();
        self.command(binary().to_str().unwrap(), &arguments)
    }

    fn said(&self, arguments: &[&str]) -> String {
        let (is_content, said) = self.pki(arguments);
        assert!(is_content, "{said}");
        said
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let (is_content, said) = self.pki(arguments);
        assert!(!is_content, "{said}");
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[arguments, &["--json"]].concat())).unwrap()
    }

    fn serve(&self) -> Process {
        let mut command = Command::new(binary());
        command.current_dir(&self.folder).args(["pki", "serve"]);
        let served = Process::start_by(&mut command).unwrap();
        assert_eq!(served.address, self.address, "it listens where certificates say");
        served
    }

    /// What `openssl ocsp` says of a certificate: with a nonce, and the delegate verified.
    fn ocsp(&self, issuer: &str, certificate: &str) -> String {
        let url = format!("http://{}/ocsp", self.address);
        let arguments = ["-CAfile", "pki/root.crt", "-issuer", issuer, "-cert", certificate];
        let (is_content, said) =
            self.command("openssl", &[&["ocsp", "-url", &url], &arguments[..]].concat());
        assert!(is_content && said.contains("Response verify OK"), "{said}");
        assert!(!said.contains("WARNING") && !said.contains("rror"), "{said}");
        said
    }

    /// What `curl` gets, in a file; and the status with the type of the content.
    fn get(&self, path: &str, to: &str) -> String {
        let url = format!("http://{}/{path}", self.address);
        let wanted = "%{http_code} %{content_type}";
        self.command("curl", &["-s", "--max-time", "10", "-o", to, "-w", wanted, &url]).1
    }
}

#[test]
fn a_revoked_device_is_revoked_in_ocsp_and_crl() {
    let setup = Setup::new();
    setup.said(&["issue", "server", "gateway", "--dns", "localhost", "--ip", "127.0.0.1"]);
    let issued = setup.json(&["issue", "device", "device-1", "--uri", "urn:example:device-1"]);
    assert_eq!(issued["certificate"], "pki/issued/device-1.crt");
    let serial = issued["issued"]["serial"].as_str().unwrap().to_owned();
    let served = setup.serve();
    for certificate in ["pki/issued/gateway.crt", "pki/issued/device-1.crt"] {
        let said = setup.ocsp("pki/int.crt", certificate);
        assert!(said.contains(&format!("{certificate}: good")), "{said}");
    }
    assert!(setup.ocsp("pki/root.crt", "pki/int.crt").contains("pki/int.crt: good"));
    setup.said(&["revoke", "device-1", "--reason", "keyCompromise"]);
    let said = setup.ocsp("pki/int.crt", "pki/issued/device-1.crt");
    assert!(said.contains("device-1.crt: revoked") && said.contains("keyCompromise"), "{said}");
    served.wait_for_log(&format!("OCSP POST: {serial} revoked (keyCompromise)"));
    assert_eq!(setup.get("int.crl", "fetched.crl"), "200 application/pkix-crl");
    let arguments = ["crl", "-inform", "DER", "-in", "fetched.crl", "-noout", "-text"];
    let (_, text) = setup.command("openssl", &arguments);
    assert!(text.contains(&serial.to_uppercase()) && text.contains("Key Compromise"), "{text}");
    assert_eq!(setup.get("int.crt", "fetched.crt"), "200 application/pkix-cert");
    let (_, subject) =
        setup.command("openssl", &["x509", "-in", "fetched.crt", "-noout", "-subject"]);
    assert!(subject.contains("CN = Example development intermediate"), "{subject}");
    let list = setup.json(&["list"]);
    let states: Vec<_> =
        list.as_array().unwrap().iter().map(|entry| (&entry["name"], &entry["status"])).collect();
    assert_eq!(states.len(), 6);
    assert!(states.iter().all(|(name, status)| (*status == "revoked") == (*name == "device-1")));
    assert_eq!(served.terminate(), Some(0));
}

#[test]
fn ocsp_is_asked_with_get_and_rubbish_is_answered() {
    let setup = Setup::new();
    setup.said(&["issue", "device", "device-1", "--key", "ed25519"]);
    let _served = setup.serve();
    let request =
        "ocsp -issuer pki/int.crt -cert pki/issued/device-1.crt -no_nonce -reqout request";
    setup.command("openssl", &request.split(' ').collect::<Vec<_>>());
    let (_, base64) = setup.command("openssl", &["base64", "-A", "-in", "request"]);
    let escaped = base64.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    let read = |to: &str| {
        let arguments = ["ocsp", "-respin", to, "-noverify", "-resp_text"];
        setup.command("openssl", &arguments).1
    };
    for request in [&base64, &escaped] {
        let status = setup.get(&format!("ocsp/{request}"), "response");
        assert_eq!(status, "200 application/ocsp-response");
        assert!(read("response").contains("Cert Status: good"));
    }
    for request in ["", "rubbish!", "AAAA"] {
        let status = setup.get(&format!("ocsp/{request}"), "response");
        assert_eq!(status, "200 application/ocsp-response");
        assert!(read("response").contains("malformedrequest"), "{}", read("response"));
    }
    assert!(setup.get("pki/root.key", "nothing").starts_with("404"));
    // More than any request has, and something that is not even HTTP.
    let mut stream = TcpStream::connect(setup.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n").unwrap();
    stream.write_all(&[b'0'; 20_000]).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    TcpStream::connect(setup.address).unwrap().write_all(b"\x16\x03\x01\0\x05hello").unwrap();
    assert!(setup.ocsp("pki/int.crt", "pki/issued/device-1.crt").contains("good"));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let setup = Setup::new();
    setup.said(&["issue", "device", "device-1"]);
    let missing = setup.refused(&["list", "--dir", "elsewhere"]);
    assert!(missing.contains("portreeve pki init --dir elsewhere"), "{missing}");
    assert!(setup.refused(&["init"]).contains("nothing is overwritten"));
    assert!(setup.refused(&["issue", "device", "device-1"]).contains("choose another name"));
    assert!(setup.refused(&["issue", "device", "../device"]).contains("is no name"));
    assert!(setup.refused(&["issue", "server", "a", "--dns", "a b"]).contains("is no host name"));
    assert!(setup.refused(&["issue", "server", "a", "--ip", "localhost"]).contains("--ip"));
    assert!(setup.refused(&["issue", "device", "a", "--days", "3000"]).contains("too long"));
    assert!(setup.refused(&["revoke", "nobody"]).contains("pki list"));
    assert!(setup.refused(&["revoke", "device-1", "--reason", "bored"]).contains("--help"));
    assert!(setup.refused(&["unhold", "device-1"]).contains("certificateHold"));
    assert!(
        setup.refused(&["init", "--dir", "b", "--url", "https://a"]).contains("http://HOST:PORT")
    );
    setup.said(&["revoke", "device-1", "--reason", "certificatehold"]);
    setup.said(&["unhold", "device-1"]);
    assert_eq!(setup.json(&["crl", "--days", "30"])["crls"][0], "pki/int.crl");
}
