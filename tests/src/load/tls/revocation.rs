//! A device is revoked: how long until it is offline, on a session that is open and on one that is resumed.

use std::process::Command;
use std::time::{Duration, Instant};

use super::client::{Identity, Offered, TlsClient};
use super::{Line, percentile};
use crate::binary::binary;
use crate::pki::{Certificate, Index, Lab, named};
use crate::responder::OpensslResponder;
use crate::tls_gateway::{RunningTls, TlsGateway};

/// Longest time that a good answer is used.
const CACHE_MAX: Duration = Duration::from_secs(2);
/// Between two looks at live sessions.
const RECHECK: Duration = Duration::from_secs(1);
/// How long it is remembered that the responder, which starts again, gave no answer.
const SILENCE: Duration = Duration::from_secs(2);
/// A request, and a machine with other work.
const SLACK: Duration = Duration::from_secs(2);
/// What the devices may stay online at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// From a CRL's file to the gateway, as documented for files that are watched, and the look at live sessions.
const FILE_WITHIN: Duration = Duration::from_secs(5);

/// How a device is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ocsp,
    /// A CRL that nobody tells the gateway of.
    Crl,
    /// `portreeve cert revoke`.
    DenyList,
}

impl Way {
    const fn section(self) -> &'static str {
        match self {
            Self::Ocsp => "ocsp",
            Self::Crl => "crl",
            Self::DenyList => "deny",
        }
    }

    fn within(self) -> Duration {
        match self {
            Self::Ocsp => CACHE_MAX + RECHECK + SILENCE + SLACK,
            Self::Crl | Self::DenyList => FILE_WITHIN,
        }
    }
}

/// The gateway with who says what is revoked.
struct Scene {
    gateway: RunningTls,
    index: Index,
    responder: OpensslResponder,
    lab: Lab,
}

impl Scene {
    fn start() -> Self {
        let lab = Lab::new();
        let index = lab.index("index", &[]);
        let responder = OpensslResponder::start(&index, named("int"), named("oc_good"), &[]);
        let gateway = TlsGateway::new();
        let _crl = gateway.lab().crl("int.crl", named("int"), &[]);
        let recheck = "[gateway.tls.client.revocation]\nrecheck_interval = \"1s\"\n";
        let ocsp = format!(
            "{recheck}[gateway.tls.client.ocsp]\nmode = \"hard\"\nresponder = {:?}\ncache_max = \"2s\"\n",
            responder.url()
        );
        let crl = "[gateway.tls.client.crl]\nmode = \"hard\"\nfiles = [\"int.crl\"]\n";
        let gateway = gateway
            .mutual("ocsp", &ocsp)
            .mutual("crl", &format!("{recheck}{crl}"))
            .mutual("deny", recheck)
            .start();
        Self { gateway, index, responder, lab }
    }

    fn revoke(&mut self, way: Way, device: &Certificate) {
        match way {
            Way::Ocsp => {
                self.index.revoke(&device.serial);
                // It reads its index one request later otherwise.
                self.responder.restart();
            }
            Way::Crl => {
                let _crl = self.gateway.lab().crl("int.crl", named("int"), &[&device.serial]);
            }
            Way::DenyList => {
                let config = self.gateway.lab().file("gateway.toml");
                let mut command = Command::new(binary());
                command.args(["cert", "revoke", "--reason", "lost", "--certificate"]);
                let output = command.arg(&device.crt).arg("--config").arg(config).output();
                let output = output.expect("it runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }

    /// One device on three connections: one that stays, and two clients that resume. How long the first one stayed
    /// online, what it was told, and what became of the others.
    async fn one(&mut self, way: Way, number: usize) -> Seen {
        let device = self.lab.device(&format!("{}-{number}", way.section())).issue();
        if way == Way::Ocsp {
            self.index.set(&device.serial, None);
            tokio::task::block_in_place(|| self.responder.restart());
        }
        let identity = Identity::device(&device);
        let address = self.gateway.at(way.section());
        let resuming = [Offered::Tls13, Offered::Tls12]
            .map(|offered| TlsClient::resuming(address, &identity, offered).mqtt_5());
        let mut resumed_before = 0;
        for client in &resuming {
            for _ in 0..2 {
                let mut opened = client.open("resumes").await.expect("it is good");
                opened.ping().await.expect("it is good");
                resumed_before += usize::from(opened.is_resumed);
                opened.leave().await;
            }
        }
        let stays = TlsClient::new(address, Some(&identity)).mqtt_5();
        let mut stays = stays.open("stays").await.expect("it is good");
        stays.ping().await.expect("it is good");
        // From before: what the command that revokes waits for counts, too.
        let begin = Instant::now();
        tokio::task::block_in_place(|| self.revoke(way, &device));
        let said = stays.ended(PATIENCE).await;
        let offline_after = said.is_ok().then(|| begin.elapsed());
        let mut let_in = Vec::new();
        for client in &resuming {
            if client.once("resumes").await.is_ok() {
                let_in.push("resumed");
            }
        }
        if TlsClient::new(address, Some(&identity)).once("again").await.is_ok() {
            let_in.push("full");
        }
        let is_told =
            said.is_ok_and(|said| said.first() == Some(&0xe0) && said.get(2) == Some(&0x87));
        Seen { offline_after, is_told, resumed_before, let_in: let_in.len() }
    }
}

/// What became of a device.
struct Seen {
    offline_after: Option<Duration>,
    /// DISCONNECT 0x87.
    is_told: bool,
    /// Of two: its sessions were resumed while it was good.
    resumed_before: usize,
    /// Of three connections afterwards.
    let_in: usize,
}

/// Revokes `devices` in each way, one after the other.
///
/// # Panics
/// When a device is not let in while it is good.
pub async fn run(devices: usize) -> Vec<Line> {
    let mut scene = Scene::start();
    let mut lines = Vec::new();
    for way in [Way::Ocsp, Way::Crl, Way::DenyList] {
        let mut seen = Vec::new();
        for number in 0..devices {
            seen.push(scene.one(way, number).await);
        }
        let name = way.section();
        let online = seen.iter().filter(|one| one.offline_after.is_none()).count();
        lines.push(Line::none(format!("{name}: still online after {PATIENCE:?}"), online, devices));
        let times: Vec<Duration> = seen.iter().filter_map(|one| one.offline_after).collect();
        let median = format!("{:.2} s", percentile(&times, 50).as_secs_f64());
        lines.push(Line::plain(format!("{name}: offline after, median"), median));
        let most = percentile(&times, 100).as_secs_f64();
        let what = format!("{name}: offline after, at most");
        lines.push(Line::at_most(what, most, way.within().as_secs_f64(), "s"));
        let untold = seen.iter().filter(|one| !one.is_told).count();
        lines.push(Line::none(format!("{name}: not told (DISCONNECT 0x87)"), untold, devices));
        let unresumed = 2 * devices - seen.iter().map(|one| one.resumed_before).sum::<usize>();
        lines.push(Line::none(format!("{name}: not resumed while good"), unresumed, 2 * devices));
        let let_in = seen.iter().map(|one| one.let_in).sum();
        lines.push(Line::none(
            format!("{name}: let in again, resumed or full"),
            let_in,
            3 * devices,
        ));
    }
    lines
}
