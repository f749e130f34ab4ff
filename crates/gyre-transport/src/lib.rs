//! Transports of Gyre: HTTP, WebSocket, QUIC and WebTransport
