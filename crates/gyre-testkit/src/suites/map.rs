//! Keyed state and the stream of its changes.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, time::Duration};

use gyre_core::{
    channel::{ChannelName, HistoryOptions, MapOrder, MapRetention, MapStorage},
    ports::{
        ChannelEvent, EngineError, HistoryFilter, KeyMode, MapPublished, MapState, NewEntry, StateFilter,
        Suppression,
    },
};
use gyre_protocol::{Publication, StreamPosition};

use super::fixture::{Fixture, answered, done, offsets, payload};

const KEY_TTL: Duration = Duration::from_secs(30);
const STREAM: HistoryOptions = HistoryOptions {
    size: NonZeroUsize::new(100).unwrap(),
    ttl: Duration::from_secs(20),
    meta_ttl: Duration::from_secs(60),
};
const EPHEMERAL: MapStorage = MapStorage::by_key(MapRetention::Ephemeral { key_ttl: KEY_TTL });
const RECOVERABLE: MapStorage =
    MapStorage::by_key(MapRetention::Recoverable { key_ttl: KEY_TTL, stream: STREAM });
const PERSISTENT: MapStorage = MapStorage::by_key(MapRetention::Persistent {
    stream: HistoryOptions { meta_ttl: Duration::MAX, ..STREAM },
});

fn set(fixture: &Fixture, channel: &ChannelName, key: &str, data: &str, storage: MapStorage) -> MapPublished {
    publish(fixture, channel, entry(key, data), storage)
}

fn publish(fixture: &Fixture, channel: &ChannelName, entry: NewEntry, storage: MapStorage) -> MapPublished {
    done(fixture.maps.publish(channel, entry, storage))
}

fn entry(key: &str, data: &str) -> NewEntry {
    NewEntry { key: key.into(), data: payload(data), ..NewEntry::default() }
}

fn remove(fixture: &Fixture, channel: &ChannelName, key: &str, storage: MapStorage) -> MapPublished {
    done(fixture.maps.remove(channel, key, Box::default(), storage))
}

fn page(
    fixture: &Fixture,
    channel: &ChannelName,
    cursor: &str,
    limit: Option<usize>,
    storage: MapStorage,
) -> MapState {
    let filter = StateFilter::Page { cursor: cursor.into(), limit, ascending: false };
    done(fixture.maps.read_state(channel, filter, storage))
}

/// Keys and data of the whole state.
fn state(fixture: &Fixture, channel: &ChannelName, storage: MapStorage) -> Vec<(String, String)> {
    let entries = page(fixture, channel, "", None, storage).entries;
    entries.iter().map(|entry| (entry.key.to_string(), text(entry))).collect()
}

fn text(publication: &Publication) -> String {
    String::from_utf8_lossy(publication.data.bytes()).into_owned()
}

fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(key, data)| (key.into(), data.into())).collect()
}

/// Everything delivered to a channel of maps, which is over after that.
fn delivered(fixture: &Fixture, channel: &ChannelName) -> Vec<Arc<Publication>> {
    done(fixture.maps.clear(channel));
    let change = |event| match event {
        ChannelEvent::Publication(publication) => publication,
        other => panic!("only changes were made, {other:?} was delivered"),
    };
    fixture.sink.take_until(channel, &ChannelEvent::Lost).into_iter().map(change).collect()
}

