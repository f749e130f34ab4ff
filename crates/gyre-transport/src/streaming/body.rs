//! The body of a response that is a connection, the link that feeds it, and the commands that come beside it.
//!
//! Frames go from the connection's queue to the HTTP layer as they are. The link takes a bounded amount ahead of the
//! HTTP layer, as a socket's buffer would; the rest stays in the queue, whose bound decides about slow clients.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::http::HeaderMap;
use bytes::Bytes;
use gyre_core::hub::WireForm;
use gyre_node::{Commands, ConnectionId, ConnectionOptions, Fed, Flushed, Link, LocalShard, Queue};
use gyre_protocol::{Command, Disconnect, Push, PushBody};
use http_body::Frame;
use tokio::sync::oneshot;

use crate::{
    http::BodyError,
    pump::{Pumped, pump_frame},
};

/// Bytes taken from the queue ahead of the HTTP layer.
const TAKEN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of commands that wait for a session to take them; more ends it with 3013.
const INBOX_BYTES_MAX: usize = 1 << 20;
/// How long a client may take for the last messages of a session that is over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is opened with.
pub(super) struct Opening {
    pub(super) options: ConnectionOptions,
    /// What the body begins with.
    pub(super) preamble: &'static [u8],
    /// What the body ends with.
    pub(super) trailers: Option<HeaderMap>,
    /// A session that ends before it has sent anything is not announced: its disconnect becomes the answer.
    pub(super) answers_refusals: bool,
}

/// What body, link and feeding task share.
struct Shared {
    shard: LocalShard,
    id: Cell<Option<ConnectionId>>,
    form: WireForm,
    answers_refusals: bool,
    taken: RefCell<Queue>,
    /// Why the session is over, if it is.
    ending: RefCell<Option<Disconnect>>,
    body: Cell<Option<Waker>>,
    inbox: RefCell<Inbox>,
}

/// Commands not handed in yet.
#[derive(Default)]
struct Inbox {
    waiting: VecDeque<Commands>,
    bytes: usize,
    /// A task hands them in.
    is_fed: bool,
    has_overflowed: bool,
}

struct StreamLink(Rc<Shared>);

impl Link for StreamLink {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        let mut taken = self.0.taken.borrow_mut();
        let was_empty = taken.is_empty();
        while taken.bytes() < TAKEN_BYTES_MAX
            && let Some(frame) = queue.pop()
        {
            taken.push(frame);
        }
        if was_empty {
            self.0.wake_body();
        }
        if queue.is_empty() { Flushed::Done } else { Flushed::Blocked }
    }

    fn close(&mut self, disconnect: &Disconnect, queue: &mut Queue) {
        let is_refused = self.0.answers_refusals && queue.is_empty() && self.0.taken.borrow().is_empty();
        if disconnect.code == Disconnect::SLOW.code {
            // Who does not read gets no goodbye: the response just ends.
            while queue.pop().is_some() {}
            *self.0.taken.borrow_mut() = Queue::default();
        } else if disconnect.code != Disconnect::CONNECTION_CLOSED.code && !is_refused {
            let body = PushBody::Disconnect(disconnect.clone());
            let push = Push { channel: "".into(), id: 0, body };
            if let Ok(frame) = self.0.form.push(&push) {
                queue.push(frame);
            }
        }
        *self.0.ending.borrow_mut() = Some(disconnect.clone());
        self.0.wake_body();
        tokio::task::spawn_local(release_in_time(self.0.clone()));
    }

    fn finish(&mut self) {
        // The reply is a message like others. A client that stays is closed as stale.
    }

    fn receive(&mut self, commands: Commands) {
        self.0.receive(commands);
    }
}

impl Shared {
    fn wake_body(&self) {
        if let Some(waker) = self.body.take() {
            waker.wake();
        }
    }

    fn receive(self: &Rc<Self>, commands: Commands) {
        let mut inbox = self.inbox.borrow_mut();
        if inbox.bytes + commands.frame.len() > INBOX_BYTES_MAX {
            inbox.has_overflowed = true;
        } else {
            inbox.bytes += commands.frame.len();
            inbox.waiting.push_back(commands);
        }
        if !std::mem::replace(&mut inbox.is_fed, true) {
            tokio::task::spawn_local(feed(self.clone()));
        }
    }

