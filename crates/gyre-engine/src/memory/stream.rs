//! One channel's stream: its publications, its position, and when they expire.

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

/// Publications with consecutive offsets, the newest of which is the top, unless they were removed or have expired.
#[derive(Debug)]
pub(super) struct Stream {
    epoch: Epoch,
    top: u64,
    publications: VecDeque<Arc<Publication>>,
    publications_expire: Option<Instant>,
    position_expires: Option<Instant>,
    version: u64,
    version_epoch: Box<str>,
}

impl Stream {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            top: 0,
            publications: VecDeque::new(),
            publications_expire: None,
            position_expires: None,
            version: 0,
            version_epoch: "".into(),
        }
    }

    /// Drops what has expired; a stream whose position has expired begins anew.
    pub(super) fn refresh(&mut self, now: Instant, new_epoch: impl FnOnce() -> Epoch) {
        if self.position_expires.is_some_and(|at| at <= now) {
            *self = Self::new(new_epoch());
        } else if self.publications_expire.is_some_and(|at| at <= now) {
            self.clear();
        }
    }

    /// Drops what has expired; true if nothing is left.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        if self.publications_expire.is_some_and(|at| at <= now) {
            self.clear();
        }
        self.position_expires.is_some_and(|at| at <= now)
    }

    pub(super) fn top(&self) -> StreamPosition {
        StreamPosition { offset: self.top, epoch: self.epoch.clone() }
    }

    pub(super) fn next_position(&self) -> StreamPosition {
        StreamPosition { offset: self.top + 1, epoch: self.epoch.clone() }
    }

    /// True if a publication of that version must not be made.
    pub(super) fn is_outdated(&self, version: u64, version_epoch: &str) -> bool {
        let is_comparable = version_epoch.is_empty() || *version_epoch == *self.version_epoch;
        version != 0 && self.top != 0 && is_comparable && version <= self.version
    }

    pub(super) fn set_version(&mut self, version: u64, epoch: Box<str>) {
        if version != 0 {
            self.version = version;
            self.version_epoch = epoch;
        }
    }

    pub(super) fn append(&mut self, publication: Arc<Publication>, options: &HistoryOptions, now: Instant) {
        self.top = publication.offset;
        self.publications.push_back(publication);
        while self.publications.len() > options.size.get() {
            self.publications.pop_front();
        }
        self.publications_expire = Some(now + options.ttl);
        self.keep_position(now, options.meta_ttl);
    }

    pub(super) fn keep_position(&mut self, now: Instant, meta_ttl: Duration) {
        self.position_expires = Some(now + meta_ttl);
    }

    /// Removes the publications and keeps the position.
    pub(super) fn clear(&mut self) {
        self.publications = VecDeque::new();
        self.publications_expire = None;
    }

    pub(super) fn read(&self, filter: &HistoryFilter) -> Result<History, EngineError> {
        let top = self.top();
        let limit = filter.limit.unwrap_or(usize::MAX);
        let since = match &filter.since {
            Some(since) if !since.epoch.is_empty() && !since.epoch.is_same(&self.epoch) => {
                return Err(EngineError::UnrecoverablePosition);
            }
            since => since.as_ref().map(|since| since.offset),
        };
        let oldest = self.publications.front().map_or(0, |publication| publication.offset);
        let count = self.publications.len();
        let publications = match (filter.reverse, since) {
            (false, since) => {
                let skip = since.map_or(0, |offset| offset.saturating_sub(oldest.saturating_sub(1)));
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                self.publications.iter().skip(skip).take(limit).cloned().collect()
            }
            (true, None) => self.publications.iter().rev().take(limit).cloned().collect(),
            // Descending from the one before `offset`, which must still be there.
            (true, Some(offset)) => match offset.checked_sub(oldest) {
                Some(below @ 1..) if below <= count as u64 => {
                    self.publications.iter().take(below as usize).rev().take(limit).cloned().collect()
                }
                _ => Vec::new(),
            },
        };
        Ok(History { publications, top })
    }
}
