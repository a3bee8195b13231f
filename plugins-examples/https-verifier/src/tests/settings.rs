//! Settings that are wrong are named, with what to write, and nobody is let in.

use portreeve_guest::testing::connect;

use crate::testing::{json, service, verify};

fn said(settings: &[(&str, &str)]) -> String {
    let asked = service(vec![json(200, r#"{"result":"accept"}"#)]);
    let connect = connect("client-1").user_name("device-1").password("demo").build();
    let error = verify(settings, connect).unwrap_err().to_string();
    assert!(asked.borrow().is_empty(), "{error}");
    error
}

#[test]
fn each_mistake_names_its_setting_and_what_to_write() {
    for (settings, named, fix) in [
        (&[("preset", "aws")][..], "`preset`", "portreeve, emqx"),
        (&[("url", "auth.example.com")], "`url`", "https://"),
        (&[("method", "P OST")], "`method`", "POST"),
        (&[("statuss", "{}")], "`statuss`", "README"),
        (&[("timeout", "5s")], "`timeout`", "[http_client]"),
        (&[("response_mode", "json")], "`response_mode`", "mosquitto-go-auth"),
        (&[("status", r#"{"2000":"accept"}"#)], "`status.2000`", "4xx"),
        (&[("status", r#"{"200":"yes"}"#)], "`status.200`", "body"),
        (&[("results", r#"{"*":"accept"}"#)], "`results.*`", "name the results"),
        (&[("response", r#"{"result":""}"#)], "`response.result`", "/result"),
        (&[("response", r#"{"results":"/x"}"#)], "`response.results`", "device_name"),
        (&[("response_format", "xml")], "`response_format`", "json"),
        (&[("absent", "nil")], "`absent`", "omit"),
        (&[("required", r#"["user"]"#)], "`required`", "user_name"),
        (&[("device_name", "${password}")], "`device_name`", "${user_name}"),
        (
            &[("device_name", ""), ("response", r#"{"device_name":""}"#)],
            "`device_name`",
            "client_id",
        ),
        (&[("body", "{")], "`body`", "JSON"),
        (&[("body", r#"{"a":"x${certificate}"}"#)], "`body`", "alone"),
        (&[("method", "GET"), ("body", "a=${client_id}")], "`body`", "[settings.body]"),
        (
            &[("headers", r#"{"content-type":"text/xml"}"#)],
            "`headers.content-type`",
            "application/json",
        ),
        (&[("headers", r#"{"Host":"x"}"#)], "`headers.Host`", "take it out"),
        (&[("headers", r#"{"a b":"x"}"#)], "`headers.a b`", "letters"),
        (&[("headers", r#"{"a":"x\ny"}"#)], "`headers.a`", "take it out"),
        (&[("headers", r#"{"webhook-id":"x"}"#)], "`headers.webhook-id`", "take it out"),
        (&[("headers", r#"{"a":"${setting.token}"}"#)], "`headers.a`", "add token"),
        (&[("retries", "9")], "`retries`", "0 to 5"),
        (&[("retry_within", "2h")], "`retry_within`", "60 s"),
        (&[("cache_for", "60")], "`cache_for`", "\"10s\""),
        (&[("superusers", "si")], "`superusers`", "true or false"),
        (&[("unsupported_acl", "allow")], "`unsupported_acl`", "leave-out"),
        (&[("sign_secret", "swordfish")], "`sign_secret`", "openssl rand"),
        (
            &[
                ("method", "GET"),
                ("body", r#"{"c":"${client_id}"}"#),
                ("sign_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ],
            "`sign_secret`",
            "POST",
        ),
    ] {
        let said = said(settings);
        assert!(said.contains(named) && said.contains(fix), "{settings:?}: {said}");
    }
}

#[test]
fn a_setting_without_url_is_said_so() {
    portreeve_guest::testing::settings([]);
    let connect = connect("client-1").build();
    let error = <crate::HttpsVerifier as portreeve_guest::Verifier>::verify(connect).unwrap_err();
    assert!(error.to_string().contains("`url`"), "{error}");
}

#[test]
fn secrets_are_not_said() {
    let said = said(&[
        ("headers", r#"{"a b":"${setting.token}"}"#),
        ("token", "s3cret"),
        ("sign_secret", "hush"),
    ]);
    assert!(!said.contains("s3cret") && !said.contains("hush"), "{said}");
}
