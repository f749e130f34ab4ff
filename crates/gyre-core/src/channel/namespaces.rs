//! Channel names and the table that maps them to options.
//!
//! Spec: configuration part 5.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::channel::{ChannelOptions, ChannelPattern};

/// Namespaces and naming rules: one immutable value, replaced whole on reload.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// `channel.without_namespace`.
    pub without_namespace: Arc<ChannelOptions>,
    /// `channel.namespaces`, by name.
    pub named: HashMap<Box<str>, Arc<ChannelOptions>>,
    /// `channel.patterns`: the patterns of namespaces that have one, those without variables first; `None` unless
    /// patterns are on. Then a name that begins with a slash belongs to the pattern it matches, or to none.
    pub patterns: Option<Vec<(ChannelPattern, Arc<ChannelOptions>)>>,
    /// `channel.private_prefix`, default `$`; empty disables private channels.
    pub private_prefix: Box<str>,
    /// `channel.namespace_boundary`, default `:`; empty disables namespaces.
    pub namespace_boundary: Box<str>,
    /// `channel.user_boundary`, default `#`; empty disables user-limited channels.
    pub user_boundary: Box<str>,
    /// `channel.user_separator`, default `,`.
    pub user_separator: Box<str>,
    /// `channel.history_meta_ttl`, default 720 h: used where a subscription token replaces the namespace's options.
    pub history_meta_ttl: Duration,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            without_namespace: Arc::default(),
            named: HashMap::new(),
            patterns: None,
            private_prefix: "$".into(),
            namespace_boundary: ":".into(),
            user_boundary: "#".into(),
            user_separator: ",".into(),
            history_meta_ttl: Duration::from_secs(720 * 3600),
        }
    }
}

/// A channel name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameParts<'a> {
    /// Text before the namespace boundary, without the private prefix; empty without a namespace.
    pub namespace: &'a str,
    /// Text after the boundary; the whole name, prefix included, without a namespace.
    pub rest: &'a str,
    /// True if the name starts with the private prefix.
    pub is_private: bool,
}

impl Namespaces {
    /// Takes a name apart. One that patterns are for has no parts.
    pub fn parts<'a>(&self, channel: &'a str) -> NameParts<'a> {
        if self.patterns_for(channel).is_some() {
            return NameParts { namespace: "", rest: channel, is_private: false };
        }
        let stripped = match &*self.private_prefix {
            "" => None,
            prefix => channel.strip_prefix(prefix),
        };
        let name = stripped.unwrap_or(channel);
        let boundary = &*self.namespace_boundary;
        match (!boundary.is_empty()).then(|| name.split_once(boundary)).flatten() {
            Some((namespace, rest)) => NameParts { namespace, rest, is_private: stripped.is_some() },
            None => NameParts { namespace: "", rest: channel, is_private: stripped.is_some() },
        }
    }

    /// The options of a channel; `None` if its namespace is not configured.
    pub fn options(&self, channel: &str) -> Option<&Arc<ChannelOptions>> {
        if let Some(patterns) = self.patterns_for(channel) {
            let found = patterns.iter().find(|(pattern, _)| pattern.matches(channel));
            return found.map(|(_, options)| options);
        }
        match self.parts(channel).namespace {
            "" => Some(&self.without_namespace),
            namespace => self.named.get(namespace),
        }
    }

    /// The patterns, if the name is one of those they are for.
    fn patterns_for(&self, channel: &str) -> Option<&[(ChannelPattern, Arc<ChannelOptions>)]> {
        self.patterns.as_deref().filter(|_| channel.starts_with('/'))
    }

    /// How long the engine keeps a channel's position.
    pub fn history_meta_ttl_of(&self, channel: &str) -> Duration {
        let history = self.options(channel).and_then(|options| options.history);
        history.map_or(self.history_meta_ttl, |history| history.meta_ttl)
    }

    /// The users a name is limited to: the text after the last user boundary, split by the separator. `None` if the
    /// name has no boundary.
    pub fn limited_users<'a>(&'a self, channel: &'a str) -> Option<impl Iterator<Item = &'a str>> {
        if self.user_boundary.is_empty() {
            return None;
        }
        let (_, users) = channel.rsplit_once(&*self.user_boundary)?;
        let separator = if self.user_separator.is_empty() { "\0" } else { &*self.user_separator };
        Some(users.split(separator))
    }

    /// The personal channel of a user in a namespace: `#42` or `ns:#42`.
    pub fn personal_channel(&self, namespace: &str, user: &str) -> String {
        match namespace {
            "" => format!("{}{user}", self.user_boundary),
            _ => format!("{namespace}{}{}{user}", self.namespace_boundary, self.user_boundary),
        }
    }
}
