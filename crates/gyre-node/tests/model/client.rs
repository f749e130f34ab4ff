//! A client that checks everything it is told.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    task::{Context, Waker},
};

use bytes::Buf;
use gyre_core::{
    hub::{Direction, Framing, WireForm},
    session::Pings,
};
use gyre_node::{ConnectionId, ConnectionOptions, Flushed, Link, LocalShard, Queue, TransportKind};
use gyre_protocol::{Disconnect, Epoch, StreamPosition, codec::Encoding};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use crate::{engine::Model, world::Seen};

/// Channels a client may subscribe to: streams with history, and one without.
pub(crate) const CHANNELS: [&str; 3] = ["stream:a", "stream:b", "plain:c"];
/// Bytes the network holds for a client that does not read.
const NETWORK_BYTES: usize = 1_000;

/// What is on its way to one client.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
    /// Code of the disconnect, once the server has closed.
    closed: Option<u32>,
    is_blocked: bool,
}

struct WireLink(Rc<RefCell<Wire>>);

impl Link for WireLink {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        let mut wire = self.0.borrow_mut();
        while let Some(mut frame) = queue.pop() {
            let taken = (NETWORK_BYTES - wire.bytes.len()).min(frame.len());
            wire.bytes.extend(&frame[..taken]);
            frame.advance(taken);
            if !frame.is_empty() {
                queue.put_back(frame);
                wire.is_blocked = true;
                return Flushed::Blocked;
            }
        }
        Flushed::Done
    }

    fn close(&mut self, disconnect: &Disconnect, _: &mut Queue) {
        self.0.borrow_mut().closed = Some(disconnect.code);
    }

    fn finish(&mut self) {
        panic!("every connect is accepted");
    }
}

/// What a client knows of one channel.
#[derive(Default)]
struct Subscription {
    state: State,
    /// Where to recover from.
    position: Option<(String, u64)>,
    /// Place of the last publication of a channel without positions in the log.
    place: Option<usize>,
    /// Nothing is missing from this place on.
    complete_from: usize,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Off,
    /// Waiting for the reply.
    Asking,
    On,
    /// Waiting for the reply that ends it; what comes before is still received.
    Leaving,
}

struct Connection {
    id: ConnectionId,
    shard: usize,
    wire: Rc<RefCell<Wire>>,
    /// Commands the session has not taken yet.
    commands: VecDeque<String>,
    /// What replies are for: the channel, and where a subscribe recovers from.
    asked: HashMap<u64, (Asked, usize)>,
    line: Vec<u8>,
}

enum Asked {
    Connect,
    Subscribe(Option<StreamPosition>),
    Unsubscribe,
    Publish,
}

/// One client, with or without a connection.
#[derive(Default)]
pub(crate) struct Client {
    connection: Option<Connection>,
    subscriptions: [Subscription; CHANNELS.len()],
    last_id: u64,
}

impl Client {
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn shard(&self) -> Option<usize> {
        self.connection.as_ref().map(|connection| connection.shard)
    }

    /// Connects, and asks for what it was subscribed to.
    pub(crate) fn connect(&mut self, local: &LocalShard, generator: &mut StdRng) {
        let wire = Rc::new(RefCell::new(Wire::default()));
        let options = ConnectionOptions {
            transport: TransportKind::WebTransport,
            form: WireForm {
                encoding: Encoding::Json,
                framing: Framing::Stream,
                direction: Direction::Bidirectional,
                ascii: false,
                deflate: None,
            },
            announces_disconnect: true,
            pings: Pings::Protocol,
            opening: Default::default(),
        };
        let id = local.open(options, Box::new(WireLink(wire.clone())));
        self.connection = Some(Connection {
            id,
            shard: local.index(),
            wire,
            commands: VecDeque::new(),
            asked: HashMap::new(),
            line: Vec::new(),
        });
        self.ask(json!({ "connect": {} }), Asked::Connect, 0);
        for channel in 0..CHANNELS.len() {
            if std::mem::take(&mut self.subscriptions[channel].state) != State::Off
                && generator.random_bool(0.8)
            {
                self.subscribe(channel, generator);
            }
        }
    }

