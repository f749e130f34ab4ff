//! Channel names, namespaces, permissions and per-channel options.

mod name;
mod namespaces;
mod options;

pub use name::ChannelName;
pub use namespaces::{NameParts, Namespaces};
pub use options::*;
