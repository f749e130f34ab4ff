//! Telling the application which clients have left.
//!
//! Each event is sent until the application has answered it, [`ATTEMPTS_MAX`] times at most; a bounded number wait, and
//! a bounded number are on the way at the same time, so that a hook that hangs costs no more than that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use gyre_core::ports::{Delivery, DisconnectEvent, EventHooks};
use tokio::sync::Semaphore;

use crate::retry::Backoff;

/// Events that wait or are on the way at most; further ones are dropped and logged.
const WAITING_MAX: usize = 100_000;
/// Calls at the same time.
const CALLS_MAX: usize = 64;
/// How often an event is sent at most: for about a minute and a half.
const ATTEMPTS_MAX: usize = 20;

/// Events on their way to the application.
pub(crate) struct Departures {
    application: Arc<dyn EventHooks>,
    waiting: AtomicUsize,
    calls: Semaphore,
}

impl Departures {
    pub(crate) fn new(application: Arc<dyn EventHooks>) -> Self {
        Self { application, waiting: AtomicUsize::new(0), calls: Semaphore::new(CALLS_MAX) }
    }

    /// Tells the hook. Never waits.
    pub(crate) fn tell(
        self: &Arc<Self>,
        hook: Box<str>,
        event: DisconnectEvent,
        control: &tokio::runtime::Handle,
    ) {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(client = &*event.caller.client, "too many clients left: a disconnect is not told");
            return;
        }
        let departures = self.clone();
        drop(control.spawn(async move {
            departures.deliver(&hook, event).await;
            departures.waiting.fetch_sub(1, Ordering::AcqRel);
        }));
    }

    async fn deliver(&self, hook: &str, event: DisconnectEvent) {
        let mut backoff = Backoff::default();
        for _ in 0..ATTEMPTS_MAX {
            // Never closed. Between attempts others have their turn.
            let permit = self.calls.acquire().await;
            if self.application.disconnected(hook, event.clone()).wait().await == Delivery::Done {
                return;
            }
            drop(permit);
            tokio::time::sleep(backoff.next()).await;
        }
        tracing::warn!(client = &*event.caller.client, "a disconnect could not be told to the application");
    }

    /// Returns when nothing is on its way any more.
    pub(crate) async fn settle(&self) {
        while self.waiting.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl std::fmt::Debug for Departures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Departures").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}
