//! What all shards and operations of a node share.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use arc_swap::ArcSwap;
use gyre_core::{
    ports::{
        Authenticator, Broker, ClientHooks, EventHooks, MapHooks, MapStore, PresenceStore, SharedPollBackend,
        SubscriptionStreams,
    },
    rules::Rules,
};
use tokio::sync::oneshot;

use crate::{
    departures::Departures, directory::Directory, polls::Polls, sessions::Sessions, shard::ShardState,
    states::States, users::Users,
};

/// The ports a node works with.
#[derive(Clone)]
pub struct Ports {
    /// Publications and history.
    pub broker: Arc<dyn Broker>,
    /// Maps.
    pub maps: Arc<dyn MapStore>,
    /// Who is present.
    pub presence: Arc<dyn PresenceStore>,
    /// Tokens.
    pub authenticator: Arc<dyn Authenticator>,
    /// The application's say in what clients do.
    pub hooks: Arc<dyn ClientHooks>,
    /// The application's say in changes of maps.
    pub map_hooks: Arc<dyn MapHooks>,
    /// Streams that feed subscriptions.
    pub streams: Arc<dyn SubscriptionStreams>,
    /// What the application is told of channels and connections.
    pub events: Arc<dyn EventHooks>,
    /// The data of shared polls.
    pub polls: Arc<dyn SharedPollBackend>,
}

/// How a node presents itself.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Unique id of this process.
    pub uid: Box<str>,
    /// Name for people.
    pub name: Box<str>,
    /// Version and edition.
    pub version: Box<str>,
}

/// One node: shared by its shards and by the doors of its operations.
pub struct Node {
    /// How it presents itself.
    pub info: NodeInfo,
    pub(crate) ports: Ports,
    pub(crate) directory: Arc<Directory>,
    pub(crate) users: Users,
    pub(crate) polls: Arc<Polls>,
    pub(crate) states: States,
    pub(crate) departures: Arc<Departures>,
    pub(crate) sessions: Sessions,
    /// Connections on all shards, for `client.connection_limit`.
    pub(crate) connections: AtomicUsize,
    /// How many look on at the moment.
    pub(crate) traces: AtomicUsize,
    /// Where answers that have to be waited for are waited for.
    pub(crate) control: tokio::runtime::Handle,
    rules: ArcSwap<Rules>,
    started: Instant,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Node {
    /// A node whose engine delivers into `directory`. `control` runs what has to be waited for.
    pub fn new(
        info: NodeInfo,
        rules: Rules,
        ports: Ports,
        directory: Arc<Directory>,
        control: tokio::runtime::Handle,
    ) -> Arc<Self> {
        let concurrency = match rules.limits.poll_concurrency {
            0 => crate::POLL_CONCURRENCY,
            concurrency => concurrency,
        };
        let polls = Arc::new(Polls::new(ports.polls.clone(), directory.clone(), concurrency));
        let states = States::new(ports.events.clone(), directory.clone());
        let departures = Arc::new(Departures::new(ports.events.clone()));
        Arc::new(Self {
            info,
            ports,
            directory,
            users: Users::default(),
            polls,
            states,
            departures,
            sessions: Sessions::default(),
            connections: AtomicUsize::new(0),
            traces: AtomicUsize::new(0),
            control,
            rules: ArcSwap::from_pointee(rules),
            started: Instant::now(),
        })
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Replaces the rules. Every shard works by the new ones from its next turn on.
    pub fn set_rules(&self, rules: Rules) {
        let rules = Arc::new(rules);
        self.rules.store(rules.clone());
        for mailbox in self.directory.mailboxes() {
            let rules = rules.clone();
            mailbox.run(Box::new(move |shard| shard.set_rules(rules)));
        }
    }

    /// Tells the application what it has not been told yet of channels and connections, and returns when it has
    /// answered. For a node that ends; the caller bounds the time.
    pub async fn settle_events(&self) {
        self.departures.settle().await;
        self.states.settle().await;
    }

    /// Whole seconds since the node was made.
    pub fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Distinct users connected to this node.
    pub fn user_count(&self) -> usize {
        self.users.count()
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.directory.mailboxes().len()
    }

    /// Does something on one shard and waits for it; `None` if there is no such shard, or it has ended.
    pub(crate) async fn on_shard<T: Send + 'static>(
        &self,
        shard: usize,
        work: impl FnOnce(&mut ShardState) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.directory.mailboxes().get(shard)?.run(Box::new(move |shard| {
            // The asker may have given up; then nobody needs the answer.
            drop(sender.send(work(shard)));
        }));
        receiver.await.ok()
    }

    /// Does something on every shard and waits for all of them. A shard that has ended gives no value.
    pub(crate) async fn on_every_shard<T: Send + 'static>(
        &self,
        work: impl Fn(&mut ShardState) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let answers: Vec<oneshot::Receiver<T>> = self
            .directory
            .mailboxes()
            .iter()
            .map(|mailbox| {
                let (sender, receiver) = oneshot::channel();
                let work = work.clone();
                mailbox.run(Box::new(move |shard| {
                    // The asker may have given up; then nobody needs the answer.
                    drop(sender.send(work(shard)));
                }));
                receiver
            })
            .collect();
        let mut values = Vec::with_capacity(answers.len());
        for answer in answers {
            values.extend(answer.await.ok());
        }
        values
    }
}
