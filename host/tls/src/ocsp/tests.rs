use std::sync::atomic::Ordering;

use super::*;
use crate::test_pki::PKI;
use crate::test_responder::{Behaviour, TestResponder};

struct Setup {
    ocsp: Arc<Ocsp>,
    metrics: Arc<RevocationMetrics>,
    clock: Clock,
    issuer: Arc<Certificate>,
}

impl Setup {
    fn new(change: impl FnOnce(&mut OcspSettings)) -> Self {
        let mut settings = OcspSettings::default();
        // The machine may be busy.
        settings.ask.timeout = Duration::from_secs(10);
        change(&mut settings);
        let (clock, metrics) = (Clock::default(), Arc::new(RevocationMetrics::default()));
        let ocsp =
            Ocsp::new(settings, clock.clone(), TaskTracker::new(), Arc::clone(&metrics)).unwrap();
        Self { ocsp: Arc::new(ocsp), metrics, clock, issuer: PKI.certificate("int") }
    }

    fn of(responder: &TestResponder) -> Self {
        let url = responder.url.clone();
        Self::new(|settings| settings.ask.responders = Responders::new(Some(url), [], Vec::new()))
    }

    async fn status(&self, name: &str) -> Status {
        self.ocsp.status(Arc::clone(&self.issuer), PKI.certificate(name)).await
    }

    fn known(&self, name: &str) -> Option<Status> {
        self.ocsp.known(&self.issuer, &PKI.certificate(name), self.clock.now())
    }
}

const SOON: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_herd_asks_once_and_then_the_cache_answers() {
    let responder = TestResponder::start(Behaviour::Slow(SOON)).await;
    let setup = Setup::of(&responder);
    assert_eq!(setup.known("dev"), None);
    let herd = (0..100).map(|_| setup.status("dev"));
    let statuses = futures_util::future::join_all(herd).await;
    assert!(statuses.iter().all(|status| *status == Status::Good));
    assert_eq!(setup.status("dev").await, Status::Good);
    assert_eq!(setup.known("dev"), Some(Status::Good));
    assert!(matches!(setup.status("rev").await, Status::Revoked(_)));
    assert!(matches!(setup.known("rev"), Some(Status::Revoked(_))));

    let requests = responder.requests();
    assert_eq!(requests.len(), 2);
    let path = requests[0].split(' ').nth(1).unwrap();
    assert!(path.starts_with("/ocsp/") && !path[6..].contains(['/', '+', '=']), "{path}");
    assert_eq!(setup.metrics.cache_hits.load(Ordering::Relaxed), 1);
    assert_eq!(setup.metrics.ocsp_good.load(Ordering::Relaxed), 1);
    assert_eq!(setup.metrics.latency.counts().iter().sum::<u64>(), 2);
}

#[tokio::test]
async fn a_responder_that_does_not_know_get_is_asked_with_post() {
    let responder = TestResponder::start(Behaviour::PostOnly).await;
    let setup = Setup::of(&responder);
    assert_eq!(setup.status("dev").await, Status::Good);
    let methods: Vec<_> = responder
        .requests()
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(methods, ["GET", "POST"]);
}

#[tokio::test]
async fn nonce_and_hashes_are_what_a_real_responder_understands() {
    let responder = TestResponder::start(Behaviour::Answer("oc_good")).await;
    for hash in [CertificateIdHash::Sha1, CertificateIdHash::Sha256] {
        for method in [Method::Get, Method::Post] {
            let setup = Setup::new(|settings| {
                let url = Some(responder.url.clone());
                settings.ask.responders = Responders::new(url, [], Vec::new());
                (settings.ask.hash, settings.ask.method) = (hash, method);
                settings.ask.nonce = Nonce::Required;
            });
            assert_eq!(setup.status("dev").await, Status::Good, "{hash:?} {method:?}");
        }
    }
}

