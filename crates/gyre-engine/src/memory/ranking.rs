//! The entries of a map by score.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use gyre_protocol::Publication;

/// Publications in the order of their scores and, where these are equal, of their keys.
#[derive(Debug, Default)]
pub(super) struct Ranking(BTreeSet<Ranked>);

/// A publication as its score and its key. Nothing else of it is compared, and it costs the index a pointer.
#[derive(Debug)]
struct Ranked(Arc<Publication>);

impl Ranking {
    /// Enters a publication; one of the same key has to be taken out before.
    pub(super) fn insert(&mut self, publication: Arc<Publication>) {
        self.0.replace(Ranked(publication));
    }

    /// Takes a publication out.
    pub(super) fn remove(&mut self, publication: &Arc<Publication>) {
        self.0.remove(&Ranked(publication.clone()));
    }

    /// What follows a cursor, everything for the empty one; `None` if it is no cursor.
    pub(super) fn behind(
        &self,
        cursor: &str,
        ascending: bool,
    ) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        let bounds = match (place(cursor), ascending) {
            (None, _) if cursor.is_empty() => (Unbounded, Unbounded),
            (None, _) => return None,
            (Some(place), true) => (Excluded(place), Unbounded),
            (Some(place), false) => (Unbounded, Excluded(place)),
        };
        let mut range = self.0.range(bounds);
        let next = move || if ascending { range.next() } else { range.next_back() };
        Some(std::iter::from_fn(next).map(|ranked| &ranked.0))
    }

    /// The cursor behind a publication: its score, a colon and its key.
    pub(super) fn cursor(publication: &Publication) -> Box<str> {
        format!("{}:{}", publication.score, publication.key).into()
    }
}

impl FromIterator<Arc<Publication>> for Ranking {
    fn from_iter<I: IntoIterator<Item = Arc<Publication>>>(publications: I) -> Self {
        Self(publications.into_iter().map(Ranked).collect())
    }
}

/// Where a cursor points.
fn place(cursor: &str) -> Option<Ranked> {
    let (score, key) = cursor.split_once(':')?;
    let (score, key) = (score.parse().ok()?, key.into());
    Some(Ranked(Arc::new(Publication { score, key, ..Publication::default() })))
}

impl Ranked {
    fn rank(&self) -> (i64, &str) {
        (self.0.score, &self.0.key)
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Ranked {}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(score: i64, key: &str) -> Arc<Publication> {
        Arc::new(Publication { score, key: key.into(), ..Publication::default() })
    }

    /// Reads on from the cursor of every entry, extremes and colons in keys included, and expects what follows it in
    /// either direction; a cursor whose entry is gone still has its place, and what is none is refused.
    #[test]
    fn cursors_are_places() {
        let places = [
            (i64::MIN, "a"),
            (-5, ":"),
            (0, ""),
            (0, "1:2"),
            (0, "b"),
            (7, "a"),
            (i64::MAX, "z"),
            (i64::MAX, "ä"),
        ];
        let mut ranking: Ranking = places.iter().rev().map(|&(score, key)| publication(score, key)).collect();
        let read = |ranking: &Ranking, cursor: &str, ascending| -> Vec<(i64, String)> {
            let behind = ranking.behind(cursor, ascending).map(|behind| behind.cloned().collect());
            let behind: Vec<Arc<Publication>> = behind.unwrap_or_default();
            behind.iter().map(|publication| (publication.score, publication.key.to_string())).collect()
        };
        let expected = |places: &[(i64, &str)], ascending: bool| {
            let mut places: Vec<_> = places.iter().map(|&(score, key)| (score, key.to_owned())).collect();
            if !ascending {
                places.reverse();
            }
            places
        };
        assert_eq!(read(&ranking, "", true), expected(&places, true));
        assert_eq!(read(&ranking, "", false), expected(&places, false));
        for (index, &(score, key)) in places.iter().enumerate() {
            let entry = publication(score, key);
            let cursor = Ranking::cursor(&entry);
            ranking.remove(&entry);
            assert_eq!(read(&ranking, &cursor, true), expected(&places[index + 1..], true));
            assert_eq!(read(&ranking, &cursor, false), expected(&places[..index], false));
            ranking.insert(entry);
        }
        for cursor in ["k", ":k", "1.5:k", "9223372036854775808:k"] {
            assert!(ranking.behind(cursor, true).is_none(), "{cursor}");
        }
    }
}
