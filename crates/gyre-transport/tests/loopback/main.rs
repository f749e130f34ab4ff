//! Whole connections over loopback sockets: HTTP/1.1 and HTTP/2, TLS; WebSocket and gRPC up to a node.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificate;
mod deadlines;
mod extended_connect;
mod grpc;
mod http;
mod server;
mod socket;
mod tls;
mod websocket;
mod world;
