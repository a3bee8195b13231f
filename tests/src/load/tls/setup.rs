//! Both servers with the same certificates: P-256, an intermediate below a root.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::servers::{ServerProcess, mosquitto_tls};
use crate::pki::{Index, Lab, named};
use crate::responder::OpensslResponder;
use crate::tls_gateway::{RunningTls, TlsGateway};

/// Entries of the large CRL.
pub const ENTRIES: u32 = 100_000;

/// A gateway with a section for each way to know devices.
pub struct Servers {
    /// Sections `one-way`, `mutual`, `ocsp` and `crl`.
    pub gateway: RunningTls,
    /// Killed with this.
    pub mosquitto: ServerProcess,
    /// mosquitto's listener that demands certificates.
    pub mosquitto_mutual: SocketAddr,
    /// Kept: it is asked once.
    pub responder: OpensslResponder,
    /// What else is on disk.
    _lab: Lab,
}

/// Serial numbers of the large list, and so many more.
fn serials(more: u32) -> Vec<String> {
    (0..ENTRIES + more).map(|number| format!("{:08X}", 0x4000_0000 + number)).collect()
}

/// Makes `NAME` in a folder: 100,000 entries and so many more.
#[must_use]
pub fn large_crl(lab: &Lab, name: &str, more: u32) -> PathBuf {
    let serials = serials(more);
    let serials: Vec<&str> = serials.iter().map(String::as_str).collect();
    lab.crl(name, named("int"), &serials)
}

impl Servers {
    /// Starts both.
    #[must_use]
    pub fn start() -> Self {
        let lab = Lab::new();
        let index: Index = lab.index("index", &[named("dev_ec")]);
        let responder = OpensslResponder::start(&index, named("int"), named("oc_good"), &[]);
        let gateway = TlsGateway::new();
        let _crl = large_crl(gateway.lab(), "large.crl", 0);
        let crl = "[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"large.crl\"]\n";
        let gateway = gateway
            .server_only("one-way")
            .mutual("mutual", "")
            .ocsp("ocsp", "hard", &responder.url(), "")
            .mutual("crl", crl)
            .start();
        let file = |name: &str| gateway.lab().file(name);
        let (mosquitto, mosquitto_mutual) =
            mosquitto_tls(&file("gw.pem"), &file("gw.key"), &file("root.pem"));
        Self { gateway, mosquitto, mosquitto_mutual, responder, _lab: lab }
    }
}

/// A line that tells the load of the machine.
#[must_use]
pub fn load_average() -> String {
    let mut text = String::from("load of the machine: ");
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first: Vec<&str> = average.split_whitespace().take(3).collect();
    let _infallible = write!(text, "{}", first.join(" "));
    text
}