    /// Moves frames from the queue; false if nothing is there.
    fn refill(&self) -> bool {
        if let Some(id) = self.id.get() {
            self.shard.flush(id);
        }
        !self.taken.borrow().is_empty()
    }

    /// Ready when the session has sent something, or is over.
    fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnect>> {
        if self.refill() {
            return Poll::Ready(Ok(()));
        }
        if let Some(disconnect) = &*self.ending.borrow() {
            return Poll::Ready(Err(disconnect.clone()));
        }
        self.body.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// Hands in what waits, in order, as the session takes it. Ends when nothing waits.
async fn feed(shared: Rc<Shared>) {
    while let Some((id, Commands { frame, handled })) = next(&shared) {
        hand_in(&shared, id, frame).await;
        if handled.send(()).is_err() {
            tracing::trace!("nobody waits for the commands any more");
        }
    }
}

fn next(shared: &Shared) -> Option<(ConnectionId, Commands)> {
    let mut inbox = shared.inbox.borrow_mut();
    let id = shared.id.get()?;
    if inbox.has_overflowed {
        shared.shard.disconnect(id, &Disconnect::TOO_MANY_REQUESTS);
        *inbox = Inbox::default();
        return None;
    }
    match inbox.waiting.pop_front() {
        Some(commands) => {
            inbox.bytes -= commands.frame.len();
            Some((id, commands))
        }
        None => {
            *inbox = Inbox::default();
            None
        }
    }
}

async fn hand_in(shared: &Shared, id: ConnectionId, mut frame: Bytes) {
    while let Pumped::Busy(left) = pump_frame(&shared.shard, id, shared.form.encoding, &frame) {
        frame = frame.slice(frame.len() - left..);
        if poll_fn(|cx| shared.shard.poll_idle(id, cx)).await == Fed::Over || frame.is_empty() {
            return;
        }
    }
}

/// Gives up the connection of a client that does not take the end of its stream.
async fn release_in_time(shared: Rc<Shared>) {
    tokio::time::sleep(CLOSE_TIMEOUT).await;
    if let Some(id) = shared.id.get() {
        shared.shard.release(id);
    }
}

/// The body; the connection is released with it.
pub(super) struct StreamBody {
    shared: Rc<Shared>,
    preamble: &'static [u8],
    trailers: Option<HeaderMap>,
}

impl StreamBody {
    /// Opens a connection.
    pub(super) fn open(shard: &LocalShard, opening: Opening) -> Self {
        let Opening { options, preamble, trailers, answers_refusals } = opening;
        let shared = Rc::new(Shared {
            shard: shard.clone(),
            id: Cell::new(None),
            form: options.form,
            answers_refusals,
            taken: RefCell::default(),
            ending: RefCell::default(),
            body: Cell::default(),
            inbox: RefCell::default(),
        });
        let id = shard.open(options, Box::new(StreamLink(shared.clone())));
        shared.id.set(Some(id));
        Self { shared, preamble, trailers }
    }

    /// Takes the commands that came with the request.
    pub(super) fn receive_first(&self, frame: Bytes) {
        let (handled, _) = oneshot::channel();
        self.shared.receive(Commands { frame, handled });
    }

    /// Hands in the only command of a unidirectional connection.
    pub(super) fn command(&self, command: Command<'_>) {
        if let Some(id) = self.shared.id.get() {
            // Whatever it says: there is no further command.
            let (Fed::Open | Fed::Busy | Fed::Over) = self.shared.shard.command(id, command);
        }
    }

    /// Waits until there is something to send, or until the session ended without.
    pub(super) async fn begun(&self) -> Result<(), Disconnect> {
        poll_fn(|cx| self.shared.poll_begun(cx)).await
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let preamble = std::mem::take(&mut this.preamble);
        if !preamble.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(preamble)))));
        }
        let shared = &this.shared;
        let taken = shared.taken.borrow_mut().pop();
        if let Some(frame) = taken {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if shared.refill() {
            let frame = shared.taken.borrow_mut().pop();
            return Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))));
        }
        if shared.ending.borrow().is_some() {
            return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        shared.body.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if let Some(id) = self.shared.id.get() {
            self.shared.shard.release(id);
        }
    }
}
