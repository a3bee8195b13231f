//! Millions of calls of one version, thousands of which trap: what that leaves in memory.

use std::time::{Duration, Instant};

use portreeve_plugin::{CallError, Engine, GuestFault, Manifest, Version, load_component};

use super::resident_bytes;
use crate::hostile;
use crate::question::Question;

/// What the run came to.
#[derive(Debug, Clone, Copy)]
pub struct Trapped {
    /// Calls that were made.
    pub calls: u64,
    /// Those that trapped.
    pub traps: u64,
    /// Instances that were started.
    pub instances: u64,
    /// How long it took.
    pub took: Duration,
    /// Resident memory after the first twentieth of the calls.
    pub early_bytes: u64,
    /// Resident memory at the end.
    pub late_bytes: u64,
}

impl Trapped {
    /// How much the memory grew, in per cent; negative where it shrank.
    #[must_use]
    pub fn growth_percent(&self) -> f64 {
        (self.late_bytes as f64 / self.early_bytes as f64 - 1.0) * 100.0
    }
}

/// A run of which this much is over is warm.
const WARM_PART: u64 = 20;
/// Progress is told this often.
const TOLD_PARTS: u64 = 20;

/// Asks a warm parser `calls` times, and has it trap at `traps` of them, evenly spread. `tell` is
/// given the calls so far and the resident memory.
///
/// # Panics
/// When a call ends otherwise than it should.
pub async fn run(calls: u64, traps: u64, mut tell: impl FnMut(u64, u64)) -> Trapped {
    let engine = Engine::new().expect("an engine");
    let loaded = load_component(&engine, &hostile::small_parser(), &Default::default(), None)
        .expect("it loads");
    let version = Version::start(&engine, "small", "digest", loaded, Manifest::default()).await;
    let version = version.expect("it starts");
    let (part, warm) = ((calls / TOLD_PARTS).max(1), (calls / WARM_PART).max(1));
    let (mut trapped, mut early_bytes) = (0, 0);
    let begin = Instant::now();
    for call in 1..=calls {
        // So many of the calls so far, rounded down, were to trap.
        let is_trap = u128::from(call) * u128::from(traps) / u128::from(calls) > trapped;
        let payload: &[u8] = if is_trap { b"trap" } else { b"payload" };
        match version.parse(Question { payload }).await {
            Ok(_) => assert!(!is_trap, "call {call} was to trap"),
            Err(CallError::Guest(GuestFault::Trapped(_))) if is_trap => trapped += 1,
            Err(error) => panic!("call {call}: {error}"),
        }
        if call == warm {
            early_bytes = resident_bytes(std::process::id());
        }
        if call % part == 0 {
            tell(call, resident_bytes(std::process::id()));
        }
    }
    Trapped {
        calls,
        traps: u64::try_from(trapped).expect("as many as were asked for"),
        instances: version.statistics().instance_starts,
        took: begin.elapsed(),
        early_bytes,
        late_bytes: resident_bytes(std::process::id()),
    }
}
