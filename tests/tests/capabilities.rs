//! What a plugin is not granted it does not get, and the log says what it was; what it is granted
//! it gets within its bounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portreeve_tests::binary::{Process, binary, free_address};
use portreeve_tests::plugins::put;
use portreeve_tests::web::Web;
use portreeve_tests::{Client, V5, guests};
use serde_json::Value;
use tempfile::TempDir;

/// A gateway in a process of its own, whose topic `ask` goes to the guest `fetch`.
struct Gateway {
    folder: TempDir,
    address: SocketAddr,
    process: Process,
}

impl Gateway {
    fn start(manifest: &str) -> Self {
        Self::start_with("fetch", manifest)
    }

    fn start_with(guest: &str, manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        put(&plugins, "guest.toml", manifest);
        put(&plugins, "guest.wasm", std::fs::read(guests::component(guest)).unwrap());
        let config = format!(
            "[plugins]\ndirectory = \"plugins\"\n[data]\ndirectory = \"data\"\n[[gateway]]\nname = \"test\"\n\
             verification = \"open\"\n[[gateway.listener]]\naddress = \"{address}\"\n\
             [[gateway.binding]]\nplugin = \"guest\"\ntopic = \"ask\"\nmay_publish = [\"#\"]\n"
        );
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, config).unwrap();
        let process = Process::start(&["--config", path.to_str().unwrap()]).unwrap();
        Self { folder, address, process }
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        put(&self.folder.path().join("plugins"), name, bytes);
    }

    fn client(&self) -> Client {
        let mut client = Client::dial(self.address);
        client.connect(V5, "client");
        client.subscribe("#", 0);
        client
    }

    /// What the guest saw.
    fn ask(&self, requests: &str) -> String {
        let mut client = self.client();
        let code = client.publish_at_least_once("ask", requests);
        assert_eq!(code, 0, "{requests}: {:?}", self.process.log_lines());
        let answer = client.next_publish();
        assert_eq!(answer.topic, "answer");
        answer.text()
    }

    fn show(&self) -> Value {
        let data = self.folder.path().join("data");
        let mut command = Command::new(binary());
        command.args(["plugin", "show", "guest", "--data", data.to_str().unwrap()]);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    }
}

#[test]
fn granted_requests_are_made_over_few_connections() {
    let web = Web::start();
    let gateway = Gateway::start(&format!("http = [{:?}]", web.url("/")));
    for _ in 0..5 {
        assert_eq!(gateway.ask(&format!("2 GET {}", web.url("/ok"))), "200 2 ok\n200 2 ok");
    }
    assert_eq!(web.connections(), 1, "connections are kept");
    let echo = gateway.ask(&format!("1 POST {} 100", web.url("/echo?a=1")));
    assert!(echo.contains("POST /echo?a=1 100\n"), "{echo}");
    assert!(echo.contains(&format!("host: {}\n", web.address)), "{echo}");
    let counted = gateway.show();
    assert_eq!(counted["live"]["http"]["requests"], 11);
    assert_eq!(counted["live"]["http"]["refused"], 0);
}

/// A request, what the guest is told, what the log says, and whether the server hears of it.
type Case = (String, &'static str, &'static str, bool);

fn refused(web: &Web, other: &Web, host: &str) -> Vec<Case> {
    vec![
        (format!("1 GET {}", other.url("/other")), "does not grant", "does not grant", false),
        (format!("1 GET {}", other.url("/ok/belowx")), "does not grant", "does not grant", false),
        (
            format!("1 GET {}", other.url("/ok/below/../x")),
            "does not grant",
            "does not grant",
            false,
        ),
        (
            format!("1 GET {}", other.url("/ok/below/%2e%2e/x")),
            "does not grant",
            "does not grant",
            false,
        ),
        (
            format!("1 GET {}", other.url("/ok/below/..%2Fx")),
            "does not grant",
            "does not grant",
            false,
        ),
        (
            format!("1 GET {}", web.url_by("localhost", "/ok")),
            "does not grant",
            "does not grant",
            false,
        ),
        (format!("1 GET https://{}/ok", web.address), "does not grant", "does not grant", false),
        (format!("1 GET ftp://{}/ok", web.address), "cannot be", "", false),
        (format!("1 GET http://u:p@{}/ok", web.address), "cannot be sent", "Authorization", false),
        (format!("1 CONNECT {}", web.url("/ok")), "cannot be sent", "tunnel", false),
        (format!("1 POST {} 1025", web.url("/ok")), "cannot be sent", "http_client.request", false),
        (
            format!("5 GET {}", web.url("/ok")),
            "does not grant",
            "http_client.requests_per_call",
            true,
        ),
        // The name of this machine leads to an address of its own, if to any.
        (format!("1 GET {}", web.url_by(host, "/ok")), "", "HTTP ", false),
        (
            format!("1 GET {}", web.url(&format!("/to?{}", other.url("/x")))),
            "does not grant",
            "redirects to",
            true,
        ),
        (
            format!("1 GET {}", web.url("/bytes?1025")),
            "cannot be read",
            "http_client.response",
            true,
        ),
        (format!("1 GET {}", web.url("/hang")), "no response in time", "timed out", true),
        (format!("1 GET {}", web.url("/drip")), "no response in time", "timed out", true),
        (format!("1 GET {}", web.url("/cut")), "cannot be read", "HTTP failed", true),
        ("1 GET http://127.0.0.1:1/".to_owned(), "cannot be reached", "refused", true),
    ]
}

