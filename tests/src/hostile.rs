//! Guests that are written by hand, as core modules in WAT, so that they can do at the boundary
//! what no compiler would let them do.

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::guests::workspace;

/// Makes a parser of the contract from fields of a core module, of which one is the function
/// `$misbehave` with a parameter and a result like `parse`. It is called for every payload but
/// `ok`, which passes. Fields that export `cabi_realloc` have their own way to give memory.
///
/// Memory below 1024 and from 8192 to 65536 is the fields' own; at 16 stands the outcome `pass`.
#[must_use]
pub fn parser(fields: &str) -> Vec<u8> {
    let realloc = if fields.contains("\"cabi_realloc\"") { "" } else { REALLOC };
    core(&format!("(module {fields} {PARSE} {realloc})"))
}

/// A small parser that uses much of the contract, and traps when the payload is `trap`.
#[must_use]
pub fn small_parser() -> Vec<u8> {
    parser(include_str!("../hostile/small.wat"))
}

/// The payload that a guest of [`parser`] passes.
pub const GOOD: &str = "ok";

/// The payload's length stands behind the context and the topic.
const PARSE: &str = r#"
  (memory $memory (export "memory") 2)
  (func (export "portreeve:plugin/on-publish@0.1.0#parse") (param $asked i32) (result i32)
    (global.set $next (i32.const 65536))
    (if (i32.eq (i32.load offset=68 (local.get $asked)) (i32.const 2))
      (then (i64.store (i32.const 16) (i64.const 0)) (return (i32.const 16))))
    (call $misbehave (local.get $asked)))
  (global $next (mut i32) (i32.const 65536))"#;

/// Memory is given from one end to the other, and again from the start for each call.
const REALLOC: &str = r#"
  (func (export "cabi_realloc")
    (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $bytes))))"#;

/// Makes a component of a whole core module, in the world of `tests/hostile`.
#[must_use]
pub fn core(module: &str) -> Vec<u8> {
    let mut module = component(module);
    let mut resolve = Resolve::default();
    resolve.push_dir(workspace().join("wit")).expect("the contract is read");
    let folder = workspace().join("tests/hostile");
    let (package, _) = resolve.push_dir(&folder).expect("the world of the hostile is read");
    let world = resolve.select_world(&[package], Some("hostile")).expect("there is a world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the module takes its world");
    ComponentEncoder::default()
        .module(&module)
        .and_then(ComponentEncoder::encode)
        .expect("the module fits its world")
}

/// What WAT stands for, a module or a component.
#[must_use]
pub fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text:.2000}"))
}

/// A custom section with so many bytes, for the end of a module or a component.
#[must_use]
pub fn custom_section(bytes: usize) -> Vec<u8> {
    let mut content = b"\x04dead".to_vec();
    content.resize(content.len() + bytes, 0xaa);
    section(0, &content)
}

/// So many components, each within the other.
#[must_use]
pub fn nested(count: u32) -> Vec<u8> {
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const COMPONENT: u8 = 4;
    (1..count).fold(EMPTY.to_vec(), |inner, _| [EMPTY, &section(COMPONENT, &inner)].concat())
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![id];
    let mut length = content.len();
    loop {
        let low = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        if length == 0 {
            section.push(low);
            break;
        }
        section.push(low | 0x80);
    }
    section.extend(content);
    section
}
