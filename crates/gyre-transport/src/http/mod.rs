//! Listeners, TLS, HTTP/1 and HTTP/2.
//!
//! All endpoints are one [`Service`]; HTTP/3 gives its requests to the same one, so each exists once.

mod body;
pub mod grpc;
mod listener;
mod network;
mod origin;
mod policy;
mod proxy_protocol;
mod serve;
mod stream;
mod unix_socket;
mod upgrade;

use std::{future::Future, net::SocketAddr, pin::Pin, rc::Rc};

pub use body::{Body, BodyError, full, read_body};
pub use listener::{Addresses, ClampedBuffers, bind_check, bind_tcp, bind_udp, clamped_buffers, resolve};
pub use network::{Network, Networks, NoNetwork};
pub use origin::OriginPolicy;
pub use policy::Policy;
pub use proxy_protocol::ProxyProtocol;
pub use serve::{Accept, Front, Shutdown, serve_listener};
pub use unix_socket::{SocketFile, UNIX_PEER, UnixAcceptor, UnixConnections, bind_unix};
pub(crate) use upgrade::connect_protocol;
pub use upgrade::{Upgrade, upgrade};

/// A request of any HTTP version.
pub type Request = ::http::Request<Body>;
/// Its answer.
pub type Response = ::http::Response<Body>;

/// Answers requests; runs on a shard.
pub trait Service {
    /// Answers one request.
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>>;

    /// Is told what happens to the connections of its listeners, to count it. Does nothing unless written.
    fn observe(&self, _event: ConnectionEvent) {}
}

/// Something that happened to a connection of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// It was accepted.
    Opened,
    /// It ended, or left HTTP by an upgrade. Follows every [`Self::Opened`].
    Closed,
    /// It was closed at once because too many are open.
    Refused,
    /// It could not be accepted: mostly because the process has no descriptor left.
    AcceptFailed,
}

/// Who sent a request; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Address of the client: the connection's ([`UNIX_PEER`] over a unix socket), or what a trusted proxy says.
    pub address: SocketAddr,
    /// The connection is encrypted.
    pub is_tls: bool,
}

/// An answer with a status and a short text, or none.
pub fn status(status: ::http::StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    if !text.is_empty() {
        let value = ::http::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(::http::header::CONTENT_TYPE, value);
    }
    response
}
