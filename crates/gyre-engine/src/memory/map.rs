//! One channel's map: its entries, the stream of their changes, and when they end.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Instant,
};

use gyre_core::{
    channel::{ChannelName, MapOrder, MapRetention, MapStorage},
    ports::{
        ChannelEvent, EngineError, History, HistoryFilter, KeyMode, MapPublished, MapState, NewEntry,
        StateFilter, Suppression,
    },
};
use gyre_protocol::{Epoch, Publication, StreamPosition};

use super::{
    expiring::Expire,
    ranking::Ranking,
    stream::{Retained, Stream, Version},
};

/// Keys of one map; publications of further ones are refused. At 200 bytes a key that is 200 MB.
pub(super) const KEYS_MAX: usize = 1 << 20;
/// Ended keys removed in one look of a sweep, so that other channels of the stripe get their turn.
const REMOVALS_PER_LOOK: usize = 16;

/// Entries by key, and the stream of their changes. Maps without a stream use only its epoch.
#[derive(Debug)]
pub(super) struct Map {
    channel: ChannelName,
    storage: MapStorage,
    stream: Stream,
    entries: BTreeMap<Arc<str>, Entry>,
    /// The entries by score, where they are read so.
    ranking: Option<Ranking>,
    /// When each key ends that does; exact.
    agenda: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    /// `None` is never.
    expires: Option<Instant>,
    version: Option<Box<Version>>,
}

/// A change that was made.
#[derive(Debug)]
pub(super) struct Change {
    /// What is to be delivered: the change, after the removal of an old value whose time had passed.
    pub(super) deliver: Vec<ChannelEvent>,
    pub(super) published: MapPublished,
}

/// What a look of the sweep took out of a map.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) channel: ChannelName,
    /// To be delivered while the stripe is still locked.
    pub(super) removals: Vec<ChannelEvent>,
    #[expect(dead_code, reason = "only dropped, when no lock is held")]
    retained: Option<Box<Retained>>,
}

impl Map {
    pub(super) fn new(channel: ChannelName, storage: MapStorage, epoch: Epoch) -> Self {
        Self {
            channel,
            storage,
            stream: Stream::new(epoch),
            entries: BTreeMap::new(),
            ranking: None,
            agenda: BTreeSet::new(),
        }
    }

    /// Comes before anything else: a map that is over begins anew, and the options are those of now. Another order than
    /// before costs a look at every entry, once.
    pub(super) fn refresh(&mut self, storage: MapStorage, now: Instant, new_epoch: impl FnOnce() -> Epoch) {
        self.storage = storage;
        if self.is_over(now) {
            self.stream = Stream::new(new_epoch());
        } else {
            self.stream.expire_publications(now);
        }
        match (storage.order, &self.ranking) {
            (MapOrder::Key, _) => self.ranking = None,
            (MapOrder::Score, Some(_)) => {}
            (MapOrder::Score, None) => {
                let entries = self.entries.values().map(|entry| entry.publication.clone());
                self.ranking = Some(entries.collect());
            }
        }
        self.keep(now);
    }

    /// Keeps the position for so long from now on.
    fn keep(&mut self, now: Instant) {
        let meta_ttl = match &self.storage.retention {
            MapRetention::Ephemeral { key_ttl } => *key_ttl,
            MapRetention::Recoverable { stream, .. } | MapRetention::Persistent { stream } => stream.meta_ttl,
        };
        self.stream.keep_position(now, meta_ttl);
    }

    /// Sets a key, if its conditions hold.
    pub(super) fn publish(&mut self, new: NewEntry, now: Instant) -> Result<Change, EngineError> {
        if new.version != 0 && self.storage.stream().is_none() {
            return Err(EngineError::NotAvailable);
        }
        let mut deliver = Vec::with_capacity(1);
        deliver.extend(self.remove_if_ended(&new.key, now));
        let version = Version { number: new.version, epoch: new.version_epoch };
        if let Some(suppression) = self.suppression(&new.key, &version, new.key_mode) {
            if new.key_mode == KeyMode::IfNewOrRenew {
                self.renew(&new.key, now);
            }
            return Ok(self.suppressed(deliver, suppression));
        }
        if self.entries.len() >= KEYS_MAX && !self.entries.contains_key(&*new.key) {
            return Err(EngineError::LimitReached);
        }
        let publication = self.append(
            Publication {
                key: new.key,
                data: new.data,
                info: new.info,
                tags: new.tags,
                score: new.score,
                ..Publication::default()
            },
            now,
        );
        let before = self.set(publication.clone(), version, now);
        deliver.push(match before.filter(|_| new.delta) {
            Some(base) => ChannelEvent::DeltaChange { publication, base },
            None => ChannelEvent::Publication(publication),
        });
        Ok(self.made(deliver))
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: &str, now: Instant) -> Change {
        let mut deliver = Vec::with_capacity(1);
        // Its time has passed: the removal is that of the time, not of the caller.
        if let Some(removal) = self.remove_if_ended(key, now) {
            deliver.push(removal);
            return self.suppressed(deliver, Suppression::KeyNotFound);
        }
        match self.take(key, now) {
            Some(removal) => {
                deliver.push(removal);
                self.made(deliver)
            }
            None => self.suppressed(deliver, Suppression::KeyNotFound),
        }
    }

