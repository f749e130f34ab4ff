//! What applies to every session of a node: one immutable value, replaced whole on reload.

use std::time::{Duration, Instant};

use gyre_protocol::{ClientError, Disconnect};

use crate::{channel::Namespaces, delta::Patches, limits::Limits};

/// Limits, namespaces, the rules of connecting and of methods.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Limits and intervals.
    pub limits: Limits,
    /// Namespaces and naming rules.
    pub namespaces: Namespaces,
    /// Who may connect.
    pub connect: ConnectRules,
    /// `rpc`: who answers which method.
    pub rpc: RpcRules,
    /// Hooks that are not of a channel or method, and what they may see.
    pub hooks: HookRules,
    /// `connect.version` of every connect result: version and edition.
    pub version: Box<str>,
}

/// Who may connect, and what every connection gets.
///
/// Spec: configuration `client.*`.
#[derive(Clone, Debug, Default)]
pub struct ConnectRules {
    /// `client.allow_anonymous_connect_without_token`.
    pub allow_anonymous_without_token: bool,
    /// `client.insecure`: no token needed, every permission granted (private channels still need a token), and a
    /// connection does not expire.
    pub insecure: bool,
    /// `client.connect_include_server_time`.
    pub include_server_time: bool,
    /// `client.subscribe_to_user_personal_channel`.
    pub personal_channel: Option<PersonalChannel>,
    /// `client.connect_code_to_unidirectional_disconnect`: codes of errors, and what stands for them.
    pub unidirectional_disconnects: Vec<(u32, Disconnect)>,
}

impl ConnectRules {
    /// What ends a unidirectional connection whose connect failed with that error.
    ///
    /// Spec: client protocol, "Unidirectional transports"
    pub fn unidirectional_disconnect(&self, error: &ClientError) -> Disconnect {
        if let Some((_, disconnect)) =
            self.unidirectional_disconnects.iter().find(|(code, _)| *code == error.code)
        {
            return disconnect.clone();
        }
        match error.code {
            // Token expired, and the expiry it names has passed.
            109 | 110 => Disconnect::EXPIRED,
            111 => Disconnect::TOO_MANY_REQUESTS,
            103 => Disconnect::PERMISSION_DENIED,
            _ => Disconnect::SERVER_ERROR,
        }
    }
}

/// Hooks of connections, and what all hooks may see.
///
/// Spec: configuration `client.proxy.*`.
#[derive(Clone, Debug, Default)]
pub struct HookRules {
    /// `client.proxy.connect`: asked about clients without token.
    pub connect: Option<Box<str>>,
    /// `client.proxy.refresh`: asked when a connection expires; clients do not refresh then.
    pub refresh: Option<Box<str>>,
    /// `client.proxy.disconnect`: told of the end of every connection that was connected.
    pub disconnect: Option<Box<str>>,
    /// `channel.vacated_delay`: a channel without subscribers for that long is reported as vacated.
    pub vacated_delay: Duration,
    /// Names, in lower case, of the headers of a connect command that some hook may see.
    pub emulated_headers: Box<[Box<str>]>,
}

/// Who answers which method.
///
/// Spec: configuration `rpc.*`.
#[derive(Clone, Debug, Default)]
pub struct RpcRules {
    /// `rpc.ping`: the method that is answered without a backend.
    pub ping: Option<Box<str>>,
    /// `rpc.namespace_boundary`: ends the namespace in a method's name.
    pub namespace_boundary: Box<str>,
    /// `rpc.without_namespace`: the hook of methods without namespace, if there is one.
    pub without_namespace: Option<Box<str>>,
    /// `rpc.namespaces`: the hooks of namespaces, if they have one.
    pub namespaces: Vec<(Box<str>, Option<Box<str>>)>,
}

impl RpcRules {
    /// The hook that answers a method.
    ///
    /// # Errors
    /// 104 if the namespace is not configured, 108 if it has no hook; without any hook 104 beside a ping, else 108.
    pub fn hook(&self, method: &str) -> Result<&str, ClientError> {
        let has_hook =
            self.without_namespace.is_some() || self.namespaces.iter().any(|(_, hook)| hook.is_some());
        if !has_hook && self.ping.is_some() {
            return Err(ClientError::METHOD_NOT_FOUND);
        }
        let namespace = match &*self.namespace_boundary {
            "" => None,
            boundary => method.split_once(boundary).map(|(namespace, _)| namespace),
        };
        let hook = match namespace {
            _ if !has_hook => &None,
            None => &self.without_namespace,
            Some(wanted) => {
                let known = self.namespaces.iter().find(|(name, _)| **name == *wanted);
                known.map(|(_, hook)| hook).ok_or(ClientError::METHOD_NOT_FOUND)?
            }
        };
        hook.as_deref().ok_or(ClientError::NOT_AVAILABLE)
    }
}

/// The channel every identified user is subscribed to.
#[derive(Clone, Debug, Default)]
pub struct PersonalChannel {
    /// `personal_channel_namespace`; empty for none.
    pub namespace: Box<str>,
    /// `single_connection`: a user's new connection ends the older ones (3504).
    pub is_single: bool,
}

/// One reading of the clocks: taken once a turn and handed down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    /// For intervals and deadlines.
    pub instant: Instant,
    /// Unix time in milliseconds: for expiries named by tokens.
    pub unix_ms: u64,
}

impl Now {
    /// Unix time in seconds, with fraction.
    pub fn unix_seconds(&self) -> f64 {
        self.unix_ms as f64 / 1000.0
    }
}

/// What a session looks at while it handles an input.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The turn's reading of the clocks.
    pub now: Now,
    /// The rules in force.
    pub rules: &'a Rules,
    /// Patches made for others on the shard.
    pub patches: &'a Patches,
}
