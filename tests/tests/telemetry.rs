//! Traces as a collector gets them, and the log as JSON: the real binary, OTLP over HTTPS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use portreeve_mqtt::{PropertiesBuf, Property, ProtocolVersion};
use portreeve_tests::binary::{Process, free_address};
use portreeve_tests::client::connect;
use portreeve_tests::https_gateway::trusting;
use portreeve_tests::https_service::{Answer, HttpsService};
use portreeve_tests::plugins::{manifest, put, variant};
use portreeve_tests::{Client, V5};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

/// How long spans may take to arrive: the gateway sends them once in a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with a parser, that lets everybody in, and one that lets nobody in.
struct Gateways {
    _folder: TempDir,
    open: std::net::SocketAddr,
    closed: std::net::SocketAddr,
    process: Process,
}

impl Gateways {
    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (open, closed) = (free_address(), free_address());
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        // It logs its token, if it has one.
        put(&plugins, "versioned.toml", manifest("1", "") + "token = \"t\"\n");
        put(&plugins, "versioned.wasm", variant("versioned", 0));
        put(folder.path(), "token", "Bearer of-the-collector\n");
        let config = format!(
            "[plugins]\ndirectory = \"plugins\"\n[data]\ndirectory = \"data\"\n{more}\n\
             [[gateway]]\nname = \"open\"\nverification = \"open\"\n\
             [[gateway.listener]]\naddress = \"{open}\"\n\
             [[gateway.binding]]\nplugin = \"versioned\"\ntopic = \"a/in\"\nmay_publish = [\"a/out\"]\n\
             [[gateway]]\nname = \"closed\"\nverification = \"one-party\"\n\
             [[gateway.listener]]\naddress = \"{closed}\"\n"
        );
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, config).unwrap();
        let process = Process::start(&["--config", path.to_str().unwrap()]).unwrap();
        Self { _folder: folder, open, closed, process }
    }

    /// Somebody whom nobody knows, and what they are told.
    fn refused(&self, client_id: &str) -> u8 {
        let mut client = Client::dial(self.closed);
        let mut packet = connect(ProtocolVersion::V5, client_id);
        packet.user_name = Some("nobody");
        packet.password = Some(b"s3cret-password");
        client.connect_code(&packet)
    }
}

fn telemetry(service: &HttpsService, more: &str) -> String {
    format!(
        "[telemetry]\nendpoint = \"https://{}\"\n{}\n{more}\n[telemetry.headers]\nauthorization = {{ file = \"token\" }}\n",
        service.address,
        trusting("root")
    )
}

/// The spans that arrived, of which there are `count` at least.
fn spans(service: &HttpsService, count: usize) -> Vec<Span> {
    let begin = Instant::now();
    loop {
        let spans: Vec<Span> = service
            .questions()
            .iter()
            .flat_map(|question| {
                assert_eq!((&*question.method, &*question.target), ("POST", "/v1/traces"));
                assert_eq!(question.header("authorization"), "Bearer of-the-collector");
                ExportTraceServiceRequest::decode(&*question.body).unwrap().resource_spans
            })
            .inspect(|of_resource| {
                let resource = of_resource.resource.as_ref().unwrap();
                assert_eq!(text(&resource.attributes, "service.name"), "portreeve");
            })
            .flat_map(|of_resource| of_resource.scope_spans)
            .flat_map(|of_scope| of_scope.spans)
            .collect();
        if spans.len() >= count {
            return spans;
        }
        assert!(begin.elapsed() < PATIENCE, "{} of {count}: {spans:#?}", spans.len());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key);
    match value.and_then(|attribute| attribute.value.as_ref()) {
        Some(Any { value: Some(AnyValue::StringValue(text)) }) => text.clone(),
        Some(Any { value: Some(AnyValue::IntValue(number)) }) => number.to_string(),
        _ => String::new(),
    }
}

fn one<'a>(spans: &'a [Span], name: &str, key: &str, value: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name && text(&span.attributes, key) == value);
    found.unwrap_or_else(|| panic!("no {name} with {key} = {value}: {spans:#?}"))
}