#[test]
fn each_refused_access_is_named() {
    let (web, other) = (Web::start(), Web::start());
    let host = String::from_utf8(Command::new("hostname").output().unwrap().stdout).unwrap();
    let host = host.trim();
    let manifest = format!(
        "http = [{:?}, {:?}, {:?}, {:?}]\n[limits]\ndeadline = \"5s\"\n[http_client]\ntimeout = \"700ms\"\n\
         request = \"1KiB\"\nresponse = \"1KiB\"\nrequests_per_call = 4\nredirects = 2\n",
        web.url("/"),
        other.url("/ok/below"),
        web.url_by(host, "/"),
        "http://127.0.0.1:1/",
    );
    let gateway = Gateway::start(&manifest);
    for (request, told, logged, is_heard) in refused(&web, &other, host) {
        let before = web.requests().len() + other.requests().len();
        drop(gateway.process.log_lines());
        let answer = gateway.ask(&request);
        assert!(
            answer.contains(told)
                && !answer.starts_with("200 2 ok\n200 2 ok\n200 2 ok\n200 2 ok\n200"),
            "{request}: {answer}"
        );
        if !logged.is_empty() {
            let line = gateway.process.wait_for_log("HTTP ");
            assert!(
                line.contains(logged) && line.contains("plugin=\"guest\""),
                "{request}: {line}"
            );
            assert!(!line.contains("u:p"), "no secret in the log: {line}");
            let line = line.split_once("HTTP ").unwrap().1;
            let line = line.trim_end_matches(" plugin=\"guest\"");
            println!("capability: {request} | {} | {line}", answer.lines().last().unwrap());
        }
        let heard = web.requests().len() + other.requests().len() - before;
        let may_be_heard = is_heard && !request.contains("127.0.0.1:1/");
        assert_eq!(heard > 0, may_be_heard, "{request}: heard {heard}");
    }
    // Nothing of it broke the plugin.
    assert_eq!(gateway.ask(&format!("1 GET {}", other.url("/ok/below/x"))), "200 2 ok");
    assert!(gateway.show()["live"]["http"]["refused"].as_u64().unwrap() >= 12);
}

#[test]
fn redirects_to_what_is_granted_are_followed_as_far_as_the_manifest_says() {
    let web = Web::start();
    let manifest = |redirects: u32| {
        format!("http = [{:?}]\n[http_client]\nredirects = {redirects}", web.url("/"))
    };
    let once = web.url(&format!("/to?{}", web.url("/ok")));
    let twice = web.url(&format!("/to?{once}"));
    let gateway = Gateway::start(&manifest(0));
    assert_eq!(gateway.ask(&format!("1 GET {once}")), "302 0 ", "the guest sees the redirect");
    let gateway = Gateway::start(&manifest(1));
    assert_eq!(gateway.ask(&format!("1 GET {once}")), "200 2 ok");
    assert_eq!(gateway.ask(&format!("1 GET {twice}")), "302 0 ");
}

#[test]
fn names_lead_to_private_addresses_only_where_those_are_named() {
    let web = Web::start();
    let gateway = Gateway::start(&format!("http = [{:?}]", web.url_by("localhost", "/")));
    assert_eq!(gateway.ask(&format!("1 GET {}", web.url_by("localhost", "/ok"))), "200 2 ok");
    // Whatever resolver this machine has, it gives an address of the machine for its own name.
    let host = String::from_utf8(Command::new("hostname").output().unwrap().stdout).unwrap();
    let by_name = web.url_by(host.trim(), "/ok");
    let gateway = Gateway::start(&format!("http = [{by_name:?}]"));
    let refused = gateway.ask(&format!("1 GET {by_name}"));
    assert!(!refused.starts_with("200"), "{refused}");
    let line = gateway.process.wait_for_log("HTTP ");
    let is_known = !line.contains("failed to lookup");
    assert!(!is_known || line.contains("http_client.addresses"), "{line}");
    let named = format!(
        "http = [{by_name:?}]\n[http_client]\naddresses = [\"127.0.0.0/8\", \"::1\", \"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\"]"
    );
    let gateway = Gateway::start(&named);
    let answer = gateway.ask(&format!("1 GET {by_name}"));
    // It listens on the loopback address only.
    assert!(!is_known || !line.contains("127.0.0.1") || answer == "200 2 ok", "{answer}");
}

