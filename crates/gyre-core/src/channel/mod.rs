//! Channel names, namespaces, permissions and per-channel options.

mod namespaces;
mod options;

pub use namespaces::{NameParts, Namespaces};
pub use options::*;
