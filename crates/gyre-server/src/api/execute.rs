//! From requests to operations, and from their answers to results.

use std::{sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use gyre_core::{
    ports::{self, Revocation, RevokedTokens},
    session::{ServerRefresh, ServerSubscribe},
};
use gyre_node::{
    Node,
    ops::{
        ApiError, ConnectionList, ConnectionPage, DisconnectRequest, HistoryPage, PublishRequest,
        RefreshRequest, SubscribeRequest, Target, UnsubscribeRequest,
    },
};
use gyre_protocol::{
    Disconnect, Epoch, Payload, RawPayload, StreamPosition, Unsubscribe,
    api::{self, Error, Outcome, Request, ResultBody},
};

use super::map;
use crate::{metrics::ApiMetrics, telemetry};

/// Carries out requests that come through one door, and counts them.
#[derive(Debug)]
pub(super) struct Operations {
    node: Arc<Node>,
    metrics: Arc<ApiMetrics>,
    protocol: &'static str,
    lists_connections: bool,
}

impl Operations {
    /// `protocol` is what metrics call the door. Without `lists_connections` there is no method `connections`.
    pub(super) fn new(
        node: Arc<Node>,
        metrics: Arc<ApiMetrics>,
        protocol: &'static str,
        lists_connections: bool,
    ) -> Self {
        Self { node, metrics, protocol, lists_connections }
    }

    /// True if there is a method `connections`.
    pub(super) fn lists_connections(&self) -> bool {
        self.lists_connections
    }

    /// Carries out one request.
    pub(super) async fn run(&self, request: Request<'_>) -> Outcome {
        if matches!(request, Request::Connections(_)) && !self.lists_connections {
            return self.refuse(false);
        }
        let method = request.method().name();
        let started = Instant::now();
        let span = telemetry::operation(&request);
        let outcome = execute(&self.node, request).await;
        if let (Some(span), Err(error)) = (&span, &outcome) {
            span.fail(&error.message);
        }
        drop(span);
        self.metrics.command(self.protocol, method, started.elapsed());
        match &outcome {
            Err(error) => self.count_error(method, &error.code.to_string()),
            Ok(ResultBody::Broadcast(responses)) => {
                for error in responses.iter().filter_map(|response| response.as_ref().err()) {
                    self.count_error("broadcast_publish", &error.code.to_string());
                }
            }
            Ok(_) => {}
        }
        outcome
    }

    /// Answers a command of a batch that names no method, or is `null`.
    pub(super) fn refuse(&self, is_null: bool) -> Outcome {
        let error = if is_null { bad_request() } else { not_found() };
        self.count_error("unknown", &error.code.to_string());
        Err(error)
    }

    /// A request failed: a code, or what could not be read.
    pub(super) fn count_error(&self, method: &'static str, error: &str) {
        self.metrics.error(self.protocol, method, error);
    }
}

async fn execute(node: &Node, request: Request<'_>) -> Outcome {
    let outcome = match request {
        Request::Publish(request) => publish(node, request).await,
        Request::Broadcast(request) => broadcast(node, request).await,
        Request::Subscribe(request) => subscribe(node, *request).await,
        Request::Unsubscribe(request) => {
            let (target, channel) = (target_of(&request), request.channel.as_ref().into());
            let request = UnsubscribeRequest { channel, reason: Unsubscribe::SERVER };
            node.unsubscribe(target, request).await.map(|()| ResultBody::Empty)
        }
        Request::Disconnect(request) => {
            let disconnect = match &request.disconnect {
                Some((code, reason)) => Disconnect { code: *code, reason: reason.to_string().into() },
                None => Disconnect::FORCE_NO_RECONNECT,
            };
            let whitelist = request.whitelist.iter().map(|client| client.as_ref().into()).collect();
            node.disconnect(target_of(&request), DisconnectRequest { disconnect, whitelist }).await;
            Ok(ResultBody::Empty)
        }
        Request::Refresh(request) => {
            let refresh = ServerRefresh { expire_at: request.expire_at, info: request.info.to_payload() };
            node.refresh(target_of(&request), RefreshRequest { expired: request.expired, refresh }).await;
            Ok(ResultBody::Empty)
        }
        Request::Presence(channel) => node.presence(&channel).wait().await.map(ResultBody::Presence),
        Request::PresenceStats(channel) => {
            node.presence_stats(&channel).wait().await.map(ResultBody::PresenceStats)
        }
        Request::History(request) => history(node, request).await,
        Request::HistoryRemove(channel) => {
            node.history_remove(&channel).wait().await.map(|()| ResultBody::Empty)
        }
        Request::MapPublish(request) => map::publish(node, &request).await,
        Request::MapRemove(request) => map::remove(node, &request).await,
        Request::MapReadState(request) => map::read_state(node, &request).await,
        Request::MapReadStream(request) => map::read_stream(node, &request).await,
        Request::MapStats(channel) => map::stats(node, &channel).await,
        Request::MapClear(channel) => map::clear(node, &channel).await,
        Request::SharedPollPublish(request) => map::poll_publish(node, &request),
        Request::Info => Ok(info(node).await),
        Request::Rpc { method } if method.is_empty() => Err(ApiError::BAD_REQUEST),
        Request::Rpc { .. } => Err(ApiError::METHOD_NOT_FOUND),
        Request::RevokeToken { uid, expire_at } => {
            let revocation = Revocation { tokens: RevokedTokens::Id(uid.into()), expire_at };
            node.revoke(revocation).map(|()| ResultBody::Empty)
        }
        Request::InvalidateUserTokens(request) => {
            let (user, channel, issued_before) =
                (request.user.into(), request.channel.into(), request.issued_before);
            let tokens = RevokedTokens::OfUser { user, channel, issued_before };
            node.revoke(Revocation { tokens, expire_at: request.expire_at }).map(|()| ResultBody::Empty)
        }
        Request::Connections(request) => connections(node, *request).await,
        Request::Channels { pattern } => node.channels(&pattern).await.map(|channels| {
            let mut channels: Vec<_> = channels.into_iter().collect();
            channels.sort_unstable();
            ResultBody::Channels(channels)
        }),
    };
    outcome.map_err(error)
}

fn error(ApiError { code, message }: ApiError) -> Error {
    Error { code, message }
}

pub(super) fn bad_request() -> Error {
    error(ApiError::BAD_REQUEST)
}

pub(super) fn not_found() -> Error {
    error(ApiError::METHOD_NOT_FOUND)
}

pub(super) fn internal_error() -> Error {
    error(ApiError::INTERNAL)
}

pub(super) type Operation = Result<ResultBody, ApiError>;

/// `b64…` wins over the raw field.
pub(super) fn payload(raw: RawPayload<'_>, base64: &str) -> Result<Payload, ApiError> {
    match base64 {
        "" => Ok(raw.to_payload()),
        base64 => STANDARD.decode(base64).map(Payload::new).map_err(|_| ApiError::BAD_REQUEST),
    }
}

fn publish_request(request: &api::Publish<'_>) -> Result<PublishRequest, ApiError> {
    Ok(PublishRequest {
        data: payload(request.data, &request.b64data)?,
        skip_history: request.skip_history,
        tags: request.tags.iter().map(|(key, value)| (key.as_ref().into(), value.as_ref().into())).collect(),
        idempotency_key: request.idempotency_key.as_ref().into(),
        delta: request.delta,
        version: request.version,
        version_epoch: request.version_epoch.as_ref().into(),
    })
}

fn published(published: ports::Published) -> ResultBody {
    let StreamPosition { offset, epoch } = published.position;
    ResultBody::Publish { offset, epoch: epoch.as_str().into() }
}

async fn publish(node: &Node, request: api::Publish<'_>) -> Operation {
    if request.channel.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    node.publish(&request.channel, publish_request(&request)?).wait().await.map(published)
}

async fn broadcast(node: &Node, request: api::Publish<'_>) -> Operation {
    if request.channels.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    let publication = publish_request(&request)?;
    let mut responses = Vec::with_capacity(request.channels.len());
    for channel in &request.channels {
        let response = node.publish_any(channel, publication.clone()).wait().await;
        responses.push(response.map(published).map_err(error));
    }
    Ok(ResultBody::Broadcast(responses))
}

async fn subscribe(node: &Node, request: api::Subscribe<'_>) -> Operation {
    let overrides = request.overrides;
    let grant = ports::SubscriptionGrant {
        info: payload(request.info, &request.b64info)?,
        data: payload(request.data, &request.b64data)?,
        overrides: ports::Overrides {
            presence: overrides.presence,
            join_leave: overrides.join_leave,
            force_push_join_leave: overrides.force_push_join_leave,
            force_recovery: overrides.force_recovery,
            force_positioning: overrides.force_positioning,
        },
        cache_recover: false,
    };
    let options = ServerSubscribe {
        expire_at: Some(request.expire_at),
        grant,
        since: position(&request.recover_since),
    };
    let target = Target {
        user: request.user.as_ref().into(),
        client: request.client.as_ref().into(),
        session: request.session.as_ref().into(),
    };
    let request = SubscribeRequest { channel: request.channel.as_ref().into(), options };
    node.subscribe(target, request).await.map(|()| ResultBody::Empty)
}

fn target_of(request: &api::Target<'_>) -> Target {
    Target {
        user: request.user.as_ref().into(),
        client: request.client.as_ref().into(),
        session: request.session.as_ref().into(),
    }
}

fn position(position: &Option<(u64, std::borrow::Cow<'_, str>)>) -> Option<StreamPosition> {
    let (offset, epoch) = position.as_ref()?;
    Some(StreamPosition { offset: *offset, epoch: Epoch::new(epoch) })
}

async fn history(node: &Node, request: api::History<'_>) -> Operation {
    let page =
        HistoryPage { limit: request.limit, since: position(&request.since), reverse: request.reverse };
    let history = node.history(&request.channel, page).wait().await?;
    let StreamPosition { offset, epoch } = history.top;
    Ok(ResultBody::History { publications: history.publications, epoch: epoch.as_str().into(), offset })
}

/// Filters in languages that are not offered are refused: whoever set one would be told of others' connections.
async fn connections(node: &Node, request: api::Connections<'_>) -> Operation {
    if !request.expression.is_empty() || request.has_label_filter {
        return Err(ApiError::NOT_AVAILABLE);
    }
    let page = ConnectionPage {
        user: request.user.into(),
        client: request.client.into(),
        channel: request.channel.into(),
        limit: usize::try_from(request.limit).map_err(|_| ApiError::BAD_REQUEST)?,
        cursor: request.cursor.into(),
    };
    let ConnectionList { connections, cursor } = node.connections(page).await?;
    Ok(ResultBody::Connections { connections, cursor })
}

async fn info(node: &Node) -> ResultBody {
    let summary = node.summary().await;
    ResultBody::Info(vec![api::Node {
        uid: node.info.uid.to_string(),
        name: node.info.name.to_string(),
        version: node.info.version.to_string(),
        num_clients: summary.clients as u32,
        num_users: summary.users as u32,
        num_channels: summary.channels as u32,
        num_subs: summary.subscriptions as u32,
        uptime: node.uptime_seconds() as u32,
    }])
}
