//! From an HTTP/1.1 request to a bare socket.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Request, stream::Stream};
use crate::socket::Socket;

/// A connection that will leave HTTP once its answer (101) is written.
#[derive(Debug)]
pub struct Upgrade(OnUpgrade);

/// Takes the upgrade out of a request; `None` if the request's HTTP version has none.
pub fn upgrade(request: &mut Request) -> Option<Upgrade> {
    request.extensions_mut().remove::<OnUpgrade>().map(Upgrade)
}

impl Upgrade {
    /// The socket, and bytes that were read past the request. HTTP's buffers are freed: the bytes are copied, because
    /// even an empty rest would keep the whole read buffer.
    pub async fn socket(self) -> Option<(Socket, Vec<u8>)> {
        let upgraded = self.0.await.ok()?;
        let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
        Some((parts.io.into_inner().into_socket(), parts.read_buf.to_vec()))
    }
}
