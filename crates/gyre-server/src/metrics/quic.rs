//! What is counted of QUIC and WebTransport; under a prefix of our own, because the reference has nothing like it.

use gyre_transport::quic::Counts;

use super::exposition::{Exposition, Kind};

/// Adds it.
pub(super) fn add(exposition: &mut Exposition, counts: &Counts) {
    for (name, help, count) in [
        ("gyre_quic_handshakes_total", "QUIC handshakes begun.", counts.handshakes),
        ("gyre_quic_handshakes_failed_total", "QUIC handshakes that failed.", counts.handshakes_failed),
        ("gyre_quic_retries_total", "Clients asked to prove their address.", counts.retries),
        ("gyre_quic_connections_total", "QUIC connections that were open.", counts.connections),
        ("gyre_webtransport_sessions_total", "WebTransport sessions accepted.", counts.sessions),
    ] {
        exposition.counter(name, help, count);
    }
    for ((cause, code), count) in &counts.closes {
        let code = code.map_or_else(String::new, |code| code.to_string());
        let labels = vec![("cause", (*cause).into()), ("code", code.into())];
        let help = "QUIC connections closed.";
        exposition.sample("gyre_quic_closes_total", help, Kind::Counter, labels, *count as f64);
    }
    for (status, count) in &counts.sessions_refused {
        let labels = vec![("status", status.to_string().into())];
        let help = "WebTransport sessions refused.";
        exposition.sample("gyre_webtransport_refused_total", help, Kind::Counter, labels, *count as f64);
    }
}
