//! References name everything that there is, in the words that the code has for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve::metrics::Metrics;
use portreeve_tests::guests::workspace;

fn reference(name: &str) -> String {
    std::fs::read_to_string(workspace().join("docs/reference").join(name)).unwrap()
}

#[test]
fn every_counter_stands_in_the_reference_of_metrics() {
    let text = reference("metrics.md");
    for (name, what) in Metrics::descriptions() {
        let row = format!("| `portreeve_{name}_total` | {what} |\n");
        assert!(text.contains(&row), "docs/reference/metrics.md has no row\n{row}");
    }
}

#[test]
fn every_operation_stands_in_the_reference_of_the_admin_api() {
    let text = reference("admin-api.md");
    let document = serde_json::to_value(portreeve::admin_api()).unwrap();
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let summary = operation["summary"].as_str().unwrap();
            let row = format!("| `{} {path}` | {summary} |\n", method.to_uppercase());
            assert!(text.contains(&row), "docs/reference/admin-api.md has no row\n{row}");
            count += 1;
        }
    }
    let rows = text.lines().filter(|line| line.starts_with("| `") && line.contains(" /")).count();
    assert_eq!(rows, count, "docs/reference/admin-api.md has rows of operations that are no more");
}
