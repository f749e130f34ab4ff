//! Objects that several messages share: payloads, publications, client information, positions.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// Application data, carried byte for byte.
///
/// On JSON connections the bytes are embedded as they are (`raw` fields of the protocol), so whether they are JSON is
/// decided once, where they enter, and remembered.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload {
    bytes: Bytes,
    form: PayloadForm,
}

/// A payload in a request, before it is copied out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawPayload<'a> {
    /// A JSON value that a parser has accepted.
    Json(&'a [u8]),
    /// Bytes that nobody has looked at.
    Bytes(&'a [u8]),
}

impl<'a> RawPayload<'a> {
    /// The bytes as they came.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Json(bytes) | Self::Bytes(bytes) => bytes,
        }
    }

    /// True for no bytes at all.
    pub fn is_empty(self) -> bool {
        self.bytes().is_empty()
    }

    /// Copies it; bytes are validated as JSON once.
    pub fn to_payload(self) -> Payload {
        match self {
            Self::Bytes([]) => Payload::default(),
            Self::Json(bytes) => Payload::json(bytes.to_vec()),
            Self::Bytes(bytes) => Payload::new(bytes.to_vec()),
        }
    }
}

impl Default for RawPayload<'_> {
    fn default() -> Self {
        Self::Bytes(&[])
    }
}

/// A JSON value, kept as it is written.
impl<'de: 'a, 'a> serde::Deserialize<'de> for RawPayload<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&serde_json::value::RawValue>::deserialize(deserializer)?;
        Ok(Self::Json(json.get().as_bytes()))
    }
}

/// What is known of a payload's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PayloadForm {
    /// Valid JSON without a raw line feed: may be copied into a JSON line as it is.
    JsonLine,
    /// Valid JSON whose raw line feeds (legal only between tokens) are left out when written into a JSON line.
    JsonWithLineFeeds,
    /// Not JSON, or empty: cannot be sent to a JSON connection.
    #[default]
    Binary,
}

impl Payload {
    /// Wraps bytes of unknown origin; validates them as JSON once.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        match serde_json::from_slice::<&serde_json::value::RawValue>(&bytes) {
            Ok(_) => Self::json(bytes),
            Err(_) => Self { bytes, form: PayloadForm::Binary },
        }
    }

    /// Wraps bytes that a parser has already accepted as one JSON value.
    pub fn json(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let form = match memchr::memchr(b'\n', &bytes) {
            None => PayloadForm::JsonLine,
            Some(_) => PayloadForm::JsonWithLineFeeds,
        };
        Self { bytes, form }
    }

    /// The bytes as they were published.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether and how the bytes may be embedded in JSON.
    pub fn form(&self) -> PayloadForm {
        self.form
    }

    /// True for no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:?}, {:?})", self.form, String::from_utf8_lossy(&self.bytes))
    }
}

/// Names one incarnation of a channel's stream. Two streams of one channel never share an epoch.
///
/// Cheap to clone and to compare: all positions of one stream share the allocation.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Epoch(Option<Arc<str>>);

impl Epoch {
    /// The epoch of that text; the empty text is "no epoch", which matches any.
    pub fn new(text: &str) -> Self {
        Self((!text.is_empty()).then(|| Arc::from(text)))
    }

    /// The text as it travels on the wire; empty for "no epoch".
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// True for "no epoch".
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// True if both name the same incarnation, without looking at the text in the common case.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (None, None) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A place in a channel's stream: the offset of the last publication seen, and the stream it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StreamPosition {
    /// Offset of a publication; the first one has 1; 0 is before all.
    pub offset: u64,
    /// The incarnation the offset counts in.
    pub epoch: Epoch,
}

/// Who published, joined or left.
///
/// Spec: client.proto, ClientInfo. In JSON `user` and `client` are always written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientInfo {
    /// User id; empty for anonymous.
    pub user: Box<str>,
    /// Client id (one per connection).
    pub client: Box<str>,
    /// Information attached to the connection by its token or hook.
    pub conn_info: Payload,
    /// Information attached to the subscription.
    pub chan_info: Payload,
}

/// Tags of a publication in the order given; keys are unique.
pub type Tags = Box<[(Box<str>, Box<str>)]>;

/// One message of a channel.
///
/// Spec: client.proto, Publication. `delta`, the JSON-string form of `data` and the rule that `epoch` rides only on
/// offset 1 belong to the encoder's options, not to the value.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Publication {
    /// Application data.
    pub data: Payload,
    /// The publishing client, if a client published it.
    pub info: Option<Arc<ClientInfo>>,
    /// Offset in the stream; 0 without history.
    pub offset: u64,
    /// Tags for filters.
    pub tags: Tags,
    /// True if `data` is a patch against the previous publication.
    pub delta: bool,
    /// Key (map and shared poll channels); empty elsewhere.
    pub key: Box<str>,
    /// True if the key was removed.
    pub removed: bool,
    /// Ordering of map entries.
    pub score: i64,
    /// Epoch of the stream; on the wire only with offset 1.
    pub epoch: Epoch,
    /// Version (shared poll).
    pub version: u64,
}
