//! What is kept and how it is read.

use gyre_core::ports::{EngineError, HistoryFilter};
use gyre_protocol::{Epoch, StreamPosition};

use super::fixture::{Fixture, done, history_of, offsets};

/// A stream that was never published to has offset 0 and an epoch, which stays when it is read again and when its first
/// publication comes.
pub fn reading_makes_the_stream_known(fixture: Fixture) {
    let channel = fixture.channel("a");
    let first = fixture.all(&channel, history_of(10));
    assert!(first.publications.is_empty());
    assert_eq!(first.top.offset, 0);
    assert!(!first.top.epoch.is_empty());
    assert_eq!(fixture.all(&channel, history_of(10)).top, first.top);
    assert_eq!(fixture.append(&channel, "1", history_of(10)), 1);
    let then = fixture.all(&channel, history_of(10)).top;
    assert_eq!(then, StreamPosition { offset: 1, epoch: first.top.epoch });
    assert_eq!(fixture.delivered_publications(&channel)[0].epoch, then.epoch);
}

/// Exactly the newest `size` publications are kept, in order; also when the size changes between publications, both
/// ways.
pub fn newest_publications_are_kept(fixture: Fixture) {
    let channel = fixture.channel("a");
    let steps =
        [(3, vec![1]), (3, vec![1, 2]), (3, vec![1, 2, 3]), (3, vec![2, 3, 4]), (5, vec![2, 3, 4, 5])];
    let shrinking = [(5, vec![2, 3, 4, 5, 6]), (2, vec![6, 7]), (1, vec![8]), (2, vec![8, 9])];
    for (size, kept) in steps.into_iter().chain(shrinking) {
        let top = fixture.append(&channel, "1", history_of(size));
        let history = fixture.all(&channel, history_of(size));
        assert_eq!(offsets(&history.publications), kept, "size {size}, top {top}");
        assert_eq!(history.top.offset, top);
    }
}

/// Offset of `since`, `limit`, `reverse`, and the offsets selected.
type Row<'a> = (Option<u64>, Option<usize>, bool, &'a [u64]);

/// Each filter selects what the contract says; a table over a stream that keeps 4 to 8 of 8.
///
/// Spec: Centrifugo client protocol, `HistoryRequest`.
pub fn filters_select(fixture: Fixture) {
    let channel = fixture.channel("a");
    for _ in 0..8 {
        fixture.append(&channel, "1", history_of(5));
    }
    let (all, back): (Vec<u64>, Vec<u64>) = ((4..=8).collect(), (4..=8).rev().collect());
    let table: &[Row<'_>] = &[
        (None, None, false, &all),
        (None, Some(0), false, &[]),
        (None, Some(2), false, &[4, 5]),
        (None, Some(usize::MAX), false, &all),
        (None, None, true, &back),
        (None, Some(0), true, &[]),
        (None, Some(2), true, &[8, 7]),
        (Some(0), None, false, &all),
        (Some(1), Some(2), false, &[4, 5]),
        (Some(3), None, false, &all),
        (Some(4), None, false, &[5, 6, 7, 8]),
        (Some(5), Some(1), false, &[6]),
        (Some(7), None, false, &[8]),
        (Some(8), None, false, &[]),
        (Some(u64::MAX), None, false, &[]),
        (Some(9), None, true, &back),
        (Some(9), Some(2), true, &[8, 7]),
        (Some(8), None, true, &[7, 6, 5, 4]),
        (Some(6), Some(1), true, &[5]),
        (Some(5), None, true, &[4]),
        (Some(4), None, true, &[]),
        (Some(2), None, true, &[]),
        (Some(0), None, true, &[]),
        (Some(10), None, true, &[]),
        (Some(u64::MAX), None, true, &[]),
    ];
    let top = fixture.all(&channel, history_of(5)).top;
    for &(since, limit, reverse, selected) in table {
        for epoch in [Epoch::default(), top.epoch.clone()] {
            let since = since.map(|offset| StreamPosition { offset, epoch });
            let filter = HistoryFilter { since, limit, reverse };
            let read = fixture.read(&channel, filter.clone(), history_of(5).meta_ttl);
            let found = read.map(|history| (offsets(&history.publications), history.top));
            assert_eq!(found, Ok((selected.to_vec(), top.clone())), "{filter:?}");
        }
    }
}

/// A position of another epoch is refused whatever its offset is; on a stream with publications and on one without.
pub fn foreign_epoch_is_refused(fixture: Fixture) {
    for (name, publications) in [("a", 2), ("b", 0)] {
        let channel = fixture.channel(name);
        for _ in 0..publications {
            fixture.append(&channel, "1", history_of(10));
        }
        let top = fixture.all(&channel, history_of(10)).top;
        for (offset, reverse) in [(0, false), (1, false), (2, true), (9, false)] {
            let since = Some(StreamPosition { offset, epoch: Epoch::new("_") });
            let read = fixture.read(
                &channel,
                HistoryFilter { since, limit: None, reverse },
                history_of(10).meta_ttl,
            );
            assert_eq!(read, Err(EngineError::UnrecoverablePosition));
        }
        assert_eq!(fixture.all(&channel, history_of(10)).top, top);
    }
}

/// Removing history takes the publications and nothing else: position, epoch and the next offset are as before. A
/// channel without history may be asked as well.
pub fn removed_history_keeps_the_position(fixture: Fixture) {
    let (channel, unknown) = (fixture.channel("a"), fixture.channel("b"));
    for _ in 0..3 {
        fixture.append(&channel, "1", history_of(10));
    }
    fixture.delivered(&channel);
    let top = fixture.all(&channel, history_of(10)).top;
    for _ in 0..2 {
        done(fixture.broker.remove_history(&channel));
        let removed = fixture.all(&channel, history_of(10));
        assert_eq!((removed.publications.len(), &removed.top), (0, &top));
    }
    assert!(fixture.delivered(&channel).is_empty());
    assert_eq!(fixture.append(&channel, "2", history_of(10)), 4);
    let history = fixture.all(&channel, history_of(10));
    assert_eq!((offsets(&history.publications), history.top.epoch), (vec![4], top.epoch));

    done(fixture.broker.remove_history(&unknown));
    assert_eq!(fixture.all(&unknown, history_of(10)).top.offset, 0);
}
