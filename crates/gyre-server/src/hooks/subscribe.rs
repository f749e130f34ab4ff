//! Whether a client may subscribe, and how.

use gyre_core::{channel::ChannelName, ports::SubscribeGrant};
use gyre_protocol::Payload;

use super::{
    Hook,
    grant::Subscription,
    message::{Failure, GrpcCall, Question, Reply},
};

pub(super) struct Subscribe {
    pub(super) channel: ChannelName,
    pub(super) data: Payload,
}

impl Hook for Subscribe {
    const NAME: &'static str = "subscribe";
    type Result<'a> = Subscription<'a>;
    type Grant = SubscribeGrant;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        Question { channel: &self.channel, ..question }.with_data(&self.data)
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            channel: 11,
            meta: 13,
            data: 14,
            b64data: 15,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/Subscribe")
        }
    }

    fn read(reply: Reply<Subscription<'_>>) -> Result<SubscribeGrant, Failure> {
        let options = reply.allowed()?.unwrap_or_default();
        Ok(SubscribeGrant { expire_at: options.expire_at, grant: options.into_grant()? })
    }
}
