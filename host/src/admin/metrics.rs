//! What is counted, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use portreeve_store::StoreCounts;

use super::{Admin, plugins, tls};
use crate::metrics::Metrics;

/// Every metric with its value.
pub(super) fn exposition(admin: &Admin) -> String {
    let mut text = String::new();
    let metrics = &admin.broker.metrics;
    for ((name, value), (_, help)) in metrics.counters().zip(Metrics::descriptions()) {
        let name = format!("portreeve_{name}_total");
        family(&mut text, &name, "counter", help, &[(String::new(), value)]);
    }
    for (name, help, value) in gauges(admin) {
        family(&mut text, name, "gauge", help, &[(String::new(), value)]);
    }
    let gateways = admin.gateways.iter().map(|gateway| {
        let open = gateway.connections.load(Ordering::Relaxed);
        (format!("{{gateway={:?}}}", gateway.name), count(open))
    });
    let help = "Connections of a gateway that are open.";
    family(
        &mut text,
        "portreeve_gateway_connections",
        "gauge",
        help,
        &gateways.collect::<Vec<_>>(),
    );
    if let Some(store) = &admin.broker.store {
        text.push_str(&of_store(&store.counts()));
    }
    if let Some(spans) = admin.broker.telemetry.counts() {
        let counts = [("made", &spans.made), ("sent", &spans.sent), ("failed", &spans.failed)];
        let lines: Vec<_> = counts
            .into_iter()
            .map(|(result, count)| (format!("{{result={result:?}}}"), count.value()))
            .collect();
        let help = "Spans of traces: those that ended, arrived, and did not.";
        family(&mut text, "portreeve_trace_spans_total", "counter", help, &lines);
    }
    text.push_str(&plugins::exposition(admin));
    text.push_str(&tls::metrics(&admin.gateways));
    text
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn gauges(admin: &Admin) -> [(&'static str, &'static str, u64); 4] {
    let broker = &admin.broker;
    let connections = broker.metrics.connections.load(Ordering::Relaxed);
    [
        (
            "portreeve_connections",
            "Connections that are open.",
            u64::try_from(connections).unwrap_or_default(),
        ),
        (
            "portreeve_sessions",
            "Sessions, with a connection or without.",
            count(broker.sessions.count()),
        ),
        ("portreeve_devices", "Devices in the registry.", count(broker.registry.count())),
        (
            "portreeve_retained_messages",
            "Retained messages.",
            count(broker.topics.retained_count()),
        ),
    ]
}

fn of_store(counts: &StoreCounts) -> String {
    let StoreCounts { commits, failures, refused, is_failing, waiting_bytes } = *counts;
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("portreeve_store_commits_total", "counter", "Commits of the store.", commits),
        ("portreeve_store_failures_total", "counter", "Commits that failed.", failures),
        (
            "portreeve_store_refused_total",
            "counter",
            "Changes that the store did not take.",
            refused,
        ),
        (
            "portreeve_store_failing",
            "gauge",
            "1 while the store cannot write.",
            u64::from(is_failing),
        ),
        ("portreeve_store_waiting_bytes", "gauge", "Bytes that wait to be stored.", waiting_bytes),
    ] {
        family(&mut text, name, kind, help, &[(String::new(), value)]);
    }
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, values: &[(String, u64)]) {
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _infallible = writeln!(text, "{name}{labels} {value}");
    }
}
