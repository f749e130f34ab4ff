//! Keys that are published: fetched from an endpoint when a token names one, and kept for a while.
//!
//! Tokens are verified with what is kept and never wait here: [`Jwks::is_missing`] tells what has to be fetched first, and
//! [`Jwks::fetch`] does it, once however many tokens want it. What clients send cannot make the endpoint be asked more
//! often than the intervals below.
//!
//! Spec: centrifugal.dev, "Client JWT authentication", JWKS; RFC 7517 section 5.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use http::Uri;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jwk::{Jwk, PublicKey};
use crate::hooks::{ClientTlsError, HttpClient, system_client};

/// How long a document is believed: a withdrawn key counts no longer than that.
const DOCUMENT_TTL: Duration = Duration::from_secs(3600);
/// A key that is not in a document that is believed is looked for again at most this often.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(5);
/// An endpoint that gave no document is asked again at most this often.
const FAILURE_INTERVAL: Duration = Duration::from_secs(1);
/// For one attempt.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Attempts of one fetch.
const FETCH_ATTEMPTS: usize = 2;
/// Bytes of a document at most.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Endpoints with documents at most: claims of tokens may be part of the URL.
const ENDPOINTS_MAX: usize = 256;

/// The keys of one configured endpoint, or of all that its placeholders stand for.
pub(super) struct Jwks {
    template: Template,
    client: HttpClient,
    endpoints: Mutex<HashMap<Box<str>, Arc<Endpoint>>>,
}

/// Names one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyName {
    pub(super) url: Box<str>,
    pub(super) kid: Box<str>,
}

/// What is known of a key.
pub(super) enum Lookup {
    /// It is kept.
    Found(Arc<PublicKey>),
    /// Its endpoint does not have it.
    Unknown,
    /// Its endpoint gave no document a moment ago.
    Unavailable,
    /// Its endpoint has to be asked.
    Missing,
}

struct Endpoint {
    state: Mutex<State>,
    /// Whoever holds it asks the endpoint; those who wait for it find the answer.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    document: Option<Document>,
    asked_at: Option<Instant>,
}

struct Document {
    fetched_at: Instant,
    keys: HashMap<Box<str>, Arc<PublicKey>>,
}

impl Jwks {
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) fn new(endpoint: &str) -> Result<Self, ClientTlsError> {
        Ok(Self { template: Template::new(endpoint), client: system_client()?, endpoints: Mutex::default() })
    }

    /// The URL of the endpoint, with the values of its placeholders; `None` if one has no value, or none that may stand
    /// in a URL.
    pub(super) fn url<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<Box<str>> {
        self.template.fill(value)
    }

    pub(super) fn find(&self, name: &KeyName, now: Instant) -> Lookup {
        match locked(&self.endpoints).get(&name.url) {
            Some(endpoint) => locked(&endpoint.state).find(&name.kid, now),
            None => Lookup::Missing,
        }
    }

    /// True if the key has to be fetched before it can be told whether it exists.
    pub(super) fn is_missing(&self, name: &KeyName) -> bool {
        matches!(self.find(name, Instant::now()), Lookup::Missing)
    }

    /// Asks the endpoint, unless somebody else just did. What comes of it is there to be found.
    ///
    /// # Cancel safety
    /// Dropping the future leaves what is kept as it was.
    pub(super) async fn fetch(&self, name: &KeyName) {
        let Some(endpoint) = self.endpoint(&name.url) else { return };
        let _turn = endpoint.turn.lock().await;
        if !matches!(locked(&endpoint.state).find(&name.kid, Instant::now()), Lookup::Missing) {
            return;
        }
        let mut fetched = Err(String::new());
        for _ in 0..FETCH_ATTEMPTS {
            fetched = self.get(&name.url).await;
            if fetched.is_ok() {
                break;
            }
        }
        if let Err(error) = &fetched {
            tracing::warn!(url = &*name.url, error, "cannot fetch the keys of tokens");
        }
        locked(&endpoint.state).answered(fetched.ok(), Instant::now());
    }

    async fn get(&self, url: &str) -> Result<HashMap<Box<str>, Arc<PublicKey>>, String> {
        let url: Uri = url.parse().map_err(|_| "not a URL".to_owned())?;
        let answer = self.client.get(url, FETCH_TIMEOUT, DOCUMENT_BYTES_MAX).await;
        keys(&answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }

    /// `None` if there are too many already.
    fn endpoint(&self, url: &str) -> Option<Arc<Endpoint>> {
        let mut endpoints = locked(&self.endpoints);
        if let Some(endpoint) = endpoints.get(url) {
            return Some(endpoint.clone());
        }
        if endpoints.len() >= ENDPOINTS_MAX {
            let now = Instant::now();
            // Those that are being asked are held by whoever asks.
            endpoints
                .retain(|_, known| Arc::strong_count(known) > 1 || locked(&known.state).is_believed(now));
        }
        if endpoints.len() >= ENDPOINTS_MAX {
            tracing::warn!(url, "too many endpoints with keys of tokens");
            return None;
        }
        let endpoint = Arc::new(Endpoint { state: Mutex::default(), turn: tokio::sync::Mutex::default() });
        endpoints.insert(url.into(), endpoint.clone());
        Some(endpoint)
    }
}

impl State {
    fn is_believed(&self, now: Instant) -> bool {
        let age = |document: &Document| now.saturating_duration_since(document.fetched_at);
        self.document.as_ref().is_some_and(|document| age(document) < DOCUMENT_TTL)
    }

