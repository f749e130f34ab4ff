//! Metrics sent to Graphite: lines over TCP, each interval.
//!
//! One batch at a time and none kept: what cannot be sent within its interval is dropped, and the next one tries again
//! with a new connection.
//!
//! Spec: graphite.readthedocs.io, "Feeding In Your Data", plaintext protocol

use std::{
    future::Future,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{MissedTickBehavior, timeout},
};

use super::exposition::{Exposition, Labels};

/// `graphite`, if enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphiteOptions {
    /// `host`.
    pub host: String,
    /// `port`.
    pub port: u16,
    /// `prefix`: what all names begin with.
    pub prefix: String,
    /// `interval` between batches; not zero.
    pub interval: Duration,
    /// `tags`: labels are tags instead of parts of the name.
    pub tags: bool,
}

/// Sends metrics.
#[derive(Debug)]
pub struct Graphite {
    options: GraphiteOptions,
    /// What all names begin with, the node's own included.
    root: String,
    connection: Option<TcpStream>,
    is_failing: bool,
}

impl Graphite {
    /// Sends nothing yet.
    pub fn new(options: GraphiteOptions, node_name: &str) -> Self {
        let node_name = node_name.replace('.', "_");
        let root = match options.prefix.as_str() {
            "" => path_part(&node_name),
            prefix => format!("{prefix}.{}", path_part(&node_name)),
        };
        Self { options, root, connection: None, is_failing: false }
    }

    /// Sends what `gather` gives, each interval, for ever.
    pub async fn run<F: Future<Output = Exposition>>(mut self, gather: impl Fn() -> F) {
        let interval = self.options.interval;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once, when there is nothing to tell.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let sent = timeout(interval, async {
                let lines = self.lines(&gather().await, unix_seconds());
                self.send(lines.as_bytes()).await
            });
            let sent = sent.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            self.report(sent);
        }
    }

    async fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect((self.options.host.as_str(), self.options.port)).await?,
        };
        // Nobody answers here, so what can be read is the end: better seen before the batch is written into nothing.
        if let Ok(0) = connection.try_read(&mut [0; 64]) {
            connection = TcpStream::connect((self.options.host.as_str(), self.options.port)).await?;
        }
        connection.write_all(lines).await?;
        // Only a connection that took a whole batch is used again.
        self.connection = Some(connection);
        Ok(())
    }

    /// Says once that it fails, and once that it works again.
    fn report(&mut self, sent: io::Result<()>) {
        let (host, port) = (&self.options.host, self.options.port);
        match sent {
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(%error, host, port, "cannot send metrics to Graphite: further batches are dropped");
            }
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!(host, port, "metrics reach Graphite again");
            }
            _ => {}
        }
    }

    fn lines(&self, exposition: &Exposition, unix_seconds: u64) -> String {
        let mut lines = String::new();
        for family in exposition.families() {
            let name = dotted(&family.name);
            // Graphite has no word for "no number".
            for sample in family.samples.iter().filter(|sample| sample.value.is_finite()) {
                let labels = self.labels(&sample.labels);
                let (root, suffix, value) = (&self.root, sample.suffix, sample.value);
                lines += &format!("{root}.{name}{suffix}{labels} {value} {unix_seconds}\n");
            }
        }
        lines
    }

    fn labels(&self, labels: &Labels) -> String {
        // An empty part would be no name, an empty tag no tag.
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let parts = labels.map(|(name, value)| match self.options.tags {
            true => format!(";{name}={}", path_part(value)),
            false => format!(".{name}.{}", path_part(value)),
        });
        parts.collect()
    }
}

/// `centrifugo_node_num_clients` is `centrifugo.node.num_clients`.
fn dotted(name: &str) -> String {
    const SUBSYSTEMS: [&str; 8] =
        ["node", "client", "transport", "api", "proxy", "broker", "map_broker", "shared_poll"];
    let Some(rest) = name.strip_prefix("centrifugo_") else { return name.to_owned() };
    for subsystem in SUBSYSTEMS {
        if let Some(name) = rest.strip_prefix(subsystem).and_then(|rest| rest.strip_prefix('_')) {
            return format!("centrifugo.{subsystem}.{name}");
        }
    }
    format!("centrifugo.{rest}")
}

/// A text that neither ends a part of a name nor a line.
fn path_part(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
    text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    fn options(port: u16, tags: bool) -> GraphiteOptions {
        let (host, prefix) = ("127.0.0.1".to_owned(), "centrifugo".to_owned());
        GraphiteOptions { host, port, prefix, interval: Duration::from_millis(1), tags }
    }

    fn exposition() -> Exposition {
        let mut exposition = Exposition::default();
        let labels = vec![("channel_namespace", "".into()), ("le", "0.5".into())];
        exposition.sample("centrifugo_node_num_x", "", super::super::Kind::Gauge, labels, 3.0);
        exposition.gauge("process_open_fds", "", 7.0);
        exposition.gauge("centrifugo_client_nan", "", f64::NAN);
        exposition
    }

    /// Names and labels in both ways, compared with lines written by hand.
    #[test]
    fn writes_lines() {
        let lines = |tags| Graphite::new(options(1, tags), "a.b_80").lines(&exposition(), 9);
        assert_eq!(
            lines(false),
            "centrifugo.a_b_80.centrifugo.node.num_x.le.0_5 3 9\ncentrifugo.a_b_80.process_open_fds 7 9\n"
        );
        assert!(lines(true).starts_with("centrifugo.a_b_80.centrifugo.node.num_x;le=0_5 3 9\n"));
    }

    /// A collector that goes away loses what is sent meanwhile, and is sent to again: two connections, the first closed.
    #[tokio::test]
    async fn connects_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let graphite = Graphite::new(options(port, false), "n");
        let running = tokio::spawn(graphite.run(|| async { exposition() }));
        for _ in 0..2 {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut begin = [0; 17];
            tcp.read_exact(&mut begin).await.unwrap();
            assert_eq!(&begin, b"centrifugo.n.cent");
        }
        running.abort();
    }
}
