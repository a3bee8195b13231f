//! Random lives of sessions against a small model of them. `PORTREEVE_CASES` and `PORTREEVE_SEED`
//! make the run longer or another one; a failure is shrunk to the steps that it needs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_tests::model::{Acknowledges, CLIENTS, Run, Step, TOPICS};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let topic = 0..TOPICS;
    let acknowledges = prop_oneof![
        1 => Just(Acknowledges::Nothing),
        1 => Just(Acknowledges::Half),
        4 => Just(Acknowledges::Whole),
    ];
    let step = prop_oneof![
        4 => (client.clone(), prop::bool::weighted(0.2))
            .prop_map(|(client, clean)| Step::Connect { client, clean }),
        4 => (client.clone(), topic.clone(), 0..=2_u8)
            .prop_map(|(client, topic, qos)| Step::Subscribe { client, topic, qos }),
        1 => (client.clone(), topic.clone())
            .prop_map(|(client, topic)| Step::Unsubscribe { client, topic }),
        10 => (topic, 1..=2_u8).prop_map(|(topic, qos)| Step::Publish { topic, qos }),
        6 => (client.clone(), 1..5_usize, acknowledges).prop_map(
            |(client, messages, acknowledges)| Step::Read { client, messages, acknowledges }
        ),
        2 => client.clone().prop_map(|client| Step::Drop { client }),
        1 => client.prop_map(|client| Step::Disconnect { client }),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 10..60)
}

#[test]
fn sessions_are_what_the_model_says() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let cases = u32::try_from(number("PORTREEVE_CASES", 12)).unwrap();
    let seed = number("PORTREEVE_SEED", 0x5eed);
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&steps(), |steps| {
        let data = tempfile::tempdir().unwrap();
        let mut run = Run::start(data.path());
        for (index, step) in steps.iter().enumerate() {
            if let Err(finding) = run.step(*step) {
                return Err(TestCaseError::fail(format!("step {index}: {finding}")));
            }
        }
        run.finish().map_err(TestCaseError::fail)
    });
    println!(
        "{cases} cases, seed {seed}: {}",
        if outcome.is_ok() { "no finding" } else { "a finding" }
    );
    if let Err(error) = outcome {
        panic!("seed {seed}: {error}");
    }
}
