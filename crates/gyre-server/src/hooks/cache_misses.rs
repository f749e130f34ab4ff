//! Channels whose cache is empty: however many subscribers find that at the same time, the application is told once.

use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};
use gyre_core::{channel::ChannelName, ports::Answer};
use hashbrown::HashMap;

use super::{Hooks, events::CacheEmpty};

type Question = Pin<Box<dyn Future<Output = bool> + Send>>;
type Key = (Box<str>, ChannelName);

/// Questions on their way, by hook and channel.
#[derive(Default)]
pub(super) struct CacheMisses(Mutex<HashMap<Key, WeakShared<Question>>>);

impl CacheMisses {
    pub(super) fn ask(&self, hooks: &Hooks, hook: &str, channel: &ChannelName) -> Answer<bool> {
        let key: Key = (hook.into(), channel.clone());
        let mut asked = self.lock();
        if let Some(question) = asked.get(&key).and_then(WeakShared::upgrade) {
            return Answer::Later(Box::pin(question));
        }
        // Questions whose subscribers have all gone are still there: looked for when there is no room, which is rare.
        if asked.len() == asked.capacity() {
            asked.retain(|_, question| question.upgrade().is_some());
        }
        let (hooks, named) = (hooks.clone(), key.clone());
        let question: Question = Box::pin(async move {
            let (hook, channel) = &named;
            let is_populated = hooks.call(hook, None, &CacheEmpty(channel.clone())).await.unwrap_or(false);
            hooks.cache_misses().lock().remove(&named);
            is_populated
        });
        let question: Shared<Question> = question.shared();
        if let Some(weak) = question.downgrade() {
            asked.insert(key, weak);
        }
        Answer::Later(Box::pin(question))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, WeakShared<Question>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