#[test]
fn connects_and_publishes_are_traced_to_a_collector() {
    let service = HttpsService::start(|_| Answer::status(200));
    let gateways = Gateways::start(&telemetry(&service, "publishes = 1"));
    let mut client = Client::dial(gateways.open);
    client.connect(V5, "device-1");
    // W3C Trace Context: what the device began goes on here.
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace}-{parent}-01");
    let properties: PropertiesBuf =
        [Property::UserProperty(("traceparent", &traceparent))].into_iter().collect();
    client.subscribe("a/out", 0);
    client.publish_with("a/in", b"x", 0, false, None, &properties);
    assert_eq!(client.next_publish().text(), "1:x");
    let unsampled = format!("00-{trace}-{parent}-00");
    let properties: PropertiesBuf =
        [Property::UserProperty(("traceparent", &unsampled))].into_iter().collect();
    client.publish_with("unsampled", b"x", 0, false, None, &properties);
    client.publish("plain", "12345");
    assert_eq!(gateways.refused("stranger"), 0x86);

    let spans = spans(&service, 9);
    let admitted = one(&spans, "CONNECT", "messaging.client.id", "device-1");
    assert_eq!(text(&admitted.attributes, "portreeve.gateway"), "open");
    assert_eq!(text(&admitted.attributes, "network.peer.address"), "127.0.0.1");
    assert!(admitted.parent_span_id.is_empty());
    assert!(admitted.end_time_unix_nano >= admitted.start_time_unix_nano);

    let refused = one(&spans, "CONNECT", "messaging.client.id", "stranger");
    assert_eq!(text(&refused.attributes, "user.name"), "nobody");
    let status = refused.status.as_ref().unwrap();
    assert_eq!(status.code(), StatusCode::Error);
    let steps: Vec<&Span> =
        spans.iter().filter(|span| span.parent_span_id == refused.span_id).collect();
    assert!(steps.iter().all(|step| step.trace_id == refused.trace_id));
    let step = steps.iter().find(|step| text(&step.attributes, "portreeve.outcome") == "refused");
    assert_eq!(step.unwrap().status.as_ref().unwrap().code(), StatusCode::Error);

    let parsed = one(&spans, "PUBLISH", "messaging.destination.name", "a/in");
    assert_eq!(hex::encode(&parsed.trace_id), trace);
    assert_eq!(hex::encode(&parsed.parent_span_id), parent);
    assert_eq!(text(&parsed.attributes, "messaging.message.body.size"), "1");
    let parser = one(&spans, "parser", "portreeve.plugin", "versioned");
    assert_eq!(parser.parent_span_id, parsed.span_id);
    assert_eq!(text(&parser.attributes, "portreeve.outcome"), "replace");
    let plain = one(&spans, "PUBLISH", "messaging.destination.name", "plain");
    assert!(plain.parent_span_id.is_empty());
    assert_eq!(text(&plain.attributes, "portreeve.device"), "device-1");
    // Its device says that nobody wants this one.
    let is_unsampled =
        |span: &Span| text(&span.attributes, "messaging.destination.name") == "unsampled";
    assert!(!spans.iter().any(is_unsampled), "{spans:#?}");
    let all = format!("{spans:?}");
    assert!(!all.contains("s3cret-password"), "{all}");
}

#[test]
fn what_waits_is_sent_when_the_gateway_ends() {
    let service = HttpsService::start(|_| Answer::status(200));
    let gateways = Gateways::start(&telemetry(&service, ""));
    let mut client = Client::dial(gateways.open);
    client.connect(V5, "device-1");
    client.publish("a/in", "x");
    client.ping();
    assert_eq!(gateways.process.terminate(), Some(0));
    let spans = spans(&service, 1);
    one(&spans, "CONNECT", "messaging.client.id", "device-1");
    assert!(spans.iter().all(|span| span.name != "PUBLISH"), "none was asked for: {spans:#?}");
}

#[test]
fn a_collector_that_is_not_there_costs_traces_and_nothing_else() {
    let nowhere = free_address();
    let gateways = Gateways::start(&format!("[telemetry]\nendpoint = \"http://{nowhere}\"\n"));
    let mut client = Client::dial(gateways.open);
    client.connect(V5, "device-1");
    let line = gateways.process.wait_for_log("traces were not sent");
    assert!(line.contains("spans="), "{line}");
    client.ping();
    assert_eq!(gateways.process.terminate(), Some(0));
}

#[test]
fn mistakes_in_telemetry_are_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let config = "[telemetry]\nendpoint = \"collector:4318\"\npublishes = 2\nca = \"missing.pem\"\n\
                  [[gateway]]\nname = \"main\"\n[[gateway.listener]]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(&path, config).unwrap();
    let said = Process::start(&["--config", path.to_str().unwrap()]).err().unwrap();
    for part in [
        "gateway.toml:2: telemetry.endpoint: \"collector:4318\"",
        "gateway.toml:3: telemetry.publishes: is no share",
        "gateway.toml:4: telemetry.ca: missing.pem cannot be read",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn lines_of_a_connection_tell_in_json_whose_they_are() {
    let gateways = Gateways::start("[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let mut client = Client::dial(gateways.open);
    client.connect(V5, "device-1");
    client.subscribe("a/out", 0);
    client.publish("a/in", "x");
    client.next_publish();
    client.disconnect();
    assert_eq!(gateways.refused("stranger"), 0x86);
    let find = |text: &str| -> Value {
        serde_json::from_str(&gateways.process.wait_for_log(text)).unwrap()
    };
    let connected = find("\"message\":\"connected\"");
    assert_eq!(connected["span"]["name"], "connection");
    assert_eq!(connected["span"]["client_id"], "device-1");
    assert_eq!(connected["span"]["gateway"], "open");
    assert!(connected["span"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let logged = find("\"target\":\"plugin\"");
    assert_eq!((&logged["plugin"], &logged["device"]), (&"versioned".into(), &"device-1".into()));
    let ended = find("\"message\":\"disconnected\"");
    assert_eq!(ended["span"]["device"], "device-1");
    let refused = find("\"message\":\"CONNECT refused\"");
    assert_eq!(refused["span"]["client_id"], "stranger");
    assert_eq!(refused["user_name"], "nobody");
}
