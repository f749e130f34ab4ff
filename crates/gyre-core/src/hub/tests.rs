use std::{collections::BTreeMap, sync::Arc};

use gyre_protocol::{Epoch, Payload, Publication, codec::Encoding};
use proptest::prelude::*;

use super::*;

const FORM: WireForm = WireForm {
    encoding: Encoding::Json,
    framing: Framing::Stream,
    direction: Direction::Bidirectional,
    ascii: false,
    deflate: None,
};

/// Records what the hub decides.
#[derive(Default)]
struct Recorder {
    sent: Vec<(Slot, Bytes)>,
    lost: Vec<Slot>,
    inappropriate: Vec<Slot>,
}

impl Outbox for Recorder {
    fn form(&self, _: Slot) -> WireForm {
        FORM
    }
    fn send(&mut self, slot: Slot, frame: &Bytes) {
        self.sent.push((slot, frame.clone()));
    }
    fn lost(&mut self, slot: Slot, _: &ChannelName) {
        self.lost.push(slot);
    }
    fn inappropriate(&mut self, slot: Slot) {
        self.inappropriate.push(slot);
    }
}

fn publication(offset: u64) -> ChannelEvent {
    let data = Payload::json("1");
    ChannelEvent::Publication(Arc::new(Publication {
        data,
        offset,
        epoch: Epoch::new("e"),
        ..Publication::default()
    }))
}

fn after(offset: u64) -> Activation {
    let position = Some(StreamPosition { offset, epoch: Epoch::new("e") });
    Activation { position, ..Activation::default() }
}

fn offsets(recorder: &Recorder, slot: Slot) -> Vec<u64> {
    let of_slot = recorder.sent.iter().filter(|(known, _)| *known == slot);
    of_slot
        .map(|(_, frame)| {
            let push: serde_json::Value = serde_json::from_slice(frame).unwrap();
            push["push"]["pub"]["offset"].as_u64().unwrap_or(0)
        })
        .collect()
}

/// What came while a subscription was made is delivered once it is: nothing twice, nothing left out.
#[test]
fn held_publications_follow_the_position() {
    let (mut hub, mut outbox) = (Hub::default(), Recorder::default());
    let channel = ChannelName::new("c");
    let (place, joined) = hub.insert(&channel, Subscriber::positioned(1, false, 10));
    assert_eq!(joined, Joined::First);
    for offset in 4..=7 {
        hub.deliver(&channel, publication(offset), &mut outbox);
    }
    assert!(outbox.sent.is_empty());
    hub.activate(place, after(5), &mut outbox);
    hub.deliver(&channel, publication(8), &mut outbox);
    assert_eq!(offsets(&outbox, 1), [6, 7, 8]);
    assert!(outbox.lost.is_empty());
}

/// A hole, another epoch, an overflow and a loss on the way are each told, never passed over.
#[test]
fn what_is_missing_is_told() {
    let channel = ChannelName::new("c");
    let lost_after = |max: usize, events: Vec<ChannelEvent>, then: Vec<ChannelEvent>| {
        let (mut hub, mut outbox) = (Hub::default(), Recorder::default());
        let (place, _) = hub.insert(&channel, Subscriber::positioned(1, false, max));
        events.into_iter().for_each(|event| hub.deliver(&channel, event, &mut outbox));
        hub.activate(place, after(5), &mut outbox);
        then.into_iter().for_each(|event| hub.deliver(&channel, event, &mut outbox));
        (outbox.lost, offsets(&Recorder { sent: outbox.sent, ..Recorder::default() }, 1))
    };
    assert_eq!(lost_after(10, vec![publication(7)], vec![]), (vec![1], vec![]), "a hole among the held");
    assert_eq!(lost_after(1, vec![publication(6), publication(7)], vec![]), (vec![1], vec![]), "an overflow");
    assert_eq!(lost_after(10, vec![ChannelEvent::Lost], vec![]), (vec![1], vec![]), "lost while held");
    assert_eq!(
        lost_after(10, vec![], vec![publication(6), ChannelEvent::Lost]),
        (vec![1], vec![6]),
        "lost later"
    );
    assert_eq!(lost_after(10, vec![], vec![publication(8)]), (vec![1], vec![]), "a hole later");
    let other =
        Publication { offset: 6, epoch: Epoch::new("f"), data: Payload::json("1"), ..Publication::default() };
    assert_eq!(
        lost_after(10, vec![], vec![ChannelEvent::Publication(Arc::new(other))]),
        (vec![1], vec![]),
        "epoch"
    );
    assert_eq!(lost_after(10, vec![], vec![publication(0)]), (vec![], vec![0]), "outside the history");
}