#[test]
fn the_deadline_of_a_call_ends_its_requests() {
    let web = Web::start();
    let manifest = format!(
        "http = [{:?}]\n[limits]\ndeadline = \"300ms\"\n[http_client]\nconcurrent = 1\ntimeout = \"30s\"\n[breaker]\nfaults = 0",
        web.url("/")
    );
    let gateway = Gateway::start(&manifest);
    let mut client = gateway.client();
    for _ in 0..3 {
        let begin = Instant::now();
        assert_eq!(
            client.publish_at_least_once("ask", format!("1 GET {}", web.url("/hang"))),
            0x83
        );
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
    // The one place for requests is free again.
    assert_eq!(gateway.ask(&format!("1 GET {}", web.url("/ok"))), "200 2 ok");
    assert_eq!(gateway.show()["live"]["faults"]["deadline"], 3);
}

#[test]
fn a_response_that_nobody_reads_ends_with_its_time() {
    let web = Web::start();
    let manifest = format!(
        "http = [{:?}]\n[instances]\ninstances = 1\n[limits]\ndeadline = \"5s\"\n\
         [http_client]\nconcurrent = 1\ntimeout = \"1s\"\n",
        web.url("/")
    );
    let gateway = Gateway::start(&manifest);
    for _ in 0..3 {
        assert_eq!(gateway.ask(&format!("1 LEAVE {}", web.url("/drip"))), "200 left");
        // It waits for the one place for requests, within its own time.
        let asked = format!("1 GET {}", web.url("/ok"));
        let is_free = (0..3).any(|_| gateway.ask(&asked) == "200 2 ok");
        assert!(is_free, "the place is free again");
    }
    assert_eq!(gateway.show()["live"]["instance_starts"], 1, "in one instance");
}

#[test]
fn requests_with_a_time_of_their_own_leave_nothing_in_an_instance() {
    let web = Web::start();
    let manifest = format!("http = [{:?}]\n[instances]\ninstances = 1\n", web.url("/"));
    let gateway = Gateway::start(&manifest);
    // More than an instance has places for resources.
    for _ in 0..40 {
        let answers = gateway.ask(&format!("8 GET {}", web.url("/ok")));
        assert_eq!(answers, ["200 2 ok"; 8].join("\n"));
    }
    assert_eq!(gateway.show()["live"]["instance_starts"], 1, "in one instance");
}

#[test]
fn thousands_of_requests_in_one_call_are_bounded_and_delay_nobody() {
    let web = Web::start();
    let gateway =
        Gateway::start(&format!("http = [{:?}]\n[limits]\ndeadline = \"20s\"", web.url("/")));
    let mut other = Client::dial(gateway.address);
    other.connect(V5, "other");
    let answers = gateway.ask(&format!("5000 GET {}", web.url("/ok")));
    assert!(answers.lines().all(|line| line.contains("does not grant")), "{answers}");
    assert_eq!(web.requests().len(), 8, "as many as one call may make");
    other.subscribe("free", 0);
    assert_eq!(other.publish_at_least_once("free", "x"), 0);
    let dropped = gateway.show()["live"]["log_lines_dropped"].as_u64().unwrap();
    assert!(dropped > 4_000, "they did not flood the log: {dropped} lines dropped");
}

#[test]
fn a_version_that_asks_for_more_than_its_manifest_grants_waits_for_the_grant() {
    let web = Web::start();
    let gateway = Gateway::start_with("echo", "");
    let mut client = gateway.client();
    client.publish_at_least_once("ask", "x");
    assert_eq!(client.next_publish().topic, "told");
    gateway.put("guest.wasm", std::fs::read(guests::component("fetch")).unwrap());
    let line = gateway.process.wait_for_log("wasi:http/outgoing-handler");
    assert!(line.contains("http = ["), "it says what to write: {line}");
    client.publish_at_least_once("ask", "x");
    assert_eq!(client.next_publish().topic, "told", "the old version serves");
    gateway.put("guest.toml", format!("http = [{:?}]", web.url("/ok")));
    let begin = Instant::now();
    let asked = format!("1 GET {}", web.url("/ok"));
    loop {
        client.publish_at_least_once("ask", &asked);
        if client.next_publish().text() == "200 2 ok" {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "it is live once it is granted");
    }
}

#[test]
fn clock_random_and_state_can_be_taken_away() {
    for (guest, key, import) in [
        ("counter", "state", "portreeve:plugin/state"),
        ("slow", "clock", "wasi:clocks/monotonic-clock"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("guest.wasm");
        std::fs::copy(guests::component(guest), &file).unwrap();
        let check = || {
            let mut command = Command::new(binary());
            let output = command.args(["plugin", "check"]).arg(&file).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(said).unwrap())
        };
        let (is_ok, said) = check();
        assert!(is_ok && said.contains(import) && said.contains(&format!("    {key}\n")), "{said}");
        std::fs::write(folder.path().join("guest.toml"), format!("{key} = false")).unwrap();
        let (is_ok, said) = check();
        assert!(!is_ok && said.contains(import), "{said}");
        assert!(said.contains(&format!("the manifest says {key} = false")), "{said}");
    }
}

#[test]
fn a_system_without_certificates_says_so_where_they_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.wasm");
    std::fs::copy(guests::component("fetch"), &file).unwrap();
    let check = |grant: &str| {
        let manifest = format!("http = [{grant:?}]");
        std::fs::write(folder.path().join("guest.toml"), manifest).unwrap();
        let mut command = Command::new(binary());
        command.args(["plugin", "check"]).arg(&file);
        command.env("SSL_CERT_FILE", "/none.pem").env("SSL_CERT_DIR", "/none");
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (is_ok, said) = check("https://auth.example.com/");
    assert!(!is_ok && said.contains("http_client.ca"), "{said}");
    let (is_ok, said) = check("http://auth.example.com/");
    assert!(is_ok, "{said}");
}

#[test]
fn the_environment_is_what_the_manifest_says() {
    let manifest = "http = [\"http://127.0.0.1:1/\"]\nenv = [\"REGION\"]\n[settings]\nREGION = \"north\"\nsecret = \"s\"";
    let gateway = Gateway::start(manifest);
    let answers = gateway.ask("1 ENV REGION\n1 ENV secret\n1 ENV PATH\n1 ENV HOME");
    assert_eq!(answers, "Some(\"north\")\nNone\nNone\nNone");
}

/// `openssl s_server`, which answers GET with a page of its own.
struct TlsServer {
    child: Child,
    address: SocketAddr,
}

impl TlsServer {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let address = free_address();
        let child = Command::new("openssl")
            .current_dir(folder)
            .args(["s_server", "-quiet", "-www", "-cert", "server.pem", "-key", "server.key"])
            .args(["-accept", &address.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "it listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// An authority, a server's certificate for 127.0.0.1, a client's certificate.
fn certificates(folder: &Path) {
    let script = "set -e
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
        make() {
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$1 -keyout $1.key -out $1.csr
            printf \"$2\" > $1.ext
            openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.pem
        }
        make server 'subjectAltName=IP:127.0.0.1'
        make client 'extendedKeyUsage=clientAuth'";
    let output = Command::new("sh").current_dir(folder).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn servers_are_verified_and_the_gateway_shows_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let plain = TlsServer::start(folder.path(), &[]);
    let url = format!("https://{}/", plain.address);
    let by_name = format!("https://localhost:{}/", plain.address.port());
    let granted = format!("http = [{url:?}, {by_name:?}]");
    let asked = format!("1 GET {url}");

    let gateway = Gateway::start(&granted);
    let answer = gateway.ask(&asked);
    assert!(answer.contains("TlsCertificateError"), "{answer}");
    let line = gateway.process.wait_for_log("HTTP failed");
    assert!(line.contains("certificate"), "{line}");

    let trusted = format!("{granted}\n[http_client]\nca = {:?}", file("ca.pem"));
    let gateway = Gateway::start(&trusted);
    let answer = gateway.ask(&asked);
    assert!(answer.starts_with("200"), "{answer}");
    let answer = gateway.ask(&format!("1 GET {by_name}"));
    assert!(answer.contains("TlsCertificateError"), "a certificate for another name: {answer}");

    let mutual = TlsServer::start(
        folder.path(),
        &["-CAfile", "ca.pem", "-Verify", "1", "-verify_return_error"],
    );
    let url = format!("https://{}/", mutual.address);
    let asked = format!("1 GET {url}");
    let manifest = format!("http = [{url:?}]\n[http_client]\nca = {:?}\n", file("ca.pem"));
    let gateway = Gateway::start(&manifest);
    let answer = gateway.ask(&asked);
    assert!(!answer.starts_with("200"), "{answer}");
    gateway.put(
        "guest.toml",
        format!(
            "{manifest}client_certificate = {:?}\nclient_key = {:?}\n",
            file("client.pem"),
            file("client.key")
        ),
    );
    let begin = Instant::now();
    while !gateway.ask(&asked).starts_with("200") {
        assert!(begin.elapsed() < Duration::from_secs(10), "the server knows the gateway");
        std::thread::sleep(Duration::from_millis(50));
    }
}
