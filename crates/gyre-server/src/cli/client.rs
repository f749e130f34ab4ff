//! Commands that are clients of a server: `health`, `pub`, `sub` and `bench`.
//!
//! Where an address or a key is not given, the configuration says it: beside a running server they need no flag.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};
use gyre_bench::{
    client::Client,
    follow::{Event, Followed, follow},
    http,
    load::{
        Bench,
        fanout::{Fanout, Publisher},
    },
    socket::Connector,
    target::{Target, Trust},
};
use serde_json::value::RawValue;

use super::tokens;
use crate::config::{Address, Resolved, duration};

/// How a server's certificate is checked.
#[derive(Debug, Args)]
pub(super) struct Certificates {
    /// Trust the certificates in this file (PEM) instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long)]
    insecure: bool,
}

impl Certificates {
    fn trust(&self) -> Trust {
        match &self.ca {
            _ if self.insecure => Trust::Anything,
            Some(file) => Trust::File(file.clone()),
            None => Trust::System,
        }
    }
}

/// The endpoint for clients, and who connects.
#[derive(Debug, Args)]
pub(super) struct Endpoint {
    /// Endpoint for clients: ws:// or wss:// for WebSocket, https:// for WebTransport; the configured one by default
    #[arg(long)]
    url: Option<String>,
    /// Connection token
    #[arg(long, conflicts_with = "user")]
    token: Option<String>,
    /// Connect as this user, with a token made from the configured HMAC key
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    certificates: Certificates,
}

impl Endpoint {
    fn token(&self, resolved: &Resolved) -> Result<String, String> {
        match (&self.token, &self.user) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(user)) => tokens::sign(&resolved.connection_token, user, None, Some(TOKEN_TTL)),
            (None, None) => Ok(String::new()),
        }
    }

    async fn connector(&self, resolved: &Resolved) -> Result<Connector, String> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => default_endpoint(resolved)?,
        };
        let target = Target::parse(&url).map_err(text)?;
        Connector::new(target, &self.certificates.trust()).await.map_err(text)
    }
}

/// The way through the server API.
#[derive(Debug, Args)]
pub(super) struct Api {
    /// Publish through the server API instead of as a client
    #[arg(long)]
    api: bool,
    /// Address of the server API, which ends in /api; the configured one by default
    #[arg(long, value_name = "URL", requires = "api")]
    api_url: Option<String>,
    /// Key of the server API; the configured one by default
    #[arg(long, value_name = "KEY", requires = "api")]
    api_key: Option<String>,
}

impl Api {
    fn publisher(&self, resolved: &Resolved, trust: Trust) -> Result<Publisher, String> {
        if !self.api {
            return Ok(Publisher::Client);
        }
        let url = match &self.api_url {
            Some(url) => url.clone(),
            None => default_internal(resolved, resolved.api.prefix.as_deref(), "http_api")?,
        };
        let configured = || resolved.api.key.as_ref().map(|key| key.expose().clone());
        let key = self.api_key.clone().or_else(configured).unwrap_or_default();
        Ok(Publisher::Api { url, key, trust })
    }
}

/// What `health` is told.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Address to ask; the configured health endpoint by default
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    certificates: Certificates,
}

/// What `pub` is told.
#[derive(Debug, Args)]
pub(super) struct Pub {
    /// Channel
    channel: String,
    /// JSON to publish; without it, each line of the standard input is published
    data: Option<String>,
    /// The data is text, and published as a JSON string
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    endpoint: Endpoint,
    #[command(flatten)]
    api: Api,
}

