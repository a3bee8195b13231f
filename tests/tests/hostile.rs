//! Plugins that mean harm, or might as well: what the caller of each saw, and that the gateway goes
//! on. With `-- --nocapture --test-threads 1` the tests print this as a table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use portreeve_tests::gateway::RunningGateway;
use portreeve_tests::{Client, TestGateway, V5};

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/execution.rs"]
mod execution;
#[path = "hostile/host_calls.rs"]
mod host_calls;
#[path = "hostile/loading.rs"]
mod loading;
#[path = "hostile/mutations.rs"]
mod mutations;

/// Within this a bystander is served, whatever a guest does: many times what it takes.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// One line of the table.
fn tell(guest: &str, caller_saw: &str, state_after: &str) {
    println!("| {guest} | {caller_saw} | {state_after} |");
}

/// A gateway with the well-behaved plugin `relay`, which moves `bystander/in` to `bystander/out`.
fn with_relay(gateway: TestGateway) -> TestGateway {
    let may_publish = "may_publish = [\"bystander/#\"]";
    gateway.with_plugin("relay", "").with_binding("relay", "bystander/in", may_publish)
}

/// A client that has nothing to do with the hostile guest. Its connection lasts for the whole test.
struct Bystander(Client);

impl Bystander {
    fn of(gateway: &RunningGateway) -> Self {
        let mut client = gateway.client(V5, "bystander");
        client.subscribe("bystander/#", 0);
        Self(client)
    }

    /// Wants a plain topic and another plugin to serve on the connection that was there before.
    fn is_served(&mut self) -> &'static str {
        let begin = Instant::now();
        self.0.ping();
        assert_eq!(self.0.publish_at_least_once("bystander/plain", "x"), 0);
        assert_eq!(self.0.next_publish().topic, "bystander/plain");
        assert_eq!(self.0.publish_at_least_once("bystander/in", "x"), 0);
        assert_eq!(self.0.next_publish().topic, "bystander/out");
        assert!(begin.elapsed() < SERVED_WITHIN, "the bystander waited {:?}", begin.elapsed());
        "plain topic, other plugin and connection serve"
    }
}
