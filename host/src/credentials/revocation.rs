//! What is known of the revocation of one gateway's devices: kept while certificates change, built
//! anew when the configuration of it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portreeve_tls::crl::{Crl, CrlFault, CrlRules, CrlSet, UnverifiedCrl};
use portreeve_tls::ocsp::{
    AllowedHost, AskSettings, CertificateIdHash, Method, Nonce, Ocsp, OcspSettings, Responders,
    Rules,
};
use portreeve_tls::peer::Trust;
use portreeve_tls::revocation::{
    DenyList, Depth, Mode, Revocation, RevocationMetrics, RevocationSettings, Source, WaitingList,
};
use portreeve_tls::{Certificate, Clock};
use tokio_util::task::TaskTracker;
use url::Url;

use crate::config::tls::{
    ClientConfig, CrlConfig, NonceConfig, OcspConfig, RevocationMode, RevocationSource,
};

/// How long it is remembered that a responder gave no answer.
const FAILURE_CACHE: Duration = Duration::from_secs(2);
/// Bytes of a CRL that is fetched.
pub(super) const FETCHED_BYTES_MAX: usize = 10 << 20;

/// The lists of one gateway, and what decides with them.
pub(crate) struct Lists {
    revocation: Arc<Revocation>,
    config: CrlConfig,
    checks_chain: bool,
    issuers: Vec<(Arc<Certificate>, Url)>,
    clock: Clock,
    lists: Mutex<Known>,
}

/// Lists that were verified.
#[derive(Default)]
struct Known {
    /// Who may sign them.
    issuers: Vec<Arc<Certificate>>,
    from_files: Vec<(PathBuf, Arc<Crl>)>,
    fetched: BTreeMap<Url, Arc<Crl>>,
}

impl Known {
    fn has_file(&self, path: &Path) -> bool {
        self.from_files.iter().any(|(known, _)| known == path)
    }
}

impl Lists {
    pub(super) fn new(
        client: &ClientConfig,
        issuers: &[(Arc<Certificate>, Url)],
        clock: &Clock,
        tasks: &TaskTracker,
    ) -> Result<Self, Vec<String>> {
        let revocation = &client.revocation;
        let metrics = Arc::new(RevocationMetrics::default());
        let settings = ocsp_settings(&revocation.ocsp, issuers)?;
        let ocsp = Ocsp::new(settings, clock.clone(), tasks.clone(), Arc::clone(&metrics));
        let ocsp = Arc::new(ocsp.map_err(|error| vec![format!("OCSP: {error}")])?);
        let source = |source: &RevocationSource| match source {
            RevocationSource::Ocsp => Source::Ocsp,
            RevocationSource::Crl => Source::Crl,
        };
        let order = match revocation.order.as_slice() {
            [first, second] => [source(first), source(second)],
            _ => [Source::Ocsp, Source::Crl],
        };
        let settings = RevocationSettings {
            order,
            depth: if revocation.checks_chain { Depth::Chain } else { Depth::EndEntity },
            ocsp: mode(revocation.ocsp.mode),
            crl: mode(revocation.crl.mode),
            accept_unknown: revocation.ocsp.accepts_unknown,
        };
        Ok(Self {
            revocation: Arc::new(Revocation::new(settings, ocsp, metrics, clock.clone())),
            config: revocation.crl.clone(),
            checks_chain: revocation.checks_chain,
            issuers: issuers.to_vec(),
            clock: clock.clone(),
            lists: Mutex::default(),
        })
    }

    pub(super) const fn revocation(&self) -> &Arc<Revocation> {
        &self.revocation
    }

    /// Whether these are the authorities with a responder of their own.
    pub(super) fn is_for(&self, issuers: &[(Arc<Certificate>, Url)]) -> bool {
        self.issuers == issuers
    }

