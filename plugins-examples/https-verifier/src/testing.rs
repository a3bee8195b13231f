//! What several tests need.

use std::cell::RefCell;
use std::rc::Rc;

use portreeve_guest::http::{HttpError, Request, Response};
use portreeve_guest::testing::{self, ConnectBuilder};
use portreeve_guest::{Certificate, Connect, Error, Revocation, Tls, Verdict, Verifier};

use crate::HttpsVerifier;

/// The CONNECT with a certificate of this common name.
pub(crate) fn with_certificate(connect: ConnectBuilder, common_name: &str) -> ConnectBuilder {
    let certificate = Certificate {
        subject: format!("CN={common_name},O=Example"),
        common_name: Some(common_name.to_owned()),
        dns_names: vec![format!("{common_name}.example.com")],
        uris: Vec::new(),
        email_addresses: Vec::new(),
        issuer: "CN=ca".to_owned(),
        serial_number: "1f".to_owned(),
        not_before: 1_000_000_000,
        not_after: 2_000_000_000,
        fingerprint: "ab".repeat(32),
        revocation: Revocation::NotChecked,
        der: [vec![0x30, 0x01, 0x02], vec![7; 100]].concat(),
        chain: vec![vec![0x30, 0x00]],
    };
    connect.tls(Tls {
        version: "1.3".to_owned(),
        cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
        server_name: Some("gw.example.com".to_owned()),
        certificate: Some(certificate),
    })
}

/// The requests that a service got.
pub(crate) type Asked = Rc<RefCell<Vec<Request>>>;

/// A service that gives these answers, one after the other, and the last one for ever.
pub(crate) fn service(answers: Vec<Result<Response, HttpError>>) -> Asked {
    let asked = Asked::default();
    let log = Rc::clone(&asked);
    testing::http(move |request| {
        let index = log.borrow().len().min(answers.len() - 1);
        log.borrow_mut().push(request);
        answers[index].clone()
    });
    asked
}

/// A JSON response.
pub(crate) fn json(status: u16, body: &str) -> Result<Response, HttpError> {
    let mut response = Response::new(status, body);
    response.headers.push(("content-type".to_owned(), b"application/json; charset=utf-8".into()));
    Ok(response)
}

/// Asks with these settings beside a URL.
pub(crate) fn verify(settings: &[(&str, &str)], connect: Connect) -> Result<Verdict, Error> {
    let url = [("url", "https://auth.example.com/verify"), ("retry_delay", "1ms")];
    testing::settings(url.into_iter().chain(settings.iter().copied()));
    HttpsVerifier::verify(connect)
}
