//! Spans to an OpenTelemetry collector, over OTLP/HTTP. A collector that is slow or away costs spans, never a request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use server::trace::{Collector, SpanValue, TraceSpan};
use tokio::runtime::Handle;

/// Where the collector takes traces, below its address.
const TRACES: &str = "/v1/traces";
/// How long a batch may take to be sent, and the last one when the server ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends spans in batches, from a thread of its own.
#[derive(Debug)]
pub(super) struct Otlp {
    batches: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Otlp {
    /// Sends to the collector at this address. Needs the runtime, on which the sending is done.
    pub(super) fn start(endpoint: &str) -> Result<Self> {
        // Another part of the process may have chosen a provider before, which is as good.
        let _already_chosen = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT: no client could be made")?;
        let client = Sender { http, runtime: Handle::current(), failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}{TRACES}", endpoint.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        let mut batches = BatchSpanProcessor::builder(exporter).build();
        batches.set_resource(&resource());
        let scope = InstrumentationScope::builder("samosa").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { batches, scope })
    }

    /// Sends what is left.
    pub(super) fn end(&self) {
        if let Err(error) = self.batches.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// What these spans are of. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more, or otherwise.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let known = Resource::builder().build();
    let name = known.get(&"service.name".into()).map(|name| name.to_string());
    let builder = Resource::builder().with_attribute(version);
    match name {
        Some(name) if !name.starts_with("unknown_service") => builder.build(),
        _ => builder.with_service_name("inference").build(),
    }
}

impl Collector for Otlp {
    fn collect(&self, span: TraceSpan) {
        let trace = TraceId::from(span.trace);
        let context =
            SpanContext::new(trace, SpanId::from(span.id), TraceFlags::SAMPLED, false, TraceState::default());
        let attribute = |(name, value): (&'static str, SpanValue)| match value {
            SpanValue::Text(text) => KeyValue::new(name, text),
            SpanValue::Count(count) => KeyValue::new(name, count as i64),
        };
        self.batches.on_end(SpanData {
            span_context: context,
            parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: span.serves && span.parent.is_some(),
            span_kind: if span.serves { SpanKind::Server } else { SpanKind::Internal },
            name: span.name.into(),
            start_time: span.begin,
            end_time: span.end,
            attributes: span.attributes.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// The client of the rest of this program, for a thread that is not of its runtime.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: Handle,
    /// The last batch did not arrive.
    failing: AtomicBool,
}

impl Sender {
    /// Says once that the collector is away, and once that it is back.
    fn note(&self, error: Option<&str>) {
        let failed = error.is_some();
        match error {
            _ if self.failing.swap(failed, Ordering::AcqRel) == failed => {}
            Some(error) => tracing::warn!(error, "the trace collector does not take spans"),
            None => tracing::info!("the trace collector takes spans again"),
        }
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let exchange = async move {
            let answer = http.execute(request.try_into()?).await?;
            let status = answer.status();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        };
        let answer = self.runtime.spawn(exchange).await;
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.without_url().into()),
            Err(error) => Err(error.into()),
        };
        let refused = |answer: &Response<Bytes>| {
            (!answer.status().is_success()).then(|| format!("it answers {}", answer.status()))
        };
        let error = answer.as_ref().map_or_else(|error: &HttpError| Some(error.to_string()), refused);
        self.note(error.as_deref());
        answer
    }
}
