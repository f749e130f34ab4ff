//! Accepting connections and speaking HTTP/1.1 or HTTP/2 on them.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::http::HeaderValue;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Body, BodyError, ConnectionEvent, Peer, ProxyProtocol, Response, Service, stream::Stream};
use crate::{tls::ServerTls, tunnel::InUse};

/// Time for the TLS handshake, and for the header of a request; an HTTP/1.1 connection without a request ends after it.
///
/// Spec: configuration `http_server`, read header timeout.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// An HTTP/2 connection without a request ends after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for requests being answered when the server stops, and for the goodbye of HTTP/2; what is left is dropped.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(10);
/// An HTTP/2 peer is asked for a sign of life this often, and dropped if none comes within [`HEADER_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Header of a request at most; more is answered with 431.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Requests on one HTTP/2 connection at a time; the peer is told and has to wait.
const H2_REQUESTS_MAX: u32 = 128;
/// HTTP connections of one listener and shard at a time; more are closed at once and observed as refused. Upgraded ones
/// do not count.
const CONNECTIONS_MAX: usize = 16_384;
/// Pause after a failed accept (out of descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// One log line of a kind in this time at most.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Turns true when the server stops; a dropped sender means the same.
pub type Shutdown = watch::Receiver<bool>;

/// What is spoken on a listener.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// TLS settings; `None` for plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// Plain text and TLS on one port, told apart by the first byte. Development only.
    pub accepts_both: bool,
    /// HTTP/2 without TLS, by prior knowledge.
    pub accepts_h2c: bool,
    /// Requests on one HTTP/2 connection at a time, if not 128.
    pub h2_requests_max: Option<u32>,
    /// Port of HTTP/3, announced in every answer.
    pub alt_svc_port: Option<u16>,
    /// Who begins connections with the header of the PROXY protocol.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Where connections come from.
pub trait Accept {
    /// Waits for the next one; the other address is that of its peer.
    ///
    /// # Errors
    /// If one could not be accepted; later ones may.
    ///
    /// # Cancel safety
    /// No connection is lost.
    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>>;
}

impl Accept for TcpListener {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (tcp, address) = TcpListener::accept(self).await?;
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::trace!(%error, "the connection was gone before it was served");
        }
        Ok((tcp, address))
    }
}

/// Accepts connections until the server stops, and returns when their requests are answered, after 10 seconds at the
/// latest. Accept errors do not end it.
///
/// # Cancel safety
/// Dropping the future drops its connections, except upgraded ones.
pub async fn serve_listener<S: Service + 'static>(
    mut listener: impl Accept,
    front: Front,
    service: Rc<S>,
    shutdown: Shutdown,
) {
    let alt_svc =
        front.alt_svc_port.and_then(|port| HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok());
    let serving = Rc::new(Serving { front, service, alt_svc, shutdown });
    let mut connections = JoinSet::new();
    serving.accept_until_shutdown(&mut listener, &mut connections).await;
    drop(listener);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    };
    if timeout(GOODBYE_TIMEOUT, ended).await.is_err() {
        tracing::info!(connections = connections.len(), "HTTP connections dropped at shutdown");
    }
}

struct Serving<S> {
    front: Front,
    service: Rc<S>,
    alt_svc: Option<HeaderValue>,
    shutdown: Shutdown,
}

impl<S: Service + 'static> Serving<S> {
    async fn accept_until_shutdown(
        self: &Rc<Self>,
        listener: &mut impl Accept,
        connections: &mut JoinSet<()>,
    ) {
        let (refusals, failures) = (LogGate::default(), LogGate::default());
        let mut stop = pin!(self.stop());
        loop {
            let accepted = tokio::select! {
                () = stop.as_mut() => return,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    report_panic(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) if connections.len() < CONNECTIONS_MAX => {
                    self.service.observe(ConnectionEvent::Opened);
                    connections.spawn_local(self.clone().serve(tcp, address));
                }
                Ok(_) => {
                    self.service.observe(ConnectionEvent::Refused);
                    refusals.pass(|missed| {
                        tracing::warn!(
                            limit = CONNECTIONS_MAX,
                            missed,
                            "too many HTTP connections: one was closed"
                        );
                    });
                }
                Err(error) => {
                    self.service.observe(ConnectionEvent::AcceptFailed);
                    failures.pass(|missed| tracing::warn!(%error, missed, "cannot accept a connection"));
                    // A connection that was gone before it was accepted says nothing of the next one.
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Ready when the server stops.
    fn stop(&self) -> impl Future<Output = ()> + 'static {
        let mut shutdown = self.shutdown.clone();
        async move { drop(shutdown.wait_for(|stop| *stop).await) }
    }

    async fn serve(self: Rc<Self>, mut tcp: TcpStream, address: SocketAddr) {
        let _closed = ObserveClose(&*self.service);
        let served = async {
            let client = match &self.front.proxy_protocol {
                Some(proxy) => proxy.read(&mut tcp, address).await?,
                None => address,
            };
            let stream = Stream::accept(tcp, &self.front).await?;
            let is_h2 = stream.is_h2(self.front.accepts_h2c).await?;
            self.speak(stream, client, is_h2).await
        };
        if let Err(error) = served.await {
            tracing::debug!(%address, %error, "HTTP connection ended");
        }
    }

    async fn speak(
        self: &Rc<Self>,
        stream: Stream,
        address: SocketAddr,
        is_h2: bool,
    ) -> Result<(), ServeError> {
        let peer = Peer { address, is_tls: stream.is_tls() };
        let activity = Rc::new(Activity::new());
        let service = service_fn(|request| self.clone().answer(peer, activity.open(), request));
        let io = TokioIo::new(stream);
        if is_h2 {
            let builder = h2_builder(self.front.h2_requests_max.unwrap_or(H2_REQUESTS_MAX));
            let connection = pin!(builder.serve_connection(io, service));
            let end = async {
                tokio::select! {
                    () = self.stop() => {}
                    () = activity.idle() => {}
                }
            };
            return run(connection, end, |connection| connection.graceful_shutdown()).await;
        }
        let connection = pin!(h1_builder().serve_connection(io, service).with_upgrades());
        run(connection, self.stop(), |connection| connection.graceful_shutdown()).await
    }

    async fn answer(
        self: Rc<Self>,
        peer: Peer,
        open: OpenRequest,
        request: ::http::Request<Incoming>,
    ) -> Result<::http::Response<TrackedBody>, std::convert::Infallible> {
        let mut request = request.map(|body| -> Body {
            Box::pin(body.map_err(|error| BodyError::Incomplete { reason: error.to_string() }))
        });
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(open.0.tunnels.clone());
        let mut response: Response = self.service.clone().call(request).await;
        if let Some(alt_svc) = &self.alt_svc {
            response.headers_mut().insert(::http::header::ALT_SVC, alt_svc.clone());
        }
        Ok(response.map(|body| TrackedBody { body, _open: open }))
    }
}

type ServeError = Box<dyn std::error::Error + Send + Sync>;

// No `pipeline_flush`: with it hyper buffers a streamed body without bound while the peer does not read, and loses the
// answer to an upgrade whose client has sent more already.
fn h1_builder() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
    builder
}

fn h2_builder(requests_max: u32) -> hyper::server::conn::http2::Builder<LocalExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor::default());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(requests_max)
        .enable_connect_protocol()
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(HEADER_TIMEOUT);
    builder
}

