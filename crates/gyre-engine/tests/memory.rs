//! The memory engine keeps the contract of the ports.

use std::{sync::Arc, time::Duration};

use gyre_engine::memory::MemoryEngine;
use gyre_testkit::suites::{self, RecordingSink, Setup, VirtualClock};

const PRESENCE_TTL: Duration = Duration::from_secs(60);

fn setup() -> Setup<MemoryEngine> {
    let (clock, sink) = (VirtualClock::default(), Arc::new(RecordingSink::default()));
    let read = clock.clone();
    let engine = Arc::new(MemoryEngine::new(sink.clone(), Arc::new(move || read.now()), PRESENCE_TTL));
    Setup { engine, clock, sink }
}

/// Ordering under concurrent publishers.
#[test]
fn deliveries_follow_offsets() {
    suites::deliveries_follow_offsets(&setup());
}

/// Filters on history.
#[test]
fn history_is_read_by_filters() {
    suites::history_is_read_by_filters(&setup());
}

/// Times to live, with and without a sweep between.
#[test]
fn streams_expire() {
    suites::streams_expire(&setup());
    let setup = setup();
    suites::streams_expire(&setup);
    setup.engine.sweep();
}

/// Idempotency keys and versions.
#[test]
fn repeated_publications_are_suppressed() {
    suites::repeated_publications_are_suppressed(&setup());
}

/// Presence.
#[test]
fn members_come_and_go() {
    suites::members_come_and_go(&setup(), PRESENCE_TTL);
}
