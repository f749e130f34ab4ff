//! Ping and pong, stale and expired connections, and the tick that renews presence and checks positions and expiries.
//!
//! Spec: client protocol, "Ping/pong", "Connection expiry", "Subscription expiry".

use std::time::{Duration, Instant};

use gyre_protocol::{Disconnect, PushBody, Unsubscribe};

use super::{Effect, Output, Pings, Question, Session, State, subscription::SubscriptionState};
use crate::{
    channel::ChannelName,
    hub::Direction,
    limits::{EXPIRY_MAX, Limits},
    rules::{Context, Now},
};

/// The deadlines of a live session.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The connect must have succeeded by then; `None` once it has.
    stale_at: Option<Instant>,
    ping_at: Option<Instant>,
    /// A ping is out; it must be answered by then.
    pong_by: Option<Instant>,
    /// The connection ends then unless it is refreshed; the grace is included.
    expire_at: Option<Instant>,
    tick_at: Option<Instant>,
    /// The first tick from then on checks positions.
    positions_at: Option<Instant>,
}

impl Timers {
    pub(super) fn connecting(stale_at: Instant, expire_at: Option<i64>, cx: &Context<'_>) -> Self {
        let mut timers = Self { stale_at: Some(stale_at), ..Self::default() };
        timers.expire(expire_at, cx);
        timers
    }

    /// The connect has succeeded: pings begin at a random time in the second half of the first interval.
    pub(super) fn connected(&mut self, now: &Now, limits: &Limits, pings: Pings, jitter: u16) {
        self.stale_at = None;
        self.positions_at = Some(now.instant + limits.channel_position_check_delay);
        if pings == Pings::Protocol && !limits.ping_interval.is_zero() {
            self.ping_at = Some(now.instant + second_half(limits.ping_interval, jitter));
        }
    }

    /// Sets or ends the expiry. Clients have some time to refresh after it; the application is asked at once.
    pub(super) fn expire(&mut self, expire_at: Option<i64>, cx: &Context<'_>) {
        let (now, rules) = (&cx.now, cx.rules);
        let grace = match rules.hooks.refresh {
            Some(_) => Duration::ZERO,
            None => rules.limits.expired_close_delay,
        };
        self.expire_at = expire_at.map(|at| {
            let left_ms = at.saturating_mul(1000).saturating_sub(now.unix_ms as i64).max(0) as u64;
            now.instant + Duration::from_millis(left_ms).min(EXPIRY_MAX) + grace
        });
    }

    pub(super) fn start_tick(&mut self, now: &Now, limits: &Limits, jitter: u16) {
        if self.tick_at.is_none() {
            self.tick_at = Some(now.instant + second_half(limits.presence_update_interval, jitter));
        }
    }

    fn next(&self) -> Option<Instant> {
        [self.stale_at, self.ping_at, self.pong_by, self.expire_at, self.tick_at].into_iter().flatten().min()
    }
}

/// A time in [interval/2, interval), so that sessions that came together do not stay together.
fn second_half(interval: Duration, jitter: u16) -> Duration {
    interval / 2 + interval / 2 * u32::from(jitter) / (u32::from(u16::MAX) + 1)
}

