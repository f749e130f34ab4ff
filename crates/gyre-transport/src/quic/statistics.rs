//! What is known of QUIC connections and WebTransport sessions: counts of how they began and ended, and, when somebody
//! asks, what QUIC has measured on those that are open.
//!
//! Counted when a connection or session begins or ends, never on the way of a packet.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn_proto::{Connection, ConnectionError};
use tokio::sync::{mpsc, oneshot};

/// Connections looked at for one sample, spread over all that are open.
pub const SAMPLE_MAX: usize = 512;
/// Questions that wait for a driver; more are not asked.
const QUESTIONS_MAX: usize = 8;
/// How long a driver is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Causes of closes told apart; further ones are counted without their code.
pub const CLOSE_CAUSES_MAX: usize = 64;

/// How many of each there were since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Handshakes begun.
    pub handshakes: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Clients asked to prove their address first.
    pub retries: u64,
    /// Connections that were open.
    pub connections: u64,
    /// Connections closed: what the cause is called, its code, and how many.
    pub closes: BTreeMap<(&'static str, Option<u64>), u64>,
    /// WebTransport sessions accepted.
    pub sessions: u64,
    /// WebTransport sessions refused, by status.
    pub sessions_refused: BTreeMap<u16, u64>,
    /// WebTransport sessions that ended, by the code the client gave, if it gave one.
    pub sessions_ended: BTreeMap<Option<u32>, u64>,
    /// Packets sent on connections that have ended.
    pub packets_sent: u64,
    /// Those of them that were lost.
    pub packets_lost: u64,
}

impl Counts {
    fn close(&mut self, cause: (&'static str, Option<u64>)) {
        let is_room = self.closes.len() < CLOSE_CAUSES_MAX || self.closes.contains_key(&cause);
        let cause = if is_room { cause } else { (cause.0, None) };
        *self.closes.entry(cause).or_default() += 1;
    }
}

/// What QUIC has measured on the path to one peer.
#[derive(Clone, Debug)]
pub struct PathView {
    /// The peer.
    pub address: SocketAddr,
    /// Round trip time.
    pub rtt: Duration,
    /// Packets sent.
    pub packets_sent: u64,
    /// Those of them that were lost.
    pub packets_lost: u64,
    /// Times congestion was noticed.
    pub congestion_events: u64,
    /// Bytes that may be on their way.
    pub window_bytes: u64,
    /// Bytes of a packet at most.
    pub mtu: u16,
    /// Bytes sent and received, headers of QUIC included.
    pub bytes_sent: u64,
    /// See `bytes_sent`.
    pub bytes_received: u64,
}

/// Open connections, or a part of them.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// How many are open.
    pub open: usize,
    /// Those looked at, at most [`SAMPLE_MAX`].
    pub paths: Vec<PathView>,
}

/// Counts of a server, and the way to its open connections.
#[derive(Debug, Default)]
pub struct Statistics {
    counts: Mutex<Counts>,
    drivers: Mutex<Vec<mpsc::Sender<Question>>>,
}

/// Asks a driver for its connections; it looks at no more of them than this.
pub(super) struct Question {
    pub(super) max: usize,
    pub(super) answer: oneshot::Sender<Sample>,
}

impl Statistics {
    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut lock(&self.counts));
    }

    /// Counts a refused session.
    pub fn session_refused(&self, status: u16) {
        self.count(|counts| *counts.sessions_refused.entry(status).or_default() += 1);
    }

    /// Counts the end of a session; the code is the client's.
    pub fn session_ended(&self, code: Option<u32>) {
        self.count(|counts| {
            let is_room =
                counts.sessions_ended.len() < CLOSE_CAUSES_MAX || counts.sessions_ended.contains_key(&code);
            *counts.sessions_ended.entry(code.filter(|_| is_room)).or_default() += 1;
        });
    }

    /// A driver begins: questions come to it from now on.
    pub(super) fn register(&self) -> mpsc::Receiver<Question> {
        let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
        let mut drivers = lock(&self.drivers);
        drivers.retain(|driver| !driver.is_closed());
        drivers.push(sender);
        questions
    }

    /// Counts the end of a connection.
    pub(super) fn closed(&self, connection: &Connection, reason: Option<&ConnectionError>) {
        let path = connection.stats().path;
        let cause = reason.map_or(("server", None), cause);
        self.count(|counts| {
            counts.packets_sent += path.sent_packets;
            counts.packets_lost += path.lost_packets;
            counts.close(cause);
        });
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Looks at open connections. A driver that has no time to answer is left out.
    pub async fn sample(&self) -> Sample {
        let drivers = lock(&self.drivers).clone();
        let max = SAMPLE_MAX / drivers.len().max(1);
        let mut all = Sample::default();
        for driver in drivers {
            let (answer, answered) = oneshot::channel();
            if driver.try_send(Question { max, answer }).is_ok()
                && let Ok(Ok(sample)) = tokio::time::timeout(ANSWER_TIMEOUT, answered).await
            {
                all.open += sample.open;
                all.paths.extend(sample.paths);
            }
        }
        all
    }
}

pub(super) fn view(connection: &Connection) -> PathView {
    let statistics = connection.stats();
    PathView {
        address: connection.remote_address(),
        rtt: statistics.path.rtt,
        packets_sent: statistics.path.sent_packets,
        packets_lost: statistics.path.lost_packets,
        congestion_events: statistics.path.congestion_events,
        window_bytes: statistics.path.cwnd,
        mtu: statistics.path.current_mtu,
        bytes_sent: statistics.udp_tx.bytes,
        bytes_received: statistics.udp_rx.bytes,
    }
}

/// What ended a connection, and the code that was given.
fn cause(error: &ConnectionError) -> (&'static str, Option<u64>) {
    match error {
        ConnectionError::ApplicationClosed(close) => ("client", Some(close.error_code.into_inner())),
        ConnectionError::ConnectionClosed(close) => ("client_transport", Some(close.error_code.into())),
        ConnectionError::TransportError(error) => ("protocol_error", Some(error.code.into())),
        ConnectionError::TimedOut => ("timed_out", None),
        ConnectionError::Reset => ("reset", None),
        ConnectionError::LocallyClosed => ("server", None),
        ConnectionError::VersionMismatch => ("version", None),
        ConnectionError::CidsExhausted => ("ids_exhausted", None),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Numbers and entries are changed in single steps: a panic elsewhere leaves them usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes come from peers: however many there are, the table stays small and nothing goes uncounted.
    #[test]
    fn codes_of_peers_do_not_grow_the_tables() {
        let statistics = Statistics::default();
        for code in 0..10_000 {
            statistics.session_ended(Some(code));
            statistics.count(|counts| counts.close(("client", Some(code.into()))));
        }
        let counts = statistics.counts();
        assert!(counts.closes.len() <= CLOSE_CAUSES_MAX + 1);
        assert!(counts.sessions_ended.len() <= CLOSE_CAUSES_MAX + 1);
        assert_eq!(counts.closes.values().sum::<u64>(), 10_000);
        assert_eq!(counts.sessions_ended.values().sum::<u64>(), 10_000);
        assert_eq!(counts.closes[&("client", Some(3))], 1);
    }
}
