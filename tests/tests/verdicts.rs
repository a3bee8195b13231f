//! A fleet that comes back at once is not as many calls of somebody's service: verdicts that are used
//! again, equal questions that are asked once, and what makes a verdict void.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portreeve_tests::client::connect;
use portreeve_tests::https_gateway::{HttpsGateway, manifest, trusting};
use portreeve_tests::https_service::{Answer, HttpsService};
use portreeve_tests::tls_gateway::wait_until;
use portreeve_tests::{Client, V5, V311};
use serde_json::json;

/// A service that admits whoever says "demo" under the user name, and counts.
fn service(cache_for: u32, takes: Duration) -> (HttpsService, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = HttpsService::start(move |question| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(takes);
        let body = question.json();
        match body["password"] == "demo" {
            true => Answer::json(json!({
                "result": "accept", "deviceName": body["userName"], "cacheFor": cache_for,
                "attributes": { "answer": counted.load(Ordering::SeqCst).to_string() },
            })),
            false => Answer::json(json!({ "result": "reject" })),
        }
    });
    (service, calls)
}

#[test]
fn a_verdict_is_used_again_for_the_same_question_and_for_no_other() {
    let (service, calls) = service(60, Duration::ZERO);
    let gateway = HttpsGateway::asking(&service, "preset = \"portreeve\"");
    for _ in 0..3 {
        assert_eq!(gateway.code("device-1", "demo"), 0);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "asked once");
    assert_ne!(gateway.code("device-1", "wrong"), 0);
    assert_ne!(gateway.code("device-1", "wrong"), 0);
    assert_eq!(calls.load(Ordering::SeqCst), 3, "a refusal is not used again");
    assert_eq!(gateway.connect(V311, "device-1", b"demo").1, 0);
    assert_eq!(calls.load(Ordering::SeqCst), 4, "another version of MQTT is another question");
    assert_eq!(gateway.code("device-1", "demo"), 0);
    assert_eq!(calls.load(Ordering::SeqCst), 5, "the device has other attributes since");
    assert_eq!(gateway.code("device-1", "demo"), 0);
    assert_eq!(calls.load(Ordering::SeqCst), 5);
}

#[test]
fn a_verdict_is_void_when_the_device_or_the_plugin_changes() {
    let (service, calls) = service(3_600, Duration::ZERO);
    let gateway = HttpsGateway::asking(&service, "preset = \"portreeve\"");
    let mut client = gateway.connect(V5, "device-1", b"demo").0;
    let begin = Instant::now();
    gateway.command(&["device", "disable", "device-1"]);
    assert_eq!(client.expect_close(), "e00198");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(gateway.code("device-1", "demo"), 0x87, "not by the verdict of before");
    gateway.command(&["device", "enable", "device-1"]);
    assert_eq!(gateway.code("device-1", "demo"), 0);
    let asked = calls.load(Ordering::SeqCst);
    assert_eq!(gateway.code("device-1", "demo"), 0);
    assert_eq!(calls.load(Ordering::SeqCst), asked);
    let told = gateway.command(&["explain", "--user-name", "device-1", "--limit", "5"]);
    assert!(told.contains("admitted it before (cache-for)"), "{told}");
    assert!(told.contains("device device-1 is disabled"), "{told}");
    assert!(!told.contains("demo"), "{told}");
    let settings = "preset = \"portreeve\"\nproduct = \"other\"";
    gateway.put_manifest(&manifest(&service.url("/verify"), settings, &trusting("root")));
    wait_until("the new version asks", Duration::from_secs(20), || {
        assert_eq!(gateway.code("device-1", "demo"), 0);
        calls.load(Ordering::SeqCst) > asked
    });
}

#[test]
fn equal_questions_are_asked_once_while_the_service_thinks() {
    let (service, calls) = service(0, Duration::from_secs(1));
    let gateway = HttpsGateway::asking(&service, "preset = \"portreeve\"");
    let address = gateway.address;
    let attempt = move || {
        let mut login = connect(V5, "c-device-1");
        (login.user_name, login.password) = (Some("device-1"), Some(&b"demo"[..]));
        Client::dial(address).connect_code(&login)
    };
    let attempts: Vec<_> = (0..20).map(|_| std::thread::spawn(attempt)).collect();
    for attempt in attempts {
        assert_eq!(attempt.join().unwrap(), 0);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(gateway.code("device-1", "demo"), 0);
    assert_eq!(calls.load(Ordering::SeqCst), 2, "what was answered is asked again");
}
