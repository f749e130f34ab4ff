use std::time::Duration;

use gyre_protocol::{api, codec::protobuf::wire::each_field};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LIMIT: Duration = Duration::from_secs(10);

fn options(port: u16, more: &[(&str, &str)]) -> TelemetryOptions {
    let endpoint = format!("http://127.0.0.1:{port}");
    let options = TelemetryOptions::from_environment(true, |name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        name => more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
    });
    options.unwrap().unwrap()
}

/// The head and body of one request over HTTP/1.1, answered with 200.
async fn collect(tcp: &mut TcpStream) -> (String, Vec<u8>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let head = String::from_utf8(bytes[..end.unwrap_or(0)].to_vec()).unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if let (Some(end), Some(length)) = (end, length)
            && bytes.len() >= end + 4 + length
        {
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            return (head, bytes[end + 4..].to_vec());
        }
        let read = tcp.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the request broke off");
        bytes.extend_from_slice(&buffer[..read]);
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
    kind: u64,
    failed: bool,
}

/// The spans of an `ExportTraceServiceRequest`, read by the numbers of its fields.
fn spans(body: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    each_field(body, |_, resource| {
        each_field(resource.bytes()?, |number, scope| {
            if number != 2 {
                return Ok(());
            }
            each_field(scope.bytes()?, |number, value| {
                if number == 2 {
                    seen.push(span(value.bytes()?));
                }
                Ok(())
            })
        })
    })
    .unwrap();
    seen
}

fn span(bytes: &[u8]) -> Seen {
    let mut span = Seen::default();
    each_field(bytes, |number, value| {
        match number {
            1 => span.trace = value.bytes()?.to_vec(),
            2 => span.id = value.bytes()?.to_vec(),
            4 => span.parent = value.bytes()?.to_vec(),
            5 => span.name = value.string()?.into_owned(),
            6 => span.kind = value.varint()?,
            15 => span.failed = true,
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    span
}

/// A broadcast of a request with a trace of its own makes a span for the request, one for the operation below it and one
/// for each channel below that, all of the caller's trace; a small collector reads them from the wire.
///
/// Spec: open-telemetry/opentelemetry-proto trace.proto; W3C Trace Context
#[tokio::test]
async fn requests_are_traced() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(collector.local_addr().unwrap().port(), &[]);
    let telemetry = Telemetry::start(options, &Handle::current()).unwrap();
    let headers: HeaderMap =
        [(http::HeaderName::from_static("traceparent"), PARENT.parse().unwrap())].into_iter().collect();
    let body = br#"{"channels":["a","b"],"data":1}"#;
    let request = api::decode_request(api::Method::Broadcast, body).unwrap();
    let answer = async {
        let operation = operation(&request).unwrap();
        operation.fail("no");
        500
    };
    let status =
        telemetry.serve("http", "POST /api/broadcast".into(), &headers, answer, |status| *status).await;
    assert_eq!(status, 500);
    let flushing = tokio::spawn(async move { telemetry.flush().await });
    let (mut tcp, _) = timeout(LIMIT, collector.accept()).await.unwrap().unwrap();
    let (head, body) = timeout(LIMIT, collect(&mut tcp)).await.unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    timeout(LIMIT, flushing).await.unwrap().unwrap();
    let spans = spans(&body);
    let names: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.kind, span.failed)).collect();
    let expected = [
        ("publication", 4, true),
        ("publication", 4, true),
        ("broadcast", 1, true),
        ("POST /api/broadcast", 2, true),
    ];
    assert_eq!(names, expected);
    let context = TraceContext::parse(PARENT.as_bytes()).unwrap();
    assert!(spans.iter().all(|span| span.trace == context.trace_id));
    assert_eq!(spans[3].parent, context.span_id);
    assert_eq!(spans[2].parent, spans[3].id);
    assert!(spans[..2].iter().all(|span| span.parent == spans[2].id));
}

/// A hook's question carries the trace it is part of; without a sampled parent nothing is recorded, and it says so.
#[tokio::test]
async fn hooks_pass_the_trace_on() {
    let never = options(1, &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")]);
    let telemetry = Telemetry::start(never, &Handle::current()).unwrap();
    let span = telemetry.hook("rpc", "default", "http", None);
    let mut headers = HeaderMap::new();
    span.context().unwrap().write(&mut headers);
    assert!(headers["traceparent"].to_str().unwrap().ends_with("-00"));
    assert!(Telemetry::default().hook("rpc", "default", "http", None).context().is_none());
    let emulated = [("traceparent".into(), PARENT.into())].into();
    let headers = gyre_core::ports::ConnectionHeaders { emulated, ..Default::default() };
    let caller = Caller { headers: Some(Arc::new(headers)), ..Caller::default() };
    let span = telemetry.hook("rpc", "default", "http", Some(&caller));
    let context = span.context().unwrap();
    assert!(context.is_sampled && context.trace_id[0] == 0x4b);
}

/// A collector that takes connections and never answers holds nothing: more spans than the queue takes are recorded at
/// once, the rest is dropped and counted, and a flush ends with the exporter's own time limit.
#[tokio::test]
async fn a_dead_collector_holds_nothing() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "50")];
    let options = options(collector.local_addr().unwrap().port(), &small);
    let telemetry = Telemetry::start(options, &Handle::current()).unwrap();
    for _ in 0..100 {
        drop(telemetry.hook("rpc", "default", "http", None));
    }
    let dropped = telemetry.0.as_ref().unwrap().dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, 92);
    timeout(LIMIT, telemetry.flush()).await.unwrap();
    // Those that were sent into nothing as well.
    assert_eq!(telemetry.0.as_ref().unwrap().dropped.load(Ordering::Relaxed), 100);
}
