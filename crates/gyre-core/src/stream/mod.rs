//! Recovery: whether what was read continues what the client has.

use crate::ports::History;

/// True if `history`, read after offset `since` of the same epoch, holds everything up to the top: nothing was missed,
/// or the first publication follows directly and the last one is the top.
///
/// Spec: centrifuge `client.go` isStreamRecovered.
pub fn is_recovered(since: u64, history: &History) -> bool {
    match (history.publications.first(), history.publications.last()) {
        (Some(first), Some(last)) => first.offset == since + 1 && last.offset == history.top.offset,
        _ => history.top.offset == since,
    }
}

/// True if what was read after `since` has no gap at its start; it need not reach the top.
pub fn continues(since: u64, history: &History) -> bool {
    match history.publications.first() {
        Some(first) => first.offset == since + 1,
        None => history.top.offset == since,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gyre_protocol::{Epoch, Publication, StreamPosition};

    use super::*;

    /// Every way a read can relate to a position: tried one by one.
    #[test]
    fn recovered_only_without_gap_and_up_to_the_top() {
        let read = |offsets: &[u64], top| History {
            publications: offsets
                .iter()
                .map(|&offset| Arc::new(Publication { offset, ..Publication::default() }))
                .collect(),
            top: StreamPosition { offset: top, epoch: Epoch::new("e") },
        };
        assert!(is_recovered(3, &read(&[4, 5], 5)));
        assert!(is_recovered(5, &read(&[], 5)));
        assert!(!is_recovered(2, &read(&[4, 5], 5)), "trimmed");
        assert!(!is_recovered(3, &read(&[4, 5], 6)), "cut by the limit");
        assert!(!is_recovered(7, &read(&[], 5)), "ahead of the top");
    }
}
