//! How long publications and positions are kept.

use std::time::Duration;

use gyre_core::{
    channel::{ChannelName, HistoryOptions},
    ports::{EngineError, HistoryFilter},
};
use gyre_protocol::StreamPosition;

use super::fixture::{Fixture, done, history_of, offsets, payload, with_history};

const HISTORY: HistoryOptions = history_of(10);
/// The smallest time that engines tell apart.
const TICK: Duration = Duration::from_secs(1);

/// All publications of a stream end when the time to live has passed since the last one, not before and not later.
pub fn publications_end_together(fixture: Fixture) {
    let channel = fixture.channel("a");
    fixture.append(&channel, "1", HISTORY);
    fixture.advance(HISTORY.ttl - TICK);
    fixture.append(&channel, "2", HISTORY);
    fixture.advance(HISTORY.ttl - TICK);
    assert_eq!(offsets(&fixture.all(&channel, HISTORY).publications), [1, 2]);
    fixture.advance(TICK);
    assert!(fixture.all(&channel, HISTORY).publications.is_empty());
}

/// After the publications have ended, top, epoch and the next offset are as if they had not, and what ended does not
/// come back with the next publication.
pub fn position_outlives_the_publications(fixture: Fixture) {
    let channel = fixture.channel("a");
    fixture.append(&channel, "1", HISTORY);
    fixture.append(&channel, "2", HISTORY);
    let top = fixture.all(&channel, HISTORY).top;
    fixture.advance(HISTORY.ttl);
    assert_eq!(fixture.all(&channel, HISTORY).top, top);
    fixture.advance(HISTORY.meta_ttl - TICK);
    assert_eq!(fixture.append(&channel, "3", HISTORY), 3);
    let history = fixture.all(&channel, HISTORY);
    assert_eq!((offsets(&history.publications), history.top.epoch), (vec![3], top.epoch));
}

/// A position is kept for its time to live after the last publication or reading, whichever is later, and by nothing
/// else; then the next stream has another epoch, begins at 1, and refuses the old position.
pub fn publishing_and_reading_keep_the_position(fixture: Fixture) {
    let read = |channel: &ChannelName| fixture.all(channel, HISTORY).top;
    let publish = |channel: &ChannelName| {
        fixture.append(channel, "1", HISTORY);
    };
    let remove = |channel: &ChannelName| done(fixture.broker.remove_history(channel));
    for (name, keeps, keep) in [
        ("publish", true, &publish as &dyn Fn(&ChannelName)),
        ("read", true, &|channel| {
            read(channel);
        }),
        ("remove", false, &remove),
    ] {
        let channel = fixture.channel(name);
        fixture.append(&channel, "1", HISTORY);
        let old = read(&channel);
        fixture.advance(HISTORY.meta_ttl - TICK);
        keep(&channel);
        fixture.advance(TICK);
        // Asked without keeping it alive: a publication tells the epoch as well.
        let position = fixture.publish(&channel, "2", with_history(HISTORY)).position;
        assert_eq!(position.epoch == old.epoch, keeps, "{name}");
        assert_eq!(position.offset == 1, !keeps, "{name}");

        fixture.advance(HISTORY.meta_ttl);
        let new = read(&channel);
        assert_eq!(new.offset, 0, "{name}");
        assert_ne!(new.epoch, position.epoch, "{name}");
        let filter = HistoryFilter { since: Some(old), ..HistoryFilter::default() };
        assert_eq!(fixture.read(&channel, filter, HISTORY.meta_ttl), Err(EngineError::UnrecoverablePosition));
        assert_eq!(fixture.append(&channel, "3", HISTORY), 1);
    }
}

/// Publications do not outlive their position, even if their own time to live is longer: the new stream starts empty.
pub fn position_ends_with_its_publications(fixture: Fixture) {
    let channel = fixture.channel("a");
    let options = HistoryOptions { ttl: HISTORY.meta_ttl, meta_ttl: HISTORY.ttl, ..HISTORY };
    fixture.append(&channel, "1", options);
    let old = fixture.all(&channel, options).top;
    fixture.advance(options.meta_ttl);
    let new = fixture.publish(&channel, "2", with_history(options)).position;
    assert_eq!(new.offset, 1);
    assert_ne!(new.epoch, old.epoch);
    let history = fixture.all(&channel, options);
    assert_eq!(history.top, StreamPosition { offset: 1, epoch: new.epoch });
    assert_eq!(history.publications.len(), 1);
    assert_eq!(history.publications[0].data, payload("2"));
}

/// Reading keeps the position alive, never the publications.
pub fn reading_does_not_keep_publications(fixture: Fixture) {
    let channel = fixture.channel("a");
    fixture.append(&channel, "1", HISTORY);
    fixture.advance(HISTORY.ttl - TICK);
    assert_eq!(fixture.all(&channel, HISTORY).publications.len(), 1);
    fixture.advance(TICK);
    assert_eq!(fixture.all(&channel, HISTORY).publications.len(), 0);
}
