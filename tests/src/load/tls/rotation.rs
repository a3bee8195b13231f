//! Certificate with key, trust anchors and CRL are replaced again and again while clients are connected and others
//! come. Between two rotations files are broken, and have to be refused with a reason.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::broken::Broken;
use self::traffic::{Traffic, come, hold};
use super::client::{Identity, Offered, TlsClient};
use super::failures::Failures;
use super::{Line, percentile};
use crate::load::traffic::spawn;
use crate::pki::{bundle, named};
use crate::tls_gateway::{RunningTls, TlsGateway};

mod broken;
mod traffic;

/// What a rotation has to be live within.
const LIVE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Kinds of broken files between two rotations.
const BROKEN_AT_A_TIME: usize = 2;
/// A reason names one of these files.
const NAMED: [&str; 4] = ["gw.pem", "gw.key", "root.pem", "int.crl"];
/// Of the handshakes that are wanted, so many in a hundred have to come about: two cores do both sides' work.
const PACE_PERCENT_MIN: f64 = 80.0;
const NAMES: &str = "DNS:gw.test,DNS:localhost,IP:127.0.0.1";

/// A gateway whose files change, and who looks at it.
struct Rotated {
    gateway: RunningTls,
    device: TlsClient,
    of_other_root: TlsClient,
    revoked: TlsClient,
}

impl Rotated {
    fn start() -> Self {
        let gateway = TlsGateway::new();
        let _crl = gateway.lab().crl("int.crl", named("int"), &[]);
        let crl = "[gateway.tls.client.crl]\nmode = \"soft\"\nfiles = [\"int.crl\"]\n";
        let gateway = gateway.mutual("rotated", crl).start();
        let client = |name: &str, issuer: &str| {
            let identity = Identity::of(named(name), named(issuer));
            TlsClient::new(gateway.at("rotated"), Some(&identity))
        };
        Self {
            device: client("dev_ec", "int"),
            of_other_root: client("dev_int2", "int2"),
            revoked: client("dev_rev", "int"),
            gateway,
        }
    }

    /// Of four that come two make full handshakes and two resume, with TLS 1.3 and with 1.2.
    fn comers(&self) -> [TlsClient; 4] {
        let device = Identity::device(named("dev_ec"));
        let resuming = |offered| TlsClient::resuming(self.gateway.at("rotated"), &device, offered);
        let full = || self.device.clone();
        [full(), resuming(Offered::Tls13), full(), resuming(Offered::Tls12)]
    }

    /// Replaces every file; the certificate's DER. In odd turns another root is trusted and a device revoked.
    fn replace(&self, turn: usize) -> Vec<u8> {
        let lab = self.gateway.lab();
        let issue = lab.by("int", &format!("gw-{turn}")).server(NAMES).subject("/CN=gw.test");
        let next = issue.issue();
        let roots = [named("root"), named("root2")];
        let (trusted, revoked) = match turn % 2 {
            0 => (&roots[..1], &[][..]),
            _ => (&roots[..], &[named("dev_rev").serial.as_str()][..]),
        };
        let anchors = bundle(lab.path(), ".anchors", trusted);
        fs::rename(anchors, lab.file("root.pem")).expect("it is moved");
        let _crl = lab.crl("int.crl", named("int"), revoked);
        self.gateway.put_identity("gw", &next);
        next.der()
    }

