//! The real binary under load, killed with SIGKILL at random moments. `PORTREEVE_KILLS` and
//! `PORTREEVE_SEED` make the run longer or another one.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_tests::crash::{Plan, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let kills = u32::try_from(number("PORTREEVE_KILLS", 10)).unwrap();
    let seed = number("PORTREEVE_SEED", 0x5eed);
    for durability in ["process", "power"] {
        let data = tempfile::tempdir().unwrap();
        let outcome = run(Plan { kills: kills.div_ceil(2), seed, durability }, data.path());
        println!("durability {durability}, seed {seed}: {outcome:?}");
        assert!(outcome.is_good(), "durability {durability}, seed {seed}: {outcome:?}");
        assert!(outcome.acknowledged > 100 && outcome.delivered > outcome.acknowledged);
    }
}
