//! Publications that are not made: repeated keys and old versions.

use std::time::Duration;

use gyre_core::{
    channel::HistoryOptions,
    ports::{IDEMPOTENCY_TTL, NewPublication, PublishOptions, Published},
};
use gyre_protocol::StreamPosition;

use super::fixture::{Fixture, done, history_of, offsets, with_history};

/// A history that outlives the keys.
const HISTORY: HistoryOptions = HistoryOptions {
    ttl: Duration::from_secs(1_000),
    meta_ttl: Duration::from_secs(2_000),
    ..history_of(10)
};
/// The smallest time that engines tell apart.
const TICK: Duration = Duration::from_secs(1);

fn keyed(key: &str, history: Option<HistoryOptions>) -> PublishOptions {
    PublishOptions { history, idempotency_key: key.into(), ..PublishOptions::default() }
}

fn versioned(version: u64, epoch: &str) -> PublishOptions {
    PublishOptions { version, version_epoch: epoch.into(), ..with_history(HISTORY) }
}

/// A key makes one publication: repetitions, with other data, other options, and after other publications, return the
/// first one's position and deliver nothing. Other keys and no key are not touched.
pub fn key_makes_one_publication(fixture: Fixture) {
    let channel = fixture.channel("a");
    let first = fixture.publish(&channel, "1", keyed("k", Some(HISTORY)));
    assert_eq!((first.position.offset, first.is_suppressed), (1, false));
    assert_eq!(fixture.append(&channel, "2", HISTORY), 2);
    assert_eq!(fixture.publish(&channel, "3", keyed("l", Some(HISTORY))).position.offset, 3);
    let again = Published { is_suppressed: true, ..first };
    assert_eq!(fixture.publish(&channel, "1", keyed("k", Some(HISTORY))), again);
    assert_eq!(fixture.publish(&channel, "4", keyed("k", None)), again);
    assert_eq!(
        fixture.publish(&channel, "4", PublishOptions { version: 7, ..keyed("k", Some(HISTORY)) }),
        again
    );
    assert_eq!(offsets(&fixture.delivered_publications(&channel)), [1, 2, 3]);
    let history = fixture.all(&channel, HISTORY);
    assert_eq!((offsets(&history.publications), history.top.offset), (vec![1, 2, 3], 3));
}

/// Keys work without history: the position returned is zero both times.
pub fn key_works_without_history(fixture: Fixture) {
    let channel = fixture.channel("a");
    for is_suppressed in [false, true, true] {
        let published = fixture.publish(&channel, "1", keyed("k", None));
        assert_eq!(published, Published { position: StreamPosition::default(), is_suppressed });
    }
    assert_eq!(fixture.delivered_publications(&channel).len(), 1);
}

/// A key belongs to its channel; names and keys that would be alike if they were put together are not.
pub fn keys_of_channels_are_apart(fixture: Fixture) {
    let pairs = [
        ("a", "k"),
        ("b", "k"),
        ("a_b", "c"),
        ("a", "b_c"),
        ("a.b", "c"),
        ("a", "b.c"),
        ("ab", "c"),
        ("a", "bc"),
    ];
    for is_suppressed in [false, true] {
        for (name, key) in pairs {
            let published = fixture.publish(&fixture.channel(name), "1", keyed(key, None));
            assert_eq!(published.is_suppressed, is_suppressed, "{name} {key}");
        }
    }
}

/// A key is remembered for its time from the publication on, which repetitions do not prolong; then it makes the next
/// publication, and is remembered again as long.
pub fn key_ends(fixture: Fixture) {
    let channel = fixture.channel("a");
    for offset in 1..=2 {
        let first = fixture.publish(&channel, "1", keyed("k", Some(HISTORY)));
        assert_eq!((first.position.offset, first.is_suppressed), (offset, false));
        fixture.advance(IDEMPOTENCY_TTL - TICK);
        let again = fixture.publish(&channel, "1", keyed("k", Some(HISTORY)));
        assert_eq!(again, Published { is_suppressed: true, ..first });
        fixture.advance(TICK);
    }
}

