//! permessage-deflate: what is agreed on in the handshake, and inflating what clients send.
//!
//! Both sides keep no context, so an idle connection holds neither compressor nor window, and the inflater is shared by
//! all connections of a thread. What the server sends is compressed in `gyre_core::hub`.
//!
//! Spec: RFC 7692

use std::cell::RefCell;

use ::http::{HeaderMap, HeaderValue, header};
use flate2::{Decompress, FlushDecompress, Status};

use gyre_core::hub::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};

use super::{Compression, frame::FrameError};

/// Inflated bytes asked for at first; the buffer doubles with what comes.
const FIRST_BYTES: usize = 4 * 1024;

/// An offer the server can keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The largest window the client takes; `None` if it takes any.
    window_bits: Option<u8>,
}

impl Offer {
    /// What is configured, within what the client takes.
    pub(super) fn settle(self, mut compression: Compression) -> Compression {
        let configured = compression.deflate.window_bits;
        compression.deflate.window_bits = self.window_bits.map_or(configured, |bits| bits.min(configured));
        compression
    }

    /// The value of the header that accepts it.
    pub(super) fn accepted(self) -> HeaderValue {
        const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let Some(bits) = self.window_bits else { return HeaderValue::from_static(ACCEPTED) };
        HeaderValue::try_from(format!("{ACCEPTED}; server_max_window_bits={bits}"))
            .unwrap_or(HeaderValue::from_static(ACCEPTED))
    }
}

/// The first offer of compression in a form the server can keep to.
pub(super) fn offered(headers: &HeaderMap) -> Option<Offer> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let mut offers = offers.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offers.find_map(read_offer)
}

/// An offer with an unknown, repeated or malformed parameter has to be declined.
///
/// Spec: RFC 7692 section 7.1
fn read_offer(offer: &str) -> Option<Offer> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut window_bits = None;
    let mut seen = Vec::new();
    for parameter in parts {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (parameter, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            (
                "server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits",
                None,
            ) => {}
            ("client_max_window_bits", Some(bits)) => drop(read_bits(bits, 8)?),
            ("server_max_window_bits", Some(bits)) => window_bits = Some(read_bits(bits, WINDOW_BITS_MIN)?),
            _ => return None,
        }
    }
    Some(Offer { window_bits })
}

/// A decimal number without leading zeros.
fn read_bits(bits: &str, min: u8) -> Option<u8> {
    let is_number = bits.bytes().all(|digit| digit.is_ascii_digit()) && !bits.starts_with('0');
    bits.parse().ok().filter(|bits| is_number && (min..=WINDOW_BITS_MAX).contains(bits))
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
            ("permessage-deflate", None),
            ("permessage-deflate; client_max_window_bits", None),
            ("permessage-deflate; client_max_window_bits=10; server_no_context_takeover", None),
            ("permessage-deflate;server_max_window_bits=\"15\" ; client_no_context_takeover", Some(15)),
            ("x-other, permessage-deflate; server_max_window_bits=8, permessage-deflate", None),
            ("permessage-deflate; server_max_window_bits=9, permessage-deflate", Some(9)),
        ];
        let declined = [
            "",
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; unknown",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
        ];
        let offered_in = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value.parse().unwrap());
            offered(&headers)
        };
        for (offer, window_bits) in accepted {
            assert_eq!(offered_in(offer), Some(Offer { window_bits }), "{offer}");
        }
        for offer in declined {
            assert_eq!(offered_in(offer), None, "{offer}");
        }
        let answer = Offer { window_bits: Some(9) }.accepted();
        assert!(answer.to_str().unwrap().ends_with("; server_max_window_bits=9"));
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
