//! Delta compression: a publication as a patch against the one before it.
//!
//! Knows payloads and publications, not who holds what: that is the hub's for live deliveries, and the session's for what
//! is recovered.

#[cfg(test)]
pub(crate) mod apply;
mod fossil;
mod patches;

use gyre_protocol::{Payload, Publication};

pub use fossil::patch;
pub use patches::Patches;

/// The delta algorithm of the protocol.
pub const FOSSIL: &str = "fossil";

/// The publication with a patch against `base` for data; `None` if the patch would not be shorter than the data. Removals
/// are never patched, nor is anything against no data, which JSON carries as `null`.
///
/// Spec: centrifugal.dev, "Delta compression in channels"
pub fn patched(base: &Publication, publication: &Publication) -> Option<Publication> {
    if publication.removed || base.removed || base.data.is_empty() {
        return None;
    }
    let patch = patch(base.data.bytes(), publication.data.bytes())?;
    Some(Publication { data: Payload::new(patch), delta: true, ..publication.clone() })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test is where time comes from")]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;

    fn publication(data: &str) -> Arc<Publication> {
        Arc::new(Publication { data: Payload::new(data.to_owned()), ..Publication::default() })
    }

    /// Each link of a chain gives its data when it is applied to the link before it; what would not be shorter is whole.
    #[test]
    fn chains_can_be_followed() {
        let text = |n: u32| format!("{{\"text\":\"some quite long and constant text\",\"n\":{n}}}");
        let datas = [text(1), text(2), "7".into(), text(3), text(4)];
        let publications: Vec<_> = datas.iter().map(|data| publication(data)).collect();
        let chain = Patches::default().chained(&publications, Instant::now());
        assert_eq!(
            chain.iter().map(|link| link.delta).collect::<Vec<_>>(),
            [false, true, false, false, true]
        );
        let mut held: Vec<u8> = Vec::new();
        for (link, data) in chain.iter().zip(&datas) {
            held = match link.delta {
                true => apply::apply(&held, link.data.bytes()).unwrap(),
                false => link.data.bytes().to_vec(),
            };
            assert_eq!(held, data.as_bytes());
        }
        assert!(Patches::default().chained(&[], Instant::now()).is_empty());
    }

    /// Every key of a map has a chain of its own, which its removal ends.
    #[test]
    fn keys_have_their_own_chains() {
        let change = |key: &str, n: Option<u32>| {
            let text = n.map_or_else(String::new, |n| format!("\"some quite long and constant text {n}\""));
            let data = Payload::new(text);
            Arc::new(Publication { key: key.into(), data, removed: n.is_none(), ..Publication::default() })
        };
        let changes =
            [("a", Some(1)), ("b", Some(2)), ("a", Some(3)), ("a", None), ("a", Some(4)), ("b", Some(5))];
        let changes = changes.map(|(key, n)| change(key, n));
        let chain = Patches::default().chained_by_key(&changes, Instant::now());
        assert_eq!(
            chain.iter().map(|link| link.delta).collect::<Vec<_>>(),
            [false, false, true, false, false, true]
        );
        for (at, base) in [(2, 0), (5, 1)] {
            let data = apply::apply(changes[base].data.bytes(), chain[at].data.bytes()).unwrap();
            assert_eq!(&data[..], changes[at].data.bytes());
        }
    }

    /// A removal has no data to be patched, and is no base.
    #[test]
    fn removals_are_not_patched() {
        let data = publication("\"some quite long and constant text\"");
        let removal = Publication { removed: true, ..(*data).clone() };
        assert!(patched(&data, &data).is_some());
        assert_eq!(patched(&data, &removal), None);
        assert_eq!(patched(&removal, &data), None);
        assert_eq!(patched(&Publication::default(), &data), None, "nothing is no base either");
    }
}
