//! From a request to a bare socket: by an upgrade of HTTP/1.1, or by an extended CONNECT of HTTP/2 and 3.

use ::http::{Method, Version};
use hyper::{ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use super::{Body, Request, full, stream::Stream};
use crate::{
    socket::Socket,
    tunnel::{Bodies, InUse, Tunnel},
};

/// A connection that will leave HTTP, or a stream of it that will, once its answer (101, or 200) is written.
pub struct Upgrade(Kind);

enum Kind {
    Hyper(OnUpgrade, Option<InUse>),
    Bodies(Bodies),
}

/// The protocol that an extended CONNECT asks for.
///
/// Spec: RFC 8441 section 4
pub(crate) fn connect_protocol(request: &Request) -> Option<&str> {
    let protocol = request.extensions().get::<Protocol>()?;
    (*request.method() == Method::CONNECT).then(|| protocol.as_str())
}

/// Takes the upgrade out of a request, and gives the body of the answer that accepts it; `None` if the request's HTTP
/// version has none.
pub fn upgrade(request: &mut Request) -> Option<(Upgrade, Body)> {
    let in_use = request.extensions_mut().remove::<InUse>();
    if let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() {
        return Some((Upgrade(Kind::Hyper(upgrade, in_use)), full("")));
    }
    if request.version() != Version::HTTP_3 || connect_protocol(request).is_none() {
        return None;
    }
    let (bodies, answer) = Bodies::new(std::mem::replace(request.body_mut(), full("")));
    Some((Upgrade(Kind::Bodies(bodies)), answer))
}

impl Upgrade {
    /// The socket, and bytes that were read past the request. HTTP's buffers are freed: the bytes are copied, because
    /// even an empty rest would keep the whole read buffer.
    pub async fn socket(self) -> Option<(Socket, Vec<u8>)> {
        let (upgrade, in_use) = match self.0 {
            Kind::Hyper(upgrade, in_use) => (upgrade, in_use),
            Kind::Bodies(bodies) => {
                return Some((Socket::tunnel(Tunnel::new(Box::new(bodies), None)), Vec::new()));
            }
        };
        match upgrade.await.ok()?.downcast::<TokioIo<Stream>>() {
            Ok(parts) => Some((parts.io.into_inner().into_socket(), parts.read_buf.to_vec())),
            Err(stream) => {
                let tunnel = Tunnel::new(Box::new(TokioIo::new(stream)), in_use);
                Some((Socket::tunnel(tunnel), Vec::new()))
            }
        }
    }
}
