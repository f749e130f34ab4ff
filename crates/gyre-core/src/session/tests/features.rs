//! What a subscription may negotiate: delta, tags filters, numbers for channel names.

use super::*;
use crate::{channel::RecoveryMode, delta::apply::apply, hub::Delta};

fn text(n: u64) -> String {
    format!(r#"{{"text":"some quite long and constant text","n":{n}}}"#)
}

fn tagged(offset: u64) -> Arc<Publication> {
    let data = gyre_protocol::Payload::json(text(offset));
    let tags = [("k".into(), format!("v{offset}").into())].into();
    Arc::new(Publication { data, tags, offset, ..Publication::default() })
}

/// Sends a subscribe to a session whose channels have these options and this history (top 5); the reply, and what is
/// activated.
fn subscribe(
    change: impl FnOnce(&mut ChannelOptions),
    history: Vec<Arc<Publication>>,
    request: &str,
) -> (serde_json::Value, Option<crate::hub::Activation>) {
    let mut script =
        Script::connected(|rules| change(Arc::make_mut(&mut rules.namespaces.without_namespace)));
    let top = StreamPosition { offset: 5, epoch: Epoch::new("e") };
    script.history = Ok(History { publications: history, top });
    let mut sent = script.send(&format!(r#"{{"id":2,"subscribe":{request}}}"#)).unwrap();
    let reply = serde_json::from_str(&json(&sent[..1])).unwrap();
    let activation = sent.drain(..).find_map(|output| match output {
        Output::Activate { activation, .. } => Some(activation),
        _ => None,
    });
    (reply, activation)
}

fn with_delta(options: &mut ChannelOptions) {
    options.allow_delta_fossil = true;
}

fn with_filter(options: &mut ChannelOptions) {
    options.allow_tags_filter = true;
}

const RECOVER: &str = r#""channel":"c","recoverable":true,"recover":true,"epoch":"e""#;

/// Delta is granted where the namespace allows it; what is recovered is a chain that begins in full, and the next live
/// publication may follow it. Without recovered publications it is sent in full.
///
/// Spec: centrifugal.dev, "Delta compression in channels"
#[test]
fn delta_begins_in_full() {
    let (reply, activation) = subscribe(|_| {}, vec![], r#"{"channel":"c","delta":"fossil"}"#);
    assert_eq!(reply["subscribe"]["delta"], serde_json::Value::Null);
    assert!(matches!(activation.unwrap().delta, Delta::Off));

    let (reply, activation) = subscribe(with_delta, vec![], r#"{"channel":"c","delta":"fossil"}"#);
    assert_eq!(reply["subscribe"]["delta"], true);
    assert!(matches!(activation.unwrap().delta, Delta::Full));

    let request = format!(r#"{{{RECOVER},"offset":5,"delta":"fossil"}}"#);
    let (reply, activation) = subscribe(with_delta, vec![], &request);
    assert_eq!(reply["subscribe"]["recovered"], true);
    assert!(matches!(activation.unwrap().delta, Delta::Full), "the client may hold no base");

    let request = format!(r#"{{{RECOVER},"offset":2,"delta":"fossil"}}"#);
    let (reply, activation) = subscribe(with_delta, vec![tagged(3), tagged(4), tagged(5)], &request);
    let recovered = reply["subscribe"]["publications"].as_array().unwrap();
    let mut held = recovered[0]["data"].as_str().unwrap().as_bytes().to_vec();
    assert_eq!((held.as_slice(), recovered.len()), (text(3).as_bytes(), 3));
    for (publication, n) in recovered[1..].iter().zip(4..) {
        assert_eq!(publication["delta"], true);
        held = apply(&held, publication["data"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(held, text(n).as_bytes());
    }
    assert!(matches!(activation.unwrap().delta, Delta::From(last) if last.offset == 5 && !last.delta));
}

/// A thousand clients that come back to a channel and recover the same twenty publications cost one chain of patches, and
/// without delta none. Method: sessions of one shard, and how many patches have been computed for them.
#[test]
fn a_crowd_recovers_one_chain() {
    let missed: Vec<_> = (6..=25).map(tagged).collect();
    let mut patches = Patches::default();
    for (delta, made) in [("", 0), (r#","delta":"fossil""#, 19)] {
        for _ in 0..1000 {
            let mut script =
                Script::connected(|rules| with_delta(Arc::make_mut(&mut rules.namespaces.without_namespace)));
            let top = StreamPosition { offset: 25, epoch: Epoch::new("e") };
            script.history = Ok(History { publications: missed.clone(), top });
            script.patches = patches;
            let request = format!(r#"{{"id":2,"subscribe":{{{RECOVER},"offset":5{delta}}}}}"#);
            let sent = json(&script.send(&request).unwrap()[..1]);
            let reply: serde_json::Value = serde_json::from_str(&sent).unwrap();
            assert_eq!(reply["subscribe"]["publications"].as_array().unwrap().len(), 20);
            patches = script.patches;
        }
        assert_eq!(patches.made(), made);
    }
}

/// Delta of a server-side subscription is asked for in the connect.
#[test]
fn delta_is_negotiated_by_connect() {
    let mut script = Script::new(|rules| with_delta(Arc::make_mut(&mut rules.namespaces.without_namespace)));
    let sent = script
        .send(r#"{"id":1,"connect":{"subs":{"c":{"delta":"fossil"},"d":{},"e":{"delta":"other"}}}}"#)
        .unwrap();
    let reply: serde_json::Value = serde_json::from_str(&json(&sent[..1])).unwrap();
    let subs = &reply["connect"]["subs"];
    assert_eq!(subs["c"]["delta"], true, "{reply}");
    assert!(subs["d"].is_object() && subs["d"].get("delta").is_none());
    assert!(subs["e"].is_object() && subs["e"].get("delta").is_none());
}

/// What is recovered passes the filter too, and filtered publications make no gap: the position is the top.
#[test]
fn recovered_publications_are_filtered() {
    let offsets = |reply: &serde_json::Value| -> Vec<u64> {
        let publications = reply["subscribe"]["publications"].as_array().cloned().unwrap_or_default();
        publications.iter().map(|publication| publication["offset"].as_u64().unwrap()).collect()
    };
    let filter = |values: &str| format!(r#""tf":{{"cmp":"in","key":"k","vals":[{values}]}}"#);
    let stream = |values: &str, history| {
        subscribe(with_filter, history, &format!(r#"{{{RECOVER},"offset":2,{}}}"#, filter(values)))
    };
    let (reply, activation) = stream(r#""v3""#, vec![tagged(3), tagged(4), tagged(5)]);
    assert_eq!((offsets(&reply), &reply["subscribe"]["recovered"]), (vec![3], &true.into()));
    let activation = activation.unwrap();
    assert_eq!(activation.position.map(|position| position.offset), Some(5));
    assert!(activation.filter.is_some_and(|filter| filter.matches(&tagged(3).tags)));
    let (reply, _) = stream(r#""v4""#, vec![tagged(4), tagged(5)]);
    assert_eq!((offsets(&reply), reply["subscribe"].get("recovered")), (vec![], None), "3 is missing");

    let cache = |values: &str| {
        let change = |options: &mut ChannelOptions| {
            with_filter(options);
            options.recovery_mode = RecoveryMode::Cache;
        };
        subscribe(
            change,
            vec![tagged(5), tagged(4), tagged(3)],
            &format!(r#"{{{RECOVER},{}}}"#, filter(values)),
        )
        .0
    };
    assert_eq!(offsets(&cache(r#""v4","v3""#)), [4], "the newest that passes");
    assert_eq!(offsets(&cache(r#""v5","v3""#)), [5]);
    assert_eq!(cache(r#""v9""#)["subscribe"].get("recovered"), None);
}

/// Filters are refused where they are not allowed, are malformed, or meet delta; missing rights come first.
#[test]
fn refused_filters_are_told() {
    let code = |change: fn(&mut ChannelOptions), request: &str| {
        subscribe(change, vec![], request).0["error"]["code"].as_u64()
    };
    let good = r#"{"channel":"c","tf":{"cmp":"ex","key":"k"}}"#;
    let bad = r#"{"channel":"c","tf":{"cmp":"eq","key":"k"}}"#;
    let both = r#"{"channel":"c","delta":"fossil","tf":{"cmp":"ex","key":"k"}}"#;
    let with_both = |options: &mut ChannelOptions| {
        with_delta(options);
        with_filter(options);
    };
    assert_eq!(code(with_filter, good), None);
    assert_eq!(code(|_| {}, good), Some(107));
    assert_eq!(code(with_filter, bad), Some(107));
    assert_eq!(code(with_both, both), Some(107));
    assert_eq!(code(with_filter, both), None, "delta is not granted there");
    assert_eq!(code(|options| options.subscribe = SubscribeRights::default(), bad), Some(103));
}

/// A number is handed out where the namespace allows it, to clients that can do with it.
#[test]
fn channel_numbers_are_agreed() {
    let allowed = |options: &mut ChannelOptions| options.allow_channel_compaction = true;
    let id = |(reply, activation): (serde_json::Value, Option<crate::hub::Activation>)| {
        (reply["subscribe"]["id"].as_i64(), activation.unwrap().is_compact)
    };
    assert_eq!(id(subscribe(allowed, vec![], r#"{"channel":"c","flag":1}"#)), (Some(7), true));
    assert_eq!(id(subscribe(allowed, vec![], r#"{"channel":"c","flag":2}"#)), (None, false));
    assert_eq!(id(subscribe(|_| {}, vec![], r#"{"channel":"c","flag":1}"#)), (None, false));
}
