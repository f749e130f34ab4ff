//! Notable things, each as one function, so that log lines of one kind look alike.

use gyre_core::session::Session;
use gyre_protocol::Disconnect;

use crate::shard::TransportKind;

/// A session ended.
pub(crate) fn disconnected(session: &Session, transport: TransportKind, disconnect: &Disconnect) {
    tracing::debug!(
        client = %session.client(),
        user = session.user().map(|user| &**user),
        transport = transport.name(),
        code = disconnect.code,
        reason = &*disconnect.reason,
        "client disconnected"
    );
}