#[tokio::test]
async fn each_way_to_get_no_answer_is_told_apart_from_wrong_answers() {
    let cases = [
        (Behaviour::HttpStatus(500), Status::Unavailable(Unavailable::HttpStatus)),
        (Behaviour::HttpStatus(404), Status::Unavailable(Unavailable::HttpStatus)),
        (Behaviour::Redirect, Status::Unavailable(Unavailable::HttpStatus)),
        (Behaviour::Endless, Status::Unavailable(Unavailable::TooLarge)),
        (Behaviour::TryLater, Status::Unavailable(Unavailable::TryLater)),
        (Behaviour::Garbage, Status::Invalid(Invalid::Malformed)),
        (Behaviour::Answer("oc_noeku"), Status::Invalid(Invalid::Delegate)),
    ];
    for (behaviour, expected) in cases {
        let responder = TestResponder::start(behaviour).await;
        let setup = Setup::of(&responder);
        assert_eq!(setup.status("dev").await, expected, "{behaviour:?}");
        let elsewhere =
            responder.requests().iter().filter(|line| line.contains("elsewhere")).count();
        assert_eq!(elsewhere, 0, "redirects are not followed");
        // Back again: it was remembered for a moment only.
        responder.behave(Behaviour::Answer("oc_good"));
        setup.clock.shift(3);
        assert_eq!(setup.status("dev").await, Status::Good, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_silent_responder_is_waited_for_no_longer_than_configured() {
    let responder = TestResponder::start(Behaviour::Hang).await;
    let time = Duration::from_millis(200);
    let setup = Setup::new(|settings| {
        settings.ask.responders = Responders::new(Some(responder.url.clone()), [], Vec::new());
        settings.ask.timeout = time;
    });
    let started = Instant::now();
    assert_eq!(setup.status("dev").await, Status::Unavailable(Unavailable::Timeout));
    assert!((time..time * 10).contains(&started.elapsed()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_responder_that_is_down_is_left_alone_after_a_while() {
    let setup = Setup::new(|settings| {
        let url = configured_url("http://127.0.0.1:9/").unwrap();
        settings.ask.responders = Responders::new(Some(url), [], Vec::new());
        settings.failure_cache = Duration::ZERO;
    });
    for round in 0..6 {
        setup.clock.shift(round);
        let expected = if round < 5 { Unavailable::Connect } else { Unavailable::CircuitOpen };
        assert_eq!(setup.status("dev").await, Status::Unavailable(expected), "{round}");
    }
}

#[tokio::test]
async fn whoever_leaves_does_not_stop_the_request() {
    let responder = TestResponder::start(Behaviour::Slow(SOON)).await;
    let setup = Setup::of(&responder);
    assert!(tokio::time::timeout(Duration::from_millis(1), setup.status("dev")).await.is_err());
    for _ in 0..1000 {
        if setup.known("dev").is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(setup.known("dev"), Some(Status::Good));
    assert_eq!(responder.requests().len(), 1);
    assert!(setup.ocsp.flights.lock().is_empty());
}

#[tokio::test]
async fn requests_to_one_responder_wait_for_their_turn() {
    let responder = TestResponder::start(Behaviour::Slow(SOON)).await;
    let setup = Setup::new(|settings| {
        settings.ask.responders = Responders::new(Some(responder.url.clone()), [], Vec::new());
        settings.ask.concurrent_max = 2;
        settings.flights_max = 6;
    });
    let names = ["dev", "rev", "oc_good", "oc_ed", "oc_rsa", "oc_521", "oc_check"];
    let statuses = futures_util::future::join_all(names.map(|name| setup.status(name))).await;
    let (last, others) = statuses.split_last().unwrap();
    assert_eq!(*last, Status::Unavailable(Unavailable::Busy), "more than may be asked for at once");
    assert!(others.iter().all(|status| !matches!(status, Status::Unavailable(_))), "{others:?}");
    assert_eq!(responder.most_under_way(), 2);
}

#[tokio::test]
async fn certificates_name_responders_only_where_they_are_allowed_to() {
    let responder = TestResponder::start(Behaviour::Answer("oc_good")).await;
    let setup = Setup::new(|_| {});
    assert_eq!(setup.status("dev").await, Status::Unavailable(Unavailable::NotAllowed));
    assert_eq!(setup.status("oc_good").await, Status::Unavailable(Unavailable::NoResponder));

    let host = format!("127.0.0.1:{}", responder.url.port().unwrap());
    let setup = Setup::new(|settings| {
        let hosts = [host, "127.0.0.1:9".to_owned()].map(|host| AllowedHost::parse(&host).unwrap());
        settings.ask.responders = Responders::new(None, [], hosts.into());
    });
    let mut certificate = (*PKI.certificate("dev")).clone();
    certificate.ocsp_urls = vec![
        "http://169.254.169.254/".to_owned(),
        "http://127.0.0.1:9/dead".to_owned(),
        responder.url.to_string(),
    ];
    let status = setup.ocsp.status(Arc::clone(&setup.issuer), Arc::new(certificate)).await;
    assert_eq!(status, Status::Good);
}

#[tokio::test]
async fn an_own_certificate_gets_a_response_that_can_be_stapled() {
    let responder = TestResponder::start(Behaviour::Answer("oc_good")).await;
    let mut certificate = (*PKI.certificate("dev")).clone();
    certificate.ocsp_urls = vec![responder.url.to_string()];
    let port = responder.url.port().unwrap();
    let host = AllowedHost::parse(&format!("{}:{port}", responder.url.host_str().unwrap()));
    let responders = Responders::new(None, [], vec![host.unwrap()]);
    let settings = AskSettings { responders, ..AskSettings::default() };
    let asker = Asker::new(settings, Clock::default()).unwrap();
    let issuer = PKI.certificate("int");
    let answer = asker.ask(&issuer, &certificate).await.unwrap();
    assert_eq!(answer.checked.status, CheckedStatus::Good);
    let question = Question { issuer: &issuer, serial: &certificate.serial, nonce: None };
    let again = check(&answer.response, &question, Clock::default().now(), &Rules::default());
    assert_eq!(again, Ok(answer.checked));
    responder.behave(Behaviour::Answer("intevil"));
    let wrong = asker.ask(&issuer, &certificate).await.unwrap_err();
    assert_eq!(wrong.kind, FaultKind::Invalid(Invalid::Delegate));
    assert!(wrong.to_string().contains(responder.url.as_str()), "{wrong}");
}

#[tokio::test]
async fn a_live_session_is_asked_for_again_at_half_life() {
    let responder = TestResponder::start(Behaviour::Answer("oc_good")).await;
    let setup = Setup::of(&responder);
    let dev = PKI.certificate("dev");
    let key = setup.issuer.issued_id(&dev.serial);
    let due = || setup.ocsp.cache.find_fresh(&key, setup.clock.now()).is_none();
    let refreshed = || setup.ocsp.refreshed(Arc::clone(&setup.issuer), Arc::clone(&dev));
    assert_eq!(setup.status("dev").await, Status::Good);
    assert!(!due());
    setup.clock.shift(1810);
    assert!(due());
    assert_eq!(setup.status("dev").await, Status::Good, "new connections use it until its end");
    assert_eq!(responder.requests().len(), 1);
    responder.behave(Behaviour::HttpStatus(500));
    assert_eq!(refreshed().await, Status::Good, "it is still usable");
    assert_eq!(responder.requests().len(), 2);
    assert!(!due(), "not at once again");
}

#[tokio::test]
async fn a_clock_that_is_off_by_hours_believes_nothing() {
    let responder = TestResponder::start(Behaviour::Answer("int")).await;
    for (shift, expected) in [
        (7200, Status::Invalid(Invalid::Stale)),
        (-7200, Status::Invalid(Invalid::NotYet)),
        (120, Status::Good),
        (-120, Status::Good),
    ] {
        let setup = Setup::of(&responder);
        setup.clock.shift(shift);
        assert_eq!(setup.status("dev").await, expected, "{shift}");
    }
}
