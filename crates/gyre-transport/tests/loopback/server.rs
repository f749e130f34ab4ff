//! An HTTP server with a small service, on the test's own thread.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use ::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;
use gyre_transport::http::{
    Body, BodyError, ConnectionEvent, Front, Peer, Request, Response, Service, bind_tcp, full, read_body,
    serve_listener, status, upgrade,
};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::{JoinHandle, LocalSet},
};

/// Bytes of a body that `/body` takes.
pub(crate) const BODY_BYTES_MAX: usize = 10;

/// Answers by path.
#[derive(Default)]
pub(crate) struct Paths {
    events: RefCell<Vec<ConnectionEvent>>,
    changed: Notify,
    /// Lets `/wait` answer.
    pub(crate) release: Notify,
    /// A request to `/wait` has come.
    pub(crate) waiting: Notify,
}

impl Service for Paths {
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move { self.answer(request).await })
    }

    fn observe(&self, event: ConnectionEvent) {
        self.events.borrow_mut().push(event);
        self.changed.notify_waiters();
    }
}

impl Paths {
    async fn answer(&self, request: Request) -> Response {
        let peer = *request.extensions().get::<Peer>().unwrap();
        assert!(peer.address.ip().is_loopback());
        match request.uri().path() {
            "/body" => match read_body(request.into_body(), BODY_BYTES_MAX).await {
                Ok(body) => Response::new(full(body)),
                Err(BodyError::TooLarge { .. }) => status(StatusCode::PAYLOAD_TOO_LARGE, ""),
                Err(BodyError::Incomplete { .. }) => status(StatusCode::BAD_REQUEST, ""),
            },
            "/wait" => {
                self.waiting.notify_one();
                self.release.notified().await;
                Response::new(full("waited"))
            }
            "/echo" => echo(request),
            "/endless" => Response::new(endless()),
            "/panic" => panic!("asked for"),
            _ => Response::new(full(format!("{:?} tls={}", request.version(), peer.is_tls))),
        }
    }

    /// Waits for an event.
    pub(crate) async fn observed(&self, event: ConnectionEvent) {
        loop {
            let changed = self.changed.notified();
            if self.events.borrow().contains(&event) {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn count(&self, event: ConnectionEvent) -> usize {
        self.events.borrow().iter().filter(|seen| **seen == event).count()
    }
}

/// Leaves HTTP, and sends back what comes until the client's side ends.
fn echo(mut request: Request) -> Response {
    let (upgrade, body) = upgrade(&mut request).unwrap();
    tokio::task::spawn_local(async move {
        let (socket, _) = upgrade.socket().await.unwrap();
        let mut buffer = [0; 4096];
        loop {
            poll_fn(|cx| socket.poll_read_ready(cx)).await.unwrap();
            let mut unsent = match socket.try_read(&mut buffer) {
                Ok(0) => return socket.shutdown(),
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error}"),
            };
            while !unsent.is_empty() {
                let (first, second) = unsent.split_at(unsent.len() / 2);
                match socket.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                    Ok(written) => unsent = &unsent[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        poll_fn(|cx| socket.poll_write_ready(cx)).await.unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    Response::new(body)
}

/// A body that always has more.
fn endless() -> Body {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let pieces = stream::repeat_with(move || Ok::<_, BodyError>(Frame::data(piece.clone())));
    Box::pin(StreamBody::new(pieces))
}

/// A server that listens.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) paths: Rc<Paths>,
    pub(crate) shutdown: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
}

impl Server {
    /// Starts one on a free port.
    pub(crate) fn start(front: Front) -> Self {
        let listener = bind_tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, stop) = watch::channel(false);
        let paths = Rc::<Paths>::default();
        let serving = tokio::task::spawn_local(serve_listener(listener, front, paths.clone(), stop));
        Self { address, paths, shutdown, serving }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Runs a test on one thread like a shard's; one that hangs fails.
pub(crate) async fn on_shard(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(30), LocalSet::new().run_until(test)).await.unwrap();
}

/// Runs a test whose deadlines are the server's: time is paused and moves only when everything waits.
pub(crate) async fn on_shard_without_limit(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// Sends bytes and reads all until the server closes, as text.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    request: impl AsRef<[u8]>,
) -> String {
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is a way to close.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}