    /// # Errors
    /// [`EngineError::UnrecoverablePosition`] if the cursor is none of this map.
    pub(super) fn read_state(&self, filter: &StateFilter, now: Instant) -> Result<MapState, EngineError> {
        let position = self.stream.top();
        let (cursor, limit, ascending) = match filter {
            StateFilter::Key(key) => {
                let entry = self.entries.get(&**key).filter(|entry| !entry.has_ended(now));
                let entries = entry.map(|entry| entry.publication.clone()).into_iter().collect();
                return Ok(MapState { entries, position, cursor: Box::default() });
            }
            StateFilter::Page { limit: Some(0), .. } => {
                return Ok(MapState { position, ..MapState::default() });
            }
            StateFilter::Page { cursor, limit, ascending } => {
                (&**cursor, limit.unwrap_or(usize::MAX), *ascending)
            }
        };
        let (entries, cursor) = match &self.ranking {
            None => {
                let start = if cursor.is_empty() { Bound::Unbounded } else { Bound::Excluded(cursor) };
                let behind = self.entries.range::<str, _>((start, Bound::Unbounded));
                let alive = behind.filter(|(_, entry)| !entry.has_ended(now));
                page(alive.map(|(_, entry)| &entry.publication), limit, |last| last.key.clone())
            }
            Some(ranking) => {
                // Nothing has to be looked up by key unless a key has ended since the last sweep.
                let some_ended = self.agenda.first().is_some_and(|(at, _)| *at <= now);
                let has_ended = |publication: &Publication| {
                    some_ended && self.entries.get(&*publication.key).is_none_or(|entry| entry.has_ended(now))
                };
                let behind = ranking.behind(cursor, ascending).ok_or(EngineError::UnrecoverablePosition)?;
                page(behind.filter(|publication| !has_ended(publication)), limit, Ranking::cursor)
            }
        };
        Ok(MapState { entries, position, cursor })
    }

    pub(super) fn read_stream(&self, filter: &HistoryFilter) -> Result<History, EngineError> {
        match self.storage.stream() {
            Some(_) => self.stream.read(filter),
            None => Err(EngineError::NotAvailable),
        }
    }

    pub(super) fn key_count(&self, now: Instant) -> usize {
        let ended = self.agenda.iter().take_while(|(at, _)| *at <= now).count();
        self.entries.len() - ended
    }

    fn suppression(&self, key: &str, version: &Version, mode: KeyMode) -> Option<Suppression> {
        let entry = self.entries.get(key);
        if entry.and_then(|entry| entry.version.as_ref()).is_some_and(|known| known.outdates(version)) {
            return Some(Suppression::Version);
        }
        match (mode, entry) {
            (KeyMode::IfNew | KeyMode::IfNewOrRenew, Some(_)) => Some(Suppression::KeyExists),
            (KeyMode::IfExists, None) => Some(Suppression::KeyNotFound),
            _ => None,
        }
    }

    /// Puts a publication into state, and its end into the agenda; what the key was before.
    fn set(
        &mut self,
        publication: Arc<Publication>,
        version: Version,
        now: Instant,
    ) -> Option<Arc<Publication>> {
        let expires = self.key_end(now);
        let key: Arc<str> = Arc::from(&*publication.key);
        let old = self.entries.remove(&key);
        if let Some(at) = old.as_ref().and_then(|old| old.expires) {
            self.agenda.remove(&(at, key.clone()));
        }
        if let Some(ranking) = &mut self.ranking {
            if let Some(old) = &old {
                ranking.remove(&old.publication);
            }
            ranking.insert(publication.clone());
        }
        self.agenda.extend(expires.map(|at| (at, key.clone())));
        let (before, known) = old.map_or((None, None), |old| (Some(old.publication), old.version));
        let version = if version.number == 0 { known } else { Some(Box::new(version)) };
        self.entries.insert(key, Entry { publication, expires, version });
        before
    }

