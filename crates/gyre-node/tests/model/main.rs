//! Any interleaving of what clients, publishers, the engine and the network do, against a model so naive that it is
//! evidently right: no client sees a gap, a repetition or a wrong `recovered`.
//!
//! Two shards and their clients run on one thread, and a seeded generator decides what happens next: each part of a
//! shard's turn, each answer of the engine, each read of a client. A failure tells the seed; `GYRE_MODEL_SEED` repeats
//! it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod client;
mod engine;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::RngExt;
use world::World;

/// Operations in all, and in one world.
const OPERATIONS: usize = 1_000_000;
const OPERATIONS_OF_WORLD: usize = 2_000;

#[test]
fn no_gap_no_repetition_no_wrong_recovered() {
    if let Ok(seed) = std::env::var("GYRE_MODEL_SEED") {
        World::new(seed.parse().unwrap()).run(OPERATIONS_OF_WORLD);
        return;
    }
    let first: u64 = rand::rng().random();
    let mut seen = world::Seen::default();
    for number in 0..(OPERATIONS / OPERATIONS_OF_WORLD) as u64 {
        let seed = first.wrapping_add(number);
        match catch_unwind(AssertUnwindSafe(|| World::new(seed).run(OPERATIONS_OF_WORLD))) {
            Ok(world) => seen += world,
            Err(panic) => {
                eprintln!("repeat it with GYRE_MODEL_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    println!("{seen:?}");
    seen.assert_complete();
}
