//! Engines: the ports of `gyre-core` filled.
//!
//! * [`memory`]: one node, everything in this process. The default.

pub mod memory;
