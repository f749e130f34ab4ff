//! All limits of a session with their defaults.
//!
//! One value is shared by every session of a node and replaced whole on reload.
//! Spec: configuration `client.*`, `channel.max_length`.

use std::time::Duration;

/// How long a connection or subscription goes on whose refresh hook gave no usable answer.
///
/// Spec: centrifugo `internal/proxy/refresh_handler.go`
pub const UNANSWERED_REFRESH: Duration = Duration::from_secs(60);

/// Limits and intervals of client sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `client.ping_interval`: time between application pings; zero disables them. Default 25 s.
    pub ping_interval: Duration,
    /// `client.pong_timeout`: a ping unanswered for so long ends the connection (3012). Default 8 s.
    pub pong_timeout: Duration,
    /// `client.stale_close_delay`: time for a successful connect (3502). Default 10 s.
    pub stale_close_delay: Duration,
    /// `client.expired_close_delay`: grace after the connection's expiry (3005). Default 25 s.
    pub expired_close_delay: Duration,
    /// `client.expired_sub_close_delay`: grace after a subscription's expiry (2501 or 3006). Default 25 s.
    pub expired_sub_close_delay: Duration,
    /// `client.presence_update_interval`: the tick that refreshes presence, checks positions and expiry. Default 27 s.
    pub presence_update_interval: Duration,
    /// `client.channel_position_check_delay`: a position is checked at most this often. Default 40 s.
    pub channel_position_check_delay: Duration,
    /// `client.channel_limit`: subscriptions of one connection (error 106, disconnect 3505). Default 128.
    pub channel_limit: usize,
    /// `channel.max_length`: bytes of a channel name (error 107). Default 255.
    pub channel_length_max: usize,
    /// `client.queue_max_size`: bytes queued for a connection that does not read (3008). Default 1 MiB.
    pub queue_bytes_max: usize,
    /// `websocket.write_timeout`: a peer that takes nothing for so long is given up (3009); zero is no limit. Default 1 s.
    pub websocket_write_timeout: Duration,
    /// `uni_websocket.write_timeout`, likewise.
    pub uni_websocket_write_timeout: Duration,
    /// `client.history_max_publication_limit`: publications in a history reply. Default 300.
    pub history_publications_max: usize,
    /// `client.recovery_max_publication_limit`: publications recovered by a subscribe. Default 300.
    pub recovery_publications_max: usize,
    /// Publications held back for one subscription while it is being made; more means "not recovered". Default 1,024.
    pub subscribe_buffer_max: usize,
    /// `client.concurrency`: commands of one connection that may wait at the same time for the application or the engine;
    /// their replies then come as they are ready. 0 and 1 are one after another. Default 0.
    pub concurrency: usize,
    /// `client.connection_limit`: connections of a node (HTTP 503); 0 is no limit.
    pub connection_limit: usize,
    /// `client.connection_rate_limit`: new connections per second of a node (HTTP 503); 0 is no limit.
    pub connection_rate_limit: usize,
    /// `shared_poll.concurrency_limit`: calls of backends on their way at once; 0 is the default of the node, 64. Read
    /// once, at the start.
    pub poll_concurrency: usize,
    /// `client.user_connection_limit`: connections of one user on a node (3504); 0 is no limit.
    pub user_connection_limit: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            stale_close_delay: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            presence_update_interval: Duration::from_secs(27),
            channel_position_check_delay: Duration::from_secs(40),
            channel_limit: 128,
            channel_length_max: 255,
            queue_bytes_max: 1 << 20,
            websocket_write_timeout: Duration::from_secs(1),
            uni_websocket_write_timeout: Duration::from_secs(1),
            history_publications_max: 300,
            recovery_publications_max: 300,
            subscribe_buffer_max: 1024,
            concurrency: 0,
            connection_limit: 0,
            connection_rate_limit: 0,
            poll_concurrency: 0,
            user_connection_limit: 0,
        }
    }
}

/// Bytes of a key of a map or shared poll; longer ones are refused (error 107).
pub const KEY_BYTES_MAX: usize = 1024;

/// The longest expiry honoured; later ones are cut.
///
/// Spec: client protocol section 11.1, item 7.
pub const EXPIRY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
