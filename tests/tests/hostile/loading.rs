//! Files that are no plugins, or are made to be hard to load, and what they do at their start.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::hostile::{self, GOOD, component, core, parser};
use portreeve_tests::plugins::{put, variant};
use portreeve_tests::{TestGateway, V5};

use super::{Bystander, tell, with_relay};

/// Within this a file is refused, or loaded and asked. Compilers that are not optimised take most
/// of it.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// A file and what its author is told, or `None` where it loads and passes a message.
struct File {
    name: &'static str,
    bytes: Vec<u8>,
    refusal: Option<&'static str>,
}

fn refused(name: &'static str, refusal: &'static str, bytes: Vec<u8>) -> File {
    File { name, bytes, refusal: Some(refusal) }
}

fn loads(name: &'static str, bytes: Vec<u8>) -> File {
    File { name, bytes, refusal: None }
}

/// A function `$misbehave` with this body.
fn function(body: &str) -> String {
    format!("(func $misbehave (param i32) (result i32) {body} (i32.const 16))")
}

const PLAIN: &str = "(func $misbehave (param i32) (result i32) (i32.const 16))";

/// Starts a gateway that needs the file, then puts the file into the directory of one that runs.
fn run(files: Vec<File>) {
    let beside = with_relay(TestGateway::open()).start();
    let mut bystander = Bystander::of(&beside);
    for File { name, bytes, refusal } in files {
        let begin = Instant::now();
        put(beside.folder(), "hostile.wasm", &bytes);
        let gateway = TestGateway::open()
            .with_component("hostile", &bytes, "[limits]\ndeadline = \"300ms\"")
            .with_binding("hostile", "asked", "")
            .try_start();
        let saw = match (gateway, refusal) {
            (Ok(gateway), None) => answers(&gateway, name),
            (Err(said), Some(refusal)) => first_reason(&said.to_string(), name, refusal),
            (Ok(_), Some(refusal)) => panic!("{name}: it loads, but not expected to: {refusal}"),
            (Err(said), None) => panic!("{name}: {said}"),
        };
        assert!(begin.elapsed() < TOLD_WITHIN, "{name} took {:?}", begin.elapsed());
        tell(name, &saw, bystander.is_served());
    }
    can_still_swap(&beside, &mut bystander);
}

fn answers(gateway: &RunningGateway, name: &str) -> String {
    let mut client = gateway.client(V5, "client");
    client.subscribe("asked", 0);
    assert_eq!(client.publish_at_least_once("asked", GOOD), 0, "{name}");
    assert_eq!(client.next_publish().text(), GOOD, "{name}");
    "it loads; PUBACK 0x00".to_owned()
}

/// The line that tells about the plugin.
fn first_reason(said: &str, name: &str, refusal: &str) -> String {
    assert!(said.contains(refusal), "{name}: {refusal:?} is not in {said}");
    let reason = said.split("plugin \"hostile\": ").last().unwrap().replace('\n', " ");
    format!("refused: {}", reason.chars().take(160).collect::<String>())
}

