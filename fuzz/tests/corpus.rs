//! What the fuzzer has found worth keeping is replayed without it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is there");
}

/// Every input of every corpus runs without a panic.
#[test]
fn the_corpus_runs() {
    replay("json_commands", gyre_fuzz::json_commands);
    replay("protobuf_frames", gyre_fuzz::protobuf_frames);
    replay("websocket_frames", gyre_fuzz::websocket_frames);
    replay("session", gyre_fuzz::session);
}
