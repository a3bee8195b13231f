//! OpenTelemetry traces, sent as OTLP over HTTP: one of each CONNECT that is sampled, made of the
//! steps that `portreeve explain` tells, and one of each PUBLISH that is sampled. Where nothing is
//! configured, a PUBLISH pays for one comparison.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use parking_lot::Mutex;
use portreeve_mqtt::{Properties, ReasonCode};
use tokio::time::Instant;

use crate::attempts::{Outcome, Trail, TrailStep, Who, cut};
use crate::devices::Device;
use crate::message::MessageRef;
use crate::metrics::Counter;

/// Spans that wait to be sent; those beyond are dropped, and counted.
const QUEUE_SPANS_MAX: usize = 16_384;
/// Spans of one request.
const BATCH_SPANS_MAX: usize = 512;
/// How long spans wait for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last spans.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// Failures are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// `[telemetry]`.
#[derive(Clone, PartialEq)]
pub struct TelemetryConfig {
    /// Where traces are sent: the whole URL, `/v1/traces` included.
    pub endpoint: String,
    /// Headers of each request, such as `authorization`. They are not printed.
    pub headers: HashMap<String, String>,
    /// PEM of the authorities that the server's certificate comes from, beside the system's.
    pub ca: Option<Vec<u8>>,
    /// How long a request may take.
    pub timeout: Duration,
    /// `service.name` of the spans.
    pub service_name: String,
    /// The share of CONNECTs that are traced, from 0 to 1.
    pub connects: f64,
    /// The share of PUBLISHes that are traced, from 0 to 1.
    pub publishes: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: HashMap::new(),
            ca: None,
            timeout: Duration::from_secs(10),
            service_name: "portreeve".to_owned(),
            connects: 1.0,
            publishes: 0.0,
        }
    }
}

impl fmt::Debug for TelemetryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.keys().collect();
        f.debug_struct("TelemetryConfig")
            .field("endpoint", &self.endpoint)
            .field("headers", &headers)
            .field("connects", &self.connects)
            .field("publishes", &self.publishes)
            .finish_non_exhaustive()
    }
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    /// Spans that ended.
    pub(crate) made: Counter,
    /// Spans that the server took.
    pub(crate) sent: Counter,
    /// Spans of requests that failed.
    pub(crate) failed: Counter,
}

/// Traces, or none.
#[derive(Debug, Default)]
pub(crate) struct Telemetry(Option<Active>);

#[derive(Debug)]
struct Active {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    connects: Share,
    publishes: Share,
    counts: Arc<SpanCounts>,
}

/// How many of all are traced.
#[derive(Debug, Clone, Copy)]
struct Share(u64);

impl Share {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a float saturates when it is made an integer, and a share needs no more digits"
    )]
    fn new(share: f64) -> Self {
        Self((share.clamp(0.0, 1.0) * u64::MAX as f64) as u64)
    }

    fn takes(self) -> bool {
        thread_local! {
            // Not zero, which xorshift stays at.
            static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8) | 1);
        }
        if self.0 == 0 {
            return false;
        }
        // Xorshift (Marsaglia 2003): whom it takes is to follow no pattern of the traffic.
        let mut random = STATE.get();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        STATE.set(random);
        random <= self.0
    }
}

/// Who publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) gateway: &'a Arc<str>,
    pub(crate) client_id: &'a str,
    pub(crate) device: &'a Device,
}

/// A PUBLISH that is traced.
#[derive(Debug)]
pub(crate) struct PublishSpan {
    start: SystemTime,
    parent: Context,
    attributes: Vec<KeyValue>,
    parser: Option<SpanBuilder>,
    parser_end: SystemTime,
}

impl Telemetry {
    /// Starts what sends spans, which is a thread. Nothing is sent yet, so that a server that is not
    /// there keeps the gateway from nothing.
    ///
    /// # Errors
    /// What is wrong with endpoint, headers or authorities.
    pub(crate) async fn start(config: Option<&TelemetryConfig>) -> Result<Self, String> {
        let Some(config) = config.cloned() else { return Ok(Self(None)) };
        // The client that is made has a runtime of its own, which cannot begin within another.
        let started = tokio::task::spawn_blocking(move || Active::start(&config)).await;
        started.map_err(|error| error.to_string())?.map(|active| Self(Some(active)))
    }

    /// What became of spans; `None` where there are none.
    pub(crate) fn counts(&self) -> Option<&SpanCounts> {
        self.0.as_ref().map(|active| &*active.counts)
    }

