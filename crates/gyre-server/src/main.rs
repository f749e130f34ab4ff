//! The `gyre` program.
fn main() {}
