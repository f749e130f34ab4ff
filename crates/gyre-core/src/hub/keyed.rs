//! Who on one shard receives which keys of shared poll channels.
//!
//! Beside the [`super::Hub`], because here a subscriber is one of a key, not of a channel, and what may pass is decided
//! by version. An update is looked up once, is encoded at most once per wire form, and costs one compare and one append
//! for each connection that tracks its key.

use std::sync::Arc;

use gyre_protocol::Publication;
use hashbrown::HashMap;

use super::{
    Outbox, Slot,
    fanout::{Content, Fanout},
};
use crate::{channel::ChannelName, ports::ChannelEvent};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The tracked keys of one shard. Only channels that somebody is subscribed to are in it.
#[derive(Debug, Default)]
pub struct KeyedHub(Map<ChannelName, Keys>);

/// Keys, each with its trackers and what every one of them holds.
type Keys = Map<Box<str>, Map<Slot, Holding>>;

/// What a tracker holds of a key.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// In bytes, so that with the slot an entry takes no more than it would without delta.
    version: [u8; 8],
    patches: Patches,
}

const _: () = assert!(size_of::<(Slot, Holding)>() == size_of::<(Slot, u64)>());

/// Whether a tracker is sent patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patches {
    /// Never.
    Off,
    /// Not before it has been sent something in full: what it holds is not from here.
    Baseless,
    /// Yes, against the version it holds.
    Based,
}

impl Holding {
    /// A version the client has from wherever, and whether it may be sent patches.
    pub fn named(version: u64, delta: bool) -> Self {
        let patches = if delta { Patches::Baseless } else { Patches::Off };
        Self { version: version.to_ne_bytes(), patches }
    }

    fn version(&self) -> u64 {
        u64::from_ne_bytes(self.version)
    }

    /// It is sent a version, which may be a patch against another one: the content, and what it holds from then on.
    fn take(&mut self, version: u64, base: Option<u64>) -> Content {
        let content = match self.patches {
            Patches::Off => Content::Plain,
            Patches::Based if base == Some(self.version()) => Content::Patch,
            Patches::Baseless | Patches::Based => Content::Full,
        };
        self.version = version.to_ne_bytes();
        if self.patches == Patches::Baseless {
            self.patches = Patches::Based;
        }
        content
    }
}

impl KeyedHub {
    /// The channel has a subscriber on this shard.
    pub fn open(&mut self, channel: &ChannelName) {
        self.0.entry(channel.clone()).or_default();
    }

    /// The channel's last subscriber on this shard has left.
    pub fn close(&mut self, channel: &ChannelName) {
        self.0.remove(channel);
    }

    /// True for an open channel. Costs nothing where there is none.
    pub fn contains(&self, channel: &ChannelName) -> bool {
        !self.0.is_empty() && self.0.contains_key(channel)
    }

    /// Delivers versions of the key above the one held from now on.
    pub fn track(&mut self, channel: &ChannelName, key: &str, slot: Slot, holding: Holding) {
        let keys = self.0.entry(channel.clone()).or_default();
        keys.entry(key.into()).or_default().insert(slot, holding);
    }

    /// Delivers the key no longer. True if no connection of this shard tracks it any more.
    pub fn untrack(&mut self, channel: &ChannelName, key: &str, slot: Slot) -> bool {
        let Some(keys) = self.0.get_mut(channel) else { return true };
        let Some(trackers) = keys.get_mut(key) else { return true };
        trackers.remove(&slot);
        let is_last = trackers.is_empty();
        if is_last {
            keys.remove(key);
        }
        is_last
    }