/// A publication is made if its version is above the stream's, or of another epoch, or if it has none; what is not
/// made returns the top and takes no offset. A table, one row after the other on one stream.
///
/// Spec: Centrifugo server API, `publish`, `version` and `version_epoch`.
pub fn version_must_rise(fixture: Fixture) {
    let channel = fixture.channel("a");
    let table: &[(u64, &str, bool)] = &[
        (5, "", true),
        (5, "", false),
        (4, "", false),
        (6, "", true),
        // None leaves the stream's as it is.
        (0, "", true),
        (6, "", false),
        // Of another epoch: any version passes and is the new measure; the empty epoch is compared with any.
        (1, "x", true),
        (1, "x", false),
        (1, "", false),
        (2, "x", true),
        (1, "y", true),
        (2, "x", true),
        // Beyond what a double or a signed number holds exactly.
        ((1 << 53) + 1, "x", true),
        (1 << 53, "x", false),
        ((1 << 53) + 1, "x", false),
        ((1 << 53) + 2, "x", true),
        (u64::MAX - 1, "x", true),
        (u64::MAX, "x", true),
        (u64::MAX, "x", false),
    ];
    let mut top = 0;
    for &(version, epoch, is_made) in table {
        let published = fixture.publish(&channel, "1", versioned(version, epoch));
        top += u64::from(is_made);
        let outcome = (published.position.offset, published.is_suppressed);
        assert_eq!(outcome, (top, !is_made), "version {version} of {epoch:?}");
        assert!(!published.position.epoch.is_empty());
    }
    assert_eq!(offsets(&fixture.delivered_publications(&channel)), (1..=top).collect::<Vec<_>>());

    // The version goes with the position, not with the publications.
    done(fixture.broker.remove_history(&channel));
    fixture.advance(HISTORY.ttl);
    assert!(fixture.publish(&channel, "1", versioned(9, "x")).is_suppressed);
    fixture.advance(HISTORY.meta_ttl);
    assert_eq!(fixture.publish(&channel, "1", versioned(9, "x")).position.offset, 1);
}

/// Without history versions are not looked at, and not remembered.
pub fn version_needs_history(fixture: Fixture) {
    let channel = fixture.channel("a");
    fixture.publish(&channel, "1", versioned(5, ""));
    for _ in 0..2 {
        let options = PublishOptions { history: None, ..versioned(3, "") };
        assert_eq!(fixture.publish(&channel, "1", options), Published::default());
    }
    let options = PublishOptions { history: None, ..versioned(8, "") };
    assert!(!fixture.publish(&channel, "1", options).is_suppressed);
    assert!(!fixture.publish(&channel, "1", versioned(6, "")).is_suppressed);
    assert_eq!(fixture.delivered_publications(&channel).len(), 5);
}

/// A suppressed publication prolongs neither the publications nor the position; for keys and for versions.
pub fn suppressed_publication_keeps_nothing_alive(fixture: Fixture) {
    let short =
        HistoryOptions { ttl: Duration::from_secs(20), meta_ttl: Duration::from_secs(100), ..HISTORY };
    let options = [keyed("k", Some(short)), PublishOptions { history: Some(short), ..versioned(1, "") }];
    for (name, options) in ["key", "version"].into_iter().zip(options) {
        let channel = fixture.channel(name);
        let publish = || {
            let publication = NewPublication::default();
            done(fixture.broker.publish(&channel, publication, options.clone()))
        };
        let first = publish();
        fixture.advance(short.ttl - TICK);
        assert!(publish().is_suppressed);
        fixture.advance(TICK);
        assert!(fixture.all(&channel, short).publications.is_empty(), "{name}");
        fixture.advance(short.meta_ttl - TICK);
        assert!(publish().is_suppressed);
        fixture.advance(TICK);
        assert_ne!(fixture.all(&channel, short).top.epoch, first.position.epoch, "{name}");
    }
}
