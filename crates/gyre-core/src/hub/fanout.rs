//! One event on its way to the subscribers of a channel: encoded once per form in use, patched once.

use std::sync::Arc;

use bytes::Bytes;
use gyre_protocol::{Publication, Push, PushBody, codec::Encoding};

use super::WireForm;
use crate::{channel::ChannelName, delta, ports::ChannelEvent};

/// An event and what was made of it so far.
#[derive(Debug)]
pub(super) struct Fanout {
    push: Push,
    /// The channel's number, for those who know it by that.
    id: u32,
    base: Base,
    patch: Patch,
    frames: Frames,
}

/// What a patch may be made against.
#[derive(Debug)]
enum Base {
    /// The publisher wants none.
    Unwanted,
    /// What those who may be sent a patch have received last, if anything.
    Last(Option<Arc<Publication>>),
    /// The publication of the key before this one.
    OfKey(Arc<Publication>),
}

/// Whether a patch was made.
#[derive(Debug)]
enum Patch {
    Untried,
    Impossible,
    Made(Push),
}

/// What a subscriber is sent of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The data.
    Plain,
    /// The data, on a subscription with delta: in JSON a string.
    Full,
    /// A patch if there is one, else as [`Content::Full`].
    Patch,
}

/// Everything that tells two frames of one event apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameKey {
    form: WireForm,
    content: Content,
    is_compact: bool,
}

/// Ready frames; `None` where the form cannot carry the event. A shard has few forms, so a linear search beats a map.
#[derive(Debug, Default)]
struct Frames(Vec<(FrameKey, Option<Bytes>)>);

impl Fanout {
    /// An event to be delivered where the publication before it was `last`; `None` if it says that events were lost.
    pub(super) fn new(
        channel: &ChannelName,
        id: u32,
        event: ChannelEvent,
        last: Option<Arc<Publication>>,
    ) -> Option<Self> {
        let (body, base) = match event {
            ChannelEvent::Publication(publication) => (PushBody::Publication(publication), Base::Unwanted),
            ChannelEvent::DeltaPublication(publication) => {
                (PushBody::Publication(publication), Base::Last(last))
            }
            ChannelEvent::DeltaChange { publication, base } => {
                (PushBody::Publication(publication), Base::OfKey(base))
            }
            ChannelEvent::Join(info) => (PushBody::Join(info), Base::Unwanted),
            ChannelEvent::Leave(info) => (PushBody::Leave(info), Base::Unwanted),
            ChannelEvent::Lost => return None,
        };
        let push = Push { channel: channel.as_shared().clone(), id: 0, body };
        let (patch, frames) = (Patch::Untried, Frames::default());
        Some(Self { push, id, base, patch, frames })
    }

    /// The publication, unless it is a join or leave.
    pub(super) fn publication(&self) -> Option<&Arc<Publication>> {
        match &self.push.body {
            PushBody::Publication(publication) => Some(publication),
            _ => None,
        }
    }

    /// The publication as it was delivered, to be looked at later.
    pub(super) fn held(&self, publication: &Arc<Publication>) -> ChannelEvent {
        let publication = publication.clone();
        match &self.base {
            Base::Unwanted => ChannelEvent::Publication(publication),
            Base::Last(_) => ChannelEvent::DeltaPublication(publication),
            Base::OfKey(base) => ChannelEvent::DeltaChange { publication, base: base.clone() },
        }
    }

    /// What a patch would be made against.
    pub(super) fn base(&self) -> Option<&Publication> {
        match &self.base {
            Base::Unwanted => None,
            Base::Last(last) => last.as_deref(),
            Base::OfKey(base) => Some(base),
        }
    }

    /// The frame for a subscriber; `None` if its form cannot carry the event.
    pub(super) fn frame(&mut self, form: WireForm, content: Content, is_compact: bool) -> Option<&Bytes> {
        let content = match content {
            Content::Patch if !self.has_patch() => Content::Full,
            content => content,
        };
        // Only data in JSON is written in another way where there is delta.
        let is_alike = form.encoding == Encoding::Protobuf || self.publication().is_none();
        let content = if content == Content::Full && is_alike { Content::Plain } else { content };
        let push = match (&self.patch, content) {
            (Patch::Made(push), Content::Patch) => push,
            _ => &self.push,
        };
        self.frames.of(FrameKey { form, content, is_compact }, push, self.id)
    }

    /// Makes the patch when it is first asked for.
    fn has_patch(&mut self) -> bool {
        if let Patch::Untried = self.patch {
            self.patch = self.patched().map_or(Patch::Impossible, Patch::Made);
        }
        matches!(self.patch, Patch::Made(_))
    }

    fn patched(&self) -> Option<Push> {
        let publication = delta::patched(self.base()?, self.publication()?)?;
        Some(Push { body: PushBody::Publication(Arc::new(publication)), ..self.push.clone() })
    }
}

impl Frames {
    fn of(&mut self, key: FrameKey, push: &Push, id: u32) -> Option<&Bytes> {
        let at = match self.0.iter().position(|(known, _)| *known == key) {
            Some(at) => at,
            None => {
                self.0.push((key, key.encode(push, id)));
                self.0.len() - 1
            }
        };
        self.0[at].1.as_ref()
    }
}

impl FrameKey {
    fn encode(&self, push: &Push, id: u32) -> Option<Bytes> {
        let compact = self.is_compact.then(|| Push { id: id.into(), ..push.clone() });
        let push = compact.as_ref().unwrap_or(push);
        match self.content {
            Content::Plain => self.form.push(push).ok(),
            Content::Full | Content::Patch => self.form.delta_push(push).ok(),
        }
    }
}
