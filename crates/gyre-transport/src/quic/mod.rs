//! HTTP/3 over QUIC: one endpoint per shard, its connections driven through `gyre-h3`.
//!
//! The state machine of QUIC is `quinn-proto`'s, sockets are `quinn-udp`'s; the driver between them is ours. What is above
//! knows only [`Session`], its streams, and the one HTTP [`Service`].

mod connection;
mod driver;
mod link;
mod request;
mod socket;
mod statistics;
#[cfg(test)]
mod tests;

use std::{io, net::UdpSocket, rc::Rc, sync::Arc, time::Duration};

use gyre_h3::RequestHead;
use quinn_proto::{IdleTimeout, ServerConfig, TransportConfig, VarInt, crypto::rustls::QuicServerConfig};

pub use connection::{Session, SessionEvent};
pub use driver::Driver;
pub use link::{ReadError, RecvStream, SendStream};
pub use statistics::{CLOSE_CAUSES_MAX, Counts, PathView, SAMPLE_MAX, Sample, Statistics};

use crate::{
    http::{Peer, Service},
    tls::ServerTls,
    webtransport,
};

/// Idle time after which a connection is given up; the peer's value wins if it is lower. Application pings keep
/// connections alive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of one stream that are received ahead of the application.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes of a connection that are received ahead of the application.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Bytes of a connection that may be sent and not acknowledged: with the session's queue, the bound of a slow reader.
const SEND_WINDOW: u64 = 256 * 1024;
/// Streams a peer may have open: requests, and those HTTP/3 needs.
const BIDI_STREAMS_MAX: u32 = 100;
const UNI_STREAMS_MAX: u32 = 8;
/// Received datagrams that wait to be looked at, and datagrams to be sent, in bytes.
const DATAGRAM_RECEIVE_BYTES: usize = 64 * 1024;
const DATAGRAM_SEND_BYTES: usize = 32 * 1024;

/// Answers what comes over HTTP/3 on a shard.
pub trait Handler {
    /// The service of plain requests.
    fn service(&self) -> Rc<dyn Service>;

    /// Where connections are counted.
    fn statistics(&self) -> &Arc<Statistics>;

    /// Decides about a WebTransport session: how it is served, or the status that refuses it.
    fn session(&self, head: &RequestHead, peer: Peer) -> Result<webtransport::Options, u16>;
}

/// A QUIC endpoint on a socket, for the thread it is made on.
///
/// # Errors
/// If the TLS settings cannot be used for QUIC or the socket cannot be registered.
pub fn endpoint(
    socket: UdpSocket,
    tls: &ServerTls,
    h3: Arc<gyre_h3::Config>,
    handler: Rc<dyn Handler>,
) -> io::Result<Driver> {
    let mut settings = tls.quic();
    let config = server_config(settings.borrow_and_update().clone())?;
    Driver::new(socket, config, settings, h3, handler)
}

fn server_config(tls: Arc<rustls::ServerConfig>) -> io::Result<ServerConfig> {
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport_config()));
    Ok(config)
}

fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(BIDI_STREAMS_MAX.into())
        .max_concurrent_uni_streams(UNI_STREAMS_MAX.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        // Probing costs memory and packets on connections that are mostly idle.
        .mtu_discovery_config(None);
    config
}

/// A QUIC error code of that value.
fn varint(code: gyre_h3::Code) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}
