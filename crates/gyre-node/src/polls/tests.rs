use std::future::poll_fn;

use gyre_core::ports::Answer;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::mailbox::Message;

type Question = (ChannelName, Batch, oneshot::Sender<Result<Polled, PollError>>);

/// A backend that answers when the test does.
struct Backend(mpsc::UnboundedSender<Question>);

impl SharedPollBackend for Backend {
    fn refresh(&self, _: &str, channel: &ChannelName, keys: Batch) -> Answer<Result<Polled, PollError>> {
        let (answer, answered) = oneshot::channel();
        drop(self.0.send((channel.clone(), keys, answer)));
        Answer::Later(Box::pin(async move {
            answered.await.unwrap_or_else(|_| Err(PollError { reason: "the test has ended".into() }))
        }))
    }
}

/// Polls whose only shard is the test, and whose regular turns lie far ahead.
struct World {
    polls: Arc<Polls>,
    directory: Arc<Directory>,
    questions: mpsc::UnboundedReceiver<Question>,
    options: Arc<SharedPollOptions>,
}

impl World {
    fn new(versions: Versions) -> Self {
        let (sender, questions) = mpsc::unbounded_channel();
        let directory = Arc::new(Directory::new(1));
        let polls = Arc::new(Polls::new(Arc::new(Backend(sender)), directory.clone(), CONCURRENCY));
        let options = Arc::new(SharedPollOptions {
            backend: "b".into(),
            refresh_interval: Duration::from_secs(3600),
            batch_keys_max: 10,
            keys_max: 10,
            versions,
            shutdown_delay: Duration::ZERO,
            expired_extra_delay: Duration::ZERO,
            publish_enabled: true,
            delta: true,
        });
        Self { polls, directory, questions, options }
    }

    fn join(&self, name: &str) -> (ChannelName, Epoch) {
        let channel = ChannelName::new(name);
        self.directory.add_interest(&channel, 0);
        let epoch = self.polls.join(&channel, self.options.clone(), &tokio::runtime::Handle::current());
        (channel, epoch)
    }

    fn track(&self, channel: &ChannelName, key: &str, version: u64) {
        self.polls.track(channel, &[(key.into(), version)], 0);
    }

    async fn question(&mut self) -> Question {
        self.questions.recv().await.unwrap()
    }

