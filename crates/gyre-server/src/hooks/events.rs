//! What the application is told of channels and connections: it need not answer more than that it has got it.

use gyre_core::{
    channel::ChannelName,
    ports::{ChannelStateEvent, DisconnectEvent},
};
use gyre_protocol::codec::{DecodeError, protobuf::wire::Value};
use serde::Deserialize;

use super::{
    Hook,
    message::{AskedEvent, Ended, Failure, Fields, GrpcCall, Question, Reply},
};
use crate::json::null_is_default;

/// A subscriber found nothing to recover in cache mode.
pub(super) struct CacheEmpty(pub(super) ChannelName);

/// Channels got their first subscriber, or lost their last one.
pub(super) struct ChannelStates(pub(super) Vec<ChannelStateEvent>);

/// A client has left.
pub(super) struct Disconnected(pub(super) DisconnectEvent);

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, NotifyCacheEmptyResult
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CacheEmptyResult {
    #[serde(deserialize_with = "null_is_default")]
    populated: bool,
}

impl Fields<'_> for CacheEmptyResult {
    fn set(&mut self, number: u64, value: Value<'_>) -> Result<(), DecodeError> {
        if number == 1 {
            self.populated = value.bool()?;
        }
        Ok(())
    }
}

/// A result that says nothing.
#[derive(Default, Deserialize)]
pub(super) struct Nothing {}

impl Fields<'_> for Nothing {
    fn set(&mut self, _: u64, _: Value<'_>) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Hook for CacheEmpty {
    const NAME: &'static str = "cache_empty";
    type Result<'a> = CacheEmptyResult;
    type Grant = bool;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        Question { channel: &self.0, ..question }
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            channel: 1,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/NotifyCacheEmpty")
        }
    }

    fn read(reply: Reply<CacheEmptyResult>) -> Result<bool, Failure> {
        Ok(reply.allowed()?.unwrap_or_default().populated)
    }
}

impl Hook for ChannelStates {
    const NAME: &'static str = "state";
    type Result<'a> = Nothing;
    type Grant = ();

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        let events = self.0.iter().map(|event| AskedEvent {
            time_ms: event.time_ms,
            channel: &event.channel,
            kind: if event.is_occupied { "occupied" } else { "vacated" },
        });
        Question { events: events.collect(), ..question }
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            events: 1,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/NotifyChannelState")
        }
    }

    fn read(reply: Reply<Nothing>) -> Result<(), Failure> {
        reply.allowed()?;
        Ok(())
    }
}

/// The message is ours: user 10, code 11, reason 12, duration_ms 13, time_ms 14, meta 15, beside those of every client.
impl Hook for Disconnected {
    const NAME: &'static str = "disconnect";
    type Result<'a> = Nothing;
    type Grant = ();

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        let DisconnectEvent { disconnect, duration_ms, time_ms, .. } = &self.0;
        let ended = Ended {
            code: disconnect.code,
            reason: &disconnect.reason,
            duration_ms: *duration_ms,
            time_ms: *time_ms,
        };
        Question { ended: Some(ended), ..question }
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            meta: 15,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/NotifyDisconnect")
        }
    }

    fn read(reply: Reply<Nothing>) -> Result<(), Failure> {
        reply.allowed()?;
        Ok(())
    }
}
