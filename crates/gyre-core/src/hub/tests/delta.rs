//! Delta, filters and channel numbers in the hub.

use std::collections::VecDeque;

use gyre_protocol::{ClientInfo, FilterNode};

use super::*;
use crate::delta::apply::apply;

/// Records what is sent; slots from 100 on speak Protobuf.
#[derive(Default)]
struct Sent(Vec<(Slot, Bytes)>);

impl Outbox for Sent {
    fn form(&self, slot: Slot) -> WireForm {
        let encoding = if slot < 100 { Encoding::Json } else { Encoding::Protobuf };
        WireForm { encoding, ..FORM }
    }
    fn send(&mut self, slot: Slot, frame: &Bytes) {
        self.0.push((slot, frame.clone()));
    }
    fn lost(&mut self, slot: Slot, _: &ChannelName) {
        panic!("{slot} has missed nothing");
    }
    fn inappropriate(&mut self, slot: Slot) {
        panic!("{slot} can be sent everything");
    }
}

impl Sent {
    /// What a slot was sent since the last call.
    fn take(&mut self, slot: Slot) -> Vec<Bytes> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(known, _)| *known == slot);
        self.0 = left;
        taken.into_iter().map(|(_, frame)| frame).collect()
    }

    fn take_one(&mut self, slot: Slot) -> Bytes {
        let mut taken = self.take(slot);
        assert_eq!(taken.len(), 1, "{slot}: {taken:?}");
        taken.remove(0)
    }
}

fn text(n: u64) -> String {
    format!("{{\"text\":\"some quite long and constant text\",\"n\":{n}}}")
}

fn made(n: u64, offset: u64) -> Arc<Publication> {
    let epoch = if offset == 0 { Epoch::default() } else { Epoch::new("e") };
    Arc::new(Publication { data: Payload::json(text(n)), offset, epoch, ..Publication::default() })
}

fn subscribed(hub: &mut Hub, slot: Slot, activation: Activation, outbox: &mut Sent) -> Place {
    let subscriber = match activation.position {
        Some(_) => Subscriber::positioned(slot, true, 100),
        None => Subscriber::unpositioned(slot, true),
    };
    let (place, _) = hub.insert(&ChannelName::new("c"), subscriber);
    hub.activate(place, activation, outbox);
    place
}

fn with_delta(delta: Delta, activation: Activation) -> Activation {
    Activation { delta, ..activation }
}

fn publication_in(frame: &[u8]) -> serde_json::Value {
    let reply: serde_json::Value = serde_json::from_slice(frame).unwrap();
    reply["push"]["pub"].clone()
}

/// Many hold one base: there is one patch and one frame of it for each encoding, and one full frame for whoever holds no
/// base. Shown by the address of the frames' bytes.
#[test]
fn one_patch_serves_all() {
    let (mut hub, mut outbox, channel) = (Hub::default(), Sent::default(), ChannelName::new("c"));
    for slot in [1, 2, 101, 102] {
        subscribed(&mut hub, slot, with_delta(Delta::Full, after(0)), &mut outbox);
    }
    subscribed(&mut hub, 3, after(0), &mut outbox);
    subscribed(&mut hub, 103, after(0), &mut outbox);
    hub.deliver(&channel, ChannelEvent::DeltaPublication(made(1, 1)), &mut outbox);
    let [json, protobuf] = [1, 101].map(|slot| outbox.take_one(slot));
    assert_eq!(outbox.take_one(2).as_ptr(), json.as_ptr());
    assert_eq!(publication_in(&json)["data"], text(1).as_str());
    assert_eq!(publication_in(&outbox.take_one(3))["data"]["n"], 1);
    for slot in [102, 103] {
        assert_eq!(
            outbox.take_one(slot).as_ptr(),
            protobuf.as_ptr(),
            "full data is no special form of Protobuf"
        );
    }

    subscribed(&mut hub, 4, with_delta(Delta::Full, after(1)), &mut outbox);
    hub.deliver(&channel, ChannelEvent::DeltaPublication(made(2, 2)), &mut outbox);
    let [json, protobuf] = [1, 101].map(|slot| outbox.take_one(slot));
    assert_eq!(outbox.take_one(2).as_ptr(), json.as_ptr());
    assert_eq!(outbox.take_one(102).as_ptr(), protobuf.as_ptr());
    let publication = publication_in(&json);
    assert_eq!(publication["delta"], true);
    let patch = publication["data"].as_str().unwrap();
    assert_eq!(apply(text(1).as_bytes(), patch.as_bytes()).unwrap(), text(2).as_bytes());
    assert!(
        protobuf.windows(patch.len()).any(|part| part == patch.as_bytes()),
        "one patch for both encodings"
    );
    assert_eq!(publication_in(&outbox.take_one(3))["data"]["n"], 2, "without delta");
    let first = publication_in(&outbox.take_one(4));
    assert_eq!((&first["data"], &first["delta"]), (&text(2).into(), &serde_json::Value::Null), "no base yet");
}

