//! Connections, each with its handshake, its session and its end.

use std::fmt::{Display, Formatter};

use serde::Serialize;

use super::{Bench, Failures, Percentiles, Usage, UsageError};

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Connections that stand.
    pub connected: usize,
    /// Connections that failed, by cause.
    pub failures: Failures,
    /// Seconds from the first to the last.
    pub seconds: f64,
    /// Connections per second.
    pub per_second: f64,
    /// From when a connection was due to the answer to its connect command.
    pub latency: Option<Percentiles>,
    /// Microseconds of the server's processor time per connection.
    pub server_cpu_micros: Option<f64>,
    /// Bytes of the server's memory per connection.
    pub server_bytes: Option<f64>,
}

impl Bench {
    /// Opens all connections, looks at the figures and closes them.
    ///
    /// # Errors
    /// If the server's process cannot be looked at.
    pub async fn connect(&self) -> Result<Report, UsageError> {
        let before = self.server.map(Usage::of).transpose()?;
        let opened = self.open().await;
        let after = self.server.map(Usage::of).transpose()?;
        let connected = opened.clients.len();
        for (_, client) in opened.clients {
            client.close().await;
        }
        let used = before.zip(after).filter(|_| connected > 0);
        let per_connection = |value: f64| value / connected as f64;
        Ok(Report {
            connected,
            failures: opened.failures,
            seconds: opened.took.as_secs_f64(),
            per_second: connected as f64 / opened.took.as_secs_f64(),
            latency: opened.latencies.percentiles(),
            server_cpu_micros: used
                .map(|(before, after)| per_connection(after.time_since(&before).as_secs_f64() * 1e6)),
            server_bytes: used
                .map(|(before, after)| per_connection(after.resident.saturating_sub(before.resident) as f64)),
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { connected, seconds, per_second, .. } = self;
        writeln!(f, "connections  {connected} in {seconds:.2} s, {per_second:.0} per second")?;
        if let Some(latency) = self.latency {
            writeln!(f, "latency      {latency}")?;
        }
        if let (Some(micros), Some(bytes)) = (self.server_cpu_micros, self.server_bytes) {
            writeln!(f, "server       {micros:.1} µs and {bytes:.0} bytes per connection")?;
        }
        if self.failures.total() > 0 {
            writeln!(f, "failed       {}\n{}", self.failures.total(), self.failures)?;
        }
        Ok(())
    }
}
