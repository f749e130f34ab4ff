//! subscribe, unsubscribe, disconnect and refresh: what the application does to the connections of a user.

use gyre_core::{
    channel::ChannelName,
    hub::Slot,
    session::{ServerRefresh, ServerSubscribe, Session},
};
use gyre_protocol::{Disconnect, Unsubscribe};

use super::ApiError;
use crate::{node::Node, shard::ShardState};

/// Which connections are meant.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Those of this user; empty for the anonymous ones.
    pub user: Box<str>,
    /// Of these, the one with this client id; empty for all.
    pub client: Box<str>,
    /// Of these, the one whose connect reply told this secret, as those of emulated and unidirectional transports do;
    /// empty for all.
    pub session: Box<str>,
}

impl Target {
    /// True if a connection of the user is meant.
    fn names(&self, session: &Session) -> bool {
        let secret = session.address().map(|address| &address.session);
        (self.client.is_empty() || session.client().is(&self.client))
            && (self.session.is_empty() || secret.is_some_and(|secret| *secret == self.session))
    }
}

/// Subscribes connections to a channel.
#[derive(Clone, Debug, Default)]
pub struct SubscribeRequest {
    /// Channel.
    pub channel: Box<str>,
    /// Expiry, information, data, overrides and the position to start from.
    pub options: ServerSubscribe,
}

/// Unsubscribes connections.
#[derive(Clone, Debug)]
pub struct UnsubscribeRequest {
    /// Channel; empty for all channels of the connections.
    pub channel: Box<str>,
    /// What the client is told.
    pub reason: Unsubscribe,
}

/// Disconnects connections.
#[derive(Clone, Debug)]
pub struct DisconnectRequest {
    /// What the client is told.
    pub disconnect: Disconnect,
    /// Client ids to be left alone.
    pub whitelist: Vec<Box<str>>,
}

/// Prolongs or ends connections.
#[derive(Clone, Debug, Default)]
pub struct RefreshRequest {
    /// End them as expired.
    pub expired: bool,
    /// New expiry and information.
    pub refresh: ServerRefresh,
}

impl Node {
    /// Subscribes connections to a channel. Nobody connected is a success.
    ///
    /// # Errors
    /// 107, 102.
    pub async fn subscribe(&self, target: Target, request: SubscribeRequest) -> Result<(), ApiError> {
        self.api_channel(&request.channel)?;
        let channel = ChannelName::new(&request.channel);
        self.each_session(target, move |session, cx| {
            session.handle_server_subscribe(cx, &channel, request.options.clone())
        })
        .await;
        Ok(())
    }

    /// Unsubscribes connections from one channel or all.
    ///
    /// # Errors
    /// 102.
    pub async fn unsubscribe(&self, target: Target, request: UnsubscribeRequest) -> Result<(), ApiError> {
        let channel = match &*request.channel {
            "" => None,
            channel => {
                self.api_channel(channel)?;
                Some(ChannelName::new(channel))
            }
        };
        self.each_session(target, move |session, _| {
            session.handle_server_unsubscribe(channel.as_ref(), &request.reason);
            Ok(())
        })
        .await;
        Ok(())
    }

    /// Disconnects connections.
    pub async fn disconnect(&self, target: Target, request: DisconnectRequest) {
        self.each_session(target, move |session, _| {
            match request.whitelist.iter().any(|client| session.client().is(client)) {
                true => Ok(()),
                false => Err(request.disconnect.clone()),
            }
        })
        .await;
    }

    /// Prolongs connections, or ends them as expired.
    pub async fn refresh(&self, target: Target, request: RefreshRequest) {
        self.each_session(target, move |session, cx| match request.expired {
            true => Err(Disconnect::EXPIRED),
            false => session.handle_server_refresh(cx, request.refresh.clone()),
        })
        .await;
    }

    /// Does something to every session that is meant, on all shards.
    async fn each_session(
        &self,
        target: Target,
        input: impl Fn(&mut Session, &gyre_core::rules::Context<'_>) -> Result<(), Disconnect>
        + Clone
        + Send
        + 'static,
    ) {
        self.on_every_shard(move |shard: &mut ShardState| {
            let slots: Vec<Slot> = shard.users.get(&*target.user).cloned().unwrap_or_default();
            for slot in slots {
                shard.with_session(slot, |session, cx| match target.names(session) {
                    true => input(session, cx),
                    false => Ok(()),
                });
            }
        })
        .await;
    }
}
