//! Patches of recovered publications, made once for all who recover the same ones.
//!
//! After a restart or a lost network whole crowds come back to a channel at once, from the same position or nearly so. A
//! thousand of them that missed twenty publications of 1 KB cost 0.2 s of patches if each has its own (9 µs a patch). A
//! link of their chains is a patch between two publications, whoever they are read for, so it is links that are shared. This
//! works with engines that hand out the publications they keep, as the one in memory does; others make new ones for every
//! reading, and nothing is found again.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use gyre_protocol::Publication;
use hashbrown::HashMap;

use super::patched;

/// Links of one shard. One more, and all of them are forgotten.
const LINKS_MAX: usize = 1024;
/// Bytes of data the links of one shard keep in memory, those of the publications included; likewise.
const BYTES_MAX: usize = 4 << 20;
/// How long after their last use links are kept. What comes back after a deploy comes within a few seconds of each other.
const IDLE: Duration = Duration::from_secs(10);

/// Links of recovered chains, as far as they are remembered. Empty where nobody recovers with delta.
#[derive(Debug, Default)]
pub struct Patches(RefCell<Links>);

#[derive(Debug, Default)]
struct Links {
    /// By the addresses of both publications, which stay theirs while the link holds them.
    known: HashMap<(usize, usize), Link>,
    bytes: usize,
    used_at: Option<Instant>,
    /// Patches computed so far.
    #[cfg(test)]
    made: usize,
}

#[derive(Debug)]
struct Link {
    _ends: [Arc<Publication>; 2],
    /// The second of them as it is sent to those who hold the first.
    sent: Arc<Publication>,
}

impl Patches {
    /// Publications in the order of their stream, each but the first as a patch against the one before it where that is
    /// shorter.
    pub fn chained(&self, publications: &[Arc<Publication>], now: Instant) -> Vec<Arc<Publication>> {
        let rest = publications.windows(2).map(|pair| self.link(&pair[0], &pair[1], now));
        publications.iter().take(1).cloned().chain(rest).collect()
    }

    /// The same of changes of a map: each but the first of its key as a patch against the one of the key before it.
    pub fn chained_by_key(&self, changes: &[Arc<Publication>], now: Instant) -> Vec<Arc<Publication>> {
        let mut last: HashMap<&str, &Arc<Publication>> = HashMap::new();
        let mut links = Vec::with_capacity(changes.len());
        for change in changes {
            let base = last.insert(&change.key, change);
            links.push(base.map_or_else(|| change.clone(), |base| self.link(base, change, now)));
        }
        links
    }

    /// Forgets everything if nothing was used for a while.
    pub fn expire(&self, now: Instant) {
        let mut links = self.0.borrow_mut();
        if links.used_at.is_some_and(|at| now.saturating_duration_since(at) >= IDLE) {
            *links = Links::default();
        }
    }

    fn link(
        &self,
        base: &Arc<Publication>,
        publication: &Arc<Publication>,
        now: Instant,
    ) -> Arc<Publication> {
        let mut links = self.0.borrow_mut();
        links.used_at = Some(now);
        let addresses = (Arc::as_ptr(base).addr(), Arc::as_ptr(publication).addr());
        if let Some(link) = links.known.get(&addresses) {
            return link.sent.clone();
        }
        let sent = patched(base, publication).map_or_else(|| publication.clone(), Arc::new);
        #[cfg(test)]
        {
            links.made += 1;
        }
        let bytes = [base, publication, &sent].map(|end| end.data.bytes().len()).iter().sum();
        if links.known.len() >= LINKS_MAX || links.bytes.saturating_add(bytes) > BYTES_MAX {
            links.known = HashMap::new();
            links.bytes = 0;
        }
        if bytes <= BYTES_MAX {
            links.bytes += bytes;
            let link = Link { _ends: [base.clone(), publication.clone()], sent: sent.clone() };
            links.known.insert(addresses, link);
        }
        sent
    }

    /// Patches computed so far.
    #[cfg(test)]
    pub(crate) fn made(&self) -> usize {
        self.0.borrow().made
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test is where time comes from")]
mod tests {
    use gyre_protocol::Payload;

    use super::*;

    fn publications(range: std::ops::Range<usize>, length: usize) -> Vec<Arc<Publication>> {
        let text = "x".repeat(length);
        range
            .map(|n| Payload::new(format!("{{\"text\":\"{text}\",\"n\":{n}}}")))
            .map(|data| Arc::new(Publication { data, ..Publication::default() }))
            .collect()
    }

    /// A thousand who recover twenty publications cost nineteen patches, from whichever position they come; equal data of
    /// other publications are not taken for them; and what was unused for a while costs as much again.
    #[test]
    fn a_crowd_costs_one_chain() {
        let (patches, now) = (Patches::default(), Instant::now());
        let missed = publications(0..20, 100);
        let whole = patches.chained(&missed, now);
        assert!(whole[1..].iter().all(|link| link.delta));
        for reader in 0..1000 {
            let since = reader % 20;
            let chain = patches.chained(&missed[since..], now);
            assert!(Arc::ptr_eq(&chain[0], &missed[since]));
            assert!(chain[1..].iter().zip(&whole[since + 1..]).all(|(link, other)| Arc::ptr_eq(link, other)));
        }
        assert_eq!(patches.made(), 19);
        assert_eq!(patches.chained_by_key(&missed, now), whole);
        assert_eq!(patches.made(), 19, "maps and streams have the same links");
        patches.chained(&publications(0..20, 100), now);
        assert_eq!(patches.made(), 38);
        patches.expire(now + IDLE - Duration::from_secs(1));
        assert_eq!(patches.0.borrow().known.len(), 38);
        patches.expire(now + IDLE);
        assert_eq!(patches.0.borrow().known.capacity(), 0);
        assert_eq!(patches.chained(&missed, now), whole);
    }

    /// However many links are asked for, and however large ones, what is kept stays within its bounds.
    #[test]
    fn what_is_kept_is_bounded() {
        let (patches, now) = (Patches::default(), Instant::now());
        for (round, length) in [(0..3 * LINKS_MAX, 10), (0..12, BYTES_MAX / 5), (0..2, BYTES_MAX)] {
            patches.chained(&publications(round, length), now);
            let links = patches.0.borrow();
            assert!(links.known.len() <= LINKS_MAX && links.bytes <= BYTES_MAX);
            let kept: usize = links.known.values().map(|link| link.sent.data.bytes().len()).sum();
            assert!(kept <= links.bytes);
        }
    }
}