    /// Has the files read: asked through the admin socket, by a signal, or not at all.
    fn tell(&self, turn: usize) -> Result<(), String> {
        match turn % 3 {
            0 => match self.gateway.reload() {
                (true, _) => Ok(()),
                (false, said) => Err(format!("rotation {turn} was refused: {said}")),
            },
            1 => {
                let pid = self.gateway.process.pid().to_string();
                let sent = Command::new("kill").args(["-HUP", &pid]).status();
                assert!(sent.expect("kill runs").success());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn is_live(&self, certificate: &[u8], is_odd: bool) -> bool {
        let Ok(opened) = self.device.open("looks").await else { return false };
        let is_new = opened.server_certificate() == certificate;
        opened.leave().await;
        is_new
            && self.revoked.once("revoked").await.is_ok() != is_odd
            && self.of_other_root.once("other").await.is_ok() == is_odd
    }

    /// One rotation: how long until all of it was live.
    async fn rotate(&self, turn: usize) -> Result<(Vec<u8>, Duration), String> {
        let certificate = tokio::task::block_in_place(|| self.replace(turn));
        let begin = Instant::now();
        tokio::task::block_in_place(|| self.tell(turn))?;
        while !self.is_live(&certificate, turn % 2 == 1).await {
            if begin.elapsed() > LIVE_WITHIN {
                return Err(format!("rotation {turn} is not live: {}", self.gateway.log()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok((certificate, begin.elapsed()))
    }

    /// Breaks a file; the reason why it was refused.
    async fn break_one(&self, broken: &Broken, serving: &[u8]) -> Result<String, String> {
        let good = broken.put(&self.gateway);
        let (is_taken, said) = tokio::task::block_in_place(|| self.gateway.reload());
        let still = self.device.open("looks").await.map(|opened| opened.server_certificate());
        broken.restore(&self.gateway, &good);
        let (is_restored, said_then) = tokio::task::block_in_place(|| self.gateway.reload());
        match still {
            _ if is_taken => Err(format!("{}: taken", broken.name)),
            _ if !NAMED.iter().any(|name| said.contains(name)) => {
                Err(format!("{}: no reason: {said}", broken.name))
            }
            _ if !is_restored => Err(format!("{}: not restored: {said_then}", broken.name)),
            Ok(certificate) if certificate == serving => Ok(said),
            other => Err(format!("{}: the old one does not serve: {other:?}", broken.name)),
        }
    }
}

/// Rotates `rotations` times under `clients` that stay and `each_second` that come.
///
/// # Panics
/// When the gateway does not start.
pub async fn run(
    rotations: usize,
    clients: usize,
    each_second: u32,
    mut tell: impl FnMut(&str),
) -> Vec<Line> {
    let rotated = Rotated::start();
    let traffic = Arc::<Traffic>::default();
    hold(&traffic, &rotated.device, clients).await;
    let coming = spawn(come(Arc::clone(&traffic), rotated.comers(), each_second));
    let begin = Instant::now();
    let (mut live, missed, taken) = (Vec::new(), Failures::default(), Failures::default());
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    let kinds = broken::kinds();
    // Each kind at least once, also where there are few rotations.
    let at_a_time = kinds.len().div_ceil(rotations.max(1)).max(BROKEN_AT_A_TIME);
    let (mut next, mut tried) = (kinds.iter().cycle(), 0);
    for turn in 1..=rotations {
        match rotated.rotate(turn).await {
            Err(why) => missed.add(why),
            Ok((certificate, after)) => {
                live.push(after);
                for broken in next.by_ref().take(at_a_time) {
                    tried += 1;
                    match rotated.break_one(broken, &certificate).await {
                        Ok(reason) => drop(reasons.insert(broken.name.clone(), reason)),
                        Err(why) => taken.add(why),
                    }
                }
            }
        }
        if turn % 10 == 0 {
            tell(&format!("{turn} rotations, {:.0} s", begin.elapsed().as_secs_f64()));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    // What was lost shows with the next ping.
    tokio::time::sleep(Duration::from_secs(6)).await;
    traffic.stop();
    let _ended = coming.await;
    for (name, reason) in &reasons {
        tell(&format!("refused: {name}: {}", one_line(reason)));
    }
    for failures in [&missed, &taken, &traffic.lost, &traffic.failed] {
        failures.first().iter().for_each(|failure| tell(&format!("FAILED: {failure}")));
    }
    let served = traffic.served.load(Ordering::Relaxed);
    let failed = traffic.failed.count();
    let pace = format!("{:.1} of {each_second}", served as f64 / (seconds + 6.0));
    let wanted = f64::from(each_second) * seconds;
    let times = [50, 100].map(|share| percentile(&live, share).as_millis());
    vec![
        Line::none("rotations that were not live in 10 s", missed.count(), rotations),
        Line::plain("change to live, median / max", format!("{} / {} ms", times[0], times[1])),
        Line::none(
            "clients disconnected",
            traffic.lost.count(),
            traffic.held.load(Ordering::Relaxed),
        ),
        Line::none("handshakes failed", failed, served + failed),
        Line::plain("handshakes a second", pace),
        Line::at_least("handshakes", served as f64, wanted * PACE_PERCENT_MIN / 100.0),
        // A rotation ends what can be resumed; between two of them half of those that come resume.
        Line::at_least(
            "of them resumed",
            traffic.resumed.load(Ordering::Relaxed) as f64,
            served as f64 / 10.0,
        ),
        Line::none("broken files taken or refused without a reason", taken.count(), tried),
        Line::plain("kinds of broken files", kinds.len().to_string()),
    ]
}

/// The first problem of an answer of the admin socket.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(240).collect()
}