    /// Traces a CONNECT that was answered with this reason, if it is sampled.
    pub(crate) fn connect(
        &self,
        who: &Who<'_>,
        properties: Properties<'_>,
        trail: &Trail,
        reason: (ReasonCode, &str),
    ) {
        let Some(active) = self.0.as_ref().filter(|active| active.connects.takes()) else {
            return;
        };
        let (reason_code, why) = reason;
        let (begin, end) = trail.times();
        let mut span = SpanBuilder::from_name("CONNECT")
            .with_kind(SpanKind::Server)
            .with_start_time(begin)
            .with_attributes(of_connect(who, trail, reason_code))
            .start_with_context(&active.tracer, &parent(properties));
        if reason_code.is_error() {
            span.set_status(Status::error(why.to_owned()));
        }
        for step in trail.steps().iter().filter(|step| step.outcome == Outcome::Note) {
            let message = KeyValue::new("message", step.why.clone());
            span.add_event_with_timestamp(step.stage, step.at(begin), vec![message]);
        }
        let context = Context::new().with_span(span);
        let mut start = begin;
        for step in trail.steps().iter().filter(|step| step.outcome != Outcome::Note) {
            let end = step.at(begin);
            let mut span =
                of_step(step).with_start_time(start).start_with_context(&active.tracer, &context);
            if step.outcome == Outcome::Refused {
                span.set_status(Status::error(step.why.clone()));
            }
            span.end_with_timestamp(end);
            start = end;
            active.count(span.span_context());
        }
        context.span().end_with_timestamp(end);
        active.count(context.span().span_context());
    }

    /// Begins to trace a PUBLISH, if it is sampled.
    pub(crate) fn publish(
        &self,
        publisher: Publisher<'_>,
        message: &MessageRef<'_>,
    ) -> Option<Box<PublishSpan>> {
        let active = self.0.as_ref()?;
        if !active.publishes.takes() {
            return None;
        }
        let start = SystemTime::now();
        Some(Box::new(PublishSpan {
            start,
            parent: parent(message.properties),
            attributes: of_publish(publisher, message),
            parser: None,
            parser_end: start,
        }))
    }

    /// It was answered.
    pub(crate) fn published(&self, published: PublishSpan, reason_code: ReasonCode, why: &str) {
        let Some(active) = &self.0 else { return };
        let PublishSpan { start, parent, mut attributes, parser, parser_end } = published;
        attributes.push(KeyValue::new("portreeve.reason", reason_code.name()));
        let mut span = SpanBuilder::from_name("PUBLISH")
            .with_kind(SpanKind::Consumer)
            .with_start_time(start)
            .with_attributes(attributes)
            .start_with_context(&active.tracer, &parent);
        if reason_code.is_error() {
            span.set_status(Status::error(why.to_owned()));
        }
        let context = parent.with_span(span);
        if let Some(parser) = parser {
            let mut span = parser.start_with_context(&active.tracer, &context);
            span.end_with_timestamp(parser_end);
            active.count(span.span_context());
        }
        context.span().end();
        active.count(context.span().span_context());
    }

