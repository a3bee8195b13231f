//! Guests that misuse what the host gives them.

use portreeve_tests::{TestGateway, V5};

use super::execution::{Case, case, run};
use super::{Bystander, tell, with_relay};

const IMPORTS: &str = r#"
    (import "portreeve:plugin/log@0.1.0" "log"
      (func $log (param i32 i32 i32 i32 i32)))
    (import "portreeve:plugin/log@0.1.0" "enabled" (func $enabled (param i32) (result i32)))
    (import "portreeve:plugin/state@0.1.0" "set"
      (func $set (param i32 i32 i32 i32 i32 i32 i32)))
    (import "portreeve:plugin/state@0.1.0" "get" (func $get (param i32 i32 i32)))
    (import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))
    (import "wasi:random/insecure@0.2.6" "get-insecure-random-bytes"
      (func $insecure (param i64 i32)))"#;

/// A guest whose function does this and then passes.
fn calls(guest: &'static str, reason: &'static str, body: &str) -> Case {
    let function = format!("(func $misbehave (param i32) (result i32) {body} (i32.const 16))");
    case(guest, reason, format!("{IMPORTS} {function}"))
}

#[test]
fn arguments_that_break_the_canonical_abi_end_the_call() {
    run(vec![
        calls(
            "log text out of bounds",
            "out of bounds",
            "(call $log (i32.const 0) (i32.const -9) (i32.const 5) (i32.const 0) (i32.const 0))",
        ),
        calls(
            "log of an unknown level",
            "unexpected discriminant",
            "(call $log (i32.const 9) (i32.const 64) (i32.const 0) (i32.const 0) (i32.const 0))",
        ),
        calls(
            "log of 4 G fields",
            "out of bounds",
            "(call $log (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 64) (i32.const -1))",
        ),
        calls(
            "log text that is no UTF-8",
            "invalid utf-8",
            "(i32.store (i32.const 64) (i32.const 0xfffefdfc))
             (call $log (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0))",
        ),
        calls(
            "log text of 4 MB",
            "more than 2097152 bytes",
            "(drop (memory.grow (i32.const 64)))
             (call $log (i32.const 0) (i32.const 65536) (i32.const 4194304)
               (i32.const 0) (i32.const 0))",
        ),
        calls(
            "log without end",
            "no answer within 300 ms",
            "(loop (call $log (i32.const 2) (i32.const 64) (i32.const 2000)
               (i32.const 0) (i32.const 0)) (br 0))",
        ),
        calls(
            "host function without end",
            "no answer within 300 ms",
            "(loop (drop (call $enabled (i32.const 0))) (br 0))",
        ),
        calls(
            "state value of 4 MB",
            "more than 2097152 bytes",
            "(drop (memory.grow (i32.const 64)))
             (call $set (i32.const 64) (i32.const 1) (i32.const 65536) (i32.const 4194304)
               (i32.const 0) (i32.const 0) (i32.const 128))",
        ),
        calls(
            "state result out of bounds",
            "out of bounds",
            "(call $get (i32.const 64) (i32.const 1) (i32.const -4))",
        ),
        calls(
            "state result at an odd address",
            "not aligned",
            "(call $get (i32.const 64) (i32.const 1) (i32.const 129))",
        ),
        calls(
            "random bytes without end",
            "exceeds limit",
            "(call $random (i64.const -1) (i32.const 128))",
        ),
        calls(
            "insecure random bytes without end",
            "exceeds limit",
            "(call $insecure (i64.const 1000000000) (i32.const 128))",
        ),
    ]);
}

/// A guest that stores an entry and gets it back into memory that `body` gives.
fn gets_into(guest: &'static str, reason: &'static str, body: &str) -> Case {
    let fields = format!(
        "{IMPORTS} (global $is_called (mut i32) (i32.const 0))
         (func $misbehave (param i32) (result i32)
           (call $set (i32.const 64) (i32.const 1) (i32.const 64) (i32.const 8)
             (i32.const 0) (i32.const 0) (i32.const 128))
           (global.set $is_called (i32.const 1))
           (call $get (i32.const 64) (i32.const 1) (i32.const 128))
           (i32.const 16))
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
           (if (global.get $is_called) (then {body}))
           (global.set $next
             (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
           (global.get $next)
           (global.set $next (i32.add (global.get $next) (local.get 3))))"
    );
    case(guest, reason, fields)
}

#[test]
fn a_trap_in_the_middle_of_a_host_call_ends_the_call() {
    run(vec![
        gets_into("trap while the host answers", "unreachable", "(unreachable)"),
        gets_into("loop while the host answers", "no answer within 300 ms", "(loop (br 0))"),
        gets_into(
            "host call while the host answers",
            "cannot leave component instance",
            "(drop (call $enabled (i32.const 0)))",
        ),
        gets_into(
            "no memory for what the host answers",
            "beyond end of memory",
            "(return (i32.const -8))",
        ),
    ]);
}

#[test]
fn a_flood_of_state_stops_at_its_limits_and_leaves_other_plugins_theirs() {
    let gateway = with_relay(TestGateway::open())
        .with_plugin("flood-state", "[limits]\ndeadline = \"10s\"\nstate_entries = 200")
        .with_binding("flood-state", "flood", "")
        .with_plugin("counter", "")
        .with_binding("counter", "count", "")
        .start();
    let mut bystander = Bystander::of(&gateway);
    let mut client = gateway.client(V5, "client");
    client.subscribe("flood", 0);
    client.subscribe("count", 0);
    // 1 MiB has room for 17 entries of 60,000 bytes, and then 200 entries in all are the limit.
    for (payload, guest, stored) in
        [("bytes", "state flood of bytes", "17"), ("entries", "state flood of entries", "183")]
    {
        assert_eq!(client.publish_at_least_once("flood", payload), 0);
        assert_eq!(client.next_publish().text(), stored, "{guest}");
        let saw = format!("PUBACK 0x00: its {stored} entries, then `full`");
        let served = bystander.is_served();
        assert_eq!(client.publish_at_least_once("flood", payload), 0);
        assert_eq!(client.next_publish().text(), stored, "{guest}: the same entries, no more");
        tell(guest, &saw, &format!("{served}; another plugin stores"));
    }
    client.publish("count", "x");
    assert_eq!(client.next_publish().text(), "1 1", "another plugin has room");
}
