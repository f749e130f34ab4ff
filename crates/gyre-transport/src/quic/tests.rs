//! The driver on real sockets, against `quinn` as the client.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use quinn_proto::{EndpointConfig, crypto::rustls::QuicClientConfig};
use tokio::{
    sync::watch,
    task::{JoinHandle, LocalSet, spawn_local},
    time::timeout,
};

use super::*;
use crate::{
    http::{Request, Response, full},
    tls::Identity,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Half-open handshakes that make the driver careful.
const FLOOD: usize = driver::HANDSHAKES_BEFORE_RETRY;
/// Type of a long header that asks a client to prove its address. Spec: RFC 9000 section 17.2.
const RETRY: u8 = 3;

#[derive(Default)]
struct Nothing(Arc<Statistics>);

impl Service for Nothing {
    fn call(self: Rc<Self>, _: Request) -> std::pin::Pin<Box<dyn std::future::Future<Output = Response>>> {
        Box::pin(async { Response::new(full("")) })
    }
}

impl Handler for Nothing {
    fn service(&self) -> Rc<dyn Service> {
        Rc::new(Self::default())
    }

    fn statistics(&self) -> &Arc<Statistics> {
        &self.0
    }

    fn session(&self, _: &RequestHead, _: Peer) -> Result<webtransport::Options, u16> {
        Err(404)
    }
}

/// A driver that serves, and what clients need to reach it.
struct Fixture {
    address: SocketAddr,
    client: rustls::ClientConfig,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

fn start() -> Fixture {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity =
        Identity { certificate: Some((certificate.as_bytes(), key.as_bytes())), client_authorities: None };
    let tls = ServerTls::new(identity, None).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h3".to_vec()];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let driver = endpoint(socket, &tls, Arc::default(), Rc::new(Nothing::default())).unwrap();
    let (stop, shutdown) = watch::channel(false);
    Fixture { address, client, stop, serving: spawn_local(driver.serve(shutdown)) }
}

impl Fixture {
    fn quic(&self) -> Arc<QuicClientConfig> {
        Arc::new(QuicClientConfig::try_from(self.client.clone()).unwrap())
    }

    async fn connect(&self) -> quinn::Connection {
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(self.quic()));
        timeout(LIMIT, endpoint.connect(self.address, "localhost").unwrap()).await.unwrap().unwrap()
    }
}

/// Connections that their clients close leave nothing behind, and one that nothing is going on on does not keep a driver
/// that is told to stop: it is closed without an error.
#[tokio::test]
async fn connections_end() {
    LocalSet::new()
        .run_until(async {
            let fixture = start();
            let last = fixture.connect().await;
            for _ in 0..20 {
                let connection = fixture.connect().await;
                // Its SETTINGS have come: the server had something to say before the end.
                drop(timeout(LIMIT, connection.accept_uni()).await.unwrap().unwrap());
                connection.close(0u32.into(), b"");
            }
            fixture.stop.send(true).unwrap();
            timeout(LIMIT, fixture.serving).await.unwrap().unwrap();
            let quinn::ConnectionError::ApplicationClosed(close) =
                timeout(LIMIT, last.closed()).await.unwrap()
            else {
                panic!("not closed by the server");
            };
            assert_eq!(close.error_code.into_inner(), gyre_h3::Code::H3_NO_ERROR.0);
        })
        .await;
}

/// Under a flood of handshakes that never go on, new clients have to prove their address, and those that do are served.
#[tokio::test]
async fn a_flood_makes_clients_prove_their_address() {
    LocalSet::new()
        .run_until(async {
            let fixture = start();
            let flood = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            for _ in 0..FLOOD {
                flood.send_to(&initial(&fixture), fixture.address).await.unwrap();
                // The next comes when something was answered, so that the socket loses none.
                assert_ne!(packet_type(&flood).await, RETRY);
            }
            flood.send_to(&initial(&fixture), fixture.address).await.unwrap();
            // Answers to the first ones are sent again meanwhile.
            while packet_type(&flood).await != RETRY {}
            fixture.connect().await;
        })
        .await;
}

async fn packet_type(socket: &tokio::net::UdpSocket) -> u8 {
    let mut packet = [0; 2048];
    timeout(LIMIT, socket.recv_from(&mut packet)).await.unwrap().unwrap();
    packet[0] >> 4 & 3
}

/// The first packet of a client that will not go on.
fn initial(fixture: &Fixture) -> Vec<u8> {
    let mut endpoint = quinn_proto::Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
    let config = quinn_proto::ClientConfig::new(fixture.quic());
    let now = std::time::Instant::now();
    let (_, mut connection) = endpoint.connect(now, config, fixture.address, "localhost").unwrap();
    let mut packet = Vec::new();
    let transmit = connection.poll_transmit(now, 1, &mut packet).unwrap();
    packet.truncate(transmit.size);
    packet
}
