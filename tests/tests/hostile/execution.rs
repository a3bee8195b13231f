//! Guests that are written by hand and do their worst while they are called.

use std::time::Instant;

use portreeve_tests::hostile::{self, GOOD};
use portreeve_tests::{Client, TestGateway, V5};

use super::{Bystander, tell, with_relay};

/// What one guest does for every payload but a good one.
pub(crate) struct Case {
    pub(crate) guest: &'static str,
    /// Fields of its core module.
    pub(crate) fields: String,
    /// What the reason of the dead letter holds, or `None` where the message passes.
    pub(crate) reason: Option<&'static str>,
    /// Whether it still answers a good payload.
    pub(crate) recovers: bool,
}

pub(crate) fn case(guest: &'static str, reason: &'static str, fields: impl Into<String>) -> Case {
    Case { guest, fields: fields.into(), reason: Some(reason), recovers: true }
}

/// A case whose function `$misbehave` has just this body.
pub(crate) fn body(guest: &'static str, reason: &'static str, body: &str) -> Case {
    case(guest, reason, format!("(func $misbehave (param i32) (result i32) {body})"))
}

/// Taken, and nobody subscribes to it.
const UNHEARD: u8 = 0x10;

/// Deadlines are short, so that the suite is quick.
const MANIFEST: &str = "[limits]\ndeadline = \"300ms\"\nmemory = \"8MiB\"";

/// All of them as plugins of one gateway, each with a topic of its own.
pub(crate) fn run(cases: Vec<Case>) {
    let mut gateway = with_relay(TestGateway::open());
    for case in &cases {
        let name = case.guest.replace(' ', "-");
        gateway = gateway
            .with_component(&name, &hostile::parser(&case.fields), MANIFEST)
            .with_binding(&name, &name, "")
            .with_binding(&name, &format!("told/{name}"), "on_error = \"dead-letter:dead\"");
    }
    let gateway = gateway.start();
    let mut bystander = Bystander::of(&gateway);
    let mut client = gateway.client(V5, "client");
    client.subscribe("dead", 0);
    for case in cases {
        let saw = provoke(&mut client, &case);
        let served = bystander.is_served();
        let again = if case.recovers { "; it answers again" } else { "" };
        tell(case.guest, &saw, &format!("{served}{again}"));
    }
    drop(client);
    assert!(gateway.shut_down(), "connections end in time");
}

/// Publishes what makes the guest misbehave, and then something good.
fn provoke(client: &mut Client, case: &Case) -> String {
    let Case { guest, reason, .. } = case;
    let topic = guest.replace(' ', "-");
    let begin = Instant::now();
    let code = client.publish_at_least_once(&topic, "bad payload");
    assert!(begin.elapsed() < super::SERVED_WITHIN, "{guest}: its own caller waits, too");
    assert_eq!(code, if reason.is_some() { 0x83 } else { UNHEARD }, "{guest}");
    let mut saw = format!("PUBACK 0x{code:02x}");
    if let Some(expected) = reason {
        let told = format!("told/{topic}");
        assert_eq!(client.publish_at_least_once(&told, "bad payload"), 0, "{guest}");
        let dead_letter = client.next_publish();
        assert_eq!(dead_letter.text(), "bad payload");
        let properties = dead_letter.properties.join(" ");
        assert!(properties.contains(expected), "{guest}: {expected:?} is not in {properties}");
        let error = properties.split("\"error\", \"").nth(1).unwrap();
        saw = format!("{saw}: {}", error.split("\"").next().unwrap());
    }
    if case.recovers {
        assert_eq!(client.publish_at_least_once(&topic, GOOD), UNHEARD, "{guest}: a good payload");
    }
    saw
}

#[test]
fn a_guest_that_computes_or_recurses_for_ever_is_cut() {
    run(vec![
        body("infinite loop", "no answer within 300 ms", "(loop (br 0)) (i32.const 16)"),
        body("infinite recursion", "call stack exhausted", "(call $misbehave (local.get 0))"),
        body(
            "loop of large copies",
            "no answer within 300 ms",
            "(loop (memory.fill (i32.const 65536) (i32.const 0) (i32.const 65536)) (br 0))
             (i32.const 16)",
        ),
        body("unreachable", "unreachable", "(unreachable)"),
        body("division by zero", "divide by zero", "(i32.div_u (i32.const 1) (i32.const 0))"),
        body("out of bounds", "out of bounds memory access", "(i32.load (i32.const -4))"),
        case(
            "empty table element",
            "uninitialized element",
            "(type $f (func)) (table 4 funcref)
             (func $misbehave (param i32) (result i32)
               (call_indirect (type $f) (i32.const 3)) (i32.const 16))",
        ),
        case(
            "wrong function type",
            "indirect call type mismatch",
            "(type $f (func)) (table funcref (elem $misbehave))
             (func $misbehave (param i32) (result i32)
               (call_indirect (type $f) (i32.const 0)) (i32.const 16))",
        ),
    ]);
}

#[test]
fn a_guest_that_grows_is_stopped_at_its_limits() {
    let steps = "(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
                 (i32.const 16)";
    run(vec![
        body(
            "memory growth at once",
            "asked for more memory",
            "(drop (memory.grow (i32.const 65000))) (i32.const 16)",
        ),
        body("memory growth by pages", "asked for more memory", steps),
        // The engine's own bound of a table tells the guest, as the standard has it.
        case(
            "table growth",
            "unreachable",
            "(table $t 0 funcref)
             (func $misbehave (param i32) (result i32)
               (loop (br_if 0
                 (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 100)))))
               (if (i32.gt_u (table.size $t) (i32.const 20000)) (then (return (i32.const 16))))
               (unreachable))",
        ),
    ]);
}

#[test]
fn a_guest_that_never_returns_from_waiting_is_cut() {
    let imports = r#"
        (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration"
          (func $subscribe (param i64) (result i32)))
        (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
        (import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))"#;
    let of = |guest, reason, body: &str| {
        let function = format!("(func $misbehave (param i32) (result i32) {body} (i32.const 16))");
        case(guest, reason, format!("{imports} {function}"))
    };
    run(vec![
        of(
            "sleep without end",
            "no answer within 300 ms",
            "(call $block (call $subscribe (i64.const -1)))",
        ),
        of(
            "poll of what is never ready",
            "no answer within 300 ms",
            "(i32.store (i32.const 32) (call $subscribe (i64.const -1)))
             (call $poll (i32.const 32) (i32.const 1) (i32.const 64))",
        ),
        of(
            "poll in a loop",
            "no answer within 300 ms",
            "(i32.store (i32.const 32) (call $subscribe (i64.const 0)))
             (loop (call $poll (i32.const 32) (i32.const 1) (i32.const 64))
               (global.set $next (i32.const 65536)) (br 0))",
        ),
        of(
            "poll of nothing",
            "empty poll list",
            "(call $poll (i32.const 32) (i32.const 0) (i32.const 64))",
        ),
        of(
            "a handle that it was not given",
            "unknown handle index",
            "(call $block (i32.const 99))",
        ),
        of(
            "handles without end",
            "table has no free keys",
            "(loop (drop (call $subscribe (i64.const 0))) (br 0))",
        ),
    ]);
}