    /// Answers the next question, which must be for these keys.
    async fn answer(&mut self, keys: &[(&str, u64)], epoch: &str, items: &[(&str, &'static str, u64)]) {
        let (_, asked, answer) = self.question().await;
        let asked: Vec<_> = asked.iter().map(|(key, version)| (&**key, *version)).collect();
        assert_eq!(asked, keys);
        answer.send(Ok(polled(epoch, items))).unwrap();
    }

    /// What the shard is sent next; a loss is version 0 of no key.
    async fn delivered(&self) -> Vec<(String, u64)> {
        let mut batch = VecDeque::new();
        poll_fn(|cx| self.directory.mailboxes()[0].poll_drain(cx, &mut batch)).await;
        let event = |message| match message {
            Message::Event(
                _,
                ChannelEvent::Publication(p) | ChannelEvent::DeltaChange { publication: p, .. },
            ) => (p.key.to_string(), p.version),
            Message::Event(_, ChannelEvent::Lost) => (String::new(), 0),
            _ => panic!("polls deliver updates of keys and losses"),
        };
        batch.into_iter().map(event).collect()
    }
}

fn polled(epoch: &str, items: &[(&str, &'static str, u64)]) -> Polled {
    let item = |&(key, data, version): &(&str, &'static str, u64)| PolledItem {
        key: key.into(),
        data: Payload::json(data),
        version,
        removed: data.is_empty(),
    };
    Polled { items: items.iter().map(item).collect(), epoch: Epoch::new(epoch) }
}

fn news(key: &str, version: u64) -> Vec<(String, u64)> {
    vec![(key.into(), version)]
}

/// Whoever is behind makes the key be asked for at once, from what it holds; a version is delivered when it is newer, or
/// when somebody has been waiting for it; the application's own versions count as well.
#[tokio::test]
async fn whoever_is_behind_is_served() {
    let mut world = World::new(Versions::Backend);
    let (channel, epoch) = world.join("p");
    assert!(epoch.is_empty());
    world.track(&channel, "k", 0);
    world.answer(&[("k", 0)], "", &[("k", "1", 5), ("unknown", "1", 9)]).await;
    assert_eq!(world.delivered().await, news("k", 5));
    world.track(&channel, "k", 5);
    world.track(&channel, "k", 3);
    world.answer(&[("k", 3)], "", &[("k", "1", 5)]).await;
    assert_eq!(world.delivered().await, news("k", 5));
    world.polls.publish(&channel, "k", Payload::json("2"), 6, &Epoch::default());
    world.polls.publish(&channel, "k", Payload::json("3"), 6, &Epoch::default());
    world.polls.publish(&channel, "other", Payload::json("3"), 6, &Epoch::default());
    assert_eq!(world.delivered().await, news("k", 6));
    world.track(&channel, "k", 0);
    world.answer(&[("k", 0)], "", &[("k", "", 7)]).await;
    assert_eq!(world.delivered().await, news("k", 0), "the removal");
}

/// A newer version brings the one before it along, and a version that is delivered again is what it was the first time;
/// where there is no delta nothing is kept. Shown by what the shard is sent.
#[tokio::test]
async fn updates_bring_their_bases() {
    for delta in [true, false] {
        let mut world = World::new(Versions::Backend);
        world.options = Arc::new(SharedPollOptions { delta, ..(*world.options).clone() });
        let (channel, _) = world.join("p");
        let mut sent = Vec::new();
        for (held, data, version) in [(0, "1", 5), (3, "another", 5), (5, "2", 6)] {
            world.track(&channel, "k", held);
            if version == 6 {
                world.polls.publish(&channel, "k", Payload::json(data), version, &Epoch::default());
            } else {
                world.answer(&[("k", held)], "", &[("k", data, version)]).await;
            }
            let mut batch = VecDeque::new();
            poll_fn(|cx| world.directory.mailboxes()[0].poll_drain(cx, &mut batch)).await;
            for message in batch {
                sent.push(match message {
                    Message::Event(_, ChannelEvent::Publication(p)) => (p.data.clone(), None),
                    Message::Event(_, ChannelEvent::DeltaChange { publication: p, base }) => {
                        (p.data.clone(), Some(base.data.clone()))
                    }
                    _ => panic!("only versions were made"),
                });
            }
        }
        let of = Payload::json;
        let expected = match delta {
            true => [(of("1"), None), (of("1"), None), (of("2"), Some(of("1")))],
            false => [(of("1"), None), (of("another"), None), (of("2"), None)],
        };
        assert_eq!(sent, expected);
    }
}

/// Without versions of the backend's, data that has changed is a new version, and the same data is the old one.
#[tokio::test]
async fn changed_data_is_a_new_version() {
    let mut world = World::new(Versions::Ours);
    let (channel, epoch) = world.join("p");
    assert!(!epoch.is_empty());
    for (data, version) in [("1", 1), ("1", 1), ("2", 2)] {
        world.track(&channel, "k", 0);
        world.answer(&[("k", 0)], "", &[("k", data, 0)]).await;
        assert_eq!(world.delivered().await, news("k", version));
    }
    assert!(world.join("p").1.is_same(&epoch), "the epoch lasts as long as the channel");
}

/// An epoch of the backend's that was not known makes everybody begin again, once.
#[tokio::test]
async fn another_epoch_is_a_loss() {
    let mut world = World::new(Versions::Backend);
    let (channel, _) = world.join("p");
    world.track(&channel, "k", 0);
    world.answer(&[("k", 0)], "e", &[("k", "1", 5)]).await;
    assert_eq!(world.delivered().await, [(String::new(), 0)]);
    assert_eq!(world.join("p").1, Epoch::new("e"));
    world.track(&channel, "k", 0);
    world.answer(&[("k", 0)], "e", &[("k", "1", 5)]).await;
    assert_eq!(world.delivered().await, news("k", 5));
}

/// While a call is on its way, its key is not asked for again, other keys and other channels are; who came meanwhile with
/// less is served by another call, and a failure leaves the key to be asked for.
#[tokio::test]
async fn slow_backend_holds_its_own_call_only() {
    let mut world = World::new(Versions::Backend);
    let (slow, _) = world.join("slow");
    let (other, _) = world.join("other");
    world.track(&slow, "k", 7);
    let (_, _, answer) = world.question().await;
    world.track(&slow, "k", 2);
    world.track(&slow, "k2", 0);
    world.answer(&[("k2", 0)], "", &[("k2", "1", 1)]).await;
    assert_eq!(world.delivered().await, news("k2", 1));
    world.track(&other, "k", 0);
    world.answer(&[("k", 0)], "", &[("k", "1", 1)]).await;
    assert_eq!(world.delivered().await, news("k", 1));
    answer.send(Ok(polled("", &[("k", "1", 8)]))).unwrap();
    assert_eq!(world.delivered().await, news("k", 8));
    world.answer(&[("k", 2)], "", &[("k", "1", 8)]).await;
    assert_eq!(world.delivered().await, news("k", 8));
}

/// A channel is forgotten after its last subscriber has left, and not while somebody is there.
#[tokio::test]
async fn channels_end_with_their_subscribers() {
    let world = World::new(Versions::Ours);
    let (channel, epoch) = world.join("p");
    world.polls.left(&channel);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(world.join("p").1.is_same(&epoch));
    assert!(world.directory.remove_interest(&channel, 0));
    world.polls.left(&channel);
    while world.polls.find(&channel).is_some() {
        tokio::task::yield_now().await;
    }
    assert!(!world.join("p").1.is_same(&epoch));
}
