//! Publications, each delivered to every subscriber of its channel.

use std::{
    fmt::{Display, Formatter},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{Bench, Failures, Latencies, Percentiles, Usage, UsageError};
use crate::{
    ClientError,
    client::Client,
    http,
    message::{Publication, Subscribe},
    target::Trust,
};

/// Histograms that subscribers share, so that they seldom meet at one.
const STRIPES: usize = 16;
/// How long deliveries on their way are waited for at the end.
const GRACE: Duration = Duration::from_secs(5);
/// Publications through the API under way at a time.
const REQUESTS_MAX: usize = 64;

/// What is published.
#[derive(Debug, Clone)]
pub struct Fanout {
    /// Channels; subscribers are spread over them.
    pub channels: usize,
    /// Beginning of their names, which a number follows.
    pub prefix: String,
    /// Publications per second, over all channels.
    pub rate: u32,
    /// Bytes of each publication's data, at least.
    pub size: usize,
    /// How long is published.
    pub duration: Duration,
    /// The way in.
    pub publisher: Publisher,
}

/// How publications reach the server.
#[derive(Debug, Clone)]
pub enum Publisher {
    /// As a client, with a connection of its own.
    Client,
    /// Through the server API.
    Api {
        /// Address, which ends in `/api`.
        url: String,
        /// Key.
        key: String,
        /// How the server's certificate is checked.
        trust: Trust,
    },
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Subscribers.
    pub subscribers: usize,
    /// Publications the server took.
    pub published: u64,
    /// Deliveries these should have made.
    pub expected: u64,
    /// Deliveries that arrived.
    pub delivered: u64,
    /// Deliveries per second while publishing.
    pub per_second: f64,
    /// From when a publication was due to its arrival.
    pub latency: Option<Percentiles>,
    /// Latest that a publication was sent after it was due: where it is large, this program was too slow.
    pub late: Option<Percentiles>,
    /// Connections, subscriptions and publications that failed, by cause.
    pub failures: Failures,
    /// Microseconds of the server's processor time per delivery.
    pub server_cpu_micros: Option<f64>,
}

/// What subscribers tell.
struct Shared {
    began: Instant,
    delivered: AtomicU64,
    latencies: [Mutex<Latencies>; STRIPES],
    failures: Mutex<Failures>,
}

impl Bench {
    /// Connects and subscribes everybody, publishes, and counts.
    ///
    /// # Errors
    /// If the server's process cannot be looked at.
    pub async fn fan_out(&self, fanout: &Fanout) -> Result<Report, UsageError> {
        let opened = self.open().await;
        let shared = Arc::new(Shared {
            began: Instant::now(),
            delivered: AtomicU64::new(0),
            latencies: std::array::from_fn(|_| Mutex::new(Latencies::default())),
            failures: Mutex::new(opened.failures),
        });
        let (readers, subscribers) = subscribe_all(opened.clients, fanout, &shared).await;
        let per_channel = |i: usize| subscribers.get(i % fanout.channels.max(1)).copied().unwrap_or(0);
        let total: u64 = subscribers.iter().sum();
        (self.progress)(format!("{total} subscribers; publishing for {:?}", fanout.duration));

        let before = self.server.map(Usage::of).transpose()?;
        let began = Instant::now();
        let published = self.publish_all(fanout, &shared, &per_channel).await;
        let took = began.elapsed();
        let until = Instant::now() + GRACE;
        while shared.delivered.load(Ordering::Relaxed) < published.expected && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        let after = self.server.map(Usage::of).transpose()?;
        drop(readers);

        let mut latencies = Latencies::default();
        for stripe in &shared.latencies {
            latencies.merge(&stripe.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let delivered = shared.delivered.load(Ordering::Relaxed);
        let failures = std::mem::take(&mut *shared.failures.lock().unwrap_or_else(PoisonError::into_inner));
        let used = before.zip(after).filter(|_| delivered > 0);
        Ok(Report {
            subscribers: usize::try_from(total).unwrap_or(usize::MAX),
            published: published.count,
            expected: published.expected,
            delivered,
            per_second: delivered as f64 / took.as_secs_f64(),
            latency: latencies.percentiles(),
            late: published.late.percentiles(),
            failures,
            server_cpu_micros: used
                .map(|(before, after)| after.time_since(&before).as_secs_f64() * 1e6 / delivered as f64),
        })
    }

    async fn publish_all(
        &self,
        fanout: &Fanout,
        shared: &Arc<Shared>,
        subscribers_of: &impl Fn(usize) -> u64,
    ) -> Published {
        let mut published = Published::default();
        let mut client = match fanout.publisher {
            Publisher::Api { .. } => None,
            Publisher::Client => {
                match Client::connect(&self.connector, &(self.token)(self.clients), None).await {
                    Ok(client) => Some(client),
                    Err(error) => {
                        shared.fail(&error);
                        return published;
                    }
                }
            }
        };
        let mut requests = JoinSet::new();
        let began = Instant::now();
        let count = (fanout.duration.as_secs_f64() * f64::from(fanout.rate)) as usize;
        let mut next_progress = began + Duration::from_secs(1);
        for i in 0..count {
            let due = began + Duration::from_secs_f64(i as f64 / f64::from(fanout.rate.max(1)));
            sleep_until(due).await;
            published.late.record(due.elapsed());
            let channel = name(fanout, i % fanout.channels.max(1));
            let data = payload(due.saturating_duration_since(shared.began), fanout.size);
            let outcome = match (&mut client, &fanout.publisher) {
                (Some(client), _) => client.publish(&channel, &data).await,
                (None, Publisher::Api { url, key, trust }) => {
                    let (url, key, trust) = (url.clone(), key.clone(), trust.clone());
                    requests
                        .spawn(async move { (i, http::publish(&url, &key, &channel, &data, &trust).await) });
                    if requests.len() >= REQUESTS_MAX {
                        published.settle(requests.join_next().await, shared, subscribers_of);
                    }
                    continue;
                }
                (None, Publisher::Client) => return published,
            };
            published.add(i, outcome, shared, subscribers_of);
            if Instant::now() >= next_progress {
                next_progress += Duration::from_secs(1);
                let delivered = shared.delivered.load(Ordering::Relaxed);
                (self.progress)(format!("{} published, {delivered} delivered", published.count));
            }
        }
        while let Some(done) = requests.join_next().await {
            published.settle(Some(done), shared, subscribers_of);
        }
        published
    }
}

/// A publication's number, and what came of it.
type Outcome = (usize, Result<(), ClientError>);

/// What the publisher did.
#[derive(Default)]
struct Published {
    count: u64,
    expected: u64,
    late: Latencies,
}

impl Published {
    fn add(
        &mut self,
        i: usize,
        outcome: Result<(), ClientError>,
        shared: &Shared,
        subscribers_of: &impl Fn(usize) -> u64,
    ) {
        match outcome {
            Ok(()) => {
                self.count += 1;
                self.expected += subscribers_of(i);
            }
            Err(error) => shared.fail(&error),
        }
    }

    fn settle(
        &mut self,
        done: Option<Result<Outcome, JoinError>>,
        shared: &Shared,
        subscribers_of: &impl Fn(usize) -> u64,
    ) {
        if let Some(Ok((i, outcome))) = done {
            self.add(i, outcome, shared, subscribers_of);
        }
    }
}

impl Shared {
    fn fail(&self, error: &ClientError) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).add(error);
    }
}

fn name(fanout: &Fanout, i: usize) -> String {
    format!("{}{i}", fanout.prefix)
}

/// Subscribes every client; returns the tasks that read, and the number of subscribers of each channel.
async fn subscribe_all(
    clients: Vec<(usize, Client)>,
    fanout: &Fanout,
    shared: &Arc<Shared>,
) -> (JoinSet<()>, Vec<u64>) {
    let mut subscribing = JoinSet::new();
    for (i, mut client) in clients {
        let place = i % fanout.channels.max(1);
        let channel = name(fanout, place);
        subscribing.spawn(async move {
            let subscribe = Subscribe { channel: &channel, ..Subscribe::default() };
            let outcome = client.subscribe(subscribe).await;
            outcome.map(|_| (i, place, client))
        });
    }
    let mut readers = JoinSet::new();
    let mut subscribers = vec![0; fanout.channels.max(1)];
    while let Some(Ok(outcome)) = subscribing.join_next().await {
        match outcome {
            Ok((i, place, client)) => {
                subscribers[place] += 1;
                readers.spawn(read(i, client, Arc::clone(shared)));
            }
            Err(error) => shared.fail(&error),
        }
    }
    (readers, subscribers)
}

/// Counts what arrives until the connection ends.
async fn read(i: usize, mut client: Client, shared: Arc<Shared>) {
    loop {
        let push = match client.next_push().await {
            Ok(push) => push,
            Err(error) => return shared.fail(&error),
        };
        let Some(publication) = push.publication else { continue };
        let Some(due) = due_of(&publication) else { continue };
        let latency = shared.began.elapsed().saturating_sub(due);
        shared.latencies[i % STRIPES].lock().unwrap_or_else(PoisonError::into_inner).record(latency);
        shared.delivered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Data that says when it was due, in nanoseconds after the beginning, filled up to `size` bytes.
fn payload(due: Duration, size: usize) -> Box<RawValue> {
    let head = format!("{{\"due\":{},\"filler\":\"", due.as_nanos());
    let filler = "x".repeat(size.saturating_sub(head.len() + 2));
    // Plain text in braces is JSON.
    RawValue::from_string(format!("{head}{filler}\"}}")).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// When a publication was due; `None` if it is somebody else's.
fn due_of(publication: &RawValue) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    struct Due {
        due: u64,
    }
    let publication: Publication<'_> = serde_json::from_str(publication.get()).ok()?;
    let data: Due = serde_json::from_str(publication.data?.get()).ok()?;
    Some(Duration::from_nanos(data.due))
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { subscribers, published, expected, delivered, per_second, .. } = self;
        writeln!(f, "published    {published} to {subscribers} subscribers")?;
        let lost = expected.saturating_sub(*delivered);
        writeln!(f, "delivered    {delivered} of {expected}, {lost} missing, {per_second:.0} per second")?;
        if let Some(latency) = self.latency {
            writeln!(f, "latency      {latency}")?;
        }
        if let Some(late) = self.late {
            writeln!(f, "sent late    {late}")?;
        }
        if let Some(micros) = self.server_cpu_micros {
            writeln!(f, "server       {micros:.2} µs per delivery")?;
        }
        if self.failures.total() > 0 {
            writeln!(f, "failed       {}\n{}", self.failures.total(), self.failures)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload has the size asked for and gives its time back; a size below what that takes is exceeded.
    #[test]
    fn payloads_carry_their_time() {
        let due = Duration::from_nanos(123_456_789);
        for size in [0, 64, 1000] {
            let data = payload(due, size);
            assert!(data.get().len() >= size && (size < 64 || data.get().len() == size), "{size}");
            let publication = RawValue::from_string(format!("{{\"data\":{data},\"offset\":1}}")).unwrap();
            assert_eq!(due_of(&publication), Some(due));
        }
        assert_eq!(due_of(&RawValue::from_string("{\"data\":{}}".into()).unwrap()), None);
    }
}