/// A change that is to be delivered as a delta brings along what its key was before, if it was anything; other changes
/// bring nothing, and neither does one whose key is new, was removed or has ended meanwhile.
pub fn bases_come_along(fixture: Fixture) {
    for (name, storage) in [("r", RECOVERABLE), ("e", EPHEMERAL)] {
        let channel = fixture.channel(name);
        done(fixture.maps.subscribe(&channel));
        let delta = |key: &str, data: &str, delta| {
            publish(&fixture, &channel, NewEntry { delta, ..entry(key, data) }, storage)
        };
        delta("a", "1", true);
        delta("b", "2", true);
        delta("a", "3", false);
        let before = page(&fixture, &channel, "", None, storage).entries;
        delta("a", "4", true);
        remove(&fixture, &channel, "b", storage);
        delta("b", "5", true);
        fixture.advance(KEY_TTL);
        delta("a", "6", true);
        done(fixture.maps.clear(&channel));
        let events = fixture.sink.take_until(&channel, &ChannelEvent::Lost);
        let set = |event: &ChannelEvent| match event {
            ChannelEvent::Publication(publication) if publication.removed => None,
            ChannelEvent::Publication(publication) => Some((text(publication), None)),
            ChannelEvent::DeltaChange { publication, base } => Some((text(publication), Some(base.clone()))),
            other => panic!("only changes were made, {other:?} was delivered"),
        };
        let sets: Vec<_> = events.iter().filter_map(set).collect();
        let expected = ["1", "2", "3", "4", "5", "6"].map(|data| match data {
            "4" => (data.to_owned(), Some(before[0].clone())),
            _ => (data.to_owned(), None),
        });
        assert_eq!(sets, expected);
    }
}

/// A change is in state, in the stream and delivered, with one position; for every mode, by publications, replacements
/// and removals.
pub fn changes_are_in_state_and_stream(fixture: Fixture) {
    for (name, storage) in [("r", RECOVERABLE), ("p", PERSISTENT), ("e", EPHEMERAL)] {
        let channel = fixture.channel(name);
        done(fixture.maps.subscribe(&channel));
        let positions = [
            set(&fixture, &channel, "b", "1", storage),
            set(&fixture, &channel, "a", "2", storage),
            set(&fixture, &channel, "b", "3", storage),
            remove(&fixture, &channel, "a", storage),
        ];
        assert!(positions.iter().all(|published| published.suppressed.is_none()));
        let has_stream = storage.stream().is_some();
        let expected: Vec<u64> = if has_stream { vec![1, 2, 3, 4] } else { vec![0; 4] };
        assert_eq!(positions.iter().map(|p| p.position.offset).collect::<Vec<_>>(), expected);
        assert_eq!(state(&fixture, &channel, storage), of(&[("b", "3")]));
        assert_eq!(done(fixture.maps.key_count(&channel)), 1);
        let read = answered(fixture.maps.read_stream(&channel, HistoryFilter::default(), storage));
        let changes = delivered(&fixture, &channel);
        let keys: Vec<_> = changes.iter().map(|change| (&*change.key, change.removed)).collect();
        assert_eq!(keys, [("b", false), ("a", false), ("b", false), ("a", true)]);
        assert_eq!(offsets(&changes), expected);
        match has_stream {
            true => {
                let read = read.unwrap_or_else(|error| panic!("the engine failed: {error}"));
                assert_eq!((read.publications, read.top), (changes, positions[3].position.clone()));
            }
            false => assert_eq!(read, Err(EngineError::NotAvailable)),
        }
    }
}

