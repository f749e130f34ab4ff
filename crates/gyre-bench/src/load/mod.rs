//! Workloads: many connections at once, open-loop, with figures.
//!
//! Work is scheduled by the clock and its latency counted from the moment it was due, so that a server that stalls cannot
//! hide it by slowing the load down.

pub mod connect;
pub mod fanout;
mod figures;
mod process;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub use figures::{Failures, Latencies, Percentiles};
pub use process::{Usage, UsageError};

use crate::{ClientError, client::Client, socket::Connector, target::Transport};

/// Connections from one address to one port: below the system's usual range of 28,232.
const PER_SOURCE: usize = 20_000;

/// What every workload needs.
pub struct Bench {
    /// Makes the connections.
    pub connector: Arc<Connector>,
    /// Makes the token of a connection, by its number; empty for none.
    pub token: Box<dyn Fn(usize) -> String + Send + Sync>,
    /// Connections.
    pub clients: usize,
    /// New connections per second; 0 for as fast as they are accepted.
    pub connect_rate: u32,
    /// Connections being made at a time.
    pub concurrency: usize,
    /// Process of the server, to read its processor time and memory.
    pub server: Option<u32>,
    /// Told of progress, about once a second.
    pub progress: Box<dyn Fn(String) + Send + Sync>,
}

/// Connections that were opened, and what it took.
struct Opened {
    clients: Vec<(usize, Client)>,
    latencies: Latencies,
    failures: Failures,
    took: Duration,
}

impl Bench {
    /// Opens all connections.
    async fn open(&self) -> Opened {
        raise_file_limit();
        let began = Instant::now();
        let permits = Arc::new(Semaphore::new(self.concurrency.max(1)));
        let mut attempts = JoinSet::new();
        let mut opened = Opened {
            clients: Vec::with_capacity(self.clients),
            latencies: Latencies::default(),
            failures: Failures::default(),
            took: Duration::ZERO,
        };
        let mut next_progress = began + Duration::from_secs(1);
        for i in 0..self.clients {
            let due = match self.connect_rate {
                0 => None,
                rate => Some(began + Duration::from_secs_f64(i as f64 / f64::from(rate))),
            };
            if let Some(due) = due {
                sleep_until(due).await;
            }
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let connector = Arc::clone(&self.connector);
            let token = (self.token)(i);
            attempts.spawn(async move {
                let due = due.unwrap_or_else(Instant::now);
                let client = Client::connect(&connector, &token, source(&connector, i)).await;
                drop(permit);
                (i, client, due.elapsed())
            });
            while let Some(Ok(done)) = attempts.try_join_next() {
                opened.add(done);
            }
            if Instant::now() >= next_progress {
                next_progress += Duration::from_secs(1);
                (self.progress)(format!("{} of {} connected", opened.clients.len(), self.clients));
            }
        }
        while let Some(Ok(done)) = attempts.join_next().await {
            opened.add(done);
        }
        opened.took = began.elapsed();
        opened
    }
}

impl Opened {
    fn add(&mut self, (i, client, latency): (usize, Result<Client, ClientError>, Duration)) {
        match client {
            Ok(client) => {
                self.latencies.record(latency);
                self.clients.push((i, client));
            }
            Err(error) => self.failures.add(&error),
        }
    }
}

/// The source of the connection with this number: loopback has sixteen million addresses, and each has its own ports.
fn source(connector: &Connector, i: usize) -> Option<SocketAddr> {
    if i < PER_SOURCE || connector.transport() != Transport::WebSocket || !connector.is_loopback_v4() {
        return None;
    }
    let host = u8::try_from(1 + i / PER_SOURCE).ok()?;
    Some((IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0).into())
}

/// As many open files as the system allows this process; each connection is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the connections that fail say so.
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
