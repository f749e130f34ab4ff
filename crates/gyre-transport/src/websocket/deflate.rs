//! permessage-deflate: what is agreed on in the handshake, and inflating what clients send.
//!
//! Both sides keep no context, so an idle connection holds neither compressor nor window, and the inflater is shared by
//! all connections of a thread. What the server sends is compressed in `gyre_core::hub`.
//!
//! Spec: RFC 7692

use std::cell::RefCell;

use ::http::{HeaderMap, header};
use flate2::{Decompress, FlushDecompress, Status};

use super::frame::FrameError;

/// What the server answers to an offer it accepts.
pub(super) const ACCEPTED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Inflated bytes asked for at first; the buffer doubles with what comes.
const FIRST_BYTES: usize = 4 * 1024;

/// True if the client offers compression in a form the server can keep. Of several offers any may be taken.
pub(super) fn is_offered(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let mut offers = offers.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offers.any(is_acceptable)
}

/// An offer with an unknown, repeated or malformed parameter has to be declined, and so has one of a window smaller than
/// ours, which the shared frames do not respect.
///
/// Spec: RFC 7692 section 7.1
fn is_acceptable(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return false;
    }
    let mut seen = Vec::new();
    parts.all(|parameter| {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (parameter, None),
        };
        let is_new = !seen.contains(&name);
        seen.push(name);
        let is_known = match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => true,
            ("client_max_window_bits", None) | ("server_max_window_bits", Some("15")) => true,
            ("client_max_window_bits", Some(bits)) => {
                matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
            }
            _ => false,
        };
        is_new && is_known
    })
}

thread_local! {
    static INFLATER: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Inflates a message to at most `bytes_max`.
///
/// # Errors
/// [`FrameError::TooLarge`] beyond the limit, [`FrameError::Protocol`] if it is not deflated.
///
/// Spec: RFC 7692 section 7.2.2
pub(super) fn inflate(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::with_capacity(FIRST_BYTES.min(bytes_max + 1));
    INFLATER.with_borrow_mut(|inflater| {
        inflater.reset(false);
        for mut input in [message, &[0, 0, 0xff, 0xff][..]] {
            while !input.is_empty() {
                input = step(inflater, input, &mut out, bytes_max)?;
            }
        }
        Ok(out)
    })
}

/// Inflates what fits into the room there is, makes room where there is none, and returns the input that is left.
fn step<'a>(
    inflater: &mut Decompress,
    input: &'a [u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<&'a [u8], FrameError> {
    if out.len() == out.capacity() {
        out.reserve_exact(out.len().max(FIRST_BYTES).min(bytes_max + 1 - out.len()));
    }
    let (read_before, length_before) = (inflater.total_in(), out.len());
    let status = inflater
        .decompress_vec(input, out, FlushDecompress::Sync)
        .map_err(|_| FrameError::Protocol("a message that is not deflated"))?;
    let read = (inflater.total_in() - read_before) as usize;
    if out.len() > bytes_max {
        return Err(FrameError::TooLarge);
    }
    if status == Status::StreamEnd {
        // A final block ends a stream, not the message.
        inflater.reset(false);
    } else if read == 0 && out.len() == length_before {
        return Err(FrameError::Protocol("a message whose deflated data is cut off"));
    }
    Ok(&input[read..])
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    fn deflate(message: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() * 2 + 100);
        Compress::new(Compression::default(), false).compress_vec(message, &mut out, flush).unwrap();
        if matches!(flush, FlushCompress::Sync) {
            out.truncate(out.len() - 4);
        } else {
            out.push(0);
        }
        out
    }

    /// Offers as browsers and libraries make them, and what must be declined.
    #[test]
    fn offers() {
        let accepted = [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10; server_no_context_takeover",
            "permessage-deflate;server_max_window_bits=\"15\" ; client_no_context_takeover",
            "x-other, permessage-deflate; server_max_window_bits=9, permessage-deflate",
        ];
        let declined = [
            "",
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; unknown",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
        ];
        let is_offered = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value.parse().unwrap());
            is_offered(&headers)
        };
        for offer in accepted {
            assert!(is_offered(offer), "{offer}");
        }
        for offer in declined {
            assert!(!is_offered(offer), "{offer}");
        }
    }

    /// The limit is exact, and a message that would inflate to a thousand times its size stops there.
    #[test]
    fn the_limit_is_exact() {
        let bomb = deflate(&vec![b'x'; 10_000_000], FlushCompress::Sync);
        assert!(bomb.len() < 20_000);
        assert_eq!(inflate(&bomb, 100_000), Err(FrameError::TooLarge));
        let message = deflate(&[b'x'; 50_000], FlushCompress::Sync);
        assert_eq!(inflate(&message, 50_000).unwrap(), [b'x'; 50_000]);
        assert_eq!(inflate(&message, 49_999), Err(FrameError::TooLarge));
        // RFC 7692 section 7.2.3.6: an empty message.
        assert_eq!(inflate(&[0], 0).unwrap(), b"");
    }

    /// The examples of RFC 7692 section 7.2.3: one block, two blocks, a stored and a final block.
    #[test]
    fn examples_of_the_rfc() {
        let examples: [&[u8]; 4] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for message in examples {
            assert_eq!(inflate(message, 5).unwrap(), b"Hello", "{message:x?}");
        }
    }

    proptest! {
        /// Any message comes back, flushed or finished; any bytes end in a message within the limit or in an error.
        #[test]
        fn any_message_comes_back(message: Vec<u8>, noise: Vec<u8>) {
            for flush in [FlushCompress::Sync, FlushCompress::Finish] {
                prop_assert_eq!(&inflate(&deflate(&message, flush), message.len()).unwrap(), &message);
            }
            if let Ok(inflated) = inflate(&noise, 100) {
                prop_assert!(inflated.len() <= 100);
            }
        }
    }
}