/// What `sub` is told.
#[derive(Debug, Args)]
pub(super) struct Sub {
    /// Channels
    #[arg(required = true)]
    channels: Vec<String>,
    /// Print publications whole with their channel, and who comes and goes: a line of JSON each
    #[arg(short, long)]
    verbose: bool,
    /// End after so many publications
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// Subscription token, for a single channel
    #[arg(long, value_name = "TOKEN")]
    channel_token: Option<String>,
    /// Begin with what was published since this position
    #[arg(long, value_name = "OFFSET:EPOCH", value_parser = position)]
    since: Option<(u64, String)>,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// What `bench` does.
#[derive(Debug, Subcommand)]
pub(super) enum Workload {
    /// Open connections and see how long each takes
    Connect {
        #[command(flatten)]
        common: Common,
    },
    /// Publish to many subscribers and see how long each delivery takes
    Fanout {
        /// Channels; subscribers are spread over them
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        channels: u32,
        /// Beginning of the channels' names, which a number follows
        #[arg(long, default_value = "bench")]
        prefix: String,
        /// Publications per second, over all channels
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        rate: u32,
        /// Bytes of each publication
        #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(..=1_048_576))]
        size: u32,
        /// How long is published
        #[arg(long, default_value = "10s", value_parser = span)]
        duration: Duration,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        api: Api,
    },
}

/// What all workloads are told.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Connections
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// New connections per second; 0 for as fast as they are accepted
    #[arg(long, default_value_t = 0)]
    connect_rate: u32,
    /// Connections being made at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Process of the server on this machine: its processor time and memory are reported
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Life of tokens made here.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Asks whether the server lives.
///
/// # Errors
/// If it does not, or says that it is not well.
pub(super) fn health(health: &Health, resolved: &Resolved) -> Result<(), String> {
    let url = match &health.url {
        Some(url) => url.clone(),
        None => default_internal(resolved, resolved.health.as_deref(), "health")?,
    };
    let answer = run(async { http::get(&url, &health.certificates.trust()).await.map_err(text) })?;
    match answer.status {
        200 => Ok(()),
        status => Err(format!("{url} answers {status}: {}", String::from_utf8_lossy(&answer.body))),
    }
}

/// Publishes one message, or each line of the standard input.
///
/// # Errors
/// The first publication that fails.
pub(super) fn publish(publish: &Pub, resolved: &Resolved) -> Result<(), String> {
    let publisher = publish.api.publisher(resolved, publish.endpoint.certificates.trust())?;
    run(async {
        let mut client = match publisher {
            Publisher::Api { .. } => None,
            Publisher::Client => {
                let connector = publish.endpoint.connector(resolved).await?;
                let token = publish.endpoint.token(resolved)?;
                Some(Client::connect(&connector, &token, None).await.map_err(text)?)
            }
        };
        let mut lines = io::stdin().lock().lines();
        let mut next = || match &publish.data {
            Some(data) => Some(Ok(data.clone())),
            None => lines.next(),
        };
        while let Some(line) = next() {
            let data = json(line.map_err(text)?, publish.text)?;
            match (&mut client, &publisher) {
                (Some(client), _) => client.publish(&publish.channel, &data).await,
                (None, Publisher::Api { url, key, trust }) => {
                    http::publish(url, key, &publish.channel, &data, trust).await
                }
                (None, Publisher::Client) => Ok(()),
            }
            .map_err(text)?;
            if publish.data.is_some() {
                break;
            }
        }
        if let Some(client) = client {
            client.close().await;
        }
        Ok(())
    })
}

/// Prints what is published until enough has come, or for ever.
///
/// # Errors
/// What trying again does not help against.
pub(super) fn subscribe(sub: &Sub, resolved: &Resolved) -> Result<(), String> {
    if sub.channels.len() > 1 && (sub.channel_token.is_some() || sub.since.is_some()) {
        return Err("--channel-token and --since are for a single channel".into());
    }
    let followed = |channel: &String| Followed {
        channel: channel.clone(),
        token: sub.channel_token.clone().unwrap_or_default(),
        position: sub.since.clone(),
    };
    let channels = sub.channels.iter().map(followed).collect();
    let mut left = sub.count.unwrap_or(u64::MAX);
    run(async {
        let connector = sub.endpoint.connector(resolved).await?;
        let token = sub.endpoint.token(resolved)?;
        follow(&connector, &token, channels, |event| show(event, sub.verbose, &mut left)).await.map_err(text)
    })
}

/// Prints an event; false if nothing more is wanted.
fn show(event: Event, is_verbose: bool, left: &mut u64) -> bool {
    let line = match &event {
        Event::Publication { publication, .. } if !is_verbose => data_of(publication).to_owned(),
        Event::Publication { channel, publication } => whole(channel, "pub", publication),
        Event::Join { channel, info } if is_verbose => whole(channel, "join", info),
        Event::Leave { channel, info } if is_verbose => whole(channel, "leave", info),
        Event::Join { .. } | Event::Leave { .. } => return true,
        Event::Subscribed { channel, is_complete } => {
            let loss = if *is_complete { "" } else { "; publications were lost in between" };
            eprintln!("subscribed to {channel}{loss}");
            return true;
        }
        Event::Lost { error, retry_in } => {
            eprintln!("{error}; connecting again in {retry_in:?}");
            return true;
        }
    };
    if matches!(event, Event::Publication { .. }) {
        *left = left.saturating_sub(1);
    }
    // Who reads may have gone.
    let mut output = io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).is_ok() && *left > 0
}