/// Changes of plugins are made one after the other: none of the files may have stopped that.
fn can_still_swap(beside: &RunningGateway, bystander: &mut Bystander) {
    put(beside.folder(), "hostile.wasm", b"gone");
    put(beside.folder(), "relay.wasm", variant("counter", 1));
    let begin = Instant::now();
    loop {
        bystander.0.publish("bystander/in", "x");
        // `counter` leaves the topic as it is.
        if bystander.0.next_publish().topic == "bystander/in" {
            break;
        }
        assert!(begin.elapsed() < TOLD_WITHIN, "the plugin was not swapped");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_that_is_no_component_is_refused() {
    let whole = std::fs::read(portreeve_tests::guests::component("allow-list")).unwrap();
    let import = |name: &str| component(&format!("(component (import \"{name}\" (instance)))"));
    run(vec![
        refused("empty file", "not a valid WebAssembly component", Vec::new()),
        refused("text", "not a valid WebAssembly component", b"fn main() {}".to_vec()),
        refused("core module", "core WebAssembly module", component("(module)")),
        refused("component without exports", "its exports: none", component("(component)")),
        refused("truncated component", "unexpected end", whole[..whole.len() / 2].to_vec()),
        refused(
            "component and rubbish",
            "not a valid WebAssembly component",
            [&whole[..], b"rubbish"].concat(),
        ),
        refused(
            "HTTP that is not granted",
            "no HTTP is granted",
            import("wasi:http/outgoing-handler@0.2.6"),
        ),
        refused("sockets", "plugins have no sockets", import("wasi:sockets/udp@0.2.6")),
        refused("threads", "unknown here", import("wasi:thread/spawn@0.1.0")),
        refused("unknown interface", "unknown here", import("acme:database/query@1.0.0")),
        refused("another contract", "version 0.1 of the", import("portreeve:plugin/log@0.2.0")),
        refused("preview 3", "version 0.2 of WASI", import("wasi:clocks/wall-clock@0.3.0")),
        refused(
            "threads of the core module",
            "not a valid WebAssembly component",
            component(
                "(component (core module $m (import \"wasi\" \"thread-spawn\" (func)))
                   (core instance (instantiate $m)))",
            ),
        ),
        refused(
            "shared memory",
            "threads must be enabled",
            component("(component (core module (memory 1 1 shared)))"),
        ),
        refused(
            "known interface of another shape",
            "log",
            component(
                "(component (import \"portreeve:plugin/log@0.1.0\"
                   (instance (export \"format-disk\" (func)))))",
            ),
        ),
        refused(
            "parser without its function",
            "not a valid WebAssembly component",
            component(
                "(component (instance $empty)
                   (export \"portreeve:plugin/on-publish@0.1.0\" (instance $empty)))",
            ),
        ),
    ]);
}

#[test]
fn what_is_no_file_is_refused_and_nothing_waits_for_it() {
    let made: [(&str, Make, [&str; 2]); 5] = [
        ("directory", |path| std::fs::create_dir(path).unwrap(), [NO_FILE; 2]),
        (
            "link to itself",
            |path| symlink(path, path).unwrap(),
            ["there is no plugin", "symbolic link"],
        ),
        ("pipe", make_pipe, [NO_FILE; 2]),
        ("endless device", |path| symlink("/dev/zero", path).unwrap(), [NO_FILE; 2]),
        (
            "file of 1 GB",
            make_sparse,
            ["that a component may have", "that a manifest or setting may"],
        ),
    ];
    for (name, make, refusals) in made {
        for (extension, refusal) in ["wasm", "toml"].into_iter().zip(refusals) {
            let begin = Instant::now();
            let gateway = with_relay(TestGateway::open())
                .with_component("hostile", &parser(PLAIN), "")
                .with_binding("hostile", "asked", "");
            let path = gateway.folder().join(format!("hostile.{extension}"));
            std::fs::remove_file(&path).unwrap();
            make(&path);
            let said = gateway.try_start().err().unwrap().to_string();
            assert!(said.contains(refusal), "{name}: {said}");
            assert!(begin.elapsed() < TOLD_WITHIN, "{name}");
            tell(
                &format!("{name} as .{extension}"),
                &format!("refused: … {refusal}"),
                "the start ends at once",
            );
        }
    }
}

#[test]
fn a_setting_comes_from_a_file_that_ends() {
    let said = TestGateway::open()
        .with_component("hostile", &parser(PLAIN), "[settings]\nkey = { file = \"/dev/zero\" }")
        .with_binding("hostile", "asked", "")
        .try_start()
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("/dev/zero cannot be read: it is no plain file"), "{said}");
    tell("endless device as a setting", "refused: … no plain file", "the start ends at once");
}

/// Puts something that is no plugin at a path.
type Make = fn(&Path);

const NO_FILE: &str = "is no plain file";

fn make_sparse(path: &Path) {
    std::fs::File::create(path).unwrap().set_len(1 << 30).unwrap();
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_component_is_loaded_whatever_its_size() {
    let mut large = parser(PLAIN);
    large.extend(hostile::custom_section(100 << 20));
    let segments = "(data (memory $memory) (i32.const 8192) \"x\")".repeat(90_000);
    run(vec![
        loads("component of 100 MB", large),
        loads("10,000 functions", parser(&format!("{PLAIN} {}", "(func)".repeat(10_000)))),
        loads("90,000 data segments", parser(&format!("{PLAIN} {segments}"))),
        loads("200 kB of one function", parser(&function(&"(drop (i32.const 1))".repeat(50_000)))),
    ]);
}

/// Loops and branches after each of which a thousand locals may have one of two values.
fn meetings(count: u32) -> String {
    let meetings = (0..count).fold(String::new(), |mut text, number| {
        let local = |factor: u32| number * factor % 1_000 + 1;
        let _infallible = write!(
            text,
            "(loop (if (local.get {}) (then (local.set {} (i32.load (local.get {})))))
               (br_if 0 (local.get {})))",
            local(1),
            local(7),
            local(3),
            local(13)
        );
        text
    });
    format!("(local {}) {meetings}", "i32 ".repeat(1_000))
}

/// Functions of a few kilobytes for which the compiler takes minutes or gigabytes.
#[test]
fn functions_that_are_made_to_be_slow_to_compile_are_refused_at_once() {
    let nested = |open: &str, close: &str, count: usize| {
        parser(&function(&format!("{} {}", open.repeat(count), close.repeat(count))))
    };
    let thousand = "i64 ".repeat(1_000);
    let many = format!("(func $many (param {thousand}) (result {thousand}) (unreachable))");
    let calls = |count: usize| {
        let [constants, drops] = ["(i64.const 0)", "drop "].map(|each| each.repeat(1_000));
        format!("{constants} {} {drops}", "(call $many)".repeat(count))
    };
    let calls_within = calls(450);
    let targets: String = (0..1_000).fold(String::new(), |mut text, number| {
        let _infallible = write!(text, "{number} ");
        text
    });
    let jumps = format!("(block (br_table {targets} 0 (local.get 0)))").repeat(500);
    let jumps = format!("{} {jumps} {}", "block ".repeat(1_000), "end ".repeat(1_000));
    let loops = format!("{} {}", "loop ".repeat(99), "(br_if 0 (local.get 0)) end ".repeat(99));
    let size = "it is not compiled: the function at byte";
    run(vec![
        refused(
            "20,000 nested loops",
            "loops within one another",
            nested("loop ", "(br_if 0 (local.get 0)) end ", 20_000),
        ),
        refused(
            "100,000 nested blocks",
            "blocks within one another",
            nested("(local.get 0) if ", "end ", 100_000),
        ),
        refused("200 times 99 nested loops", size, parser(&function(&loops.repeat(200)))),
        refused("1,000 locals that meet 6,000 times", size, parser(&function(&meetings(2_000)))),
        refused(
            "20,000 branches",
            size,
            parser(&function(&"(if (local.get 0) (then (memory.size) drop))".repeat(20_000))),
        ),
        refused("500,000 targets of jumps", size, parser(&function(&jumps))),
        refused(
            "1,000 calls with 1,000 results",
            size,
            parser(&format!("{many} {}", function(&calls(1_000)))),
        ),
        refused("one function of 1 MB", size, parser(&function(&"nop ".repeat(1_000_001)))),
        refused(
            "60 functions just within bounds",
            "its functions are too large to compile",
            parser(&format!("{many} {} {PLAIN}", format!("(func {calls_within})").repeat(60))),
        ),
    ]);
}

/// Components that have two instances each of the one before them.
fn doubling(count: u32) -> Vec<u8> {
    let first = "(component $c0)".to_owned();
    let whole = (1..count).fold(first, |inner, number| {
        let before = number - 1;
        let instance = format!("(instance (instantiate $c{before}))");
        format!("(component $c{number} {inner} {instance} {instance})")
    });
    component(&whole)
}

#[test]
fn small_files_that_want_much_are_refused_or_bounded() {
    let instances = |fields: &str, count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        component(&format!("(component (core module $m {fields}) {instances})"))
    };
    let doubled = (1..60).fold("(type $t0 (tuple u8 u8))".to_owned(), |mut text, number| {
        let before = number - 1;
        let _infallible = write!(text, "(type $t{number} (tuple $t{before} $t{before}))");
        text
    });
    run(vec![
        refused(
            "initial memory of 4 GB",
            "memory",
            core(
                "(module (memory (export \"memory\") 65536)
              (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 0))
              (func (export \"portreeve:plugin/on-publish@0.1.0#parse\") (param i32) (result i32)
                (i32.const 0)))",
            ),
        ),
        refused(
            "initial memory beyond its limit",
            "asked for more memory than its limit",
            core(
                "(module (memory (export \"memory\") 1000)
              (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 0))
              (func (export \"portreeve:plugin/on-publish@0.1.0#parse\") (param i32) (result i32)
                (i32.const 0)))",
            ),
        ),
        refused(
            "data beyond its memory",
            "out of bounds memory access",
            parser(&format!("{PLAIN} (data (memory $memory) (i32.const 0x7fffffff) \"x\")")),
        ),
        refused(
            "initial table of 10 M elements",
            "table",
            parser(&format!("{PLAIN} (table 9000000 funcref)")),
        ),
        refused("100 memories of a module", "memories", instances(&"(memory 1)".repeat(101), 1)),
        refused("150 memories of instances", "memories", instances("(memory 1)", 150)),
        refused("100 tables of instances", "tables", instances("(table 1 funcref)", 100)),
        refused("1,000 core instances", "instances", instances("", 1_000)),
        refused("types that double 60 times", "type", component(&format!("(component {doubled})"))),
        refused(
            "20,000 nested components",
            "components within one another",
            hostile::nested(20_000),
        ),
        refused("components that double 30 times", "come to more than 100000", doubling(30)),
        refused(
            "1,000 core modules",
            "core modules",
            component(&format!("(component {})", "(core module)".repeat(1_000))),
        ),
        loads(
            "data at both ends of its memory",
            core(
                "(module (memory (export \"memory\") 200)
                   (data (i32.const 512) \"x\") (data (i32.const 13000000) \"x\")
                   (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
                     (i32.const 1024))
                   (func (export \"portreeve:plugin/on-publish@0.1.0#parse\") (param i32)
                     (result i32) (i32.const 16)))",
            ),
        ),
    ]);
}

/// The most memory that this process has had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn memory_images_that_are_mostly_holes_stay_small() {
    // As many as one component may have, 16 MB from one end to the other: 7 kB of file.
    let module = "(core module (memory 256)
        (data (i32.const 0) \"x\") (data (i32.const 16700000) \"x\"))";
    let bytes = component(&format!("(component {})", module.repeat(200)));
    let before = peak_bytes();
    run(vec![refused("200 memory images of 16 MB", "its exports: none", bytes)]);
    // Tests beside this one take some, too.
    let grown = peak_bytes() - before;
    assert!(grown < 1 << 30, "{} MiB for the images", grown >> 20);
}

#[test]
fn a_start_function_that_misbehaves_is_refused_within_its_deadline() {
    let start = |body: &str| parser(&format!("{PLAIN} (func $start {body}) (start $start)"));
    let waits = "(import \"wasi:clocks/monotonic-clock@0.2.6\" \"subscribe-duration\"
          (func $subscribe (param i64) (result i32)))
        (import \"wasi:io/poll@0.2.6\" \"[method]pollable.block\" (func $block (param i32)))";
    run(vec![
        refused("start spins", "does not start: no answer within 300 ms", start("(loop (br 0))")),
        refused("start traps", "does not start: the guest trapped", start("(unreachable)")),
        refused("start recurses", "call stack exhausted", start("(call $start)")),
        refused(
            "start grows",
            "asked for more memory than its limit",
            start("(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))"),
        ),
        refused(
            "start sleeps",
            "no answer within 300 ms",
            parser(&format!(
                "{waits} {PLAIN}
                 (func $start (call $block (call $subscribe (i64.const -1)))) (start $start)"
            )),
        ),
    ]);
}