/// Patches only where the publisher wants them; in between, the chain goes on. Joins are as they always are.
#[test]
fn the_publisher_decides() {
    let (mut hub, mut outbox, channel) = (Hub::default(), Sent::default(), ChannelName::new("c"));
    subscribed(&mut hub, 1, with_delta(Delta::Full, Activation::default()), &mut outbox);
    subscribed(&mut hub, 2, Activation::default(), &mut outbox);
    for (n, wants_delta) in [(1, false), (2, false), (3, true)] {
        let event = match wants_delta {
            true => ChannelEvent::DeltaPublication(made(n, 0)),
            false => ChannelEvent::Publication(made(n, 0)),
        };
        hub.deliver(&channel, event, &mut outbox);
        hub.deliver(&channel, ChannelEvent::Join(Arc::new(ClientInfo::default())), &mut outbox);
        let [publication, join]: [Bytes; 2] = outbox.take(1).try_into().unwrap();
        assert_eq!(publication_in(&publication)["delta"] == true, wants_delta);
        let data = publication_in(&publication)["data"].as_str().unwrap().to_owned();
        let data =
            if wants_delta { apply(text(n - 1).as_bytes(), data.as_bytes()).unwrap() } else { data.into() };
        assert_eq!(data, text(n).as_bytes());
        assert_eq!(outbox.take(2)[1].as_ptr(), join.as_ptr());
    }
}

/// A filter lets pass what matches and moves past what does not, before and after the activation, with a position and
/// without; its neighbour receives everything.
#[test]
fn filters_leave_out_without_a_gap() {
    let node = FilterNode { key: "k".into(), cmp: "eq".into(), val: "x".into(), ..FilterNode::default() };
    let filter = || Some(Box::new(Filter::compile(&node).unwrap()));
    let tagged = |n: u64, tag: &str| {
        let tags = [("k".into(), tag.into())].into();
        ChannelEvent::Publication(Arc::new(Publication { tags, ..(*made(n, n)).clone() }))
    };
    let (mut hub, mut outbox, channel) = (Hub::default(), Sent::default(), ChannelName::new("c"));
    let (positioned, _) = hub.insert(&channel, Subscriber::positioned(1, false, 10));
    let everything = subscribed(&mut hub, 3, after(0), &mut outbox);
    subscribed(&mut hub, 2, Activation { filter: filter(), ..Activation::default() }, &mut outbox);
    hub.deliver(&channel, tagged(1, "x"), &mut outbox);
    hub.deliver(&channel, tagged(2, "y"), &mut outbox);
    hub.activate(positioned, Activation { filter: filter(), ..after(0) }, &mut outbox);
    hub.deliver(&channel, tagged(3, "y"), &mut outbox);
    hub.deliver(&channel, tagged(4, "x"), &mut outbox);
    hub.deliver(&channel, tagged(4, "x"), &mut outbox);
    let offsets = |frames: Vec<Bytes>| -> Vec<u64> {
        frames.iter().map(|frame| publication_in(frame)["offset"].as_u64().unwrap()).collect()
    };
    assert_eq!(offsets(outbox.take(1)), [1, 4]);
    assert_eq!(offsets(outbox.take(2)), [1, 4, 4], "at most once in order is not checked without a position");
    assert_eq!(offsets(outbox.take(3)), [1, 2, 3, 4]);
    assert_eq!(hub.position_at(positioned).map(|position| position.offset), Some(4));
    assert_eq!(hub.position_at(positioned), hub.position_at(everything));
}

