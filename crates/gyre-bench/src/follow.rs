//! Subscriptions that survive a lost connection.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::sleep;

use crate::{
    ClientError,
    client::Client,
    message::{Publication, Push, Subscribe, Subscribed},
    socket::Connector,
};

/// Wait before the first attempt to connect again; doubled until [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(20);

/// What happened on a followed channel.
#[derive(Debug)]
pub enum Event {
    /// A publication, whole as the server sent it.
    Publication {
        /// Channel.
        channel: String,
        /// The publication's JSON.
        publication: Box<RawValue>,
    },
    /// Somebody came to the channel.
    Join {
        /// Channel.
        channel: String,
        /// Who, as JSON.
        info: Box<RawValue>,
    },
    /// Somebody left the channel.
    Leave {
        /// Channel.
        channel: String,
        /// Who, as JSON.
        info: Box<RawValue>,
    },
    /// The subscription stands, again if it was lost.
    Subscribed {
        /// Channel.
        channel: String,
        /// False if publications were lost since the last time.
        is_complete: bool,
    },
    /// The connection is lost and will be opened again.
    Lost {
        /// Why.
        error: ClientError,
        /// How long it waits before.
        retry_in: Duration,
    },
}

/// A channel that is followed.
#[derive(Debug, Clone, Default)]
pub struct Followed {
    /// Its name.
    pub channel: String,
    /// Subscription token; empty for none.
    pub token: String,
    /// Where to begin; a position that can be recovered is kept up to date.
    pub position: Option<(u64, String)>,
}

impl Followed {
    fn request(&self) -> Subscribe<'_> {
        let (offset, epoch) = self.position.as_ref().map_or((0, ""), |(offset, epoch)| (*offset, &**epoch));
        Subscribe {
            channel: &self.channel,
            token: &self.token,
            recover: self.position.is_some(),
            offset,
            epoch,
        }
    }
}

/// Follows channels until the server says it is for ever, or `see` returns false.
///
/// # Errors
/// The first error that trying again does not help against.
pub async fn follow(
    connector: &Connector,
    token: &str,
    mut channels: Vec<Followed>,
    mut see: impl FnMut(Event) -> bool,
) -> Result<(), ClientError> {
    let mut wait = RETRY_MIN;
    loop {
        let error = match session(connector, token, &mut channels, &mut wait, &mut see).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_temporary() => error,
            Err(error) => return Err(error),
        };
        if !see(Event::Lost { error, retry_in: wait }) {
            return Ok(());
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// One connection; `Ok` if nobody wants to see more.
async fn session(
    connector: &Connector,
    token: &str,
    channels: &mut [Followed],
    wait: &mut Duration,
    see: &mut impl FnMut(Event) -> bool,
) -> Result<(), ClientError> {
    let mut client = Client::connect(connector, token, None).await?;
    for followed in &mut *channels {
        let was_there = followed.position.is_some();
        let subscribed = client.subscribe(followed.request()).await?;
        let is_complete = !was_there || subscribed.recovered;
        if !see(Event::Subscribed { channel: followed.channel.clone(), is_complete }) {
            return Ok(());
        }
        for publication in take_up(followed, subscribed)? {
            if !see(Event::Publication { channel: followed.channel.clone(), publication }) {
                return Ok(());
            }
        }
    }
    *wait = RETRY_MIN;
    loop {
        let push = client.next_push().await?;
        if !report(push, channels, see)? {
            client.close().await;
            return Ok(());
        }
    }
}

/// Keeps the position of a new subscription; returns what was recovered.
fn take_up(followed: &mut Followed, subscribed: Subscribed) -> Result<Vec<Box<RawValue>>, ClientError> {
    followed.position = subscribed.recoverable.then_some((subscribed.offset, subscribed.epoch));
    for publication in &subscribed.publications {
        advance(followed, publication)?;
    }
    Ok(subscribed.publications)
}

fn advance(followed: &mut Followed, publication: &RawValue) -> Result<(), ClientError> {
    let parts: Publication<'_> =
        serde_json::from_str(publication.get()).map_err(|error| ClientError::Malformed(error.to_string()))?;
    if let Some((offset, _)) = &mut followed.position {
        *offset = parts.offset.max(*offset);
    }
    Ok(())
}

/// Tells of a push; false if nobody wants to see more.
fn report(
    push: Push,
    channels: &mut [Followed],
    see: &mut impl FnMut(Event) -> bool,
) -> Result<bool, ClientError> {
    let channel = push.channel;
    if let Some(publication) = push.publication {
        if let Some(followed) = channels.iter_mut().find(|followed| followed.channel == channel) {
            advance(followed, &publication)?;
        }
        return Ok(see(Event::Publication { channel, publication }));
    }
    if let Some(info) = push.join {
        return Ok(see(Event::Join { channel, info }));
    }
    if let Some(info) = push.leave {
        return Ok(see(Event::Leave { channel, info }));
    }
    match push.unsubscribe {
        // From 2500 the client shall subscribe again, which a new connection does.
        // Spec: Centrifugo client protocol, unsubscribe codes.
        Some(end) if end.code >= 2500 => {
            Err(ClientError::Transport(format!("unsubscribed: {} {}", end.code, end.reason)))
        }
        Some(end) => {
            let message = format!("{channel}: {}", end.reason);
            Err(ClientError::Refused { command: "unsubscribed by the server", code: end.code, message })
        }
        None => Ok(true),
    }
}
