//! See `gyre_fuzz::json_commands`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| gyre_fuzz::json_commands(data));

/// Without the fuzzer there is nothing to do: `cargo xtask fuzz` builds another program.
#[cfg(not(fuzzing))]
fn main() {}
