//! Subscription streams over gRPC.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use tonic::Status;

use crate::{
    Server,
    backend::{Backend, StreamCall},
    free_port,
    hooks::Client,
};

/// A server whose channels have streams at the backend: unidirectional in one namespace, bidirectional in another.
async fn start(backend: &Backend, limit: u32) -> (Server, u16) {
    let port = free_port();
    let proxy = json!({
        "endpoint": format!("grpc://127.0.0.1:{}", backend.port), "timeout": "60s", "concurrency_limit": limit,
    });
    let config = json!({
        "http_server": {"address": "127.0.0.1", "port": port},
        // Two commands at a time: whoever waits for a stream is still listened to, so that its end is noticed.
        "client": {"allow_anonymous_connect_without_token": true, "concurrency": 2},
        "channel": {
            "proxy": {"subscribe_stream": proxy},
            "namespaces": [
                {"name": "down", "subscribe_stream_proxy_enabled": true, "presence": true},
                {
                    "name": "both", "subscribe_stream_proxy_enabled": true,
                    "subscribe_stream_proxy_bidirectional": true,
                },
            ],
        },
        "rpc": {"ping": {"enabled": true, "method": "ping"}},
    });
    (Server::start(&config, &[port]).await, port)
}

async fn connected(port: u16) -> Client {
    let mut client = Client::open(port).await;
    client.send(&json!({"id": 1, "connect": {}})).await;
    assert!(client.reply().await["connect"].is_object());
    client
}

/// StreamSubscribeResponse { subscribe_response (1): { result (1): { data (4): 7 } } }
const ALLOWED: &[u8] = b"\x0a\x05\x0a\x03\x22\x017";

/// Subscribes, and answers with [`ALLOWED`].
async fn subscribed(client: &mut Client, backend: &mut Backend, channel: &str) -> StreamCall {
    client.send(&json!({"id": 2, "subscribe": {"channel": channel, "data": {"d": 1}}})).await;
    let stream = backend.stream().await;
    stream.send(ALLOWED).await;
    assert_eq!(client.reply().await, json!({"id": 2, "subscribe": {"data": 7}}));
    stream
}

/// What a stream brings reaches its client behind the reply, tags included; how the stream ends is how the subscription
/// does. Nothing goes up.
///
/// Spec: centrifugal.dev, "Proxy subscription streams"
#[tokio::test]
async fn streams_feed_subscriptions() {
    let mut backend = Backend::start(None).await;
    let (_server, port) = start(&backend, 0).await;
    let mut client = connected(port).await;
    client.send(&json!({"id": 2, "subscribe": {"channel": "down:c", "data": {"d": 1}}})).await;
    let mut stream = backend.stream().await;
    assert_eq!(stream.method, "SubscribeUnidirectional");
    let question = stream.next().await.unwrap();
    // SubscribeRequest { transport (2), channel (11), data (14) }
    for field in [&b"\x12\x09websocket"[..], b"\x5a\x06down:c", b"\x72\x07{\"d\":1}"] {
        assert!(question.windows(field.len()).any(|bytes| bytes == field), "{question:?}");
    }
    assert_eq!(stream.metadata.get("grpc-timeout"), None, "it lasts as long as the subscription");
    stream.send(ALLOWED).await;
    // StreamSubscribeResponse { publication (2): { data (4): 1, tags (7): {"a": "b"} } }, then one without tags.
    stream.send(b"\x12\x0b\x22\x011\x3a\x06\x0a\x01a\x12\x01b").await;
    stream.send(b"\x12\x03\x22\x012").await;
    assert_eq!(client.reply().await, json!({"id": 2, "subscribe": {"data": 7}}));
    assert_eq!(client.reply().await, pushed("down:c", &json!({"data": 1, "tags": {"a": "b"}})));
    assert_eq!(client.reply().await, pushed("down:c", &json!({"data": 2})));
    client.send(&json!({"id": 3, "publish": {"channel": "down:c", "data": 1}})).await;
    assert_eq!(client.reply().await["error"]["code"], 108);

    stream.send(b"\x12\x03\x22\x013").await;
    drop(stream);
    assert_eq!(client.reply().await, pushed("down:c", &json!({"data": 3})));
    assert_eq!(client.reply().await["push"]["unsubscribe"]["code"], 2000, "complete");
    let stream = subscribed(&mut client, &mut backend, "down:c").await;
    stream.fail(Status::unavailable("broken")).await;
    assert_eq!(client.reply().await["push"]["unsubscribe"]["code"], 2500);
}

fn pushed(channel: &str, publication: &Value) -> Value {
    json!({"push": {"channel": channel, "pub": publication}})
}

/// A first message that refuses, is no answer, or never comes: the subscribe is refused as over any other hook.
#[tokio::test]
async fn streams_may_be_refused() {
    let mut backend = Backend::start(None).await;
    let (_server, port) = start(&backend, 0).await;
    let mut client = connected(port).await;
    let subscribe = json!({"id": 2, "subscribe": {"channel": "down:c"}});
    // StreamSubscribeResponse { subscribe_response (1): { error (2): { code (1): 1000, message (2): "no" } } }
    let cases: [(&[u8], i32); 3] =
        [(b"\x0a\x09\x12\x07\x08\xe8\x07\x12\x02no", 1000), (b"\x12\x03\x22\x012", 100), (b"\xff", 100)];
    for (first, code) in cases {
        client.send(&subscribe).await;
        let stream = backend.stream().await;
        stream.send(first).await;
        assert_eq!(client.reply().await["error"]["code"], code);
        stream.cancelled().await;
    }
    client.send(&subscribe).await;
    drop(backend.stream().await);
    assert_eq!(client.reply().await["error"]["code"], 100, "it ends before its answer");
    client.send(&subscribe).await;
    backend.stream().await.fail(Status::not_found("no such method")).await;
    assert_eq!(client.reply().await["error"]["code"], 100);
}