/// A filtered subscriber with a position is told of losses and gaps like any other; one without is not.
#[test]
fn filters_do_not_hide_losses() {
    let node = FilterNode { cmp: "nex".into(), ..FilterNode::default() };
    let filter = || Some(Box::new(Filter::compile(&node).unwrap()));
    let (mut hub, mut outbox, channel) = (Hub::default(), Recorder::default(), ChannelName::new("c"));
    for (slot, activation) in [(1, after(5)), (2, Activation::default())] {
        let (place, _) = hub.insert(&channel, Subscriber::unpositioned(slot, false));
        hub.activate(place, Activation { filter: filter(), ..activation }, &mut outbox);
    }
    hub.deliver(&channel, ChannelEvent::Lost, &mut outbox);
    assert_eq!(outbox.lost, [1]);
    hub.deliver(&channel, publication(7), &mut outbox);
    assert_eq!((outbox.lost.as_slice(), offsets(&outbox, 2)), (&[1, 1][..], vec![7]));
}

/// Numbers stand for names only where agreed, never twice, and not in the frames of others.
#[test]
fn numbers_stand_for_names() {
    let (mut hub, mut outbox, channel) = (Hub::default(), Sent::default(), ChannelName::new("c"));
    let compact = || Activation { is_compact: true, ..Activation::default() };
    let place = subscribed(&mut hub, 1, compact(), &mut outbox);
    subscribed(&mut hub, 2, Activation::default(), &mut outbox);
    let id = hub.channel_id(place);
    hub.deliver(&channel, publication(0), &mut outbox);
    hub.deliver(&channel, ChannelEvent::Join(Arc::new(ClientInfo::default())), &mut outbox);
    let pushes = |frames: Vec<Bytes>| {
        let push =
            |frame: &Bytes| serde_json::from_slice::<serde_json::Value>(frame).unwrap()["push"].clone();
        frames.iter().map(push).collect::<Vec<_>>()
    };
    for push in pushes(outbox.take(1)) {
        assert_eq!((&push["id"], &push["channel"]), (&id.into(), &serde_json::Value::Null));
    }
    for push in pushes(outbox.take(2)) {
        assert_eq!((&push["id"], &push["channel"]), (&serde_json::Value::Null, &"c".into()));
    }
    let mut seen = vec![id];
    for name in ["d", "c", "d", "e"] {
        let (place, _) = hub.insert(&ChannelName::new(name), Subscriber::unpositioned(3, false));
        let id = hub.channel_id(place);
        assert!(id > 0 && (name == "c") == (id == seen[0]), "{name}: {id}");
        assert!(name == "c" || !seen.contains(&id), "{name}: {id}");
        seen.push(id);
        assert_eq!(hub.remove(place).emptied.is_some(), name != "c");
    }
}

/// A change of a key, made out of `base` if there is one.
fn changed(n: u64, offset: u64, base: Option<u64>) -> ChannelEvent {
    let of = |n, offset| Arc::new(Publication { key: "k".into(), ..(*made(n, offset)).clone() });
    match base {
        Some(base) => ChannelEvent::DeltaChange { publication: of(n, offset), base: of(base, base) },
        None => ChannelEvent::Publication(of(n, offset)),
    }
}

/// The number a frame says, and whether it says it by a patch against that of `base`.
fn said(frame: &[u8], base: u64) -> (u64, bool) {
    let publication = publication_in(frame);
    let (data, is_patch) = (publication["data"].as_str().unwrap(), publication["delta"] == true);
    let data = match is_patch {
        true => apply(text(base).as_bytes(), data.as_bytes()).unwrap(),
        false => data.as_bytes().to_vec(),
    };
    (serde_json::from_slice::<serde_json::Value>(&data).unwrap()["n"].as_u64().unwrap(), is_patch)
}

