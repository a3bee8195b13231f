use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::*;
use crate::crl::{Crl, CrlRules};
use crate::ocsp::{Invalid, OcspSettings, Responders, Unavailable};
use crate::test_pki::PKI;
use crate::test_responder::{Behaviour, TestResponder};

struct Setup {
    revocation: Arc<Revocation>,
    responder: TestResponder,
    clock: Clock,
}

impl Setup {
    async fn new(behaviour: Behaviour, ocsp: Mode, crl: Mode) -> Self {
        Self::with(behaviour, RevocationSettings { ocsp, crl, ..RevocationSettings::default() })
            .await
    }

    async fn with(behaviour: Behaviour, settings: RevocationSettings) -> Self {
        let responder = TestResponder::start(behaviour).await;
        let mut asked = OcspSettings::default();
        asked.ask.responders = Responders::new(Some(responder.url.clone()), [], Vec::new());
        // The machine may be busy.
        asked.ask.timeout = Duration::from_secs(10);
        let (clock, metrics) = (Clock::default(), Arc::new(RevocationMetrics::default()));
        let ocsp =
            Ocsp::new(asked, clock.clone(), TaskTracker::new(), Arc::clone(&metrics)).unwrap();
        let revocation = Revocation::new(settings, Arc::new(ocsp), metrics, clock.clone());
        Self { revocation: Arc::new(revocation), responder, clock }
    }

    fn publish_list(&self) {
        let issuers = [PKI.certificate("int")];
        let list = PKI.list("int", 1, "", "");
        let list = Crl::read(&list, &issuers, self.clock.now(), &CrlRules::default()).unwrap();
        self.revocation.publish_lists(Arc::new(CrlSet::new([Arc::new(list)])));
    }

    async fn decide(&self, name: &str) -> Decision {
        self.revocation.decide(&PKI.chain(name)).await
    }

    async fn cause(&self, name: &str) -> Cause {
        match self.decide(name).await {
            Decision::Refuse(why) => why.cause,
            admitted => panic!("{name}: {admitted:?}"),
        }
    }

    fn soft_fails(&self) -> u64 {
        self.revocation.metrics().soft_fails.load(Ordering::Relaxed)
    }
}

fn good(source: Source) -> Decision {
    Decision::Admit { soft_failed: false, status: Standing::Good(source) }
}

const GOOD: Behaviour = Behaviour::Answer("oc_good");
const DOWN: Behaviour = Behaviour::HttpStatus(500);

#[tokio::test]
async fn nothing_is_asked_where_everything_is_off_but_the_deny_list_counts() {
    let setup = Setup::new(GOOD, Mode::Off, Mode::Off).await;
    let not_checked = Decision::Admit { soft_failed: false, status: Standing::NotChecked };
    assert_eq!(setup.decide("rev").await, not_checked);
    assert!(setup.responder.requests().is_empty());

    let (dev, rev) = (PKI.certificate("dev"), PKI.certificate("rev"));
    let mut denied = DenyList::default();
    denied.deny_fingerprint(dev.fingerprint);
    denied.deny_serial(&rev.issuer_der, &[&[0], &*rev.serial].concat());
    setup.revocation.publish_denied(Arc::new(denied));
    for name in ["dev", "rev"] {
        assert_eq!(setup.cause(name).await, Cause::Denied);
        let why = setup.revocation.known_revoked(&PKI.chain(name), setup.clock.now()).unwrap();
        assert!(why.is_revoked() && why.to_string().contains(name));
    }
}

#[tokio::test]
async fn a_responder_decides_and_what_it_said_is_known_to_the_next_handshake() {
    for mode in [Mode::Soft, Mode::Hard] {
        let setup = Setup::new(GOOD, mode, Mode::Off).await;
        assert_eq!(setup.decide("dev").await, good(Source::Ocsp));
        assert_eq!(setup.revocation.known_revoked(&PKI.chain("rev"), setup.clock.now()), None);
        let revoked = setup.cause("rev").await;
        assert!(matches!(revoked, Cause::Revoked { by: Source::Ocsp, .. }));
        assert!(setup.revocation.known_revoked(&PKI.chain("rev"), setup.clock.now()).is_some());
        assert_eq!(setup.cause("oc_good").await, Cause::Unknown);
        assert_eq!(setup.responder.requests().len(), 3);
    }
    let settings = RevocationSettings {
        ocsp: Mode::Hard,
        accept_unknown: true,
        ..RevocationSettings::default()
    };
    let setup = Setup::with(GOOD, settings).await;
    let unknown = Decision::Admit { soft_failed: false, status: Standing::Unknown };
    assert_eq!(setup.decide("oc_good").await, unknown);
}

#[tokio::test]
async fn where_nobody_answers_soft_lets_in_and_counts_and_hard_refuses() {
    let setup = Setup::new(DOWN, Mode::Soft, Mode::Off).await;
    let cause = Cause::Unavailable(Unavailable::HttpStatus);
    let let_in = Decision::Admit { soft_failed: true, status: Standing::SoftFailed(cause) };
    assert_eq!(setup.decide("dev").await, let_in);
    assert_eq!(setup.soft_fails(), 1);
    let setup = Setup::new(DOWN, Mode::Hard, Mode::Off).await;
    assert_eq!(setup.cause("dev").await, cause);
    assert_eq!(setup.soft_fails(), 0);
}