/// Publications of a client go up its own stream in their order; when it unsubscribes or leaves, the backend sees the
/// stream cancelled. Whoever is not subscribed has no stream.
#[tokio::test]
async fn publications_go_up() {
    let mut backend = Backend::start(None).await;
    let (_server, port) = start(&backend, 0).await;
    let mut client = connected(port).await;
    client.send(&json!({"id": 9, "publish": {"channel": "both:c", "data": 1}})).await;
    assert_eq!(client.reply().await["error"]["code"], 103);
    let mut stream = subscribed(&mut client, &mut backend, "both:c").await;
    assert_eq!(stream.method, "SubscribeBidirectional");
    // StreamSubscribeRequest { subscribe_request (1): … }
    assert_eq!(stream.next().await.unwrap()[0], 0x0a);
    for (data, message) in [(1, &b"\x12\x03\x22\x011"[..]), (2, b"\x12\x03\x22\x012")] {
        client.send(&json!({"id": 3, "publish": {"channel": "both:c", "data": data}})).await;
        assert_eq!(client.reply().await, json!({"id": 3, "publish": {}}));
        // StreamSubscribeRequest { publication (2): { data (4) } }
        assert_eq!(stream.next().await.unwrap(), message);
    }
    stream.send(b"\x12\x03\x22\x018").await;
    assert_eq!(client.reply().await, pushed("both:c", &json!({"data": 8})));
    client.send(&json!({"id": 4, "unsubscribe": {"channel": "both:c"}})).await;
    assert_eq!(client.reply().await, json!({"id": 4, "unsubscribe": {}}));
    stream.cancelled().await;
    let stream = subscribed(&mut client, &mut backend, "both:c").await;
    drop(client);
    stream.cancelled().await;
    let mut client = connected(port).await;
    client.send(&json!({"id": 2, "subscribe": {"channel": "both:c"}})).await;
    let unanswered = backend.stream().await;
    drop(client);
    unanswered.cancelled().await;
}

/// No more streams are open than may be: a further subscribe is refused until one has ended.
#[tokio::test]
async fn streams_are_limited() {
    let mut backend = Backend::start(None).await;
    let (_server, port) = start(&backend, 2).await;
    let mut client = connected(port).await;
    let first = subscribed(&mut client, &mut backend, "down:a").await;
    let _second = subscribed(&mut client, &mut backend, "down:b").await;
    client.send(&json!({"id": 3, "subscribe": {"channel": "down:c"}})).await;
    assert_eq!(client.reply().await["error"]["code"], 100);
    client.send(&json!({"id": 4, "unsubscribe": {"channel": "down:a"}})).await;
    assert_eq!(client.reply().await["id"], 4);
    first.cancelled().await;
    subscribed(&mut client, &mut backend, "down:c").await;
}

/// More streams than one connection may have go over several, and each feeds its own subscription.
#[tokio::test]
async fn many_streams_are_open_at_once() {
    let mut backend = Backend::start(None).await;
    let (_server, port) = start(&backend, 0).await;
    let mut clients = [connected(port).await, connected(port).await];
    let mut streams = Vec::new();
    for i in 0..240 {
        streams.push(subscribed(&mut clients[i % 2], &mut backend, &format!("down:{i}")).await);
    }
    for (i, stream) in streams.iter().enumerate() {
        stream.send(b"\x12\x03\x22\x012").await;
        assert_eq!(clients[i % 2].reply().await, pushed(&format!("down:{i}"), &json!({"data": 2})));
    }
}

/// A stream that brings more than its client reads is held back: it comes to a halt, nothing is lost, the client is not
/// cut off, and others are served meanwhile.
#[tokio::test]
async fn fast_streams_are_held_back() {
    // Far more than the buffers of all sockets on the way hold.
    const MESSAGES: usize = 1600;
    let mut backend = Backend::start(None).await;
    let (_server, port) = start(&backend, 0).await;
    let (mut slow, mut other) = (connected(port).await, connected(port).await);
    let stream = subscribed(&mut slow, &mut backend, "down:c").await;
    let data = vec![b'1'; 40_000];
    // StreamSubscribeResponse { publication (2): { data (4) } }
    let message = [b"\x12\xc4\xb8\x02\x22\xc0\xb8\x02", &data[..]].concat();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            stream.send(&message).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
        stream
    });
    let (mut before, mut unchanged) = (0, 0);
    while unchanged < 300 {
        other.send(&json!({"id": 2, "rpc": {"method": "ping"}})).await;
        assert_eq!(other.reply().await["id"], 2);
        let now = sent.load(Ordering::Relaxed);
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
    assert!((1..MESSAGES).contains(&before), "{before} were sent");
    for _ in 0..MESSAGES {
        assert_eq!(slow.text().await.len(), 40_045);
    }
    drop(sending.await.unwrap());
    assert_eq!(slow.reply().await["push"]["unsubscribe"]["code"], 2000);
}
