//! From the configuration and files to what TLS serves: read, checked as a whole, then published.
//! On any error the old generation goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use portreeve_tls::generation::{Clients, Generation, Parts, Profile, provider};
use portreeve_tls::identity::Identity;
use portreeve_tls::peer::ClientCertificates;
use portreeve_tls::resolver::UnknownName;
use portreeve_tls::stapling::{Stapling, StaplingError};
use portreeve_tls::{Certificate, Clock};
use rustls::crypto::CryptoProvider;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::certificates::Certificates;
use crate::config::tls::{ClientConfig, TlsConfig};
use crate::config::{Config, GatewayConfig, ListenerKind};
use crate::plugins::scan::{STILL, Stamp, Trust, stamp};
use crate::tls::{Current, Tls};

mod own;
mod replace;
mod revocation;
mod tasks;

use own::{Material, Reader};
pub(crate) use replace::{NewIdentity, NotReplaced};
use revocation::Lists;
pub(crate) use tasks::keep;

/// How long reading files may take: one on a file system that does not answer must not hold up all
/// others.
const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a new certificate waits for its staple.
const STAPLE_TIME_MAX: Duration = Duration::from_secs(4);

/// TLS of every gateway by its name.
pub(crate) type TlsByGateway = BTreeMap<String, Arc<Tls>>;

/// What is served, and what it was made of.
pub(crate) struct Credentials {
    provider: Arc<CryptoProvider>,
    managed: Option<Certificates>,
    /// Where staples are kept over restarts.
    staples: Option<PathBuf>,
    clock: Clock,
    tasks: TaskTracker,
    loaded: BTreeMap<String, Loaded>,
}

/// One gateway's.
struct Loaded {
    tls: Arc<Tls>,
    config: TlsConfig,
    files: Stamps,
    lists: SharedLists,
    failed: Option<Failed>,
    /// Files that were others at the last look, and since when they are as they were then.
    moving: Option<(Stamps, Instant)>,
}

/// The lists of a gateway, for the task that keeps them fresh.
pub(crate) type SharedLists = Arc<ArcSwapOption<Lists>>;

/// Files as they were when they were read.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Files that were read and not taken.
struct Failed {
    files: Stamps,
    mistakes: Vec<String>,
    /// They may be half of a change: it is told when they stay as they are.
    since: Instant,
    is_told: bool,
}

/// What was built of a configuration and its files.
struct Built {
    current: Current,
    lists: Option<Arc<Lists>>,
}

/// What a look came to.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// What is wrong with files that are not taken.
    pub(crate) mistakes: Vec<String>,
    /// When to look again.
    pub(crate) again_after: Option<Duration>,
}

/// Reads lists in a thread that may block: a hundred thousand entries take a while.
async fn publish_files(
    lists: &Arc<Lists>,
    files: Vec<(PathBuf, Vec<u8>)>,
    issuers: Vec<Arc<Certificate>>,
) -> Result<(), Vec<String>> {
    let lists = Arc::clone(lists);
    let published = tokio::task::spawn_blocking(move || lists.publish_files(&files, issuers));
    published.await.unwrap_or_else(|error| Err(vec![error.to_string()]))
}

/// What a change of who has to have a certificate means, for those who did not mean it.
fn demand_change(
    before: Option<&ClientConfig>,
    after: Option<&ClientConfig>,
) -> Option<&'static str> {
    let is_required = |client: Option<&ClientConfig>| client.is_some_and(|one| one.is_required);
    match (before, after) {
        (Some(_), None) => Some(
            "devices are not asked for certificates any more: [gateway.tls.client] is gone; open sessions go on",
        ),
        _ if is_required(before) && !is_required(after) => {
            Some("devices need no certificate any more: [gateway.tls.client] says optional")
        }
        _ if !is_required(before) && is_required(after) => Some(
            "devices need certificates from now on; sessions that are open without one go on until they end",
        ),
        _ => None,
    }
}