    /// Subscribes, from where it was if it likes, unless it is subscribed.
    pub(crate) fn subscribe(&mut self, channel: usize, generator: &mut StdRng) {
        let subscription = &mut self.subscriptions[channel];
        if self.connection.is_none() || subscription.state != State::Off {
            return;
        }
        subscription.state = State::Asking;
        subscription.place = None;
        let since = subscription.position.as_ref().filter(|_| generator.random_bool(0.8));
        let mut request = json!({ "channel": CHANNELS[channel] });
        let since = since.map(|(epoch, offset)| {
            request["recover"] = true.into();
            request["epoch"] = epoch.as_str().into();
            request["offset"] = (*offset).into();
            StreamPosition { offset: *offset, epoch: Epoch::new(epoch) }
        });
        self.ask(json!({ "subscribe": request }), Asked::Subscribe(since), channel);
    }

    pub(crate) fn unsubscribe(&mut self, channel: usize) {
        if self.connection.is_some() && self.subscriptions[channel].state == State::On {
            self.subscriptions[channel].state = State::Leaving;
            self.ask(json!({ "unsubscribe": { "channel": CHANNELS[channel] } }), Asked::Unsubscribe, channel);
        }
    }

    pub(crate) fn publish(&mut self, channel: usize, number: u64) {
        if self.connection.is_some() {
            let request = json!({ "channel": CHANNELS[channel], "data": number });
            self.ask(json!({ "publish": request }), Asked::Publish, channel);
        }
    }

    fn ask(&mut self, mut command: Value, asked: Asked, channel: usize) {
        let Some(connection) = &mut self.connection else { return };
        self.last_id += 1;
        command["id"] = self.last_id.into();
        connection.commands.push_back(command.to_string());
        connection.asked.insert(self.last_id, (asked, channel));
    }

