//! Spans to a collector: OTLP over HTTP or gRPC.
//!
//! One batch at a time. What fails is dropped, and said once until it works again: traces are no reason to keep memory, and
//! a collector that is gone must not cost more than the attempt.
//!
//! Spec: opentelemetry.io, "OTLP Specification"; open-telemetry/opentelemetry-proto trace/v1/trace.proto

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use gyre_protocol::codec::protobuf::wire::Message;
use gyre_transport::http::grpc::{CONTENT_TYPE, ENCODING, GZIP, framed, framed_gzip};
use http::{HeaderValue, Method, Request, Uri, header, uri::PathAndQuery};
use http_body_util::Full;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{Attribute, Item, Protocol, SpanData, TelemetryOptions};
use crate::hooks::{CallError, ClientTls, ClientTlsError, HttpClient, client_with};

/// The call that takes spans over gRPC.
const GRPC_PATH: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");

/// Exports what it is given.
pub(super) struct Exporter {
    options: TelemetryOptions,
    client: HttpClient,
    dropped: Arc<AtomicU64>,
    is_failing: bool,
}

impl Exporter {
    /// # Errors
    /// If the collector's authorities cannot be used.
    pub(super) fn new(options: TelemetryOptions, dropped: Arc<AtomicU64>) -> Result<Self, ClientTlsError> {
        let authorities = match (&options.authorities, options.endpoint.scheme_str()) {
            (Some(pem), _) => Some(pem.clone().into_bytes()),
            // Without TLS no authority is asked for anything, and a system need not have any.
            (None, Some("http")) => Some(Vec::new()),
            (None, _) => None,
        };
        let tls = ClientTls { authorities, ..ClientTls::default() };
        let client = client_with(&tls, options.protocol == Protocol::Grpc)?;
        Ok(Self { options, client, dropped, is_failing: false })
    }

    /// Until nobody can record any more.
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut spans = Vec::new();
        loop {
            let flushed = self.collect(&mut items, &mut spans).await;
            if !spans.is_empty() {
                let exported = self.export(&spans).await;
                self.report(exported, spans.len());
                spans.clear();
            }
            match flushed {
                Collected::Batch => {}
                // Nobody waits any more: the server did not have the time.
                Collected::Flush(done) => drop(done.send(())),
                Collected::Closed => return,
            }
        }
    }

    /// Waits for a whole batch, or for as many spans as come within the delay of the first.
    async fn collect(&self, items: &mut mpsc::Receiver<Item>, spans: &mut Vec<SpanData>) -> Collected {
        let mut deadline = None;
        while spans.len() < self.options.batch_max {
            let item = match deadline {
                None => items.recv().await,
                Some(deadline) => match timeout_at(deadline, items.recv()).await {
                    Ok(item) => item,
                    Err(_) => return Collected::Batch,
                },
            };
            match item {
                Some(Item::Span(span)) => spans.push(*span),
                Some(Item::Flush(done)) => return Collected::Flush(done),
                None => return Collected::Closed,
            }
            deadline.get_or_insert_with(|| Instant::now() + self.options.delay);
        }
        Collected::Batch
    }

    async fn export(&self, spans: &[SpanData]) -> Result<(), CallError> {
        let message = encode(&self.options.resource, spans);
        let (is_gzip, timeout) = (self.options.is_gzip, self.options.timeout);
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.options.endpoint.clone();
        *request.headers_mut() = self.options.headers.clone();
        let answer = match self.options.protocol {
            Protocol::Http => {
                let protobuf = HeaderValue::from_static("application/x-protobuf");
                request.headers_mut().insert(header::CONTENT_TYPE, protobuf);
                if is_gzip {
                    request.headers_mut().insert(header::CONTENT_ENCODING, GZIP);
                }
                let body = if is_gzip { gzip(&message) } else { message };
                *request.body_mut() = Full::new(Bytes::from(body));
                self.client.send(request, timeout).await
            }
            Protocol::Grpc => {
                request.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
                request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
                if is_gzip {
                    request.headers_mut().insert(ENCODING, GZIP);
                }
                let mut parts = request.uri().clone().into_parts();
                parts.path_and_query = Some(GRPC_PATH.clone());
                *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
                let body = match is_gzip {
                    true => framed_gzip(&message),
                    false => framed(|out| out.extend_from_slice(&message)),
                };
                *request.body_mut() = Full::new(Bytes::from(body));
                self.client.call(request, timeout).await
            }
        };
        answer.map(drop)
    }

    fn report(&mut self, exported: Result<(), CallError>, spans: usize) {
        match exported {
            Err(error) => {
                self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    let endpoint = self.options.endpoint.to_string();
                    tracing::warn!(%error, endpoint, "cannot export traces: they are dropped until it works again");
                }
            }
            Ok(()) if std::mem::replace(&mut self.is_failing, false) => {
                let dropped = self.dropped.load(Ordering::Relaxed);
                tracing::info!(dropped, "traces are exported again");
            }
            Ok(()) => {}
        }
    }
}

/// Why collecting ended.
enum Collected {
    Batch,
    Flush(oneshot::Sender<()>),
    Closed,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory cannot fail.
    drop(encoder.write_all(bytes));
    encoder.finish().unwrap_or_default()
}

/// `ExportTraceServiceRequest`.
fn encode(resource: &[(String, String)], spans: &[SpanData]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 * spans.len());
    Message::new(&mut out).message(1, |resource_spans| {
        resource_spans.message(1, |m| {
            resource.iter().for_each(|(name, value)| attribute(m, 1, name, &Attribute::from(value.clone())));
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.string(1, "gyre");
                scope.string(2, env!("CARGO_PKG_VERSION"));
            });
            spans.iter().for_each(|span| scope_spans.message(2, |m| encode_span(m, span)));
        });
    });
    out
}

fn encode_span(m: &mut Message<'_>, span: &SpanData) {
    m.bytes(1, &span.context.trace_id);
    m.bytes(2, &span.context.span_id);
    if let Some(state) = span.context.state.as_ref().and_then(|state| state.to_str().ok()) {
        m.string(3, state);
    }
    m.bytes(4, span.parent.as_ref().map_or(&[], |parent| parent));
    m.string(5, &span.name);
    m.uint(6, span.kind as u64);
    m.fixed64(7, span.start_unix_ns);
    m.fixed64(8, span.end_unix_ns);
    span.attributes.iter().for_each(|(name, value)| attribute(m, 9, name, value));
    if let Some(error) = &span.error {
        m.message(15, |status| {
            status.string(2, error);
            // STATUS_CODE_ERROR
            status.uint(3, 2);
        });
    }
}

fn attribute(m: &mut Message<'_>, number: u64, name: &str, value: &Attribute) {
    m.message(number, |pair| {
        pair.string(1, name);
        // AnyValue: string_value, an empty one as well, or int_value.
        pair.message(2, |any| match value {
            Attribute::Text(text) => any.item(1, text),
            Attribute::Number(number) => any.uint(3, *number as u64),
        });
    });
}
