//! What presets do with functions, good ones and bad ones.

mod hostile;
mod policies;

use portreeve_guest::testing::{connect, settings};
use portreeve_guest::{Action, Admission, Connect, Refusal, RefusalReason, Tls, Verdict};
use portreeve_script::{Fault, ScriptError};

use crate::verifier::FunctionVerifier;

pub(crate) fn load(script: &str, more: &[(&str, &str)]) -> Result<FunctionVerifier, ScriptError> {
    let own = [("script", script), ("script_name", "a.js")];
    settings(own.into_iter().chain(more.iter().copied()));
    FunctionVerifier::from_settings()
}

pub(crate) fn request(user_name: &str, password: &str) -> Connect {
    connect("client-1").user_name(user_name).password(password).build()
}

pub(crate) fn ask(
    script: &str,
    more: &[(&str, &str)],
    request: &Connect,
) -> Result<Verdict, ScriptError> {
    load(script, more)?.verify(request)
}

pub(crate) fn admitted(verdict: Verdict) -> Admission {
    let Verdict::Admit(admission) = verdict else { panic!("{verdict:?}") };
    admission
}

pub(crate) fn refused(verdict: Verdict) -> Refusal {
    let Verdict::Refuse(refusal) = verdict else { panic!("{verdict:?}") };
    refusal
}

const HANDLER: &str = include_str!("../scripts/handler.js");

#[test]
fn portreeve_the_example_admits_whom_it_knows() {
    let mut verifier = load(HANDLER, &[("handler", "index.handler")]).unwrap();
    let admission = admitted(verifier.verify(&request("device-1", "demo")).unwrap());
    assert_eq!(admission.device_name, "device-1");
    assert_eq!(admission.attributes, [("site".to_owned(), "north".to_owned())]);
    let permissions = admission.permissions.unwrap();
    assert_eq!(
        (permissions[0].action, permissions[0].topic_filter.as_str()),
        (Action::Publish, "devices/%d/#")
    );
    assert_eq!((admission.expires_in, admission.cache_for), (Some(3600), Some(60)));
    for (user_name, password) in
        [("device-1", "demO"), ("device-2", "demo"), ("__proto__", "demo"), ("toString", "")]
    {
        let refusal = refused(verifier.verify(&request(user_name, password)).unwrap());
        assert_eq!(refusal.reason, RefusalReason::BadUserNameOrPassword, "{user_name}");
    }
    let mut verifier = load(HANDLER, &[("env.SALT", "other")]).unwrap();
    refused(verifier.verify(&request("device-1", "demo")).unwrap());
}

#[test]
fn portreeve_the_event_tells_what_the_peer_said() {
    let script = "exports.handler = (event, context, done) => done(null, { result: 'reject', message: JSON.stringify(event) });";
    let mut request = request("u", "p");
    request.connection.tls = Some(Tls {
        version: "1.3".to_owned(),
        cipher_suite: String::new(),
        server_name: Some("gw".to_owned()),
        certificate: None,
    });
    let message = refused(ask(script, &[], &request).unwrap()).message;
    let event = r#"{"clientId":"client-1","userName":"u","password":"p","certificate":null,"peerAddress":"192.0.2.1:50000","gateway":"test","protocol":"5.0","serverName":"gw","userProperties":[]}"#;
    assert_eq!(message, event);
    let binary = connect("c").password([0xff, 0]).build();
    assert_eq!(refused(ask(script, &[], &binary).unwrap()).message, "the password is no text");
}

#[test]
fn functions_answer_in_every_way_that_clouds_know() {
    for script in [
        "exports.handler = function (event, context, callback) { callback(null, { result: 'accept' }); };",
        "exports.handler = async (event) => ({ result: 'accept' });",
        "exports.handler = function (event) { return Promise.resolve({ result: 'accept' }); };",
        "exports.handler = (event, context) => { context.succeed({ result: 'accept' }); };",
        "exports.handler = (event, context) => { context.done(null, { result: 'accept' }); };",
        "exports.handler = (event, context, callback) => Promise.resolve().then(() => callback(null, { result: 'accept' }));",
        "module.exports = { handler: () => ({ result: 'accept' }) };",
        "module.exports.handler = () => JSON.stringify({ result: 'accept' });",
        "module.exports = () => Buffer.from(JSON.stringify({ result: 'accept' }));",
        "export const handler = async (event) => { return { result: 'accept' }; };",
        "function handler(event) { return { result: 'accept' }; }",
        "const handler = async (event) => { await null; await null; return { result: 'accept' }; };",
    ] {
        let admission = admitted(ask(script, &[], &request("device-7", "x")).unwrap());
        assert_eq!(admission.device_name, "device-7", "{script}");
        assert_eq!(admission.permissions, None);
    }
}

