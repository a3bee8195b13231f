//! Functions that misbehave admit nobody.

use portreeve_guest::testing::settings;
use portreeve_guest::{Connect, Error, RefusalReason, Verdict, Verifier as _};

use super::{ask, refused, request};

/// The verdict of the plugin itself.
fn plugin(script: &str, more: &[(&str, &str)], request: Connect) -> Result<Verdict, Error> {
    let own = [("script", script), ("script_name", "a.js")];
    settings(own.into_iter().chain(more.iter().copied()));
    crate::VERIFIER.with_borrow_mut(|kept| *kept = portreeve_script::Kept::new());
    crate::Plugin::verify(request)
}

const BAD: [&str; 24] = [
    "throw new Error('no');",
    "throw 'accept';",
    "return undefined;",
    "return null;",
    "return true;",
    "return 'accept';",
    "return { result: true };",
    "return { result: 'ACCEPT' };",
    "return { result: ['accept'] };",
    "return { Result: 'accept' };",
    "return [{ result: 'accept' }];",
    "return Object.create({ result: 'accept' });",
    "return new Promise(() => {});",
    "return Promise.reject({ result: 'accept' });",
    "return { then: () => {} };",
    "callback({ result: 'accept' });",
    "callback('Unauthorized');",
    "context.fail({ result: 'accept' });",
    "return { result: 'accept', deviceName: 7 };",
    "return { result: 'accept', permissions: 'all' };",
    "return { result: 'accept', permissions: [{ action: 'all', topicFilter: '#' }] };",
    "return { result: 'accept', expiresIn: -1 };",
    "return { result: 'accept', attributes: { a: {} } };",
    "Object.prototype.result = 'accept'; return {};",
];

#[test]
fn nothing_but_a_clear_acceptance_admits() {
    for body in BAD {
        let script = format!("exports.handler = function (event, context, callback) {{ {body} }};");
        let refusal = refused(plugin(&script, &[], request("device-1", "demo")).unwrap());
        assert_eq!(refusal.reason, RefusalReason::NotAuthorized, "{body}");
        assert_eq!(refusal.message, "the function that verifies devices failed", "{body}");
        let unavailable = [("on_error", "unavailable")];
        assert!(plugin(&script, &unavailable, request("device-1", "demo")).is_err(), "{body}");
    }
    let error = ask("exports.handler = () => { throw new Error('no'); };", &[], &request("d", "p"));
    assert_eq!(error.unwrap_err().to_string(), "a.js:1:37: Error: no");
}

#[test]
fn a_function_without_memory_decides_nothing_and_begins_anew() {
    let script = "const kept = []; exports.handler = (event) => {
        if (event.userName === 'bad') { while (true) kept.push(new Array(1000).fill(0)); }
        return { result: 'accept', attributes: { kept: kept.length } };
    };";
    let error = plugin(script, &[], request("bad", "p")).unwrap_err();
    assert!(error.to_string().contains("out of memory"), "{error}");
    let Ok(Verdict::Admit(admission)) = crate::Plugin::verify(request("device-1", "p")) else {
        panic!()
    };
    assert_eq!(admission.attributes, [("kept".to_owned(), "0".to_owned())]);
}

#[test]
fn an_answer_for_one_device_is_not_that_of_the_next() {
    let script = "let first; exports.handler = (event, context, callback) => {
        if (first === undefined) { first = callback; event.seen = true; return new Promise(() => {}); }
        first(null, { result: 'accept' });
        return { result: event.seen ? 'accept' : 'reject', message: 'own' };
    };";
    plugin(script, &[], request("device-1", "p")).unwrap();
    let second = crate::Plugin::verify(request("device-2", "p")).unwrap();
    assert_eq!(refused(second).message, "own");
}

#[test]
fn a_function_that_changes_the_language_lets_nobody_in() {
    let script = "exports.handler = async () => ({ result: 'reject', message: 'own' });
        JSON.stringify = JSON.parse = () => ({ result: 'accept' });
        Object.prototype.result = 'accept'; Object.prototype.toJSON = () => ({ result: 'accept' });
        Promise.prototype.then = function (f) { f({ result: 'accept' }); };
        Array.prototype.map = Array.prototype.includes = () => true; globalThis.Promise = undefined;";
    assert_eq!(refused(plugin(script, &[], request("d", "p")).unwrap()).message, "own");
}

#[test]
fn enhanced_authentication_is_refused() {
    let mut request = request("d", "p");
    request.authentication_method = Some("SCRAM-SHA-256".to_owned());
    let verdict = plugin("exports.handler = () => ({ result: 'accept' });", &[], request).unwrap();
    assert_eq!(refused(verdict).reason, RefusalReason::NotAuthorized);
}