    /// Lets the time to live of a key begin again.
    fn renew(&mut self, key: &str, now: Instant) {
        let expires = self.key_end(now);
        let Some((key, entry)) =
            self.entries.get_key_value(key).map(|(key, _)| key.clone()).and_then(|key| {
                let entry = self.entries.get_mut(&key)?;
                Some((key, entry))
            })
        else {
            return;
        };
        if let Some(at) = entry.expires {
            self.agenda.remove(&(at, key.clone()));
        }
        entry.expires = expires;
        self.agenda.extend(expires.map(|at| (at, key)));
    }

    fn key_end(&self, now: Instant) -> Option<Instant> {
        self.storage.key_ttl().and_then(|ttl| now.checked_add(ttl))
    }

    /// Takes a key out whose time has passed, though no sweep has come by yet.
    fn remove_if_ended(&mut self, key: &str, now: Instant) -> Option<ChannelEvent> {
        self.entries.get(key).filter(|entry| entry.has_ended(now))?;
        self.take(key, now)
    }

    /// Takes a key out of state, and puts its removal into the stream.
    fn take(&mut self, key: &str, now: Instant) -> Option<ChannelEvent> {
        let (key, entry) = self.entries.remove_entry(key)?;
        if let Some(at) = entry.expires {
            self.agenda.remove(&(at, key));
        }
        if let Some(ranking) = &mut self.ranking {
            ranking.remove(&entry.publication);
        }
        Some(ChannelEvent::Publication(self.append(removal_of(&entry.publication), now)))
    }

    /// Gives a change its place in the stream, if there is one.
    fn append(&mut self, publication: Publication, now: Instant) -> Arc<Publication> {
        match self.storage.stream().copied() {
            None => Arc::new(publication),
            Some(options) => self.stream.push(publication, &options, now),
        }
    }

    fn made(&self, deliver: Vec<ChannelEvent>) -> Change {
        Change { deliver, published: MapPublished { position: self.position(), suppressed: None } }
    }

    fn suppressed(&self, deliver: Vec<ChannelEvent>, reason: Suppression) -> Change {
        let published = MapPublished { position: self.position(), suppressed: Some(reason) };
        Change { deliver, published }
    }

    fn position(&self) -> StreamPosition {
        self.stream.top()
    }
}

impl Entry {
    fn has_ended(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// So many of the entries, and the cursor behind the last of them if more follow.
fn page<'a>(
    mut entries: impl Iterator<Item = &'a Arc<Publication>>,
    limit: usize,
    cursor: impl FnOnce(&Publication) -> Box<str>,
) -> (Vec<Arc<Publication>>, Box<str>) {
    let page: Vec<_> = entries.by_ref().take(limit).cloned().collect();
    let has_more = entries.next().is_some();
    let cursor = page.last().filter(|_| has_more).map_or_else(Box::default, |last| cursor(last));
    (page, cursor)
}

/// Tells that a key is gone; the tags stay, so that filters judge it as they judged the entry.
fn removal_of(publication: &Publication) -> Publication {
    Publication {
        key: publication.key.clone(),
        tags: publication.tags.clone(),
        removed: true,
        ..Publication::default()
    }
}

impl Expire for Map {
    type Freed = Ended;

    fn deadline(&self) -> Option<Instant> {
        // A map with keys is never over, so its position is not looked at.
        match self.entries.is_empty() {
            true => self.stream.deadline(),
            false => {
                let key = self.agenda.first().map(|(at, _)| *at);
                [key, self.stream.publications_end()].into_iter().flatten().min()
            }
        }
    }

    fn expire(&mut self, now: Instant) -> Option<Ended> {
        let retained = self.stream.expire_publications(now);
        let mut removals = Vec::new();
        while removals.len() < REMOVALS_PER_LOOK
            && let Some((at, key)) = self.agenda.first()
            && *at <= now
        {
            let key = key.clone();
            removals.extend(self.take(&key, now));
        }
        let is_nothing = removals.is_empty() && retained.is_none();
        (!is_nothing).then(|| Ended { channel: self.channel.clone(), removals, retained })
    }

    fn is_over(&self, now: Instant) -> bool {
        self.entries.is_empty() && self.stream.is_over(now)
    }
}