impl Session {
    /// When [`Session::handle_timeout`] has something to do; `None` for never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Fresh { stale_at, .. }
            | State::Connecting { stale_at, .. }
            | State::Unusable { stale_at } => Some(*stale_at),
            State::Live(live) => live.timers.next(),
            State::Closed => None,
        }
    }

    /// Does what is due. Calling it early does nothing.
    ///
    /// # Errors
    /// The disconnect to end the connection with: 3502, 3005, 3012 or 3006.
    pub fn handle_timeout(&mut self, cx: &Context<'_>) -> Result<(), Disconnect> {
        let now = cx.now.instant;
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        let live = match &mut self.state {
            State::Fresh { stale_at, .. }
            | State::Connecting { stale_at, .. }
            | State::Unusable { stale_at } => {
                return if *stale_at <= now { Err(Disconnect::STALE) } else { Ok(()) };
            }
            State::Closed => return Ok(()),
            State::Live(live) => live,
        };
        let timers = &mut live.timers;
        if is_due(timers.stale_at) {
            return Err(Disconnect::STALE);
        }
        let has_expired = is_due(timers.expire_at);
        if has_expired && cx.rules.hooks.refresh.is_none() {
            return Err(Disconnect::EXPIRED);
        }
        if is_due(timers.pong_by) {
            return Err(Disconnect::NO_PONG);
        }
        if is_due(timers.ping_at) {
            timers.ping_at = Some(now + cx.rules.limits.ping_interval);
            if self.direction == Direction::Bidirectional {
                timers.pong_by = Some(now + cx.rules.limits.pong_timeout);
            }
            self.outputs.push_back(Output::Ping);
        }
        if has_expired {
            self.expired(cx)?;
        }
        if let State::Live(live) = &mut self.state
            && is_due(live.timers.tick_at)
        {
            live.timers.tick_at = Some(now + cx.rules.limits.presence_update_interval);
            return self.tick(cx);
        }
        Ok(())
    }

    /// Takes a pong.
    ///
    /// # Errors
    /// 3501 if no ping is out: before the first one, or answered already.
    pub(super) fn pong(&mut self, cx: &Context<'_>) -> Result<(), Disconnect> {
        let pong_by = self.live_mut().and_then(|live| live.timers.pong_by.take());
        let pong_by = pong_by.ok_or(Disconnect::BAD_REQUEST)?;
        let left = pong_by.saturating_duration_since(cx.now.instant);
        self.outputs.push_back(Output::Pong(cx.rules.limits.pong_timeout.saturating_sub(left)));
        Ok(())
    }

    /// Renews presence, has positions checked and ends subscriptions that expired, or asks the application about them.
    fn tick(&mut self, cx: &Context<'_>) -> Result<(), Disconnect> {
        let grace = cx.rules.limits.expired_sub_close_delay.as_secs() as i64;
        let unix_seconds = (cx.now.unix_ms / 1000) as i64;
        let Some(live) = self.live_mut() else { return Ok(()) };
        let mut effects = Vec::new();
        let (mut expired, mut abandoned) = (Vec::<ChannelName>::new(), Vec::<ChannelName>::new());
        let mut asked = Vec::<(ChannelName, Box<str>)>::new();
        let mut is_needed = false;
        let checks_positions = live.timers.positions_at.is_some_and(|at| at <= cx.now.instant);
        if checks_positions {
            live.timers.positions_at = Some(cx.now.instant + cx.rules.limits.channel_position_check_delay);
        }
        for (channel, subscription) in live.subscriptions.iter_mut() {
            if let SubscriptionState::Polled(tracked) = &mut subscription.state {
                let keys = tracked.take_expired(unix_seconds);
                if !keys.is_empty() {
                    effects.push(Effect::Untrack { channel: channel.clone(), keys });
                }
            }
            is_needed |= subscription.needs_tick();
            let hook = subscription
                .expire_at
                .and_then(|at| Some((at, cx.rules.namespaces.options(channel)?.sub_refresh_hook.as_ref()?)));
            if let Some((at, hook)) = hook {
                if unix_seconds >= at && subscription.refreshing.is_none() {
                    asked.push((channel.clone(), hook.clone()));
                }
            } else if subscription.expire_at.is_some_and(|at| unix_seconds > at.saturating_add(grace)) {
                if subscription.features.is_server_side {
                    return Err(Disconnect::SUBSCRIPTION_EXPIRED);
                }
                expired.push(channel.clone());
                continue;
            }
            if matches!(&subscription.state, SubscriptionState::CatchUp(c) if c.is_abandoned(cx.now.instant))
            {
                abandoned.push(channel.clone());
                continue;
            }
            effects.extend(subscription.renew_effects());
            if subscription.features.presence && !matches!(subscription.state, SubscriptionState::CatchUp(_))
            {
                effects.push(Effect::RenewPresence {
                    channel: channel.clone(),
                    info: subscription.info.clone(),
                });
            }
            if subscription.features.positioned && checks_positions {
                let meta_ttl = cx.rules.namespaces.history_meta_ttl_of(channel);
                effects.push(Effect::CheckPosition { channel: channel.clone(), meta_ttl });
            }
        }
        if !is_needed {
            live.timers.tick_at = None;
        }
        for effect in effects {
            self.effect(effect);
        }
        for (channel, hook) in asked {
            let question = self.question(hook, Question::SubRefresh { channel: channel.clone() });
            let effect = self.effect(question);
            if let Some(subscription) = self.live_mut().and_then(|live| live.subscriptions.get_mut(&channel))
            {
                subscription.refreshing = Some(effect);
            }
        }
        for channel in abandoned {
            self.drop_subscription(&channel);
        }
        for channel in expired {
            self.drop_subscription(&channel);
            self.push(Some(&channel), PushBody::Unsubscribe(Unsubscribe::EXPIRED));
        }
        Ok(())
    }
}