fn data_of(publication: &RawValue) -> &str {
    let parts = serde_json::from_str::<gyre_bench::message::Publication<'_>>(publication.get());
    parts.ok().and_then(|parts| parts.data).map_or("null", RawValue::get)
}

fn whole(channel: &str, kind: &str, body: &RawValue) -> String {
    let channel = serde_json::Value::from(channel);
    format!("{{\"channel\":{channel},\"{kind}\":{body}}}")
}

/// Runs a workload and prints its report.
///
/// # Errors
/// If it cannot begin.
pub(super) fn bench(workload: &Workload, resolved: &Resolved) -> Result<(), String> {
    run(async {
        match workload {
            Workload::Connect { common } => {
                let report = common.bench(resolved).await?.connect().await.map_err(text)?;
                print(&report, common.json)
            }
            Workload::Fanout { channels, prefix, rate, size, duration, common, api } => {
                let fanout = Fanout {
                    channels: *channels as usize,
                    prefix: prefix.clone(),
                    rate: *rate,
                    size: *size as usize,
                    duration: *duration,
                    publisher: api.publisher(resolved, common.endpoint.certificates.trust())?,
                };
                let report = common.bench(resolved).await?.fan_out(&fanout).await.map_err(text)?;
                print(&report, common.json)
            }
        }
    })
}

impl Common {
    async fn bench(&self, resolved: &Resolved) -> Result<Bench, String> {
        let connector = Arc::new(self.endpoint.connector(resolved).await?);
        // A user for each connection; refused here rather than a thousand times.
        let (token, user) = (self.endpoint.token(resolved)?, self.endpoint.user.clone());
        let options = resolved.connection_token.clone();
        let token = move |i: usize| match &user {
            None => token.clone(),
            Some(user) => {
                tokens::sign(&options, &format!("{user}-{i}"), None, Some(TOKEN_TTL)).unwrap_or_default()
            }
        };
        let is_watched = io::stderr().is_terminal();
        Ok(Bench {
            connector,
            token: Box::new(token),
            clients: self.clients as usize,
            connect_rate: self.connect_rate,
            concurrency: self.concurrency as usize,
            server: self.server_pid,
            progress: Box::new(move |line| {
                if is_watched {
                    eprintln!("{line}");
                }
            }),
        })
    }
}

fn print(report: &(impl serde::Serialize + std::fmt::Display), as_json: bool) -> Result<(), String> {
    let text = match as_json {
        true => serde_json::to_string(report).map_err(text)? + "\n",
        false => report.to_string(),
    };
    io::stdout().write_all(text.as_bytes()).map_err(self::text)
}

/// The address of the configured WebSocket endpoint on this machine.
fn default_endpoint(resolved: &Resolved) -> Result<String, String> {
    let websocket = resolved.websocket.as_ref();
    let websocket = websocket.ok_or("the configuration has no WebSocket endpoint; name one with --url")?;
    let server = &resolved.server;
    let scheme = if server.has_tls() { "wss" } else { "ws" };
    Ok(format!("{scheme}://{}{}", reachable(&server.addresses)?, websocket.prefix))
}