#[tokio::test]
async fn a_wrong_answer_is_refused_in_every_mode() {
    for mode in [Mode::Soft, Mode::Hard] {
        let setup = Setup::new(Behaviour::Answer("intevil"), mode, Mode::Soft).await;
        setup.publish_list();
        assert_eq!(setup.cause("dev").await, Cause::Invalid(Invalid::Delegate));
        assert_eq!(setup.revocation.known_revoked(&PKI.chain("dev"), setup.clock.now()), None);
    }
}

#[tokio::test]
async fn a_list_decides_where_the_responder_does_not() {
    let setup = Setup::new(DOWN, Mode::Hard, Mode::Hard).await;
    assert!(matches!(setup.cause("dev").await, Cause::Unavailable(_)), "no list yet");
    setup.publish_list();
    assert_eq!(setup.decide("dev").await, good(Source::Crl));
    let revoked = setup.cause("rev").await;
    assert!(matches!(revoked, Cause::Revoked { by: Source::Crl, .. }));
    setup.clock.shift(40 * 86_400);
    assert!(matches!(setup.cause("dev").await, Cause::Unavailable(_)), "it is too old");
}

#[tokio::test]
async fn a_list_alone_decides_and_its_absence_follows_the_mode() {
    let setup = Setup::new(GOOD, Mode::Off, Mode::Hard).await;
    assert_eq!(setup.cause("dev").await, Cause::NoCrl);
    setup.publish_list();
    assert_eq!(setup.decide("dev").await, good(Source::Crl));
    setup.clock.shift(40 * 86_400);
    assert_eq!(setup.cause("dev").await, Cause::CrlExpired);
    assert!(setup.responder.requests().is_empty());
    let setup = Setup::new(GOOD, Mode::Off, Mode::Soft).await;
    let let_in = Decision::Admit { soft_failed: true, status: Standing::SoftFailed(Cause::NoCrl) };
    assert_eq!(setup.decide("dev").await, let_in);
}

#[tokio::test]
async fn a_revoked_entry_of_a_list_wins_over_a_responder_that_says_good() {
    let setup = Setup::new(GOOD, Mode::Hard, Mode::Soft).await;
    setup.publish_list();
    let revoked = setup.cause("rev").await;
    assert!(matches!(revoked, Cause::Revoked { by: Source::Crl, .. }));
    assert!(setup.responder.requests().is_empty(), "nobody needs to be asked");
}

#[tokio::test]
async fn lists_first_leave_the_responder_alone() {
    let settings = RevocationSettings {
        order: [Source::Crl, Source::Ocsp],
        ocsp: Mode::Hard,
        crl: Mode::Hard,
        ..RevocationSettings::default()
    };
    let setup = Setup::with(GOOD, settings).await;
    setup.publish_list();
    assert_eq!(setup.decide("dev").await, good(Source::Crl));
    assert!(setup.responder.requests().is_empty());
}

#[tokio::test]
async fn the_whole_chain_is_checked_where_that_is_wanted() {
    // The responder's index is that of `int`, where serial number 1001 is `dev`; of `root` it
    // knows nothing that it could sign for.
    let settings =
        |ocsp| RevocationSettings { depth: Depth::Chain, ocsp, ..RevocationSettings::default() };
    let setup = Setup::with(DOWN, settings(Mode::Hard)).await;
    assert!(matches!(setup.cause("dev").await, Cause::Unavailable(_)));
    let setup = Setup::with(GOOD, settings(Mode::Soft)).await;
    assert!(matches!(setup.cause("dev").await, Cause::Invalid(_)), "int: not of root's delegate");
    assert_eq!(setup.responder.requests().len(), 2);
}

#[tokio::test]
async fn a_path_without_an_issuer_is_nothing_that_hard_lets_in() {
    let alone = [PKI.certificate("dev")];
    let setup = Setup::new(GOOD, Mode::Hard, Mode::Off).await;
    assert!(matches!(setup.revocation.decide(&alone).await, Decision::Refuse(_)));
}

#[tokio::test]
async fn a_live_session_learns_of_its_revocation_and_survives_an_outage() {
    let setup = Setup::new(GOOD, Mode::Hard, Mode::Soft).await;
    assert_eq!(setup.decide("dev").await, good(Source::Ocsp));
    setup.responder.behave(DOWN);
    setup.clock.shift(1900);
    assert_eq!(setup.revocation.decide_again(&PKI.chain("dev")).await, good(Source::Ocsp));
    setup.clock.shift(4000);
    let Decision::Refuse(why) = setup.revocation.decide_again(&PKI.chain("dev")).await else {
        panic!("nobody knows it any more");
    };
    assert!(!why.is_revoked(), "{why}");
}