/// Changes of a map are patches against what their key was, from the first one on and in one frame for all; to who came
/// back, not against what was before that. What is held back keeps its base. The channel keeps nothing.
#[test]
fn changes_bring_their_bases() {
    let (mut hub, mut outbox, channel) = (Hub::default(), Sent::default(), ChannelName::new("c"));
    let delta = |since| Delta::Keys { since };
    let (held, _) = hub.insert(&channel, Subscriber::positioned(4, false, 10));
    let all = subscribed(&mut hub, 1, with_delta(delta(0), after(7)), &mut outbox);
    subscribed(&mut hub, 2, with_delta(delta(0), after(7)), &mut outbox);
    let resumed = subscribed(&mut hub, 3, with_delta(delta(5), after(7)), &mut outbox);
    subscribed(&mut hub, 5, after(7), &mut outbox);
    // The key was 4 at offset 4, which who came back at 5 was not sent.
    hub.deliver(&channel, changed(8, 8, Some(4)), &mut outbox);
    let frame = outbox.take_one(1);
    assert_eq!(outbox.take_one(2).as_ptr(), frame.as_ptr());
    assert_eq!(said(&frame, 4), (8, true));
    assert_eq!(said(&outbox.take_one(3), 4), (8, false));
    assert_eq!(publication_in(&outbox.take_one(5))["data"]["n"], 8);
    hub.activate(held, with_delta(delta(0), after(7)), &mut outbox);
    assert_eq!(said(&outbox.take_one(4), 4), (8, true));
    // Delivered again after a reading that had it already: nothing changes.
    hub.deliver(&channel, changed(8, 8, Some(4)), &mut outbox);
    hub.deliver(&channel, changed(9, 9, None), &mut outbox);
    hub.deliver(&channel, changed(10, 10, Some(8)), &mut outbox);
    for slot in 1..=4 {
        let [plain, patch]: [Bytes; 2] = outbox.take(slot).try_into().unwrap();
        assert_eq!((said(&plain, 0), said(&patch, 8)), ((9, false), (10, true)));
    }
    for place in [all, resumed] {
        assert_eq!(hub.position_at(place).map(|position| position.offset), Some(10));
    }
    assert!(hub.channels.iter().all(|(_, channel)| channel.last.is_none()));
}

/// Without positions everything is sent in full until patches are begun, whatever was held back before.
#[test]
fn patches_of_maps_without_positions_are_begun() {
    let (mut hub, mut outbox, channel) = (Hub::default(), Sent::default(), ChannelName::new("c"));
    let (place, _) = hub.insert(&channel, Subscriber::unpositioned(1, false));
    hub.hold(place, 10);
    hub.deliver(&channel, changed(2, 0, Some(1)), &mut outbox);
    hub.activate(place, with_delta(Delta::KeysLater, Activation::default()), &mut outbox);
    hub.deliver(&channel, changed(3, 0, Some(2)), &mut outbox);
    hub.begin_patches(place);
    hub.deliver(&channel, changed(4, 0, Some(3)), &mut outbox);
    let said: Vec<_> = outbox.take(1).iter().map(|frame| said(frame, 3)).collect();
    assert_eq!(said, [(2, false), (3, false), (4, true)]);
    let plain = subscribed(&mut hub, 2, Activation::default(), &mut outbox);
    hub.begin_patches(plain);
    hub.deliver(&channel, changed(5, 0, Some(4)), &mut outbox);
    assert_eq!(publication_in(&outbox.take_one(2))["data"]["n"], 5, "without delta");
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        in_history: bool,
        delta: bool,
    },
    Deliver,
    Insert {
        slot: Slot,
        is_positioned: bool,
    },
    /// `missed` publications are recovered.
    Activate {
        slot: Slot,
        missed: usize,
        has_delta: bool,
    },
    Remove(Slot),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0u32..4;
    prop_oneof![
        4 => (any::<bool>(), any::<bool>())
            .prop_map(|(in_history, delta)| Step::Publish { in_history: in_history || delta, delta }),
        1 => Just(Step::Publish { in_history: false, delta: true }),
        5 => Just(Step::Deliver),
        2 => (slot.clone(), any::<bool>()).prop_map(|(slot, is_positioned)| Step::Insert { slot, is_positioned }),
        3 => (slot.clone(), 0usize..4, any::<bool>())
            .prop_map(|(slot, missed, has_delta)| Step::Activate { slot, missed, has_delta }),
        1 => slot.prop_map(Step::Remove),
    ]
}

/// A subscriber and the client behind it.
struct Client {
    place: Place,
    is_positioned: bool,
    active: Option<Received>,
}

/// What a client holds.
struct Received {
    has_delta: bool,
    is_positioned: bool,
    data: Vec<u8>,
    offset: u64,
}