/// Pages of any size cover the state in the order of keys, each key once, and say which is the last; one key can be read
/// alone; nothing is read for limit 0.
pub fn pages_cover_the_state(fixture: Fixture) {
    let channel = fixture.channel("m");
    let keys: Vec<String> = (0..10).map(|number| format!("k{number}")).collect();
    for key in keys.iter().rev() {
        set(&fixture, &channel, key, "1", RECOVERABLE);
    }
    for limit in [1, 3, 5, 10, 20] {
        let (mut seen, mut cursor) = (Vec::new(), Box::default());
        loop {
            let page = page(&fixture, &channel, &cursor, Some(limit), RECOVERABLE);
            assert_eq!(page.position.offset, 10);
            seen.extend(page.entries.iter().map(|entry| entry.key.to_string()));
            cursor = page.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(seen, keys, "pages of {limit}");
    }
    let one = done(fixture.maps.read_state(&channel, StateFilter::Key("k3".into()), RECOVERABLE));
    assert_eq!(one.entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["k3"]);
    let none = page(&fixture, &channel, "", Some(0), RECOVERABLE);
    assert!(none.entries.is_empty() && none.cursor.is_empty() && none.position == one.position);
}

/// Every condition suppresses what it must, changes nothing then, and is asked in its order.
pub fn conditions_suppress(fixture: Fixture) {
    let channel = fixture.channel("m");
    let with = |change: &dyn Fn(&mut NewEntry)| {
        let mut entry = entry("k", "2");
        change(&mut entry);
        publish(&fixture, &channel, entry, RECOVERABLE)
    };
    let exists = with(&|entry| entry.key_mode = KeyMode::IfExists);
    assert_eq!(exists.suppressed, Some(Suppression::KeyNotFound));
    let first = with(&|entry| {
        entry.key_mode = KeyMode::IfNew;
        entry.version = 5;
        entry.idempotency_key = "i".into();
    });
    assert_eq!((first.position.offset, first.suppressed), (1, None));
    let suppressed = [
        (with(&|entry| entry.key_mode = KeyMode::IfNew), Suppression::KeyExists),
        (with(&|entry| entry.key_mode = KeyMode::IfNewOrRenew), Suppression::KeyExists),
        (with(&|entry| entry.version = 5), Suppression::Version),
        (
            with(&|entry| {
                entry.version = 4;
                entry.key_mode = KeyMode::IfNew;
            }),
            Suppression::Version,
        ),
        (
            with(&|entry| {
                entry.idempotency_key = "i".into();
                entry.version = 4;
            }),
            Suppression::Idempotency,
        ),
        (remove(&fixture, &channel, "other", RECOVERABLE), Suppression::KeyNotFound),
    ];
    for (published, reason) in suppressed {
        assert_eq!(published, MapPublished { position: first.position.clone(), suppressed: Some(reason) });
    }
    assert_eq!(with(&|_| {}).position.offset, 2, "no version is no condition");
    assert_eq!(
        with(&|entry| entry.version = 5).suppressed,
        Some(Suppression::Version),
        "and keeps the key's"
    );
    assert_eq!(
        with(&|entry| {
            entry.version = 1;
            entry.version_epoch = "other".into();
        })
        .suppressed,
        None
    );
    let versioned = NewEntry { version: 1, ..entry("k", "1") };
    let refused = answered(fixture.maps.publish(&fixture.channel("e"), versioned, EPHEMERAL));
    assert_eq!(refused, Err(EngineError::NotAvailable));
}

/// A key is seen until its time has passed since it was last set or renewed, and its end is one removal before whatever
/// comes next of it.
pub fn keys_end(fixture: Fixture) {
    for (name, storage) in [("r", RECOVERABLE), ("e", EPHEMERAL)] {
        let channel = fixture.channel(name);
        done(fixture.maps.subscribe(&channel));
        set(&fixture, &channel, "a", "1", storage);
        set(&fixture, &channel, "b", "1", storage);
        fixture.advance(KEY_TTL - Duration::from_secs(1));
        let renewal = NewEntry { key_mode: KeyMode::IfNewOrRenew, ..entry("b", "9") };
        assert!(publish(&fixture, &channel, renewal, storage).suppressed.is_some());
        assert_eq!(state(&fixture, &channel, storage), of(&[("a", "1"), ("b", "1")]));
        fixture.advance(Duration::from_secs(1));
        assert_eq!(state(&fixture, &channel, storage), of(&[("b", "1")]));
        assert_eq!(done(fixture.maps.key_count(&channel)), 1);
        let is_new = NewEntry { key_mode: KeyMode::IfNew, ..entry("a", "2") };
        assert_eq!(publish(&fixture, &channel, is_new, storage).suppressed, None);
        let changes = delivered(&fixture, &channel);
        let keys: Vec<_> = changes.iter().map(|change| (&*change.key, change.removed)).collect();
        assert_eq!(keys, [("a", false), ("b", false), ("a", true), ("a", false)], "{name}");
    }
    let channel = fixture.channel("p");
    set(&fixture, &channel, "a", "1", PERSISTENT);
    fixture.advance(1000 * KEY_TTL);
    assert_eq!(state(&fixture, &channel, PERSISTENT), of(&[("a", "1")]));
}

/// Changes are kept as a stream's publications are; a map without keys is over with its position, and one that was
/// cleared at once: the next has another epoch, and the old position leads nowhere.
pub fn maps_begin_anew(fixture: Fixture) {
    let channel = fixture.channel("m");
    let old = set(&fixture, &channel, "a", "1", RECOVERABLE).position;
    let since =
        |position: &StreamPosition| HistoryFilter { since: Some(position.clone()), ..Default::default() };
    let start = StreamPosition { offset: 0, epoch: old.epoch.clone() };
    assert_eq!(done(fixture.maps.read_stream(&channel, since(&start), RECOVERABLE)).publications.len(), 1);
    fixture.advance(STREAM.ttl);
    let read = done(fixture.maps.read_stream(&channel, since(&start), RECOVERABLE));
    assert_eq!((read.publications.len(), read.top), (0, old.clone()), "the position outlives the changes");
    done(fixture.maps.clear(&channel));
    assert!(state(&fixture, &channel, RECOVERABLE).is_empty());
    let refused = answered(fixture.maps.read_stream(&channel, since(&old), RECOVERABLE));
    assert_eq!(refused, Err(EngineError::UnrecoverablePosition));
    let new = set(&fixture, &channel, "a", "1", RECOVERABLE).position;
    assert_eq!(new.offset, 1);
    assert_ne!(new.epoch, old.epoch);
    remove(&fixture, &channel, "a", RECOVERABLE);
    fixture.advance(STREAM.meta_ttl);
    assert_ne!(set(&fixture, &channel, "a", "1", RECOVERABLE).position.epoch, new.epoch);
}

const BY_SCORE: MapStorage = MapStorage { order: MapOrder::Score, ..RECOVERABLE };

fn scored(fixture: &Fixture, channel: &ChannelName, key: &str, score: i64) {
    publish(fixture, channel, NewEntry { score, ..entry(key, "1") }, BY_SCORE);
}

fn ranked(entries: &[Arc<Publication>]) -> Vec<(i64, String)> {
    entries.iter().map(|entry| (entry.score, entry.key.to_string())).collect()
}

/// All pages of so many entries, one after the other; `between` is called before each but the first.
fn pages(
    fixture: &Fixture,
    channel: &ChannelName,
    (limit, ascending): (usize, bool),
    mut between: impl FnMut(),
) -> Vec<Arc<Publication>> {
    let (mut seen, mut cursor) = (Vec::new(), Box::default());
    loop {
        let filter = StateFilter::Page { cursor, limit: Some(limit), ascending };
        let page = done(fixture.maps.read_state(channel, filter, BY_SCORE));
        seen.extend(page.entries);
        cursor = page.cursor;
        if cursor.is_empty() {
            return seen;
        }
        between();
    }
}

/// Pages of any size of an ordered map cover the state by score and key, in either direction, extremes and equal scores
/// included, after scores have changed and keys have gone; entries carry their score wherever they are read, in a map
/// that is not ordered as well, and one becomes ordered when its options say so.
pub fn pages_follow_scores(fixture: Fixture) {
    let channel = fixture.channel("m");
    done(fixture.maps.subscribe(&channel));
    let scores =
        [("a", 0), ("f", i64::MIN), ("b", -1), ("g", i64::MAX), ("c", 5), ("d", 5), ("x", 6), ("e", -1)];
    for (key, score) in scores {
        let storage = if key < "d" { RECOVERABLE } else { BY_SCORE };
        publish(&fixture, &channel, NewEntry { score, ..entry(key, "1") }, storage);
    }
    scored(&fixture, &channel, "a", 7);
    remove(&fixture, &channel, "x", BY_SCORE);
    let mut expected: Vec<_> =
        [(i64::MIN, "f"), (-1, "b"), (-1, "e"), (5, "c"), (5, "d"), (7, "a"), (i64::MAX, "g")]
            .map(|(score, key)| (score, key.to_owned()))
            .into();
    for ascending in [true, false] {
        for limit in [1, 2, 3, 7, 100] {
            let seen = pages(&fixture, &channel, (limit, ascending), || {});
            assert_eq!(ranked(&seen), expected, "pages of {limit}");
        }
        expected.reverse();
    }
    let by_key = ranked(&page(&fixture, &channel, "", None, RECOVERABLE).entries);
    expected.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(by_key, expected);
    let read = done(fixture.maps.read_stream(&channel, HistoryFilter::default(), RECOVERABLE));
    let changes = delivered(&fixture, &channel);
    assert_eq!(read.publications, changes);
    let sets: Vec<_> = changes.iter().filter(|change| !change.removed).cloned().collect();
    let published = scores.iter().chain(&[("a", 7)]).map(|&(key, score)| (score, key.to_owned()));
    assert_eq!(ranked(&sets), published.collect::<Vec<_>>());
}

/// Between pages the entry of the cursor goes, others come, go, end and change their score, forwards and backwards: what
/// did not change is read once and in order, and what did is in the stream.
pub fn pages_survive_changes(fixture: Fixture) {
    for ascending in [true, false] {
        let channel = fixture.channel(if ascending { "up" } else { "down" });
        for number in 0..20 {
            scored(&fixture, &channel, &format!("k{number:02}"), number / 2);
        }
        let mut changed = Vec::new();
        let mut step = 0;
        let seen = pages(&fixture, &channel, (3, ascending), || {
            step += 1;
            let from_start = if ascending { step * 3 - 1 } else { 20 - step * 3 };
            let cursor = format!("k{from_start:02}");
            match step {
                1 => drop(remove(&fixture, &channel, &cursor, BY_SCORE)),
                2 => scored(&fixture, &channel, &cursor, i64::MIN),
                3 => scored(&fixture, &channel, &cursor, i64::MAX),
                _ => scored(&fixture, &channel, "new", 5),
            }
            changed.push(if step > 3 { "new".to_owned() } else { cursor });
        });
        let unchanged = ranked(&seen).into_iter().filter(|(_, key)| !changed.contains(key));
        let mut expected: Vec<_> = (0..20)
            .map(|number| (number / 2, format!("k{number:02}")))
            .filter(|(_, key)| !changed.contains(key))
            .collect();
        if !ascending {
            expected.reverse();
        }
        assert_eq!(unchanged.collect::<Vec<_>>(), expected);
        let told: Vec<_> = seen.iter().filter(|entry| entry.offset <= 20).map(|entry| &entry.key).collect();
        let mut once = told.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), told.len(), "nothing of before the first page is read twice");
        fixture.advance(KEY_TTL);
        assert!(pages(&fixture, &channel, (3, ascending), || {}).is_empty());
    }
    let filter = StateFilter::Page { cursor: "key".into(), limit: Some(1), ascending: false };
    let foreign = answered(fixture.maps.read_state(&fixture.channel("up"), filter, BY_SCORE));
    assert_eq!(foreign, Err(EngineError::UnrecoverablePosition));
}

