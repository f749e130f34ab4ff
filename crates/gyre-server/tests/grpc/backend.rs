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
    server::{Grpc, UnaryService},
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

pub(crate) struct Backend {
    pub(crate) port: u16,
    calls: mpsc::Receiver<Call>,
}

impl Backend {
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, calls) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (sender, tls) = (sender.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, sender).await,
                        Some(tls) => serve(tls.accept(socket).await.unwrap(), sender).await,
                    }
                });
            }
        });
        Self { port, calls }
    }

    /// The next question, which must be of that method.
    pub(crate) async fn call(&mut self, method: &str) -> Call {
        let call = timeout(LIMIT, self.calls.recv()).await.expect("the backend is asked").unwrap();
        assert_eq!(call.method, method);
        call
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, calls: mpsc::Sender<Call>) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let calls = calls.clone();
        async move {
            let path = request.uri().path().strip_prefix("/centrifugal.centrifugo.proxy.CentrifugoProxy/");
            let method = path.expect("the service is that of hooks").to_owned();
            let mut grpc = Grpc::new(Raw)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip);
            Ok::<_, Infallible>(grpc.unary(Asking { method, calls }, request).await)
        }
    });
    // How a connection ends is none of the test's business.
    drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await);
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
