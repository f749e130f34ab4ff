//! Channel names, namespaces, permissions and per-channel options.

mod map;
mod name;
mod namespaces;
mod options;
mod pattern;
mod permission;
mod shared_poll;

pub use map::*;
pub use name::ChannelName;
pub use namespaces::{NameParts, Namespaces};
pub use options::*;
pub use pattern::{ChannelPattern, PatternError};
pub use permission::Asker;
pub use shared_poll::*;
