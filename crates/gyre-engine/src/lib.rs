//! Engines of Gyre: implementations of the core's ports