    /// Hands in the next command, if the session takes one; false if nothing was done.
    pub(crate) fn feed(&mut self, local: &LocalShard) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if connection.commands.is_empty() {
            return false;
        }
        if local.poll_idle(connection.id, &mut Context::from_waker(Waker::noop())).is_pending() {
            return false;
        }
        let Some(command) = connection.commands.pop_front() else { return false };
        let command = Encoding::Json.decode_command(command.as_bytes()).unwrap();
        let _fed = local.command(connection.id, command);
        true
    }

    /// The network breaks.
    pub(crate) fn lose_connection(&mut self, local: &LocalShard) {
        if let Some(connection) = self.connection.take() {
            local.release(connection.id);
        }
    }

    /// Takes up to `most` bytes from the network and checks the messages that are complete. False if nothing was done.
    pub(crate) fn read(&mut self, local: &LocalShard, most: usize, model: &Model, seen: &mut Seen) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let id = connection.id;
        let mut wire = connection.wire.borrow_mut();
        let taken = most.min(wire.bytes.len());
        let bytes: Vec<u8> = wire.bytes.drain(..taken).collect();
        let was_blocked = std::mem::take(&mut wire.is_blocked);
        let (is_empty, closed) = (wire.bytes.is_empty(), wire.closed);
        drop(wire);
        if was_blocked {
            let _flushed = local.flush(id);
        }
        connection.line.extend(bytes);
        while let Some(end) =
            self.connection.as_ref().and_then(|c| c.line.iter().position(|&byte| byte == b'\n'))
        {
            let line: Vec<u8> =
                self.connection.as_mut().map(|c| c.line.drain(..=end).collect()).unwrap_or_default();
            self.receive(&serde_json::from_slice(&line).unwrap(), model, seen);
        }
        if let Some(code) = closed
            && is_empty
            && !was_blocked
        {
            *seen.disconnects.entry(code).or_default() += 1;
            assert_eq!(code, Disconnect::SLOW.code, "no other reason to close");
            self.lose_connection(local);
            return true;
        }
        taken > 0
    }

    fn receive(&mut self, message: &Value, model: &Model, seen: &mut Seen) {
        if let Some(id) = message["id"].as_u64() {
            let Some(connection) = &mut self.connection else { return };
            let (asked, channel) = connection.asked.remove(&id).expect("a reply to a command, once");
            return self.replied(asked, channel, message, model, seen);
        }
        let push = &message["push"];
        let Some(channel) = CHANNELS.iter().position(|name| push["channel"] == *name) else {
            assert!(push["disconnect"].is_object(), "{message}");
            return;
        };
        if push["unsubscribe"].is_object() {
            assert_eq!(push["unsubscribe"]["code"], 2500, "insufficient state");
            seen.insufficient += 1;
            self.subscriptions[channel].state = State::Off;
        } else {
            self.published(channel, &push["pub"], model, seen);
        }
    }

    fn replied(&mut self, asked: Asked, channel: usize, reply: &Value, model: &Model, seen: &mut Seen) {
        match asked {
            Asked::Connect => assert!(reply["connect"].is_object(), "{reply}"),
            Asked::Subscribe(since) => {
                assert!(reply["subscribe"].is_object(), "{reply}");
                self.subscribed(channel, since, &reply["subscribe"], model, seen);
            }
            // Unsubscribing from what the server has ended is no error.
            Asked::Unsubscribe => {
                assert!(reply["unsubscribe"].is_object(), "{reply}");
                self.subscriptions[channel].state = State::Off;
            }
            Asked::Publish => assert!(reply["publish"].is_object(), "{reply}"),
        }
    }

    fn subscribed(
        &mut self,
        channel: usize,
        since: Option<StreamPosition>,
        result: &Value,
        model: &Model,
        seen: &mut Seen,
    ) {
        let subscription = &mut self.subscriptions[channel];
        subscription.state = State::On;
        let publications = result["publications"].as_array().map_or(&[][..], Vec::as_slice);
        let is_recovered = result["recovered"] == true;
        if !CHANNELS[channel].starts_with("stream") {
            assert!(publications.is_empty() && !is_recovered, "{result}");
            subscription.complete_from =
                model.streams.get(CHANNELS[channel]).map_or(0, |stream| stream.log.len());
            return;
        }
        assert!(result["recoverable"] == true && result["positioned"] == true, "{result}");
        let epoch = result["epoch"].as_str().unwrap().to_owned();
        subscription.position = Some((epoch.clone(), result["offset"].as_u64().unwrap_or(0)));
        assert_eq!(result["was_recovering"] == true, since.is_some(), "{result}");
        let Some(since) = since else {
            return assert!(publications.is_empty() && !is_recovered, "{result}");
        };
        // The session's reading is among those with this channel and position.
        let mut readings =
            model.readings.iter().filter(|(name, at, _)| name == CHANNELS[channel] && *at == since);
        assert!(
            readings.any(|(_, _, can_continue)| *can_continue == is_recovered),
            "wrong `recovered`: {result}"
        );
        if !is_recovered {
            seen.unrecovered += 1;
            return assert!(publications.is_empty(), "{result}");
        }
        seen.recovered += 1;
        assert_eq!(
            (epoch.as_str(), result["offset"].as_u64().unwrap_or(0)),
            (since.epoch.as_str(), since.offset)
        );
        for publication in publications {
            seen.recovered_publications += 1;
            self.published(channel, publication, model, seen);
        }
    }

    /// Checks that a publication is the one that follows.
    fn published(&mut self, channel: usize, publication: &Value, model: &Model, seen: &mut Seen) {
        seen.publications += 1;
        let subscription = &mut self.subscriptions[channel];
        assert!(
            matches!(subscription.state, State::On | State::Leaving),
            "{publication} outside a subscription"
        );
        let number = publication["data"].as_u64().unwrap();
        if CHANNELS[channel].starts_with("stream") {
            let (epoch, offset) = subscription.position.as_mut().unwrap();
            *offset += 1;
            assert_eq!(publication["offset"], *offset, "a gap or a repetition");
            let expected = model.numbers.get(&(CHANNELS[channel].to_owned(), epoch.clone(), *offset));
            assert_eq!(expected, Some(&number), "another publication");
            return;
        }
        let log = &model.streams[CHANNELS[channel]].log;
        let place = log.iter().rposition(|&known| known == number).expect("something that was published");
        let next = subscription.place.map_or(0, |last| last + 1);
        // Without positions, a new subscription may still see what was on its way when the last one ended, and then misses
        // what was published in between.
        assert!(
            place == next || (place > next && next < subscription.complete_from),
            "a gap or a repetition: {log:?}"
        );
        subscription.place = Some(place);
    }

    /// Checks, when nothing is on its way any more, that nothing is missing.
    pub(crate) fn check_complete(&self, model: &Model) {
        for (name, subscription) in CHANNELS.iter().zip(&self.subscriptions) {
            let Some(stream) = model.streams.get(*name) else { continue };
            if self.connection.is_none() || subscription.state != State::On {
                continue;
            }
            if name.starts_with("stream") {
                let (epoch, offset) = subscription.position.as_ref().unwrap();
                match &stream.top {
                    Some(top) if top.0 == *epoch => {
                        assert_eq!(top.1, *offset, "{name}: something is missing")
                    }
                    // The stream ended; publications of another one would have ended the subscription.
                    Some(top) => assert_eq!(top.1, 0, "{name}: another stream began unnoticed"),
                    None => {}
                }
            } else if stream.log.len() > subscription.complete_from {
                assert_eq!(subscription.place, Some(stream.log.len() - 1), "{name}: something is missing");
            }
        }
    }
}
