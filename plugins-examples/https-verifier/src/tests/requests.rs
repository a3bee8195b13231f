//! What the service is asked, how often, and signed by whom.

use std::collections::BTreeSet;

use portreeve_guest::http::{HttpError, Request, Response};
use portreeve_guest::testing::{ConnectBuilder, connect};
use portreeve_guest::{RefusalReason, Verdict};

use crate::testing::{json, service, verify};

fn device() -> ConnectBuilder {
    connect("client-1").user_name("device-1").password("demo")
}

fn header(request: &Request, name: &str) -> Option<String> {
    let header = request.headers.iter().find(|(other, _)| other == name)?;
    Some(String::from_utf8(header.1.clone()).unwrap())
}

fn accept() -> Result<Response, HttpError> {
    json(200, r#"{"result":"accept"}"#)
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn headers_carry_values_and_secrets_and_nothing_that_would_divide_them() {
    let settings = [
        (
            "headers",
            r#"{"Authorization":"Bearer ${setting.token}","x-user":"${user_name}","accept":""}"#,
        ),
        ("token", "t0ken"),
    ];
    let asked = service(vec![accept()]);
    assert!(matches!(verify(&settings, device().build()), Ok(Verdict::Admit(_))));
    let request = &asked.borrow()[0];
    assert_eq!(header(request, "authorization").as_deref(), Some("Bearer t0ken"));
    assert_eq!(header(request, "x-user").as_deref(), Some("device-1"));
    assert_eq!(header(request, "accept"), None);
    for hostile in ["a\r\nx-admin: 1", "a\nb", "a\0", " admin", "admin ", "\u{7f}"] {
        let asked = service(vec![accept()]);
        let verdict = verify(&settings, connect("c").user_name(hostile).build()).unwrap();
        let Verdict::Refuse(refusal) = verdict else { panic!("{verdict:?}") };
        assert_eq!(refusal.reason, RefusalReason::BadUserNameOrPassword, "{hostile:?}");
        assert!(refusal.message.contains("x-user") && asked.borrow().is_empty());
    }
}

#[test]
fn what_passes_is_asked_again_and_the_rest_is_not() {
    let unreachable = || Err(HttpError::Unreachable("ErrorCode::ConnectionRefused".to_owned()));
    let tls = Err(HttpError::Unreachable("ErrorCode::TlsCertificateError".to_owned()));
    for (first, times) in [
        (unreachable(), 2),
        (Err(HttpError::TimedOut), 2),
        (json(502, ""), 2),
        (json(503, ""), 2),
        (json(504, ""), 2),
        (json(500, ""), 1),
        (json(200, "garbage"), 1),
        (Err(HttpError::Broken("reset".to_owned())), 1),
        (tls, 1),
        (Err(HttpError::Denied), 1),
    ] {
        let asked = service(vec![first.clone(), accept()]);
        let verdict = verify(&[], device().build());
        assert_eq!(verdict.is_ok(), times == 2, "{first:?}");
        assert_eq!(asked.borrow().len(), times, "{first:?}");
    }
    let asked = service(vec![unreachable()]);
    let said = verify(&[("retries", "3")], device().build()).unwrap_err().to_string();
    assert!(said.contains("several times") && asked.borrow().len() == 4, "{said}");
    let asked = service(vec![unreachable()]);
    let said = verify(&[("retries", "0")], device().build()).unwrap_err().to_string();
    assert!(said.contains("once") && asked.borrow().len() == 1, "{said}");
}

#[test]
fn no_attempt_begins_after_the_retry_within() {
    let asked = service(vec![Err(HttpError::TimedOut)]);
    let settings = [("retry_within", "20ms"), ("retry_delay", "1s"), ("retries", "5")];
    assert!(verify(&settings, device().build()).is_err());
    assert_eq!(asked.borrow().len(), 1);
}

#[test]
fn a_signed_question_keeps_its_identifier_and_others_have_their_own() {
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let asked = service(vec![json(503, ""), accept()]);
        let settings = [("sign_secret", SECRET), ("sign_secret_previous", SECRET)];
        assert!(verify(&settings, device().build()).is_ok());
        let asked = asked.borrow();
        let of = |index: usize, name| header(&asked[index], name).unwrap();
        assert_eq!(of(0, "webhook-id"), of(1, "webhook-id"));
        let signature = of(1, "webhook-signature");
        let timestamp: u64 = of(1, "webhook-timestamp").parse().unwrap();
        assert!(crate::ask::unix_seconds() - timestamp < 5);
        let signer = crate::sign::Signer::new(&[("sign_secret", SECRET.to_owned())]).unwrap();
        let id = of(1, "webhook-id");
        let expected = signer.signature(&id, timestamp, &asked[1].body).unwrap();
        assert_eq!(signature, format!("{expected} {expected}"));
        ids.insert(id);
    }
    assert_eq!(ids.len(), 3);
}

#[test]
fn what_a_device_brings_about_is_a_refusal_and_no_fault_of_the_plugin() {
    let path = [("url", "https://auth.example.com/verify/${client_id}")];
    for (settings, connect) in [
        (&path[..], connect("..").build()),
        (&path[..], connect("a/b").build()),
        (&[], connect("c").user_name("u").password([0xff]).build()),
        (&[], connect("c").user_name("!").build()),
    ] {
        let _asked = service(vec![accept()]);
        let verdict = verify(settings, connect).unwrap();
        assert!(matches!(verdict, Verdict::Refuse(_)), "{verdict:?}");
    }
    let _asked = service(vec![Err(HttpError::Invalid("the body is too long".to_owned()))]);
    assert!(matches!(verify(&[], device().build()), Ok(Verdict::Refuse(_))));
}
