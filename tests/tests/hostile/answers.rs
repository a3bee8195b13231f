//! Guests whose answers, or whose memory for questions, break the canonical ABI.

use super::execution::{Case, body, case, run};

/// Where the guests put what they answer.
const AT: &str = "(i32.const 16)";

#[test]
fn an_answer_that_breaks_the_canonical_abi_is_a_trap() {
    let store = |offset: u32, value: &str| format!("(i32.store offset={offset} {AT} {value})");
    let text = |bytes: &str, length: u32| {
        format!(
            "(data (i32.const 64) \"{bytes}\") (func $misbehave (param i32) (result i32)
            (i64.store {AT} (i64.const 0x0000000300000000)) {} {} {AT})
            ",
            store(8, "(i32.const 64)"),
            store(12, &format!("(i32.const {length})"))
        )
    };
    // A reason to reject: bytes and how many of them.
    let reject = |guest, reason, bytes: &str, length| Case {
        recovers: true,
        ..case(guest, reason, text(bytes, length).replace("(data", "(data (memory $memory)"))
    };
    run(vec![
        body("result out of bounds", "out of bounds", "(i32.const -16)"),
        body("result at an odd address", "not aligned", "(i32.const 17)"),
        body(
            "unknown case of a result",
            "invalid expected discriminant",
            &format!("(i32.store8 {AT} (i32.const 2)) {AT}"),
        ),
        body(
            "unknown case of a variant",
            "unexpected discriminant",
            &format!("(i64.store {AT} (i64.const 0x000000ff00000000)) {AT}"),
        ),
        reject("text that is no UTF-8", "invalid utf-8", "a\\ff\\fe", 3),
        reject("text that is a surrogate", "invalid utf-8", "\\ed\\a0\\80", 3),
        reject("text that ends within a character", "incomplete utf-8", "\\f0\\9f\\98", 3),
        reject("text out of bounds", "out of bounds", "", u32::MAX),
    ]);
}

/// A list of messages: its address and length stand behind the two discriminants.
fn messages(length: u32, message: &str) -> String {
    format!(
        "(func $misbehave (param i32) (result i32) (local $at i32)
           (i64.store {AT} (i64.const 0x0000000100000000))
           (i32.store offset=8 {AT} (i32.const 8192))
           (i32.store offset=12 {AT} (i32.const {length}))
           (memory.fill (i32.const 8192) (i32.const 0) (i32.const 50000))
           (i32.store8 (i32.const 64) (i32.const 0x78))
           (local.set $at (i32.const 8192))
           (loop
             ;; The topic `x`.
             (i32.store offset=0 (local.get $at) (i32.const 64))
             (i32.store offset=4 (local.get $at) (i32.const 1))
             {message}
             (local.set $at (i32.add (local.get $at) (i32.const 72)))
             (br_if 0 (i32.lt_u (local.get $at) (i32.const 57000))))
           {AT})"
    )
}

/// Makes the properties once, in pages of their own, and gives their address.
const PROPERTIES: &str = "
    (global $made (mut i32) (i32.const 0))
    (func $properties (result i32) (local $at i32)
      (if (i32.eqz (global.get $made)) (then
        (drop (memory.grow (i32.const 2)))
        (global.set $made (i32.const 131072))
        (local.set $at (global.get $made))
        (loop
          (i32.store offset=8 (local.get $at) (i32.const 180000))
          (i32.store offset=12 (local.get $at) (i32.const 50000))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (br_if 0 (i32.lt_u (local.get $at) (i32.const 179072))))))
      (global.get $made))";

#[test]
fn lists_and_strings_out_are_bounded_by_what_they_come_to() {
    run(vec![
        case("list of 4 G messages", "out of bounds", messages(u32::MAX, "")),
        case("list of 65 messages", "65", messages(65, "")),
        // Each of 64 messages has the same megabyte as its payload.
        case(
            "one payload many times over",
            "more than 2097152 bytes",
            format!(
                "{}(func $grow (drop (memory.grow (i32.const 16))))",
                messages(
                    64,
                    "(if (i32.lt_u (memory.size) (i32.const 18)) (then (call $grow)))
                     (i32.store offset=8 (local.get $at) (i32.const 65536))
                     (i32.store offset=12 (local.get $at) (i32.const 1048576))"
                )
            ),
        ),
        // 3,000 user properties, each of which is the same 50 kB.
        case(
            "one property many times over",
            "more than 2097152 bytes",
            format!(
                "{} {PROPERTIES}",
                messages(
                    1,
                    "(i32.store offset=64 (local.get $at) (call $properties))
                     (i32.store offset=68 (local.get $at) (i32.const 3000))"
                )
            ),
        ),
        case(
            "unknown quality of service",
            "unexpected discriminant",
            messages(1, "(i32.store8 offset=18 (local.get $at) (i32.const 3))"),
        ),
        case(
            "unknown case of an option",
            "invalid option discriminant",
            messages(1, "(i32.store8 offset=16 (local.get $at) (i32.const 2))"),
        ),
        case(
            "list of messages at an odd address",
            "not aligned",
            messages(1, "(i32.store offset=8 (i32.const 16) (i32.const 8193))"),
        ),
    ]);
}

#[test]
fn memory_for_a_question_that_is_none_fails_that_question() {
    let realloc = |guest, reason, body: &str| Case {
        recovers: false,
        ..case(
            guest,
            reason,
            format!(
                "(func $misbehave (param i32) (result i32) {AT})
                 (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) {body})"
            ),
        )
    };
    let imports = "(import \"portreeve:plugin/log@0.1.0\" \"enabled\"
                     (func $enabled (param i32) (result i32)))";
    let into_the_host = Case {
        fields: format!(
            "{imports} (func $misbehave (param i32) (result i32) {AT})
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
              (drop (call $enabled (i32.const 0))) (i32.const 65536))"
        ),
        ..realloc("realloc calls the host", "cannot leave component instance", "")
    };
    run(vec![
        realloc("realloc out of bounds", "beyond end of memory", "(i32.const -65536)"),
        realloc("realloc at an odd address", "not aligned", "(i32.const 65537)"),
        realloc("realloc traps", "unreachable", "(unreachable)"),
        realloc("realloc spins", "no answer within 300 ms", "(loop (br 0)) (i32.const 65536)"),
        realloc(
            "realloc recurses",
            "call stack exhausted",
            "(call $more) (i32.const 65536)) (func $more (call $more)",
        ),
        realloc(
            "realloc grows",
            "asked for more memory",
            "(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) (i32.const 65536)",
        ),
        into_the_host,
    ]);
}

#[test]
fn what_comes_after_an_answer_counts_as_part_of_it() {
    let post_return = |guest, reason, body: &str| Case {
        recovers: false,
        ..case(
            guest,
            reason,
            format!(
                "(func $misbehave (param i32) (result i32) (i64.store {AT} (i64.const 0)) {AT})
                 (func (export \"cabi_post_portreeve:plugin/on-publish@0.1.0#parse\") (param i32)
                   {body})"
            ),
        )
    };
    run(vec![
        post_return("trap after the answer", "unreachable", "(unreachable)"),
        post_return("loop after the answer", "no answer within 300 ms", "(loop (br 0))"),
    ]);
}
