//! The name of a channel that has passed the rules.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

/// A channel name. Cheap to clone: all holders on a shard share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Wraps a name that has been checked, or that comes from the server's own application.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The shared text.
    pub fn as_shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl Deref for ChannelName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
