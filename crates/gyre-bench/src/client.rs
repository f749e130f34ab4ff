//! Commands, replies, pushes and pings on a socket.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::{
    ClientError,
    message::{Command, Connect, Connected, Message, Publish, Push, Subscribe, Subscribed},
    socket::{Connector, Socket},
};

/// How long an answer to a command is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later than promised a ping may come.
const PING_TOLERANCE: Duration = Duration::from_secs(10);
/// Pushes kept while the answer to a command is waited for.
const PUSHES_MAX: usize = 65_536;
/// The empty message: a ping of the server, and what it wants back.
const PING: &str = "{}";

/// A session with a server.
pub struct Client {
    socket: Socket,
    /// What the server said of the session.
    pub connected: Connected,
    last_id: u32,
    unread: VecDeque<Message>,
    silent_after: Option<Instant>,
}

impl Client {
    /// Opens a connection and begins a session.
    ///
    /// # Errors
    /// [`ClientError`] if the server is not there, refuses, or does not answer within ten seconds.
    pub async fn connect(
        connector: &Connector,
        token: &str,
        source: Option<SocketAddr>,
    ) -> Result<Self, ClientError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let socket = timeout_at(deadline, connector.open(source)).await;
        let socket = socket.map_err(|_| ClientError::Silent(ANSWER_TIMEOUT))??;
        let connected = Connected::default();
        let mut client = Self { socket, connected, last_id: 0, unread: VecDeque::new(), silent_after: None };
        let connect = Connect { token, name: "gyre", version: env!("CARGO_PKG_VERSION") };
        let reply = client.ask("connect", Command { connect: Some(connect), ..Command::default() }).await?;
        client.connected = reply.connect.unwrap_or_default();
        client.expect_ping();
        Ok(client)
    }

    /// Subscribes to a channel.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the server says no.
    pub async fn subscribe(&mut self, subscribe: Subscribe<'_>) -> Result<Subscribed, ClientError> {
        let command = Command { subscribe: Some(subscribe), ..Command::default() };
        Ok(self.ask("subscribe", command).await?.subscribe.unwrap_or_default())
    }

    /// Publishes JSON into a channel.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the server says no.
    pub async fn publish(&mut self, channel: &str, data: &RawValue) -> Result<(), ClientError> {
        let command = Command { publish: Some(Publish { channel, data }), ..Command::default() };
        self.ask("publish", command).await.map(drop)
    }

    /// The next push; pings are answered meanwhile. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] if the server ended the connection, [`ClientError::Silent`] if its pings stay away.
    pub async fn next_push(&mut self) -> Result<Push, ClientError> {
        loop {
            while let Some(message) = self.unread.pop_front() {
                if let Some(push) = self.take(message).await? {
                    return Ok(push);
                }
            }
            self.read(self.silent_after).await?;
        }
    }

    /// Ends the session.
    pub async fn close(self) {
        self.socket.close().await;
    }

    /// Sends a command and waits for its reply; pushes that come before are kept.
    async fn ask(&mut self, name: &'static str, mut command: Command<'_>) -> Result<Message, ClientError> {
        self.last_id += 1;
        command.id = self.last_id;
        let text =
            serde_json::to_string(&command).map_err(|error| ClientError::Malformed(error.to_string()))?;
        self.socket.send(text).await?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut looked_at = 0;
        loop {
            for i in looked_at..self.unread.len() {
                if self.unread[i].id == self.last_id {
                    let reply = self.unread.remove(i).unwrap_or_default();
                    return match reply.error {
                        None => Ok(reply),
                        Some(failure) => {
                            let (code, message) = (failure.code, failure.message);
                            Err(ClientError::Refused { command: name, code, message })
                        }
                    };
                }
            }
            looked_at = self.unread.len();
            if looked_at > PUSHES_MAX {
                return Err(ClientError::Malformed(format!("{PUSHES_MAX} pushes before a reply")));
            }
            self.read(Some(deadline)).await?;
        }
    }

    /// Reads what comes next into `unread`.
    async fn read(&mut self, deadline: Option<Instant>) -> Result<(), ClientError> {
        let text = match deadline {
            None => self.socket.next().await?,
            Some(deadline) => {
                let began = Instant::now();
                let next = timeout_at(deadline, self.socket.next()).await;
                next.map_err(|_| ClientError::Silent(began.elapsed()))??
            }
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            let message = serde_json::from_str(line);
            self.unread.push_back(message.map_err(|error| ClientError::Malformed(error.to_string()))?);
        }
        Ok(())
    }

    /// The push a message holds; an empty message is a ping and is answered.
    async fn take(&mut self, message: Message) -> Result<Option<Push>, ClientError> {
        match message.push {
            Some(Push { disconnect: Some(end), .. }) => {
                Err(ClientError::Disconnected { code: end.code, reason: end.reason })
            }
            None if message.id == 0 => {
                self.expect_ping();
                if self.connected.pong {
                    self.socket.send(PING.to_owned()).await?;
                }
                Ok(None)
            }
            push => Ok(push),
        }
    }

    fn expect_ping(&mut self) {
        let interval = Duration::from_secs(self.connected.ping.into());
        self.silent_after = (!interval.is_zero()).then(|| Instant::now() + interval + PING_TOLERANCE);
    }
}
