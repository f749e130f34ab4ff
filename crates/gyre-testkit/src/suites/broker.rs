//! Publishing and delivery.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use bytes::Bytes;
use gyre_core::{
    channel::ChannelName,
    ports::{ChannelEvent, NewPublication, PresenceEvent, PublishOptions},
};
use gyre_protocol::{ClientInfo, Payload, Publication, StreamPosition};

use super::fixture::{Fixture, client, done, history_of, offsets, payload, with_history};

/// Subscribing and unsubscribing may be repeated, and a channel delivers after every subscribing; publishes after each
/// step that leaves it subscribed.
pub fn subscribed_channel_delivers(fixture: Fixture) {
    let channel = fixture.channel("a");
    done(fixture.broker.subscribe(&channel));
    fixture.publish(&channel, "1", PublishOptions::default());
    assert_eq!(fixture.delivered_publications(&channel).len(), 1);
    done(fixture.broker.unsubscribe(&channel));
    done(fixture.broker.unsubscribe(&channel));
    done(fixture.broker.subscribe(&channel));
    fixture.publish(&channel, "2", PublishOptions::default());
    let delivered = fixture.delivered_publications(&channel);
    assert_eq!(delivered.last().map(|publication| publication.data.clone()), Some(payload("2")));
}

/// Data of any bytes, the publisher and tags arrive unchanged, live and from history, with the position the publisher
/// was told; JSON, not JSON, and nothing at all.
pub fn publication_arrives_as_it_was_made(fixture: Fixture) {
    let channel = fixture.channel("a");
    let info = ClientInfo {
        conn_info: payload("{\"n\": 1}"),
        chan_info: payload("2"),
        ..ClientInfo::clone(&client("c", "u"))
    };
    let datas =
        [payload("{\"a\": [1,\n2]}"), Payload::new(Bytes::from_static(b"\0\xff__\n")), Payload::default()];
    let mut made = Vec::new();
    for data in datas {
        let new = NewPublication {
            data,
            info: Some(info.clone().into()),
            tags: [("b".into(), "2".into()), ("a".into(), "".into())].into(),
        };
        let published = done(fixture.broker.publish(&channel, new.clone(), with_history(history_of(10))));
        assert!(!published.is_suppressed);
        made.push(Publication {
            data: new.data,
            info: new.info,
            tags: new.tags,
            offset: published.position.offset,
            epoch: published.position.epoch,
            ..Publication::default()
        });
    }
    assert!(made.iter().all(|publication| !publication.epoch.is_empty()));
    let owned = |publications: Vec<Arc<Publication>>| -> Vec<Publication> {
        publications.iter().map(|publication| Publication::clone(publication)).collect()
    };
    assert_eq!(owned(fixture.delivered_publications(&channel)), made);
    assert_eq!(owned(fixture.all(&channel, history_of(10)).publications), made);
}

/// A publication without history is delivered and leaves no trace; alone, and between two with history.
pub fn publication_without_history_has_no_position(fixture: Fixture) {
    let channel = fixture.channel("a");
    let published = fixture.publish(&channel, "1", PublishOptions::default());
    assert_eq!(published.position, StreamPosition::default());
    let delivered = fixture.delivered_publications(&channel);
    assert_eq!(offsets(&delivered), [0]);
    assert!(delivered[0].epoch.is_empty());
    assert_eq!(fixture.all(&channel, history_of(10)).top.offset, 0);

    fixture.append(&channel, "2", history_of(10));
    assert_eq!(fixture.publish(&channel, "3", PublishOptions::default()).position, StreamPosition::default());
    fixture.append(&channel, "4", history_of(10));
    assert_eq!(offsets(&fixture.delivered_publications(&channel)), [1, 0, 2]);
    assert_eq!(offsets(&fixture.all(&channel, history_of(10)).publications), [1, 2]);
}

const PUBLISHERS: usize = 8;
const PUBLICATIONS: usize = 250;