/// The address of an endpoint that is on the internal port, if there is one.
fn default_internal(resolved: &Resolved, prefix: Option<&str>, section: &str) -> Result<String, String> {
    let prefix = prefix.ok_or_else(|| {
        format!("{section} is not enabled in the configuration; enable it or name an address with --url")
    })?;
    let server = &resolved.server;
    let (addresses, has_tls) = match &*server.internal_addresses {
        [] => (&server.addresses, server.has_tls()),
        _ => (&server.internal_addresses, server.has_internal_tls()),
    };
    let scheme = if has_tls { "https" } else { "http" };
    Ok(format!("{scheme}://{}{prefix}", reachable(addresses)?))
}

/// Host and port of the first address that has them.
fn reachable(addresses: &[Address]) -> Result<String, String> {
    let mut ports = addresses.iter().filter_map(|address| match address {
        Address::Host(name, port) => Some(format!("{}:{port}", host(name))),
        Address::Unix(_) => None,
    });
    ports.next().ok_or_else(|| "the server listens on unix sockets only; name an address with --url".into())
}

/// What to connect to where a server listens on an address.
fn host(address: &str) -> String {
    match address {
        "" | "0.0.0.0" | "::" | "[::]" => "localhost".into(),
        address if address.contains(':') && !address.starts_with('[') => format!("[{address}]"),
        address => address.into(),
    }
}

fn json(line: String, is_text: bool) -> Result<Box<RawValue>, String> {
    if is_text {
        return RawValue::from_string(serde_json::Value::from(line).to_string()).map_err(text);
    }
    RawValue::from_string(line)
        .map_err(|error| format!("the data is not JSON ({error}); publish it as text with --text"))
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "a duration is like 500ms, 10s or 1m30s".into())
}

fn position(text: &str) -> Result<(u64, String), String> {
    let parts = text.split_once(':');
    let position = parts.and_then(|(offset, epoch)| Some((offset.parse().ok()?, epoch.to_owned())));
    position.ok_or_else(|| "a position is an offset, a colon and an epoch".into())
}

fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(text)?.block_on(work)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Environment, Sources, load};

    fn resolved(config: serde_json::Value) -> Resolved {
        let sources =
            Sources { environment: Environment::new([]), defaults_below: config, ..Sources::default() };
        load(&sources).unwrap().resolved
    }

    /// Without flags the configuration decides about addresses: ports, prefixes, and what is on the internal port.
    #[test]
    fn addresses_come_from_the_configuration() {
        let plain = resolved(json!({}));
        assert_eq!(default_endpoint(&plain).unwrap(), "ws://localhost:8000/connection/websocket");
        assert!(default_internal(&plain, plain.health.as_deref(), "health").unwrap_err().contains("health"));
        let config = json!({
            "http_server": {"address": "::1", "port": 9000, "internal_address": "127.0.0.1", "internal_port": 9001},
            "health": {"enabled": true, "handler_prefix": "/alive"},
            "websocket": {"handler_prefix": "/ws"},
        });
        let other = resolved(config);
        assert_eq!(default_endpoint(&other).unwrap(), "ws://[::1]:9000/ws");
        let health = default_internal(&other, other.health.as_deref(), "health");
        assert_eq!(health.unwrap(), "http://127.0.0.1:9001/alive");
        let sockets = resolved(
            json!({"http_server": {"address": "unix:/run/g", "addresses": [":9002"], "internal_addresses": ["unix:/run/i"]}}),
        );
        assert_eq!(default_endpoint(&sockets).unwrap(), "ws://localhost:9002/connection/websocket");
        assert!(default_internal(&sockets, Some("/"), "health").unwrap_err().contains("--url"));
    }

    /// Data is JSON as it is, or text that becomes a string; what is neither is refused with the fix.
    #[test]
    fn data_is_json_or_text() {
        assert_eq!(json("{\"a\": 1}".into(), false).unwrap().get(), "{\"a\": 1}");
        assert_eq!(json("he\"y".into(), true).unwrap().get(), "\"he\\\"y\"");
        assert!(json("hey".into(), false).unwrap_err().contains("--text"));
        assert_eq!(position("12:abc"), Ok((12, "abc".into())));
        assert!(position("12").is_err() && position("x:abc").is_err());
    }
}
