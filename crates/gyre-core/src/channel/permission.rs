//! Who may do what in a channel, in the order the rules are asked.
//!
//! Spec: centrifugal.dev, "Channels and namespaces", permissions; centrifugo `internal/client/handler.go`.

use std::sync::Arc;

use gyre_protocol::ClientError;

use crate::{
    channel::{CallRights, ChannelOptions, DataFormat},
    rules::Rules,
};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// User id; empty for anonymous.
    pub user: &'a str,
    /// Subscribed to the channel in question.
    pub is_subscribed: bool,
}

impl Rules {
    /// The options of a channel whose name a client gave.
    ///
    /// # Errors
    /// 102 if the namespace is not configured, 107 if the name breaks the namespace's rules.
    pub fn client_channel(&self, channel: &str) -> Result<&Arc<ChannelOptions>, ClientError> {
        let options = self.namespaces.options(channel).ok_or(ClientError::UNKNOWN_CHANNEL)?;
        let is_valid = match &options.channel_regex {
            Some(regex) => regex.is_match(self.namespaces.parts(channel).rest),
            None => channel.is_ascii(),
        };
        if is_valid { Ok(options) } else { Err(ClientError::BAD_REQUEST) }
    }

    /// True if the channel's name ends in a list of users that holds this one. An empty user is in no list.
    pub fn is_limited_to(&self, channel: &str, user: &str) -> bool {
        !user.is_empty()
            && self.namespaces.limited_users(channel).is_some_and(|mut users| users.any(|u| u == user))
    }

    /// True if the name is limited to users and the namespace honours that.
    pub fn is_user_limited(&self, channel: &str, options: &ChannelOptions) -> bool {
        options.allow_user_limited_channels && self.namespaces.limited_users(channel).is_some()
    }

    /// True if a client may subscribe without a token.
    pub fn may_subscribe(&self, channel: &str, options: &ChannelOptions, user: &str) -> bool {
        if self.namespaces.parts(channel).is_private {
            return false;
        }
        let rights = options.subscribe;
        if self.is_user_limited(channel, options) {
            return self.is_limited_to(channel, user) || self.connect.insecure;
        }
        (rights.client && (!user.is_empty() || rights.anonymous)) || self.connect.insecure
    }

    /// True if a client may make a call that these rights govern.
    pub fn may_call(&self, rights: CallRights, asker: Asker<'_>) -> bool {
        let is_identified = !asker.user.is_empty() || rights.anonymous;
        let has_right = rights.client || (rights.subscriber && asker.is_subscribed);
        (is_identified && has_right) || self.connect.insecure
    }
}

impl DataFormat {
    /// True if a publication may carry these bytes.
    pub fn accepts(self, data: &gyre_protocol::Payload) -> bool {
        let is_json = data.form() != gyre_protocol::PayloadForm::Binary;
        match self {
            Self::NonEmpty => !data.is_empty(),
            Self::Binary => true,
            Self::Json => is_json,
            Self::JsonObject => is_json && data.bytes().trim_ascii_start().first() == Some(&b'{'),
        }
    }
}