/// A payload that JSON cannot carry dooms the connection and reaches nobody.
#[test]
fn binary_is_not_sent_as_json() {
    let (mut hub, mut outbox) = (Hub::default(), Recorder::default());
    let channel = ChannelName::new("c");
    let (place, _) = hub.insert(&channel, Subscriber::unpositioned(3, false));
    hub.activate(place, Activation::default(), &mut outbox);
    let data = Payload::new(&b"\x00"[..]);
    let event = ChannelEvent::Publication(Arc::new(Publication { data, ..Publication::default() }));
    hub.deliver(&channel, event, &mut outbox);
    assert_eq!((outbox.sent.len(), outbox.inappropriate), (0, vec![3]));
}

#[derive(Clone, Debug)]
enum Operation {
    Subscribe(u8, u8),
    Unsubscribe(u8, u8),
    Publish(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0u8..6, 0u8..3).prop_map(|(slot, channel)| Operation::Subscribe(slot, channel)),
        (0u8..6, 0u8..3).prop_map(|(slot, channel)| Operation::Unsubscribe(slot, channel)),
        (0u8..3).prop_map(Operation::Publish),
    ]
}

proptest! {
    /// Whatever is subscribed, unsubscribed and published: exactly the subscribers of a naive model receive, and places
    /// stay right although removals move them.
    #[test]
    fn hub_equals_a_naive_model(operations in prop::collection::vec(operation(), 1..80)) {
        let mut hub = Hub::default();
        let mut places: BTreeMap<(u8, u8), Place> = BTreeMap::new();
        for operation in operations {
            match operation {
                Operation::Subscribe(slot, channel) if !places.contains_key(&(slot, channel)) => {
                    let name = ChannelName::new(&format!("c{channel}"));
                    let is_first = !places.keys().any(|(_, known)| *known == channel);
                    let (place, joined) = hub.insert(&name, Subscriber::unpositioned(slot.into(), false));
                    prop_assert_eq!(joined == Joined::First, is_first);
                    hub.activate(place, Activation::default(), &mut Recorder::default());
                    places.insert((slot, channel), place);
                }
                Operation::Unsubscribe(slot, channel) => {
                    let Some(place) = places.remove(&(slot, channel)) else { continue };
                    let removed = hub.remove(place);
                    if let Some((moved, from, to)) = removed.moved {
                        let known = places.get_mut(&(moved as u8, channel)).unwrap();
                        prop_assert_eq!(*known, from);
                        *known = to;
                    }
                    let is_last = !places.keys().any(|(_, known)| *known == channel);
                    prop_assert_eq!(removed.emptied.is_some(), is_last);
                }
                Operation::Publish(channel) => {
                    let mut outbox = Recorder::default();
                    hub.deliver(&ChannelName::new(&format!("c{channel}")), publication(0), &mut outbox);
                    let mut received: Vec<u8> = outbox.sent.iter().map(|(slot, _)| *slot as u8).collect();
                    received.sort_unstable();
                    let expected: Vec<u8> =
                        places.keys().filter(|(_, known)| *known == channel).map(|(slot, _)| *slot).collect();
                    prop_assert_eq!(received, expected);
                }
                Operation::Subscribe(..) => {}
            }
        }
        prop_assert_eq!(hub.channels().map(|(_, count)| count).sum::<usize>(), places.len());
    }
}

mod delta;