const THREADS: usize = 4;
const CHANGES: usize = 200;

/// Changes made on many threads reach the sink in the order of their offsets, and replayed in it they give the state.
pub fn concurrent_changes_have_one_order(fixture: Fixture) {
    let channel = fixture.channel("m");
    done(fixture.maps.subscribe(&channel));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (fixture, channel) = (&fixture, &channel);
            scope.spawn(move || {
                for number in 0..CHANGES {
                    let key = format!("k{}", (thread + number) % 7);
                    match number % 5 {
                        4 => drop(remove(fixture, channel, &key, RECOVERABLE)),
                        _ => drop(set(fixture, channel, &key, &format!("[{thread},{number}]"), RECOVERABLE)),
                    }
                }
            });
        }
    });
    let kept = state(&fixture, &channel, RECOVERABLE);
    let changes = delivered(&fixture, &channel);
    assert_eq!(offsets(&changes), (1..=changes.len() as u64).collect::<Vec<_>>());
    let mut replayed = BTreeMap::new();
    for change in &changes {
        match change.removed {
            true => replayed.remove(&change.key),
            false => replayed.insert(change.key.clone(), text(change)),
        };
    }
    let replayed: Vec<_> = replayed.into_iter().map(|(key, data)| (key.to_string(), data)).collect();
    assert_eq!(replayed, kept);
}
