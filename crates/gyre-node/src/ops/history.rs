//! history and history_remove.

use gyre_core::{
    channel::{ChannelName, HistoryOptions},
    ports::{Answer, History, HistoryFilter},
};
use gyre_protocol::StreamPosition;

use super::{ApiAnswer, ApiError};
use crate::{node::Node, tally::Action};

/// Which part of a channel's history is wanted.
#[derive(Clone, Debug, Default)]
pub struct HistoryPage {
    /// Publications at most: 0 the position only, negative all.
    pub limit: i32,
    /// Position to read from.
    pub since: Option<StreamPosition>,
    /// Newest first.
    pub reverse: bool,
}

impl Node {
    /// Reads history. The limits of clients do not apply.
    ///
    /// # Errors
    /// 107, 102, 108 without history, 112 for a foreign epoch, 100.
    pub fn history(&self, channel: &str, page: HistoryPage) -> ApiAnswer<History> {
        let (channel, options) = match self.history_channel(channel) {
            Ok(found) => found,
            Err(error) => return Answer::Ready(Err(error)),
        };
        if page.reverse
            && page.since.as_ref().is_some_and(|since| since.offset == 0 && !since.epoch.is_empty())
        {
            return Answer::Ready(Err(ApiError::BAD_REQUEST));
        }
        let limit = usize::try_from(page.limit).ok();
        let filter = HistoryFilter { since: page.since, limit, reverse: page.reverse };
        self.directory.tally().count(|counters| counters.actions[Action::History as usize] += 1);
        let read = self.ports.broker.history(&channel, filter, options.meta_ttl);
        read.map(|result| result.map_err(ApiError::from))
    }

    /// Removes all publications of a channel and keeps its position.
    ///
    /// # Errors
    /// 107, 102, 108 without history, 100.
    pub fn history_remove(&self, channel: &str) -> ApiAnswer<()> {
        match self.history_channel(channel) {
            Ok((channel, _)) => {
                self.ports.broker.remove_history(&channel).map(|result| result.map_err(ApiError::from))
            }
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    fn history_channel(&self, channel: &str) -> Result<(ChannelName, HistoryOptions), ApiError> {
        let history = self.api_channel(channel)?.history.ok_or(ApiError::NOT_AVAILABLE)?;
        Ok((ChannelName::new(channel), history))
    }
}