#[test]
fn the_first_answer_counts() {
    let script = "exports.handler = (event, context, callback) => {
        callback(null, { result: 'reject', message: 'first' });
        callback(null, { result: 'accept' });
        return { result: 'accept' };
    };";
    assert_eq!(refused(ask(script, &[], &request("d", "x")).unwrap()).message, "first");
}

#[test]
fn function_compute_has_a_buffer_and_a_template() {
    let script = include_str!("../scripts/function-compute.js");
    let preset = ("preset", "function-compute");
    let mut verifier = load(script, &[preset]).unwrap();
    assert_eq!(
        admitted(verifier.verify(&request("device-1", "demo")).unwrap()).device_name,
        "device-1"
    );
    refused(verifier.verify(&request("device-1", "wrong")).unwrap());
    let script = "exports.handler = (event, context, callback) => {
        const given = JSON.parse(event);
        callback(null, JSON.stringify({ data: { code: given.who === 'u/client-1' ? 0 : 1, name: given.id, text: typeof given.none } }));
    };";
    let more = [
        preset,
        (
            "event",
            r#"{"who":"${user_name}/${client_id}","id":"${client_id}","none":"${cert_common_name}"}"#,
        ),
        (
            "response",
            r#"{"result":"/data/code","device_name":"/data/name","message":"/data/text"}"#,
        ),
        ("results", r#"{"0":"accept","1":"banned"}"#),
    ];
    assert_eq!(admitted(ask(script, &more, &request("u", "p")).unwrap()).device_name, "client-1");
    let refusal = refused(ask(script, &more, &request("v", "p")).unwrap());
    assert_eq!((refusal.reason, refusal.message.as_str()), (RefusalReason::Banned, "object"));
}

#[test]
fn template_whole_answers_and_lists() {
    let script = "exports.handler = (event) => event.list[1] === 'p';";
    let more = [
        ("preset", "template"),
        ("event", r#"{"list":["${user_name}","${password}",1]}"#),
        ("response", r#"{"result":""}"#),
        ("results", r#"{"true":"accept","false":"bad-user-name-or-password"}"#),
        ("device_name", "d-${client_id}"),
    ];
    assert_eq!(admitted(ask(script, &more, &request("u", "p")).unwrap()).device_name, "d-client-1");
    refused(ask(script, &more, &request("u", "q")).unwrap());
}

#[test]
fn settings_that_are_wrong_are_named() {
    let handler = "exports.handler = () => ({ result: 'accept' });";
    for (key, value, said) in [
        ("preset", "azure", "`preset` is \"azure\""),
        ("response", r#"{"result":"result"}"#, "`response.result`"),
        ("response", r#"{"name":"/a"}"#, "`response` has `name`"),
        ("response", "x", "`response` is no table"),
        ("results", r#"{"yes":"admit"}"#, "`results.yes`"),
        ("device_name", "${name}", "there is no ${name}"),
        ("event", "{", "`event` is no JSON"),
        ("event", r#"{"a":"x${b}"}"#, "there is no ${b}"),
        ("handler", "index.main", "no function `main`"),
        ("event_type", "xml", "`event_type`"),
    ] {
        let preset = if key == "event" { "template" } else { "portreeve" };
        let preset = if key == "preset" { value } else { preset };
        let error = load(handler, &[("preset", preset), (key, value)]).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(load(handler, &[("preset", "template")]).is_err());
    let error = load("exports.handler = () => {\n  return {;\n};", &[]).unwrap_err();
    assert_eq!((error.fault, error.position.unwrap().line), (Fault::Syntax, 2));
}
