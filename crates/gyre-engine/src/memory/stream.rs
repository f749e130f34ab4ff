//! One channel's stream: its publications, its position, and when they end.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use gyre_core::{
    channel::HistoryOptions,
    ports::{EngineError, History, HistoryFilter},
};
use gyre_protocol::{Epoch, Publication, StreamPosition};

use super::expiring::Expire;

/// A position, and the publications that lead up to it unless they were removed or have ended.
///
/// The position outlives the publications by far (30 days by default), so what it does not need is boxed.
#[derive(Debug)]
pub(super) struct Stream {
    epoch: Epoch,
    top: u64,
    retained: Option<Box<Retained>>,
    version: Option<Box<Version>>,
    /// `None` is never.
    position_expires: Option<Instant>,
}

const _: () = assert!(size_of::<Stream>() <= 56, "a channel that is only remembered must stay small");

/// Publications with consecutive offsets, at least one, the newest of which is the top.
#[derive(Debug)]
pub(super) struct Retained {
    publications: VecDeque<Arc<Publication>>,
    /// `None` is never.
    expires: Option<Instant>,
}

/// Version of the newest publication that had one.
#[derive(Debug)]
pub(super) struct Version {
    /// 0 is none.
    pub(super) number: u64,
    pub(super) epoch: Box<str>,
}

impl Stream {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, top: 0, retained: None, version: None, position_expires: None }
    }

    /// Drops what has ended; a stream whose position has ended begins anew. Comes before anything else.
    pub(super) fn refresh(&mut self, now: Instant, new_epoch: impl FnOnce() -> Epoch) {
        if self.is_over(now) {
            *self = Self::new(new_epoch());
        } else {
            self.expire(now);
        }
    }

    /// Makes a publication the newest of the stream.
    ///
    /// # Errors
    /// The top, if the version is not above the stream's. Nothing has changed then, not even a time to live.
    pub(super) fn append(
        &mut self,
        publication: Publication,
        version: Version,
        options: &HistoryOptions,
        now: Instant,
    ) -> Result<Arc<Publication>, StreamPosition> {
        if self.version.as_ref().is_some_and(|known| known.outdates(&version)) {
            return Err(self.top());
        }
        let publication = self.push(publication, options, now);
        self.set_version(version);
        Ok(publication)
    }

    /// Makes a publication the newest of the stream, whatever its version.
    pub(super) fn push(
        &mut self,
        mut publication: Publication,
        options: &HistoryOptions,
        now: Instant,
    ) -> Arc<Publication> {
        self.top += 1;
        publication.offset = self.top;
        publication.epoch = self.epoch.clone();
        let publication = Arc::new(publication);
        self.retained.get_or_insert_with(Retained::new).push(publication.clone(), options, now);
        self.keep_position(now, options.meta_ttl);
        publication
    }

    /// Keeps the position for so long from now on.
    pub(super) fn keep_position(&mut self, now: Instant, meta_ttl: Duration) {
        self.position_expires = now.checked_add(meta_ttl);
    }

    /// Takes the publications out and keeps the position.
    pub(super) fn clear(&mut self) -> Option<Box<Retained>> {
        self.retained.take()
    }

    /// Spec: Centrifugo server API, `history`; client protocol, `HistoryRequest`.
    pub(super) fn read(&self, filter: &HistoryFilter) -> Result<History, EngineError> {
        if let Some(since) = &filter.since
            && !since.epoch.is_empty()
            && !since.epoch.is_same(&self.epoch)
        {
            return Err(EngineError::UnrecoverablePosition);
        }
        let publications = self.retained.as_ref().map_or_else(Vec::new, |retained| retained.read(filter));
        Ok(History { publications, top: self.top() })
    }

    /// The position of the newest publication.
    pub(super) fn top(&self) -> StreamPosition {
        StreamPosition { offset: self.top, epoch: self.epoch.clone() }
    }

    /// When the publications end.
    pub(super) fn publications_end(&self) -> Option<Instant> {
        self.retained.as_ref().and_then(|retained| retained.expires)
    }

    /// Takes the publications out if they have ended; whether the position has is not looked at.
    pub(super) fn expire_publications(&mut self, now: Instant) -> Option<Box<Retained>> {
        self.publications_end().filter(|at| *at <= now)?;
        self.clear()
    }

    /// A publication without a version leaves the stream's as it is.
    fn set_version(&mut self, new: Version) {
        match &mut self.version {
            _ if new.number == 0 => {}
            Some(version) => **version = new,
            None => self.version = Some(Box::new(new)),
        }
    }
}

impl Version {
    /// True if a publication of that version comes too late.
    ///
    /// Spec: Centrifugo server API, `publish`, `version` and `version_epoch`.
    pub(super) fn outdates(&self, new: &Self) -> bool {
        let is_comparable = new.epoch.is_empty() || new.epoch == self.epoch;
        new.number != 0 && is_comparable && new.number <= self.number
    }
}

#[cfg(test)]
impl Stream {
    /// Publications are in memory, seen or not.
    pub(super) fn has_publications(&self) -> bool {
        self.retained.is_some()
    }
}

impl Expire for Stream {
    type Freed = Box<Retained>;

    fn deadline(&self) -> Option<Instant> {
        [self.publications_end(), self.position_expires].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Instant) -> Option<Box<Retained>> {
        let has_ended = |expires: Option<Instant>| expires.is_some_and(|at| at <= now);
        match &self.retained {
            Some(retained) if has_ended(retained.expires) || self.is_over(now) => self.clear(),
            _ => None,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.position_expires.is_some_and(|at| at <= now)
    }
}

impl Retained {
    fn new() -> Box<Self> {
        Box::new(Self { publications: VecDeque::new(), expires: None })
    }

    fn push(&mut self, publication: Arc<Publication>, options: &HistoryOptions, now: Instant) {
        let size = options.size.get();
        if self.publications.len() > size {
            // The size was lowered by a reload.
            self.publications.drain(..self.publications.len() - size);
            self.publications.shrink_to(size);
        }
        // Before the push, so that a full ring is not doubled for one place.
        if self.publications.len() == size {
            self.publications.pop_front();
        }
        self.publications.push_back(publication);
        self.expires = now.checked_add(options.ttl);
    }

    fn read(&self, filter: &HistoryFilter) -> Vec<Arc<Publication>> {
        let count = self.publications.len();
        let limit = filter.limit.unwrap_or(usize::MAX);
        let since = filter.since.as_ref().map(|since| since.offset);
        if !filter.reverse {
            let first = since.map_or(0, |offset| self.count_up_to(offset));
            return self.publications.iter().skip(first).take(limit).cloned().collect();
        }
        let end = match since {
            None => count,
            // The one before `offset` must still be there.
            Some(offset) if offset > self.newest().saturating_add(1) => 0,
            Some(offset) => self.count_up_to(offset.saturating_sub(1)),
        };
        self.publications.iter().take(end).rev().take(limit).cloned().collect()
    }

    /// How many have an offset of at most `offset`.
    fn count_up_to(&self, offset: u64) -> usize {
        let before_oldest = self.publications.front().map_or(0, |oldest| oldest.offset.saturating_sub(1));
        let count = offset.saturating_sub(before_oldest);
        usize::try_from(count).unwrap_or(usize::MAX).min(self.publications.len())
    }

    fn newest(&self) -> u64 {
        self.publications.back().map_or(0, |newest| newest.offset)
    }
}
