//! What tells one trace from another, as headers carry it.
//!
//! Spec: W3C Trace Context

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Bytes of a `tracestate` that is passed on; a longer one is not.
///
/// Spec: W3C Trace Context section 3.3.1.5
const STATE_BYTES_MAX: usize = 512;

/// A span, as others refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never zero.
    pub trace_id: [u8; 16],
    /// The span; never zero.
    pub span_id: [u8; 8],
    /// Somebody records it.
    pub is_sampled: bool,
    /// What others attached to the trace.
    pub state: Option<HeaderValue>,
}

impl TraceContext {
    /// The context a request carries; `None` if there is none, or none that is well-formed.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let context = Self::parse(headers.get(TRACEPARENT)?.as_bytes())?;
        let state = headers.get(TRACESTATE).filter(|state| state.len() <= STATE_BYTES_MAX).cloned();
        Some(Self { state, ..context })
    }

    /// Reads the value of a `traceparent`. What a later version appends is ignored.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_whole = text.len() == 55 || (text.len() > 55 && text[55] == b'-' && &text[..2] != b"00");
        if !is_whole || text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
            return None;
        }
        let [version] = hex(&text[..2])?;
        let (trace_id, span_id) = (hex(&text[3..35])?, hex(&text[36..52])?);
        let [flags] = hex(&text[53..55])?;
        let is_valid = version != 0xff && trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, is_sampled: flags & 1 == 1, state: None })
    }

    /// Puts it into the headers of a request.
    pub fn write(&self, headers: &mut HeaderMap) {
        let flags = u8::from(self.is_sampled);
        let text = format!("00-{}-{}-{flags:02x}", text(&self.trace_id), text(&self.span_id));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
        match &self.state {
            Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
            None => drop(headers.remove(TRACESTATE)),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower case only, as the specification has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// What is read is written again, with the state of others; nothing is made of what is malformed, and a later version
    /// may append.
    ///
    /// Spec: W3C Trace Context sections 3.2 and 4.3
    #[test]
    fn contexts_are_read_and_written() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(VALID));
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let context = TraceContext::read(&headers).unwrap();
        assert!(context.is_sampled);
        let mut written = HeaderMap::new();
        context.write(&mut written);
        assert_eq!(written, headers);
        assert!(TraceContext::parse(format!("01{}-what", &VALID[2..]).as_bytes()).is_some());
        for malformed in [
            "",
            &VALID[..54],
            &format!("{VALID}-what"),
            &format!("ff{}", &VALID[2..]),
            &VALID.to_uppercase(),
            &VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &VALID.replace('-', "_"),
            &"€".repeat(19),
        ] {
            assert_eq!(TraceContext::parse(malformed.as_bytes()), None, "{malformed}");
        }
    }
}
