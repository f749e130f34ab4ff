//! Requests on maps and shared polls.

use gyre_core::ports::{KeyMode, MapPublished, Suppression};
use gyre_node::{
    Node,
    ops::{ApiError, MapPublishRequest, StatePage, StreamPage},
};
use gyre_protocol::{
    Epoch, StreamPosition,
    api::{Map, ResultBody},
};

use super::execute::{Operation, payload};

pub(super) async fn publish(node: &Node, request: &Map<'_>) -> Operation {
    let entry = MapPublishRequest {
        key: request.key.as_ref().into(),
        data: payload(request.data, &request.b64data)?,
        tags: request.tags.iter().map(|(key, value)| (key.as_ref().into(), value.as_ref().into())).collect(),
        score: request.score,
        idempotency_key: request.idempotency_key.as_ref().into(),
        delta: request.delta,
        version: request.version,
        version_epoch: request.version_epoch.as_ref().into(),
        key_mode: match &*request.key_mode {
            "" => KeyMode::Any,
            "if_new" => KeyMode::IfNew,
            "if_exists" => KeyMode::IfExists,
            _ => return Err(ApiError::BAD_REQUEST),
        },
    };
    node.map_publish(&request.channel, entry).wait().await.map(published)
}

pub(super) async fn remove(node: &Node, request: &Map<'_>) -> Operation {
    let removed = node.map_remove(&request.channel, &request.key, &request.idempotency_key);
    removed.wait().await.map(published)
}

fn published(published: MapPublished) -> ResultBody {
    let StreamPosition { offset, epoch } = published.position;
    let suppress_reason = published.suppressed.map(|reason| match reason {
        Suppression::Idempotency => "idempotency",
        Suppression::Version => "version",
        Suppression::KeyExists => "key_exists",
        Suppression::KeyNotFound => "key_not_found",
    });
    ResultBody::MapPublish { offset, epoch: epoch.as_str().into(), suppress_reason }
}

pub(super) async fn read_state(node: &Node, request: &Map<'_>) -> Operation {
    let page = StatePage {
        key: request.key.as_ref().into(),
        cursor: request.cursor.as_ref().into(),
        limit: request.limit,
        ascending: request.asc,
        epoch: Epoch::new(&request.revision_epoch),
    };
    let state = node.map_read_state(&request.channel, page).wait().await?;
    let StreamPosition { offset, epoch } = state.position;
    Ok(ResultBody::MapEntries {
        entries: state.entries,
        offset,
        epoch: epoch.as_str().into(),
        cursor: state.cursor,
    })
}

pub(super) async fn read_stream(node: &Node, request: &Map<'_>) -> Operation {
    let since = StreamPosition { offset: request.since_offset, epoch: Epoch::new(&request.since_epoch) };
    let page = StreamPage { since, limit: request.limit, reverse: request.reverse };
    let history = node.map_read_stream(&request.channel, page).wait().await?;
    let StreamPosition { offset, epoch } = history.top;
    Ok(ResultBody::MapEntries {
        entries: history.publications,
        offset,
        epoch: epoch.as_str().into(),
        cursor: Box::default(),
    })
}

pub(super) async fn stats(node: &Node, channel: &str) -> Operation {
    let keys = node.map_stats(channel).wait().await?;
    Ok(ResultBody::MapStats { num_keys: u32::try_from(keys).unwrap_or(u32::MAX) })
}

pub(super) async fn clear(node: &Node, channel: &str) -> Operation {
    node.map_clear(channel).wait().await.map(|()| ResultBody::Empty)
}

pub(super) fn poll_publish(node: &Node, request: &Map<'_>) -> Operation {
    let (data, epoch) = (payload(request.data, &request.b64data)?, Epoch::new(&request.epoch));
    node.shared_poll_publish(&request.channel, &request.key, data, request.version, &epoch)?;
    Ok(ResultBody::Empty)
}
