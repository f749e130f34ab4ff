//! What tests of several crates share. Used from `tests/` folders only.

pub mod suites;