/// Publishers on many threads get every offset from 1 exactly once, all of one epoch, and what is delivered has exactly
/// that order and lies in history in it; each thread's own order is kept, and two channels do not disturb each other.
pub fn concurrent_publications_have_one_order(fixture: Fixture) {
    let channels = [fixture.channel("a"), fixture.channel("b")];
    let history = history_of(PUBLISHERS * PUBLICATIONS);
    let start = Barrier::new(PUBLISHERS);
    let publish = |publisher: usize| -> Vec<[(String, StreamPosition); 2]> {
        start.wait();
        let one = |number: usize| {
            [0, 1].map(|index| {
                let data = format!("[{publisher},{number}]");
                let position = fixture.publish(&channels[index], &data, with_history(history)).position;
                (data, position)
            })
        };
        (0..PUBLICATIONS).map(one).collect()
    };
    let published: Vec<_> = thread::scope(|scope| {
        let publish = &publish;
        let running: Vec<_> =
            (0..PUBLISHERS).map(|publisher| scope.spawn(move || publish(publisher))).collect();
        running
            .into_iter()
            .flat_map(|publisher| publisher.join().unwrap_or_else(|_| panic!("a publisher failed")))
            .collect()
    });
    for (index, channel) in channels.iter().enumerate() {
        let published = published.iter().map(|both| both[index].clone()).collect();
        check_order(&fixture, channel, published);
    }
}

fn check_order(fixture: &Fixture, channel: &ChannelName, mut published: Vec<(String, StreamPosition)>) {
    for thread in published.chunks(PUBLICATIONS) {
        assert!(thread.is_sorted_by_key(|(_, position)| position.offset), "publications overtook each other");
    }
    published.sort_by_key(|(_, position)| position.offset);
    let delivered = fixture.delivered_publications(channel);
    assert_eq!(offsets(&delivered), (1..=(PUBLISHERS * PUBLICATIONS) as u64).collect::<Vec<_>>());
    let epoch = &published[0].1.epoch;
    for ((data, position), publication) in published.iter().zip(&delivered) {
        assert_eq!((position.offset, &position.epoch), (publication.offset, epoch));
        assert_eq!((&publication.data, &publication.epoch), (&payload(data), epoch));
    }
    assert_eq!(fixture.all(channel, history_of(PUBLISHERS * PUBLICATIONS)).publications, delivered);
}

/// Whether the publisher wants patches travels with the publication, in the history and outside of it, and changes nothing
/// else.
pub fn wish_for_delta_arrives(fixture: Fixture) {
    let channel = fixture.channel("a");
    for (i, delta) in [true, false, true].into_iter().enumerate() {
        for history in [None, Some(history_of(10))] {
            fixture.publish(&channel, "1", PublishOptions { delta, history, ..PublishOptions::default() });
            let (publication, wished) = match &*fixture.delivered(&channel) {
                [ChannelEvent::DeltaPublication(publication)] => (publication.clone(), true),
                [ChannelEvent::Publication(publication)] => (publication.clone(), false),
                events => panic!("one publication was made, delivered was {events:?}"),
            };
            let offset = if history.is_some() { i as u64 + 1 } else { 0 };
            assert_eq!((wished, publication.offset, publication.delta), (delta, offset, false));
            assert_eq!(publication.data, payload("1"));
        }
    }
}

/// Joins and leaves arrive in the order they were published in, between the publications they were published between.
pub fn joins_and_leaves_keep_their_order(fixture: Fixture) {
    let channel = fixture.channel("a");
    let info = ClientInfo {
        conn_info: payload("1"),
        chan_info: payload("2"),
        ..ClientInfo::clone(&client("c", "u"))
    };
    let info = Arc::new(info);
    for round in 1..=3 {
        done(fixture.broker.publish_presence(&channel, PresenceEvent::Join(info.clone())));
        fixture.append(&channel, "1", history_of(10));
        done(fixture.broker.publish_presence(&channel, PresenceEvent::Leave(info.clone())));
        let events = fixture.delivered(&channel);
        let [ChannelEvent::Join(joined), ChannelEvent::Publication(publication), ChannelEvent::Leave(left)] =
            &*events
        else {
            panic!("delivered in another order: {events:?}")
        };
        assert_eq!((joined, publication.offset, left), (&info, round, &info));
    }
}
