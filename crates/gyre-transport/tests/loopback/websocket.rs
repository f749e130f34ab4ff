//! WebSocket from the opening handshake to a node's session and back, on a real shard.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gyre_core::limits::Limits;
use gyre_protocol::Disconnect;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderValue, Response as HandshakeResponse},
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{
    certificate::{Certificate, connect_tls},
    server::exchange,
    world::{MESSAGE_BYTES_MAX, PATIENCE, World},
};

impl World {
    /// A connection whose session is open.
    pub(crate) async fn client(&self) -> Client<TcpStream> {
        Client::open(self.tcp().await, "", &[]).await.unwrap().0.connected().await
    }
}

/// An independent WebSocket client.
pub(crate) struct Client<S>(pub(crate) WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn open(
        stream: S,
        query: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(Self, HandshakeResponse<Option<Vec<u8>>>), Error> {
        let mut request = format!("ws://localhost/connection/websocket{query}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        let (stream, response) = client_async(request, stream).await?;
        Ok((Self(stream), response))
    }

    async fn connected(mut self) -> Self {
        self.send(r#"{"id":1,"connect":{}}"#).await;
        let reply = self.text().await;
        assert!(reply.contains(r#""connect":{"client":""#), "{reply}");
        self
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Bytes that this client's library would not send.
    async fn send_raw(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
        self.0.get_mut().flush().await.unwrap();
    }

    async fn next(&mut self) -> Message {
        timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap()
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.to_string(),
            other => panic!("not a text: {other:?}"),
        }
    }

    pub(crate) async fn close_frame(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("not a close frame: {other:?}"),
        }
    }

    pub(crate) async fn round_trip(&mut self, data: &str) {
        self.send(r#"{"id":2,"subscribe":{"channel":"c"}}"#).await;
        let reply = self.text().await;
        assert!(reply.starts_with(r#"{"id":2,"subscribe":{"#), "{reply}");
        self.send(&format!(r#"{{"id":3,"publish":{{"channel":"c","data":"{data}"}}}}"#)).await;
        let (mut has_reply, mut has_push) = (false, false);
        while !(has_reply && has_push) {
            // Both may come in one message.
            for line in self.text().await.lines() {
                has_reply |= line.contains(r#""id":3"#) && line.contains(r#""publish":{}"#);
                has_push |= line.contains(&format!(r#""data":"{data}""#));
            }
        }
    }
}

/// A command travels to a session and a publication back, small and large, over plain text and over TLS.
#[tokio::test]
async fn publications_come_back() {
    let world = World::start(None);
    let large = "x".repeat(50_000);
    for data in ["small", &large] {
        world.client().await.round_trip(data).await;
    }

    let certificate = Certificate::new();
    let world = World::start(Some(certificate.tls()));
    for data in ["small", &large] {
        let tls = connect_tls(world.tcp().await, certificate.client(&["http/1.1"])).await.unwrap();
        let (client, _) = Client::open(tls, "", &[]).await.unwrap();
        client.connected().await.round_trip(data).await;
    }
}

/// Where a unidirectional client wants it, what was published in one turn comes as one message with a push on each line,
/// and the end as a line and a close frame.
#[tokio::test]
async fn pushes_are_joined() {
    let world = World::start(None);
    let query = "%7B%22subs%22%3A%7B%22c%22%3A%7B%7D%7D%7D";
    let url = format!("ws://localhost/connection/joined?cf_connect={query}");
    let (socket, _) = client_async(url, world.tcp().await).await.unwrap();
    let mut listener = Client(socket);
    assert!(listener.text().await.starts_with("{\"connect\":{"));
    let mut publisher = world.client().await;
    let publish = |n| format!("{{\"id\":{n},\"publish\":{{\"channel\":\"c\",\"data\":{n}}}}}");
    publisher.send(&[2, 3, 4].map(publish).join("\n")).await;
    let pushes = [2, 3, 4].map(|n| format!("{{\"channel\":\"c\",\"pub\":{{\"data\":{n}"));
    let message = listener.text().await;
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 3, "{message}");
    assert!(lines.iter().zip(&pushes).all(|(line, push)| line.starts_with(push)), "{message}");
    world.stop.send_replace(true);
    assert_eq!(listener.text().await, "{\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\"}}");
    assert_eq!(listener.close_frame().await, (3001, "shutdown".into()));
}

/// A subscriber over TLS that reads late gets everything published meanwhile, in order: its connection was blocked, and
/// goes on when it reads.
#[tokio::test]
async fn a_late_reader_gets_everything() {
    // 12 MB: more than the kernel keeps for a connection (4 MB to be sent by default).
    const MESSAGES: usize = 240;
    let certificate = Certificate::new();
    let limits = Limits { websocket_write_timeout: Duration::ZERO, ..Limits::default() };
    let world = World::with_limits(Some(certificate.tls()), limits);
    let connect = |tcp| async {
        let tls = connect_tls(tcp, certificate.client(&[])).await.unwrap();
        Client::open(tls, "", &[]).await.unwrap().0.connected().await
    };
    // A small window, so that the kernel does not take it on this side either.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut subscriber = connect(socket.connect(([127, 0, 0, 1], world.port).into()).await.unwrap()).await;
    let mut publisher = connect(world.tcp().await).await;
    subscriber.send(r#"{"id":2,"subscribe":{"channel":"c"}}"#).await;
    subscriber.text().await;
    let data = "x".repeat(50_000);
    for number in 0..MESSAGES {
        publisher
            .send(&format!(r#"{{"id":{},"publish":{{"channel":"c","data":"{number}:{data}"}}}}"#, number + 2))
            .await;
        publisher.text().await;
    }
    let mut numbers = Vec::new();
    while numbers.len() < MESSAGES {
        for line in subscriber.text().await.lines() {
            let (_, rest) = line.split_once(r#""data":""#).unwrap();
            numbers.push(rest.split_once(':').unwrap().0.parse::<usize>().unwrap());
        }
    }
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
}

/// A subscriber that takes nothing for as long as it may is given up, and told so when it reads again; one that reads is
/// not.
///
/// Spec: client protocol, "WebSocket", write deadline
#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up() {
    let limits = Limits { websocket_write_timeout: Duration::from_millis(200), ..Limits::default() };
    let world = World::with_limits(None, limits);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let tcp = socket.connect(([127, 0, 0, 1], world.port).into()).await.unwrap();
    let mut subscriber = Client::open(tcp, "", &[]).await.unwrap().0.connected().await;
    let mut publisher = world.client().await;
    for client in [&mut subscriber, &mut publisher] {
        client.send(r#"{"id":2,"subscribe":{"channel":"c"}}"#).await;
        client.text().await;
    }
    let data = "x".repeat(50_000);
    let publish = |number: u64| format!(r#"{{"id":{number},"publish":{{"channel":"c","data":"{data}"}}}}"#);
    for number in 3.. {
        publisher.send(&publish(number)).await;
        // Its own publication and the reply.
        for _ in 0..2 {
            publisher.text().await;
        }
        if world.disconnects(Disconnect::WRITE_ERROR.code).await == 1 {
            break;
        }
    }
    // What was on its way comes first.
    let code = loop {
        if let Message::Close(Some(frame)) = subscriber.next().await {
            break u16::from(frame.code);
        }
    };
    assert_eq!(code, 3009);
    publisher.send(r#"{"id":1,"unsubscribe":{"channel":"c"}}"#).await;
    assert!(publisher.text().await.contains("unsubscribe"), "it reads, and stays");
}

/// Each way to break the framing is answered with its close code.
///
/// Spec: RFC 6455 sections 5.1, 5.5, 7.4.1 and 8.1
#[tokio::test]
async fn broken_framing_is_closed_with_its_code() {
    let world = World::start(None);
    let too_large = [&[0x81, 0xff][..], &(MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes(), &[0; 4]].concat();
    let cases: [(&str, &[u8], u16); 6] = [
        ("not masked", &[0x81, 2, b'{', b'}'], 1002),
        ("reserved bit", &[0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("fragmented ping", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        ("continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("text that is not UTF-8", &[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("a large message, by its header alone", &too_large, 1009),
    ];
    for (name, bytes, code) in cases {
        let mut client = world.client().await;
        client.send_raw(bytes).await;
        assert_eq!(client.close_frame().await, (code, String::new()), "{name}");
    }
}

/// A message of exactly the limit is taken: it is no command, which is another matter (3501).
///
/// Spec: client protocol, "Size limits"
#[tokio::test]
async fn a_message_at_the_limit_is_taken() {
    let world = World::start(None);
    let mut client = world.client().await;
    client.send(&"x".repeat(MESSAGE_BYTES_MAX)).await;
    assert_eq!(client.close_frame().await, (3501, "bad request".into()));
    let mut client = world.client().await;
    client.send(&"x".repeat(MESSAGE_BYTES_MAX + 1)).await;
    assert_eq!(client.close_frame().await.0, 1009);
}

/// A command in fragments, with a ping between them, in pieces of one byte, is one command; the ping is answered.
#[tokio::test]
async fn fragments_in_single_bytes_make_a_command() {
    let world = World::start(None);
    let mut client = world.client().await;
    let (first, second) = (br#"{"id":2,"subs"#, br#"cribe":{"channel":"c"}}"#);
    let frame = |opcode: u8, payload: &[u8]| {
        [&[opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], payload].concat()
    };
    let bytes = [frame(0x01, first), frame(0x89, b"hello"), frame(0x80, second)].concat();
    for byte in bytes {
        client.send_raw(&[byte]).await;
    }
    assert_eq!(client.next().await, Message::Pong("hello".into()));
    let reply = client.text().await;
    assert!(reply.starts_with(r#"{"id":2,"subscribe":{"#), "{reply}");
}

/// A client that asks for compression gets large messages compressed and small ones not, and is understood both ways.
/// The client's library knows no compression, so the frames are made by hand.
///
/// Spec: RFC 7692
#[tokio::test]
async fn messages_are_compressed_both_ways() {
    let world = World::start(None);
    let mut tcp = world.tcp().await;
    let request = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, tcp.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert!(head.contains(&format!("sec-websocket-extensions: {accepted}\r\n")), "{head}");

    let commands = [
        r#"{"id":1,"connect":{}}"#.to_owned(),
        r#"{"id":2,"subscribe":{"channel":"c"}}"#.to_owned(),
        format!(r#"{{"id":3,"publish":{{"channel":"c","data":"{}"}}}}"#, "x".repeat(20_000)),
    ];
    for command in commands {
        let mut compressed = Vec::with_capacity(1000);
        let mut compressor = flate2::Compress::new(flate2::Compression::fast(), false);
        compressor.compress_vec(command.as_bytes(), &mut compressed, flate2::FlushCompress::Sync).unwrap();
        let message = &compressed[..compressed.len() - 4];
        let header = [&[0xc1, 0xfe][..], &(message.len() as u16).to_be_bytes(), &[0; 4]].concat();
        tcp.write_all(&[&header, message].concat()).await.unwrap();
    }
    let (mut received, mut compressed_lengths) = (String::new(), Vec::new());
    while !(received.contains(r#""id":3"#) && received.contains(r#""pub""#)) {
        let first = timeout(PATIENCE, tcp.read_u8()).await.unwrap().unwrap();
        let length = match tcp.read_u8().await.unwrap() {
            126 => tcp.read_u16().await.unwrap().into(),
            short => usize::from(short),
        };
        let mut message = vec![0; length];
        tcp.read_exact(&mut message).await.unwrap();
        if first == 0xc1 {
            compressed_lengths.push(length);
            message.extend_from_slice(&[0, 0, 0xff, 0xff]);
            let mut inflated = Vec::with_capacity(100_000);
            let mut inflater = flate2::Decompress::new(false);
            inflater.decompress_vec(&message, &mut inflated, flate2::FlushDecompress::Sync).unwrap();
            message = inflated;
        } else {
            assert!(first == 0x81 && length <= 100, "{first:x} {length}");
        }
        received.push_str(std::str::from_utf8(&message).unwrap());
    }
    assert!(received.contains(&"x".repeat(20_000)));
    assert!(compressed_lengths.iter().all(|&length| length < 1000), "{compressed_lengths:?}");
}

/// A client's close is answered with its code, and the connection ends.
///
/// Spec: RFC 6455 section 5.5.1
#[tokio::test]
async fn a_close_is_answered() {
    let world = World::start(None);
    let mut client = world.client().await;
    let goodbye = CloseFrame { code: CloseCode::from(4000), reason: "done".into() };
    client.0.send(Message::Close(Some(goodbye))).await.unwrap();
    assert_eq!(client.close_frame().await.0, 4000);
    assert!(timeout(PATIENCE, client.0.next()).await.unwrap().is_none());
}

/// At shutdown clients are told with 3001.
///
/// Spec: client protocol, "Closing"
#[tokio::test]
async fn shutdown_is_told() {
    let world = World::start(None);
    let mut client = world.client().await;
    world.stop.send_replace(true);
    assert_eq!(client.close_frame().await, (3001, "shutdown".into()));
    // The answer to it, without which the server would wait.
    assert!(timeout(PATIENCE, client.0.next()).await.unwrap().is_none());
}

/// The first subprotocol of the client's list that is known wins and selects the encoding, as either query parameter
/// does; in Protobuf the answer to a connect is a binary message.
///
/// Spec: client protocol, "Negotiation"
#[tokio::test]
async fn the_encoding_is_negotiated() {
    let world = World::start(None);
    let both = "chat, centrifuge-protobuf, centrifuge-json";
    let cases = [
        ("", None, None, false),
        ("?format=protobuf", None, None, true),
        ("?a=b&cf_protocol=protobuf", None, None, true),
        ("", Some("chat"), None, false),
        ("", Some(both), Some("centrifuge-protobuf"), true),
        ("?format=protobuf", Some("centrifuge-json"), Some("centrifuge-json"), true),
    ];
    for (query, offered, chosen, is_protobuf) in cases {
        let (mut client, answered) = open_offering(&world, query, offered).await;
        assert_eq!(answered.as_deref(), chosen, "{query} {offered:?}");
        if is_protobuf {
            // A command with id 1 and an empty connect request.
            client.0.send(Message::binary(&b"\x04\x08\x01\x22\x00"[..])).await.unwrap();
            assert!(matches!(client.next().await, Message::Binary(_)), "{query} {chosen:?}");
        } else {
            client.connected().await;
        }
    }
}

/// Opens a connection and returns the subprotocol the server chose. Written by hand: the library refuses an answer
/// without a subprotocol when one was offered, which is what a browser does and what the server may do.
async fn open_offering(
    world: &World,
    query: &str,
    offered: Option<&str>,
) -> (Client<TcpStream>, Option<String>) {
    let mut tcp = world.tcp().await;
    let offer = offered.map_or(String::new(), |names| format!("sec-websocket-protocol: {names}\r\n"));
    let request = format!(
        "GET /{query} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n{offer}\r\n"
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, tcp.read_u8()).await.unwrap().unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let chosen = answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
    (Client(WebSocketStream::from_raw_socket(tcp, Role::Client, None).await), chosen.map(str::to_owned))
}

/// A page that is not allowed is refused; an allowed one, in whatever case, and a request without `Origin` get in.
#[tokio::test]
async fn the_origin_is_checked() {
    let world = World::start(None);
    let cases = [("https://evil.example", 403), ("null", 403), ("HTTPS://Allowed.example", 101)];
    for (origin, expected) in cases {
        let opened = Client::open(world.tcp().await, "", &[("origin", origin)]).await;
        let status = match opened {
            Ok((_, response)) => response.status(),
            Err(Error::Http(response)) => response.status(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status, expected, "{origin}");
    }
    world.client().await;
}

/// Requests that are no handshake are refused with the status that says why.
///
/// Spec: RFC 6455 section 4.2
#[tokio::test]
async fn bad_handshakes_are_refused() {
    let world = World::start(None);
    let upgrade = "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n";
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "sec-websocket-version: 13\r\n";
    let cases = [
        ("GET", String::new(), "HTTP/1.1 400 ", ""),
        ("POST", format!("{upgrade}{key}{version}content-length: 0\r\n"), "HTTP/1.1 405 ", "allow: GET"),
        ("GET", format!("{upgrade}{key}"), "HTTP/1.1 426 ", "sec-websocket-version: 13"),
        (
            "GET",
            format!("{upgrade}{key}sec-websocket-version: 8\r\n"),
            "HTTP/1.1 426 ",
            "sec-websocket-version: 13",
        ),
        ("GET", format!("{upgrade}{version}"), "HTTP/1.1 400 ", ""),
        ("GET", format!("{upgrade}{version}sec-websocket-key: c2hvcnQ=\r\n"), "HTTP/1.1 400 ", ""),
        ("GET", format!("{key}{version}upgrade: websocket\r\n"), "HTTP/1.1 400 ", ""),
    ];
    for (method, headers, status, header) in cases {
        // `connection: close` beside the case's own makes the server end the exchange.
        let request = format!("{method} / HTTP/1.1\r\nhost: a\r\n{headers}connection: close\r\n\r\n");
        let answer = timeout(PATIENCE, exchange(&mut world.tcp().await, &request)).await.unwrap();
        assert!(answer.starts_with(status), "{headers}\n{answer}");
        assert!(answer.contains(header), "{headers}\n{answer}");
    }
}

/// Frames sent together with the handshake are not lost: HTTP has read them already when the socket leaves it.
#[tokio::test]
async fn early_frames_are_read() {
    let world = World::start(None);
    let mut tcp = world.tcp().await;
    let command = br#"{"id":1,"connect":{}}"#;
    let mut bytes = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        .to_vec();
    bytes.extend_from_slice(&[0x81, 0x80 | command.len() as u8, 0, 0, 0, 0]);
    bytes.extend_from_slice(command);
    // And a close, so that the server ends the exchange.
    bytes.extend_from_slice(&[0x88, 0x80, 0, 0, 0, 0]);
    let answer = timeout(PATIENCE, exchange(&mut tcp, &bytes)).await.unwrap();
    assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert!(answer.contains(r#""connect":{"client":""#), "{answer}");
}
