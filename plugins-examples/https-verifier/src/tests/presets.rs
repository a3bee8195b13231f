//! Each preset speaks its service's contract.

use portreeve_guest::testing::{ConnectBuilder, connect};
use portreeve_guest::{Action, Admission, Permission, Refusal, RefusalReason, Verdict};
use serde_json::{Value, json as value};

use crate::testing::{Asked, json, service, verify, with_certificate};

fn device() -> ConnectBuilder {
    connect("client-1").user_name("device-1").password("demo")
}

fn admitted(verdict: Result<Verdict, portreeve_guest::Error>) -> Admission {
    match verdict.unwrap() {
        Verdict::Admit(admission) => admission,
        other => panic!("not admitted: {other:?}"),
    }
}

fn refused(verdict: Result<Verdict, portreeve_guest::Error>) -> Refusal {
    match verdict.unwrap() {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn sent(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.borrow()[0].body).unwrap()
}

fn permission(action: Action, topic_filter: &str) -> Permission {
    Permission { action, topic_filter: topic_filter.to_owned() }
}

#[test]
fn portreeve_asks_in_full_and_takes_everything_that_an_admission_has() {
    let asked = service(vec![json(
        200,
        r#"{"result":"accept","deviceName":"pump-7","product":"pumps","attributes":{"site":"north"},
            "permissions":[{"action":"both","topicFilter":"d/%d/#"}],"expiresIn":3600,"cacheFor":60,
            "somethingElse":{"is":["ignored"]}}"#,
    )]);
    let verdict = verify(&[("product", "pumps")], with_certificate(device(), "device-1").build());
    let admission = Admission::new("pump-7")
        .product("pumps")
        .attribute("site", "north")
        .permit(Action::Both, "d/%d/#")
        .expires_in(3600)
        .cache_for(60);
    assert_eq!(admitted(verdict), admission);
    let request = &asked.borrow()[0];
    assert_eq!(
        (request.method.as_str(), request.url.as_str()),
        ("POST", "https://auth.example.com/verify")
    );
    assert!(request.headers.contains(&("content-type".to_owned(), b"application/json".into())));
    let body = sent(&asked);
    assert_eq!(body["certificate"]["commonName"], "device-1");
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    let expected = ["clientId", "userName", "password", "certificate", "peerAddress", "gateway"];
    assert_eq!(names[..6], expected);
    assert_eq!(body["product"], "pumps");
}

