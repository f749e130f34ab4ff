//! What arrives for a session before the session: bounded in number, bytes and time.
//!
//! Spec: draft-ietf-webtrans-http3, "Buffering Incoming Streams and Datagrams"

use std::time::Instant;

use bytes::Bytes;

use crate::{Config, StreamId};

/// A WebTransport stream whose session is not accepted yet. The rest of it is unread, so QUIC's window bounds it.
#[derive(Debug)]
pub(super) struct EarlyStream {
    pub(super) session: StreamId,
    pub(super) stream: StreamId,
    pub(super) data: Bytes,
    pub(super) fin: bool,
    /// Set when the time is told next.
    until: Option<Instant>,
}

#[derive(Debug)]
struct EarlyDatagram {
    session: StreamId,
    data: Bytes,
    until: Option<Instant>,
}

/// Streams and datagrams that are held.
#[derive(Debug, Default)]
pub(super) struct Early {
    streams: Vec<EarlyStream>,
    datagrams: Vec<EarlyDatagram>,
}

impl Early {
    /// Holds a stream; false if there are too many, and it has to be rejected.
    #[must_use]
    pub(super) fn hold_stream(
        &mut self,
        config: &Config,
        session: StreamId,
        stream: StreamId,
        data: Bytes,
        fin: bool,
    ) -> bool {
        let has_room = self.streams.len() < config.early_streams_max;
        if has_room {
            self.streams.push(EarlyStream { session, stream, data, fin, until: None });
        }
        has_room
    }

    /// Holds a datagram, or drops it if there are too many. The bytes are copied: they may be a part of much more.
    pub(super) fn hold_datagram(&mut self, config: &Config, session: StreamId, data: &[u8]) {
        let held: usize = self.datagrams.iter().map(|datagram| datagram.data.len()).sum();
        let has_room = self.datagrams.len() < config.early_datagrams_max
            && held.saturating_add(data.len()) <= config.early_datagram_bytes_max;
        if has_room {
            let data = Bytes::copy_from_slice(data);
            self.datagrams.push(EarlyDatagram { session, data, until: None });
        }
    }

    /// Takes what is held for a session.
    pub(super) fn take(&mut self, session: StreamId) -> (Vec<EarlyStream>, Vec<Bytes>) {
        let streams = self.streams.extract_if(.., |stream| stream.session == session).collect();
        let datagrams = self.datagrams.extract_if(.., |datagram| datagram.session == session);
        (streams, datagrams.map(|datagram| datagram.data).collect())
    }

    /// Tells until when to hold what came since the last call.
    pub(super) fn limit(&mut self, until: Instant) {
        for stream in &mut self.streams {
            stream.until.get_or_insert(until);
        }
        for datagram in &mut self.datagrams {
            datagram.until.get_or_insert(until);
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let streams = self.streams.iter().filter_map(|stream| stream.until);
        streams.chain(self.datagrams.iter().filter_map(|datagram| datagram.until)).min()
    }

    /// Drops datagrams that waited too long, and takes such streams.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<EarlyStream> {
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        self.datagrams.retain(|datagram| !is_over(datagram.until));
        self.streams.extract_if(.., |stream| is_over(stream.until)).collect()
    }
}