    fn find(&self, kid: &str, now: Instant) -> Lookup {
        let was_asked_within =
            |interval| self.asked_at.is_some_and(|at| now.saturating_duration_since(at) < interval);
        match &self.document {
            Some(document) if self.is_believed(now) => match document.keys.get(kid) {
                Some(key) => Lookup::Found(key.clone()),
                None if was_asked_within(UNKNOWN_KEY_INTERVAL) => Lookup::Unknown,
                None => Lookup::Missing,
            },
            _ if was_asked_within(FAILURE_INTERVAL) => Lookup::Unavailable,
            _ => Lookup::Missing,
        }
    }

    /// Takes a new document; without one, the old one is believed for as long as it would have been.
    fn answered(&mut self, keys: Option<HashMap<Box<str>, Arc<PublicKey>>>, now: Instant) {
        self.asked_at = Some(now);
        if let Some(keys) = keys {
            self.document = Some(Document { fetched_at: now, keys });
        }
    }
}

/// The usable keys of a document; the others may be for something else.
fn keys(document: &[u8]) -> serde_json::Result<HashMap<Box<str>, Arc<PublicKey>>> {
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let set: Set<'_> = serde_json::from_slice(document)?;
    let keys = set.keys.into_iter().filter_map(|key| {
        let key: Jwk = serde_json::from_str(key.get()).ok()?;
        Some((key.kid.clone().filter(|kid| !kid.is_empty())?, Arc::new(key.prepare()?)))
    });
    Ok(keys.collect())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A URL with placeholders: `{{name}}`.
struct Template {
    /// Text, then a placeholder, in turn; the last has no placeholder.
    pieces: Vec<(Box<str>, Option<Box<str>>)>,
}

impl Template {
    fn new(mut text: &str) -> Self {
        let mut pieces = Vec::new();
        while let Some((before, rest)) = text.split_once("{{")
            && let Some((name, after)) = rest.split_once("}}")
        {
            pieces.push((before.into(), Some(name.trim().into())));
            text = after;
        }
        pieces.push((text.into(), None));
        Self { pieces }
    }

    /// Values come from tokens nobody has verified yet: only what cannot change the meaning of a URL is taken.
    fn fill<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<Box<str>> {
        let is_harmless = |value: &&str| {
            !value.is_empty()
                && !value.contains("..")
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
        };
        let mut url = String::new();
        for (text, placeholder) in &self.pieces {
            url.push_str(text);
            if let Some(name) = placeholder {
                url.push_str(value(name).filter(is_harmless)?);
            }
        }
        Some(url.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(lookup: &Lookup) -> &'static str {
        match lookup {
            Lookup::Found(_) => "found",
            Lookup::Unknown => "unknown",
            Lookup::Unavailable => "unavailable",
            Lookup::Missing => "missing",
        }
    }

    /// When an endpoint is asked again, by a clock that moves only when told: a document counts for an hour however often
    /// it is used, and what is not there is looked for at intervals.
    #[test]
    fn documents_are_asked_for_at_intervals() {
        let document = || {
            let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
            let key =
                format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"a","x":"{x}"}}]}}"#);
            keys(key.as_bytes()).unwrap()
        };
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut state = State::default();
        let find = |state: &State, kid, seconds| name(&state.find(kid, at(seconds)));
        assert_eq!(find(&state, "a", 0.0), "missing");
        state.answered(None, at(0.0));
        assert_eq!((find(&state, "a", 0.9), find(&state, "a", 1.0)), ("unavailable", "missing"));
        state.answered(Some(document()), at(1.0));
        assert_eq!((find(&state, "a", 3600.9), find(&state, "a", 3601.0)), ("found", "missing"));
        assert_eq!((find(&state, "b", 5.9), find(&state, "b", 6.0)), ("unknown", "missing"));
        state.answered(None, at(6.0));
        assert_eq!((find(&state, "b", 10.9), find(&state, "b", 11.0)), ("unknown", "missing"));
        assert_eq!((find(&state, "a", 3600.0), find(&state, "a", 3601.0)), ("found", "missing"));
        state.answered(None, at(3601.0));
        assert_eq!(find(&state, "a", 3601.5), "unavailable", "not believed any more");
    }

    /// Endpoints are bounded, whatever tokens claim: those without keys make room, those with keys stay.
    #[test]
    fn endpoints_are_bounded() {
        let jwks = Jwks::new("http://{{a}}").unwrap();
        for i in 0..ENDPOINTS_MAX {
            let endpoint = jwks.endpoint(&format!("http://{i}")).unwrap();
            if i > 0 {
                locked(&endpoint.state).answered(Some(HashMap::new()), Instant::now());
            }
        }
        assert!(jwks.endpoint("http://new").is_some(), "the first had no keys");
        locked(&jwks.endpoint("http://new").unwrap().state).answered(Some(HashMap::new()), Instant::now());
        assert!(jwks.endpoint("http://newer").is_none());
        assert!(jwks.endpoint("http://1").is_some());
    }

    /// Placeholders, and text that only looks like one.
    #[test]
    fn templates_are_filled() {
        let value = |name: &str| match name {
            "a" => Some("x-1.y"),
            "b" => Some("a/b"),
            _ => None,
        };
        let fill = |text: &str| Template::new(text).fill(value);
        assert_eq!(fill("http://h/keys").as_deref(), Some("http://h/keys"));
        assert_eq!(fill("http://{{a}}/{{ a }}/k").as_deref(), Some("http://x-1.y/x-1.y/k"));
        assert_eq!(fill("http://h/{{a").as_deref(), Some("http://h/{{a"));
        assert_eq!((fill("http://{{b}}"), fill("http://{{c}}")), (None, None));
    }
}
