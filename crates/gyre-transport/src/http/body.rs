//! Bodies of requests and responses.

use std::{pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

/// Time for a whole body to come.
///
/// Spec: configuration `http_server`, read timeout.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body of any kind and HTTP version. It stays on its shard's thread.
pub type Body = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It exceeds the limit.
    #[error("the body exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The peer ended it early, or took longer than 30 seconds for it.
    #[error("the body ended early: {reason}")]
    Incomplete {
        /// What the HTTP layer reported.
        reason: String,
    },
}

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Box::pin(Full::new(bytes.into()).map_err(|never| match never {}))
}

/// Reads a whole body, and never holds more than the limit.
///
/// # Errors
/// [`BodyError::TooLarge`] as soon as that is known, [`BodyError::Incomplete`].
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    match timeout(BODY_TIMEOUT, collect(body, limit)).await {
        Ok(collected) => collected,
        Err(late) => Err(BodyError::Incomplete { reason: late.to_string() }),
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    // A body in one piece, the usual case, is not copied.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > limit - first.len().max(joined.len()) {
            return Err(BodyError::TooLarge { limit });
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        joined.extend_from_slice(&std::mem::take(&mut first));
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    /// A body of these pieces, without a declared length.
    fn pieces(pieces: &'static [&'static str]) -> Body {
        let frames = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        Box::pin(StreamBody::new(futures_util::stream::iter(frames)))
    }

    /// Bodies at the limit are read whole, however they come; one byte more is refused.
    #[tokio::test]
    async fn the_limit_is_exact() {
        for body in [&["123456"][..], &["1", "", "2345", "6"], &["", "123", "456", ""]] {
            assert_eq!(read_body(pieces(body), 6).await.unwrap(), "123456", "{body:?}");
            assert!(matches!(read_body(pieces(body), 5).await, Err(BodyError::TooLarge { limit: 5 })));
        }
        assert_eq!(read_body(pieces(&[]), 0).await.unwrap(), "");
        assert_eq!(read_body(full("abc"), 3).await.unwrap(), "abc");
    }

    /// A body that does not end is given up; with paused time.
    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_deadline() {
        let endless = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BodyError>>());
        assert!(matches!(read_body(Box::pin(endless), 10).await, Err(BodyError::Incomplete { .. })));
    }
}
