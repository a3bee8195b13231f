//! Scripts that misbehave.

use portreeve_guest::testing::replaced;
use portreeve_guest::{Outcome, Parser as _};
use portreeve_script::{Fault, ScriptError};

use super::{ALIBABA, parser, up};

/// What becomes of a message for a script of `rawDataToProtocol`.
fn outcome(body: &str) -> Result<Outcome, ScriptError> {
    let script = format!("function rawDataToProtocol(bytes) {{ {body} }}");
    up(&mut parser("alibaba", &script, &[("only_marked", "false")]), "t", &[1, 2, 3])
}

fn json(body: &str) -> String {
    replaced(&outcome(body).unwrap())[0].1.clone()
}

#[test]
fn recursion_without_end_is_an_error_of_the_script() {
    for body in [
        "function again() { return again() + 1; } return again();",
        "var a = []; a = [a]; for (var i = 0; i < 20000; i++) a = [a]; return JSON.stringify(a);",
        "var a = {}; a.toString = function () { return '' + this; }; return '' + a;",
        "return [3, 2, 1].sort(function again(a, b) { return [3, 2, 1].sort(again) ? 1 : 0; });",
        "return new RegExp('('.repeat(5000) + ')'.repeat(5000)).test('');",
        "var a = {}; a.a = a; return a;",
    ] {
        let error = outcome(body).unwrap_err();
        assert_eq!(error.fault, Fault::Thrown, "{body}: {error}");
    }
}

#[test]
fn memory_has_a_limit_and_the_script_begins_anew_behind_it() {
    for body in [
        "var a = []; while (true) a.push(new Array(1000).fill(bytes));",
        "return 'x'.repeat(100e6);",
        "return new Uint8Array(100e6);",
        "var s = 'x'; while (true) s += s + Math.random();",
    ] {
        let error = outcome(body).unwrap_err();
        assert!(matches!(error.fault, Fault::Memory | Fault::Thrown), "{body}: {error}");
    }
    let script = "var kept = []; function rawDataToProtocol(bytes) {
        if (bytes[0] === 1) { while (true) kept.push(new Array(1000).fill(0)); }
        return { kept: kept.length };
    }";
    drop(parser("alibaba", script, &[("only_marked", "false")]));
    let ask = |byte: u8| {
        let context = portreeve_guest::testing::context(portreeve_guest::Direction::Up);
        crate::Plugin::parse(context, portreeve_guest::testing::message("t", [byte]))
    };
    let text = ask(1).unwrap_err().to_string();
    assert!(text.contains("out of memory") && text.contains("script_memory"), "{text}");
    assert_eq!(replaced(&ask(2).unwrap())[0].1, r#"{"kept":0}"#);
}

#[test]
fn junk_is_refused() {
    for body in [
        "return null;",
        "return function () {};",
        "return Symbol('a');",
        "return 1n;",
        "throw null;",
        "throw { a: 1 };",
        "throw undefined;",
        "return { get a() { throw new Error('getter'); } };",
        "var e = new Error('x'); Object.defineProperty(e, 'message', { get: function () { throw e; } }); throw e;",
        "return new Proxy({}, { ownKeys: function () { throw new Error('trap'); } });",
        "return new Promise(function () {});",
        "return Promise.reject(new Error('later'));",
        "return missing;",
        "return bytes.nothing.nothing;",
    ] {
        let error = outcome(body).expect_err(body);
        assert_ne!(error.fault, Fault::Missing, "{body}: {error}");
    }
}

#[test]
fn values_are_written_as_json_writes_them() {
    for body in [
        "return { a: undefined, b: function () {}, c: [undefined, NaN, Infinity, -0, 1e21, 1e-7, 0.1, 123456789012] };",
        r#"return { 'q"': "\u0000\n\\ä\u2028", 2: 1, 1: 2, __proto__: null };"#,
        "return { d: new Date(0), n: new Number(1), s: new String('x'), m: new Map(), t: { toJSON: function () { return 7; } } };",
        "return [[], {}, [null, true, false]];",
        "return { a: Object.create({ inherited: 1 }), b: /x/, c: new (class A { constructor() { this.x = 1; } })() };",
        "return Object.defineProperty({}, 'hidden', { value: 1 });",
    ] {
        let ours: serde_json::Value = serde_json::from_str(&json(body)).unwrap();
        let script =
            body.replacen("return", "return JSON.stringify(", 1).trim_end_matches(';').to_owned();
        let theirs: serde_json::Value =
            serde_json::from_str(&json(&format!("{script});"))).unwrap();
        assert_eq!(ours, theirs, "{body}");
    }
    assert_eq!(json("return 'plain';"), "plain");
    assert_eq!(json("return Promise.resolve({ a: 1 });"), r#"{"a":1}"#);
}

#[test]
fn a_script_that_changes_the_language_changes_nothing_of_ours() {
    let spoilt = format!(
        "{ALIBABA}
        JSON.stringify = JSON.parse = function () {{ throw new Error('spoilt'); }};
        Array.prototype.map = Array.prototype.push = undefined;
        Object.prototype.toJSON = function () {{ return 'spoilt'; }};
        Promise.prototype.then = undefined;
        globalThis.Date = globalThis.Promise = undefined;
        String.prototype.toWellFormed = Object.keys = undefined;"
    );
    let mut parser = parser("alibaba", &spoilt, &[]);
    let payload = [0, 0, 0x22, 0x33, 0x44, 0x12, 0x32, 1, 0x3f, 0xa0, 0, 0];
    let outcome = up(&mut parser, "a/raw?_sn=default", &payload).unwrap();
    assert_eq!(replaced(&outcome)[0].1, super::REPORT_JSON);
}

#[test]
fn messages_do_not_see_each_other() {
    let script = "function rawDataToProtocol(bytes) { var n = bytes.length; bytes.length = 0; bytes.x = 1; return { n: n }; }";
    let mut parser = parser("alibaba", script, &[("only_marked", "false")]);
    for _ in 0..3 {
        let outcome = up(&mut parser, "t", &[1, 2, 3]).unwrap();
        assert_eq!(replaced(&outcome)[0].1, r#"{"n":3}"#);
    }
}
