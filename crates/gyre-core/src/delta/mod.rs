//! Delta compression: a publication as a patch against the one before it.
//!
//! Knows payloads and publications, not who holds what: that is the hub's for live deliveries, and the session's for what
//! is recovered.

mod fossil;

use std::sync::Arc;

use gyre_protocol::{Payload, Publication};

pub use fossil::patch;

/// The delta algorithm of the protocol.
pub const FOSSIL: &str = "fossil";

/// The publication with a patch against `base` for data; `None` if the patch would not be shorter than the data. Removals
/// are never patched.
///
/// Spec: centrifugal.dev, "Delta compression in channels"
pub fn patched(base: &Publication, publication: &Publication) -> Option<Publication> {
    if publication.removed || base.removed {
        return None;
    }
    let patch = patch(base.data.bytes(), publication.data.bytes())?;
    Some(Publication { data: Payload::new(patch), delta: true, ..publication.clone() })
}

/// Publications in the order of their stream, each but the first as a patch against the one before it where that is
/// shorter.
pub fn chained(publications: &[Arc<Publication>]) -> Vec<Arc<Publication>> {
    let rest = publications
        .windows(2)
        .map(|pair| patched(&pair[0], &pair[1]).map_or_else(|| pair[1].clone(), Arc::new));
    publications.iter().take(1).cloned().chain(rest).collect()
}
