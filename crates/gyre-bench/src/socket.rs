//! A connection that carries messages: WebSocket or WebTransport.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message as Frame, client::IntoClientRequest, protocol::WebSocketConfig},
};
use wtransport::{
    ClientConfig, Endpoint, RecvStream, SendStream,
    endpoint::endpoint_side,
    error::{ConnectionError, StreamReadError},
};

use crate::{
    ClientError,
    target::{Target, Transport, Trust},
};

/// Longest message taken from a server.
const MESSAGE_MAX: usize = 64 << 20;
/// Status of a close frame that has none. Spec: RFC 6455 section 7.4.1.
const NO_STATUS: u16 = 1005;
/// Bytes read at a time; small, as load keeps thousands of sockets.
const READ_BUFFER: usize = 4 << 10;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How sockets are made: kept, so that a thousand of them read certificates once and share one UDP port.
pub struct Connector {
    target: Target,
    addresses: Vec<SocketAddr>,
    kind: Kind,
}

enum Kind {
    WebSocket { tls: Option<TlsConnector> },
    WebTransport { endpoint: Endpoint<endpoint_side::Client> },
}

impl Connector {
    /// Finds the server's addresses and reads the certificates.
    ///
    /// # Errors
    /// [`ClientError`] if the host is unknown or there are no certificates.
    pub async fn new(target: Target, trust: &Trust) -> Result<Self, ClientError> {
        let unreachable = |error| ClientError::Unreachable { address: target.host.clone(), error };
        let addresses = lookup_host((&*target.host, target.port)).await.map_err(unreachable)?.collect();
        let kind = match target.transport {
            Transport::WebSocket if !target.is_secure => Kind::WebSocket { tls: None },
            Transport::WebSocket => {
                Kind::WebSocket { tls: Some(TlsConnector::from(Arc::new(trust.tls(&[b"http/1.1"])?))) }
            }
            Transport::WebTransport => {
                let config =
                    ClientConfig::builder().with_bind_default().with_custom_tls(trust.tls(&[b"h3"])?);
                Kind::WebTransport { endpoint: Endpoint::client(config.build()).map_err(unreachable)? }
            }
        };
        Ok(Self { target, addresses, kind })
    }

    /// What the server is spoken to with.
    pub fn transport(&self) -> Transport {
        self.target.transport
    }

    /// True if the server is on this machine, where any address of 127.0.0.0/8 may be a source.
    pub fn is_loopback_v4(&self) -> bool {
        self.addresses.iter().any(|address| address.is_ipv4() && address.ip().is_loopback())
    }

    /// Opens a connection, from `source` if one is given (TCP only).
    ///
    /// # Errors
    /// [`ClientError`] if the server is not there or refuses.
    pub async fn open(&self, source: Option<SocketAddr>) -> Result<Socket, ClientError> {
        match &self.kind {
            Kind::WebSocket { tls } => {
                let stream = self.tcp(source).await?;
                let stream: Box<dyn Stream> = match tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        let name = ServerName::try_from(self.target.host.clone()).map_err(transport)?;
                        Box::new(tls.connect(name, stream).await.map_err(transport)?)
                    }
                };
                self.upgrade(stream).await
            }
            Kind::WebTransport { endpoint } => self.session(endpoint).await,
        }
    }

    async fn tcp(&self, source: Option<SocketAddr>) -> Result<TcpStream, ClientError> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let is_usable =
            |address: &&SocketAddr| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
        for address in self.addresses.iter().filter(is_usable) {
            match connect(*address, source).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        let address = format!("{}:{}", self.target.host, self.target.port);
        Err(ClientError::Unreachable { address, error: last })
    }

    async fn upgrade(&self, stream: Box<dyn Stream>) -> Result<Socket, ClientError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let request = self.target.uri.clone().into_client_request().map_err(transport)?;
        let (socket, _) =
            client_async_with_config(request, stream, Some(config)).await.map_err(|error| match error {
                tungstenite::Error::Http(response) => ClientError::Transport(format!(
                    "{}: the server answers {}",
                    self.target.uri,
                    response.status()
                )),
                error => transport(error),
            })?;
        Ok(Socket(Open::WebSocket(Box::new(socket))))
    }

    async fn session(&self, endpoint: &Endpoint<endpoint_side::Client>) -> Result<Socket, ClientError> {
        let session = endpoint.connect(self.target.uri.to_string()).await.map_err(transport)?;
        let (send, receive) = session.open_bi().await.map_err(transport)?.await.map_err(transport)?;
        let session = Session { session, send, receive, unread: Vec::new(), scanned: 0 };
        Ok(Socket(Open::WebTransport(Box::new(session))))
    }
}

