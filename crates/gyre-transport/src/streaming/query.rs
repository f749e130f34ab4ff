//! Parameters of a query string.

/// The first value of a parameter, decoded; `None` if there is none, or its encoding is broken.
///
/// Spec: WHATWG URL section 5.1
pub(crate) fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })?;
    decode(value)
}

fn decode(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            byte => byte,
        });
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values as browsers write them, and broken ones.
    #[test]
    fn values_are_decoded() {
        let value = |query| parameter(query, "c").map(|value| String::from_utf8_lossy(&value).into_owned());
        assert_eq!(value("c=%7B%22a%22%3A+1%7d").as_deref(), Some("{\"a\": 1}"));
        assert_eq!(value("cc=1&c=2&c=3").as_deref(), Some("2"));
        assert_eq!(value("c=%C3%A9=").as_deref(), Some("é="));
        assert_eq!(value("c").as_deref(), Some(""));
        for none in ["", "d=1", "c=%", "c=%1", "c=%zz", "c=%+1"] {
            assert_eq!(value(none), None, "{none}");
        }
    }
}
