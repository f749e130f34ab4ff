//! The one table of error, unsubscribe and disconnect codes.
//!
//! Spec: centrifuge `errors.go`, `disconnect.go`, `unsubscribe.go`.

use std::borrow::Cow;

/// An error in a reply; the connection stays.
///
/// Spec: client.proto, Error. `message` never holds more than the application chose to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// 100–113 are the protocol's own, 400–1999 the application's.
    pub code: u32,
    /// Text for developers.
    pub message: Cow<'static, str>,
    /// The client may retry.
    pub temporary: bool,
}

/// Why the server ends a connection. The code's range tells the client whether to reconnect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// 3000–3499 and 4000–4499 reconnect, 3500–3999 and 4500–4999 do not.
    pub code: u32,
    /// Plain text, at most [`Disconnect::REASON_BYTES_MAX`] bytes so that it fits a WebSocket close frame.
    pub reason: Cow<'static, str>,
}

/// Why the server ended a subscription: below 2500 for good, from 2500 on the client resubscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// 2000–2999.
    pub code: u32,
    /// Plain text.
    pub reason: Cow<'static, str>,
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:literal $message:literal $temporary:literal;)*) => {
        impl ClientError {
            $($(#[$doc])* pub const $name: Self =
                Self { code: $code, message: Cow::Borrowed($message), temporary: $temporary };)*
        }
    };
}

errors! {
    /// Something failed that is not the client's fault.
    INTERNAL = 100 "internal server error" true;
    /// Not raised by the server itself; hooks may.
    UNAUTHORIZED = 101 "unauthorized" false;
    /// The channel's namespace is not configured.
    UNKNOWN_CHANNEL = 102 "unknown channel" false;
    /// Refused.
    PERMISSION_DENIED = 103 "permission denied" false;
    /// The RPC method has no handler.
    METHOD_NOT_FOUND = 104 "method not found" false;
    /// One subscription a channel.
    ALREADY_SUBSCRIBED = 105 "already subscribed" false;
    /// A limit of the connection is reached.
    LIMIT_EXCEEDED = 106 "limit exceeded" false;
    /// The request makes no sense.
    BAD_REQUEST = 107 "bad request" false;
    /// The feature is not enabled.
    NOT_AVAILABLE = 108 "not available" false;
    /// The token has expired: get a new one and retry.
    TOKEN_EXPIRED = 109 "token expired" false;
    /// What is asked for has already expired.
    EXPIRED = 110 "expired" false;
    /// Rate limited.
    TOO_MANY_REQUESTS = 111 "too many requests" true;
    /// The stream cannot be continued from that position.
    UNRECOVERABLE_POSITION = 112 "unrecoverable position" false;
    /// Two page requests at once.
    CONCURRENT_PAGINATION = 113 "concurrent pagination" true;
}

macro_rules! reasons {
    ($type:ident: $($(#[$doc:meta])* $name:ident = $code:literal $reason:literal;)*) => {
        impl $type {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, reason: Cow::Borrowed($reason) };)*
        }
    };
}

reasons! { Disconnect:
    /// The peer went away. Never announced.
    CONNECTION_CLOSED = 3000 "connection closed";
    /// The node shuts down.
    SHUTDOWN = 3001 "shutdown";
    /// Something failed that is not the client's fault.
    SERVER_ERROR = 3004 "internal server error";
    /// Not refreshed in time.
    EXPIRED = 3005 "connection expired";
    /// A server-side subscription expired.
    SUBSCRIPTION_EXPIRED = 3006 "subscription expired";
    /// The client reads too slowly.
    SLOW = 3008 "slow";
    /// A write failed or took too long.
    WRITE_ERROR = 3009 "write error";
    /// A position was lost where no resubscribe is possible.
    INSUFFICIENT_STATE = 3010 "insufficient state";
    /// Reconnect at once.
    FORCE_RECONNECT = 3011 "force reconnect";
    /// A ping was not answered.
    NO_PONG = 3012 "no pong";
    /// Rate limited.
    TOO_MANY_REQUESTS = 3013 "too many requests";
    /// Drop the token and all state, then reconnect.
    STATE_INVALIDATED = 3014 "state invalidated";
    /// The token is not acceptable.
    INVALID_TOKEN = 3500 "invalid token";
    /// The client broke the protocol.
    BAD_REQUEST = 3501 "bad request";
    /// No successful connect in time.
    STALE = 3502 "stale";
    /// The application closed the connection.
    FORCE_NO_RECONNECT = 3503 "force disconnect";
    /// Too many connections of this user.
    CONNECTION_LIMIT = 3504 "connection limit";
    /// Too many server-side subscriptions.
    CHANNEL_LIMIT = 3505 "channel limit";
    /// A payload cannot be carried by the connection's encoding.
    INAPPROPRIATE_PROTOCOL = 3506 "inappropriate protocol";
    /// Not allowed to connect.
    PERMISSION_DENIED = 3507 "permission denied";
    /// The feature is not enabled.
    NOT_AVAILABLE = 3508 "not available";
    /// Too many errors.
    TOO_MANY_ERRORS = 3509 "too many errors";
}

reasons! { Unsubscribe:
    /// The application ended the subscription.
    SERVER = 2000 "server unsubscribe";
    /// The position was lost: resubscribe with recovery.
    INSUFFICIENT_STATE = 2500 "insufficient state";
    /// The subscription was not refreshed in time.
    EXPIRED = 2501 "subscription expired";
}

impl Disconnect {
    /// A WebSocket close frame has 125 bytes, two of them for the code (RFC 6455 section 5.5).
    pub const REASON_BYTES_MAX: usize = 123;

    /// True if a client is expected to reconnect after this.
    pub fn advises_reconnect(&self) -> bool {
        !matches!(self.code, 3500..=3999 | 4500..=4999)
    }

    /// The reason cut to `max` bytes at a character boundary.
    pub fn reason_within(&self, max: usize) -> &str {
        let mut end = self.reason.len().min(max);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        &self.reason[..end]
    }
}