async fn connect(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(source)?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

fn transport(error: impl std::fmt::Display) -> ClientError {
    ClientError::Transport(error.to_string())
}

/// An open connection.
pub struct Socket(Open);

enum Open {
    /// Messages in text frames.
    WebSocket(Box<WebSocketStream<Box<dyn Stream>>>),
    /// Messages as lines of one stream.
    WebTransport(Box<Session>),
}

struct Session {
    session: wtransport::Connection,
    send: SendStream,
    receive: RecvStream,
    unread: Vec<u8>,
    /// Bytes of `unread` known to hold no end of line.
    scanned: usize,
}

impl Socket {
    /// Sends one message or several, a line each.
    ///
    /// # Errors
    /// [`ClientError`] if the connection is gone.
    pub async fn send(&mut self, messages: String) -> Result<(), ClientError> {
        match &mut self.0 {
            Open::WebSocket(socket) => socket.send(Frame::text(messages)).await.map_err(transport),
            Open::WebTransport(session) => {
                let line = messages + "\n";
                session.send.write_all(line.as_bytes()).await.map_err(transport)
            }
        }
    }

    /// The next messages: one, or several with line breaks between them. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] with the server's code if it closed the connection.
    pub async fn next(&mut self) -> Result<String, ClientError> {
        match &mut self.0 {
            Open::WebSocket(socket) => next_frame(socket).await,
            Open::WebTransport(session) => session.next_lines().await,
        }
    }

    /// Says goodbye; nothing is waited for.
    pub async fn close(self) {
        match self.0 {
            // The server may have gone first, which is as good.
            Open::WebSocket(mut socket) => drop(socket.close().await),
            Open::WebTransport(session) => session.session.close(0u32.into(), b""),
        }
    }
}

async fn next_frame(socket: &mut WebSocketStream<Box<dyn Stream>>) -> Result<String, ClientError> {
    loop {
        match socket.next().await {
            Some(Ok(Frame::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Frame::Close(frame))) => {
                let frame = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                let (code, reason) = frame.unwrap_or((NO_STATUS, "closed without a code".into()));
                return Err(ClientError::Disconnected { code: code.into(), reason });
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(transport(error)),
            None => return Err(ClientError::Transport("the server closed the connection".into())),
        }
    }
}

impl Session {
    async fn next_lines(&mut self) -> Result<String, ClientError> {
        loop {
            if let Some(end) = self.unread[self.scanned..].iter().rposition(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(self.scanned + end + 1);
                let lines = std::mem::replace(&mut self.unread, rest);
                self.scanned = self.unread.len();
                let lines =
                    String::from_utf8(lines).map_err(|_| ClientError::Malformed("not UTF-8".into()))?;
                return Ok(lines);
            }
            self.scanned = self.unread.len();
            if self.scanned > MESSAGE_MAX {
                return Err(ClientError::Malformed(format!("a message of more than {MESSAGE_MAX} bytes")));
            }
            let mut buffer = [0; READ_BUFFER];
            match self.receive.read(&mut buffer).await {
                Ok(Some(read)) => self.unread.extend_from_slice(&buffer[..read]),
                // The session's own end says why.
                Ok(None) | Err(StreamReadError::NotConnected | StreamReadError::Reset(_)) => {
                    return Err(ended(&self.session.closed().await));
                }
                Err(error) => return Err(transport(error)),
            }
        }
    }
}

fn ended(error: &ConnectionError) -> ClientError {
    match error {
        ConnectionError::ApplicationClosed(close) => ClientError::Disconnected {
            code: u32::try_from(close.code().into_inner()).unwrap_or(u32::MAX),
            reason: String::from_utf8_lossy(close.reason()).into_owned(),
        },
        error => transport(error),
    }
}
