//! The memory engine keeps the contracts of the ports, whether or not it is swept in time: what has ended is not seen.

use std::{sync::Arc, time::Duration};

use gyre_engine::memory::MemoryEngine;
use gyre_testkit::suites::{Fixture, RecordingSink, VirtualClock};

mod swept {
    gyre_testkit::engine_suite!(crate::fixture(crate::Sweep::Always));
}

mod never_swept {
    gyre_testkit::engine_suite!(crate::fixture(crate::Sweep::Never));
}

/// What happens when time has passed.
enum Sweep {
    Always,
    Never,
}

fn fixture(sweep: Sweep) -> Fixture {
    let (clock, sink) = (VirtualClock::default(), Arc::new(RecordingSink::default()));
    let time = clock.clone();
    let presence_ttl = Duration::from_secs(60);
    let engine = Arc::new(MemoryEngine::new(sink.clone(), Arc::new(move || time.now()), presence_ttl));
    let swept = engine.clone();
    let advance = move |by| {
        clock.advance(by);
        if matches!(sweep, Sweep::Always) {
            swept.sweep();
        }
    };
    Fixture {
        broker: engine.clone(),
        maps: engine.clone(),
        presence: engine,
        presence_ttl,
        sink,
        advance: Box::new(advance),
        prefix: String::new(),
    }
}
