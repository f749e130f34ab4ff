//! Request and response heads.
//!
//! Spec: RFC 9114 sections 4.1.2, 4.2 and 4.3; RFC 9220 section 3

use crate::{error::ConnectionError, qpack};

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RequestHead {
    /// `:method`.
    pub method: String,
    /// `:scheme`; empty for a plain CONNECT.
    pub scheme: String,
    /// `:authority`, or the `host` field.
    pub authority: String,
    /// `:path` with query; empty for a plain CONNECT.
    pub path: String,
    /// `:protocol` of an extended CONNECT.
    pub protocol: Option<String>,
    /// Ordinary fields in order; `cookie` lines are joined.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ResponseHead {
    /// Three digits.
    pub status: u16,
    /// Ordinary fields, names in lower case.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why a request cannot be taken; the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The stream is reset with `H3_MESSAGE_ERROR`.
    Malformed,
    /// Answered with 431.
    TooManyFields,
}

impl RequestHead {
    /// Decodes a field section.
    pub(crate) fn decode(
        section: &[u8],
        fields_max: usize,
    ) -> Result<Result<Self, Refused>, ConnectionError> {
        let mut head = Self::default();
        let mut pseudo = [None, None, None, None, None];
        let mut lines = 0;
        let mut refused = None;
        qpack::decode(section, |(name, value)| {
            lines += 1;
            if lines > fields_max {
                refused.get_or_insert(Refused::TooManyFields);
            } else if let Err(malformed) = head.take_field(&mut pseudo, &name, &value) {
                refused.get_or_insert(malformed);
            }
        })?;
        if let Some(refused) = refused {
            return Ok(Err(refused));
        }
        Ok(head.complete(pseudo).ok_or(Refused::Malformed))
    }