/// Drives a connection; after `end` it says goodbye and has [`GOODBYE_TIMEOUT`] left.
async fn run<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    end: impl Future<Output = ()>,
    say_goodbye: impl FnOnce(Pin<&mut C>),
) -> Result<(), ServeError> {
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = end => {}
    }
    say_goodbye(connection.as_mut());
    Ok(timeout(GOODBYE_TIMEOUT, connection).await??)
}

/// Whether requests are being answered on a connection. hyper has no deadline for an HTTP/2 connection that asks for
/// nothing, not even for its preface.
struct Activity {
    open: Cell<usize>,
    /// One more for each stream that has become a connection of another protocol.
    tunnels: InUse,
    had_any: Cell<bool>,
    /// When there was last a request, as far as is known.
    since: Cell<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self {
            open: Cell::new(0),
            tunnels: InUse::default(),
            had_any: Cell::new(false),
            since: Cell::new(Instant::now()),
        }
    }

    fn open(self: &Rc<Self>) -> OpenRequest {
        self.open.set(self.open.get() + 1);
        self.had_any.set(true);
        OpenRequest(self.clone())
    }

    /// Ready when there was no request for too long.
    async fn idle(&self) {
        loop {
            let patience = if self.had_any.get() { IDLE_TIMEOUT } else { HEADER_TIMEOUT };
            let is_open = self.open.get() > 0 || self.tunnels.is_shared();
            if is_open {
                self.since.set(Instant::now());
            }
            let deadline = if is_open { Instant::now() } else { self.since.get() } + patience;
            if !is_open && deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// A request whose answer is not all handed over.
struct OpenRequest(Rc<Activity>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.since.set(Instant::now());
    }
}

/// The body of an answer, which keeps its request open.
struct TrackedBody {
    body: Body,
    _open: OpenRequest,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the requests of one HTTP/2 connection on the shard's thread. They end with the connection.
#[derive(Clone, Default)]
struct LocalExecutor(Rc<RefCell<JoinSet<()>>>);

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        let mut tasks = self.0.borrow_mut();
        while let Some(ended) = tasks.try_join_next() {
            report_panic(ended);
        }
        tasks.spawn_local(async move { drop(future.await) });
    }
}

/// A panic ends its connection or request, and is told.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "serving HTTP panicked");
    }
}

struct ObserveClose<'a, S: Service>(&'a S);

impl<S: Service> Drop for ObserveClose<'_, S> {
    fn drop(&mut self) {
        self.0.observe(ConnectionEvent::Closed);
    }
}

/// Lets a log line pass once in [`LOG_INTERVAL`].
#[derive(Default)]
struct LogGate {
    last: Cell<Option<Instant>>,
    missed: Cell<u64>,
}

impl LogGate {
    /// Calls `log` with the number of lines held back since the last one.
    fn pass(&self, log: impl FnOnce(u64)) {
        if self.last.get().is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            self.missed.set(self.missed.get() + 1);
            return;
        }
        self.last.set(Some(Instant::now()));
        log(self.missed.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of many lines in a second one passes, and the next one tells how many did not; with paused time.
    #[tokio::test(start_paused = true)]
    async fn log_lines_pass_once_a_second() {
        let gate = LogGate::default();
        let passed = RefCell::new(Vec::new());
        let log = |missed| passed.borrow_mut().push(missed);
        gate.pass(log);
        gate.pass(log);
        gate.pass(log);
        tokio::time::advance(LOG_INTERVAL).await;
        gate.pass(log);
        tokio::time::advance(LOG_INTERVAL).await;
        gate.pass(log);
        assert_eq!(*passed.borrow(), [0, 2, 0]);
    }
}
