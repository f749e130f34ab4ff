//! Signatures that allow a user to track keys of a shared poll channel.
//!
//! Spec: client protocol, "Shared poll", signature; centrifugo `internal/client/track_signature.go`.

use aws_lc_rs::{digest, hmac};
use gyre_core::ports::{TokenError, TrackRequest};

/// Seconds for which a signature is still taken after its expiry.
const GRACE_SECONDS: i64 = 5;
/// Bytes of an HMAC with SHA-256.
const MAC_BYTES: usize = 32;

/// `shared_poll.hmac_secret_key` and the one before it.
#[derive(Debug, Default)]
pub struct TrackKeys {
    current: Option<hmac::Key>,
    previous: Option<hmac::Key>,
    /// Signatures of the previous key made after this Unix time are refused; 0 is no limit.
    previous_valid_until: i64,
}

impl TrackKeys {
    /// Keys of these secrets; an empty one is none.
    pub fn new(current: &str, previous: &str, previous_valid_until: i64) -> Self {
        let key =
            |secret: &str| (!secret.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        Self { current: key(current), previous: key(previous), previous_valid_until }
    }

    /// Verifies a signature; tells when it expires, if it does.
    pub(super) fn verify(&self, request: TrackRequest<'_>, now: i64) -> Result<Option<i64>, TokenError> {
        let invalid = |reason: &str| TokenError::Invalid { reason: reason.into() };
        let mut parts = request.signature.splitn(3, ':');
        let (Some(iat), Some(exp), Some(mac)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(invalid("not iat:exp:hex"));
        };
        let (issued, expires) = match (iat.parse::<i64>(), exp.parse::<i64>()) {
            (Ok(issued), Ok(expires)) => (issued, expires),
            _ => return Err(invalid("times are no numbers")),
        };
        let mac = from_hex(mac).ok_or_else(|| invalid("the signature is no hex"))?;
        let signed = signed_text(&request, iat, exp);
        let is_of = |key: &hmac::Key| hmac::verify(key, &signed, &mac).is_ok();
        let is_previous_good = self.previous_valid_until == 0 || issued <= self.previous_valid_until;
        let previous = self.previous.as_ref().filter(|_| is_previous_good);
        if ![self.current.as_ref(), previous].into_iter().flatten().any(is_of) {
            return Err(invalid("the signature does not match"));
        }
        match expires {
            0 => Ok(None),
            expires if now > expires.saturating_add(GRACE_SECONDS) => Err(TokenError::Expired),
            expires => Ok(Some(expires)),
        }
    }
}

/// `iat NUL exp NUL user NUL channel NUL hex(SHA-256(keys joined by NUL))`.
fn signed_text(request: &TrackRequest<'_>, iat: &str, exp: &str) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for (i, key) in request.keys.iter().enumerate() {
        if i > 0 {
            hash.update(b"\0");
        }
        hash.update(key.as_bytes());
    }
    let keys: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    [iat, exp, request.user, request.channel, &keys].join("\0").into_bytes()
}

fn from_hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    let mut bytes = [0; MAC_BYTES];
    if text.len() != 2 * MAC_BYTES || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str =
        "1700000000:1700003600:3100cc798bc65786358f546a3feed8757855e1224a6ebc2108d253f637a41678";

    fn request(signed: &[Box<str>]) -> TrackRequest<'_> {
        TrackRequest { user: "42", channel: "prices", keys: signed, signature: SIGNATURE }
    }

    /// A recorded signature is good for its user, channel and keys and no others, until five seconds after its expiry.
    #[test]
    fn signature_is_bound() {
        let keys = TrackKeys::new("secret", "", 0);
        let (signed, other) = (["a".into(), "b".into()], ["b".into(), "a".into()]);
        let good = request(&signed);
        let exp = 1_700_003_600;
        assert_eq!(keys.verify(good, exp + 5), Ok(Some(exp)));
        assert_eq!(keys.verify(good, exp + 6), Err(TokenError::Expired));
        let is_invalid = |request| matches!(keys.verify(request, exp), Err(TokenError::Invalid { .. }));
        assert!(is_invalid(TrackRequest { user: "43", ..good }));
        assert!(is_invalid(TrackRequest { channel: "price", ..good }));
        assert!(is_invalid(TrackRequest { keys: &other, ..good }));
        let unending = SIGNATURE.replace("1700003600", "0");
        for signature in ["", "abc", "1:2", "1:2:xyz", &unending, "1:2:é"] {
            assert!(is_invalid(TrackRequest { signature, ..good }), "{signature}");
        }
        assert!(TrackKeys::default().verify(good, exp).is_err(), "no key is configured");
    }

    /// The previous key is good for signatures made before its end.
    #[test]
    fn previous_key_ends() {
        let signed = ["a".into(), "b".into()];
        for (valid_until, is_good) in [(0, true), (1_700_000_000, true), (1_699_999_999, false)] {
            let keys = TrackKeys::new("other", "secret", valid_until);
            assert_eq!(keys.verify(request(&signed), 1_700_000_000).is_ok(), is_good, "{valid_until}");
        }
    }
}
