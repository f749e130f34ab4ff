//! A backend of hooks: every call waits for the test to answer it.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    server::{Grpc, StreamingService, UnaryService},
};

use crate::{LIMIT, raw::Raw};

/// A question of the server.
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) metadata: MetadataMap,
    pub(crate) message: Bytes,
    answer: oneshot::Sender<Result<Bytes, Status>>,
}

impl Call {
    pub(crate) fn answer(self, answer: Result<&'static [u8], Status>) {
        self.answer.send(answer.map(Bytes::from_static)).expect("the server waits");
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(|value| value.to_str().unwrap())
    }

    /// The fields of the message that have bytes.
    pub(crate) fn field(&self, wanted: u8) -> Option<&[u8]> {
        let mut rest = &self.message[..];
        while let [tag, length, tail @ ..] = rest {
            assert!(*tag < 0x80 && *length < 0x80, "the test reads small messages only");
            let (value, behind) = tail.split_at(usize::from(*length));
            if *tag == wanted << 3 | 2 {
                return Some(value);
            }
            rest = behind;
        }
        None
    }
}

/// A stream the server has opened. Dropping it ends the stream as complete.
pub(crate) struct StreamCall {
    pub(crate) method: String,
    pub(crate) metadata: MetadataMap,
    incoming: tonic::Streaming<Bytes>,
    outgoing: mpsc::Sender<Result<Bytes, Status>>,
}

impl StreamCall {
    /// Sends a message; waits while the server takes none.
    pub(crate) async fn send(&self, message: &[u8]) {
        self.outgoing.send(Ok(Bytes::copy_from_slice(message))).await.expect("the server listens");
    }

    pub(crate) async fn fail(self, status: Status) {
        self.outgoing.send(Err(status)).await.expect("the server listens");
    }

    /// The next message of the server; `None` if there is no more.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        timeout(LIMIT, self.incoming.message()).await.expect("the server sends something").unwrap()
    }

    /// Returns when the server has cancelled the stream.
    pub(crate) async fn cancelled(self) {
        timeout(LIMIT, self.outgoing.closed()).await.expect("the stream is cancelled");
    }
}

pub(crate) struct Backend {
    pub(crate) port: u16,
    calls: mpsc::Receiver<Call>,
    streams: mpsc::Receiver<StreamCall>,
}

/// Where calls and streams go.
#[derive(Clone)]
struct Test {
    calls: mpsc::Sender<Call>,
    streams: mpsc::Sender<StreamCall>,
}

impl Backend {
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (test, backend) = Self::new(port);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (test, tls) = (test.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, test).await,
                        Some(tls) => serve(tls.accept(socket).await.unwrap(), test).await,
                    }
                });
            }
        });
        backend
    }

    /// At a path instead of a port.
    pub(crate) fn at(path: &std::path::Path) -> Self {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let (test, backend) = Self::new(0);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, test.clone()));
            }
        });
        backend
    }

    fn new(port: u16) -> (Test, Self) {
        let ((to_calls, calls), (to_streams, streams)) = (mpsc::channel(16), mpsc::channel(16));
        (Test { calls: to_calls, streams: to_streams }, Self { port, calls, streams })
    }

    /// The next stream.
    pub(crate) async fn stream(&mut self) -> StreamCall {
        timeout(LIMIT, self.streams.recv()).await.expect("the backend is asked for a stream").unwrap()
    }

    /// The next question, which must be of that method.
    pub(crate) async fn call(&mut self, method: &str) -> Call {
        let call = timeout(LIMIT, self.calls.recv()).await.expect("the backend is asked").unwrap();
        assert_eq!(call.method, method);
        call
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, test: Test) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let test = test.clone();
        async move {
            let path = request.uri().path().strip_prefix("/centrifugal.centrifugo.proxy.CentrifugoProxy/");
            let method = path.expect("the service is that of hooks").to_owned();
            let mut grpc = Grpc::new(Raw)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip);
            let response = match &*method {
                "SubscribeUnidirectional" | "SubscribeBidirectional" => {
                    grpc.streaming(Streamed { method, streams: test.streams }, request).await
                }
                _ => grpc.unary(Asking { method, calls: test.calls }, request).await,
            };
            Ok::<_, Infallible>(response)
        }
    });
    // How a connection ends is none of the test's business.
    drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await);
}

/// A stream on its way to the test.
struct Streamed {
    method: String,
    streams: mpsc::Sender<StreamCall>,
}

impl StreamingService<Bytes> for Streamed {
    type Response = Bytes;
    type ResponseStream = futures_util::stream::BoxStream<'static, Result<Bytes, Status>>;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<tonic::Streaming<Bytes>>) -> Self::Future {
        let (method, streams) = (self.method.clone(), self.streams.clone());
        Box::pin(async move {
            let (outgoing, mut messages) = mpsc::channel(1);
            let (metadata, _, incoming) = request.into_parts();
            drop(streams.send(StreamCall { method, metadata, incoming, outgoing }).await);
            let messages = futures_util::stream::poll_fn(move |cx| messages.poll_recv(cx));
            Ok(Response::new(Box::pin(messages) as Self::ResponseStream))
        })
    }
}

/// One call on its way to the test.
struct Asking {
    method: String,
    calls: mpsc::Sender<Call>,
}

impl UnaryService<Bytes> for Asking {
    type Response = Bytes;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (method, calls) = (self.method.clone(), self.calls.clone());
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let (metadata, _, message) = request.into_parts();
            drop(calls.send(Call { method, metadata, message, answer }).await);
            answered.await.unwrap_or_else(|_| Err(Status::aborted("the test has ended"))).map(Response::new)
        })
    }
}

/// TLS with a certificate for `localhost`, and the certificate.
pub(crate) fn tls() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}
