//! A client of the protocol for the command line (`gyre pub`, `gyre sub`, `gyre health`) and for load (`gyre bench`).
//!
//! It works against any server of this protocol, over WebSocket and WebTransport, and shares no code with Gyre's server:
//! a mistake of the server must not be mirrored here.
//!
//! | module | content |
//! |---|---|
//! | [`target`] | where the server is, and how its certificate is checked |
//! | [`socket`] | a connection that carries messages: WebSocket or WebTransport |
//! | [`client`] | commands, replies, pushes and pings on a socket |
//! | [`follow`] | subscriptions that survive a lost connection |
//! | [`http`] | the server API and health over HTTP |
//! | [`load`] | workloads, their figures and reports |

pub mod client;
pub mod follow;
pub mod http;
pub mod load;
pub mod message;
pub mod socket;
pub mod target;

use std::io;

/// Why something with the server did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the server makes no sense.
    #[error("{url}: {problem}")]
    Target {
        /// What was given.
        url: String,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// The certificates to trust cannot be read.
    #[error("certificates to trust: {0}")]
    Certificates(String),
    /// The server cannot be reached.
    #[error("cannot connect to {address}: {error}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// TLS, the upgrade or the session was refused, or the connection broke.
    #[error("{0}")]
    Transport(String),
    /// The server ended the connection.
    #[error("disconnected: {code} {reason}")]
    Disconnected {
        /// Code of the protocol, or of the transport.
        code: u32,
        /// Reason for people.
        reason: String,
    },
    /// The server answered a command with an error.
    #[error("{command}: error {code}: {message}")]
    Refused {
        /// Name of the command.
        command: &'static str,
        /// Code of the protocol.
        code: u32,
        /// Text for people.
        message: String,
    },
    /// The server did not answer, or stopped sending pings.
    #[error("no answer from the server for {0:?}")]
    Silent(std::time::Duration),
    /// What the server sent cannot be understood.
    #[error("cannot understand the server: {0}")]
    Malformed(String),
}

impl ClientError {
    /// True if trying again may help. Spec: Centrifugo client protocol, disconnect codes: 3500–3999 and 4500–4999 are
    /// final, everything below and between them is not.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Transport(_) | Self::Silent(_) => true,
            Self::Disconnected { code, .. } => !matches!(code, 3500..=3999 | 4500..=4999),
            // Temporary errors of the protocol: internal, too many requests.
            Self::Refused { code, .. } => matches!(code, 100 | 111),
            Self::Target { .. } | Self::Certificates(_) | Self::Malformed(_) => false,
        }
    }
}