impl Received {
    /// Takes a push as a client does; the number of the publication it says.
    fn take(&mut self, frame: &[u8]) -> u64 {
        let publication = publication_in(frame);
        let text = match self.has_delta {
            true => publication["data"].as_str().unwrap().to_owned(),
            false => publication["data"].to_string(),
        };
        self.data = match &publication["delta"] {
            serde_json::Value::Bool(true) => apply(&self.data, text.as_bytes()).unwrap(),
            _ => text.into_bytes(),
        };
        let offset = publication["offset"].as_u64().unwrap_or(0);
        if offset != 0 {
            // Without a position, what was on its way to an earlier subscriber may come, and then a gap.
            let follows = offset == self.offset + 1 || (!self.is_positioned && offset > self.offset);
            assert!(self.offset == 0 || follows, "{offset} after {}", self.offset);
            self.offset = offset;
        }
        serde_json::from_slice::<serde_json::Value>(&self.data).unwrap()["n"].as_u64().unwrap()
    }
}

proptest! {
    /// Whenever subscribers come, recover and go, whatever is published in the history or outside of it, wanting patches
    /// or not, and however far deliveries lag behind: every client reads exactly the data that was published, from
    /// patches against nothing but what it received last.
    #[test]
    fn every_patch_has_its_base(steps in prop::collection::vec(step(), 1..120)) {
        let (mut hub, mut outbox, channel) = (Hub::default(), Sent::default(), ChannelName::new("c"));
        let mut stream: Vec<Arc<Publication>> = Vec::new();
        let mut on_the_way: VecDeque<ChannelEvent> = VecDeque::new();
        let mut clients: BTreeMap<Slot, Client> = BTreeMap::new();
        let mut last = 0;
        for step in steps {
            match step {
                Step::Publish { in_history, delta } => {
                    last += 1;
                    let offset = if in_history { stream.len() as u64 + 1 } else { 0 };
                    let publication = made(last, offset);
                    if in_history {
                        stream.push(publication.clone());
                    }
                    if !clients.is_empty() {
                        on_the_way.push_back(match delta {
                            true => ChannelEvent::DeltaPublication(publication),
                            false => ChannelEvent::Publication(publication),
                        });
                    }
                }
                Step::Deliver => {
                    if let Some(event) = on_the_way.pop_front() {
                        hub.deliver(&channel, event, &mut outbox);
                    }
                }
                Step::Insert { slot, is_positioned } if !clients.contains_key(&slot) => {
                    let subscriber = match is_positioned {
                        true => Subscriber::positioned(slot, false, 1000),
                        false => Subscriber::unpositioned(slot, false),
                    };
                    let (place, _) = hub.insert(&channel, subscriber);
                    clients.insert(slot, Client { place, is_positioned, active: None });
                }
                Step::Activate { slot, missed, has_delta } => {
                    let Some(client) = clients.get_mut(&slot).filter(|client| client.active.is_none()) else { continue };
                    let top = stream.len() as u64;
                    let recovered = stream.last().filter(|_| missed > 0 && client.is_positioned);
                    let delta = match (has_delta, recovered) {
                        (false, _) => Delta::Off,
                        (true, None) => Delta::Full,
                        (true, Some(publication)) => Delta::From(publication.clone()),
                    };
                    let activation = if client.is_positioned { after(top) } else { Activation::default() };
                    let data = recovered.map(|publication| publication.data.bytes().to_vec()).unwrap_or_default();
                    let offset = if client.is_positioned { top } else { 0 };
                    client.active = Some(Received { has_delta, is_positioned: client.is_positioned, data, offset });
                    hub.activate(client.place, with_delta(delta, activation), &mut outbox);
                }
                Step::Remove(slot) => {
                    let Some(client) = clients.remove(&slot) else { continue };
                    let removed = hub.remove(client.place);
                    if let Some((moved, _, to)) = removed.moved {
                        clients.get_mut(&moved).unwrap().place = to;
                    }
                }
                Step::Insert { .. } => {}
            }
            for (slot, frame) in std::mem::take(&mut outbox.0) {
                let received = clients.get_mut(&slot).and_then(|client| client.active.as_mut()).unwrap();
                let n = received.take(&frame);
                prop_assert_eq!(&received.data, &text(n).into_bytes());
            }
        }
    }
}