    fn take_field(
        &mut self,
        pseudo: &mut [Option<String>; 5],
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Refused> {
        if name.first() == Some(&b':') {
            let at = PSEUDO.iter().position(|known| known.as_bytes() == name).ok_or(Refused::Malformed)?;
            // Pseudo-fields come first, and once.
            if !self.fields.is_empty() || pseudo[at].is_some() {
                return Err(Refused::Malformed);
            }
            pseudo[at] = Some(String::from_utf8(value.to_vec()).map_err(|_| Refused::Malformed)?);
            return Ok(());
        }
        if !is_regular_field(name, value) {
            return Err(Refused::Malformed);
        }
        if name == b"cookie"
            && let Some((_, cookies)) = self.fields.iter_mut().find(|(known, _)| known == b"cookie")
        {
            cookies.extend_from_slice(b"; ");
            cookies.extend_from_slice(value);
            return Ok(());
        }
        self.fields.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Checks that the pseudo-fields make a request together.
    fn complete(mut self, pseudo: [Option<String>; 5]) -> Option<Self> {
        let [method, scheme, authority, path, protocol] = pseudo;
        self.method = method.filter(|method| !method.is_empty())?;
        self.authority = match (authority, self.field(b"host")) {
            (Some(authority), Some(host)) if authority.as_bytes() != host => return None,
            (Some(authority), _) => authority,
            (None, host) => String::from_utf8(host.unwrap_or_default().to_vec()).ok()?,
        };
        let is_connect = self.method == "CONNECT";
        match (is_connect, &protocol) {
            (false, Some(_)) => return None,
            // A plain CONNECT names a host and nothing else.
            (true, None) => {
                return (scheme.is_none() && path.is_none() && !self.authority.is_empty()).then_some(self);
            }
            _ => {}
        }
        self.scheme = scheme.filter(|scheme| !scheme.is_empty())?;
        self.path = path.filter(|path| path.starts_with('/') || (path == "*" && self.method == "OPTIONS"))?;
        self.protocol = protocol;
        (!self.authority.is_empty()).then_some(self)
    }

    /// The first field of that name (lower case).
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// All values of fields of that name (lower case), in order.
    pub fn fields<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The length the body must have, if it is told.
    ///
    /// Spec: RFC 9110 section 8.6
    pub(crate) fn content_length(&self) -> Result<Option<u64>, Refused> {
        let mut length = None;
        for value in self.fields(b"content-length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(value).ok().filter(|_| is_number);
            let value = text.and_then(|text| text.parse::<u64>().ok()).ok_or(Refused::Malformed)?;
            if length.replace(value).is_some_and(|before| before != value) {
                return Err(Refused::Malformed);
            }
        }
        Ok(length)
    }
}

/// Checks trailers, which are not looked at otherwise.
///
/// Spec: RFC 9114 section 4.3: no pseudo-fields in trailers
pub(crate) fn check_trailers(section: &[u8]) -> Result<Result<(), Refused>, ConnectionError> {
    let mut is_well_formed = true;
    qpack::decode(section, |(name, value)| is_well_formed &= is_regular_field(&name, &value))?;
    Ok(if is_well_formed { Ok(()) } else { Err(Refused::Malformed) })
}

fn is_regular_field(name: &[u8], value: &[u8]) -> bool {
    let is_connection_specific = CONNECTION_SPECIFIC.iter().any(|known| known.as_bytes() == name)
        || (name == b"te" && value != b"trailers");
    let has_control = value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    !name.is_empty() && name.iter().all(is_token) && !is_connection_specific && !has_control
}

/// What names of fields are made of, which HTTP/3 wants in lower case.
///
/// Spec: RFC 9110 section 5.6.2
fn is_token(byte: &u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(byte)
}

impl ResponseHead {
    /// A head without fields.
    pub fn status(status: u16) -> Self {
        Self { status, fields: Vec::new() }
    }

    /// The field section.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let status = self.status.to_string();
        let mut out = Vec::with_capacity(64);
        let fields = self.fields.iter().map(|(name, value)| (&**name, &**value));
        qpack::encode(std::iter::once((&b":status"[..], status.as_bytes())).chain(fields), &mut out);
        out
    }
}

const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":protocol"];
const CONNECTION_SPECIFIC: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(fields: &[(&str, &str)]) -> Result<RequestHead, Refused> {
        let mut section = Vec::new();
        qpack::encode(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut section);
        RequestHead::decode(&section, 10).unwrap()
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];

    /// A good request, and one for each rule that makes a message malformed.
    #[test]
    fn each_rule_on_fields_holds() {
        let with = |more: &[(&str, &str)]| decode(&[&GET[..], more].concat());
        let head = with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]).unwrap();
        assert_eq!(head.field(b"cookie"), Some(&b"a=1; b=2"[..]));
        let malformed = Err(Refused::Malformed);
        assert_eq!(with(&[("X", "y")]), malformed, "upper case");
        assert_eq!(with(&[("", "y")]), malformed, "no name");
        assert_eq!(with(&[("connection", "close")]), malformed, "connection-specific");
        assert_eq!(with(&[("te", "gzip")]), malformed, "te other than trailers");
        assert_eq!(with(&[("x", "a\nb")]), malformed, "control character");
        assert_eq!(with(&[(":path", "/")]), malformed, "repeated pseudo-field");
        assert_eq!(with(&[("x", "y"), (":protocol", "z")]), malformed, "pseudo-field after a field");
        assert_eq!(with(&[(":unknown", "z")]), malformed, "unknown pseudo-field");
        assert_eq!(with(&[(":protocol", "z")]), malformed, "protocol without CONNECT");
        assert_eq!(decode(&GET[..3]), malformed, "no path");
        assert_eq!(decode(&GET[1..]), malformed, "no method");
        assert_eq!(with(&[("a b", "y")]), malformed, "no token");
        assert_eq!(with(&[("host", "b")]), malformed, "two authorities");
        assert!(with(&[("host", "a")]).is_ok());
        assert!(with(&[("x", "y"); 6]).is_ok());
        assert_eq!(with(&[("x", "y"); 7]), Err(Refused::TooManyFields));
        assert_eq!(with(&[("cookie", "y"); 7]), Err(Refused::TooManyFields), "joined lines count too");
        let length = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            with(&fields).unwrap().content_length()
        };
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["7", "7"]), Ok(Some(7)));
        for wrong in [&["7", "8"][..], &["+7"], &[""], &["99999999999999999999"]] {
            assert_eq!(length(wrong), Err(Refused::Malformed), "{wrong:?}");
        }
        let connect = [(":method", "CONNECT"), (":authority", "a")];
        assert!(decode(&connect).is_ok());
        assert_eq!(decode(&[&connect[..], &[(":protocol", "webtransport")]].concat()), malformed, "no path");
    }
}