#[test]
fn portreeve_sends_null_for_what_is_not_there() {
    let asked = service(vec![json(200, r#"{"result":"accept","deviceName":"anonymous"}"#)]);
    let admission = admitted(verify(&[], connect("").build()));
    assert_eq!(admission, Admission::new("anonymous"));
    let expected = value!({
        "clientId": "", "userName": null, "password": null, "certificate": null,
        "peerAddress": "192.0.2.1:50000", "gateway": "test", "product": null,
    });
    assert_eq!(sent(&asked), expected);
}

#[test]
fn portreeve_refuses_for_the_reason_of_the_response_or_of_the_status() {
    let of = |status, body| {
        let _asked = service(vec![json(status, body)]);
        refused(verify(&[], device().build()))
    };
    let banned = of(200, r#"{"result":"reject","reason":"banned","message":"stolen"}"#);
    assert_eq!((banned.reason, banned.message.as_str()), (RefusalReason::Banned, "stolen"));
    assert_eq!(of(200, r#"{"result":"reject"}"#).reason, RefusalReason::NotAuthorized);
    let unknown = of(200, r#"{"result":"reject","reason":"dislike"}"#);
    assert_eq!(unknown.reason, RefusalReason::NotAuthorized);
    let elsewhere = of(
        200,
        r#"{"result":"reject","reason":"use-another-server","serverReference":"gw2:1883"}"#,
    );
    assert_eq!(elsewhere.reason, RefusalReason::UseAnotherServer);
    assert_eq!(elsewhere.server_reference.as_deref(), Some("gw2:1883"));
    assert_eq!(of(401, "").reason, RefusalReason::BadUserNameOrPassword);
    assert_eq!(of(403, r#"{"message":"not here"}"#).message, "not here");
    assert_eq!(of(403, "<html>").reason, RefusalReason::NotAuthorized);
    assert_eq!(of(429, "").reason, RefusalReason::ServerBusy);
}

#[test]
fn emqx_sends_what_emqx_sends() {
    let asked = service(vec![json(200, r#"{"result":"allow"}"#)]);
    let admission = admitted(verify(&[("preset", "emqx")], device().build()));
    assert_eq!(admission, Admission::new("device-1"));
    let expected = value!({"clientid": "client-1", "username": "device-1", "password": "demo"});
    assert_eq!(sent(&asked), expected);
    let asked = service(vec![json(200, r#"{"result":"allow"}"#)]);
    let settings = [("preset", "emqx"), ("device_name", "${clientid}")];
    assert_eq!(admitted(verify(&settings, connect("client-1").build())).device_name, "client-1");
    assert_eq!(sent(&asked)["username"], "", "EMQX has an empty text for what is not there");
}

#[test]
fn emqx_puts_the_body_of_a_get_into_the_query() {
    let asked = service(vec![json(200, r#"{"result":"allow"}"#)]);
    let settings = [
        ("preset", "emqx"),
        ("method", "get"),
        ("url", "https://auth.example.com/verify?source=mqtt"),
        ("body", r#"{"username":"${username}","ip":"${peerhost}","cn":"${cert_common_name}"}"#),
    ];
    let connect = connect("c").user_name("a&b=é").build();
    let refusal = refused(verify(&settings, connect));
    assert!(refusal.message.contains("device_name"), "{refusal:?}");
    let request = &asked.borrow()[0];
    let query = "?source=mqtt&username=a%26b%3D%C3%A9&ip=192.0.2.1&cn=";
    assert_eq!(request.url, format!("https://auth.example.com/verify{query}"));
    assert!(request.body.is_empty());
    assert!(request.headers.iter().all(|(name, _)| name != "content-type"));
}

#[test]
fn emqx_admits_with_attributes_acl_and_expiry() {
    let at = crate::ask::unix_seconds() + 600;
    let body = value!({
        "result": "allow", "is_superuser": false, "client_attrs": {"role": "sensor"},
        "expire_at": at,
        "acl": [
            {"permission": "allow", "action": "publish", "topic": "up/${clientid}/#"},
            {"permission": "allow", "action": "subscribe", "topic": "eq t/1/#"},
            {"permission": "deny", "action": "all", "topic": "#"},
        ],
    });
    let _asked = service(vec![json(200, &body.to_string())]);
    let admission = admitted(verify(&[("preset", "emqx")], device().build()));
    assert_eq!(admission.attributes, [("role".to_owned(), "sensor".to_owned())]);
    let permissions =
        [permission(Action::Publish, "up/%c/#"), permission(Action::Subscribe, "t/1/#")];
    assert_eq!(admission.permissions.as_deref(), Some(&permissions[..]));
    assert!((595..=600).contains(&admission.expires_in.unwrap()));
}

#[test]
fn emqx_superusers_may_do_everything_unless_the_setting_says_no() {
    let of = |settings: &[(&str, &str)]| {
        let _asked = service(vec![json(
            200,
            r#"{"result":"allow","is_superuser":true,
                "acl":[{"permission":"allow","action":"all","topic":"t"}]}"#,
        )]);
        admitted(verify(settings, device().build())).permissions.unwrap()
    };
    assert_eq!(of(&[("preset", "emqx")]), [permission(Action::Both, "#")]);
    let without = [("preset", "emqx"), ("superusers", "false")];
    assert_eq!(of(&without), [permission(Action::Both, "t")]);
}

#[test]
fn emqx_refuses_what_is_denied_ignored_expired_or_not_expressible() {
    let of = |settings: &[(&str, &str)], status, body| {
        let _asked = service(vec![json(status, body)]);
        verify(settings, device().build())
    };
    let emqx = [("preset", "emqx")];
    for (status, body) in [
        (200, r#"{"result":"deny"}"#),
        (200, r#"{"result":"ignore"}"#),
        (200, r#"{"result":"allow","expire_at":0}"#),
        (200, r#"{"result":"allow","expire_at":1654254601}"#),
        (404, ""),
        (401, r#"{"result":"allow"}"#),
        (
            200,
            r##"{"result":"allow","acl":[{"permission":"deny","action":"all","topic":"t/3"},
                {"permission":"allow","action":"all","topic":"#"}]}"##,
        ),
    ] {
        let refusal = refused(of(&emqx, status, body));
        assert_eq!(refusal.reason, RefusalReason::NotAuthorized, "{body}");
    }
    let leave_out = [("preset", "emqx"), ("unsupported_acl", "leave-out")];
    let body = r#"{"result":"allow","acl":[{"permission":"allow","action":"all","topic":"a"},
        {"permission":"allow","action":"all","topic":"b","qos":[1]}]}"#;
    let permissions = admitted(of(&leave_out, 200, body)).permissions.unwrap();
    assert_eq!(permissions, [permission(Action::Both, "a")]);
    assert_eq!(admitted(of(&emqx, 204, "")), Admission::new("device-1"));
    for (status, body) in [(500, ""), (200, ""), (200, "{}"), (200, r#"{"result":"perhaps"}"#)] {
        assert!(of(&emqx, status, body).is_err(), "{status} {body}");
    }
}

#[test]
fn emqx_services_may_answer_with_a_form() {
    let answer = |media: &str, body: &str| {
        let mut response = json(200, body).unwrap();
        response.headers = vec![("Content-Type".to_owned(), media.as_bytes().to_vec())];
        let _asked = service(vec![Ok(response)]);
        verify(&[("preset", "emqx")], device().build())
    };
    let form = "application/x-www-form-urlencoded";
    let admission = admitted(answer(form, "result=allow&is_superuser=true&expire_at=4000000000"));
    assert!(admission.permissions.is_some() && admission.expires_in.is_some());
    assert_eq!(refused(answer(form, "result=deny")).reason, RefusalReason::NotAuthorized);
    assert!(answer("text/plain", "allow").unwrap_err().to_string().contains("content-type"));
}

#[test]
fn azure_sends_base64_and_pem_and_leaves_out_what_is_not_there() {
    let asked = service(vec![json(
        200,
        r#"{"decision":"allow","clientAuthenticationName":"client-1.example",
            "attributes":{"floor":3,"rooms":["a","b"]},"expiration":"4000000000"}"#,
    )]);
    let settings = [("preset", "azure-event-grid")];
    let admission = admitted(verify(&settings, device().build()));
    assert_eq!(admission.device_name, "client-1.example");
    let attributes = [("floor", "3"), ("rooms", "a"), ("rooms", "b")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(admission.attributes, attributes);
    assert!(admission.expires_in.is_some());
    let expected = value!({"clientId": "client-1", "userName": "device-1", "password": "ZGVtbw=="});
    assert_eq!(sent(&asked), expected);
    let asked = service(vec![json(200, r#"{"decision":"deny","errorReason":"CRL"}"#)]);
    let refusal = refused(verify(&settings, with_certificate(device(), "device-1").build()));
    assert_eq!(refusal.reason, RefusalReason::NotAuthorized);
    assert!(!refusal.message.contains("CRL"), "that is for the log: {refusal:?}");
    assert!(sent(&asked)["clientCertificate"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    for (status, body) in
        [(200, r#"{"decision":"allow"}"#), (401, ""), (200, r#"{"decision":"later"}"#)]
    {
        let _asked = service(vec![json(status, body)]);
        assert!(verify(&settings, device().build()).is_err(), "{body}");
    }
}

#[test]
fn azure_judges_enhanced_authentication_and_others_are_not_asked_about_it() {
    let mut enhanced = device().build();
    enhanced.authentication_method = Some("OAUTH2-JWT".to_owned());
    enhanced.authentication_data = Some(b"token".to_vec());
    let body = r#"{"decision":"allow","clientAuthenticationName":"device-1"}"#;
    let asked = service(vec![json(200, body)]);
    let azure = [("preset", "azure-event-grid")];
    assert_eq!(admitted(verify(&azure, enhanced.clone())).device_name, "device-1");
    assert_eq!(sent(&asked)["authenticationMethod"], "OAUTH2-JWT");
    assert_eq!(sent(&asked)["authenticationData"], "dG9rZW4=");
    for preset in ["portreeve", "emqx", "mosquitto-go-auth"] {
        let asked = service(vec![json(200, r#"{"result":"accept"}"#)]);
        let refusal = refused(verify(&[("preset", preset)], enhanced.clone()));
        assert_eq!(refusal.reason, RefusalReason::NotAuthorized);
        assert!(asked.borrow().is_empty());
    }
}

fn go_auth(modes: &[(&str, &str)], status: u16, body: &str) -> (Option<bool>, Asked) {
    let asked = service(vec![json(status, body)]);
    let settings: Vec<_> = [("preset", "mosquitto-go-auth")].iter().chain(modes).copied().collect();
    let verdict = verify(&settings, device().build());
    (verdict.ok().map(|verdict| matches!(verdict, Verdict::Admit(_))), asked)
}

#[test]
fn mosquitto_go_auth_has_three_modes_of_response_and_two_of_parameters() {
    let status = |code| go_auth(&[], code, "").0;
    assert_eq!(
        [200, 204, 401, 404].map(status),
        [Some(true), Some(true), Some(false), Some(false)]
    );
    assert_eq!([302, 500, 503].map(status), [None, None, None]);
    let json = |body| go_auth(&[("response_mode", "json")], 200, body).0;
    assert_eq!(json(r#"{"Ok":true,"Error":""}"#), Some(true));
    assert_eq!(json(r#"{"ok":true}"#), Some(true));
    assert_eq!(json(r#"{"Ok":false,"Error":"wrong password"}"#), Some(false));
    assert_eq!(
        [r#"{"Error":""}"#, "ok", r#"{"Ok":1}"#, r#"{"ok":true,"Ok":false}"#].map(json),
        [None; 4]
    );
    let text = |body| go_auth(&[("response_mode", "text")], 200, body).0;
    assert_eq!(
        ["ok", "ok\n", "no", ""].map(text),
        [Some(true), Some(false), Some(false), Some(false)]
    );
    let (_, asked) = go_auth(&[], 200, "");
    let expected = value!({"username": "device-1", "password": "demo", "clientid": "client-1"});
    assert_eq!(sent(&asked), expected);
    let (_, asked) = go_auth(&[("params_mode", "form")], 200, "");
    assert_eq!(asked.borrow()[0].body, b"username=device-1&password=demo&clientid=client-1");
}

#[test]
fn mosquitto_go_auth_is_not_asked_about_nobody() {
    for nobody in [connect("c"), connect("c").user_name("device-1"), connect("c").password("x")] {
        let asked = service(vec![json(200, "")]);
        let refusal = refused(verify(&[("preset", "mosquitto-go-auth")], nobody.build()));
        assert_eq!(refusal.reason, RefusalReason::BadUserNameOrPassword);
        assert!(asked.borrow().is_empty());
    }
}