    /// Delivers an update to those who hold an older version, as a patch to those who hold `base` from here. A removal goes
    /// to all, ends their tracking, and returns them.
    pub fn deliver(
        &mut self,
        channel: &ChannelName,
        publication: Arc<Publication>,
        base: Option<Arc<Publication>>,
        outbox: &mut impl Outbox,
    ) -> Vec<Slot> {
        let Some(keys) = self.0.get_mut(channel) else { return Vec::new() };
        let Some(trackers) = keys.get_mut(&publication.key) else { return Vec::new() };
        let (version, removed) = (publication.version, publication.removed);
        let base_version = base.as_ref().map(|base| base.version);
        let event = match base {
            Some(base) => ChannelEvent::DeltaChange { publication: publication.clone(), base },
            None => ChannelEvent::Publication(publication.clone()),
        };
        let Some(mut fanout) = Fanout::new(channel, 0, event, None) else { return Vec::new() };
        for (&slot, held) in trackers.iter_mut().filter(|(_, held)| removed || version > held.version()) {
            let content = held.take(version, base_version);
            match fanout.frame(outbox.form(slot), content, false) {
                Some(frame) => outbox.send(slot, frame),
                None => outbox.inappropriate(slot),
            }
        }
        match removed {
            true => {
                keys.remove(&publication.key).map_or_else(Vec::new, |trackers| trackers.into_keys().collect())
            }
            false => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use gyre_protocol::{Payload, codec::Encoding};

    use super::*;
    use crate::hub::{Direction, Framing, WireForm};

    #[derive(Default)]
    struct Recorder(Vec<(Slot, Bytes)>);

    impl Outbox for Recorder {
        fn form(&self, _: Slot) -> WireForm {
            WireForm {
                encoding: Encoding::Json,
                framing: Framing::Stream,
                direction: Direction::Bidirectional,
                ascii: false,
                deflate: None,
            }
        }
        fn send(&mut self, slot: Slot, frame: &Bytes) {
            self.0.push((slot, frame.clone()));
        }
        fn lost(&mut self, _: Slot, _: &ChannelName) {}
        fn inappropriate(&mut self, _: Slot) {}
    }

    /// Each tracker gets every version above its own once, and a removal whatever it holds; nobody else gets anything.
    #[test]
    fn versions_rise_for_each_tracker() {
        let (mut hub, channel) = (KeyedHub::default(), ChannelName::new("p"));
        hub.open(&channel);
        hub.track(&channel, "k", 1, Holding::named(0, false));
        hub.track(&channel, "k", 2, Holding::named(5, false));
        hub.track(&channel, "other", 3, Holding::named(0, false));
        let mut deliver = |version, removed| {
            let mut outbox = Recorder::default();
            let publication = Publication {
                key: "k".into(),
                data: Payload::json("1"),
                version,
                removed,
                ..Default::default()
            };
            let ended = hub.deliver(&channel, Arc::new(publication), None, &mut outbox);
            let mut slots: Vec<_> = outbox.0.into_iter().map(|(slot, _)| slot).collect();
            slots.sort_unstable();
            (slots, ended.len())
        };
        assert_eq!(deliver(5, false), (vec![1], 0));
        assert_eq!(deliver(5, false), (vec![], 0));
        assert_eq!(deliver(6, false), (vec![1, 2], 0));
        assert_eq!(deliver(0, true), (vec![1, 2], 2));
        assert_eq!(deliver(7, false), (vec![], 0), "the tracking has ended");
        assert!(hub.untrack(&channel, "other", 3));
        hub.close(&channel);
        assert!(!hub.contains(&channel));
    }

    /// With delta a tracker is sent patches against just the version it was sent last; the first one, and one against
    /// another version, is full. A removal carries data that parses.
    #[test]
    fn patches_are_made_against_the_version_held() {
        let (mut hub, channel) = (KeyedHub::default(), ChannelName::new("p"));
        let version = |version| {
            let data =
                Payload::json(format!("{{\"text\":\"some quite long and constant text\",\"n\":{version}}}"));
            Arc::new(Publication { key: "k".into(), data, version, ..Publication::default() })
        };
        let mut outbox = Recorder::default();
        let mut deliver = |hub: &mut KeyedHub, publication, base| -> Vec<(Slot, bool, bool)> {
            drop(hub.deliver(&channel, publication, base, &mut outbox));
            let said = |(slot, frame): (Slot, Bytes)| {
                let reply: serde_json::Value = serde_json::from_slice(&frame).unwrap();
                let publication = &reply["push"]["pub"];
                (slot, publication["delta"] == true, publication["data"].is_string())
            };
            let mut said: Vec<_> = outbox.0.drain(..).map(said).collect();
            said.sort_unstable();
            said
        };
        hub.track(&channel, "k", 1, Holding::named(4, true));
        hub.track(&channel, "k", 2, Holding::named(0, false));
        // What the client says it holds is not from here.
        assert_eq!(deliver(&mut hub, version(5), Some(version(4))), [(1, false, true), (2, false, false)]);
        hub.track(&channel, "k", 3, Holding::named(5, true));
        assert_eq!(
            deliver(&mut hub, version(6), Some(version(5))),
            [(1, true, true), (2, false, false), (3, false, true)]
        );
        assert_eq!(
            deliver(&mut hub, version(8), Some(version(7))),
            [(1, false, true), (2, false, false), (3, false, true)],
            "7 was not sent"
        );
        let removal = Publication { key: "k".into(), removed: true, ..Publication::default() };
        assert_eq!(
            deliver(&mut hub, Arc::new(removal), None),
            [(1, false, true), (2, false, false), (3, false, true)]
        );
    }
}
