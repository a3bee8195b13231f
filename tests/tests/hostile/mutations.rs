//! A valid component, damaged in thousands of ways: each is refused, or loads and answers or fails
//! within its limits. The host neither crashes nor hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use portreeve_plugin::{
    Engine, InstancePolicy, Limits, LoadError, Manifest, Role, Version, load_component,
};
use portreeve_tests::question::Question;
use portreeve_tests::{guests, hostile};
use tokio::runtime::Runtime;

use super::tell;

/// Any will do; a damage can be looked at again by its number.
const SEED: u64 = 0x5eed_0f0f_1234_4321;

/// A call may take this long, and its caller as much again on a machine with other work.
const DEADLINE: Duration = Duration::from_millis(100);
const ENDS_WITHIN: Duration = Duration::from_secs(5);

const QUESTION: Question = Question { payload: b"payload" };

/// Numbers that look random and are always the same (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Flips, overwrites, removes, repeats or cuts; mostly one thing, so that much of it stays valid.
fn damage(whole: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=numbers.below(3) / 2 {
        let at = numbers.below(bytes.len());
        match numbers.below(8) {
            0..=3 => bytes[at] ^= 1 << numbers.below(8),
            4 => bytes[at] = [0, 0x7f, 0x80, 0xff][numbers.below(4)],
            5 => drop(bytes.drain(at..(at + 1 + numbers.below(4)).min(bytes.len()))),
            6 => {
                let end = (at + 1 + numbers.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[derive(Debug, Default)]
struct Came {
    refused: u32,
    did_not_start: u32,
    answered: u32,
    failed: u32,
}

/// Loads and asks. Who panics is the host.
fn try_out(engine: &Engine, runtime: &Runtime, bytes: &[u8], came: &mut Came) {
    let Ok(loaded) = load_component(engine, bytes, &Default::default(), None) else {
        came.refused += 1;
        return;
    };
    let limits = Limits { deadline: DEADLINE, ..Limits::default() };
    let instances = Some(InstancePolicy::Fresh);
    let manifest = Manifest { limits, instances, ..Manifest::default() };
    let answered = runtime.block_on(async {
        let version = Version::start(engine, "damaged", "digest", loaded, manifest).await?;
        let answered = match version.is(Role::Parser) {
            true => version.parse(QUESTION).await.is_ok(),
            false => version.verify(QUESTION).await.is_ok(),
        };
        Ok::<_, LoadError>(answered)
    });
    match answered {
        Err(_) => came.did_not_start += 1,
        Ok(true) => came.answered += 1,
        Ok(false) => came.failed += 1,
    }
}

fn damage_and_try(name: &str, whole: &[u8], count: u32) -> Came {
    let engine = Engine::new().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut numbers = Numbers(SEED);
    let mut came = Came::default();
    try_out(&engine, &runtime, whole, &mut came);
    assert_eq!(came.answered, 1, "{name} itself answers");
    let mut slowest = Duration::ZERO;
    for number in 0..count {
        let bytes = damage(whole, &mut numbers);
        let begin = Instant::now();
        let tried =
            catch_unwind(AssertUnwindSafe(|| try_out(&engine, &runtime, &bytes, &mut came)));
        assert!(tried.is_ok(), "damage {number} to {name} makes the host panic");
        let took = begin.elapsed();
        assert!(took < ENDS_WITHIN, "damage {number} to {name} took {took:?}");
        slowest = slowest.max(took);
    }
    // The engine is as good as before.
    try_out(&engine, &runtime, whole, &mut came);
    let Came { refused, did_not_start, answered, failed } = came;
    assert_eq!(refused + did_not_start + answered + failed, count + 2);
    let saw = format!(
        "{refused} refused, {did_not_start} did not start, {failed} failed their call, {answered} \
         answered; slowest {} ms",
        slowest.as_millis()
    );
    tell(&format!("{name}, damaged {count} times"), &saw, "the undamaged one loads and answers");
    Came { refused, did_not_start, answered, failed }
}

#[test]
fn a_small_component_that_is_damaged_is_refused_or_kept_within_its_limits() {
    // It copies the question's topic into its answer, calls the host, and has data and a table.
    let whole = hostile::small_parser();
    let came = damage_and_try("a small parser", &whole, 4_000);
    assert!(came.refused > 1_000 && came.answered > 100 && came.failed > 5, "{came:?}");
}

#[test]
fn an_example_that_is_damaged_is_refused_or_kept_within_its_limits() {
    let whole = std::fs::read(guests::component("allow-list")).unwrap();
    let came = damage_and_try("allow-list", &whole, 200);
    assert!(came.refused > 50 && came.answered > 10, "{came:?}");
}
