//! Who is in a channel.

use std::{sync::Arc, time::Duration};

use gyre_core::channel::ChannelName;
use gyre_protocol::{ClientInfo, PresenceStats};

use super::fixture::{Fixture, client, done, payload};

/// The smallest time that engines tell apart.
const TICK: Duration = Duration::from_secs(1);

fn clients(fixture: &Fixture, channel: &ChannelName) -> Vec<String> {
    let members = done(fixture.presence.members(channel));
    let mut clients: Vec<String> = members.iter().map(|info| info.client.to_string()).collect();
    clients.sort();
    clients
}

fn stats(fixture: &Fixture, channel: &ChannelName) -> (u32, u32) {
    let PresenceStats { num_clients, num_users } = done(fixture.presence.stats(channel));
    (num_clients, num_users)
}

/// Members are there after they were added and gone after they were removed, in their channel only; removing may be
/// repeated and needs the client id only.
pub fn members_come_and_go(fixture: Fixture) {
    let (channel, other) = (fixture.channel("a"), fixture.channel("b"));
    assert!(clients(&fixture, &channel).is_empty());
    for name in ["1", "2", "3"] {
        done(fixture.presence.add(&channel, client(name, "u")));
    }
    done(fixture.presence.add(&other, client("1", "u")));
    assert_eq!(clients(&fixture, &channel), ["1", "2", "3"]);
    for _ in 0..2 {
        done(fixture.presence.remove(&channel, client("2", "u")));
        assert_eq!(clients(&fixture, &channel), ["1", "3"]);
    }
    for name in ["1", "3"] {
        done(fixture.presence.remove(&channel, client(name, "u")));
    }
    assert!(clients(&fixture, &channel).is_empty());
    assert_eq!(clients(&fixture, &other), ["1"]);
    done(fixture.presence.remove(&fixture.channel("c"), client("1", "u")));
}

/// Adding a member again replaces what is known of it, byte for byte, and makes no second one.
pub fn renewal_replaces_the_information(fixture: Fixture) {
    let channel = fixture.channel("a");
    for text in ["{\"n\": 1}", "{\"n\":2}"] {
        let info = ClientInfo {
            conn_info: payload(text),
            chan_info: payload("\u{0}not JSON"),
            ..ClientInfo::clone(&client("1", "u"))
        };
        let info = Arc::new(info);
        done(fixture.presence.add(&channel, info.clone()));
        assert_eq!(done(fixture.presence.members(&channel)), [info]);
        assert_eq!(stats(&fixture, &channel), (1, 1));
    }
}

/// Statistics count members, and users once however many members they have; anonymous members are one user. A user is
/// counted until the last of its members is gone.
pub fn stats_count_distinct_users(fixture: Fixture) {
    let channel = fixture.channel("a");
    assert_eq!(stats(&fixture, &channel), (0, 0));
    let steps =
        [("1", "u", (1, 1)), ("2", "u", (2, 1)), ("3", "v", (3, 2)), ("4", "", (4, 3)), ("5", "", (5, 3))];
    for (name, user, counted) in steps {
        done(fixture.presence.add(&channel, client(name, user)));
        assert_eq!(stats(&fixture, &channel), counted, "{name} came");
    }
    let steps =
        [("1", "u", (4, 3)), ("4", "", (3, 3)), ("2", "u", (2, 2)), ("3", "v", (1, 1)), ("5", "", (0, 0))];
    for (name, user, counted) in steps {
        done(fixture.presence.remove(&channel, client(name, user)));
        assert_eq!(stats(&fixture, &channel), counted, "{name} left");
    }
}

/// A member ends when its time to live has passed since it was last added, not before; another one's renewal does not
/// help it, and reading helps nobody.
pub fn members_end_unless_renewed(fixture: Fixture) {
    let channel = fixture.channel("a");
    done(fixture.presence.add(&channel, client("ends", "u")));
    done(fixture.presence.add(&channel, client("stays", "v")));
    fixture.advance(fixture.presence_ttl - TICK);
    done(fixture.presence.add(&channel, client("stays", "v")));
    assert_eq!(clients(&fixture, &channel), ["ends", "stays"]);
    assert_eq!(stats(&fixture, &channel), (2, 2));
    fixture.advance(TICK);
    assert_eq!(clients(&fixture, &channel), ["stays"]);
    assert_eq!(stats(&fixture, &channel), (1, 1));
    fixture.advance(fixture.presence_ttl - TICK);
    assert!(clients(&fixture, &channel).is_empty());
    assert_eq!(stats(&fixture, &channel), (0, 0));
    done(fixture.presence.add(&channel, client("ends", "u")));
    assert_eq!(clients(&fixture, &channel), ["ends"]);
}

/// The store tells nobody: joins and leaves are published by who makes them.
pub fn presence_delivers_nothing(fixture: Fixture) {
    let channel = fixture.channel("a");
    done(fixture.presence.add(&channel, client("1", "u")));
    done(fixture.presence.remove(&channel, client("1", "u")));
    done(fixture.presence.add(&channel, client("2", "u")));
    fixture.advance(fixture.presence_ttl);
    assert!(clients(&fixture, &channel).is_empty());
    assert!(fixture.delivered(&channel).is_empty());
}