impl Credentials {
    /// Loads what `config` names.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) async fn start(
        config: &Config,
        tasks: TaskTracker,
    ) -> Result<(Self, TlsByGateway), Vec<String>> {
        let mut credentials = Self {
            provider: provider(),
            managed: config.certificates().map(|directory| Certificates::at(&directory)),
            staples: config.data.as_ref().map(|data| data.join("staples")),
            clock: Clock::default(),
            tasks,
            loaded: BTreeMap::new(),
        };
        let mut all = TlsByGateway::new();
        let mut mistakes = Vec::new();
        for (gateway, tls) in with_tls(config) {
            let (files, built) = credentials.build(gateway, tls, None).await;
            match built {
                Err(more) => mistakes.extend(of(gateway, more)),
                Ok(Built { current, lists }) => {
                    let running = Arc::new(Tls::new(current));
                    all.insert(gateway.name.clone(), Arc::clone(&running));
                    let lists = Arc::new(ArcSwapOption::from(lists));
                    let loaded = Loaded {
                        tls: running,
                        config: tls.clone(),
                        files,
                        lists,
                        failed: None,
                        moving: None,
                    };
                    credentials.loaded.insert(gateway.name.clone(), loaded);
                }
            }
        }
        if mistakes.is_empty() { Ok((credentials, all)) } else { Err(mistakes) }
    }

    /// The files that matter.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let read = self.loaded.values().flat_map(|loaded| {
            loaded.files.keys().chain(loaded.failed.iter().flat_map(|failed| failed.files.keys()))
        });
        read.cloned()
    }

    /// Looks whether files are others than those that were read, or `config` says something else,
    /// and publishes what is good. With `is_asked` files that were refused are tried again.
    pub(crate) async fn look(&mut self, config: &Config, trust: Trust, by: &str) -> Looked {
        let is_asked = trust == Trust::AsItIs;
        let mut looked = Looked::default();
        for (gateway, tls) in with_tls(config) {
            let Some(loaded) = self.loaded.get_mut(&gateway.name) else { continue };
            let last = loaded.failed.as_ref().map_or(&loaded.files, |failed| &failed.files);
            let now: Stamps = last.keys().map(|path| (path.clone(), stamp(path))).collect();
            let is_other = *last != now;
            if is_other && trust == Trust::Waits {
                // A file that is written in place is whole when it is still.
                let since = match loaded.moving.take() {
                    Some((files, since)) if files == now => since,
                    _ => Instant::now(),
                };
                let left = STILL.saturating_sub(since.elapsed());
                if !left.is_zero() {
                    loaded.moving = Some((now, since));
                    looked.again_after = Some(left);
                    continue;
                }
            }
            loaded.moving = None;
            let is_changed = loaded.config != *tls || is_other;
            let is_tried_again =
                loaded.failed.as_ref().is_some_and(|failed| is_asked || !failed.is_told);
            if is_changed || is_tried_again {
                self.reload(gateway, tls, is_asked, by, &mut looked).await;
            } else if let Some(failed) = &loaded.failed {
                looked.mistakes.extend(failed.mistakes.iter().cloned());
            }
        }
        looked
    }

    async fn reload(
        &mut self,
        gateway: &GatewayConfig,
        tls: &TlsConfig,
        is_asked: bool,
        by: &str,
        looked: &mut Looked,
    ) {
        let before = self.loaded.get(&gateway.name);
        let asked_before = before.and_then(|before| before.config.client.as_ref());
        let demand_change = demand_change(asked_before, tls.client.as_ref());
        let (files, built) = self.build(gateway, tls, before).await;
        let Some(loaded) = self.loaded.get_mut(&gateway.name) else { return };
        match built {
            Ok(Built { current, lists }) => {
                loaded.tls.publish(current);
                loaded.tls.set_problems(Vec::new());
                loaded.config = tls.clone();
                loaded.files = files;
                loaded.lists.store(lists);
                loaded.failed = None;
                tracing::info!(gateway = gateway.name, by, "TLS credentials are live");
                if let Some(what) = demand_change {
                    tracing::warn!(gateway = gateway.name, by, "{what}");
                }
            }
            Err(mistakes) => {
                let mistakes: Vec<String> = of(gateway, mistakes).collect();
                // Files of one change are written one after the other.
                let same = loaded.failed.take().filter(|failed| failed.files == files);
                let since = same.as_ref().map_or_else(Instant::now, |failed| failed.since);
                let was_told = same.is_some_and(|failed| failed.is_told);
                let is_still = is_asked || since.elapsed() >= STILL;
                if is_still && (is_asked || !was_told) {
                    let mistakes = mistakes.join("; ");
                    tracing::error!(
                        gateway = gateway.name,
                        by,
                        "TLS credentials refused, the old ones go on: {mistakes}"
                    );
                    loaded.tls.metrics.reloads_refused.add(1);
                }
                if !is_still {
                    looked.again_after = Some(STILL);
                }
                looked.mistakes.extend(mistakes.iter().cloned());
                loaded.tls.set_problems(mistakes.clone());
                let is_told = is_still || was_told;
                loaded.failed = Some(Failed { files, mistakes, since, is_told });
            }
        }
    }

    /// Reads and checks; gives also the files that were read.
    async fn build(
        &self,
        gateway: &GatewayConfig,
        tls: &TlsConfig,
        before: Option<&Loaded>,
    ) -> (Stamps, Result<Built, Vec<String>>) {
        let (provider, managed) = (Arc::clone(&self.provider), self.managed.clone());
        let wanted = tls.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = Reader::new(managed.as_ref(), &provider);
            // Before it is read: what changes meanwhile is read again.
            let begin = Instant::now();
            let material = reader.material(&wanted);
            let stamps = reader.stamps();
            tracing::debug!(ms = begin.elapsed().as_millis(), "TLS files were read");
            (material, stamps, reader.mistakes)
        });
        let (material, stamps, mistakes) = match timeout(READ_TIME_MAX, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return (seen(before), Err(vec![error.to_string()])),
            Err(_late) => {
                let mistake = "the file system of the certificates does not answer".to_owned();
                return (seen(before), Err(vec![mistake]));
            }
        };
        // What is not to be let in does not wait for other files to be mended.
        let running = before.and_then(|before| Some((before, before.lists.load_full()?)));
        if let (Some((before, lists)), Some(denied)) = (running, &material.denied) {
            lists.publish_denied(denied.clone());
            before.tls.look_again();
        }
        if !mistakes.is_empty() {
            return (stamps, Err(mistakes));
        }
        (stamps, self.assemble(gateway, tls, material, before).await)
    }

    async fn assemble(
        &self,
        gateway: &GatewayConfig,
        tls: &TlsConfig,
        material: Material,
        before: Option<&Loaded>,
    ) -> Result<Built, Vec<String>> {
        let Material { identities, trust, issuers, crls, denied } = material;
        let others: Vec<Arc<Certificate>> =
            trust.iter().flat_map(|trust| trust.issuers().cloned()).collect();
        let earlier = before.map(|before| before.tls.current());
        let earlier = earlier.as_ref().map(|current| current.staplings.as_slice());
        let staplings =
            self.staplings(tls, &identities, &others, earlier.unwrap_or_default()).await?;
        let mut lists = None;
        let clients = match (&tls.client, trust) {
            (Some(client), Some(trust)) => {
                let same = before.filter(|before| before.config.client.as_ref() == Some(client));
                let same = same.and_then(|before| before.lists.load_full());
                let kept = match same {
                    Some(kept) if kept.is_for(&issuers) => kept,
                    _ => Arc::new(Lists::new(client, &issuers, &self.clock, &self.tasks)?),
                };
                // A CRL is about what its issuer's key signed, whoever that is: nobody has to trust it.
                let own = identities.iter().flat_map(|identity| identity.chain.iter().skip(1));
                let issuers = trust.issuers().chain(own).cloned().collect();
                publish_files(&kept, crls, issuers).await?;
                kept.publish_denied(denied.unwrap_or_default());
                kept.warn_of_gaps(&gateway.name, &trust);
                let demand = match client.is_required {
                    true => ClientCertificates::Required,
                    false => ClientCertificates::Optional,
                };
                let revocation = Arc::clone(kept.revocation());
                lists = Some(kept);
                Some(Clients { demand, trust, revocation })
            }
            _ => None,
        };
        let generation =
            Generation::new(self.parts(gateway, tls, identities, clients), &self.provider);
        let generation = generation.map_err(|error| vec![error.to_string()])?;
        let client = tls.client.as_ref();
        let current = Current {
            generation,
            staplings,
            user_name: client.and_then(|client| client.user_name),
            client_id: client.and_then(|client| client.client_id),
            handshake_timeout: tls.handshake_timeout,
            recheck_interval: client
                .map_or(Duration::from_mins(1), |client| client.revocation.recheck_interval),
        };
        Ok(Built { current, lists })
    }

    fn parts(
        &self,
        gateway: &GatewayConfig,
        tls: &TlsConfig,
        identities: Vec<Arc<Identity>>,
        clients: Option<Clients>,
    ) -> Parts {
        let mut protocols = tls.protocols.clone();
        // A browser asks for HTTP when it opens a WebSocket.
        let is_web = |kind: ListenerKind| kind == ListenerKind::WebSocketTls;
        if !protocols.is_empty() && gateway.listeners.iter().any(|one| is_web(one.kind)) {
            protocols.push("http/1.1".to_owned());
        }
        Parts {
            profile: if tls.is_modern { Profile::Modern } else { Profile::Intermediate },
            identities,
            unknown_name: if tls.is_strict { UnknownName::Refuse } else { UnknownName::Default },
            protocols,
            refuses_other_protocols: tls.refuses_other_protocols,
            clients,
            resumes: tls.resumes,
        }
    }

    /// The staples of the certificates that are to have one, fetched.
    async fn staplings(
        &self,
        tls: &TlsConfig,
        identities: &[Arc<Identity>],
        others: &[Arc<Certificate>],
        earlier: &[Arc<Stapling>],
    ) -> Result<Vec<Arc<Stapling>>, Vec<String>> {
        let mut staplings = Vec::new();
        let mut mistakes = Vec::new();
        for (own, identity) in tls.certificates.iter().zip(identities) {
            if !own.is_stapled {
                if identity.must_staple() {
                    let name = identity.name.as_str();
                    tracing::warn!(
                        certificate = name,
                        "clients refuse it without a staple, and stapling is off"
                    );
                }
                continue;
            }
            let responder = own.responder.clone();
            let new = Stapling::new(
                Arc::clone(identity),
                others,
                responder,
                self.staples.clone(),
                self.clock.clone(),
            );
            match new {
                Ok(stapling) => staplings.push(Arc::new(stapling)),
                Err(StaplingError::NoResponder) if !identity.must_staple() => {}
                Err(error) if identity.must_staple() => {
                    mistakes.push(format!(
                        "certificate {:?} must have a staple: {error}",
                        identity.name
                    ));
                }
                Err(error) => {
                    tracing::warn!(certificate = identity.name, %error, "it has no staple");
                }
            }
        }
        let fetched = staplings.iter().map(|stapling| async {
            earlier.iter().for_each(|earlier| stapling.inherit(earlier));
            if !stapling.has_staple() {
                stapling.restore();
            }
            // The first handshake has a staple; later ones are fetched while this one serves.
            if stapling.has_staple() {
                return None;
            }
            let why = match timeout(STAPLE_TIME_MAX, stapling.refresh()).await {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => error.to_string(),
                Err(_late) => format!("no answer within {STAPLE_TIME_MAX:?}"),
            };
            let identity = stapling.identity();
            let name = identity.name.as_str();
            tracing::warn!(certificate = name, why, "it has no staple; it is tried again");
            let missing =
                || format!("certificate {name:?} must have a staple, and there is none: {why}");
            identity.must_staple().then(missing)
        });
        mistakes.extend(join_all(fetched).await.into_iter().flatten());
        if mistakes.is_empty() { Ok(staplings) } else { Err(mistakes) }
    }

    /// The lists of each gateway that are kept up to date.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (&Arc<Tls>, &SharedLists)> {
        self.loaded.values().map(|loaded| (&loaded.tls, &loaded.lists))
    }
}

/// The files that were read before, which are to be looked at again.
fn seen(before: Option<&Loaded>) -> Stamps {
    let paths = before.into_iter().flat_map(|before| before.files.keys());
    paths.map(|path| (path.clone(), None)).collect()
}

fn with_tls(config: &Config) -> impl Iterator<Item = (&GatewayConfig, &TlsConfig)> {
    config.gateways.iter().filter_map(|gateway| Some((gateway, gateway.tls.as_ref()?)))
}

fn of(gateway: &GatewayConfig, mistakes: Vec<String>) -> impl Iterator<Item = String> {
    mistakes.into_iter().map(|mistake| format!("gateway {:?}, TLS: {mistake}", gateway.name))
}