    /// Verifies the lists of files, and publishes them if all of them are good.
    pub(super) fn publish_files(
        &self,
        files: &[(PathBuf, Vec<u8>)],
        mut issuers: Vec<Arc<Certificate>>,
    ) -> Result<(), Vec<String>> {
        issuers.extend(self.revocation.learned());
        let mut read = Vec::new();
        let mut unknown = Vec::new();
        let mut mistakes = Vec::new();
        let now = self.clock.now();
        let rules = self.rules();
        let mut known = self.lists.lock();
        for (path, bytes) in files {
            let list = match UnverifiedCrl::read(bytes, now, &rules) {
                Ok(list) => list,
                Err(error) => {
                    mistakes.push(format!("{}: {error}", path.display()));
                    continue;
                }
            };
            match list.verified(&issuers).map_err(|unverified| *unverified) {
                Ok(crl) => {
                    if crl.is_expired_at(now) {
                        tracing::warn!(file = %path.display(), issuer = crl.issuer(), "the CRL has expired");
                    }
                    read.push((path.clone(), Arc::new(crl)));
                }
                Err((list, CrlFault::UnknownIssuer(issuer))) => unknown.push((path, list, issuer)),
                Err((_, error)) => mistakes.push(format!("{}: {error}", path.display())),
            }
        }
        let mut waiting = Vec::new();
        for (path, list, issuer) in unknown {
            let origin = path.display().to_string();
            // A file whose lists were all somebody's and now are nobody's is a mistake.
            if known.has_file(path) && !read.iter().any(|(other, _)| other == path) {
                mistakes.push(format!("{origin}: {}", CrlFault::UnknownIssuer(issuer)));
                continue;
            }
            tracing::info!(
                file = origin,
                issuer,
                "the CRL waits for the certificate of its issuer, which devices send, or trust_anchors may hold"
            );
            waiting.push(WaitingList { list, origin, is_fetched: false });
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        // A file that is put back to an older list does not take back what the newer one revoked.
        let before =
            known.from_files.iter().filter(|(path, _)| files.iter().any(|(one, _)| one == path));
        read.extend(before.cloned());
        let newest = CrlSet::new(read.iter().map(|(_, crl)| Arc::clone(crl)));
        read.retain(|(_, crl)| newest.iter().any(|one| Arc::ptr_eq(one, crl)));
        known.from_files = read;
        known.issuers = issuers;
        self.publish(&known);
        self.revocation.publish_waiting(waiting);
        Ok(())
    }

    /// Where lists are fetched.
    pub(super) fn urls(&self) -> &[Url] {
        match self.config.mode {
            RevocationMode::Off => &[],
            _ => &self.config.urls,
        }
    }

    /// How often.
    pub(super) const fn refresh(&self) -> Duration {
        self.config.refresh
    }

    /// Verifies a list that was fetched, and publishes it.
    ///
    /// # Errors
    /// Why it is not used; the last one goes on.
    pub(super) fn publish_fetched(&self, url: &Url, bytes: &[u8]) -> Result<(), String> {
        let rules = CrlRules { bytes_max: FETCHED_BYTES_MAX, ..self.rules() };
        // Before anybody has to wait for it.
        let list = UnverifiedCrl::read(bytes, self.clock.now(), &rules);
        let list = list.map_err(|error| error.to_string())?;
        let mut known = self.lists.lock();
        let issuers: Vec<_> =
            known.issuers.iter().cloned().chain(self.revocation.learned()).collect();
        let crl = match list.verified(&issuers).map_err(|unverified| *unverified) {
            Ok(crl) => Arc::new(crl),
            Err((list, CrlFault::UnknownIssuer(_))) => {
                let origin = url.to_string();
                self.revocation.add_waiting(WaitingList { list, origin, is_fetched: true });
                return Ok(());
            }
            Err((_, error)) => return Err(error.to_string()),
        };
        // An older one than that before is not kept; one about other certificates, or by another key,
        // counts beside it, which [`Revocation::add_lists`] sees to.
        let before = known.fetched.get(url).cloned();
        let newest = CrlSet::new(before.into_iter().chain([Arc::clone(&crl)]));
        if newest.iter().any(|one| Arc::ptr_eq(one, &crl)) {
            known.fetched.insert(url.clone(), crl);
        }
        self.publish(&known);
        Ok(())
    }

    pub(super) fn publish_denied(&self, denied: DenyList) {
        self.revocation.publish_denied(Arc::new(denied));
    }

    fn publish(&self, known: &Known) {
        let files = known.from_files.iter().map(|(_, crl)| Arc::clone(crl));
        let all: Vec<_> = files.chain(known.fetched.values().cloned()).collect();
        // Beside those that devices' intermediates have verified.
        self.revocation.add_lists(&all);
    }

    fn rules(&self) -> CrlRules {
        let bytes_max = usize::try_from(self.config.bytes_max).unwrap_or(usize::MAX);
        CrlRules { bytes_max, ..CrlRules::default() }
    }

    /// Says whose certificates no list is about.
    pub(super) fn warn_of_gaps(&self, gateway: &str, trust: &Trust) {
        if self.config.mode == RevocationMode::Off {
            return;
        }
        let lists = self.revocation.lists();
        for issuer in trust.issuers() {
            if lists.has_list_of(issuer) {
                continue;
            }
            let issuer = issuer.subject.as_str();
            let what = match (self.config.mode, self.checks_chain) {
                (RevocationMode::Hard, true) => {
                    "there is no CRL of this authority: what it issued is refused unless OCSP knows it, intermediates included"
                }
                (RevocationMode::Hard, false) => {
                    "there is no CRL of this authority: devices whose certificate it issued itself are refused unless OCSP knows it"
                }
                _ => "there is no CRL of this authority: what it revoked is not known",
            };
            tracing::warn!(gateway, issuer, "{what}");
        }
    }
}

const fn mode(mode: RevocationMode) -> Mode {
    match mode {
        RevocationMode::Off => Mode::Off,
        RevocationMode::Soft => Mode::Soft,
        RevocationMode::Hard => Mode::Hard,
    }
}

fn ocsp_settings(
    config: &OcspConfig,
    issuers: &[(Arc<Certificate>, Url)],
) -> Result<OcspSettings, Vec<String>> {
    let mut mistakes = Vec::new();
    let hosts = config.allowed_hosts.iter().filter_map(|host| {
        AllowedHost::parse(host)
            .map_err(|error| mistakes.push(format!("ocsp.allowed_hosts: {error}")))
            .ok()
    });
    let hosts: Vec<AllowedHost> = hosts.collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let ask = AskSettings {
        responders: Responders::new(config.responder.clone(), issuers.iter().cloned(), hosts),
        method: if config.posts { Method::Post } else { Method::Get },
        hash: match config.is_sha256 {
            true => CertificateIdHash::Sha256,
            false => CertificateIdHash::Sha1,
        },
        nonce: match config.nonce {
            NonceConfig::Off => Nonce::Off,
            NonceConfig::Optional => Nonce::Optional,
            NonceConfig::Required => Nonce::Required,
        },
        timeout: config.timeout,
        concurrent_max: config.concurrent_max,
        rules: Rules {
            clock_skew: config.clock_skew,
            without_next_update: config.without_next_update,
            accept_delegate_without_nocheck: !config.refuses_without_nocheck,
            ..Rules::default()
        },
    };
    let cache_max = config.cache_max;
    Ok(OcspSettings { ask, cache_max, failure_cache: FAILURE_CACHE, ..OcspSettings::default() })
}