    /// Sends what waits, within a bound of time.
    pub(crate) async fn stop(&self) {
        let Some(active) = &self.0 else { return };
        let provider = active.provider.clone();
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN));
        if let Ok(Err(error)) = stopped.await {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

impl PublishSpan {
    /// What a parser said of it, and since when it was asked.
    pub(crate) fn parsed(&mut self, plugin: &str, since: SystemTime, outcome: &'static str) {
        self.parser_end = SystemTime::now();
        let attributes = [
            KeyValue::new("portreeve.plugin", plugin.to_owned()),
            KeyValue::new("portreeve.outcome", outcome),
        ];
        let builder = SpanBuilder::from_name("parser").with_kind(SpanKind::Internal);
        self.parser = Some(builder.with_start_time(since).with_attributes(attributes));
    }
}

impl Active {
    /// Counts a span that ended; one whose client says that its trace is not sampled goes nowhere.
    fn count(&self, span: &SpanContext) {
        self.counts.made.add(u64::from(span.is_sampled()));
    }

    fn start(config: &TelemetryConfig) -> Result<Self, String> {
        let mut client = reqwest::blocking::Client::builder()
            .timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &config.ca {
            let authorities = reqwest::Certificate::from_pem_bundle(pem);
            let authorities = authorities.map_err(|error| format!("ca: {error}"))?;
            client = client.tls_certs_merge(authorities);
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client.build().map_err(|error| error.to_string())?)
            .with_endpoint(&config.endpoint)
            .with_timeout(config.timeout)
            .with_headers(config.headers.clone())
            .build()
            .map_err(|error| error.to_string())?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let counts = Arc::<SpanCounts>::default();
        let exporter = Counted { exporter, counts: Arc::clone(&counts), told: Mutex::default() };
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        let scope = InstrumentationScope::builder("portreeve").build();
        let tracer = provider.tracer_with_scope(scope);
        let (connects, publishes) = (Share::new(config.connects), Share::new(config.publishes));
        Ok(Self { provider, tracer, connects, publishes, counts })
    }
}

/// Counts what is sent, and tells of failures.
#[derive(Debug)]
struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    counts: Arc<SpanCounts>,
    told: Mutex<Option<Instant>>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(0);
        let exported = self.exporter.export(batch).await;
        match &exported {
            Ok(()) => self.counts.sent.add(spans),
            Err(error) => {
                self.counts.failed.add(spans);
                let mut told = self.told.lock();
                if told.is_none_or(|told| told.elapsed() > LOG_INTERVAL) {
                    *told = Some(Instant::now());
                    tracing::warn!(%error, spans, "traces were not sent");
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// User properties, which hold `traceparent` and `tracestate` (W3C Trace Context for MQTT).
struct Carrier<'a>(Properties<'a>);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.user_properties().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.user_properties().map(|(name, _)| name).collect()
    }
}

/// The span of the client that this one belongs to.
fn parent(properties: Properties<'_>) -> Context {
    let root = Context::new();
    if properties.is_empty() {
        return root;
    }
    TraceContextPropagator::new().extract_with_context(&root, &Carrier(properties))
}

fn of_connect(who: &Who<'_>, trail: &Trail, reason_code: ReasonCode) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "mqtt"),
        KeyValue::new("messaging.client.id", cut(who.client_id)),
        KeyValue::new("network.peer.address", who.peer.ip().to_string()),
        KeyValue::new("network.peer.port", i64::from(who.peer.port())),
        KeyValue::new("portreeve.gateway", Arc::clone(who.gateway)),
        KeyValue::new("portreeve.reason", reason_code.name()),
    ];
    let texts = [
        ("user.name", who.user_name),
        ("tls.client.subject", who.certificate),
        ("portreeve.device", trail.device()),
    ];
    let known = texts.into_iter().filter_map(|(key, text)| Some(KeyValue::new(key, cut(text?))));
    attributes.extend(known);
    attributes
}

fn of_step(step: &TrailStep) -> SpanBuilder {
    let attributes = [
        KeyValue::new("portreeve.outcome", step.outcome.name()),
        KeyValue::new("portreeve.why", step.why.clone()),
    ];
    SpanBuilder::from_name(step.stage).with_kind(SpanKind::Internal).with_attributes(attributes)
}

fn of_publish(publisher: Publisher<'_>, message: &MessageRef<'_>) -> Vec<KeyValue> {
    let bytes = i64::try_from(message.payload.len()).unwrap_or(i64::MAX);
    vec![
        KeyValue::new("messaging.system", "mqtt"),
        KeyValue::new("messaging.operation.name", "publish"),
        KeyValue::new("messaging.destination.name", cut(message.topic.as_str())),
        KeyValue::new("messaging.message.body.size", bytes),
        KeyValue::new("messaging.client.id", cut(publisher.client_id)),
        KeyValue::new("portreeve.gateway", Arc::clone(publisher.gateway)),
        KeyValue::new("portreeve.device", publisher.device.name.as_str().to_owned()),
        KeyValue::new("portreeve.product", Arc::clone(&publisher.device.product)),
        KeyValue::new("portreeve.qos", i64::from(message.qos as u8)),
        KeyValue::new("portreeve.retain", message.retain),
    ]
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn as_many_are_traced_as_were_asked_for() {
        let taken = |share| (0..100_000).filter(|_| Share::new(share).takes()).count();
        assert_eq!(taken(0.0), 0);
        assert_eq!(taken(-1.0), 0);
        assert_eq!(taken(1.0), 100_000);
        let tenth = taken(0.1);
        // Some ten standard deviations.
        assert!((9_000..11_000).contains(&tenth), "{tenth}");
    }
}
